package disk_test

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// large is a file of several writes.
func large() []part {
	return []part{{1, 4096, slices.Repeat([]byte("0123456789abcdef"), 320_000)}, {2, 64, []byte("short")}}
}

func TestWriteTrace(t *testing.T) {
	fsys := faultfs.New(1)
	if _, err := disk.WriteFile(fsys, "seg/1", header(), seal.Plain(), writeTo(large())); err != nil {
		t.Fatal(err)
	}
	tmp := "tmp/" + header().File.String()
	want := []string{
		"mkdir tmp", "syncdir .", "mkdir seg", "syncdir .",
		"create " + tmp, "write " + tmp + " 2097152", "write " + tmp + " 2097152", "write " + tmp + " 936008",
		"sync " + tmp, "rename " + tmp + " seg/1", "syncdir seg", "syncdir tmp",
	}
	if got := fsys.Trace(); !slices.Equal(got, want) {
		t.Errorf("trace:\n%s", strings.Join(got, "\n"))
	}
	// With the directories there, nothing but the file is touched.
	fsys.ClearTrace()
	if _, err := disk.WriteFile(fsys, "seg/2", header(), seal.Plain(), writeTo(nil)); err != nil {
		t.Fatal(err)
	}
	want = []string{
		"create " + tmp, "write " + tmp + " 176",
		"sync " + tmp, "rename " + tmp + " seg/2", "syncdir seg", "syncdir tmp",
	}
	if got := fsys.Trace(); !slices.Equal(got, want) {
		t.Errorf("trace:\n%s", strings.Join(got, "\n"))
	}
}

// TestPowerCut: whenever the power is cut, the file is whole or absent, and it
// is there when WriteFile returned without an error.
func TestPowerCut(t *testing.T) {
	for name, s := range sealers(t) {
		t.Run(name, func(t *testing.T) {
			absent, whole := 0, 0
			for op := 0; ; op++ {
				fsys := faultfs.New(1)
				fsys.CrashAt(op)
				info, err := disk.WriteFile(fsys, "seg/f", header(), s, writeTo(parts(1)))
				if err != nil && !errors.Is(err, faultfs.ErrCrashed) {
					t.Fatal(err)
				}
				for seed := range uint64(60) {
					after := fsys.Crash(rand.New(rand.NewPCG(seed, uint64(op))))
					there, openErr := wholeFile(after, "seg/f", s)
					if openErr != nil || (err == nil && !there) {
						t.Fatalf("OP=%d SEED=%d: there %v, %v", op, seed, there, openErr)
					}
					if there {
						whole++
					} else {
						absent++
					}
					if seed < 5 && !there { // the rest of the attempt is no obstacle
						if _, err := disk.WriteFile(after, "seg/f", header(), s, writeTo(parts(1))); err != nil {
							t.Fatalf("OP=%d SEED=%d: again: %v", op, seed, err)
						}
					}
				}
				if err == nil {
					if info == (disk.Info{}) || absent == 0 || whole <= 60 {
						t.Errorf("%d disks with the file, %d without", whole, absent)
					}
					break
				}
			}
		})
	}
}

// wholeFile reports whether the file is there; one that is damaged is an error.
func wholeFile(fsys vfs.FS, name string, s testKeys) (bool, error) {
	f, err := disk.OpenFile(fsys, name, header(), disk.Info{}, s)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, errors.Join(f.Verify(context.Background()), f.Close())
}

// TestFailingCalls: when the k-th call of a kind fails, WriteFile says so, keeps
// no handle open and leaves a whole file or none.
func TestFailingCalls(t *testing.T) {
	type fault struct {
		op    faultfs.Op
		fault faultfs.Fault
		err   error
	}
	for _, c := range []fault{
		{faultfs.OpStat, faultfs.Fail, syscall.EIO},
		{faultfs.OpMkdir, faultfs.Fail, syscall.EIO},
		{faultfs.OpCreate, faultfs.Fail, syscall.EMFILE},
		{faultfs.OpWrite, faultfs.Fail, syscall.EIO},
		{faultfs.OpWrite, faultfs.Short, vfs.ErrNoSpace},
		{faultfs.OpSync, faultfs.Fail, syscall.EIO},
		{faultfs.OpClose, faultfs.Fail, syscall.EIO},
		{faultfs.OpRename, faultfs.Fail, syscall.EIO},
		{faultfs.OpSyncDir, faultfs.Fail, syscall.EIO},
	} {
		for k := 0; ; k++ {
			fsys := faultfs.New(uint64(k))
			in := fsys.Inject(faultfs.Rule{Op: c.op, Nth: k, Fault: c.fault, Err: c.err})
			_, err := disk.WriteFile(fsys, "seg/f", header(), seal.Plain(), writeTo(large()))
			if in.Fired() == 0 {
				if err != nil || k == 0 {
					t.Errorf("%v: call %d did not happen: %v", c.op, k, err)
				}
				break
			}
			if !errors.Is(err, c.err) {
				t.Errorf("%v %d fails: %v", c.op, k, err)
			}
			if fsys.Handles() != 0 {
				t.Errorf("%v %d fails: %d handles left open", c.op, k, fsys.Handles())
			}
			if _, err := wholeFile(fsys, "seg/f", seal.Plain()); err != nil {
				t.Errorf("%v %d fails: %v", c.op, k, err)
			}
			for _, name := range fsys.Files() {
				if strings.HasPrefix(name, "tmp/") {
					t.Errorf("%v %d fails: %s is left", c.op, k, name)
				}
			}
		}
	}
}

// TestFullDisk: at every budget the file is written or the space is given back.
func TestFullDisk(t *testing.T) {
	for budget := int64(0); ; budget += 100 {
		fsys := faultfs.New(1)
		fsys.Budget(budget)
		info, err := disk.WriteFile(fsys, "f", header(), seal.Plain(), writeTo(parts(1)))
		if err == nil {
			if info.Length > budget || budget == 0 {
				t.Errorf("%d bytes on a disk of %d", info.Length, budget)
			}
			break
		}
		if !errors.Is(err, vfs.ErrNoSpace) || fsys.Used() != 0 {
			t.Fatalf("budget %d: %v, %d bytes used", budget, err, fsys.Used())
		}
	}
}

// TestLyingWrites: writes that report success and did not happen, or happened
// somewhere else, are found in the file they damaged.
func TestLyingWrites(t *testing.T) {
	for _, fault := range []faultfs.Fault{faultfs.Lose, faultfs.Stale, faultfs.Misdirect} {
		for k := 0; ; k++ {
			fsys := faultfs.New(uint64(k))
			h := header()
			h.File = id(8)
			other, err := disk.WriteFile(fsys, "other", h, seal.Plain(), writeTo([]part{{1, 4096, make([]byte, 5_120_000)}}))
			if err != nil {
				t.Fatal(err)
			}
			in := fsys.Inject(faultfs.Rule{Op: faultfs.OpWrite, Nth: k, Fault: fault})
			want, err := disk.WriteFile(fsys, "f", header(), seal.Plain(), writeTo(large()))
			if err != nil {
				t.Fatal(err)
			}
			if in.Fired() == 0 {
				if k < 3 {
					t.Errorf("fault %d: only %d writes", fault, k)
				}
				break
			}
			found(t, "damaged write", inspect(fsys, header(), want, seal.Plain()))
			if fault == faultfs.Misdirect {
				f, err := disk.OpenFile(fsys, "other", h, other, seal.Plain())
				if err == nil {
					err = errors.Join(f.Verify(context.Background()), f.Close())
				}
				if !errors.Is(err, disk.ErrCorrupt) {
					t.Errorf("write %d landed in another file: %v", k, err)
				}
			}
		}
	}
}

// TestSealedHidesContent: nothing of the content reaches the disk.
func TestSealedHidesContent(t *testing.T) {
	secret := []byte("the quick brown fox")
	for name, s := range sealers(t) {
		fsys := faultfs.New(1)
		var all []byte
		fsys.Written(func(_ string, p []byte) { all = append(all, p...) })
		data := slices.Repeat(secret, 50)
		if _, err := disk.WriteFile(fsys, "f", header(), s, writeTo([]part{{1, 128, data}})); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(all), string(secret)) != (name == "plain") {
			t.Errorf("%s: the content is on the disk, or should be", name)
		}
	}
}
