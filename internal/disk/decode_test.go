package disk_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"github.com/chromad/chromad/internal/disk"
)

func TestDecoder(t *testing.T) {
	var b []byte
	b = append(b, 7)
	b = binary.LittleEndian.AppendUint16(b, 0xfffe)
	b = binary.LittleEndian.AppendUint32(b, 1<<31)
	b = binary.LittleEndian.AppendUint64(b, 1<<63)
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(math.Inf(-1)))
	b = binary.AppendUvarint(b, math.MaxUint64)
	b = append(b, "\x03abc\x00\x02de"...)
	b = append(b, 2, 1, 2, 3, 4)
	d := disk.NewDecoder(b)
	ok := d.Byte() == 7 && d.Uint16() == 0xfffe && d.Uint32() == 1<<31 && d.Uint64() == 1<<63 &&
		math.IsInf(d.Float64(), -1) && d.Uvarint() == math.MaxUint64 && string(d.Blob()) == "abc" && d.String() == "" &&
		d.String() == "de" && d.Count(2) == 2 && d.Len() == 4
	if !ok || d.Err() != nil {
		t.Fatalf("at %d bytes before the end: %v", d.Len(), d.Err())
	}
	if p := d.Bytes(2); !bytes.Equal(p, []byte{1, 2}) || cap(p) != 2 {
		t.Errorf("%v with room for %d: appending to it would overwrite what follows", p, cap(p))
	}
	if !bytes.Equal(d.Bytes(2), []byte{3, 4}) || d.Done() != nil {
		t.Error(d.Err())
	}
}

func TestDecoderErrors(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		read func(d *disk.Decoder)
	}{
		"byte of nothing":      {"", func(d *disk.Decoder) { d.Byte() }},
		"uint16 of one":        {"1", func(d *disk.Decoder) { d.Uint16() }},
		"uint32 of three":      {"123", func(d *disk.Decoder) { d.Uint32() }},
		"uint64 of seven":      {"1234567", func(d *disk.Decoder) { d.Uint64() }},
		"negative length":      {"1234567", func(d *disk.Decoder) { d.Bytes(-1) }},
		"too many bytes":       {"1234567", func(d *disk.Decoder) { d.Bytes(8) }},
		"largest length":       {"1234567", func(d *disk.Decoder) { d.Bytes(math.MaxInt) }},
		"varint without end":   {"\x80\x80", func(d *disk.Decoder) { d.Uvarint() }},
		"varint of 65 bits":    {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", func(d *disk.Decoder) { d.Uvarint() }},
		"varint of 11 bytes":   {"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", func(d *disk.Decoder) { d.Uvarint() }},
		"varint not shortest":  {"\x81\x00", func(d *disk.Decoder) { d.Uvarint() }},
		"blob beyond the end":  {"\x04abc", func(d *disk.Decoder) { d.Blob() }},
		"blob of 2^64-1":       {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", func(d *disk.Decoder) { d.Blob() }},
		"more items than room": {"\x03abcde", func(d *disk.Decoder) { d.Count(2) }},
		"items of size 0":      {"\x06abcde", func(d *disk.Decoder) { d.Count(0) }},
		"the caller's":         {"abc", func(d *disk.Decoder) { d.Fail("no such kind %d", 3) }},
		"left over":            {"a", func(d *disk.Decoder) {}},
	} {
		d := disk.NewDecoder([]byte(c.in))
		c.read(d)
		err := d.Err() // of what was read, not of what is left over
		if name == "left over" {
			err = d.Done()
		}
		if !errors.Is(err, disk.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		// The error sticks and everything after it is zero.
		if d.Len() != 0 || d.Byte() != 0 || d.Uint64() != 0 || d.Uvarint() != 0 || d.Count(1) != 0 ||
			d.Blob() != nil || d.String() != "" || d.Bytes(0) != nil || d.Err() != err || d.Done() != err {
			t.Errorf("%s: the decoder goes on", name)
		}
	}
}

// FuzzDecoder drives a decoder with calls that the input chooses: it never
// returns more than there is.
func FuzzDecoder(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8}, []byte("\x03abc\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, calls, b []byte) {
		d := disk.NewDecoder(b)
		for _, c := range calls {
			before := d.Len()
			switch c % 9 {
			case 0:
				d.Byte()
			case 1:
				d.Uint16()
			case 2:
				d.Uint32()
			case 3:
				d.Uint64()
			case 4:
				v := d.Uvarint()
				if d.Err() == nil && before-d.Len() != len(binary.AppendUvarint(nil, v)) {
					t.Fatalf("%d was read from %d bytes", v, before-d.Len())
				}
			case 5:
				if p := d.Blob(); len(p) > before || cap(p) != len(p) {
					t.Fatalf("%d bytes of %d, capacity %d", len(p), before, cap(p))
				}
			case 6:
				if s := d.String(); len(s) > before {
					t.Fatalf("%d bytes of %d", len(s), before)
				}
			case 7:
				if n := d.Count(int(c)); n*max(1, int(c)) > before {
					t.Fatalf("%d items of %d in %d bytes", n, c, before)
				}
			case 8:
				d.Bytes(int(int8(c)))
			}
			if d.Len() > before {
				t.Fatalf("%d bytes left of %d", d.Len(), before)
			}
		}
	})
}
