package quant

import (
	"math"

	"github.com/chromad/chromad/internal/kernel"
)

// A Query is a vector as Aim prepares it for one codec. The zero value is
// ready for Aim; using it again saves its memory.
type Query struct {
	Codes    []int8  // one number for every level of a code
	Mul, Sub float32 // key = A + B*(Mul*sum + Sub)
	// The distance that users see is Offset + Factor*key; the error of a row's
	// is normally about Slack*B.
	Offset, Factor, Slack float32

	point []float32
}

// Distance is the distance that belongs to a key. It is infinite when it
// leaves the range of float32, never NaN.
func (q *Query) Distance(key float32) float32 { return q.Offset + q.Factor*key }

// Aim prepares dst for the distances of rows to x.
func (c *Codec) Aim(dst *Query, x []float32) {
	gain := c.aimPoint(dst, x)
	c.round(dst, gain)
}

// round sets what follows from the point: keys are to hold -gain*<point,y>.
func (c *Codec) round(dst *Query, gain float32) {
	if cap(dst.Codes) < len(dst.point) {
		dst.Codes = make([]int8, len(dst.point))
	}
	dst.Codes = dst.Codes[:len(dst.point)]
	scale := kernel.Quantize8(dst.point, dst.Codes)
	step := gain * scale
	top := float32(int(1)<<c.bits - 1) // v = 2l - top
	dst.Mul, dst.Sub = -2*step, step*top*float32(sumOf(dst.Codes))

	// Two errors that know nothing of each other: of the row's grid along the
	// query, and of the query's rounding along the row's levels.
	grid := kernel.Dot(dst.point, dst.point) * c.noise.row
	rounding := scale * scale / 12 * c.noise.query
	dst.Slack = finite(float64(dst.Factor) * float64(gain) * math.Sqrt(float64(grid+rounding)))
}

// aimPoint sets the point of the query, Offset and Factor, and returns what
// -<q,y> has to be multiplied with.
func (c *Codec) aimPoint(dst *Query, x []float32) (gain float32) {
	if c.metric == kernel.IP {
		dst.point = c.direction(dst.point, x)
		length := float64(norm(x)) * float64(c.unit)
		dst.Factor = finite(length)
		dst.Offset = finite(1 - length*float64(kernel.Dot(dst.point[:c.dim], c.mean)))
		return 1
	}
	dst.point = c.Point(dst.point, x)
	square := float64(kernel.Dot(dst.point, dst.point))
	factor := float64(c.unit) * float64(c.unit)
	if c.metric == kernel.Cosine {
		factor = 0.5
		if c.isZero(dst.point) {
			dst.Offset, dst.Factor = 1, 0 // everything is as far from zero
			return 2
		}
	}
	dst.Factor, dst.Offset = finite(factor), finite(factor*square)
	return 2
}

// direction writes x, of length 1 and rotated, to dst, zeros behind.
func (c *Codec) direction(dst, x []float32) []float32 {
	width := c.Width()
	if cap(dst) < width {
		dst = make([]float32, width)
	}
	dst = dst[:width]
	clear(dst[c.dim:])
	pullIn(dst[:c.dim], x[:c.dim], 1, true)
	kernel.Rotate(dst[:c.dim], c.signs)
	return dst
}

// norm is the length of x.
func norm(x []float32) float64 {
	square := float64(kernel.Dot(x, x))
	if square > 1e-30 && square <= math.MaxFloat32 {
		return math.Sqrt(square)
	}
	square = 0
	for _, v := range x {
		square += float64(v) * float64(v)
	}
	return math.Sqrt(square)
}

// finite is x as a float32, the greatest or smallest where it is beyond.
func finite(x float64) float32 {
	return float32(min(max(x, -math.MaxFloat32), math.MaxFloat32))
}

func sumOf(codes []int8) (sum int32) {
	for _, q := range codes {
		sum += int32(q)
	}
	return sum
}
