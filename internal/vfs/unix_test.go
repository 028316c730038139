//go:build unix

package vfs_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/chromad/chromad/internal/vfs"
)

// TestSpecialFiles: a fifo or link in the place of a file is refused, without
// waiting for somebody to write to the fifo.
func TestSpecialFiles(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(outside, []byte("secret"), 0o600))
	dir := t.TempDir()
	must(t,
		os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600),
		os.Symlink(outside, filepath.Join(dir, "out")),
		os.Symlink("file", filepath.Join(dir, "in")),
		os.Symlink("nothing", filepath.Join(dir, "dangling")),
		os.Symlink(filepath.Dir(outside), filepath.Join(dir, "outdir")),
		syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	r, err := vfs.Open(dir)
	must(t, err)
	defer r.Close()
	for _, name := range []string{"out", "in", "dangling", "fifo", "outdir", "outdir/secret"} {
		for call, err := range map[string]error{
			"open": second(r.Open(name)), "openwrite": second(r.OpenWrite(name)), "map": second(r.Map(name, 0)),
			"lock": second(r.Lock(name, "")), "create": second(r.Create(name)),
		} {
			if err == nil {
				t.Errorf("%s of %s succeeded", call, name)
			}
		}
		if i, err := r.Stat(name); err == nil && (i.Regular || i.Dir) {
			t.Errorf("%s is %+v", name, i)
		}
	}
	for _, name := range []string{"fifo", "outdir"} {
		if _, err := r.List(name); err == nil {
			t.Errorf("listed %s", name)
		}
		if r.SyncDir(name) == nil && name == "outdir" {
			t.Errorf("synced %s", name)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "nothing")); err == nil {
		t.Error("a dangling link was created through")
	}
	infos, err := r.List(".")
	must(t, err)
	for _, i := range infos {
		if i.Regular != (i.Name == "file") || i.Dir {
			t.Errorf("listed as %+v", i)
		}
	}
	must(t, r.Remove("fifo"), r.Remove("out"))
	if _, err := os.Stat(outside); err != nil {
		t.Error("removing a link removed its target")
	}
}

func TestModes(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := t.TempDir()
	r, err := vfs.Open(dir)
	must(t, err)
	defer r.Close()
	must(t, r.Mkdir("d"))
	put(t, r, "d/f", "")
	l, err := r.Lock("LOCK", "")
	must(t, err)
	defer l.Close()
	for name, want := range map[string]os.FileMode{"d": 0o700, "d/f": 0o600, "LOCK": 0o600} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != want {
			t.Errorf("mode of %s is %v, %v", name, st.Mode().Perm(), err)
		}
	}
}

// TestDiskFull uses the device that is always full.
func TestDiskFull(t *testing.T) {
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full here")
	}
	defer f.Close()
	_, err = f.Write([]byte("x"))
	for _, err := range []error{vfs.Wrap(err), vfs.Wrap(syscall.EDQUOT), vfs.Wrap(syscall.EFBIG)} {
		is(t, "as ours", err, vfs.ErrNoSpace)
		if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) && !errors.Is(err, syscall.EFBIG) {
			t.Errorf("the cause is gone: %v", err)
		}
	}
	for _, err := range []error{syscall.EMFILE, syscall.ENFILE} {
		is(t, "no handle", vfs.Wrap(err), vfs.ErrNoHandle)
	}
	_, err = vfs.Anonymous(math.MaxInt / 2)
	is(t, "no address space", err, vfs.ErrNoHandle)
	if errors.Is(vfs.Wrap(syscall.EIO), vfs.ErrNoHandle) || errors.Is(vfs.Wrap(syscall.EIO), vfs.ErrNoSpace) || vfs.Wrap(nil) != nil {
		t.Error("something else is taken for a full disk")
	}
}
