package hnsw

import (
	"slices"

	"github.com/chromad/chromad/internal/kernel"
)

// A ByteFit looks at vectors, one after the other, and tells whether bytes can
// stand for their numbers without losing anything: all are integers from 0 to
// 255, or from -128 to 127. So are those of images, of many descriptors, and of
// embeddings whose models give them in int8. The zero value has seen none.
type ByteFit struct {
	seen bool
	lost [len(byteBases)]bool // something, with this base
	row  []byte
}

// byteBases are the numbers that a byte of 0 may stand for.
var byteBases = [...]int32{0, -128}

// byteDimensions is the least dimension for bytes. Rows begin on cache
// lines: from here on bytes have half as many, and soon a quarter.
const byteDimensions = 32

// Add looks at a vector. Behind the first that does not fit it costs nothing.
func (f *ByteFit) Add(v []float32) {
	f.seen = true
	f.row = slices.Grow(f.row[:0], len(v))[:len(v)]
	for i, base := range byteBases {
		f.lost[i] = f.lost[i] || !kernel.AsBytes(v, base, f.row)
	}
}

// Rows is a matrix for the vectors that were added, so many numbers each,
// without its data. ok is false when they do not fit, or when bytes would not
// be fewer cache lines.
func (f *ByteFit) Rows(dim int) (m kernel.ByteRows, ok bool) {
	i := slices.Index(f.lost[:], false)
	if i < 0 || !f.seen || dim < byteDimensions {
		return m, false
	}
	return kernel.ByteRows{Stride: kernel.ByteStride(dim), Base: float32(byteBases[i])}, true
}

// IsByteBase reports whether a matrix of vectors that fit may have the base.
func IsByteBase(x float32) bool {
	return slices.ContainsFunc(byteBases[:], func(base int32) bool { return float32(base) == x })
}

// AppendRow appends a vector that was added to the fit of m, and padding.
func AppendRow(b []byte, m *kernel.ByteRows, v []float32) []byte {
	n := len(b)
	b = slices.Grow(b, m.Stride)[:n+m.Stride]
	kernel.AsBytes(v, int32(m.Base), b[n:])
	clear(b[n+len(v):])
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
