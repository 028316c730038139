package wal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"path"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// shelf is a small log of three files: 1 to 3, 4 to 6 and 7 to 9, each entry
// in a frame of its own.
func shelf(t testing.TB, o Options) *faultfs.FS {
	t.Helper()
	fs := faultfs.New(1)
	l, err := Open(fs, Position{}, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range l.Replay() {
		t.Fatal(err)
	}
	for i := range 9 {
		if i == 3 || i == 6 {
			if err := l.Rotate(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := l.Commit(context.Background(), fmt.Appendf(nil, "entry %d", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return fs
}

// read replays without writing and says how many entries there are.
func read(fs *faultfs.FS, from uint64, o Options) (n int, err error) {
	o.ReadOnly = true
	l, err := Open(fs, Position{Seq: from}, o)
	if err != nil {
		return 0, err
	}
	for e, err := range l.Replay() {
		if err != nil {
			return n, errors.Join(err, l.Close())
		}
		if want := fmt.Sprintf("entry %d", e.Position.Seq); string(e.Payload) != want {
			return n, fmt.Errorf("entry %v is %q", e.Position, e.Payload)
		}
		n++
	}
	return n, l.Close()
}

// offsets lists where the frames of a file begin, and where they end.
func offsets(t testing.TB, fs *faultfs.FS, name string, o Options) (at []int64) {
	t.Helper()
	number, _ := disk.Number(path.Base(name), suffix)
	end := int64(0)
	for f, err := range Frames(fs, number, o) {
		if err != nil {
			t.Fatal(err)
		}
		at = append(at, f.Offset)
		end = f.Offset + f.Bytes
	}
	return append(at, end)
}

// walFiles lists the files of the log without the mark.
func walFiles(fs *faultfs.FS) []string {
	return slices.DeleteFunc(fs.Files(), func(n string) bool { return !strings.HasSuffix(n, suffix) })
}

func content(t testing.TB, fs *faultfs.FS, name string) []byte {
	t.Helper()
	b, err := fs.Content(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func replace(t testing.TB, fs *faultfs.FS, name string, b []byte) {
	t.Helper()
	if err := fs.Damage(name, func([]byte) []byte { return b }); err != nil {
		t.Fatal(err)
	}
}

// wantCorrupt checks that the damage is reported, with the file and a place in it.
func wantCorrupt(t *testing.T, what, name string, err error) {
	t.Helper()
	c, ok := errors.AsType[*disk.CorruptError](err)
	switch {
	case !ok:
		t.Errorf("%s: %v, want a corrupt error", what, err)
	case c.File != name:
		t.Errorf("%s: %v, want it in %s", what, err, name)
	}
}

func sealers() map[string]Options {
	return map[string]Options{"plain": {Store: seal.ID{1}}, "sealed": {Store: seal.ID{1}, Keys: newSealed()}}
}

// TestBitFlips turns every bit of a log. In the last frame of the last file it
// is a torn tail, unless the checkpoint lies beyond; anywhere else it is found.
func TestBitFlips(t *testing.T) {
	for kind, o := range sealers() {
		fs := shelf(t, o)
		names := walFiles(fs)
		at := offsets(t, fs, names[2], o)
		for _, name := range names {
			whole := content(t, fs, name)
			for bit := range 8 * len(whole) {
				b := bytes.Clone(whole)
				b[bit/8] ^= 1 << (bit % 8)
				replace(t, fs, name, b)
				what := fmt.Sprintf("%s: %s: bit %d of byte %d", kind, name, bit%8, bit/8)
				n, err := read(fs, 1, o)
				if tail := name == names[2] && int64(bit/8) >= at[2]; !tail {
					wantCorrupt(t, what, name, err)
					continue
				}
				if n != 8 || err != nil {
					t.Errorf("%s: %d entries, %v, want a torn tail", what, n, err)
				}
				_, err = read(fs, 10, o)
				wantCorrupt(t, what+" with a checkpoint", name, err)
			}
			replace(t, fs, name, whole)
		}
	}
}

// TestTornTail cuts the last frame at every byte, and leaves every set of its
// sectors unwritten.
func TestTornTail(t *testing.T) {
	for kind, o := range sealers() {
		fs := shelf(t, o)
		name := walFiles(fs)[2]
		whole := content(t, fs, name)
		at := offsets(t, fs, name, o)
		for size := range int64(len(whole)) {
			replace(t, fs, name, whole[:size])
			n, err := read(fs, 1, o)
			frames := slices.IndexFunc(at, func(off int64) bool { return off > size }) - 1
			if frames < 0 {
				wantCorrupt(t, fmt.Sprintf("%s: header of %d bytes", kind, size), name, err)
			} else if n != 6+frames || err != nil {
				t.Errorf("%s: %d bytes: %d entries, %v", kind, size, n, err)
			}
		}
		for _, fill := range []byte{0, 0xff} {
			const sector = 16
			sectors := (len(whole) - int(at[2]) + sector - 1) / sector
			for lost := 1; lost < 1<<sectors; lost++ {
				b := bytes.Clone(whole)
				for i := int(at[2]); i < len(b); i++ {
					if lost>>((i-int(at[2]))/sector)&1 == 1 {
						b[i] = fill
					}
				}
				replace(t, fs, name, b)
				n, err := read(fs, 1, o)
				if want := 8; err != nil || n != want && !bytes.Equal(b, whole) {
					t.Errorf("%s: sectors %b lost: %d entries, %v", kind, lost, n, err)
				}
			}
		}
	}
}

// TestGarbageHeaders puts numbers into the fields of a frame's header, with
// the checksum left wrong and with it made right. No length is believed beyond
// the size of the file.
func TestGarbageHeaders(t *testing.T) {
	o := Options{Store: seal.ID{1}}
	fs := shelf(t, o)
	fields := map[string][2]int{"length": {4, 4}, "index": {8, 8}, "first": {16, 8}, "count": {24, 4}, "spare": {28, 4}, "prev": {32, 8}}
	for _, file := range []int{1, 2} {
		name := walFiles(fs)[file]
		whole := content(t, fs, name)
		at := offsets(t, fs, name, o)
		id, err := disk.DecodeHeader(whole)
		if err != nil {
			t.Fatal(err)
		}
		for field, place := range fields {
			for _, value := range []uint64{0, 1, 2, 1 << 31, 1<<32 - 1, 1<<63 - 1, 1<<64 - 1} {
				for _, right := range []bool{false, true} {
					for frame, off := range at[:3] {
						b := bytes.Clone(whole)
						f := b[off:]
						old := bytes.Clone(f[:headSize])
						var number [8]byte
						binary.LittleEndian.PutUint64(number[:], value)
						copy(f[place[0]:place[0]+place[1]], number[:])
						if bytes.Equal(old, f[:headSize]) {
							continue
						}
						if right {
							at := id.Address(binary.LittleEndian.Uint64(f[8:]))
							binary.LittleEndian.PutUint64(f[headSumAt:], seal.Sum(f[:headSumAt], at))
						}
						replace(t, fs, name, b)
						what := fmt.Sprintf("file %d frame %d: %s = %d, checksum right: %v", file, frame, field, value, right)
						n, used, err := measured(fs, o)
						if limit := uint64(1 << 20); used > limit {
							t.Errorf("%s: %d bytes allocated", what, used)
						}
						// A false index that is right by its checksum, and larger, proves later frames.
						later := right && (field == "first" || field == "prev" || field == "spare" || field == "count" && value == 0 || field == "index" && value > uint64(frame)+1)
						if file == 2 && frame == 2 && !later {
							if n != 8 || err != nil {
								t.Errorf("%s: %d entries, %v, want a torn tail", what, n, err)
							}
							continue
						}
						wantCorrupt(t, what, name, err)
					}
				}
			}
		}
		replace(t, fs, name, whole)
	}
}

func measured(fs *faultfs.FS, o Options) (n int, used uint64, err error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n, err = read(fs, 1, o)
	runtime.ReadMemStats(&after)
	return n, after.TotalAlloc - before.TotalAlloc, err
}

// TestFrameOrder moves intact frames about.
func TestFrameOrder(t *testing.T) {
	for kind, o := range sealers() {
		fs := shelf(t, o)
		names := walFiles(fs)
		name := names[2]
		whole := content(t, fs, name)
		at := offsets(t, fs, name, o)
		head, f := whole[:at[0]], [][]byte{whole[at[0]:at[1]], whole[at[1]:at[2]], whole[at[2]:]}
		other := content(t, fs, names[1])
		alien := other[offsets(t, fs, names[1], o)[1]:]
		for _, c := range []struct {
			name    string
			parts   [][]byte
			entries int // -1: corrupt
		}{
			{"as it was", [][]byte{f[0], f[1], f[2]}, 9},
			{"swapped", [][]byte{f[1], f[0], f[2]}, -1},
			{"last ones swapped", [][]byte{f[0], f[2], f[1]}, -1},
			{"first dropped", [][]byte{f[1], f[2]}, -1},
			{"middle dropped", [][]byte{f[0], f[2]}, -1},
			{"first twice", [][]byte{f[0], f[0], f[1], f[2]}, -1},
			{"last twice", [][]byte{f[0], f[1], f[2], f[2]}, 9},
			{"an old one behind the last", [][]byte{f[0], f[1], f[2], f[0]}, 9},
			{"an old one in place of the last", [][]byte{f[0], f[1], f[0]}, 8},
			{"one of another file at the end", [][]byte{f[0], alien}, 7},
			{"one of another file in the middle", [][]byte{f[0], alien, f[2]}, -1},
			{"zeros behind the last", [][]byte{f[0], f[1], f[2], make([]byte, 5000)}, 9},
			{"zeros before the last", [][]byte{f[0], f[1], make([]byte, 5000), f[2]}, 8},
			{"far away", [][]byte{f[0], f[1][:20], make([]byte, 2*readAhead-30), f[2]}, -1},
			{"across a border of reading", [][]byte{f[0], f[1][:1], make([]byte, readAhead-2), f[2]}, -1},
			{"header of the last alone", [][]byte{f[0], f[1][:9], f[2][:frameOverhead]}, -1},
		} {
			replace(t, fs, name, slices.Concat(append([][]byte{head}, c.parts...)...))
			n, err := read(fs, 1, o)
			if c.entries < 0 {
				wantCorrupt(t, kind+": "+c.name, name, err)
			} else if err != nil || n != c.entries {
				t.Errorf("%s: %s: %d entries, %v, want %d", kind, c.name, n, err, c.entries)
			}
		}
	}
}

// TestForkedFrame refuses a frame that fits but for the frame before it.
func TestForkedFrame(t *testing.T) {
	o := Options{Store: seal.ID{1}}
	fs := shelf(t, o)
	name := walFiles(fs)[2]
	whole := content(t, fs, name)
	at := offsets(t, fs, name, o)
	id, err := disk.DecodeHeader(whole)
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := appendFrame(bytes.Clone(whole[:at[2]]), []byte("\x06forked"), head{index: 3, first: 9, count: 1, prev: 1}, id, seal.Plain())
	if err != nil {
		t.Fatal(err)
	}
	replace(t, fs, name, b)
	_, err = read(fs, 1, o)
	wantCorrupt(t, "forked", name, err)
}

// TestFiles takes files away, changes them for others, and adds strangers.
func TestFiles(t *testing.T) {
	o := Options{Store: seal.ID{1}}
	names := walFiles(shelf(t, o))
	remove := func(i ...int) func(*faultfs.FS) error {
		return func(fs *faultfs.FS) (err error) {
			for _, i := range i {
				err = errors.Join(err, fs.Remove(names[i]))
			}
			return err
		}
	}
	take := func(i int, from Options, j int) func(*faultfs.FS) error {
		return func(fs *faultfs.FS) error {
			other := shelf(t, from)
			replace(t, fs, names[i], content(t, other, walFiles(other)[j]))
			return nil
		}
	}
	patch := func(i, at int, b ...byte) func(*faultfs.FS) error {
		return func(fs *faultfs.FS) error {
			whole := content(t, fs, names[i])
			copy(whole[at:], b)
			h, err := disk.DecodeHeader(whole)
			if err == nil {
				return fmt.Errorf("header %v is not protected", h)
			}
			replace(t, fs, names[i], whole)
			return nil
		}
	}
	stray := func(fs *faultfs.FS) error {
		for _, n := range []string{"log/0000000000000009.tmp", "log/0000000000000008.newest.tmp", "log/x.newest", "log/x.wal", "log/000000000000000A.wal", "log/0000000000000000.wal", "log/00000000000000011.wal"} {
			f, err := fs.Create(n)
			if err := errors.Join(err, f.Close()); err != nil {
				return err
			}
		}
		return fs.Mkdir("log/000000000000000b.tmp")
	}
	for _, c := range []struct {
		name   string
		from   uint64
		change func(*faultfs.FS) error
		file   string // that is reported, or "" for none
	}{
		{"whole", 1, remove(), ""},
		{"first missing", 1, remove(0), names[1]},
		{"first missing, released", 4, remove(0), ""},
		{"first missing, released in part", 3, remove(0), names[1]},
		{"middle missing", 1, remove(1), names[0]},
		{"middle missing, released", 7, remove(1), ""},
		{"none, checkpoint beyond", 2, remove(0, 1, 2), names[2]},
		{"checkpoint beyond the end", 11, remove(), names[2]},
		{"checkpoint at the end", 10, remove(), ""},
		{"other store", 1, take(1, Options{Store: seal.ID{2}}, 1), names[1]},
		{"other store, last", 1, take(2, Options{Store: seal.ID{2}}, 2), names[2]},
		{"other store, released", 7, take(1, Options{Store: seal.ID{2}}, 1), ""},
		{"other number", 1, take(1, o, 0), names[1]},
		{"same place, other history", 1, take(1, o, 1), names[1]},
		{"same place, other history, last", 1, take(2, o, 2), names[2]},
		{"same place, other history, from there on", 4, take(1, o, 1), names[2]},
		{"other epoch", 1, take(1, Options{Store: o.Store, Epoch: 4}, 1), names[1]},
		{"other store altogether", 1, func(fs *faultfs.FS) error {
			return errors.Join(take(0, Options{Store: seal.ID{2}}, 0)(fs), take(1, Options{Store: seal.ID{2}}, 1)(fs), take(2, Options{Store: seal.ID{2}}, 2)(fs))
		}, names[2]},
		{"magic", 1, patch(1, 0, 'X'), names[1]},
		{"version without checksum", 1, patch(1, 8, 9), names[1]},
		{"not a file", 1, func(fs *faultfs.FS) error { return fs.Mkdir("log/0000000000000004.wal") }, "log/0000000000000004.wal"},
		{"strangers", 1, stray, ""},
	} {
		fs := shelf(t, o)
		if err := c.change(fs); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		n, err := read(fs, c.from, o)
		if c.file != "" {
			wantCorrupt(t, c.name, c.file, err)
			continue
		}
		if want := 10 - int(c.from); err != nil || n != want {
			t.Errorf("%s: %d entries, %v, want %d", c.name, n, err, want)
			continue
		}
		if err := useAndReopen(fs, c.from, o); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// useAndReopen appends to what is there and looks at it again.
func useAndReopen(fs *faultfs.FS, from uint64, o Options) error {
	for range 2 {
		l, err := Open(fs, Position{Seq: from}, o)
		if err != nil {
			return err
		}
		for _, err := range l.Replay() {
			if err != nil {
				return err
			}
		}
		if _, err := l.Commit(context.Background(), fmt.Appendf(nil, "entry %d", l.Next().Seq)); err != nil {
			return err
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(fs.Files(), func(n string) bool { return strings.HasSuffix(n, tmpSuffix) }) {
		return fmt.Errorf("left behind: %v", fs.Files())
	}
	_, err := read(fs, from, o)
	return err
}

// TestOtherFormat refuses what is newer, or under another key, before a byte
// is written.
func TestOtherFormat(t *testing.T) {
	plain, sealed := Options{Store: seal.ID{1}}, Options{Store: seal.ID{1}, Keys: newSealed()}
	for _, c := range []struct {
		name      string
		made, now Options
		version   uint16
		kind      seal.Kind
		want      error
	}{
		{"newer", plain, plain, disk.Version + 1, seal.KindLog, disk.ErrFormat},
		{"unknown kind", plain, plain, disk.Version, 99, disk.ErrFormat},
		{"segment", plain, plain, disk.Version, seal.KindSegment, disk.ErrCorrupt},
		{"key for a plain log", plain, sealed, disk.Version, seal.KindLog, disk.ErrKey},
		{"no key for a sealed log", sealed, plain, disk.Version, seal.KindLog, disk.ErrKey},
	} {
		fs := shelf(t, c.made)
		name := walFiles(fs)[2]
		b := content(t, fs, name)
		h, err := disk.DecodeHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		h.Version, h.Kind = c.version, c.kind
		head, _ := h.AppendBinary(nil)
		replace(t, fs, name, append(head, b[len(head):]...))
		before := tree(t, fs)
		ops := fs.Ops()
		if _, err := Open(fs, Position{}, c.now); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if fs.Ops() != ops || !maps.Equal(before, tree(t, fs)) {
			t.Errorf("%s: something was written", c.name)
		}
	}
}

func tree(t *testing.T, fs *faultfs.FS) map[string]string {
	all := map[string]string{}
	for _, n := range fs.Files() {
		all[n] = string(content(t, fs, n))
	}
	return all
}
