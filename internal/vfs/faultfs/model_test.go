package faultfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// must fails the test on the first error.
func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func create(t testing.TB, f *faultfs.FS, name string, p []byte) vfs.File {
	t.Helper()
	h, err := f.Create(name)
	must(t, err)
	_, err = h.Write(p)
	must(t, err)
	return h
}

// synced creates a file that a power cut does not touch.
func synced(t testing.TB, f *faultfs.FS, name string, p []byte) vfs.File {
	t.Helper()
	h := create(t, f, name, p)
	must(t, h.Sync(), f.SyncDir("."))
	return h
}

// outcomes cuts the power often and counts what describe says of the disks.
func outcomes(f *faultfs.FS, describe func(*faultfs.FS) string) map[string]int {
	seen := map[string]int{}
	for seed := range uint64(600) {
		seen[describe(f.Crash(rand.New(rand.NewPCG(seed, 2))))]++
	}
	return seen
}

// want compares the set of outcomes; a model that lost one is too weak, one
// that has another is wrong.
func want(t *testing.T, got map[string]int, outcomes ...string) {
	t.Helper()
	slices.Sort(outcomes)
	if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, outcomes) {
		t.Errorf("the disk shows %v, want exactly %q", got, outcomes)
	}
}

func names(f *faultfs.FS) string { return strings.Join(f.Files(), " ") }

// sectors describes a file of 512-byte sectors: each by its letter, 0 for
// zeros, ? for anything else.
func sectors(name string) func(f *faultfs.FS) string {
	return func(f *faultfs.FS) string {
		b, err := f.Content(name)
		if err != nil {
			return "gone"
		}
		var s strings.Builder
		for sector := range slices.Chunk(b, 512) {
			switch {
			case bytes.Count(sector, sector[:1]) != len(sector):
				s.WriteByte('?')
			case sector[0] == 0:
				s.WriteByte('0')
			default:
				s.WriteByte(sector[0])
			}
		}
		return s.String()
	}
}

func fill(letters string) []byte {
	var b []byte
	for _, c := range []byte(letters) {
		b = append(b, bytes.Repeat([]byte{c}, 512)...)
	}
	return b
}

func TestSyncedStays(t *testing.T) {
	f := faultfs.New(1)
	synced(t, f, "a", fill("xyz"))
	want(t, outcomes(f, sectors("a")), "xyz")
}

func TestUnsyncedSectors(t *testing.T) {
	f := faultfs.New(1)
	h := synced(t, f, "a", fill("x"))
	_, err := h.Write(fill("yz"))
	must(t, err)
	got := outcomes(f, sectors("a"))
	// z may be there while y is not, and in the place of y are zeros or
	// garbage, of which what was written elsewhere is the most dangerous.
	for _, o := range []string{"x", "xy", "xyz", "x0z", "x?z", "xxz", "xy0", "x00"} {
		if got[o] == 0 {
			t.Errorf("no disk shows %s: %v", o, got)
		}
		delete(got, o)
	}
	for o := range got {
		if o[0] != 'x' || len(o) > 3 {
			t.Errorf("a disk shows %s", o)
		}
	}
}

func TestLargeSectorsAreWhole(t *testing.T) {
	f := faultfs.New(1)
	synced(t, f, "a", nil)
	h, err := f.OpenWrite("a")
	must(t, err)
	_, err = h.Write(fill("aaaaaaaabbbbbbbb"))
	must(t, err)
	seen := map[string]int{}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		seen[sectors("a")(f.CrashWith(r, faultfs.Cut{Sector: 4096, Keep: 50}))]++
	}
	want(t, seen, "", "aaaaaaaa", "aaaaaaaabbbbbbbb", "00000000bbbbbbbb")
}

func TestWriteInFlight(t *testing.T) {
	f := faultfs.New(1)
	h := synced(t, f, "a", fill("x"))
	f.CrashAt(f.Ops())
	if n, err := h.Write(fill("y")); n != 0 || !errors.Is(err, faultfs.ErrCrashed) {
		t.Errorf("Write = %d, %v", n, err)
	}
	got := outcomes(f, sectors("a"))
	if got["x"] == 0 || got["xy"] == 0 {
		t.Errorf("the disk shows %v", got)
	}
}

func TestTruncateIsPending(t *testing.T) {
	f := faultfs.New(1)
	h := synced(t, f, "a", fill("xyz"))
	must(t, h.Truncate(512))
	want(t, outcomes(f, sectors("a")), "x", "xyz")
}

func TestNamesArePending(t *testing.T) {
	f := faultfs.New(1)
	must(t, create(t, f, "a", nil).Sync(), create(t, f, "b", nil).Sync())
	// b without a: no journal keeps them in order. A synced file without a
	// name is gone.
	want(t, outcomes(f, names), "", "a", "b", "a b")
	f = f.Clone()
	must(t, f.Rename("a", "c"), f.Remove("b"))
	want(t, outcomes(f, names), "a b", "b c", "c", "a")
}

func TestPrefixKeepsOrder(t *testing.T) {
	f := faultfs.New(1)
	must(t, f.Mkdir("d"), f.SyncDir("."))
	create(t, f, "a", nil)
	create(t, f, "d/b", nil)
	must(t, f.Rename("a", "d/a"))
	create(t, f, "c", nil)
	seen := map[string]int{}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		seen[names(f.CrashWith(r, faultfs.Cut{Prefix: true}))]++
	}
	want(t, seen, "", "a", "a d/b", "d/a d/b", "c d/a d/b")
}

func TestRenameBetweenDirectories(t *testing.T) {
	f := faultfs.New(1)
	must(t, f.Mkdir("d"), f.SyncDir("."))
	synced(t, f, "a", nil)
	must(t, f.Rename("a", "d/a"))
	want(t, outcomes(f, names), "", "a", "d/a", "a d/a")
	f = f.Clone()
	must(t, f.Rename("d/a", "a"), f.SyncDir("."))
	want(t, outcomes(f, names), "a", "a d/a")
}

func TestTwoNamesAreOneFile(t *testing.T) {
	f := faultfs.New(1)
	must(t, f.Mkdir("d"), f.SyncDir("."))
	h := synced(t, f, "a", nil)
	_, err := h.Write(fill("xyz"))
	must(t, err, f.Rename("a", "d/a"), f.SyncDir("d"))
	for seed := range uint64(200) {
		g := f.Crash(rand.New(rand.NewPCG(seed, 2)))
		if a, b := sectors("a")(g), sectors("d/a")(g); a != "gone" && a != b {
			t.Fatalf("SEED=%d: %q and %q", seed, a, b)
		}
	}
}

func TestDirectoryWithoutName(t *testing.T) {
	f := faultfs.New(1)
	must(t, f.Mkdir("d"))
	must(t, create(t, f, "d/a", nil).Sync(), f.SyncDir("d"))
	want(t, outcomes(f, names), "", "d/a")
}

func TestFailedSyncDrops(t *testing.T) {
	for seed := range uint64(40) {
		f := faultfs.New(seed)
		h := synced(t, f, "a", fill("x"))
		f.Inject(faultfs.Rule{Op: faultfs.OpSync})
		_, err := h.Write(fill("yz"))
		must(t, err)
		if err := h.Sync(); !errors.Is(err, syscall.EIO) {
			t.Fatalf("SEED=%d: Sync = %v", seed, err)
		}
		must(t, h.Sync())
		if got := sectors("a")(f); got != "xyz" {
			t.Fatalf("SEED=%d: the cache shows %s", seed, got)
		}
		got := outcomes(f, sectors("a"))
		if len(got) != 1 {
			t.Fatalf("SEED=%d: the sync that succeeded left %v", seed, got)
		}
		if got["xyz"] == 0 {
			return
		}
	}
	t.Error("no failed sync ever lost anything")
}

func TestFailedSyncDirDrops(t *testing.T) {
	for seed := range uint64(40) {
		f := faultfs.New(seed)
		create(t, f, "a", nil)
		f.Inject(faultfs.Rule{Op: faultfs.OpSyncDir})
		if err := f.SyncDir("."); !errors.Is(err, syscall.EIO) {
			t.Fatalf("SyncDir = %v", err)
		}
		must(t, f.SyncDir("."))
		if got := outcomes(f, names); got[""] > 0 {
			want(t, got, "")
			return
		}
	}
	t.Error("no failed SyncDir ever lost a name")
}

func TestLyingSync(t *testing.T) {
	f := faultfs.New(1)
	synced(t, f, "b", nil)
	f.Inject(faultfs.Rule{Op: faultfs.OpSync, Fault: faultfs.Lose})
	in := f.Inject(faultfs.Rule{Op: faultfs.OpSyncDir, Fault: faultfs.Lose, Forever: true})
	synced(t, f, "a", fill("x"))
	got := outcomes(f, sectors("a"))
	if got["gone"] == 0 || got[""] == 0 || got["x"] == 0 || in.Fired() != 1 {
		t.Errorf("fired %d times, the disk shows %v", in.Fired(), got)
	}
}

func TestWriteFaults(t *testing.T) {
	for _, c := range []struct {
		fault       faultfs.Fault
		a, b        string // content of the files afterwards
		err         error
		alternative string // for a
	}{
		{faultfs.Short, "xy", "1234", vfs.ErrNoSpace, ""},
		{faultfs.Lose, "x00", "1234", nil, ""},
		{faultfs.Stale, "x0z", "1234", nil, "xy0"},
		{faultfs.Misdirect, "x00", "1yz4", nil, ""},
		{faultfs.Fail, "x", "1234", syscall.EIO, ""},
	} {
		f := faultfs.New(1)
		b := synced(t, f, "b", fill("1234"))
		a := synced(t, f, "a", fill("x"))
		in := f.Inject(faultfs.Rule{Op: faultfs.OpWrite, Path: "a", Fault: c.fault})
		_, err := b.Write(nil) // another name
		must(t, err)
		_, err = a.Write(fill("yz"))
		if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) || in.Fired() != 1 {
			t.Errorf("fault %d: Write = %v, fired %d times", c.fault, err, in.Fired())
		}
		must(t, a.Sync())
		after := f.Crash(rand.New(rand.NewPCG(1, 1)))
		if got := sectors("a")(after); got != c.a && got != c.alternative {
			t.Errorf("fault %d: a is %s, not %s", c.fault, got, c.a)
		}
		if got := sectors("b")(after); got != c.b {
			t.Errorf("fault %d: b is %s, not %s", c.fault, got, c.b)
		}
	}
}

func TestReadFaults(t *testing.T) {
	f := faultfs.New(1)
	synced(t, f, "a", fill("xyz"))
	h, err := f.Open("a")
	must(t, err)
	f.Inject(faultfs.Rule{Op: faultfs.OpRead, Nth: 1})
	f.Inject(faultfs.Rule{Op: faultfs.OpRead, Nth: 1, Fault: faultfs.Short}) // after the one above has hit
	f.Inject(faultfs.Rule{Op: faultfs.OpRead, Nth: 1, Fault: faultfs.Flip})
	f.Inject(faultfs.Rule{Op: faultfs.OpMap, Fault: faultfs.Flip})
	p := make([]byte, 1536)
	for i, c := range []struct {
		n    int
		bits int
		err  error
	}{{1536, 0, nil}, {0, 0, syscall.EIO}, {768, 0, io.ErrUnexpectedEOF}, {1536, 1, nil}, {1536, 0, nil}} {
		n, err := h.ReadAt(p, 0)
		if n != c.n || !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("read %d: %d bytes, %v", i, n, err)
		}
		if n == 1536 && flipped(p, fill("xyz")) != c.bits {
			t.Errorf("read %d: %d bits flipped", i, flipped(p, fill("xyz")))
		}
	}
	for i := range 2 {
		m, err := f.Map("a", 1536)
		must(t, err)
		if got := flipped(m.Bytes(), fill("xyz")); got != 1-i {
			t.Errorf("map %d: %d bits flipped", i, got)
		}
		must(t, m.Close(), m.Close())
	}
}

func flipped(a, b []byte) (n int) {
	for i := range a {
		for d := a[i] ^ b[i]; d > 0; d &= d - 1 {
			n++
		}
	}
	return n
}

func TestRuleCounting(t *testing.T) {
	hits := func(r faultfs.Rule) (hit []int) {
		f := faultfs.New(5)
		r.Op = faultfs.OpMkdir
		f.Inject(r)
		for i := range 50 {
			if f.Mkdir(fmt.Sprintf("d%d", i)) != nil {
				hit = append(hit, i)
			}
		}
		return hit
	}
	if got := hits(faultfs.Rule{Nth: 3}); !slices.Equal(got, []int{3}) {
		t.Errorf("the fourth: %v", got)
	}
	if got := hits(faultfs.Rule{Nth: 48, Forever: true}); !slices.Equal(got, []int{48, 49}) {
		t.Errorf("from 48 on: %v", got)
	}
	if got := hits(faultfs.Rule{Path: "d[12]"}); !slices.Equal(got, []int{1}) {
		t.Errorf("by name: %v", got)
	}
	if got := hits(faultfs.Rule{Probability: 0.3}); len(got) != 1 {
		t.Errorf("once by chance: %v", got)
	}
	if got := hits(faultfs.Rule{Probability: 0.3, Nth: 10, Forever: true}); len(got) < 4 || len(got) > 24 || got[0] < 10 {
		t.Errorf("by chance: %v", got)
	}
}

func TestBudget(t *testing.T) {
	f := faultfs.New(1)
	f.Budget(1000)
	h, err := f.Create("a")
	must(t, err)
	_, err = h.Write(make([]byte, 600))
	must(t, err)
	if n, err := h.Write(make([]byte, 600)); n != 400 || !errors.Is(err, vfs.ErrNoSpace) || f.Used() != 1000 {
		t.Errorf("Write = %d, %v, %d bytes used", n, err, f.Used())
	}
	must(t, h.Truncate(100))
	if n, err := h.Write(make([]byte, 600)); n != 600 || err != nil {
		t.Errorf("Write = %d, %v", n, err)
	}
	must(t, f.Remove("a"))
	create(t, f, "b", make([]byte, 1000))
	f.Budget(-1)
	create(t, f, "c", make([]byte, 1000))
}

func TestEveryCallFailsAfterTheCut(t *testing.T) {
	f := faultfs.New(1)
	h := synced(t, f, "a", fill("x"))
	l, err := f.Lock("LOCK", "")
	must(t, err)
	ops := f.Ops()
	f.CrashAt(ops + 1)
	_, err = h.Write(nil)
	must(t, err)
	if f.Ops() != ops+1 || f.Crashed() {
		t.Fatalf("%d calls after %d, crashed %v", f.Ops(), ops, f.Crashed())
	}
	calls := map[string]func() error{
		"create":    func() error { _, err := f.Create("b"); return err },
		"open":      func() error { _, err := f.Open("a"); return err },
		"openwrite": func() error { _, err := f.OpenWrite("a"); return err },
		"rename":    func() error { return f.Rename("a", "c") },
		"remove":    func() error { return f.Remove("a") },
		"list":      func() error { _, err := f.List("."); return err },
		"stat":      func() error { _, err := f.Stat("a"); return err },
		"mkdir":     func() error { return f.Mkdir("d") },
		"syncdir":   func() error { return f.SyncDir(".") },
		"lock":      func() error { _, err := f.Lock("L", ""); return err },
		"map":       func() error { _, err := f.Map("a", 1); return err },
		"read":      func() error { _, err := h.ReadAt(make([]byte, 1), 0); return err },
		"write":     func() error { _, err := h.Write(nil); return err },
		"size":      func() error { _, err := h.Size(); return err },
		"truncate":  func() error { return h.Truncate(0) },
		"sync":      func() error { return h.Sync() },
		"close":     func() error { return h.Close() },
	}
	must(t, func() error { // the first mutating call is the one that is cut
		if err := calls["sync"](); !errors.Is(err, faultfs.ErrCrashed) {
			return fmt.Errorf("sync: %w", err)
		}
		return nil
	}())
	for name, call := range calls {
		if err := call(); !errors.Is(err, faultfs.ErrCrashed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, l.Close())
	if f.Handles() != 0 {
		t.Errorf("%d handles open", f.Handles())
	}
	g := f.Crash(rand.New(rand.NewPCG(1, 1)))
	if _, err := g.Lock("LOCK", ""); err != nil {
		t.Errorf("the lock outlived the power cut: %v", err)
	}
}

func TestTrace(t *testing.T) {
	f := faultfs.New(1)
	must(t, f.Mkdir("d"))
	h := create(t, f, "a", []byte("12345"))
	must(t, h.Truncate(2))
	f.Inject(faultfs.Rule{Op: faultfs.OpSync})
	if h.Sync() == nil {
		t.Error("no error")
	}
	must(t, f.Rename("a", "d/b"), h.Sync(), f.SyncDir("d"), f.Remove("d/b"))
	got := strings.Join(f.Trace(), "\n")
	if want := `mkdir d
create a
write a 5
truncate a 2
sync a: input/output error
rename a d/b
sync d/b
syncdir d
remove d/b`; got != want {
		t.Errorf("trace:\n%s", got)
	}
	if f.Ops() != 9 {
		t.Errorf("%d calls", f.Ops())
	}
}

func TestRecorderAndHook(t *testing.T) {
	f := faultfs.New(1)
	var all []byte
	var calls []string
	f.Written(func(name string, p []byte) { all = append(append(all, name...), p...) })
	f.Hook(func(op faultfs.Op, name string) { calls = append(calls, op.String()+" "+name) })
	create(t, f, "a", []byte("one"))
	f = f.Crash(rand.New(rand.NewPCG(1, 1)))
	create(t, f, "b", []byte("two"))
	if string(all) != "aonebtwo" || strings.Join(calls, ",") != "create a,write a,create b,write b" {
		t.Errorf("recorded %q, %q", all, calls)
	}
}

func TestSeedDecides(t *testing.T) {
	run := func(seed uint64) string {
		f := faultfs.New(seed)
		f.Inject(faultfs.Rule{Op: faultfs.OpWrite, Probability: 0.2, Forever: true, Fault: faultfs.Stale})
		f.Inject(faultfs.Rule{Op: faultfs.OpSync, Probability: 0.2, Forever: true})
		for i := range 20 {
			h, err := f.Create(fmt.Sprint(i))
			must(t, err)
			_, err = h.Write(fill("abc"))
			must(t, err)
			_ = h.Sync()
		}
		g := f.Crash(rand.New(rand.NewPCG(seed, 1)))
		var s strings.Builder
		for _, name := range g.Files() {
			b, _ := g.Content(name)
			fmt.Fprintf(&s, "%s %x\n", name, b)
		}
		return s.String()
	}
	distinct := map[string]bool{}
	for seed := range uint64(20) {
		first := run(seed)
		if run(seed) != first {
			t.Fatalf("SEED=%d: two runs differ", seed)
		}
		distinct[first] = true
	}
	if len(distinct) < 5 {
		t.Errorf("20 seeds give %d disks", len(distinct))
	}
}

func TestExport(t *testing.T) {
	f := faultfs.New(1)
	must(t, f.Mkdir("d"))
	create(t, f, "d/a", []byte("x"))
	create(t, f, "b", []byte("y"))
	to, err := vfs.Open(t.TempDir())
	must(t, err, f.Export(to))
	defer to.Close()
	for _, name := range []string{"d/a", "b"} {
		m, err := to.Map(name, 1)
		must(t, err)
		if b, _ := f.Content(name); !bytes.Equal(b, m.Bytes()) {
			t.Errorf("%s is %q", name, m.Bytes())
		}
		must(t, m.Close())
	}
}

func TestConcurrentCallers(t *testing.T) {
	f := faultfs.New(1)
	f.Inject(faultfs.Rule{Op: faultfs.OpSync, Probability: 0.1, Forever: true})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 200 {
				name := fmt.Sprintf("%d-%d", g, i)
				h, err := f.Create(name)
				if err != nil {
					t.Error(err)
					return
				}
				_, werr := h.Write(fill("x"))
				_, rerr := h.ReadAt(make([]byte, 10), 0)
				_ = h.Sync()
				_, lerr := f.List(".")
				if err := errors.Join(werr, rerr, lerr, f.SyncDir("."), f.Remove(name), h.Close()); err != nil {
					t.Error(err)
					return
				}
				if i == 100 && g == 0 {
					f.Clone()
				}
			}
		})
	}
	wg.Wait()
	if f.Handles() != 0 || f.Ops() != 4*200*5 {
		t.Errorf("%d handles, %d calls", f.Handles(), f.Ops())
	}
	if _, err := f.Open("0-0"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
