package disk_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// small is a file of a few hundred bytes with every kind of padding.
func small(t testing.TB, s testKeys) (*faultfs.FS, disk.Info) {
	t.Helper()
	fsys := faultfs.New(1)
	info, err := disk.WriteFile(fsys, "f", header(), s, writeTo(parts(1)))
	if err != nil {
		t.Fatal(err)
	}
	return fsys, info
}

// inspect opens and verifies a file and returns what it finds.
func inspect(fsys vfs.FS, h disk.Header, want disk.Info, s testKeys) error {
	f, err := disk.OpenFile(fsys, "f", h, want, s)
	if err != nil {
		return err
	}
	return errors.Join(f.Verify(context.Background()), f.Close())
}

// found checks that damage was found, and named as what it is.
func found(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, disk.ErrCorrupt) && !errors.Is(err, disk.ErrFormat) && !errors.Is(err, disk.ErrKey) {
		t.Errorf("%s: %v", what, err)
		return
	}
	if c, ok := errors.AsType[*disk.CorruptError](err); errors.Is(err, disk.ErrCorrupt) && (!ok || c.File != "f") {
		t.Errorf("%s: does not name the file: %v", what, err)
	}
}

// TestEveryBit: there is no bit in a file whose change goes unnoticed, not even
// by a reader that does not know what the file should be.
func TestEveryBit(t *testing.T) {
	for name, s := range sealers(t) {
		for what, info := range map[string]bool{"known": true, "unknown": false} {
			t.Run(name+"/"+what, func(t *testing.T) {
				fsys, want := small(t, s)
				if !info {
					want = disk.Info{}
				}
				good, err := fsys.Content("f")
				if err != nil {
					t.Fatal(err)
				}
				for bit := range len(good) * 8 {
					flip := func(b []byte) []byte { b[bit/8] ^= 1 << (bit % 8); return b }
					if err := fsys.Damage("f", flip); err != nil {
						t.Fatal(err)
					}
					found(t, fmt.Sprintf("bit %d of byte %d", bit%8, bit/8), inspect(fsys, header(), want, s))
					fsys.Damage("f", flip)
				}
				if err := inspect(fsys, header(), want, s); err != nil {
					t.Errorf("undamaged: %v", err)
				}
				if fsys.Handles() != 0 {
					t.Errorf("%d handles left open", fsys.Handles())
				}
			})
		}
	}
}

// TestSealedBits: in a sealed file a changed bit is met before anything that
// was decrypted is looked at: when the file is opened, or when the one block in
// which it lies is touched. What is left is padding, of which nobody reads.
func TestSealedBits(t *testing.T) {
	s := newGCM(t)
	fsys, want := small(t, s)
	good, _ := fsys.Content("f")
	table := int(binary.LittleEndian.Uint64(good[len(good)-32:]))
	padding := 0
	for bit := range len(good) * 8 {
		at := bit / 8
		fsys.Damage("f", func(b []byte) []byte { b[at] ^= 1 << (bit % 8); return b })
		f, err := disk.OpenFile(fsys, "f", header(), want, s)
		if outside := at < disk.HeaderSize || at >= table; outside != (err != nil) {
			t.Fatalf("bit %d of byte %d: open: %v", bit%8, at, err)
		}
		if err == nil {
			bad := 0
			for _, p := range parts(1) {
				sec, _ := f.Section(p.kind)
				for off := 0; off < len(p.data); off += p.block {
					n := min(p.block, len(p.data)-off)
					b, err := sec.Bytes(off, n)
					if err != nil {
						bad++
					} else if !bytes.Equal(b, p.data[off:off+n]) {
						t.Fatalf("bit %d of byte %d: section %d is wrong at %d", bit%8, at, p.kind, off)
					}
				}
			}
			if bad > 1 || bad == 0 && good[at] != 0 {
				t.Fatalf("bit %d of byte %d: %d blocks are refused", bit%8, at, bad)
			}
			padding += 1 - bad
			found(t, "verified", f.Verify(context.Background()))
			f.Close()
		}
		fsys.Damage("f", func([]byte) []byte { return slices.Clone(good) })
	}
	stored := table - disk.HeaderSize
	for _, p := range parts(1) {
		stored -= len(p.data) + (len(p.data)+p.block-1)/p.block*s.Overhead()
	}
	if padding != stored*8 {
		t.Errorf("%d bits were not met, the padding has %d", padding, stored*8)
	}
}

// TestNoWrongBytes: what Bytes returns of a damaged file is right or an error.
func TestNoWrongBytes(t *testing.T) {
	for name, s := range sealers(t) {
		t.Run(name, func(t *testing.T) {
			fsys, want := small(t, s)
			good, _ := fsys.Content("f")
			for at := disk.HeaderSize; at < len(good); at++ {
				fsys.Damage("f", func(b []byte) []byte { b[at] ^= 0x10; return b })
				f, err := disk.OpenFile(fsys, "f", header(), want, s)
				if err == nil {
					for _, p := range parts(1) {
						sec, _ := f.Section(p.kind)
						for range 2 { // a block found bad stays bad
							if b, err := sec.Bytes(0, len(p.data)); err == nil && !bytes.Equal(b, p.data) {
								t.Fatalf("byte %d: section %d is wrong", at, p.kind)
							}
						}
					}
					f.Close()
				}
				fsys.Damage("f", func([]byte) []byte { return slices.Clone(good) })
			}
		})
	}
}

func TestLengths(t *testing.T) {
	for name, s := range sealers(t) {
		t.Run(name, func(t *testing.T) {
			fsys, want := small(t, s)
			good, _ := fsys.Content("f")
			for n := range good {
				fsys.Damage("f", func([]byte) []byte { return good[:n] })
				found(t, fmt.Sprintf("cut to %d", n), inspect(fsys, header(), want, s))
				found(t, fmt.Sprintf("cut to %d, length unknown", n), inspect(fsys, header(), disk.Info{}, s))
			}
			for n := 1; n < 200; n++ {
				for _, tail := range [][]byte{make([]byte, n), bytes.Repeat([]byte{0xff}, n), good[len(good)-n:]} {
					fsys.Damage("f", func([]byte) []byte { return append(slices.Clone(good), tail...) })
					found(t, fmt.Sprintf("%d bytes more", n), inspect(fsys, header(), want, s))
					found(t, fmt.Sprintf("%d bytes more, length unknown", n), inspect(fsys, header(), disk.Info{}, s))
				}
			}
		})
	}
}

// TestSwappedBlocks: equal blocks have different checksums in different places,
// so that a block in the place of another is noticed.
func TestSwappedBlocks(t *testing.T) {
	for name, s := range sealers(t) {
		t.Run(name, func(t *testing.T) {
			fsys := faultfs.New(1)
			data := append(bytes.Repeat([]byte{1}, 64), bytes.Repeat([]byte{2}, 128)...)
			want, err := disk.WriteFile(fsys, "f", header(), s, writeTo([]part{{1, 64, data}}))
			if err != nil {
				t.Fatal(err)
			}
			size := 64 + s.Overhead()
			fsys.Damage("f", func(b []byte) []byte {
				x, y := b[disk.HeaderSize:][:size], b[disk.HeaderSize+size:][:size]
				t := slices.Clone(x)
				copy(x, y)
				copy(y, t)
				return b
			})
			found(t, "swapped", inspect(fsys, header(), want, s))
			// The checksums of the two equal blocks differ too.
			b, _ := fsys.Content("f")
			sums := b[len(b)-32-24:]
			if binary.LittleEndian.Uint64(sums[8:]) == binary.LittleEndian.Uint64(sums[16:]) {
				t.Error("equal blocks have equal checksums")
			}
		})
	}
}

func TestOtherFile(t *testing.T) {
	for what, change := range map[string]func(*disk.Header){
		"store":      func(h *disk.Header) { h.Store = id(9) },
		"collection": func(h *disk.Header) { h.Collection = id(9) },
		"file":       func(h *disk.Header) { h.File = id(9) },
		"number":     func(h *disk.Header) { h.Number = 9 },
		"kind":       func(h *disk.Header) { h.Kind = seal.KindCheckpoint },
	} {
		for name, s := range sealers(t) {
			fsys, want := small(t, s)
			h := header()
			change(&h)
			err := inspect(fsys, h, want, s)
			found(t, name+", other "+what, err)
			if !errors.Is(err, disk.ErrCorrupt) {
				t.Errorf("other %s: %v", what, err)
			}
		}
	}
	fsys, want := small(t, seal.Plain())
	if err := inspect(fsys, header(), want, newGCM(t)); !errors.Is(err, disk.ErrKey) {
		t.Errorf("plain file read with a key: %v", err)
	}
	fsys, want = small(t, newGCM(t))
	if err := inspect(fsys, header(), want, seal.Plain()); !errors.Is(err, disk.ErrKey) {
		t.Errorf("sealed file read without a key: %v", err)
	}
	// An older version of the file itself: everything in it is right, but it
	// is not the one that was asked for.
	old := faultfs.New(1)
	if _, err := disk.WriteFile(old, "f", header(), seal.Plain(), writeTo(parts(2))); err != nil {
		t.Fatal(err)
	}
	_, want = small(t, seal.Plain())
	found(t, "older version", inspect(old, header(), want, seal.Plain()))
}

// TestBlocksOfAnotherFile: header and table of one file, blocks of another.
func TestBlocksOfAnotherFile(t *testing.T) {
	fsys, want := small(t, seal.Plain())
	good, _ := fsys.Content("f")
	h := header()
	h.File = id(8)
	other := faultfs.New(1)
	if _, err := disk.WriteFile(other, "f", h, seal.Plain(), writeTo(parts(1))); err != nil {
		t.Fatal(err)
	}
	// Same content, so the same bytes but for header, sums and root: as the
	// whole of the other's table with its own header.
	other.Damage("f", func(b []byte) []byte { copy(b, good[:disk.HeaderSize]); return reroot(b) })
	found(t, "other file's table", inspect(other, header(), disk.Info{}, seal.Plain()))
	found(t, "other file's table", inspect(other, header(), want, seal.Plain()))
}

// reroot makes header and footer right again after the header or table was
// changed, as somebody would who does it on purpose.
func reroot(b []byte) []byte {
	binary.LittleEndian.PutUint64(b[disk.HeaderSize-8:], xxhash.Sum64(b[:disk.HeaderSize-8]))
	foot := b[len(b)-32:]
	at := binary.LittleEndian.Uint64(foot)
	var d xxhash.Digest
	d.Reset()
	d.Write(b[:disk.HeaderSize])
	d.Write(b[at : len(b)-32])
	binary.LittleEndian.PutUint64(foot[16:], d.Sum64())
	return b
}

func TestNewerFormat(t *testing.T) {
	for what, change := range map[string]func(b []byte){
		"version":  func(b []byte) { b[8] = disk.Version + 1 },
		"zero":     func(b []byte) { b[8] = 0 },
		"kind":     func(b []byte) { b[10] = 77 },
		"shard":    func(b []byte) { b[72] = 1 },
		"reserved": func(b []byte) { b[119] = 1 },
	} {
		fsys, _ := small(t, seal.Plain())
		fsys.Damage("f", func(b []byte) []byte { change(b); return reroot(b) })
		if err := inspect(fsys, header(), disk.Info{}, seal.Plain()); !errors.Is(err, disk.ErrFormat) || errors.Is(err, disk.ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := disk.ReadHeader(fsys, "f"); !errors.Is(err, disk.ErrFormat) {
			t.Errorf("%s: ReadHeader: %v", what, err)
		}
	}
}

// TestHostileTable: tables with right checksums that lie.
func TestHostileTable(t *testing.T) {
	fsys, _ := small(t, seal.Plain())
	good, _ := fsys.Content("f")
	table := int(binary.LittleEndian.Uint64(good[len(good)-32:]))
	values := []uint64{0, 1, 63, 64, 65, 128, 1 << 15, 1 << 31, 1<<31 - 1, 1<<32 - 1, 1 << 62, 1 << 63, 1<<63 - 1, 1<<64 - 1, 1<<64 - 64, 1<<64 - 128}
	entries := (len(good) - 32 - table) &^ 7
	for at := table; at < table+min(entries, 16+4*32); at++ {
		for _, size := range []int{1, 2, 4, 8} {
			for _, v := range values {
				b := slices.Clone(good)
				var raw [8]byte
				binary.LittleEndian.PutUint64(raw[:], v)
				copy(b[at:], raw[:size])
				if bytes.Equal(b, good) {
					continue
				}
				fsys.Damage("f", func([]byte) []byte { return reroot(b) })
				err := inspect(fsys, header(), disk.Info{}, seal.Plain())
				if err == nil {
					err = sameBytes(fsys)
				}
				if err != nil {
					found(t, fmt.Sprintf("%d bytes %x at %d of the table", size, v, at-table), err)
				}
			}
		}
	}
}

// sameBytes compares the sections with what was written, by their order. What a
// table may say without contradiction is another kind, and another block size
// of a section that has one block or none. Who knows the root is not deceived.
func sameBytes(fsys vfs.FS) error {
	f, err := disk.OpenFile(fsys, "f", header(), disk.Info{}, seal.Plain())
	if err != nil {
		return err
	}
	defer f.Close()
	ps := parts(1)
	if len(f.Kinds()) != len(ps) {
		return fmt.Errorf("%d sections", len(f.Kinds()))
	}
	for i, kind := range f.Kinds() {
		s, _ := f.Section(kind)
		if b, err := s.Bytes(0, s.Len()); err != nil || !bytes.Equal(b, ps[i].data) {
			return fmt.Errorf("section %d differs, %v", i, err)
		}
	}
	return nil
}

// TestDamagedPlaces: the error says where.
func TestDamagedPlaces(t *testing.T) {
	fsys, want := small(t, seal.Plain())
	fsys.Damage("f", func(b []byte) []byte { b[128+64+5] ^= 1; return b })
	err := inspect(fsys, header(), want, seal.Plain())
	if err == nil || err.Error() != "f: at 192: block 1: checksum mismatch: corrupt" {
		t.Error(err)
	}
	fsys, want = small(t, seal.Plain())
	fsys.Damage("f", func(b []byte) []byte { b[128+200+3] = 1; return b })
	err = inspect(fsys, header(), want, seal.Plain())
	if err == nil || err.Error() != "f: at 331: padding is not zero: corrupt" {
		t.Error(err)
	}
}

func TestMissingAndSpecial(t *testing.T) {
	fsys, want := small(t, seal.Plain())
	if err := fsys.Mkdir("d"); err != nil {
		t.Fatal(err)
	}
	_, err := disk.OpenFile(fsys, "gone", header(), want, seal.Plain())
	if !errors.Is(err, disk.ErrCorrupt) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file that should be there: %v", err)
	}
	_, err = disk.OpenFile(fsys, "gone", header(), disk.Info{}, seal.Plain())
	if errors.Is(err, disk.ErrCorrupt) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err = disk.OpenFile(fsys, "d", header(), want, seal.Plain()); !errors.Is(err, disk.ErrCorrupt) {
		t.Errorf("directory: %v", err)
	}
}

// TestReadFaults: what the disk does while a file is read is an error that is
// no corruption, or a bit that is found.
func TestReadFaults(t *testing.T) {
	fsys, want := small(t, seal.Plain())
	for _, op := range []faultfs.Op{faultfs.OpStat, faultfs.OpMap} {
		fsys.Inject(faultfs.Rule{Op: op})
		if err := inspect(fsys, header(), want, seal.Plain()); err == nil || errors.Is(err, disk.ErrCorrupt) {
			t.Errorf("failing %v: %v", op, err)
		}
	}
	for range 500 {
		in := fsys.Inject(faultfs.Rule{Op: faultfs.OpMap, Fault: faultfs.Flip})
		found(t, "bit flipped on the way", inspect(fsys, header(), want, seal.Plain()))
		in.Remove()
	}
	for _, op := range []faultfs.Op{faultfs.OpOpen, faultfs.OpRead, faultfs.OpClose} {
		fsys.Inject(faultfs.Rule{Op: op})
		if _, err := disk.ReadHeader(fsys, "f"); err == nil || errors.Is(err, disk.ErrCorrupt) {
			t.Errorf("ReadHeader with a failing %v: %v", op, err)
		}
	}
}

func TestVerifyIsCancelled(t *testing.T) {
	fsys, want := small(t, seal.Plain())
	f, err := disk.OpenFile(fsys, "f", header(), want, seal.Plain())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.Verify(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
