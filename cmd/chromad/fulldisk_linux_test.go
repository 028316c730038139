package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/chromad/chromad/engine"
)

// ownMounts makes the process see mounts of its own, as root of itself.
func ownMounts(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
}

// smallDisk is a file system of so many bytes, of its own.
func smallDisk(t testing.TB, bytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Skipf("a file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

const page = 4096 // the unit of a tmpfs

// fillUp leaves so many free pages on the disk of dir and returns how to give
// the others back.
func fillUp(t testing.TB, dir string, free int) (giveBack func()) {
	t.Helper()
	name := filepath.Join(dir, "ballast")
	f, err := os.Create(name)
	must(t, err)
	size := int64(0)
	for b := make([]byte, page); err == nil; {
		var n int
		n, err = f.Write(b)
		size += int64(n)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	must(t, f.Truncate(max(0, size/page-int64(free))*page))
	must(t, f.Close())
	return func() { must(t, os.Remove(name)) }
}

// store is an engine on a small disk, and what it acknowledged: the numbers of
// the documents by id.
type store struct {
	db   *engine.DB
	c    *engine.Collection
	want map[string]int
	next int
}

func openStore(t testing.TB, dir string, o engine.Options, want map[string]int) *store {
	t.Helper()
	db, err := engine.Open(dir, &o)
	must(t, err)
	c, _, err := db.Default().GetOrCreate(t.Context(), "docs", engine.Spec{})
	must(t, err)
	return &store{db: db, c: c, want: want, next: len(want)}
}

func text(n int) string { return strings.Repeat(fmt.Sprintf("document %d. ", n), 40) }

// vector is large enough for segments that the engine's reserve does not hold.
func vector(n int) []float32 {
	v := make([]float32, 2048)
	v[0] = float32(n)
	return v
}

func (s *store) add(ctx context.Context, n int) error {
	var recs []engine.Record
	for i := range n {
		recs = append(recs, engine.Record{ID: fmt.Sprint(s.next + i), Embedding: vector(s.next + i), Document: engine.Optional(text(s.next + i))})
	}
	err := s.c.Add(ctx, recs...)
	if err == nil {
		for i := range n {
			s.want[fmt.Sprint(s.next+i)] = s.next + i
		}
	}
	s.next += n
	return err
}

func (s *store) remove(ctx context.Context, ids ...string) error {
	_, err := s.c.Delete(ctx, engine.Selection{IDs: ids})
	if err == nil {
		for _, id := range ids {
			delete(s.want, id)
		}
	}
	return err
}

// verify wants what was acknowledged to be there, all of it and nothing else,
// by id and by vector.
func (s *store) verify(t testing.TB, when string) {
	t.Helper()
	ctx, seen := t.Context(), 0
	for r, err := range s.c.Get(ctx, engine.Selection{}, engine.IncludeAll) {
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if n, known := s.want[r.ID]; !known || *r.Document != text(n) || !slices.Equal(r.Embedding, vector(n)) {
			t.Errorf("%s: %s: acknowledged: %t, or not what was written", when, r.ID, known)
		}
		seen++
	}
	if seen != len(s.want) {
		t.Errorf("%s: %d records, %d were acknowledged", when, seen, len(s.want))
	}
	for id, n := range s.want {
		found, err := s.c.Query(ctx, vector(n), 1, nil)
		if err != nil || len(found) != 1 || found[0].ID != id || found[0].Distance != 0 {
			t.Errorf("%s: nearest to %s: %v, %v", when, id, found, err)
		}
	}
}

// eventually tries again what meets a disk that the store is about to make room
// on in the background.
func eventually(f func() error) (err error) {
	for range 10000 {
		if err = f(); !errors.Is(err, engine.ErrDiskFull) {
			return err
		}
		runtime.Gosched()
	}
	return err
}

// full wants an error to be none, or that the disk is full.
func full(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, engine.ErrDiskFull) {
		t.Errorf("%s: %v", what, err)
	}
}

// A file system has so few pages left, one more each time: whatever is refused
// changes nothing, deletions go through, and what was refused succeeds when
// there is room again.
func TestFullDisk(t *testing.T) {
	if !again(t, ownMounts) {
		return
	}
	ctx := t.Context()
	refused := [3]int{}
	step := 1 // larger ones later: an entry needs few pages, a merge hundreds
	for free := 0; ; free += step {
		if testing.Short() {
			step = 50
		} else if free >= 8 {
			step = 13
		}
		dir := smallDisk(t, 16<<20)
		s := openStore(t, dir, engine.Options{}, map[string]int{})
		for range 2 {
			must(t, s.add(ctx, 80))
			must(t, s.db.Flush(ctx))
		}
		must(t, s.remove(ctx, "3", "90"))
		must(t, s.add(ctx, 10))
		when := fmt.Sprintf("%d pages free", free)
		giveBack := fillUp(t, dir, free)
		added := s.add(ctx, 1)
		for n := 0; free == 0 && added == nil && n < 2000; n++ { // what a file left that was removed in the background
			added = s.add(ctx, 1)
		}
		full(t, when+": add", added)
		must(t, s.remove(ctx, "4", "91", "165"))
		flushed := s.db.Flush(ctx)
		full(t, when+": flush", flushed)
		s.verify(t, when)
		merged := s.db.Compact(ctx)
		full(t, when+": compact", merged)
		full(t, when+": add", s.add(ctx, 1))
		must(t, s.db.Err())
		s.verify(t, when)
		if free%2 == 0 {
			giveBack()
			must(t, eventually(func() error { return s.db.Compact(ctx) }))
			must(t, eventually(func() error { return s.add(ctx, 5) }))
			s.verify(t, when+", room again")
			must(t, s.db.Close())
		} else {
			full(t, when+": close", s.db.Close())
			giveBack()
		}
		s = openStore(t, dir, engine.Options{}, s.want)
		s.verify(t, when+", opened again")
		must(t, s.db.Compact(ctx))
		if files, err := filepath.Glob(filepath.Join(dir, "seg", "*")); err != nil || len(files) != s.db.Stats().Segments {
			t.Errorf("%s: segments %v, the store has %d; %v", when, files, s.db.Stats().Segments, err)
		}
		must(t, s.db.Close())
		must(t, syscall.Unmount(dir, 0))
		for i, err := range []error{added, flushed, merged} {
			if err != nil {
				refused[i]++
			}
		}
		if t.Failed() || added == nil && flushed == nil && merged == nil {
			t.Logf("everything succeeds with %s; before, refused were %d writes, %d flushes, %d compactions", when, refused[0], refused[1], refused[2])
			break
		}
	}
	if refused[0] == 0 || refused[2] == 0 {
		t.Error("the disk was never full")
	}
}

// A store fills its disk by itself, flushing and merging as it goes, is deleted
// from and filled again. What was acknowledged is there all the time.
func TestFullDiskByWriting(t *testing.T) {
	if !again(t, ownMounts) {
		return
	}
	ctx := t.Context()
	dir := smallDisk(t, 4<<20)
	o := engine.Options{MemtableRows: 16, LogLimit: 256 << 10}
	s := openStore(t, dir, o, map[string]int{})
	for round := range 5 {
		refused := 0
		for refused < 20 {
			if err := s.add(ctx, 1+round); errors.Is(err, engine.ErrDiskFull) {
				refused++
			} else {
				must(t, err)
			}
		}
		when := fmt.Sprintf("full for time %d", round+1)
		s.verify(t, when)
		must(t, s.db.Err())
		ids := slices.Sorted(maps.Keys(s.want))
		must(t, s.remove(ctx, ids[:len(ids)*2/3]...))
		s.verify(t, when+", deleted from")
		must(t, eventually(func() error { return s.db.Compact(ctx) }))
		must(t, eventually(func() error { return s.add(ctx, 5) }))
		s.verify(t, when+", with room again")
		full(t, when+": close", s.db.Close())
		s = openStore(t, dir, o, s.want)
		s.verify(t, when+", opened again")
	}
	must(t, s.db.Close())
}

// The server fills its disk, says so, is killed, and starts on the full disk.
func TestFullDiskServer(t *testing.T) {
	if !again(t, ownMounts) {
		return
	}
	dir := smallDisk(t, 4<<20)
	p := spawn(t, dir, "--memtable-rows", "30")
	docs := makeCollection(t, p, "docs")
	promised := map[string]bool{}
	refused := 0
	for n := 0; refused < 20; n++ {
		id := fmt.Sprint(n)
		status, answer, err := p.do("POST", docs+"/add", addBody(id, 4000))
		must(t, err)
		answered(t, promised, id, status, answer, http.StatusInsufficientStorage)
		if status != http.StatusCreated {
			refused++
		}
		if t.Failed() {
			t.Fatal(p.logged())
		}
	}
	agree(t, "full", idsIn(t, p, docs), promised)
	p.kill()
	p = spawn(t, dir, "--memtable-rows", "30")
	agree(t, "full, killed and started again", idsIn(t, p, docs), promised)
	for id, there := range promised {
		if there && len(id)%2 == 1 {
			p.must(t, "POST", docs+"/delete", fmt.Sprintf(`{"ids":[%q]}`, id))
			promised[id] = false
		}
	}
	agree(t, "deleted from", idsIn(t, p, docs), promised)
	p.kill()
	p = spawn(t, dir)
	agree(t, "deleted from, killed and started again", idsIn(t, p, docs), promised)
}
