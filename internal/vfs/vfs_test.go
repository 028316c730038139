package vfs_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// both runs a test on the real file system and on the model, which must not
// differ in what a program can see.
func both(t *testing.T, test func(t *testing.T, fsys vfs.FS)) {
	t.Run("os", func(t *testing.T) {
		r, err := vfs.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		test(t, r)
	})
	t.Run("faultfs", func(t *testing.T) { test(t, faultfs.New(1)) })
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func is(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func put(t testing.TB, fsys vfs.FS, name, content string) {
	t.Helper()
	f, err := fsys.Create(name)
	must(t, err)
	_, err = f.Write([]byte(content))
	must(t, err, f.Sync(), f.Close())
}

func content(t testing.TB, fsys vfs.FS, name string) string {
	t.Helper()
	f, err := fsys.Open(name)
	must(t, err)
	size, err := f.Size()
	must(t, err)
	b := make([]byte, size)
	_, err = f.ReadAt(b, 0)
	must(t, err, f.Close())
	return string(b)
}

func TestCreateReadWrite(t *testing.T) {
	both(t, func(t *testing.T, fsys vfs.FS) {
		put(t, fsys, "a", "hello")
		_, err := fsys.Create("a")
		is(t, "create again", err, fs.ErrExist)
		_, err = fsys.Open("b")
		is(t, "open missing", err, fs.ErrNotExist)
		_, err = fsys.OpenWrite("b")
		is(t, "open missing for writing", err, fs.ErrNotExist)
		_, err = fsys.Create("no/a")
		is(t, "create in a missing directory", err, fs.ErrNotExist)

		f, err := fsys.OpenWrite("a")
		must(t, err)
		_, err = f.Write([]byte(" wo"))
		must(t, err)
		_, err = f.Write([]byte("rld"))
		must(t, err)
		if size, err := f.Size(); err != nil || size != 11 {
			t.Errorf("size is %d, %v", size, err)
		}
		must(t, f.Truncate(8))
		_, err = f.Write([]byte("W"))
		must(t, err)
		p := make([]byte, 4)
		n, err := f.ReadAt(p, 6)
		if n != 3 || err != io.EOF || string(p[:n]) != "woW" {
			t.Errorf("ReadAt across the end: %q, %v", p[:n], err)
		}
		n, err = f.ReadAt(p, 100)
		if n != 0 || err != io.EOF {
			t.Errorf("ReadAt behind the end: %d, %v", n, err)
		}
		must(t, f.Truncate(12), f.Close())
		if got := content(t, fsys, "a"); got != "hello woW\x00\x00\x00" {
			t.Errorf("content is %q", got)
		}
		if f.Close() == nil {
			t.Error("closed twice without an error")
		}
		r, err := fsys.Open("a")
		must(t, err)
		if _, err := r.Write([]byte("x")); err == nil {
			t.Error("wrote to a file opened for reading")
		}
		must(t, r.Close())
	})
}

func TestRename(t *testing.T) {
	both(t, func(t *testing.T, fsys vfs.FS) {
		must(t, fsys.Mkdir("d"))
		put(t, fsys, "a", "A")
		put(t, fsys, "d/b", "B")
		is(t, "onto a file", fsys.Rename("a", "d/b"), fs.ErrExist)
		is(t, "onto a directory", fsys.Rename("a", "d"), fs.ErrExist)
		is(t, "of nothing", fsys.Rename("x", "y"), fs.ErrNotExist)
		is(t, "to nowhere", fsys.Rename("a", "e/a"), fs.ErrNotExist)
		if content(t, fsys, "a") != "A" || content(t, fsys, "d/b") != "B" {
			t.Error("a rename that failed changed something")
		}
		f, err := fsys.OpenWrite("a")
		must(t, err, fsys.Rename("a", "d/c"), fsys.Rename("d/c", "d/e"))
		_, err = f.Write([]byte("!"))
		must(t, err, f.Close(), fsys.SyncDir("d"), fsys.SyncDir("."))
		if got := content(t, fsys, "d/e"); got != "A!" {
			t.Errorf("content is %q", got)
		}
		_, err = fsys.Stat("a")
		is(t, "the old name", err, fs.ErrNotExist)
	})
}

func TestDirectories(t *testing.T) {
	both(t, func(t *testing.T, fsys vfs.FS) {
		must(t, fsys.Mkdir("d"), fsys.Mkdir("d"), fsys.Mkdir("d/e"))
		put(t, fsys, "f", "12345")
		is(t, "mkdir over a file", fsys.Mkdir("f"), fs.ErrExist)
		is(t, "mkdir in nothing", fsys.Mkdir("x/y"), fs.ErrNotExist)
		is(t, "sync of nothing", fsys.SyncDir("x"), fs.ErrNotExist)
		_, err := fsys.List("x")
		is(t, "list of nothing", err, fs.ErrNotExist)
		if _, err := fsys.List("f"); err == nil {
			t.Error("listed a file")
		}
		infos, err := fsys.List(".")
		must(t, err)
		if len(infos) != 2 || infos[0] != (vfs.Info{Name: "d", Dir: true, Size: infos[0].Size}) ||
			infos[1] != (vfs.Info{Name: "f", Size: 5, Regular: true}) {
			t.Errorf("list is %+v", infos)
		}
		if i, err := fsys.Stat("d/e"); err != nil || i.Name != "e" || !i.Dir || i.Regular {
			t.Errorf("stat is %+v, %v", i, err)
		}
		if i, err := fsys.Stat("."); err != nil || !i.Dir {
			t.Errorf("stat of the root is %+v, %v", i, err)
		}
		for _, call := range []error{fsys.Remove("d"), second(fsys.Open("d")), second(fsys.OpenWrite("d")), second(fsys.Map("d", 0))} {
			if call == nil {
				t.Error("a directory was taken for a file")
			}
		}
		is(t, "remove of nothing", fsys.Remove("x"), fs.ErrNotExist)
		must(t, fsys.Remove("f"))
		_, err = fsys.Stat("f")
		is(t, "stat after remove", err, fs.ErrNotExist)
	})
}

func second[T any](_ T, err error) error { return err }

func TestMap(t *testing.T) {
	both(t, func(t *testing.T, fsys vfs.FS) {
		put(t, fsys, "a", "hello")
		put(t, fsys, "empty", "")
		for _, c := range []struct {
			name string
			size int64
			want string
		}{{"a", 5, "hello"}, {"a", 2, "he"}, {"a", 0, ""}, {"empty", 0, ""}} {
			m, err := fsys.Map(c.name, c.size)
			must(t, err)
			if string(m.Bytes()) != c.want {
				t.Errorf("map of %s: %q", c.name, m.Bytes())
			}
			must(t, m.Close(), m.Close())
		}
		is(t, "longer than the file", second(fsys.Map("a", 6)), io.ErrUnexpectedEOF)
		is(t, "absurd", second(fsys.Map("a", 1<<62)), io.ErrUnexpectedEOF)
		if second(fsys.Map("a", -1)) == nil {
			t.Error("mapped a negative size")
		}
		// A mapping outlives name and handle.
		m, err := fsys.Map("a", 5)
		must(t, err, fsys.Remove("a"))
		if string(m.Bytes()) != "hello" {
			t.Errorf("after remove: %q", m.Bytes())
		}
		must(t, m.Close())
	})
}

func TestNames(t *testing.T) {
	both(t, func(t *testing.T, fsys vfs.FS) {
		put(t, fsys, "a", "")
		for _, name := range []string{"", "/a", "../a", "d/../a", "a/", "a//b", "./a", "/etc/passwd"} {
			for _, err := range []error{
				second(fsys.Create(name)), second(fsys.Open(name)), second(fsys.OpenWrite(name)), fsys.Rename("a", name),
				fsys.Rename(name, "b"), fsys.Remove(name), second(fsys.List(name)), second(fsys.Stat(name)), fsys.Mkdir(name),
				fsys.SyncDir(name), second(fsys.Lock(name, "")), second(fsys.Map(name, 0)),
			} {
				is(t, name, err, fs.ErrInvalid)
			}
		}
	})
}

func TestLock(t *testing.T) {
	both(t, func(t *testing.T, fsys vfs.FS) {
		l, err := fsys.Lock("LOCK", "the first")
		must(t, err)
		_, err = fsys.Lock("LOCK", "the second")
		is(t, "second lock", err, vfs.ErrLocked)
		if err == nil || !strings.Contains(err.Error(), "the first") {
			t.Errorf("the holder is not named: %v", err)
		}
		other, err := fsys.Lock("LOCK2", "")
		must(t, err, other.Close(), l.Close())
		l, err = fsys.Lock("LOCK", "the third")
		must(t, err)
		_, err = fsys.LockShared("LOCK")
		is(t, "shared beside exclusive", err, vfs.ErrLocked)
		must(t, l.Close())
		_, err = fsys.LockShared("LOCK3")
		is(t, "shared lock of nothing", err, fs.ErrNotExist)
		one, err := fsys.LockShared("LOCK")
		must(t, err)
		two, err := fsys.LockShared("LOCK")
		must(t, err, one.Close())
		_, err = fsys.Lock("LOCK", "beside a reader")
		is(t, "exclusive beside shared", err, vfs.ErrLocked)
		must(t, two.Close())
		l, err = fsys.Lock("LOCK", "after the readers")
		must(t, err, l.Close())
	})
}

func TestOpenDirectory(t *testing.T) {
	dir := t.TempDir()
	_, err := vfs.Open(filepath.Join(dir, "missing"))
	is(t, "open of nothing", err, fs.ErrNotExist)
	put, err := vfs.Make(filepath.Join(dir, "a", "b"))
	must(t, err, put.Close())
	again, err := vfs.Make(filepath.Join(dir, "a", "b"))
	must(t, err, again.Close())
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	for _, name := range []string{"file", "file/below"} {
		if r, err := vfs.Make(filepath.Join(dir, name)); err == nil {
			r.Close()
			t.Errorf("made a directory of %s", name)
		}
	}
	must(t, os.MkdirAll(filepath.Join(dir, "a", "b"), 0o700))
	if st, err := os.Stat(filepath.Join(dir, "a")); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("mode of a made directory: %v, %v", st.Mode(), err)
	}
}

func TestAnonymous(t *testing.T) {
	for _, size := range []int{0, 1, 100_000} {
		m, err := vfs.Anonymous(size)
		must(t, err)
		b := m.Bytes()
		if len(b) != size {
			t.Fatalf("%d bytes of %d", len(b), size)
		}
		for i := range b {
			if b[i] != 0 {
				t.Fatalf("byte %d is %d", i, b[i])
			}
			b[i] = 1
		}
		must(t, m.Close(), m.Close())
	}
}

// TestForget: pages given back are gone, those around them are not.
func TestForget(t *testing.T) {
	page := vfs.PageSize()
	m, err := vfs.Anonymous(5*page + 7)
	must(t, err)
	m.Fill()
	for i := range m.Bytes() {
		m.Bytes()[i] = 1
	}
	m.Join(1, 5*page+7)
	m.Join(7, 8)
	m.Join(0, 0)
	m.Forget(page, 3*page)
	m.Forget(5*page, 5*page+7)
	m.Forget(page, page)
	for i, b := range m.Bytes() {
		if gone := i/page == 1 || i/page == 2 || i/page == 5; gone != (b == 0) {
			t.Fatalf("byte %d of page %d is %d", i, i/page, b)
		}
	}
	must(t, m.Close())
}

// TestMain is the other process of TestLockAcrossProcesses when told so.
func TestMain(m *testing.M) {
	if dir := os.Getenv("VFS_TEST_LOCK"); dir != "" {
		r, err := vfs.Open(dir)
		if err == nil {
			_, err = r.Lock("LOCK", "child")
		}
		if err != nil {
			os.Stdout.WriteString(err.Error())
			os.Exit(3)
		}
		os.Stdout.WriteString("locked")
		io.Copy(io.Discard, os.Stdin) // until the parent has seen enough
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestLockAcrossProcesses(t *testing.T) {
	dir := t.TempDir()
	r, err := vfs.Open(dir)
	must(t, err)
	defer r.Close()
	child := func() *exec.Cmd {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), "VFS_TEST_LOCK="+dir)
		return c
	}
	l, err := r.Lock("LOCK", "parent")
	must(t, err)
	out, err := child().Output()
	if x, ok := errors.AsType[*exec.ExitError](err); !ok || x.ExitCode() != 3 || !strings.Contains(string(out), "parent") {
		t.Errorf("the child got %q, %v", out, err)
	}
	must(t, l.Close())

	c := child()
	in, err := c.StdinPipe()
	must(t, err)
	stdout, err := c.StdoutPipe()
	must(t, err, c.Start())
	p := make([]byte, 6)
	_, err = io.ReadFull(stdout, p)
	must(t, err)
	_, err = r.Lock("LOCK", "parent")
	is(t, "while the child holds it", err, vfs.ErrLocked)
	if !strings.Contains(err.Error(), "child") {
		t.Errorf("the child is not named: %v", err)
	}
	must(t, c.Process.Kill())
	in.Close()
	_ = c.Wait() // killed
	l, err = r.Lock("LOCK", "parent")
	must(t, err, l.Close())
}

// TestLinkRename: where the system cannot rename without replacing, linking
// must refuse the same.
func TestLinkRename(t *testing.T) {
	r, err := vfs.Open(t.TempDir())
	must(t, err)
	defer r.Close()
	put(t, r, "a", "A")
	put(t, r, "b", "B")
	is(t, "onto a file", vfs.Link(r, "a", "b"), fs.ErrExist)
	must(t, vfs.Link(r, "a", "c"))
	_, err = r.Stat("a")
	is(t, "the old name", err, fs.ErrNotExist)
	if content(t, r, "b") != "B" || content(t, r, "c") != "A" {
		t.Error("content changed")
	}
}
