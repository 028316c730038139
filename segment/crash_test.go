package segment

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

var update = flag.Bool("update", false, "rewrite golden files")

// action makes segment 9 on a disk, and what is expected in it.
type action struct {
	name string
	rows []Row
	do   func(fs *faultfs.FS) (Info, error)
	spec Spec
	base *faultfs.FS // the disk before
}

func actions(t testing.TB) []action {
	rows := randomRows(rand.New(rand.NewPCG(3, 3)), 300, 6)
	spec := testSpec(9, 6, kernel.L2)
	spec.GraphMin = 100
	write := action{name: "write", rows: rows, spec: spec, base: faultfs.New(1), do: func(fs *faultfs.FS) (Info, error) {
		return Write(context.Background(), fs, seal.Plain(), spec, each(rows))
	}}
	before := faultfs.New(1)
	a, b := testSpec(1, 6, kernel.L2), testSpec(2, 6, kernel.L2)
	a.GraphMin = 1
	first := mustWrite(t, before, seal.Plain(), a, rows[:200])
	second := mustWrite(t, before, seal.Plain(), b, rows[200:])
	merge := action{name: "merge", rows: rows[1:], spec: spec, base: before, do: func(fs *faultfs.FS) (info Info, err error) {
		x, err := Open(fs, seal.Plain(), a, first)
		if err != nil {
			return info, err
		}
		y, err := Open(fs, seal.Plain(), b, second)
		if err != nil {
			return info, errors.Join(err, x.Close())
		}
		info, err = Merge(context.Background(), fs, seal.Plain(), spec, []Input{{x, roaring.BitmapOf(0)}, {y, nil}})
		return info, errors.Join(err, x.Close(), y.Close())
	}}
	return []action{write, merge}
}

// whole checks that segment 9 is all there or not there at all.
func (a action) whole(t *testing.T, fs *faultfs.FS, acknowledged bool, want Info) {
	t.Helper()
	if _, err := fs.Content(Name(9)); err != nil {
		if acknowledged {
			t.Fatalf("the file is gone: %v", err)
		}
		return
	}
	r, err := Open(fs, seal.Plain(), a.spec, want)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := verify(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	if err := differs(r, a.rows); err != nil {
		t.Fatal(err)
	}
}

// The power is cut at every operation: the file is whole or absent, and the
// same action succeeds afterwards.
func TestCrash(t *testing.T) {
	for _, a := range actions(t) {
		t.Run(a.name, func(t *testing.T) {
			full := a.base.Clone()
			info, err := a.do(full)
			if err != nil {
				t.Fatal(err)
			}
			for op := 0; op <= full.Ops(); op++ {
				for seed := range uint64(4) {
					fs := a.base.Clone()
					fs.CrashAt(op)
					_, err := a.do(fs)
					after := fs.Crash(rand.New(rand.NewPCG(seed, uint64(op))))
					a.whole(t, after, err == nil, info)
					if _, err := after.Content(Name(9)); err == nil {
						continue
					}
					if _, err := a.do(after); err != nil {
						t.Fatalf("cut at %d, seed %d: again: %v", op, seed, err)
					}
					a.whole(t, after, true, info)
				}
			}
		})
	}
}

// Every operation fails once: an error, nothing left open, and no half file.
func TestFaults(t *testing.T) {
	ops := []faultfs.Op{faultfs.OpOpen, faultfs.OpStat, faultfs.OpMap, faultfs.OpClose, faultfs.OpCreate,
		faultfs.OpRename, faultfs.OpMkdir, faultfs.OpSyncDir, faultfs.OpWrite, faultfs.OpSync}
	for _, a := range actions(t) {
		info, err := a.do(a.base.Clone())
		if err != nil {
			t.Fatal(err)
		}
		for _, op := range ops {
			for _, fault := range []faultfs.Fault{faultfs.Fail, faultfs.Short} {
				if fault == faultfs.Short && op != faultfs.OpWrite {
					continue
				}
				for n := 0; ; n++ {
					fs := a.base.Clone()
					rule := fs.Inject(faultfs.Rule{Op: op, Nth: n, Fault: fault})
					_, err := a.do(fs)
					if rule.Fired() == 0 {
						break
					}
					if err == nil {
						t.Errorf("%s: %v %d failed unnoticed", a.name, op, n)
					}
					if fs.Handles() != 0 {
						t.Errorf("%s: %v %d failed: %d handles are open", a.name, op, n, fs.Handles())
					}
					rule.Remove()
					a.whole(t, fs, false, info)
				}
			}
		}
	}
}

// What is done to the disk, and in which order, is on record.
func TestTrace(t *testing.T) {
	for _, a := range actions(t) {
		fs := a.base.Clone()
		if _, err := a.do(fs); err != nil {
			t.Fatal(err)
		}
		// Sizes change whenever compression does; the order of calls must not.
		var got strings.Builder
		for _, line := range fs.Trace() {
			if f := strings.Fields(line); f[0] == "write" {
				line = strings.Join(f[:2], " ")
			}
			got.WriteString(line + "\n")
		}
		name := "testdata/" + a.name + ".trace"
		if *update {
			if err := os.WriteFile(name, []byte(got.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if got.String() != string(want) {
			t.Errorf("%s does:\n%s\ninstead of:\n%s", a.name, got.String(), want)
		}
	}
}
