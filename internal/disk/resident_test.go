package disk_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// TestResident: a section is copied into memory of its own where it is large
// and the budget has room, counted until the file is closed, and is the mapped
// bytes otherwise. What it gives is right, or an error, whatever the file holds.
func TestResident(t *testing.T) {
	const size, block = 5<<20 + 100, 64 << 10
	data := make([]byte, size)
	rng := rand.New(rand.NewPCG(1, 41))
	for i := 0; i < len(data); i += 8 {
		data[i] = byte(rng.Uint32())
	}
	for _, tc := range []struct {
		name   string
		keys   testKeys
		n      int   // bytes of the section
		budget int64 // 0: none
		damage bool
		own    bool
		used   int64
	}{
		{name: "plain", keys: seal.Plain(), n: size, own: true},
		{name: "plain, room", keys: seal.Plain(), n: size, budget: 6 << 20, own: true, used: size},
		{name: "plain, no room", keys: seal.Plain(), n: size, budget: 5 << 20},
		{name: "plain, small", keys: seal.Plain(), n: 1 << 20, budget: 6 << 20},
		{name: "plain, empty", keys: seal.Plain(), budget: 6 << 20},
		{name: "plain, damaged", keys: seal.Plain(), n: size, budget: 6 << 20, damage: true},
		{name: "sealed", keys: newGCM(t), n: size, budget: 1 << 20, own: true, used: size},
		{name: "sealed, damaged", keys: newGCM(t), n: size, budget: 1 << 20, damage: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fsys := faultfs.New(1)
			info, err := disk.WriteFile(fsys, "f", header(), tc.keys, writeTo([]part{{3, block, data[:tc.n]}}))
			if err != nil {
				t.Fatal(err)
			}
			if tc.damage {
				fsys.Damage("f", func(b []byte) []byte { b[disk.HeaderSize+tc.n/2] ^= 4; return b })
			}
			f, err := disk.OpenFile(fsys, "f", header(), info, tc.keys)
			if err != nil {
				t.Fatal(err)
			}
			var b *disk.Budget
			if tc.budget > 0 {
				b = disk.NewBudget(tc.budget)
			}
			f.Share(b)
			s, _ := f.Section(3)
			got, own, err := s.Resident()
			if tc.damage != errors.Is(err, disk.ErrCorrupt) || err == nil && !bytes.Equal(got, data[:tc.n]) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			if own != tc.own || err == nil && b.Used() != tc.used {
				t.Errorf("own %v, %d bytes are counted", own, b.Used())
			}
			if err := f.Close(); err != nil || b.Used() != 0 {
				t.Errorf("closed: %d bytes are counted, %v", b.Used(), err)
			}
			if own && !gone(got) {
				t.Error("closed: the memory is still there")
			}
		})
	}
}

// gone reports whether reading b faults.
func gone(b []byte) (faulted bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { faulted = recover() != nil }()
	return b[0] == b[len(b)-1]
}

// TestResidentCut: a file that is truncated while it is copied gives an error,
// and what was copied whole outlives the file's bytes.
func TestResidentCut(t *testing.T) {
	dir := t.TempDir()
	fsys, err := vfs.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer fsys.Close()
	data := bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7}, 1<<20)
	info, err := disk.WriteFile(fsys, "f", header(), seal.Plain(), writeTo([]part{{3, 64 << 10, data}}))
	if err != nil {
		t.Fatal(err)
	}
	f, err := disk.OpenFile(fsys, "f", header(), info, seal.Plain())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s, _ := f.Section(3)
	whole, own, err := s.Resident()
	if !own || err != nil {
		t.Fatalf("own %v, %v", own, err)
	}
	if err := os.Truncate(filepath.Join(dir, "f"), 1<<20); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(whole, data) {
		t.Error("the copy has changed")
	}
	own = false
	err = f.Faults(func() error { _, own, err = s.Resident(); return err })
	if own || !errors.Is(err, disk.ErrCorrupt) {
		t.Errorf("own %v, %v", own, err)
	}
}
