package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/chromad/chromad/internal/mutant"
)

var errDecode = errors.New("decode")

// Decoder reads a byte slice front to back. The first error sticks: every
// later read returns zero, so that a caller may read a whole record and ask
// Err once. No length that it returns is larger than what is left.
type Decoder struct {
	b    []byte
	size int
	err  error
}

// NewDecoder reads b, which the caller must leave alone meanwhile.
func NewDecoder(b []byte) *Decoder { return &Decoder{b: b, size: len(b)} }

// Len is how many bytes are left, 0 after an error.
func (d *Decoder) Len() int { return len(d.b) }

// Err is the first error. errors.Is(err, ErrCorrupt) holds.
func (d *Decoder) Err() error { return d.err }

// Done is Err, or an error when bytes are left over.
func (d *Decoder) Done() error {
	if d.err == nil && len(d.b) > 0 {
		d.fail("%d bytes left over", len(d.b))
	}
	return d.err
}

// Fail makes the decoder stop with an error of the caller's, at this place.
func (d *Decoder) Fail(format string, args ...any) { d.fail(format, args...) }

func (d *Decoder) fail(format string, args ...any) {
	if d.err == nil {
		at := d.size - len(d.b)
		d.err = fmt.Errorf("%w at %d: %w: %w", errDecode, at, fmt.Errorf(format, args...), ErrCorrupt)
	}
	d.b = nil
}

// Bytes returns the next n bytes. They alias the slice that is read.
func (d *Decoder) Bytes(n int) []byte {
	if d.err != nil {
		return nil
	}
	if n < 0 || n > len(d.b) {
		d.fail("%d bytes wanted, %d left", n, len(d.b))
		return nil
	}
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

// Byte returns the next byte.
func (d *Decoder) Byte() byte {
	if p := d.Bytes(1); p != nil {
		return p[0]
	}
	return 0
}

// Uint16 returns two bytes, little endian like all that follow.
func (d *Decoder) Uint16() uint16 {
	if p := d.Bytes(2); p != nil {
		return binary.LittleEndian.Uint16(p)
	}
	return 0
}

// Uint32 returns four bytes.
func (d *Decoder) Uint32() uint32 {
	if p := d.Bytes(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

// Uint64 returns eight bytes.
func (d *Decoder) Uint64() uint64 {
	if p := d.Bytes(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

// Float64 returns the IEEE 754 number in eight bytes, any NaN included.
func (d *Decoder) Float64() float64 { return math.Float64frombits(d.Uint64()) }

// Uvarint returns an unsigned variable-length number. Only the shortest form
// of a number is accepted, so that equal values have equal bytes.
func (d *Decoder) Uvarint() uint64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Uvarint(d.b)
	if n <= 0 || (n > 1 && d.b[n-1] == 0) {
		d.fail("bad variable-length number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

// Blob returns a Uvarint length and that many bytes, which alias the slice
// that is read.
func (d *Decoder) Blob() []byte { return d.Bytes(d.Count(1)) }

// String returns a copy of what Blob returns.
func (d *Decoder) String() string { return string(d.Blob()) }

// Count returns a Uvarint number of items that each take at least size bytes
// of what follows. It is an error when so many cannot follow, so the result
// may be used as a capacity.
func (d *Decoder) Count(size int) int {
	n := d.Uvarint()
	if d.err != nil {
		return 0
	}
	if most := uint64(len(d.b) / max(size, 1)); n > most && !mutant.On(mutant.LengthBelieved) {
		d.fail("%d items announced, room for %d", n, most)
		return 0
	}
	return int(n)
}
