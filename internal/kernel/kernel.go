package kernel

//go:generate go -C gen run . -out ../kernel_amd64.s -stubs ../stubs_amd64.go -pkg kernel

import (
	"fmt"
	"math"
)

// Metric says how far apart two vectors are.
type Metric uint8

// The metrics. Their numbers are stored in files.
const (
	L2     Metric = iota // squared Euclidean distance
	Cosine               // 1 - the cosine of the angle
	IP                   // 1 - the inner product
)

// String returns "l2", "cosine" or "ip".
func (m Metric) String() string {
	switch m {
	case L2:
		return "l2"
	case Cosine:
		return "cosine"
	case IP:
		return "ip"
	}
	return fmt.Sprintf("metric(%d)", uint8(m))
}

// Name is the form of the kernels that runs: "generic" or "avx2".
func Name() string {
	if accelerated {
		return "avx2"
	}
	return "generic"
}

// Dot is the inner product of two vectors of one length.
func Dot(a, b []float32) float32 {
	sameLength(len(a), len(b))
	return dot(a, b)
}

// L2Squared is the squared Euclidean distance of two vectors of one length.
func L2Squared(a, b []float32) float32 {
	sameLength(len(a), len(b))
	return l2(a, b)
}

// DotRows sets out[i] to the inner product of q and row rows[i] of the matrix
// data, whose rows begin stride numbers apart. len(out) must be at least
// len(rows).
func DotRows(q, data []float32, stride int, rows []uint32, out []float32) {
	if out = out[:len(rows)]; gatherable(q, data, stride, rows) {
		dotRows(q, data, stride, rows, out)
		return
	}
	clear(out)
}

// L2Rows is DotRows for the squared Euclidean distance.
func L2Rows(q, data []float32, stride int, rows []uint32, out []float32) {
	if out = out[:len(rows)]; gatherable(q, data, stride, rows) {
		l2Rows(q, data, stride, rows, out)
		return
	}
	clear(out)
}

// DotRange sets out[i] to the inner product of q and row first+i of the
// matrix data, whose rows begin stride numbers apart.
func DotRange(q, data []float32, stride, first int, out []float32) {
	if sequential(q, data, stride, first, len(out)) {
		overRange(dotRange, q, data, stride, first, out)
		return
	}
	clear(out)
}

// L2Range is DotRange for the squared Euclidean distance.
func L2Range(q, data []float32, stride, first int, out []float32) {
	if sequential(q, data, stride, first, len(out)) {
		overRange(l2Range, q, data, stride, first, out)
		return
	}
	clear(out)
}

// InvNorm is 1/|v|, and 0 for a zero vector, whose cosine distance to
// everything is therefore 1.
func InvNorm(v []float32) float32 {
	s := dot(v, v)
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

// Distance is the distance that users see: squared for L2, 1 - cosine, or
// 1 - inner product.
func Distance(m Metric, a, b []float32) float32 {
	switch m {
	case Cosine:
		return 1 - Dot(a, b)*InvNorm(a)*InvNorm(b)
	case IP:
		return 1 - Dot(a, b)
	}
	return L2Squared(a, b)
}

// preemptAfter bounds the numbers that one call of an assembly kernel reads:
// the scheduler cannot interrupt it, and half a megabyte takes some 50 µs.
const preemptAfter = 1 << 17

// overRange calls f for pieces of the range that are short enough.
func overRange(f func(q, data []float32, stride, first int, out []float32), q, data []float32, stride, first int, out []float32) {
	piece := max(1, preemptAfter/len(q))
	for len(out) > piece {
		f(q, data, stride, first, out[:piece])
		first, out = first+piece, out[piece:]
	}
	f(q, data, stride, first, out)
}

func sameLength(a, b int) {
	if a != b {
		panic(fmt.Sprintf("kernel: vectors of %d and %d numbers", a, b))
	}
}

// gatherable reports whether there is anything to compute, and panics when a
// row does not lie inside data.
func gatherable(q, data []float32, stride int, rows []uint32) bool {
	if len(rows) == 0 || len(q) == 0 {
		return false
	}
	var last uint32
	for _, r := range rows {
		last = max(last, r)
	}
	inside(q, data, stride, int(last))
	return true
}

// sequential is gatherable for n rows from first.
func sequential(q, data []float32, stride, first, n int) bool {
	if n == 0 || len(q) == 0 {
		return false
	}
	if first < 0 || n > math.MaxInt-first {
		panic(fmt.Sprintf("kernel: rows %d to %d+%d", first, first, n))
	}
	inside(q, data, stride, first+n-1)
	return true
}

// inside panics when row does not lie inside data. The division cannot
// overflow, as the product of row and stride could.
func inside(q, data []float32, stride, row int) {
	if stride < len(q) || len(data) < len(q) || row > (len(data)-len(q))/stride {
		panic(fmt.Sprintf("kernel: row %d of %d numbers, stride %d, in a matrix of %d", row, len(q), stride, len(data)))
	}
}
