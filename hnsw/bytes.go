package hnsw

import (
	"math"
	"slices"

	"github.com/chromad/chromad/internal/kernel"
)

// A ByteFit looks at vectors, one after the other, and tells whether bytes can
// stand for their numbers without losing anything: all are integers from 0 to
// 255, or from -128 to 127. So are those of images, of many descriptors, and of
// embeddings whose models give them in int8. The zero value has seen none.
type ByteFit struct {
	seen             bool
	differ           uint32 // not 0: some are no integers
	unsigned, signed uint32 // all bits of the numbers, as they are and from -128 on
}

const (
	signedBase = -128
	// byteDimensions is the least dimension for bytes. Rows begin on cache
	// lines: from here on bytes have half as many, and soon a quarter.
	byteDimensions = 32
)

// Add looks at a vector. Behind the first that does not fit it costs nothing.
func (f *ByteFit) Add(v []float32) {
	if f.seen && !f.fits() {
		return
	}
	f.seen = true
	differ, unsigned, signed := f.differ, f.unsigned, f.signed
	for _, x := range v {
		n := int32(x)
		differ |= math.Float32bits(float32(n)) ^ math.Float32bits(x) // the zero that has a sign is none either
		unsigned |= uint32(n)
		signed |= uint32(n - signedBase)
	}
	f.differ, f.unsigned, f.signed = differ, unsigned, signed
}

func (f *ByteFit) fits() bool {
	return f.differ == 0 && (f.unsigned <= math.MaxUint8 || f.signed <= math.MaxUint8)
}

// Rows is a matrix for the vectors that were added, so many numbers each,
// without its data. ok is false when they do not fit, or when bytes would not
// be fewer cache lines.
func (f *ByteFit) Rows(dim int) (m kernel.ByteRows, ok bool) {
	m.Stride = kernel.ByteStride(dim)
	if f.unsigned > math.MaxUint8 {
		m.Base = signedBase
	}
	return m, f.seen && f.fits() && dim >= byteDimensions
}

// IsByteBase reports whether a matrix of vectors that fit may have the base.
func IsByteBase(x float32) bool { return x == 0 || x == signedBase }

// AppendRow appends a vector that was added to the fit of m, and padding.
func AppendRow(b []byte, m *kernel.ByteRows, v []float32) []byte {
	n := len(b)
	b = slices.Grow(b, m.Stride)[:n+m.Stride]
	row, base := b[n:], int32(m.Base)
	for i, x := range v {
		row[i] = uint8(int32(x) - base)
	}
	clear(row[len(v):])
	return b
}

// InBytes is the rows of v in bytes; without data when that cannot be.
func InBytes(v Vectors) kernel.ByteRows {
	var f ByteFit
	for r := range v.Rows {
		f.Add(v.row(uint32(r)))
	}
	m, ok := f.Rows(v.Dim)
	if !ok {
		return kernel.ByteRows{}
	}
	m.Data = make([]byte, 0, v.Rows*m.Stride)
	for r := range v.Rows {
		m.Data = AppendRow(m.Data, &m, v.row(uint32(r)))
	}
	return m
}
