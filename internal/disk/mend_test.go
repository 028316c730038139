package disk_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// mended opens what Mend makes of a damaged file and returns what it is known
// by, and how many of its blocks are damaged.
func mended(t testing.TB, fsys *faultfs.FS, h *disk.Header, want disk.Info, s testKeys) (info disk.Info, damaged int, err error) {
	t.Helper()
	whole, _, info, err := disk.Mend(fsys, "f", h, want)
	if err != nil {
		return info, 0, err
	}
	f, err := disk.OpenFile(whole, "f", header(), info, s)
	if err != nil {
		return info, 0, err
	}
	defer f.Close()
	err = f.Check(t.Context(), func(int64) {}, func(d disk.Damage) { damaged++ })
	return info, damaged, err
}

// TestMendOneByte: a byte of header, table or footer can be told from the
// others, whether it is known what the file should be or not.
func TestMendOneByte(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	h := header()
	for name, s := range sealers(t) {
		fsys, want := small(t, s)
		original := content(t, fsys)
		table := len(original) - 32 - tableBytes(original)
		for i := range original {
			if i >= disk.HeaderSize && i < table {
				continue // Blocks are not mended.
			}
			b := bytes.Clone(original)
			b[i] ^= byte(1 + rng.IntN(255))
			damagedFS := faultfs.New(1)
			put(t, damagedFS, b)
			keyed := s.Overhead() > 0 && i >= 12 && i < 16 // which key, only the root tells
			for _, unknown := range []bool{false, true} {
				known, id := want, &h
				if unknown {
					known, id = disk.Info{}, nil
				}
				if unknown && i >= len(original)-32 {
					continue // The footer is all that says what the root was.
				}
				info, damaged, err := mended(t, damagedFS, id, known, s)
				if err != nil || damaged != 0 || info != want {
					t.Errorf("%s, byte %d (key %v, unknown %v): %v, %d blocks damaged, %v instead of %v", name, i, keyed, unknown, err, damaged, info, want)
				}
			}
		}
	}
}

// TestMendSums: with a whole run of checksums gone, the blocks are proven by
// the root when nothing else is damaged, else those are lost that nothing proves.
func TestMendSums(t *testing.T) {
	s := sealers(t)["plain"]
	fsys, want := small(t, s)
	original := content(t, fsys)
	sums := len(original) - 32 - 24
	for _, alsoBlock := range []bool{false, true} {
		b := bytes.Clone(original)
		copy(b[sums:], bytes.Repeat([]byte{0xaa}, 24))
		if alsoBlock {
			b[disk.HeaderSize] ^= 1
		}
		damagedFS := faultfs.New(1)
		put(t, damagedFS, b)
		h := header()
		info, damaged, err := mended(t, damagedFS, &h, want, s)
		switch {
		case err != nil:
			t.Fatal(err)
		case !alsoBlock && (info != want || damaged != 0):
			t.Errorf("%v instead of %v, %d damaged", info, want, damaged)
		case alsoBlock && (info == want || damaged != 4):
			t.Errorf("%d damaged blocks, not the one and three without checksums", damaged)
		}
	}
}

// TestCheckGoesOn: all damaged blocks are found, each with its section.
func TestCheckGoesOn(t *testing.T) {
	for name, s := range sealers(t) {
		fsys, want := small(t, s)
		f, err := disk.OpenFile(fsys, "f", header(), want, s)
		if err != nil {
			t.Fatal(err)
		}
		places := f.Parts()
		f.Close()
		hit := map[uint16]bool{}
		fsys.Damage("f", func(b []byte) []byte {
			for _, p := range places {
				if p.Blocks > 0 {
					b[p.Offset] ^= 1
					hit[p.Kind] = true
				}
			}
			return b
		})
		if f, err = disk.OpenFile(fsys, "f", header(), want, s); err != nil {
			t.Fatal(err)
		}
		bytes := int64(0)
		err = f.Check(t.Context(), func(n int64) { bytes += n }, func(d disk.Damage) {
			if !hit[d.Section] || d.Block != 0 {
				t.Errorf("%s: section %d, block %d: %v", name, d.Section, d.Block, d.Err)
			}
			delete(hit, d.Section)
			found(t, name, d.Err)
		})
		if err != nil || len(hit) != 0 || bytes == 0 {
			t.Errorf("%s: not found: %v, %v, %d bytes looked at", name, hit, err, bytes)
		}
		f.Close()
	}
}

func tableBytes(file []byte) int {
	at := int(file[len(file)-32]) | int(file[len(file)-31])<<8
	return len(file) - 32 - at
}

func content(t testing.TB, fsys *faultfs.FS) []byte {
	t.Helper()
	b, err := fsys.Content("f")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func put(t testing.TB, fsys *faultfs.FS, b []byte) {
	t.Helper()
	f, err := fsys.Create("f")
	if err == nil {
		_, err = f.Write(b)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestMendBlocks: a changed byte of a block is found by the block's checksum.
func TestMendBlocks(t *testing.T) {
	for name, s := range sealers(t) {
		fsys, want := small(t, s)
		original := content(t, fsys)
		h := header()
		for at := disk.HeaderSize; at < len(original)-32-tableBytes(original); at += 5 {
			b := bytes.Clone(original)
			b[at] ^= 0x11
			damagedFS := faultfs.New(1)
			put(t, damagedFS, b)
			whole, _, info, err := disk.Mend(damagedFS, "f", &h, want)
			if err != nil {
				t.Fatal(err)
			}
			f, err := disk.OpenFile(whole, "f", h, info, s)
			if err != nil {
				t.Fatal(err)
			}
			before := f.Verify(t.Context())
			n, err := f.MendBlocks(t.Context())
			padding := n == 0 && f.Verify(t.Context()) != nil // which is no block
			if before == nil || err != nil || n != 1 && !padding {
				t.Errorf("%s: byte %d: %v, %d blocks mended, %v", name, at, before, n, err)
			}
			f.Close()
		}
	}
}
