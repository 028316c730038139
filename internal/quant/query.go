package quant

import (
	"bytes"
	"math"
	"slices"

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
	// What Slack is made of: the square of the point's length, and the
	// variances, in steps, of the grid for each unit of that and of rounding.
	square, grid, rounding float32
	gain                   float32 // keys hold -gain*<point,y>

	first [1]uint32 // row 0 of the ones
	sum   [1]int32
}

// Distance is the distance that belongs to a key. It is infinite when it
// leaves the range of float32, never NaN.
func (q *Query) Distance(key float32) float32 { return q.Offset + q.Factor*key }

// SlackAt is Slack for rows whose true distance is at most distance: the error
// is that of the difference of the vectors, which is small for near rows.
func (q *Query) SlackAt(distance float32) float32 {
	if q.gain == 1 || q.Factor == 0 {
		return q.Slack
	}
	return q.slack(min(max(distance/q.Factor, 0), q.square))
}

func (q *Query) slack(square float32) float32 {
	variance := float64(square)*float64(q.grid) + float64(q.rounding)
	return finite(float64(q.Factor) * float64(q.gain) * math.Sqrt(variance))
}

// Aim prepares dst for the distances of rows to x.
func (c *Codec) Aim(dst *Query, x []float32) {
	c.aimPoint(dst, x)
	c.round(dst)
}

// round sets what follows from the point, its square and the gain.
func (c *Codec) round(dst *Query) {
	n := min(len(dst.point), c.Width())
	dst.Codes = slices.Grow(dst.Codes[:0], n)[:n]
	scale := kernel.Quantize8(dst.point[:n], dst.Codes)
	step := dst.gain * scale
	top := float32(int(1)<<c.bits - 1) // v = 2l - top
	ones := c.ones[:c.levels()]
	kernel.Dot8Rows(dst.Codes[:len(ones)], ones, len(ones), dst.first[:], dst.sum[:])
	dst.Mul, dst.Sub = -2*step, step*top*float32(dst.sum[0])

	// Two errors that know nothing of each other: of the row's grid along the
	// query, and of the query's rounding along the row's levels.
	dst.grid, dst.rounding = c.noise.row, scale*scale/12*c.noise.query
	dst.Slack = dst.slack(dst.square)
}

// Part is Mul and Sub for sums over the first bytes of a code, so many, whole blocks and
// perhaps half of one: for estimates as if the other numbers were like these, as the
// rotation makes them.
func (c *Codec) Part(q *Query, size int) (mul, sub float32) {
	if size >= c.Stride() {
		return q.Mul, q.Sub
	}
	planes := 8 / c.bits
	whole := size / block * block * planes // numbers of whole blocks, which are not all
	numbers, sum := whole, int32(0)
	if whole > 0 {
		kernel.Dot8Rows(q.Codes[:whole], c.ones[:whole], whole, q.first[:], q.sum[:])
		sum = q.sum[0]
	}
	if size%block != 0 {
		kernel.Dot8Rows(q.Codes[whole:][:planes*block], halves[:planes*block], planes*block, q.first[:], q.sum[:])
		sum += q.sum[0]
		for plane := range planes {
			numbers += min(max(c.coded()-whole-plane*block, 0), block/2)
		}
	}
	more := float32(c.coded()) / float32(numbers)
	top := float32(int(1)<<c.bits - 1)
	return q.Mul * more, -q.Mul / 2 * top * float32(sum) * more
}

// halves has ones where half of a block has numbers of a query, for four planes.
var halves = bytes.Repeat(append(bytes.Repeat([]byte{1}, block/2), make([]byte, block/2)...), 4)

// aimPoint sets the point of the query, its square, the gain, Offset and Factor.
func (c *Codec) aimPoint(dst *Query, x []float32) {
	if c.metric == kernel.IP {
		dst.point = c.direction(dst.point, x)
		length := float64(norm(x)) * float64(c.unit)
		dst.Factor = finite(length)
		dst.Offset = finite(1 - length*float64(kernel.Dot(dst.point[:c.dim], c.mean)))
		dst.gain, dst.square = 1, kernel.Dot(dst.point, dst.point)
		return
	}
	dst.gain = 2
	dst.point = c.Point(dst.point, x)
	dst.square = kernel.Dot(dst.point, dst.point)
	square := float64(dst.square)
	factor := float64(c.unit) * float64(c.unit)
	if c.metric == kernel.Cosine {
		factor = 0.5
		if c.isZero(dst.point) {
			dst.Offset, dst.Factor = 1, 0 // everything is as far from zero
			return
		}
	}
	dst.Factor, dst.Offset = finite(factor), finite(factor*square)
}

// direction writes x, of length 1 and rotated, to dst, zeros behind.
func (c *Codec) direction(dst, x []float32) []float32 {
	dst = c.room(dst)
	c.rotate(dst[:c.dim], x, true)
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
