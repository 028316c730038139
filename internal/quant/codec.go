package quant

import (
	"bytes"
	"math"
	"slices"

	"github.com/chromad/chromad/internal/kernel"
)

const (
	maxDim   = 1 << 16
	block    = 64     // bytes: codes are whole blocks
	maxLogU  = 63     // the unit is 2^±63 at most: its square is a float32
	farthest = 0x1p60 // the greatest length in code space: its square, times four, is a float32
)

// A Codec turns vectors of one metric and length into codes. It never changes
// after it was made and may be used by many goroutines.
type Codec struct {
	metric kernel.Metric
	dim    int
	bits   int
	seed   uint64
	unit   float32   // length in code space 1 stands for; a power of two
	mean   []float32 // of the rows, scaled and rotated: dim numbers
	signs  []uint64  // of the rotation, from the seed
	ones   []byte    // a row of ones, to add up a query's numbers
	noise  noise
	whole  bool // all numbers are in the code, see coded
}

// noise says how far estimates are off, in steps (B) of the row's grid.
type noise struct {
	row   float32 // square of the error of a row's grid along one direction, on average
	query float32 // square of the length of a row's levels, on average
}

// newCodec returns a codec with everything but mean and noise.
func newCodec(o Options) *Codec {
	c := &Codec{metric: o.Metric, dim: o.Dim, bits: o.Bits, seed: o.Seed, unit: 1}
	c.mean = make([]float32, o.Dim)
	c.ones = bytes.Repeat([]byte{1}, (o.Dim+block-1)/block*block)
	c.signs = make([]uint64, kernel.SignWords(o.Dim))
	state := o.Seed
	for i := range c.signs {
		c.signs[i] = splitmix(&state)
	}
	return c
}

// splitmix is the generator of Steele, Lea and Flood, "Fast Splittable
// Pseudorandom Number Generators" (OOPSLA 2014), with the constants of
// Vigna's splitmix64. The rotation is part of the format.
func splitmix(state *uint64) uint64 {
	*state += 0x9e3779b97f4a7c15
	z := *state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Bits is the width of a number in a code: 2, 4 or 8.
func (c *Codec) Bits() int { return c.bits }

// Metric is what the codes are for.
func (c *Codec) Metric() kernel.Metric { return c.metric }

// Dim is the length of the vectors.
func (c *Codec) Dim() int { return c.dim }

// fewLeftOut is one over the greatest share of the numbers that are left out of
// a code.
const fewLeftOut = 32

// coded is how many numbers of a point are in its code, from the first on. Of
// codes of 2 bits a few are left out where these would begin a block of their
// own. The rotation makes all numbers alike, so that the others speak for them:
// what they do not say is little beside the error of such a grid, of more than a tenth.
func (c *Codec) coded() int {
	if rest := c.dim % (8 * block / c.bits); c.bits == 2 && !c.whole && rest*fewLeftOut <= c.dim {
		return c.dim - rest
	}
	return c.dim
}

// levels is the length of a code with a byte for every level, in whole blocks.
func (c *Codec) levels() int { return (c.coded() + block - 1) / block * block }

// Stride is the length of a code in bytes, a multiple of 64.
func (c *Codec) Stride() int { return (c.coded()*c.bits + 8*block - 1) / (8 * block) * block }

// Width is the number of levels in a code, those of the padding included.
func (c *Codec) Width() int { return c.Stride() * 8 / c.bits }

// Unit is the length that stands for 1 in code space: 1 for cosine.
func (c *Codec) Unit() float32 { return c.unit }

// Point writes x in code space to dst, which it makes as long as a vector and as
// a code and returns: scaled, rotated, moved by the mean, zeros behind. Differences of
// points are differences of vectors, rotated and divided by Unit.
func (c *Codec) Point(dst, x []float32) []float32 {
	dst = c.room(dst)
	point := dst[:c.dim]
	c.rotate(point, x, c.metric == kernel.Cosine)
	kernel.Subtract(point, c.mean)
	return dst
}

// room makes dst as long as a point, with zeros behind the numbers of the vector.
func (c *Codec) room(dst []float32) []float32 {
	n := max(c.Width(), c.dim)
	dst = slices.Grow(dst[:0], n)[:n]
	clear(dst[c.dim:])
	return dst
}

// rotate writes x to dst, rotated and in units, or 1 long if unit is set.
// Numbers that are not finite count as zero.
func (c *Codec) rotate(dst, x []float32, unit bool) {
	x = x[:c.dim]
	factor := 1 / c.unit
	if unit {
		factor = kernel.InvNorm(x)
	}
	square := kernel.Dot(x, x) * factor * factor
	if square <= farthest*farthest && factor <= 0x1p63 {
		kernel.Scale(dst, x, factor)
	} else {
		pullIn(dst, x, 1/float64(c.unit), unit)
	}
	kernel.Rotate(dst, c.signs)
}

// pullIn scales a vector whose squares leave the range of float32. It is at
// most farthest long afterwards, 1 if unit is set.
func pullIn(dst, x []float32, factor float64, unit bool) {
	var square float64
	for _, v := range x {
		if w := float64(v); w-w == 0 {
			square += w * w
		}
	}
	norm := math.Sqrt(square)
	switch {
	case unit && norm > 0:
		factor = 1 / norm
	case norm*factor > farthest:
		factor = farthest / norm
	}
	for i, v := range x {
		w := float64(v)
		if w-w != 0 {
			w = 0
		}
		dst[i] = float32(w * factor)
	}
}

// steps are the best steps for normally distributed numbers of variance 1
// and 2^bits levels (Max, "Quantizing for minimum distortion", 1960, table
// II).
var steps = [...]float32{2: 0.9957, 4: 0.3352, 8: 0.0308}

// multiples of the step that are tried for a row, the likeliest first. More of
// them, or none, change the error by less than a tenth; with 256 levels, which
// hardly cut off anything, by nothing.
var multiples = [...]float32{1, 0.93, 1.07}

// Encode writes the code of y, a result of Point, to code, which is Stride
// bytes long, and returns the numbers that go with it.
func (c *Codec) Encode(code []byte, y []float32) kernel.Meta {
	m, _ := c.encode(code[:c.Stride()], y[:c.dim])
	return m
}

// fit tells how well a code fits a row.
type fit struct {
	error  float32 // square of the length of B*v - y, in steps
	levels float32 // square of the length of v
}

// littleSaid is the share of a row's square that its code must account for.
const littleSaid = 1e-4

func (c *Codec) encode(code []byte, y []float32) (kernel.Meta, fit) {
	square := kernel.Dot(y, y)
	m := kernel.Meta{A: square}
	switch {
	case c.metric == kernel.IP:
		m.A = 0
	case c.metric == kernel.Cosine && c.isZero(y):
		m.A++ // nothing is nearer to a zero vector than 1, or farther
	}
	inverse := c.inverseStep(y, square)
	if !(square >= 1e-36) || inverse > math.MaxFloat32 {
		clear(code)
		return m, fit{}
	}
	y = y[:c.coded()]
	tries := multiples[:]
	if c.bits == 8 {
		tries = tries[:1]
	}
	var best, vy, vv float32
	choice, last := 0, 0
	for i, multiple := range tries {
		y1, v1 := kernel.Levels(y, inverse*multiple, c.bits, code)
		if score := y1 / v1 * y1; score > best {
			best, vy, vv, choice = score, y1, v1, i
		}
		last = i
	}
	if choice != last {
		kernel.Levels(y, inverse*multiples[choice], c.bits, code)
	}
	if vy*vy <= square*vv*littleSaid {
		m.B = 1 / inverse // the code says nothing about the row, whose numbers are among those left out
		return m, fit{error: vv, levels: vv}
	}
	m.B = square / vy
	// The conversion rounds the product also where the compiler could fuse it
	// with the difference, which is one of nearly equal numbers.
	return m, fit{error: max(0, vv-float32(vy/square*vy)), levels: vv}
}

// inverseStep is one over the step of a row's grid: the best for normally
// distributed numbers, or as small as the row's greatest number allows, which
// it is in few dimensions.
func (c *Codec) inverseStep(y []float32, square float32) float32 {
	half := float32(int(1) << (c.bits - 1))
	normal := steps[c.bits] * float32(math.Sqrt(float64(square)/float64(c.dim)))
	return 1 / min(normal, kernel.Largest(y)/half)
}

// isZero reports whether y is the point of a zero vector.
func (c *Codec) isZero(y []float32) bool {
	for i, v := range c.mean {
		if y[i] != 0-v {
			return false
		}
	}
	return true
}
