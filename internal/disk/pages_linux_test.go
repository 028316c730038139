package disk_test

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

// TestLargePages: large pages are asked for where files in the clear are mapped, as long
// as the budget has room for the whole of them.
func TestLargePages(t *testing.T) {
	dir := t.TempDir()
	fsys, err := vfs.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer fsys.Close()
	write := func(name string, keys testKeys, n int) disk.Info {
		info, err := disk.WriteFile(fsys, name, header(), keys, writeTo([]part{{3, 64 << 10, make([]byte, n)}}))
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	gcm := newGCM(t)
	plain, small, sealed := write("plain", seal.Plain(), 5<<20), write("small", seal.Plain(), 1<<20), write("sealed", gcm, 5<<20)
	open := func(name string, info disk.Info, keys testKeys, b *disk.Budget) *disk.File {
		f, err := disk.OpenFile(fsys, name, header(), info, keys)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		f.Share(b)
		return f
	}
	expect := func(what, name string, want bool) {
		t.Helper()
		if got := asked(t, dir, name); got != want {
			t.Errorf("%s: large pages asked for: %v", what, got)
		}
	}
	open("small", small, seal.Plain(), nil)
	expect("a small file", "small", false)
	open("sealed", sealed, gcm, nil)
	expect("a sealed file", "sealed", false)

	b := disk.NewBudget(11 << 20)
	first := open("plain", plain, seal.Plain(), b)
	expect("room for it", "plain", true)
	for range 2 { // closed again, a file gives back what it took once
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
	}
	expect("closed", "plain", false)

	write("second", seal.Plain(), 5<<20)
	write("third", seal.Plain(), 5<<20)
	open("plain", plain, seal.Plain(), b)
	second := open("second", disk.Info{}, seal.Plain(), b)
	open("third", disk.Info{}, seal.Plain(), b)
	expect("room for two", "second", true)
	expect("no room for three", "third", false)
	free := b.Reserve(2 << 20)
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	expect("not beside what is held", "third", false)
	write("fourth", seal.Plain(), 5<<20)
	fourth := open("fourth", disk.Info{}, seal.Plain(), b)
	expect("not beside what is held", "fourth", false)
	free()
	write("small too", seal.Plain(), 4<<20)
	if err := open("small too", disk.Info{}, seal.Plain(), b).Close(); err != nil {
		t.Fatal(err)
	}
	expect("room again, for who came first", "third", true)
	expect("room again, for who came first", "fourth", false)
	if err := fourth.Close(); err != nil { // while it waits
		t.Fatal(err)
	}
}

// asked reports whether large pages were asked for where the file is mapped.
func asked(t *testing.T, dir, name string) (large bool) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	at, flags := "", false
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		fields := strings.Fields(s.Text())
		switch {
		case len(fields) > 0 && fields[0] == "VmFlags:":
			flags = true
			for _, f := range fields[1:] {
				large = large || f == "hg" && at == filepath.Join(dir, name)
			}
		case len(fields) >= 6 && !strings.HasSuffix(fields[0], ":"):
			at = fields[5]
		case len(fields) == 5 && !strings.HasSuffix(fields[0], ":"):
			at = ""
		}
	}
	if !flags {
		t.Skip("the kernel does not tell what was asked")
	}
	return large
}
