package engine

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// longLog returns a disk with a log of n records in two collections and
// nothing flushed, and what is in them.
func longLog(t *testing.T, n int) (*faultfs.FS, model) {
	t.Helper()
	ctx := t.Context()
	disk := faultfs.New(1)
	db := openOn(t, disk, Options{})
	m := model{}
	for i := range n {
		name := fmt.Sprint("c", i%3/2) // two thirds are c0's
		if m[name] == nil {
			newCollection(t, db, name)
			m[name] = &modelCollection{dim: 16}
		}
		r := rec(fmt.Sprint(i%(n*3/4)), make([]float32, 16)...) // some twice
		r.Embedding[0] = float32(i)
		check(t, collection(t, db, name).Upsert(ctx, r))
		m[name].write(writeUpsert, []Record{r})
		if i%50 == 49 {
			id := fmt.Sprint(i / 2)
			_, err := collection(t, db, name).Delete(ctx, Selection{IDs: []string{id}})
			check(t, err)
			m[name].delete(func(r Record) bool { return r.ID == id })
		}
	}
	disk = disk.Clone()
	db.Close()
	return disk, m
}

// A log that was written under a large limit is opened under a small one:
// memory stays within a fifth of it, whatever the log holds.
func TestReplayWithinMemory(t *testing.T) {
	const limit = 40_000
	ctx := t.Context()
	disk, m := longLog(t, 1200)
	row := newMemRow(1, &Record{ID: "1199", Embedding: make([]float32, 16)}).bytes
	flushed := 0
	o := Options{MemoryLimit: limit, GraphMin: 8, Workers: 1, Events: &Events{Flushed: func(e FlushEvent) {
		if flushed += e.Rows; int64(e.Rows)*row > limit+limit/5 {
			t.Errorf("%d rows of %d bytes were in memory, beyond %d", e.Rows, row, limit)
		}
	}}}
	db := openOn(t, disk, o)
	db.jobs.stop()
	if n := db.memBytes.Load(); n > limit+limit/5 || flushed < 500 {
		t.Errorf("%d bytes in memory, %d rows were flushed", n, flushed)
	}
	if d, err := m.diff(ctx, db, ""); d != "" || err != nil {
		t.Fatal(d, err)
	}
	// Nothing says yet whose the segments are: a power cut makes them nobody's.
	left := disk.Crash(rand.New(rand.NewPCG(1, 1)))
	db.Close()
	if err := reopened(left, nil, m, m); err != nil {
		t.Error(err)
	}
	// With the background at work the log is behind the next checkpoint.
	disk, _ = longLog(t, 1200)
	done := make(chan struct{})
	var once sync.Once
	o.Events = &Events{Checkpointed: func(CheckpointEvent) { once.Do(func() { close(done) }) }}
	db = openOn(t, disk, o)
	<-done
	check(t, db.Close())
	if err := reopened(disk, nil, m, m); err != nil {
		t.Error(err)
	}
}

// A reader cannot flush, so it refuses what does not fit, and says what to do.
func TestReplayReadOnlyWithinMemory(t *testing.T) {
	disk, m := longLog(t, 300)
	for _, limit := range []int64{1000, 1 << 20} {
		db, err := Open("", &Options{MemoryLimit: limit, ReadOnly: true, fs: disk})
		if limit == 1000 {
			if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "MemoryLimit") {
				t.Errorf("a log beyond the limit: %v", err)
			}
			continue
		}
		check(t, err)
		if d, err := m.diff(t.Context(), db, ""); d != "" || err != nil {
			t.Error(d, err)
		}
		check(t, db.Close())
	}
	if n := disk.Handles(); n != 0 {
		t.Errorf("%d handles are open", n)
	}
}

// On a full disk the memory has to do, up to where writers would be held up.
func TestReplayOnFullDisk(t *testing.T) {
	disk, m := longLog(t, 300)
	disk.Inject(faultfs.Rule{Op: faultfs.OpWrite, Path: "tmp/*", Fault: faultfs.Short, Forever: true})
	_, err := Open("", &Options{MemoryLimit: 20_000, fs: disk, reserve: testReserve})
	if !errors.Is(err, ErrDiskFull) {
		t.Errorf("far beyond the limit: %v", err)
	}
	total := int64(0)
	for _, c := range m {
		for i := range c.records {
			total += newMemRow(1, &c.records[i]).bytes
		}
	}
	db, err := Open("", &Options{MemoryLimit: total - total/20, fs: disk, reserve: testReserve})
	check(t, err)
	db.jobs.stop()
	if d, err := m.diff(t.Context(), db, ""); d != "" || err != nil {
		t.Error(d, err)
	}
	db.Close()
}

// Power fails at every operation of opening a store whose log is flushed on
// the way.
func TestCrashInReplay(t *testing.T) {
	heavy(t)
	disk, m := longLog(t, 240)
	step := 2
	if testing.Short() {
		step = 5
	}
	for k := 0; ; k += step {
		fs := disk.Clone()
		fs.CrashAt(k)
		db, err := Open("", &Options{MemoryLimit: 8000, GraphMin: 8, Workers: 1, fs: fs, reserve: 600})
		if err == nil {
			db.jobs.stop()
		}
		cut := fs.Crashed()
		for _, keep := range []int{0, 50, 100} {
			left := fs.CrashWith(rand.New(rand.NewPCG(uint64(k), uint64(keep))), faultfs.Cut{Sector: 512, Keep: keep})
			if err := reopened(left, nil, m, m); err != nil {
				t.Fatalf("power cut at operation %d, %d %% kept: %v", k, keep, err)
			}
		}
		if err == nil {
			db.Close()
		}
		if !cut {
			if k < 50 {
				t.Fatalf("only %d operations", k)
			}
			return
		}
	}
}

// Readers share a store, a writer has it alone; what holds no lock file can
// be read all the same.
func TestReadersAndWriters(t *testing.T) {
	ctx := t.Context()
	disk := faultfs.New(1)
	reader := func() (*DB, error) { return Open("", &Options{ReadOnly: true, fs: disk}) }
	db := openOn(t, disk, Options{})
	newCollection(t, db, "c")
	if _, err := reader(); !errors.Is(err, ErrLocked) {
		t.Errorf("a reader beside a writer: %v", err)
	}
	check(t, db.Close())
	one, err := reader()
	check(t, err)
	two, err := reader()
	check(t, err)
	check(t, one.Close())
	if _, err := Open("", &Options{fs: disk}); !errors.Is(err, ErrLocked) {
		t.Errorf("a writer beside a reader: %v", err)
	}
	check(t, two.Close())
	check(t, openOn(t, disk, Options{}).Close())
	check(t, disk.Remove("LOCK"))
	three, err := reader()
	check(t, err)
	if n, err := three.Default().Count(ctx); n != 1 || err != nil {
		t.Errorf("%d collections, %v", n, err)
	}
	check(t, three.Close())
	if slices.Contains(disk.Files(), "LOCK") || disk.Handles() != 0 {
		t.Errorf("files %v, %d handles are open", disk.Files(), disk.Handles())
	}
}

// Of the files a reader meets it changes none, and none is made: bytes, names
// and times are what they were, the rest of a crashed writer included.
func TestReadOnlyTouchesNothing(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	root, err := vfs.Open(dir)
	check(t, err)
	disk := faultfs.New(1)
	db := openOn(t, disk, Options{GraphMin: 4})
	m, _, err := tour(ctx, db)
	check(t, err)
	check(t, disk.Mkdir("tmp"))
	f, err := disk.Create("tmp/left-over")
	check(t, errors.Join(err, f.Close()))
	check(t, disk.Export(root))
	check(t, root.Close())
	db.Close()
	before := treeOf(t, dir)
	db, err = Open(dir, &Options{ReadOnly: true})
	check(t, err)
	if d, err := m.diff(ctx, db, ""); d != "" || err != nil {
		t.Error(d, err)
	}
	check(t, findEverything(ctx, db, m))
	check(t, db.Close())
	if after := treeOf(t, dir); !slices.Equal(before, after) {
		t.Errorf("before\n%s\nafter\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
}

// treeOf lists everything below dir with mode, time and checksum.
func treeOf(t *testing.T, dir string) (lines []string) {
	t.Helper()
	check(t, filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		sum := uint32(0)
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			sum = crc32.ChecksumIEEE(b)
		}
		lines = append(lines, fmt.Sprintln(name, info.Mode(), info.ModTime().UnixNano(), info.Size(), sum))
		return nil
	}))
	return lines
}
