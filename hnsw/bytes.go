package hnsw

import (
	"math"
	"slices"

	"github.com/chromad/chromad/internal/kernel"
)

// A ByteFit looks at vectors, one after the other, and tells whether bytes can
// stand for their numbers without losing anything: all are integers in a range
// of 256. So are those of images, of many descriptors, and of embeddings whose
// models give them in int8. The zero value has seen none.
type ByteFit struct {
	least, most int32
	seen, not   bool
}

const (
	// byteBaseMost is how far from zero such a range may be: float32 has all
	// integers up to four times as far.
	byteBaseMost = 1 << 22
	// byteDimensions is the least dimension for bytes. Rows begin on cache
	// lines: from here on bytes have half as many, and soon a quarter.
	byteDimensions = 32
)

// Add looks at a vector. Behind the first vector that does not fit it costs
// nothing.
func (f *ByteFit) Add(v []float32) {
	if f.not || len(v) == 0 {
		return
	}
	if !f.seen {
		f.least, f.most, f.seen = math.MaxInt32, math.MinInt32, true
	}
	least, most, differ := f.least, f.most, uint32(0)
	for _, x := range v {
		n := int32(x)
		differ |= math.Float32bits(float32(n)) ^ math.Float32bits(x) // the zero that has a sign is no integer either
		least, most = min(least, n), max(most, n)
	}
	f.least, f.most = least, most
	f.not = differ != 0 || least < -byteBaseMost || most > byteBaseMost || most-least > math.MaxUint8
}

// Rows is a matrix for the vectors that were added, so many numbers each,
// without its data. ok is false when they do not fit, or when bytes would not
// be fewer cache lines.
func (f *ByteFit) Rows(dim int) (m kernel.ByteRows, ok bool) {
	return kernel.ByteRows{Base: float32(f.least), Stride: ByteStride(dim)}, f.seen && !f.not && dim >= byteDimensions
}

// IsByteBase reports whether a matrix may have the base: float32 has all numbers
// that its bytes can stand for.
func IsByteBase(x float32) bool {
	return x >= -byteBaseMost && x <= byteBaseMost && float32(int32(x)) == x
}

// ByteStride is the bytes from one row to the next.
func ByteStride(dim int) int {
	const align = kernel.ByteRowAlign
	return (dim + align - 1) / align * align
}

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
