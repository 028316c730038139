package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// tour is a day in the life of a store: every kind of work, one call after the
// other, the same in every run. It stops at the first error and returns the
// model before and after the call that had it (nil: none).
func tour(ctx context.Context, db *DB) (before, after model, failed error) {
	return tourOf(ctx, db, 7)
}

// tourOf is tour with other operations.
func tourOf(ctx context.Context, db *DB, seed uint64) (before, after model, failed error) {
	ops := &opMaker{Rand: rand.New(rand.NewPCG(seed, 7)), collections: 2, ids: 12, batch: 3}
	m := model{}
	do := func(op modelOp) bool {
		before, after = m, m.clone()
		op.model(after)
		if failed = op.store(ctx, db); failed == nil {
			m = after
			before = m
		}
		return failed == nil
	}
	steps := []func(*DB) error{
		func(db *DB) error { return db.Flush(ctx) },
		func(db *DB) error { return db.writeCheckpoint(ctx) },
		func(db *DB) error { return db.Compact(ctx) },
		func(db *DB) error { return rotateIfKeyed(ctx, db) },
	}
	for i := range 24 {
		if !do(ops.op(m)) {
			return before, after, failed
		}
		if i%4 == 3 {
			step := steps[i/4%4]
			if !do(modelOp{"step", func(_ context.Context, db *DB) error { return step(db) }, func(model) {}}) {
				return before, after, failed
			}
		}
	}
	for name := range m {
		if !do(modelOp{"drop", func(ctx context.Context, db *DB) error { return db.Default().Delete(ctx, name) }, func(m model) { delete(m, name) }}) {
			return before, after, failed
		}
		break
	}
	return m, m, nil
}

// tourOptions leave nothing to the background, so that calls come in one order.
func tourOptions(fs *faultfs.FS, key OperatorKey) *Options {
	return &Options{Keys: key, GraphMin: 4, OpenSegments: 2, Workers: 1, LogLimit: 16 << 10, fs: fs, reserve: 600}
}

// reopened opens what is left, wants one of the two models, uses it and closes it.
func reopened(fs *faultfs.FS, key OperatorKey, before, after model) error {
	ctx := context.Background()
	db, err := Open("", tourOptions(fs, key))
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	m, err := settleModel(ctx, db, "", before, after)
	if err == nil {
		err = findEverything(ctx, db, m)
	}
	if err == nil {
		_, _, err = db.Default().GetOrCreate(ctx, "afterwards", Spec{})
	}
	if err == nil {
		err = db.Compact(ctx)
	}
	return errors.Join(err, db.Close())
}

// Power fails at every operation of a store's life, from the first Open on,
// with nothing, half and all of the unsynced work on the disk.
func TestCrashEverywhere(t *testing.T) { bothWays(t, crashEverywhere) }

// bothWays runs a test on plain stores and on encrypted ones.
func bothWays(t *testing.T, test func(t *testing.T, key OperatorKey)) {
	t.Run("plain", func(t *testing.T) { test(t, nil) })
	t.Run("encrypted", func(t *testing.T) { test(t, operator("a")) })
}

func crashEverywhere(t *testing.T, key OperatorKey) {
	ctx := context.Background()
	step := 1
	if testing.Short() {
		step = 7
	}
	for k := 0; ; k += step {
		fs := faultfs.New(uint64(k))
		fs.CrashAt(k)
		before, after := model{}, model{}
		db, err := Open("", tourOptions(fs, key))
		if err == nil {
			before, after, _ = tour(ctx, db)
			db.Close()
		}
		cut := fs.Crashed()
		for _, keep := range []int{0, 50, 100} {
			r := rand.New(rand.NewPCG(uint64(k), uint64(keep)))
			left := fs.CrashWith(r, faultfs.Cut{Sector: 512, Keep: keep, Extend: keep == 50})
			if err := reopened(left, key, before, after); err != nil {
				t.Fatalf("power cut at operation %d, %d %% kept: %v", k, keep, err)
			}
		}
		if !cut {
			if k < 100 {
				t.Fatalf("only %d operations", k)
			}
			return
		}
	}
}

// Recovery is cut short five times in a row, and finds the same in the end.
func TestCrashInRecovery(t *testing.T) { powerCuts(t, crashInRecovery) }

func crashInRecovery(seed uint64) error {
	r := rand.New(rand.NewPCG(seed, 3))
	fs := faultfs.New(seed)
	key := keysOf(seed, fs)
	db, err := Open("", tourOptions(fs, key))
	if err != nil {
		return err
	}
	fs.CrashAt(fs.Ops() + r.IntN(300))
	before, after, _ := tour(context.Background(), db)
	db.Close()
	for range 5 {
		fs = fs.Crash(r)
		fs.CrashAt(fs.Ops() + r.IntN(20))
		o := tourOptions(fs, key)
		o.MemoryLimit = int64(500 + r.IntN(5000)) // flushes on the way
		if db, err := Open("", o); err == nil {
			db.Close()
		}
	}
	return reopened(fs.Crash(r), key, before, after)
}

// The k-th write, sync or sync of a directory fails, once or for ever: the
// caller is told, no write is acknowledged after a sync that failed, reads go
// on, and the next Open finds all that was acknowledged.
func TestFaultEverywhere(t *testing.T) { bothWays(t, faultEverywhere) }

func faultEverywhere(t *testing.T, key OperatorKey) {
	for _, op := range []faultfs.Op{faultfs.OpWrite, faultfs.OpSync, faultfs.OpSyncDir, faultfs.OpCreate, faultfs.OpRename, faultfs.OpRemove} {
		seeds := []uint64{7}
		if op == faultfs.OpRemove { // tours in which keys are changed behind a file that stays
			seeds = append(seeds, 3, 5)
		}
		for _, seed := range seeds {
			for _, forever := range []bool{false, true} {
				faultOf(t, key, seed, faultfs.Rule{Op: op, Forever: forever})
			}
		}
	}
}

// faultOf has the rule met at every point of a tour.
func faultOf(t *testing.T, key OperatorKey, seed uint64, rule faultfs.Rule) {
	ctx := context.Background()
	for {
		fs := faultfs.New(uint64(rule.Nth))
		in := fs.Inject(rule)
		before, after := model{}, model{}
		db, err := Open("", tourOptions(fs, key))
		if err == nil {
			before, after, err = tourOf(ctx, db, seed)
			if err != nil {
				err = afterFault(ctx, db, rule.Op, err)
			}
			db.Close()
		} else if in.Fired() > 0 {
			err = nil
		}
		fired := in.Fired() > 0
		in.Remove()
		if err == nil {
			err = reopened(fs.Crash(rand.New(rand.NewPCG(uint64(rule.Nth), 5))), key, before, after)
		}
		if err != nil {
			t.Fatalf("seed %d: %v %d fails (for ever: %v): %v\n%s", seed, rule.Op, rule.Nth, rule.Forever, err, strings.Join(fs.Trace(), "\n"))
		}
		if !fired {
			return
		}
		rule.Nth++
		if testing.Short() {
			rule.Nth += 5
		}
	}
}

// afterFault wants a store that met fault to be latched if a sync failed, and
// readable in any case.
func afterFault(ctx context.Context, db *DB, op faultfs.Op, fault error) error {
	err := db.SetTenantResource(ctx, DefaultTenant, "new")
	if (op == faultfs.OpSync || op == faultfs.OpSyncDir) && !errors.Is(err, ErrFailed) {
		return fmt.Errorf("after %w the store takes writes: %w", fault, err)
	}
	if errors.Is(err, ErrFailed) && db.Err() == nil {
		return errors.New("Err does not say that the store has failed")
	}
	for info, err := range db.Default().Collections(ctx) {
		if err != nil {
			return err
		}
		c, err := db.Default().Collection(ctx, info.Name)
		if err != nil {
			return err
		}
		for _, err := range c.Get(ctx, Selection{}, IncludeAll) {
			if err != nil {
				return fmt.Errorf("read after %w: %w", fault, err)
			}
		}
	}
	return nil
}

// The disk is full: the write is refused and stays absent, deletes and reads
// work, and when there is space again so do writes.
func TestDiskFull(t *testing.T) {
	ctx := t.Context()
	fs := faultfs.New(1)
	db := openOn(t, fs, Options{})
	c := newCollection(t, db, "c")
	check(t, c.Add(ctx, rec("before", 1)))
	for free := range int64(200) {
		fs.Budget(fs.Used() + free)
		id := fmt.Sprint("refused", free)
		err := c.Add(ctx, Record{ID: id, Embedding: []float32{1}, Document: Optional(strings.Repeat("x", 300))})
		if !errors.Is(err, ErrDiskFull) {
			t.Fatalf("%d bytes free: %v, want ErrDiskFull", free, err)
		}
		fs.Budget(-1)
		check(t, c.Add(ctx, rec(fmt.Sprint("after", free), 2)))
	}
	check(t, db.Err())
	for _, when := range []string{"written", "reopened"} {
		if n, err := c.Count(ctx); n != 201 || err != nil {
			t.Errorf("%s: %d records, %v", when, n, err)
		}
		for _, r := range getAll(t, c, Selection{}, 0) {
			if strings.HasPrefix(r.ID, "refused") {
				t.Errorf("%s: %s is there", when, r.ID)
			}
		}
		fs = fs.Crash(rand.New(rand.NewPCG(1, 1)))
		db.Close()
		db = openOn(t, fs, Options{})
		c = collection(t, db, "c")
	}
	check(t, db.Close())
}

// The disk is full during a flush, compaction or checkpoint, at any point of
// it: nothing is lost, nothing is left over, and it is done when there is space.
func TestDiskFullInBackground(t *testing.T) {
	ctx := t.Context()
	for free := int64(0); free < 20000; free += 61 {
		fs := faultfs.New(1)
		db := openOn(t, fs, Options{GraphMin: 4})
		c := newCollection(t, db, "c")
		want := &modelCollection{dim: 1}
		add := func(n int) {
			for i := range n {
				r := rec(fmt.Sprint(len(want.records)+1), float32(i))
				check(t, c.Add(ctx, r))
				want.write(writeAdd, []Record{r})
			}
		}
		add(10)
		check(t, db.Flush(ctx))
		add(10)
		_, err := c.Delete(ctx, Selection{IDs: []string{"3", "15"}})
		check(t, err)
		want.delete(func(r Record) bool { return r.ID == "3" || r.ID == "15" })
		used := fs.Used()
		fs.Budget(used + free)
		err = db.Compact(ctx)
		if err != nil && !errors.Is(err, ErrDiskFull) {
			t.Fatalf("%d bytes free: %v", free, err)
		}
		done := err == nil
		if d, err := want.diff(ctx, c); d != "" || err != nil {
			t.Fatalf("%d bytes free: %s %v", free, d, err)
		}
		fs.Budget(-1)
		check(t, db.regain(ctx)) // as the background does after a second
		add(1)
		check(t, db.Compact(ctx))
		if n := len(c.manifest.segments); n != 1 {
			t.Fatalf("%d bytes free: %d segments after a compaction", free, n)
		}
		check(t, db.Close())
		if names := fs.Files(); len(names) != 7 { // LOCK, the reserve, a checkpoint, a segment, the log and its mark
			t.Fatalf("%d bytes free: files %v", free, names)
		}
		if err := reopened(fs, nil, model{"c": want}, model{"c": want}); err != nil {
			t.Fatalf("%d bytes free: %v", free, err)
		}
		if done {
			return
		}
	}
	t.Error("never enough space")
}

// Writers that outrun a full disk are told so, and go on when there is space.
func TestDiskFullBackPressure(t *testing.T) {
	ctx := t.Context()
	db, fs := newDB(t, Options{MemtableRows: 4})
	c := newCollection(t, db, "c")
	full := fs.Inject(faultfs.Rule{Op: faultfs.OpWrite, Path: "tmp/*", Fault: faultfs.Short, Forever: true})
	var err error
	n := 0
	for ; err == nil; n++ {
		err = c.Add(ctx, rec(fmt.Sprint(n), 1))
	}
	if !errors.Is(err, ErrDiskFull) || n > 100 {
		t.Fatalf("%v after %d writes", err, n)
	}
	check(t, db.Err())
	full.Remove()
	check(t, db.Flush(ctx))
	check(t, c.Add(ctx, rec("more", 1)))
}

// While the disk is full, a checkpoint is worth its bytes as soon as it frees any.
func TestDiskFullFreesGarbage(t *testing.T) {
	ctx := t.Context()
	db, fs := newDB(t, Options{})
	db.jobs.stop() // its work is done by hand
	c := newCollection(t, db, "c")
	for i := range 2 {
		check(t, c.Add(ctx, rec(fmt.Sprint(i), 1)))
		check(t, db.Flush(ctx))
	}
	_, err := c.compact(ctx, pickAll)
	check(t, err)
	db.jobs.garbage = 1
	for _, tc := range []struct {
		full  error
		files int
	}{{nil, 3}, {ErrDiskFull, 1}} {
		db.jobs.full = tc.full
		check(t, db.relieve(ctx))
		n := 0
		for _, f := range fs.Files() {
			if strings.HasSuffix(f, segmentSuffix) {
				n++
			}
		}
		if n != tc.files {
			t.Errorf("full: %v: %d segments are there, want %d", tc.full, n, tc.files)
		}
	}
	if db.jobs.garbage != 0 {
		t.Errorf("%d bytes are taken for garbage still", db.jobs.garbage)
	}
}

// A checkpoint is taken while an entry is queued that will be refused. What
// gets its place in the log must not count as covered by the checkpoint.
func TestCheckpointBesideRefusedEntry(t *testing.T) {
	ctx := t.Context()
	fs := faultfs.New(1)
	db := openOn(t, fs, Options{})
	c := newCollection(t, db, "c")
	check(t, c.Add(ctx, rec("a", 1)))
	reached, release := make(chan struct{}), make(chan struct{})
	var armed atomic.Bool
	armed.Store(true)
	fs.Hook(func(op faultfs.Op, name string) {
		if op == faultfs.OpWrite && strings.HasPrefix(name, "log/") && armed.CompareAndSwap(true, false) {
			close(reached)
			<-release
		}
	})
	fs.Inject(faultfs.Rule{Op: faultfs.OpWrite, Path: "log/*", Fault: faultfs.Short})
	refused := make(chan error)
	go func() { refused <- c.Add(ctx, rec("refused", 1)) }()
	<-reached
	check(t, db.writeCheckpoint(ctx))
	close(release)
	if err := <-refused; !errors.Is(err, ErrDiskFull) {
		t.Fatalf("the write is not refused: %v", err)
	}
	newCollection(t, db, "d")
	check(t, c.Add(ctx, rec("b", 1)))
	fs = fs.Crash(rand.New(rand.NewPCG(1, 1)))
	db.Close()
	db = openOn(t, fs, Options{})
	if got := idsOf(getAll(t, collection(t, db, "c"), Selection{}, 0)); got != "a b" {
		t.Errorf("%q, want a and b", got)
	}
	collection(t, db, "d")
	check(t, db.Close())
}

// Damage of one collection's files is that collection's: the store opens, the
// others are read, written, flushed and compacted.
func TestDamageIsContained(t *testing.T) {
	ctx := t.Context()
	for _, tc := range []struct {
		name  string
		spoil func(fs *faultfs.FS, name string) error
	}{
		{"flipped", func(fs *faultfs.FS, name string) error {
			return fs.Damage(name, func(b []byte) []byte {
				for i := range b {
					b[i] ^= 0x10
				}
				return b
			})
		}},
		{"cut", func(fs *faultfs.FS, name string) error {
			return fs.Damage(name, func(b []byte) []byte { return b[:len(b)/2] })
		}},
		{"missing", func(fs *faultfs.FS, name string) error { return fs.Remove(name) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fs := faultfs.New(1)
			db := openOn(t, fs, Options{})
			bad, good := newCollection(t, db, "bad"), newCollection(t, db, "good")
			check(t, bad.Add(ctx, rec("a", 1)))
			check(t, good.Add(ctx, rec("a", 1)))
			check(t, db.Flush(ctx))
			segs := slices.Clone(bad.manifest.segments)
			check(t, bad.Upsert(ctx, rec("a", 2))) // an entry that recovery applies to the segment
			fs = fs.Clone()
			db.Close()
			check(t, tc.spoil(fs, "seg/"+fmt.Sprintf("%016x.seg", segs[0].info.Number)))
			for range 2 {
				db = openOn(t, fs, Options{MemoryLimit: 1000})
				bad, good = collection(t, db, "bad"), collection(t, db, "good")
				if _, err := bad.Query(ctx, []float32{1}, 1, nil); !errors.Is(err, ErrCorrupt) {
					t.Errorf("query of the damaged collection: %v", err)
				}
				if err := bad.Add(ctx, rec("b", 1)); !errors.Is(err, ErrCorrupt) {
					t.Errorf("add to the damaged collection: %v", err)
				}
				for i := range 20 {
					check(t, good.Upsert(ctx, rec(fmt.Sprint(i), float32(i))))
				}
				check(t, db.Flush(ctx))
				if err := db.Compact(ctx); err != nil && !errors.Is(err, ErrCorrupt) {
					t.Error(err)
				}
				if n := len(good.manifest.segments); n != 1 {
					t.Errorf("the other collection has %d segments after a compaction", n)
				}
				check(t, db.Err())
				check(t, db.Close())
			}
			db = openOn(t, fs, Options{})
			check(t, db.Default().Delete(ctx, "bad")) // the way out
			check(t, db.Compact(ctx))
			check(t, db.Close())
		})
	}
}

// A store is read without a byte being written, the log's rest included.
func TestReadOnly(t *testing.T) {
	ctx := t.Context()
	fs := faultfs.New(1)
	db := openOn(t, fs, Options{GraphMin: 4})
	m, _, err := tour(ctx, db)
	check(t, err)
	fs = fs.Clone() // as a crash leaves it: entries in the log, no clean close
	db.Close()
	ops := fs.Ops()
	db = openOn(t, fs, Options{ReadOnly: true})
	if d, err := m.diff(ctx, db, ""); d != "" || err != nil {
		t.Error(d, err)
	}
	if err := db.Flush(ctx); !errors.Is(err, ErrReadOnly) {
		t.Errorf("flush: %v", err)
	}
	if err := db.Reset(ctx); !errors.Is(err, ErrReadOnly) {
		t.Errorf("reset: %v", err)
	}
	check(t, db.Close())
	if n := fs.Ops() - ops; n != 0 {
		t.Errorf("%d operations changed the disk: %v", n, fs.Trace())
	}
	if n := fs.Handles(); n != 0 {
		t.Errorf("%d handles are open", n)
	}
}

// A flush that gets no file handle changes nothing: writes and reads go on,
// and the flush succeeds when there are handles again.
func TestNoHandle(t *testing.T) {
	ctx := t.Context()
	fs := faultfs.New(1)
	db := openOn(t, fs, Options{})
	c := newCollection(t, db, "c")
	check(t, c.Add(ctx, rec("a", 1)))
	in := fs.Inject(faultfs.Rule{Op: faultfs.OpCreate, Path: "tmp/*", Forever: true, Err: vfs.ErrNoHandle})
	for range 3 {
		if err := db.Flush(ctx); !errors.Is(err, ErrNoHandle) || db.Err() != nil {
			t.Fatalf("flush: %v; the store: %v", err, db.Err())
		}
	}
	check(t, c.Add(ctx, rec("b", 2)))
	in.Remove()
	check(t, db.Flush(ctx))
	if got := idsOf(getAll(t, c, Selection{}, 0)); got != "a b" {
		t.Errorf("the collection holds %q", got)
	}
	check(t, db.Close())
}

// A write that is durable when there are no file handles to apply it with
// is applied when there are, and is acknowledged only then.
func TestNoHandleForDurableWrite(t *testing.T) {
	ctx := t.Context()
	fs := faultfs.New(1)
	reports := make(chan ErrorEvent, 100)
	db := openOn(t, fs, Options{Events: &Events{Error: func(e ErrorEvent) { reports <- e }}})
	c := newCollection(t, db, "c")
	check(t, c.Add(ctx, rec("a", 1)))
	check(t, db.Flush(ctx))
	check(t, db.Close())
	db = openOn(t, fs, Options{Events: &Events{Error: func(e ErrorEvent) { reports <- e }}})
	c = collection(t, db, "c")
	in := fs.Inject(faultfs.Rule{Op: faultfs.OpMap, Path: "seg/*", Forever: true, Err: vfs.ErrNoHandle})
	if _, err := c.Query(ctx, []float32{1}, 1, nil); !errors.Is(err, ErrNoHandle) {
		t.Errorf("query: %v", err)
	}
	done := make(chan error)
	go func() { done <- c.Upsert(ctx, rec("a", 2), rec("b", 3)) }()
	if e := <-reports; e.Op != "apply" || !errors.Is(e.Err, ErrNoHandle) || e.Failed {
		t.Errorf("reported: %+v", e)
	}
	select {
	case err := <-done:
		t.Errorf("acknowledged without being applied: %v", err)
	default:
	}
	in.Remove()
	check(t, <-done)
	if got := idsOf(getAll(t, c, Selection{}, 0)); got != "a b" {
		t.Errorf("the collection holds %q", got)
	}
	check(t, db.Close())
}
