package quant

import (
	"fmt"
	"math"
	"slices"

	"github.com/chromad/chromad/internal/kernel"
)

// Options say what a codec is for.
type Options struct {
	Metric kernel.Metric
	Dim    int    // length of the vectors, 1 to 65,536
	Bits   int    // 2, 4 or 8 bits a number; 0 takes the fewest that keep recall
	Seed   uint64 // of the rotation and the sample
}

func (o Options) check() error {
	switch {
	case o.Metric > kernel.IP:
		return fmt.Errorf("codec: unknown metric %d", o.Metric)
	case o.Dim < 1 || o.Dim > maxDim:
		return fmt.Errorf("codec: vectors of %d numbers, from 1 to %d can be encoded", o.Dim, maxDim)
	case o.Bits != 0 && !slices.Contains(widths[:], o.Bits):
		return fmt.Errorf("codec: %d bits a number, use 2, 4 or 8, or 0 to have them chosen", o.Bits)
	}
	return nil
}

// A sample has sampleRows rows, fewer when they would be more than one of sampleShare
// and than sampleFew, or more than sampleNumbers numbers, but not fewer than sampleLeast.
const (
	sampleRows    = 4096
	sampleShare   = 8
	sampleFew     = 2048
	sampleNumbers = 1 << 22
	sampleLeast   = 256
)

// Train makes a codec for n rows from a sample of them. row returns row i of
// Dim finite numbers; what it returned is not used after it is called again.
// The codec depends on the rows and the options alone.
func Train(n int, row func(i int) []float32, o Options) (*Codec, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	c := newCodec(o)
	s := c.draw(n, row)
	c.place(s)
	list := c.trials(s)
	for _, bits := range allowed(o) {
		c.bits = bits
		if recall := c.calibrate(s, list); recall >= enough {
			break
		}
	}
	return c, nil
}

// A sample is rows of a matrix of dim columns, in code space.
type sample struct {
	rows, dim int
	points    []float32
}

func (s *sample) at(i int) []float32 { return s.points[i*s.dim : (i+1)*s.dim : (i+1)*s.dim] }

// draw chooses rows by the seed, one from each of as many equal stretches,
// scales and rotates them. It sets the unit first, so that half of the rows
// are at most 1 long. Zero vectors are left out: they say nothing about where
// the others are.
func (c *Codec) draw(n int, row func(i int) []float32) *sample {
	most := min(n, sampleRows, max(sampleFew, n/sampleShare), max(sampleLeast, sampleNumbers/c.dim))
	s := &sample{dim: c.dim, points: make([]float32, 0, most*c.dim)}
	state := c.seed ^ 0x5a3c9d2e71b8f604 // not the stream of the rotation
	norms := make([]float64, 0, most)
	for i := range most {
		first, last := i*n/most, (i+1)*n/most
		x := row(first + int(splitmix(&state)%uint64(last-first)))[:c.dim]
		if length := norm(x); length > 0 && length < math.Inf(1) {
			s.points = append(s.points, x...)
			norms = append(norms, length)
		}
	}
	s.rows = len(norms)
	if c.metric != kernel.Cosine && s.rows > 0 {
		logarithm := math.Ceil(math.Log2(median(norms)))
		c.unit = float32(math.Ldexp(1, int(min(max(logarithm, -maxLogU), maxLogU))))
	}
	for i := range s.rows {
		c.rotate(s.at(i), s.at(i), c.metric == kernel.Cosine)
	}
	return s
}

// place sets the mean, of rows that are not far from the others: a single row
// a million times as long would pull the mean so far away that the grids of
// all others became too coarse. It moves the sample there.
func (c *Codec) place(s *sample) {
	if s.rows == 0 {
		return
	}
	far := make([]float64, s.rows)
	for range 2 {
		for i := range far {
			far[i] = math.Sqrt(float64(kernel.L2Squared(s.at(i), c.mean)))
		}
		limit := 3 * median(far)
		sums, count := make([]float64, c.dim), 0
		for i, d := range far {
			if d > limit {
				continue
			}
			count++
			for j, x := range s.at(i) {
				sums[j] += float64(x)
			}
		}
		for j, sum := range sums {
			c.mean[j] = float32(sum / float64(count))
		}
	}
	for i := range s.rows {
		kernel.Subtract(s.at(i), c.mean)
	}
}

// median of at least one number: the upper one of two.
func median(x []float64) float64 {
	sorted := slices.Clone(x)
	slices.Sort(sorted)
	return sorted[len(sorted)/2]
}
