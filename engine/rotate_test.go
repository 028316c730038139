package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
	"github.com/chromad/chromad/segment"
)

// underKeys returns the files of the store by the key in their header, the
// files of keys apart, which name none.
func underKeys(t testing.TB, fs *faultfs.FS) map[uint32][]string {
	t.Helper()
	out := map[uint32][]string{}
	for _, name := range fs.Files() {
		if !strings.Contains(name, "/") || strings.HasPrefix(name, "keys/") || strings.HasSuffix(name, ".newest") {
			continue
		}
		h, err := disk.ReadHeader(fs, name)
		if err != nil {
			t.Fatal(err)
		}
		out[h.KeyID] = append(out[h.KeyID], name)
	}
	return out
}

// aStore has two collections, with segments, deletions and records in the log,
// and was left without being closed. It returns what must be in it.
func aStore(t testing.TB, key OperatorKey) (*faultfs.FS, model) {
	t.Helper()
	ctx := t.Context()
	fs := faultfs.New(1)
	db := openOn(t, fs, Options{Keys: key, GraphMin: 4, Workers: 1})
	db.jobs.stop() // so that calls come in one order
	m := model{}
	for n := range 2 {
		name := fmt.Sprint("c", n)
		c := newCollection(t, db, name)
		m[name] = &modelCollection{}
		for i := range 4 {
			recs := []Record{
				{ID: fmt.Sprint(i), Embedding: []float32{float32(i)}, Document: Optional("text"), Metadata: exampleMetadata()},
				{ID: fmt.Sprint(i + 1), Embedding: []float32{float32(i + n)}},
			}
			check(t, c.Upsert(ctx, recs...))
			m[name].write(writeUpsert, recs)
			if i < 3 {
				check(t, db.Flush(ctx))
			}
			if i == n {
				check(t, db.writeCheckpoint(ctx))
			}
		}
	}
	left := fs.Clone()
	db.Close()
	return left, m
}

// Power fails at every operation of a change of keys, and again in what goes
// on with it: nothing is lost, the next call finishes, and then nothing is
// left under an old key, nor is the old key.
func TestRotateCrash(t *testing.T) {
	whole, m := aStore(t, operator("a"))
	o := Options{Keys: operator("a"), GraphMin: 4, Workers: 1}
	first := openOn(t, whole.Clone(), o)
	before, err := first.KeyInfo(t.Context())
	check(t, err)
	check(t, first.Close())
	crashLoop(t, whole, m, o, func(ctx context.Context, fs *faultfs.FS) error {
		o := o
		o.fs, o.reserve = fs, testReserve
		db, err := Open("", &o)
		if err != nil {
			return err
		}
		return errors.Join(db.RotateKeys(ctx, nil), db.Close())
	}, func(fs *faultfs.FS, now KeyInfo) error {
		if slices.Contains(now.Keyset, before.Keyset[0]) {
			return fmt.Errorf("keyset %v, it was %v", now.Keyset, before.Keyset)
		}
		if under := underKeys(t, fs); len(under[1]) > 0 || len(under[0]) > 0 {
			return fmt.Errorf("files under old keys: %v", under)
		}
		return nil
	})
}

// The same when a plain store is encrypted: afterwards no file is plain, and
// none would be accepted.
func TestEncryptCrash(t *testing.T) {
	whole, m := aStore(t, nil)
	o := Options{Keys: operator("a"), GraphMin: 4, Workers: 1}
	crashLoop(t, whole, m, o, func(ctx context.Context, fs *faultfs.FS) error {
		o := o
		o.fs, o.reserve = fs, testReserve
		return Encrypt(ctx, "", &o, nil)
	}, func(fs *faultfs.FS, now KeyInfo) error {
		if plain := underKeys(t, fs)[0]; len(plain) > 0 {
			return fmt.Errorf("plain files: %v", plain)
		}
		if _, err := Open("", &Options{fs: fs}); !errors.Is(err, ErrKey) {
			return fmt.Errorf("opened without a key: %w", err)
		}
		return nil
	})
}

// crashLoop cuts power at the k-th operation of work, for every k, works again
// with another cut, and once more to the end.
func crashLoop(t *testing.T, whole *faultfs.FS, m model, o Options,
	work func(context.Context, *faultfs.FS) error, finished func(*faultfs.FS, KeyInfo) error) {
	ctx := context.Background()
	step := 1
	if testing.Short() {
		step = 7
	}
	for k := 0; ; k += step {
		r := rand.New(rand.NewPCG(uint64(k), 17))
		fs := whole.Clone()
		fs.CrashAt(fs.Ops() + k)
		werr := work(ctx, fs)
		cut := fs.Crashed()
		if !cut && werr != nil {
			t.Fatalf("operation %d: %v without a cut", k, werr)
		}
		fs = fs.CrashWith(r, faultfs.Cut{Sector: 512, Keep: []int{0, 50, 100}[k%3], Extend: k%2 == 0})
		fs.CrashAt(fs.Ops() + r.IntN(60))
		_ = work(ctx, fs)
		fs = fs.Crash(r)
		if err := work(ctx, fs); err != nil {
			t.Fatalf("operation %d: the last time: %v\n%s", k, err, strings.Join(fs.Trace(), "\n"))
		}
		db := openOn(t, fs, o)
		info, err := db.KeyInfo(ctx)
		if err == nil && (info.OldFiles > 0 || info.Converting || len(info.Keyset) != 1 || len(info.Store) != 1) {
			err = fmt.Errorf("not finished: %+v", info)
		}
		for _, c := range info.Collections {
			if len(c.Generations) != 1 {
				err = fmt.Errorf("not finished: %+v", info)
			}
		}
		if err == nil {
			_, err = settleModel(ctx, db, "", m, m)
		}
		if err == nil {
			err = findEverything(ctx, db, m)
		}
		err = errors.Join(err, db.Close())
		if err == nil {
			// Nothing comes back that was removed for good.
			err = finished(fs.CrashWith(r, faultfs.Cut{Sector: 512}), info)
		}
		if err != nil {
			t.Fatalf("operation %d: %v", k, err)
		}
		if !cut {
			if k < 40 {
				t.Fatalf("only %d operations", k)
			}
			return
		}
	}
}

// Whoever opens the store while a change of keys is unfinished need do nothing
// for it to be finished.
func TestRotateInBackground(t *testing.T) {
	whole, m := aStore(t, nil)
	o := Options{Keys: operator("a"), GraphMin: 4, Workers: 1}
	for k := 20; k < 60; k += 5 {
		fs := whole.Clone()
		fs.CrashAt(fs.Ops() + k)
		enc := o
		enc.fs, enc.reserve = fs, testReserve
		if err := Encrypt(t.Context(), "", &enc, nil); err == nil {
			t.Fatalf("operation %d is beyond the conversion", k)
		}
		fs = fs.Crash(rand.New(rand.NewPCG(uint64(k), 1)))
		if keysOf(1, fs) == nil {
			continue // not begun
		}
		db := openOn(t, fs, o)
		for settled := false; !settled; runtime.Gosched() {
			var err error
			settled, err = db.settled()
			check(t, err)
		}
		if info, err := db.KeyInfo(t.Context()); err != nil || info.OldFiles > 0 || info.Converting {
			t.Errorf("operation %d: %+v, %v", k, info, err)
		}
		check(t, findEverything(t.Context(), db, m))
		check(t, db.Close())
	}
}

// Readers keep the files that they read, and the keys of those, until they are
// done; writers are not held up; and the old keys go in the end.
func TestRotateUnderLoad(t *testing.T) {
	ctx := t.Context()
	fs, m := aStore(t, operator("a"))
	db := openOn(t, fs, Options{Keys: operator("a"), GraphMin: 4, OpenSegments: 1, MemtableRows: 8})
	c := collection(t, db, "c0")
	reading, release := make(chan struct{}), make(chan struct{})
	read := make(chan error)
	go func() {
		n := 0
		for r, err := range c.Get(ctx, Selection{}, IncludeAll) {
			if err != nil {
				read <- err
				return
			}
			if n == 0 {
				close(reading)
				<-release
			}
			if d := diffRecord(m["c0"].records[n], r); d != "" {
				read <- errors.New(d)
				return
			}
			n++
		}
		read <- nil
	}()
	<-reading
	rotated := make(chan error)
	go func() { rotated <- db.RotateKeys(ctx, nil) }()
	for i := range 200 {
		check(t, c.Upsert(ctx, rec(fmt.Sprint("new", i%30), float32(i))))
		if i == 100 {
			newCollection(t, db, "made")
			check(t, db.Default().Delete(ctx, "c1"))
		}
	}
	select {
	case err := <-rotated:
		t.Errorf("old keys went under a reader: %v", err)
	default:
	}
	close(release)
	check(t, <-read)
	check(t, <-rotated)
	info, err := db.KeyInfo(ctx)
	check(t, err)
	if info.OldFiles > 0 || len(info.Collections) != 2 || len(info.Keyset) != 1 {
		t.Errorf("%+v", info)
	}
	check(t, db.Close())
	db = openOn(t, fs, Options{Keys: operator("a")})
	if n, err := collection(t, db, "c0").Count(ctx); err != nil || n != 5+30 {
		t.Errorf("%d records, %v", n, err)
	}
	check(t, db.Close())
}

// Progress adds up, a context that ends stops a change of keys, and the next
// call goes on with it and begins no other one.
func TestRotateResumes(t *testing.T) {
	fs, m := aStore(t, operator("a"))
	db := openOn(t, fs, Options{Keys: operator("a"), GraphMin: 4})
	db.jobs.stop() // the background would go on with it
	ctx, cancel := context.WithCancel(t.Context())
	var last RotateProgress
	err := db.RotateKeys(ctx, func(p RotateProgress) {
		last = p
		if p.SegmentsDone == 2 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || db.Err() != nil {
		t.Fatalf("cancelled: %v, %v", err, db.Err())
	}
	check(t, db.rotation.lock(t.Context())) // what was left to itself ends
	db.rotation.Unlock()
	if last.Segments < 6 || last.SegmentsDone < 2 || last.SegmentsDone > last.Segments || last.BytesDone > last.Bytes || last.BytesDone == 0 {
		t.Errorf("progress %+v", last)
	}
	between, err := db.KeyInfo(t.Context())
	check(t, err)
	if between.OldFiles == 0 || len(between.Keyset) != 2 {
		t.Errorf("between: %+v", between)
	}
	check(t, db.RotateKeys(t.Context(), nil))
	info, err := db.KeyInfo(t.Context())
	check(t, err)
	if info.OldFiles > 0 || len(info.Keyset) != 1 || info.Keyset[0].ID != between.Keyset[1].ID {
		t.Errorf("%+v, before that %+v", info, between)
	}
	check(t, findEverything(t.Context(), db, m))
	check(t, db.Close())
}

// A damaged collection keeps its old keys, and says so; the others get new ones.
func TestRotateDamaged(t *testing.T) {
	ctx := t.Context()
	fs, m := aStore(t, operator("a"))
	db := openOn(t, fs, Options{Keys: operator("a"), GraphMin: 4})
	check(t, db.Compact(ctx))
	c := collection(t, db, "c0")
	id := seal.ID(c.id)
	name := fmt.Sprintf("%s/%016x%s", segmentDir, c.manifest.segments[0].info.Number, segmentSuffix)
	check(t, c.Upsert(ctx, rec("1", 5))) // the log is needed, too
	fs = fs.Clone()
	db.Close()
	check(t, fs.Damage(name, func(b []byte) []byte { b[len(b)/2] ^= 1; b[200] ^= 1; return b }))
	db = openOn(t, fs, Options{Keys: operator("a"), GraphMin: 4})
	for range 2 {
		if err := db.RotateKeys(ctx, nil); !errors.Is(err, ErrCorrupt) || db.Err() != nil {
			t.Fatalf("%v, %v", err, db.Err())
		}
		check(t, db.Close())
		db = openOn(t, fs, Options{Keys: operator("a"), GraphMin: 4})
		db.jobs.stop()
	}
	for other, generations := range db.ring.Collections() {
		if want := "[2]"; other == id && fmt.Sprint(generations) != "[1 2]" || other != id && fmt.Sprint(generations) != want {
			t.Errorf("collection %v has generations %v", other, generations)
		}
	}
	check(t, model{"c1": m["c1"]}["c1"].findAll(ctx, collection(t, db, "c1")))
	check(t, db.Default().Delete(ctx, "c0")) // the way out
	check(t, db.RotateKeys(ctx, nil))
	if info, err := db.KeyInfo(ctx); err != nil || info.OldFiles > 0 || len(info.Keyset) != 1 {
		t.Errorf("%+v, %v", info, err)
	}
	check(t, db.Close())
}

// halfway opens a copy of a plain store whose encryption was begun, where a collection has a
// plain segment yet: merges in the background may have been quicker.
func halfway(t *testing.T, plain *faultfs.FS, name string) (*faultfs.FS, *DB) {
	t.Helper()
	for range 100 {
		fs := halfEncrypted(t, plain)
		db := openOn(t, fs, Options{Keys: operator("a"), convert: true}) // it would go on by itself
		db.jobs.stop()
		files := underKeys(t, fs)[0]
		for _, s := range collection(t, db, name).manifest.segments {
			if slices.Contains(files, segment.Name(s.info.Number)) {
				return fs, db
			}
		}
		check(t, db.Close())
	}
	t.Fatal("all was encrypted each time")
	return nil, nil
}

// A conversion is not over while there is a plain file, be it of a collection
// that was deleted under a reader.
func TestEncryptHeldFile(t *testing.T) {
	ctx := t.Context()
	plain, m := aStore(t, nil)
	fs, db := halfway(t, plain, "c1")
	next, stop := iter.Pull2(collection(t, db, "c1").Get(ctx, Selection{}, IncludeAll))
	next()
	check(t, db.Default().Delete(ctx, "c1"))
	v := &convergence{db: db, hurt: map[ID]error{}}
	check(t, v.renew(ctx))
	check(t, v.begin(ctx))
	for _, held := range []bool{true, false} {
		check(t, v.rewrite(ctx))
		left, err := v.drop(ctx)
		if err != nil || left != held || db.converting() != held || len(underKeys(t, fs)[0]) > 0 != held {
			t.Errorf("held %v: left %v, %v; plain files %v", held, left, err, underKeys(t, fs)[0])
		}
		stop()
	}
	check(t, m["c0"].findAll(ctx, collection(t, db, "c0")))
	check(t, db.Close())
}

// A reader may open a segment that has been replaced since it took its view:
// the key for it stays until nobody needs the file.
func TestRotateKeepsKeys(t *testing.T) {
	ctx := t.Context()
	fs, m := aStore(t, operator("a"))
	db := openOn(t, fs, Options{Keys: operator("a"), GraphMin: 4})
	db.jobs.stop()
	view, err := collection(t, db, "c0").view()
	check(t, err)
	check(t, db.ring.AddPrimary(ctx))
	v := &convergence{db: db, hurt: map[ID]error{}}
	check(t, errors.Join(v.renew(ctx), v.begin(ctx), v.rewrite(ctx)))
	check(t, db.readers.close()) // what is open reads without asking for the key
	if left, err := v.drop(ctx); !left || err != nil {
		t.Errorf("there is a reader, and old keys are said to be needed: %t, %v", left, err)
	}
	if len(view.readers) == 0 {
		t.Fatal("no segments")
	}
	for i := range view.readers {
		if _, err := view.reader(i); err != nil {
			t.Errorf("segment %d was replaced, and a view has it: %v", i, err)
		}
	}
	view.close()
	check(t, db.converge(ctx))
	info, err := db.KeyInfo(ctx)
	check(t, err)
	if info.OldFiles > 0 || len(info.Keyset) != 1 {
		t.Errorf("%+v", info)
	}
	check(t, findEverything(ctx, db, m))
	check(t, db.Close())
}

// absent is an operator's key in a service that stops to answer after some calls.
type absent struct {
	*testOperator
	left atomic.Int32
}

var errAbsent = errors.New("the service does not answer")

func (o *absent) EncryptWithContext(ctx context.Context, plain, associated []byte) ([]byte, error) {
	if o.left.Add(-1) < 0 {
		return nil, errAbsent
	}
	return o.testOperator.EncryptWithContext(ctx, plain, associated)
}

// A key service that does not answer stops a change of keys, and nothing else:
// the disk is as it was.
func TestRotateUnavailable(t *testing.T) {
	ctx := t.Context()
	op := &absent{testOperator: operator("a")}
	op.left.Store(1)
	db, _ := newDB(t, Options{Keys: op})
	c := newCollection(t, db, "c")
	check(t, c.Upsert(ctx, rec("1", 1)))
	for _, answers := range []int32{0, 1} { // it is asked at the beginning and at the end
		op.left.Store(answers)
		if err := db.RotateKeys(ctx, nil); !errors.Is(err, errAbsent) || db.Err() != nil {
			t.Fatalf("after %d answers: %v, %v", answers, err, db.Err())
		}
		check(t, c.Upsert(ctx, rec("1", 2)))
	}
	op.left.Store(2)
	check(t, db.RotateKeys(ctx, nil))
	if info, err := db.KeyInfo(ctx); err != nil || info.OldFiles > 0 || len(info.Keyset) != 1 {
		t.Errorf("%+v, %v", info, err)
	}
}

// A copy that a full disk keeps from being installed takes no space, and is not
// told to be done.
func TestRotateDiskFull(t *testing.T) {
	ctx := t.Context()
	db, fs := newDB(t, keyed(Options{}))
	c := newCollection(t, db, "c")
	check(t, c.Upsert(ctx, rec("1", 1)))
	check(t, db.Compact(ctx))
	db.jobs.stop() // or what looks after the open for a change that was begun goes on with this one
	full := fs.Inject(faultfs.Rule{Op: faultfs.OpWrite, Path: "log/*.wal", Fault: faultfs.Short, Forever: true})
	var seen RotateProgress
	if err := db.RotateKeys(ctx, func(p RotateProgress) { seen = p }); !errors.Is(err, ErrDiskFull) || db.Err() != nil {
		t.Fatalf("%v, %v", err, db.Err())
	}
	if segs, err := numberedFiles(fs, segmentDir, segmentSuffix); len(segs) != 1 || err != nil {
		t.Errorf("segments %d are left, %v", segs, err)
	}
	if seen.Segments != 1 || seen.SegmentsDone != 0 {
		t.Errorf("%+v", seen)
	}
	full.Remove()
	check(t, db.RotateKeys(ctx, nil))
	if info, err := db.KeyInfo(ctx); err != nil || info.OldFiles > 0 {
		t.Errorf("%+v, %v", info, err)
	}
}

// A replaced file that cannot be removed ends a change of keys with an error
// that names it. Reads and writes go on, and once it can be removed the next
// call finishes what was begun, and begins nothing anew.
func TestRotateStuck(t *testing.T) {
	ctx := t.Context()
	for _, files := range []string{"seg/*", "log/*.wal", "checkpoint/*"} {
		fs, m := aStore(t, operator("a"))
		db := openOn(t, fs, Options{Keys: operator("a"), GraphMin: 4})
		db.jobs.stop()
		in := fs.Inject(faultfs.Rule{Op: faultfs.OpRemove, Path: files, Forever: true})
		var between KeyInfo
		for range 2 {
			err := db.RotateKeys(ctx, nil)
			if err == nil || !strings.Contains(err.Error(), files[:3]) || !strings.Contains(err.Error(), "ask again") || db.Err() != nil {
				t.Fatalf("%s: %v, %v", files, err, db.Err())
			}
			between, err = db.KeyInfo(ctx)
			check(t, err)
			if between.OldFiles == 0 || len(between.Keyset) != 2 {
				t.Errorf("%s: %+v", files, between)
			}
		}
		check(t, findEverything(ctx, db, m))
		check(t, db.SetTenantResource(ctx, DefaultTenant, "written"))
		in.Remove()
		check(t, db.RotateKeys(ctx, nil))
		info, err := db.KeyInfo(ctx)
		check(t, err)
		if info.OldFiles > 0 || len(info.Keyset) != 1 || info.Keyset[0].ID != between.Keyset[1].ID {
			t.Errorf("%s: %+v, before that %+v", files, info, between)
		}
		check(t, db.Close())
	}
}
