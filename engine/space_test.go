package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// filled returns a store whose disk is full but for free bytes, with three
// segments, a memtable, and its background standing still.
func filled(t *testing.T, seed uint64, free int64) (*DB, *faultfs.FS, *Collection, *modelCollection) {
	t.Helper()
	ctx := t.Context()
	fs := faultfs.New(seed)
	db := openOn(t, fs, Options{GraphMin: 8, Workers: 1})
	db.jobs.stop()
	c := newCollection(t, db, "c")
	want := &modelCollection{dim: 32}
	add := func(n int) error {
		r := rec(fmt.Sprint(n), make([]float32, 32)...)
		r.Embedding[0] = float32(n)
		err := c.Add(ctx, r)
		if err == nil {
			want.write(writeAdd, []Record{r})
		}
		return err
	}
	for n := range 60 {
		check(t, add(n))
		if n%20 == 19 {
			check(t, db.Flush(ctx))
		}
	}
	check(t, db.writeCheckpoint(ctx))
	fs.Budget(fs.Used() + free)
	for n := 60; ; n++ {
		if err := add(n); errors.Is(err, ErrDiskFull) {
			return db, fs, c, want
		} else if err != nil || n > 500 {
			t.Fatalf("record %d: %v", n, err)
		}
	}
}

// A full disk takes deletions, and merging after them gives space back, with
// any number of bytes left over; what it has to spare for that is kept from
// other writers. A power cut at the end finds the same.
func TestDeletingFreesSpace(t *testing.T) {
	ctx := t.Context()
	for _, tc := range []struct {
		name string
		drop func(db *DB, c *Collection, want *modelCollection) error
	}{
		{"every record", func(db *DB, c *Collection, want *modelCollection) error { return deleteDown(t, c, want, 0) }},
		{"most records", func(db *DB, c *Collection, want *modelCollection) error { return deleteDown(t, c, want, 2) }},
		{"the collection", func(db *DB, c *Collection, want *modelCollection) error {
			return db.Default().Delete(ctx, "c")
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			step := int64(rounds(10))
			for free := int64(0); free < 2500; free += 2510/(step*4) + 1 {
				db, disk, c, want := filled(t, uint64(free), free)
				full := disk.Used()
				if err := tc.drop(db, c, want); err != nil {
					t.Fatalf("%d bytes free: %v", free, err)
				}
				if err := db.Compact(ctx); err != nil {
					t.Fatalf("%d bytes free: compact: %v", free, err)
				}
				if used := disk.Used(); used > full*2/3 {
					t.Fatalf("%d bytes free: %d of %d bytes are used after everything was deleted", free, used, full)
				}
				check(t, db.Err())
				_, err := db.Default().Create(ctx, "new", Spec{})
				check(t, err)
				m := model{"c": want, "new": {}}
				if tc.name == "the collection" {
					delete(m, "c")
				}
				left := disk.Crash(rand.New(rand.NewPCG(uint64(free), 1)))
				db.Close()
				if err := reopened(left, nil, m, m); err != nil {
					t.Fatalf("%d bytes free: %v", free, err)
				}
			}
		})
	}
}

// deleteDown deletes the oldest records until keep are left.
func deleteDown(t *testing.T, c *Collection, want *modelCollection, keep int) error {
	for len(want.records) > keep {
		var ids []string
		for _, r := range want.records[:min(10, len(want.records)-keep)] {
			ids = append(ids, r.ID)
		}
		if n, err := c.Delete(t.Context(), Selection{IDs: ids}); err != nil || n != len(ids) {
			return fmt.Errorf("%d of %d deleted: %w", n, len(ids), err)
		}
		want.records = want.records[len(ids):]
	}
	return nil
}

// What deletions have set free of the reserve is not for other writers, who
// are refused before anything is written, until it could be made again.
func TestReserveIsForDeletions(t *testing.T) {
	ctx := t.Context()
	db, disk, c, _ := filled(t, 1, 0)
	_, err := c.Delete(ctx, Selection{IDs: []string{"0"}})
	check(t, err)
	if _, err := disk.Stat(reserveNames[forEntries]); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the reserve was not needed: %v", err)
	}
	ops := disk.Ops()
	_, createErr := db.Default().Create(ctx, "new", Spec{})
	for name, err := range map[string]error{
		"add": c.Add(ctx, rec("new", make([]float32, 32)...)), "upsert": c.Upsert(ctx, rec("1", make([]float32, 32)...)),
		"create": createErr, "tenant": db.CreateTenant(ctx, "t"), "modify": c.Modify(ctx, Change{Name: Optional("d")}),
	} {
		if !errors.Is(err, ErrDiskFull) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := disk.Ops() - ops; n > 0 {
		t.Errorf("refused writers changed the disk %d times", n)
	}
	disk.Budget(-1)
	check(t, db.regain(ctx))
	check(t, c.Add(ctx, rec("new", make([]float32, 32)...)))
	for _, name := range reserveNames {
		if info, err := disk.Stat(name); err != nil || info.Size != testReserve {
			t.Errorf("the reserve: %+v, %v", info, err)
		}
	}
	check(t, db.Close())
}

// A store opens on a disk without a byte to spare, and what is deleted then
// makes room.
func TestOpenOnFullDisk(t *testing.T) {
	ctx := t.Context()
	for free := int64(0); free < 500; free += 37 {
		db, disk, _, want := filled(t, uint64(free), free)
		disk = disk.Clone()
		db.Close()
		disk.Budget(disk.Used())
		db = openOn(t, disk, Options{})
		db.jobs.stop()
		c := collection(t, db, "c")
		if d, err := want.diff(ctx, c); d != "" || err != nil {
			t.Fatal(d, err)
		}
		if err := c.Add(ctx, rec("more", make([]float32, 32)...)); !errors.Is(err, ErrDiskFull) {
			t.Errorf("add: %v", err)
		}
		check(t, db.Default().Delete(ctx, "c"))
		check(t, db.Compact(ctx))
		newCollection(t, db, "c")
		check(t, db.Close())
	}
}

// The reserve for checkpoints follows the size of the newest.
func TestReserveSize(t *testing.T) {
	for _, tc := range []struct{ checkpoint, want int64 }{{0, 1 << 17}, {1 << 16, 1 << 17}, {1<<16 + 1, 1 << 18}, {10 << 20, 32 << 20}} {
		db := &DB{checkpoint: checkpointState{size: tc.checkpoint}}
		if got := db.reserveSize(forCheckpoint); got != tc.want {
			t.Errorf("a checkpoint of %d bytes: %d, want %d", tc.checkpoint, got, tc.want)
		}
	}
}

// Files that cannot be removed are in nobody's way: the store goes on, says
// so, and removes them with a later checkpoint.
func TestRemoveFails(t *testing.T) {
	ctx := t.Context()
	disk := faultfs.New(1)
	reports := make(chan ErrorEvent, 1000)
	o := Options{LogLimit: 100, Events: &Events{Error: func(e ErrorEvent) { reports <- e }}}
	db := openOn(t, disk, o)
	db.jobs.stop()
	var rules []*faultfs.Injected
	for _, files := range []string{"seg/*", "checkpoint/*", "log/*.wal", "tmp/*"} {
		rules = append(rules, disk.Inject(faultfs.Rule{Op: faultfs.OpRemove, Path: files, Forever: true}))
	}
	c := newCollection(t, db, "c")
	for i := range 3 {
		check(t, c.Add(ctx, rec(fmt.Sprint(i), 1)))
		check(t, db.Compact(ctx))
	}
	check(t, db.Err())
	check(t, db.Close())
	select {
	case e := <-reports:
		if e.Op != "remove" || e.Failed {
			t.Errorf("reported: %+v", e)
		}
	default:
		t.Error("nothing was reported")
	}
	for _, in := range rules {
		in.Remove()
	}
	rest := len(disk.Files())
	db = openOn(t, disk, o)
	db.jobs.stop()
	check(t, db.Compact(ctx))
	check(t, db.Close())
	if names := disk.Files(); len(names) >= rest || len(names) != 7 {
		t.Errorf("%d files before, now %v", rest, names)
	}
}

// The sync of a directory is refused behind a renaming. Without a handle
// nothing was tried, so the same work is done later, under a new number; any
// other error, a full disk's too, leaves in doubt what is on the disk.
func TestDirectorySyncRefused(t *testing.T) {
	ctx := t.Context()
	for _, dir := range []string{checkpointDir, segmentDir, "tmp"} {
		for _, tc := range []struct {
			err    error
			passes bool
		}{{vfs.ErrNoHandle, true}, {vfs.ErrNoSpace, false}, {nil, false}} {
			disk := faultfs.New(1)
			db := openOn(t, disk, Options{})
			db.jobs.stop()
			c := newCollection(t, db, "c")
			check(t, c.Add(ctx, rec("a", 1)))
			work := func() error { return errors.Join(db.Flush(ctx), db.writeCheckpoint(ctx)) }
			in := disk.Inject(faultfs.Rule{Op: faultfs.OpSyncDir, Path: dir, Err: tc.err})
			err := work()
			if in.Fired() != 1 || err == nil {
				t.Fatalf("%s: %v", dir, err)
			}
			if failed := db.Err(); (failed == nil) != tc.passes {
				t.Errorf("%s: %v: the store: %v", dir, tc.err, failed)
			}
			if tc.passes {
				check(t, work())
				check(t, c.Add(ctx, rec("b", 1)))
			}
			left := disk.Crash(rand.New(rand.NewPCG(1, 1)))
			db.Close()
			db = openOn(t, left, Options{})
			want := "a b"
			if !tc.passes {
				want = "a"
			}
			if got := idsOf(getAll(t, collection(t, db, "c"), Selection{}, 0)); got != want {
				t.Errorf("%s: %q", dir, got)
			}
			check(t, db.Close())
		}
	}
}

// What cannot be flushed goes back to the memtable, less what is deleted
// meanwhile, and reads see the same throughout.
func TestFailedFlushIsUndone(t *testing.T) {
	ctx := t.Context()
	disk := faultfs.New(1)
	db := openOn(t, disk, Options{})
	db.jobs.stop()
	c := newCollection(t, db, "c")
	want := &modelCollection{dim: 1}
	add := func(id string, v float32) {
		check(t, c.Upsert(ctx, rec(id, v)))
		want.write(writeUpsert, []Record{rec(id, v)})
	}
	for i := range 10 {
		add(fmt.Sprint(i), float32(i))
	}
	// The disk refuses the segment when the frozen rows have been changed.
	changed := false
	disk.Hook(func(op faultfs.Op, name string) {
		if op == faultfs.OpCreate && strings.HasPrefix(name, "tmp/") && !changed {
			changed = true
			add("3", 33)
			add("10", 10)
			_, err := c.Delete(ctx, Selection{IDs: []string{"5"}})
			check(t, err)
			want.delete(func(r Record) bool { return r.ID == "5" })
		}
	})
	in := disk.Inject(faultfs.Rule{Op: faultfs.OpCreate, Path: "tmp/*", Err: vfs.ErrNoSpace})
	if err := db.Flush(ctx); !errors.Is(err, ErrDiskFull) || !changed || in.Fired() != 1 {
		t.Fatalf("flush: %v", err)
	}
	same := func(when string) {
		t.Helper()
		if d, err := want.diff(ctx, c); d != "" || err != nil {
			t.Errorf("%s: %s %v", when, d, err)
		}
	}
	same("after the flush")
	if s := c.state.Load(); s.frozen != nil || s.rows != 10 || db.memBytes.Load() != c.mem.bytes || c.jobs.size.Load() != c.mem.bytes {
		t.Errorf("%d rows in memory, %d bytes of %d accounted for", s.rows, db.memBytes.Load(), c.mem.bytes)
	}
	left := disk.Crash(rand.New(rand.NewPCG(1, 1)))
	if err := reopened(left, nil, model{"c": want}, model{"c": want}); err != nil {
		t.Error(err)
	}
}

// A segment whose edit a full disk refuses does not stay to take up space.
func TestRefusedEditLeavesNoSegment(t *testing.T) {
	ctx := t.Context()
	db, disk := newDB(t, Options{})
	db.jobs.stop()
	c := newCollection(t, db, "c")
	check(t, c.Add(ctx, rec("a", 1)))
	check(t, db.Flush(ctx))
	check(t, c.Add(ctx, rec("b", 1)))
	segments := func() (n int) {
		for _, name := range disk.Files() {
			if strings.HasSuffix(name, segmentSuffix) {
				n++
			}
		}
		return n
	}
	in := disk.Inject(faultfs.Rule{Op: faultfs.OpWrite, Path: "log/*.wal", Fault: faultfs.Short, Forever: true})
	if err := db.Flush(ctx); !errors.Is(err, ErrDiskFull) || segments() != 1 {
		t.Errorf("flush: %v, %d segments", err, segments())
	}
	in.Remove()
	check(t, db.Flush(ctx))
	in = disk.Inject(faultfs.Rule{Op: faultfs.OpWrite, Path: "log/*.wal", Fault: faultfs.Short, Forever: true})
	if _, err := c.compact(ctx, pickAll); !errors.Is(err, ErrDiskFull) || segments() != 2 {
		t.Errorf("compaction: %v, %d segments", err, segments())
	}
	in.Remove()
	check(t, db.Compact(ctx))
	if got := idsOf(getAll(t, c, Selection{}, 0)); got != "a b" || segments() != 1 {
		t.Errorf("%q in %d segments", got, segments())
	}
}

// There is no room for all rows once more. What is dead goes first, and makes
// it.
func TestCompactMakesItsOwnRoom(t *testing.T) {
	ctx := t.Context()
	db, disk := newDB(t, Options{})
	db.jobs.stop()
	c := newCollection(t, db, "c")
	var dead []string
	for part, n := range []int{300, 100, 100} {
		for i := range n {
			id := fmt.Sprint(part, "-", i)
			check(t, c.Add(ctx, rec(id, make([]float32, 64)...)))
			if part == 0 {
				dead = append(dead, id)
			}
		}
		check(t, db.Flush(ctx))
	}
	_, err := c.Delete(ctx, Selection{IDs: dead})
	check(t, errors.Join(err, db.Flush(ctx), db.writeCheckpoint(ctx)))
	live := int64(0)
	for _, s := range c.manifest.segments[1:] {
		live += s.info.Length
	}
	disk.Budget(disk.Used() + live/2)
	check(t, db.Compact(ctx))
	if n := len(c.manifest.segments); n != 1 || db.Stats().Records != 200 {
		t.Errorf("%d records in %d segments", db.Stats().Records, n)
	}
}
