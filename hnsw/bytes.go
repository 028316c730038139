package hnsw

import (
	"math"

	"github.com/chromad/chromad/internal/kernel"
)

// A ByteFit looks at vectors, one after the other, and tells whether bytes can
// stand for their numbers without losing anything: all are integers in a range
// of 256. So are those of images, of many descriptors, and of embeddings whose
// models give them in int8. The zero value has seen none.
type ByteFit struct {
	least, most float32
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

// Add looks at a vector. Behind the first number that does not fit it costs
// nothing.
func (f *ByteFit) Add(v []float32) {
	if f.not || len(v) == 0 {
		return
	}
	if !f.seen {
		f.least, f.most, f.seen = v[0], v[0], true
	}
	least, most := f.least, f.most
	for _, x := range v {
		// The last is the zero that has a sign.
		if !IsByteBase(x) || x == 0 && math.Signbit(float64(x)) {
			f.not = true
			return
		}
		least, most = min(least, x), max(most, x)
	}
	f.least, f.most, f.not = least, most, most-least > math.MaxUint8
}

// Rows is a matrix for the vectors that were added, so many numbers each,
// without its data. ok is false when they do not fit, or when bytes would not
// be fewer cache lines.
func (f *ByteFit) Rows(dim int) (m kernel.ByteRows, ok bool) {
	return kernel.ByteRows{Base: f.least, Stride: ByteStride(dim)}, f.seen && !f.not && dim >= byteDimensions
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
	for _, x := range v {
		b = append(b, uint8(x-m.Base))
	}
	return append(b, make([]byte, m.Stride-len(v))...)
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
