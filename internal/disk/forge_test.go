package disk_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// unlock hands the table of a sealed file, decrypted, to change and seals what
// that made of it: what only somebody with the key can do.
func unlock(t *testing.T, b []byte, s testKeys, change func(table []byte)) []byte {
	t.Helper()
	c := unsealTable(t, b, s)
	change(c[binary.LittleEndian.Uint64(c[len(c)-32:]) : len(c)-32])
	return reroot(sealTable(t, c, s))
}

// unsealTable returns a copy of a file whose table is in the clear.
func unsealTable(t testing.TB, b []byte, s testKeys) []byte {
	t.Helper()
	return swapTable(b, s.Overhead(), func(table []byte) ([]byte, error) {
		return s.Open(nil, table, header().Address(1<<63), b[:disk.HeaderSize])
	}, t)
}

// sealTable returns a copy of a file whose table, which was in the clear, is
// sealed under the identity of header, however the header reads.
func sealTable(t testing.TB, b []byte, s testKeys) []byte {
	t.Helper()
	h, err := disk.DecodeHeader(reroot(slices.Clone(b)))
	if err != nil {
		h = header() // nobody will come to the table
	}
	head := reroot(slices.Clone(b))[:disk.HeaderSize]
	return swapTable(b, -s.Overhead(), func(table []byte) ([]byte, error) {
		return s.Seal(nil, table, h.Address(1<<63), head)
	}, t)
}

// swapTable replaces the table, which gets shorter by so many bytes.
func swapTable(b []byte, shorter int, change func([]byte) ([]byte, error), t testing.TB) []byte {
	t.Helper()
	if shorter == 0 {
		return slices.Clone(b)
	}
	foot := slices.Clone(b[len(b)-32:])
	at := binary.LittleEndian.Uint64(foot)
	table, err := change(b[at : len(b)-32])
	if err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint64(foot[8:], binary.LittleEndian.Uint64(foot[8:])-uint64(shorter))
	return slices.Concat(b[:at], table, foot)
}

// TestForgedBlock: whoever changes an encrypted block and makes all checksums
// right again is found out by the encryption of the block, even with a table
// that says what it should.
func TestForgedBlock(t *testing.T) {
	s := newGCM(t)
	fsys, _ := small(t, s)
	fsys.Damage("f", func(b []byte) []byte {
		b[disk.HeaderSize] ^= 1
		stored := b[disk.HeaderSize:][:64+s.Overhead()]
		return unlock(t, b, s, func(table []byte) {
			binary.LittleEndian.PutUint64(table[16+len(parts(1))*32:], seal.Sum(stored, header().Address(0)))
		})
	})
	f, err := disk.OpenFile(fsys, "f", header(), disk.Info{}, s)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sec, _ := f.Section(1)
	for range 2 {
		_, err := sec.Bytes(0, 1)
		found(t, "forged block touched", err)
		found(t, "forged block verified", f.Verify(t.Context()))
	}
	if _, err := sec.Bytes(64, 1); err != nil {
		t.Errorf("the block after it: %v", err)
	}
}

// TestSealedTable: without the key nobody changes a table, a header or what
// belongs together, however right the checksums are made.
func TestSealedTable(t *testing.T) {
	s := newGCM(t)
	fsys, want := small(t, s)
	fsys.Damage("f", func(b []byte) []byte { return unlock(t, b, s, func([]byte) {}) })
	if err := inspect(fsys, header(), want, s); err != nil {
		t.Fatalf("sealed again: %v", err)
	}
	for what, change := range map[string]func(b []byte) []byte{
		"a byte of the table": func(b []byte) []byte {
			b[binary.LittleEndian.Uint64(b[len(b)-32:])+20] ^= 1
			return b
		},
		"its last byte": func(b []byte) []byte { b[len(b)-33] ^= 1; return b },
		"the key id":    func(b []byte) []byte { b[12] ^= 3; return b }, // 9 and 10 are one key here
		"a table in the clear": func(b []byte) []byte {
			h := header()
			at := binary.LittleEndian.Uint64(b[len(b)-32:])
			table, err := s.Open(nil, b[at:len(b)-32], h.Address(1<<63), b[:disk.HeaderSize])
			if err != nil {
				t.Fatal(err)
			}
			foot := slices.Clone(b[len(b)-32:])
			binary.LittleEndian.PutUint64(foot[8:], uint64(len(table)))
			return append(append(b[:at:at], table...), foot...)
		},
		"no table": func(b []byte) []byte {
			at := binary.LittleEndian.Uint64(b[len(b)-32:])
			foot := slices.Clone(b[len(b)-32:])
			binary.LittleEndian.PutUint64(foot[8:], 24)
			return append(append(b[:at:at], make([]byte, 24)...), foot...)
		},
		"a table of another place": func(b []byte) []byte { // the same key and file
			at := binary.LittleEndian.Uint64(b[len(b)-32:])
			table, err := s.Open(nil, b[at:len(b)-32], header().Address(1<<63), b[:disk.HeaderSize])
			if err != nil {
				t.Fatal(err)
			}
			moved, err := s.Seal(nil, table, header().Address(7), b[:disk.HeaderSize])
			if err != nil {
				t.Fatal(err)
			}
			copy(b[at:], moved)
			return b
		},
	} {
		fsys, _ := small(t, s)
		fsys.Damage("f", func(b []byte) []byte { return reroot(change(b)) })
		_, err := disk.OpenFile(fsys, "f", header(), disk.Info{}, anyKey{s})
		found(t, what, err)
	}
}

// anyKey says that every key is its own.
type anyKey struct{ gcm }

func (k anyKey) Reader(seal.Address, uint32) (seal.Sealer, error) { return k.gcm, nil }

// entry is a section of a table that is made up.
type entry struct {
	kind, reserved        uint16
	size                  uint32
	length, offset, first uint64
}

// forge makes a file with right checksums around a made-up table. Content is
// zeros.
func forge(content int, entries []entry, sums int) []byte {
	b, _ := header().AppendBinary(nil)
	b = append(b, make([]byte, content)...)
	at := uint64(len(b))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(entries)))
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(sums))
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint16(b, e.kind)
		b = binary.LittleEndian.AppendUint16(b, e.reserved)
		b = binary.LittleEndian.AppendUint32(b, e.size)
		b = binary.LittleEndian.AppendUint64(b, e.length)
		b = binary.LittleEndian.AppendUint64(b, e.offset)
		b = binary.LittleEndian.AppendUint64(b, e.first)
	}
	for i := range sums {
		b = binary.LittleEndian.AppendUint64(b, seal.Sum(make([]byte, 64), header().Address(uint64(i))))
	}
	length := uint64(len(b)) - at
	b = binary.LittleEndian.AppendUint64(b, at)
	b = binary.LittleEndian.AppendUint64(b, length)
	b = binary.LittleEndian.AppendUint64(b, 0)
	return reroot(append(b, "CHROMEND"...))
}

// TestForgedTable: what a table may not say, each lie alone in a file in which
// everything else is right.
func TestForgedTable(t *testing.T) {
	good := []entry{{1, 0, 64, 128, 128, 0}, {2, 0, 64, 64, 256, 2}}
	with := func(i int, change func(*entry)) []entry {
		es := slices.Clone(good)
		change(&es[i])
		return es
	}
	many := func(n int) (es []entry) {
		for i := range n {
			es = append(es, entry{uint16(i), 0, 64, 0, 128, 0})
		}
		return es
	}
	for what, c := range map[string]struct {
		content int
		entries []entry
		sums    int
		ok      bool
	}{
		"nothing wrong":             {192, good, 3, true},
		"no sections":               {0, nil, 0, true},
		"256 sections":              {0, many(256), 0, true},
		"257 sections":              {0, many(257), 0, false},
		"bytes of no section":       {256, good, 3, false},
		"bytes but no section":      {64, nil, 0, false},
		"a checksum of no block":    {192, good, 4, false},
		"a checksum missing":        {192, good, 2, false},
		"table inside the last":     {128, good, 3, false},
		"reserved field":            {192, with(0, func(e *entry) { e.reserved = 1 }), 3, false},
		"kind twice":                {192, with(1, func(e *entry) { e.kind = 1 }), 3, false},
		"block size 0":              {192, with(0, func(e *entry) { e.size = 0 }), 3, false},
		"block size unaligned":      {192, with(0, func(e *entry) { e.size = 65 }), 3, false},
		"block size over the limit": {192, with(1, func(e *entry) { e.size = 1<<31 + 64 }), 3, false},
		"overlap":                   {192, with(1, func(e *entry) { e.offset = 192 }), 3, false},
		"gap":                       {256, with(1, func(e *entry) { e.offset = 320 }), 3, false},
		"before the header's end":   {192, with(0, func(e *entry) { e.offset = 64 }), 3, false},
		"first block":               {192, with(1, func(e *entry) { e.first = 1 }), 3, false},
		"length beyond the file":    {192, with(1, func(e *entry) { e.length = 1 << 40 }), 3, false},
		"length that overflows":     {192, with(1, func(e *entry) { e.length = 1<<63 - 1 }), 3, false},
		"length of 2^64-64":         {192, with(1, func(e *entry) { e.length = 1<<64 - 64 }), 3, false},
	} {
		fsys := faultfs.New(1)
		h, err := fsys.Create("f")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Write(forge(c.content, c.entries, c.sums)); err != nil {
			t.Fatal(err)
		}
		err = inspect(fsys, header(), disk.Info{}, seal.Plain())
		if c.ok && err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if !c.ok {
			found(t, what, err)
		}
	}
}
