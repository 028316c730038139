package kernel

import (
	"math"
	"slices"
)

// A floatForm computes with float32 vectors. No slice is empty; a range
// begins at the first row of data.
type floatForm struct {
	dot, l2           func(a, b []float32) float32
	dotRows, l2Rows   func(q, data []float32, stride int, rows []uint32, out []float32)
	dotRange, l2Range func(q, data []float32, stride int, out []float32)

	dotByteRows, l2ByteRows func(q []float32, data []uint8, base float32, stride int, rows []uint32, out []float32)
}

// Dot is the inner product of two vectors of one length.
func Dot(a, b []float32) float32 {
	sameLength(len(a), len(b))
	if len(a) == 0 {
		return 0
	}
	return active.dot(a, b)
}

// L2Squared is the squared Euclidean distance of two vectors of one length.
func L2Squared(a, b []float32) float32 {
	sameLength(len(a), len(b))
	if len(a) == 0 {
		return 0
	}
	return active.l2(a, b)
}

// DotRows sets out[i] to the inner product of q and row rows[i] of the matrix
// data, whose rows begin stride numbers apart. len(out) must be at least
// len(rows).
func DotRows(q, data []float32, stride int, rows []uint32, out []float32) {
	if out = out[:len(rows)]; gatherable(q, data, stride, rows) {
		overRows(active.dotRows, q, data, stride, rows, out)
		return
	}
	clear(out)
}

// L2Rows is DotRows for the squared Euclidean distance.
func L2Rows(q, data []float32, stride int, rows []uint32, out []float32) {
	if out = out[:len(rows)]; gatherable(q, data, stride, rows) {
		overRows(active.l2Rows, q, data, stride, rows, out)
		return
	}
	clear(out)
}

// DotRange sets out[i] to the inner product of q and row first+i of the
// matrix data, whose rows begin stride numbers apart.
func DotRange(q, data []float32, stride, first int, out []float32) {
	if sequential(q, data, stride, first, len(out)) {
		overRange(active.dotRange, q, data[first*stride:], stride, out)
		return
	}
	clear(out)
}

// L2Range is DotRange for the squared Euclidean distance.
func L2Range(q, data []float32, stride, first int, out []float32) {
	if sequential(q, data, stride, first, len(out)) {
		overRange(active.l2Range, q, data[first*stride:], stride, out)
		return
	}
	clear(out)
}

// ByteRows is a matrix of numbers that are integers from Base to Base+255: a
// byte for each, how far it is above Base. Rows begin Stride bytes apart, see
// ByteStride.
type ByteRows struct {
	Data   []uint8
	Base   float32
	Stride int
}

// byteRowAlign is what rows of bytes are padded to: kernels read whole
// registers.
const byteRowAlign = 64

// ByteStride is the stride of rows of so many numbers.
func ByteStride(numbers int) int { return (numbers + byteRowAlign - 1) / byteRowAlign * byteRowAlign }

// DotRows is DotRows of the numbers that the bytes stand for, to the last bit
// where Base+255 and Base are integers that float32 can tell from their
// neighbours.
func (m *ByteRows) DotRows(q []float32, rows []uint32, out []float32) {
	m.over(active.dotByteRows, q, rows, out)
}

// L2Rows is DotRows for the squared Euclidean distance.
func (m *ByteRows) L2Rows(q []float32, rows []uint32, out []float32) {
	m.over(active.l2ByteRows, q, rows, out)
}

func (m *ByteRows) over(f func(q []float32, data []uint8, base float32, stride int, rows []uint32, out []float32), q []float32, rows []uint32, out []float32) {
	out = out[:len(rows)]
	if len(rows) == 0 || len(q) == 0 {
		clear(out)
		return
	}
	m.inside(len(q), slices.Max(rows))
	piece := max(1, preemptAfter/m.Stride)
	for len(rows) > piece {
		f(q, m.Data, m.Base, m.Stride, rows[:piece], out[:piece])
		rows, out = rows[piece:], out[piece:]
	}
	f(q, m.Data, m.Base, m.Stride, rows, out)
}

// InvNorm is 1/|v|, and 0 for a zero vector, whose cosine distance to
// everything is therefore 1.
func InvNorm(v []float32) float32 {
	s := Dot(v, v)
	if s > 1e-30 && s <= math.MaxFloat32 {
		return float32(1 / math.Sqrt(float64(s)))
	}
	// The squares of very small or very large numbers leave the range of
	// float32, those of float32 never leave that of float64.
	var wide float64
	for _, x := range v {
		wide += float64(x) * float64(x)
	}
	if wide == 0 {
		return 0
	}
	return float32(min(1/math.Sqrt(wide), math.MaxFloat32))
}

// overRows calls f for pieces of the list that are short enough.
func overRows(f func(q, data []float32, stride int, rows []uint32, out []float32), q, data []float32, stride int, rows []uint32, out []float32) {
	piece := max(1, preemptAfter/4/len(q))
	for len(rows) > piece {
		f(q, data, stride, rows[:piece], out[:piece])
		rows, out = rows[piece:], out[piece:]
	}
	f(q, data, stride, rows, out)
}

// overRange calls f for pieces of the range that are short enough.
func overRange(f func(q, data []float32, stride int, out []float32), q, data []float32, stride int, out []float32) {
	piece := max(1, preemptAfter/4/len(q))
	for len(out) > piece {
		f(q, data, stride, out[:piece])
		data, out = data[piece*stride:], out[piece:]
	}
	f(q, data, stride, out)
}
