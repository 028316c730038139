package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/chromad/chromad/engine"
)

// fingerprint is everything about a tree that a write would change: names,
// modes, times of change, and bytes.
func fingerprint(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		change := st.Sys().(*syscall.Stat_t).Ctim
		fmt.Fprintln(&b, name, st.Mode(), st.Size(), st.ModTime().UnixNano(), change.Nano())
		if !d.IsDir() {
			text, err := os.ReadFile(name)
			fmt.Fprintf(&b, "%x\n", sha256.Sum256(text))
			return err
		}
		return nil
	}))
	return b.String()
}

// readOnlyRecords are in the store of readOnlyStore: some in segments, some
// in the log alone, some deleted in either.
const readOnlyRecords = 137

// readOnlyStore is a copy of what a server has on disk in the middle of its
// life; killed: of what it left when it was killed.
func readOnlyStore(t testing.TB, into string, killed bool) {
	t.Helper()
	from := t.TempDir()
	p := spawn(t, from, "--memtable-rows", "50")
	docs := makeCollection(t, p, "docs")
	for n := range readOnlyRecords {
		body, err := json.Marshal(map[string]any{"ids": []string{fmt.Sprint(n)}, "embeddings": [][]float32{vector(n)[:8]}, "documents": []string{text(n)}})
		must(t, err)
		p.must(t, "POST", docs+"/add", string(body))
	}
	p.must(t, "POST", docs+"/delete", `{"ids":["3","130"]}`)
	if killed {
		p.kill()
	} else {
		must(t, p.cmd.Process.Signal(syscall.SIGSTOP))
	}
	must(t, os.Remove(filepath.Join(from, adminSocket))) // it is no part of the store, and cannot be copied
	must(t, os.CopyFS(into, os.DirFS(from)))
	p.kill()
}

// readOnly opens dir for reading, twice at once, wants everything to be
// there, and not a trace of the visit.
func readOnly(t testing.TB, dir string) {
	t.Helper()
	ctx, before := t.Context(), fingerprint(t, dir)
	var dbs [2]*engine.DB
	for i := range dbs {
		db, err := engine.Open(dir, &engine.Options{ReadOnly: true})
		must(t, err)
		dbs[i] = db
	}
	for _, db := range dbs {
		c, err := db.Default().Collection(ctx, "docs")
		must(t, err)
		seen := 0
		for r, err := range c.Get(ctx, engine.Selection{}, engine.IncludeAll) {
			must(t, err)
			var n int
			fmt.Sscan(r.ID, &n)
			if r.ID == "3" || r.ID == "130" || *r.Document != text(n) || r.Embedding[0] != float32(n) {
				t.Errorf("%s: %v %q", r.ID, r.Embedding, *r.Document)
			}
			found, err := c.Query(ctx, r.Embedding, 1, nil)
			if err != nil || len(found) != 1 || found[0].ID != r.ID || found[0].Distance != 0 {
				t.Errorf("nearest to %s: %v, %v", r.ID, found, err)
			}
			seen++
		}
		if seen != readOnlyRecords-2 {
			t.Errorf("%d records, want %d", seen, readOnlyRecords-2)
		}
		_, deleted := c.Delete(ctx, engine.Selection{IDs: []string{"1"}})
		_, created := db.Default().Create(ctx, "more", engine.Spec{})
		for what, err := range map[string]error{
			"add": c.Add(ctx, engine.Record{ID: "x", Embedding: vector(1)[:8]}), "delete": deleted, "create": created,
			"flush": db.Flush(ctx), "compact": db.Compact(ctx), "reset": db.Reset(ctx),
		} {
			if !errors.Is(err, engine.ErrReadOnly) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	for _, db := range dbs {
		must(t, db.Close())
	}
	if after := fingerprint(t, dir); after != before {
		t.Errorf("the tree has changed:\n%s\nbefore:\n%s", after, before)
	}
}

// Opened for reading, a store is not changed in any way: not the files of a
// server that runs, not those that need a replay.
func TestReadOnly(t *testing.T) {
	for _, killed := range []bool{false, true} {
		dir := t.TempDir()
		readOnlyStore(t, dir, killed)
		readOnly(t, dir)
	}
}

// powerless gives up, for the thread of the test, what lets root write where
// nobody may.
func powerless(t testing.TB) {
	t.Helper()
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	must(t, unix.Capset(&header, &none[0]))
}

// The directory and everything in it may only be read.
func TestReadOnlyDirectory(t *testing.T) {
	if !again(t, nil) {
		return
	}
	dir := filepath.Join(t.TempDir(), "store")
	readOnlyStore(t, dir, true)
	chmod := func(of fs.FileMode) {
		must(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				return os.Chmod(name, of&0o666)
			}
			return errors.Join(err, os.Chmod(name, of))
		}))
	}
	chmod(0o555)
	defer chmod(0o755)
	powerless(t)
	if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); !errors.Is(err, fs.ErrPermission) {
		t.Fatalf("the directory can be written to: %v", err)
	}
	readOnly(t, dir)
	before := fingerprint(t, dir)
	if _, err := engine.Open(dir, nil); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("opened for writing: %v", err)
	}
	if fingerprint(t, dir) != before {
		t.Error("an open for writing that failed has changed the tree")
	}
}

// The file system is mounted for reading only.
func TestReadOnlyMount(t *testing.T) {
	if !again(t, ownMounts) {
		return
	}
	dir := smallDisk(t, 16<<20)
	readOnlyStore(t, dir, true)
	must(t, syscall.Mount("none", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	readOnly(t, dir)
	if _, err := engine.Open(dir, nil); !errors.Is(err, syscall.EROFS) {
		t.Errorf("opened for writing: %v", err)
	}
}

// A store is open once at a time, whoever asks, and free again as soon as the
// process that had it is gone.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	p := spawn(t, dir)
	if _, err := engine.Open(dir, nil); !errors.Is(err, engine.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint("pid ", p.cmd.Process.Pid)) {
		t.Errorf("while a server has it: %v", err)
	}
	if _, err := engine.Open(dir, &engine.Options{ReadOnly: true}); !errors.Is(err, engine.ErrLocked) {
		t.Errorf("for reading, while a server has it: %v", err)
	}
	p.kill()
	reader, err := engine.Open(dir, &engine.Options{ReadOnly: true})
	must(t, err)
	if _, err := engine.Open(dir, nil); !errors.Is(err, engine.ErrLocked) {
		t.Errorf("while it is read: %v", err)
	}
	must(t, reader.Close())
	db, err := engine.Open(dir, nil)
	must(t, err)
	if _, err := engine.Open(dir, nil); !errors.Is(err, engine.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint("pid ", os.Getpid())) {
		t.Errorf("while this process has it: %v", err)
	}
	other, log := launch(t, dir)
	for log.Scan() && !readyLine.MatchString(log.Text()) {
		other.note(log.Text())
	}
	other.cmd.Process.Kill() // if it is ready, which it must not be
	other.follow(log)
	if other.cmd.ProcessState.ExitCode() != exitFailed || !strings.Contains(other.logged(), "one server at a time") {
		t.Errorf("a server beside it: %v, %s", other.cmd.ProcessState, other.logged())
	}
	must(t, db.Close())
	spawn(t, dir)
}
