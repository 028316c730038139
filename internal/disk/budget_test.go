package disk_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/vfs"
)

// shared is a sealed file under a budget: kind 1 and 2 may be evicted, 3 not.
type shared struct {
	*disk.File
	parts []part
}

func share(t *testing.T, fsys vfs.FS, name string, seed uint64, b *disk.Budget, ps ...part) *shared {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, p := range ps {
		for i := range p.data {
			p.data[i] = byte(1 + rng.IntN(255)) // never zero, which is what evicted memory holds
		}
	}
	s := newGCM(t)
	info, err := disk.WriteFile(fsys, name, header(), s, writeTo(ps))
	if err != nil {
		t.Fatal(err)
	}
	f, err := disk.OpenFile(fsys, name, header(), info, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	f.Share(b, 1, 2)
	return &shared{f, ps}
}

// read compares n bytes at off of a part, as one search.
func (s *shared) read(i, off, n int) error {
	s.Hold()
	defer s.Free()
	sec, _ := s.Section(s.parts[i].kind)
	b, err := sec.Bytes(off, n)
	if err == nil && !bytes.Equal(b, s.parts[i].data[off:off+n]) {
		err = fmt.Errorf("part %d: other bytes at %d+%d", i, off, n)
	}
	return err
}

// visit is read by way of Map, Whole and Touch.
func (s *shared) visit(i, size int, items ...uint32) error {
	s.Hold()
	defer s.Free()
	sec, _ := s.Section(s.parts[i].kind)
	whole := sec.Whole()
	m, err := sec.Map()
	if err != nil {
		return err
	}
	if !whole {
		if err := sec.Touch(items, size); err != nil {
			return err
		}
	}
	for _, it := range items {
		off := int(it) * size
		if !bytes.Equal(m[off:off+size], s.parts[i].data[off:off+size]) {
			return fmt.Errorf("part %d: item %d of %d bytes is another one; whole: %v", i, it, size, whole)
		}
	}
	return nil
}

// TestBudget: what nobody holds goes, the least recently used first, and what
// must stay stays.
func TestBudget(t *testing.T) {
	fsys := tempFS(t)
	const size = 64 << 10
	b := disk.NewBudget(3 * size)
	ps := func() []part {
		return []part{{1, 4096, make([]byte, size)}, {2, 256, make([]byte, size)}, {3, 4096, make([]byte, size)}}
	}
	x, y := share(t, fsys, "x", 1, b, ps()...), share(t, fsys, "y", 2, b, ps()...)
	step := func(err error, want int64) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if b.Used() != want {
			t.Fatalf("%d bytes are decrypted, not %d", b.Used(), want)
		}
	}
	step(x.read(0, 5, 10), 4096)
	step(x.read(0, 0, size), size)
	step(x.read(1, 100, 300), size+2*256)
	step(x.read(2, 0, size), 2*size+2*256)
	x.Hold() // y takes more than there is, and x must not lose what it has
	step(y.read(2, 0, size), 3*size+2*256)
	x.Free()
	if b.Used() > 3*size || b.Used() < 2*size {
		t.Fatalf("%d bytes are decrypted of %d", b.Used(), 3*size)
	}
	step(x.read(2, 0, size), b.Used()) // not evictable: it is there
	step(y.read(2, 0, size), b.Used())
	for range 3 {
		if err := errors.Join(y.read(0, 0, size), x.read(1, 0, size), x.read(0, 0, size), y.read(1, 0, size)); err != nil {
			t.Fatal(err)
		}
		if b.Used() > 3*size {
			t.Fatalf("%d bytes are decrypted of %d", b.Used(), 3*size)
		}
	}
	free := b.Reserve(size)
	if b.Used() > 3*size {
		t.Errorf("%d bytes after a reserve", b.Used())
	}
	free()
	if err := errors.Join(x.Close(), y.Close()); err != nil || b.Used() != 0 {
		t.Errorf("%d bytes after all is closed, %v", b.Used(), err)
	}
	var none *disk.Budget
	none.Reserve(5)()
	if none.Used() != 0 {
		t.Error("no budget is used")
	}
}

// TestBudgetExceeded: a file that alone is larger than the budget answers, and
// what it keeps is what is asked for most.
func TestBudgetExceeded(t *testing.T) {
	const size = 1 << 20
	b := disk.NewBudget(size / 4)
	f := share(t, tempFS(t), "x", 3, b, part{1, 4096, make([]byte, size)})
	if err := f.read(0, 0, size); err != nil { // a scan looks at all of it
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 3))
	for range 500 {
		if b.Used() > size/4 {
			t.Fatalf("%d bytes of %d between two searches", b.Used(), size/4)
		}
		if err := f.visit(0, 1000, uint32(rng.IntN(1000)), uint32(rng.IntN(20))); err != nil {
			t.Fatal(err)
		}
	}
	fsys := tempFS(t)
	small := share(t, fsys, "y", 4, disk.NewBudget(1), part{1, 64, make([]byte, 8192)}, part{3, 64, make([]byte, 100)})
	for range 3 {
		if err := errors.Join(small.read(1, 0, 100), small.read(0, 0, 8192)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWhole: once half of a section was touched the rest follows, damage there
// apart; with no room for it, it does not.
func TestWhole(t *testing.T) {
	for name, s := range sealers(t) {
		data := make([]byte, 40*4096+10)
		rand.NewChaCha8([32]byte{1}).Read(data)
		dir := t.TempDir()
		fsys, err := vfs.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer fsys.Close()
		info, err := disk.WriteFile(fsys, "x", header(), s, writeTo([]part{{1, 4096, data}}))
		if err != nil {
			t.Fatal(err)
		}
		for what, c := range map[string]struct {
			touch  int
			damage int // block
			budget *disk.Budget
			whole  bool
		}{
			"nothing":        {0, -1, nil, false},
			"less than half": {20, -1, nil, false},
			"half":           {21, -1, nil, true},
			"damage":         {21, 33, nil, false},
			"no room":        {21, -1, disk.NewBudget(30 * 4096), s.Overhead() == 0},
		} {
			path := filepath.Join(dir, "x")
			good, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if c.damage >= 0 {
				bad := bytes.Clone(good)
				bad[disk.HeaderSize+c.damage*(4096+s.Overhead())]++
				if err := os.WriteFile(path, bad, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			f, err := disk.OpenFile(fsys, "x", header(), info, s)
			if err != nil {
				t.Fatal(err)
			}
			f.Share(c.budget, 1)
			f.Hold()
			sec, _ := f.Section(1)
			for i := range c.touch {
				if err := sec.Touch([]uint32{uint32(i)}, 4096); err != nil {
					t.Fatal(err)
				}
			}
			if got := sec.Whole(); got != c.whole {
				t.Errorf("%s, %s: %v", name, what, got)
			}
			m, err := sec.Map()
			if err != nil {
				t.Fatal(err)
			}
			if c.whole && !bytes.Equal(m, data) {
				t.Errorf("%s, %s: other bytes", name, what)
			}
			for i := range uint32(40) { // met by those who look there
				if err := sec.Touch([]uint32{i}, 4096); (err != nil) != (int(i) == c.damage) || err != nil && !errors.Is(err, disk.ErrCorrupt) {
					t.Errorf("%s, %s: block %d: %v", name, what, i, err)
				}
			}
			f.Free()
			if err := errors.Join(f.Close(), os.WriteFile(path, good, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestTouchBeyond(t *testing.T) {
	for name, s := range sealers(t) {
		fsys, want := small(t, s)
		f, err := disk.OpenFile(fsys, "f", header(), want, s)
		if err != nil {
			t.Fatal(err)
		}
		sec, _ := f.Section(1) // 200 bytes
		for _, c := range []struct {
			item uint32
			size int
			ok   bool
		}{{0, 200, true}, {1, 100, true}, {2, 100, false}, {0, 201, false}, {199, 1, true}, {200, 1, false}, {1<<32 - 1, 1 << 30, false}, {0, 0, false}, {5, -1, false}} {
			if err := sec.Touch([]uint32{c.item}, c.size); (err == nil) != c.ok {
				t.Errorf("%s: item %d of %d bytes: %v", name, c.item, c.size, err)
			}
		}
		empty, _ := f.Section(2)
		if m, err := empty.Map(); len(m) != 0 || err != nil || !empty.Whole() {
			t.Errorf("%s: an empty section: %d bytes, %v", name, len(m), err)
		}
		f.Close()
	}
}

// TestSpread: a large section is made good by several goroutines, of which
// each finds its damage, and a file that is cut under them is an error.
func TestSpread(t *testing.T) {
	for name, s := range sealers(t) {
		dir := t.TempDir()
		fsys, err := vfs.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer fsys.Close()
		data := make([]byte, 9<<20+5)
		rand.NewChaCha8([32]byte{2}).Read(data)
		info, err := disk.WriteFile(fsys, "x", header(), s, writeTo([]part{{1, 16 << 10, data}}))
		if err != nil {
			t.Fatal(err)
		}
		open := func() (*disk.File, *disk.Section) {
			f, err := disk.OpenFile(fsys, "x", header(), info, s)
			if err != nil {
				t.Fatal(err)
			}
			sec, _ := f.Section(1)
			return f, sec
		}
		f, sec := open()
		if b, err := sec.Bytes(0, len(data)); err != nil || !bytes.Equal(b, data) {
			t.Errorf("%s: %v", name, err)
		}
		f.Close()
		f, sec = open()
		if err := os.Truncate(filepath.Join(dir, "x"), 5<<20); err != nil {
			t.Fatal(err)
		}
		err = f.Faults(func() error {
			_, err := sec.Bytes(0, len(data))
			return err
		})
		if !errors.Is(err, disk.ErrCorrupt) {
			t.Errorf("%s: a file that was cut: %v", name, err)
		}
		f.Close()
	}
}

// TestEviction: goroutines read files that never fit, all at once, and get what
// was written. It is the model of a cache that evicts nothing.
func TestEviction(t *testing.T) {
	fsys := tempFS(t)
	b := disk.NewBudget(200 << 10)
	var files []*shared
	for i := range 6 {
		files = append(files, share(t, fsys, fmt.Sprint("f", i), uint64(10+i), b,
			part{1, 16 << 10, make([]byte, 300<<10+777)}, part{2, 192, make([]byte, 50<<10)}, part{3, 4096, make([]byte, 5000)}))
	}
	rounds := 10_000
	if testing.Short() {
		rounds = 2000
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(9, uint64(g)))
			for range rounds / 4 {
				f := files[min(rng.IntN(len(files)), rng.IntN(len(files)))] // some more than others
				i := rng.IntN(3)
				n := len(f.parts[i].data)
				off := rng.IntN(n)
				err := f.read(i, off, rng.IntN(min(n-off, 40_000)))
				if i == 0 && err == nil {
					items := make([]uint32, 1+rng.IntN(60))
					for j := range items {
						items[j] = uint32(rng.IntN(n / 512))
					}
					err = f.visit(i, 512, items...)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, f := range files {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	if b.Used() != 0 {
		t.Errorf("%d bytes after all is closed", b.Used())
	}
}
