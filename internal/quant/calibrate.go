package quant

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/chromad/chromad/internal/kernel"
)

// widths are the bits that a number of a code may have.
var widths = [...]int{2, 4, 8}

const (
	enough   = 0.995 // of the nearest 10 rows are among the best 40 estimates
	nearestK = 10
	rerankK  = 40
	// One row of the sample in trialShare is compared with the others, 128 of the largest.
	trialShare = sampleRows / 128
	trialLeast = 32
	maxNoise   = 0x1p34 // 2^16 numbers of up to 2^8, squared, are 2^32
)

// allowed lists the widths to try, the narrowest first. In few dimensions the
// errors of single numbers do not cancel; up to 64 numbers of 8 bits fit the
// block that a code takes anyway.
func allowed(o Options) []int {
	switch {
	case o.Bits != 0:
		return []int{o.Bits}
	case o.Dim <= block:
		return widths[2:]
	case o.Dim < 512:
		return widths[1:]
	}
	return widths[:]
}

// A trial is a row of the sample as a query to all others.
type trial struct {
	row    int
	query  Query     // its point and gain
	exact  []float32 // sorts the sample by distance; the row itself comes last
	wanted int       // nearestK, fewer when there are not so many other rows
	near   float32   // the greatest of the wanted smallest
}

// trials chooses queries and compares them with the sample.
func (c *Codec) trials(s *sample) []trial {
	list := make([]trial, min(max(s.rows/trialShare, trialLeast), s.rows))
	for i := range list {
		t := &list[i]
		t.row = i * s.rows / len(list)
		t.exact = make([]float32, s.rows)
		t.query.point = make([]float32, c.dim, len(c.ones))
		copy(t.query.point, s.at(t.row))
		t.query.gain = 2
		t.wanted = min(nearestK, s.rows-1)
		if c.metric == kernel.IP {
			t.query.gain = 1
			c.turn(t.query.point)
		}
	}
	c.compare(s, list)
	for i := range list {
		t := &list[i]
		t.exact[t.row] = math.MaxFloat32
		t.near = smallest(t.exact, t.wanted)
		t.query.point = t.query.point[:cap(t.query.point)]
		t.query.square = kernel.Dot(t.query.point, t.query.point)
	}
	return list
}

// trialBlock is the numbers of rows that stay in the cache while all trials are
// compared with them.
const trialBlock = 1 << 15

// compare sets what sorts the sample by distance.
func (c *Codec) compare(s *sample, list []trial) {
	block := max(1, trialBlock/c.dim)
	for first := 0; first < s.rows; first += block {
		for i := range list {
			t := &list[i]
			out := t.exact[first:min(first+block, s.rows)]
			if c.metric != kernel.IP {
				kernel.L2Range(t.query.point, s.points, c.dim, first, out)
				continue
			}
			kernel.DotRange(t.query.point, s.points, c.dim, first, out)
			for j := range out {
				out[j] = -out[j]
			}
		}
	}
}

// turn makes the point of a row that of a query of the same vector, for the
// inner product.
func (c *Codec) turn(y []float32) {
	for i, m := range c.mean {
		y[i] += m
	}
	if n := norm(y); n > 0 {
		kernel.Scale(y, y, float32(1/n))
	}
}

// smallest is the kth smallest number of x, the greatest when there are fewer.
func smallest(x []float32, k int) float32 {
	best := make([]float32, 0, k+1)
	for _, v := range x {
		if len(best) == k && (k == 0 || v >= best[k-1]) {
			continue
		}
		at, _ := slices.BinarySearch(best, v)
		best = slices.Insert(best, at, v)
		best = best[:min(len(best), k)]
	}
	if len(best) == 0 {
		return math.MaxFloat32
	}
	return best[len(best)-1]
}

// encoded is a sample in codes, one byte for every level.
type encoded struct {
	stride int
	levels []byte
	meta   []kernel.Meta
	rows   []uint32 // all of them
}

// calibrate sets the noise for the codec's width from the sample, and returns
// how many of the nearest rows of the trials are among the best estimates.
func (c *Codec) calibrate(s *sample, list []trial) (recall float64) {
	e := c.encodeAll(s)
	wanted, hits := 0, 0
	sums, keys := make([]int32, s.rows), make([]float32, s.rows)
	for i := range list {
		t := &list[i]
		q := &t.query
		c.round(q)
		kernel.Dot8Rows(q.Codes, e.levels, e.stride, e.rows, sums)
		for j, m := range e.meta {
			keys[j] = m.A + float32(m.B*(float32(q.Mul*float32(sums[j]))+q.Sub))
		}
		keys[t.row] = math.MaxFloat32
		limit, found := smallest(keys, rerankK), 0
		for j, d := range t.exact {
			if d <= t.near && keys[j] <= limit {
				found++ // more than nearestK when distances are equal
			}
		}
		hits += min(found, t.wanted)
		wanted += t.wanted
	}
	if wanted == 0 {
		return 1
	}
	return float64(hits) / float64(wanted)
}

// encodeAll encodes the sample and sets the noise that its grids promise.
func (c *Codec) encodeAll(s *sample) *encoded {
	e := &encoded{stride: c.levels()}
	e.levels = make([]byte, s.rows*e.stride)
	e.meta, e.rows = make([]kernel.Meta, s.rows), make([]uint32, s.rows)
	code := make([]byte, c.Stride())
	var row, levels float64
	for i := range s.rows {
		var f fit
		e.meta[i], f = c.encode(code, s.at(i))
		e.rows[i] = uint32(i)
		c.unpack(e.levels[i*e.stride:(i+1)*e.stride], code)
		row += float64(f.error)
		levels += float64(f.levels)
	}
	if s.rows > 0 {
		n := float64(s.rows)
		c.noise = noise{row: float32(row / n / float64(c.dim)), query: float32(levels / n)}
	}
	return e
}

// unpack writes the levels of a code to levels, a byte for each.
func (c *Codec) unpack(levels, code []byte) {
	planes, masks := 8/c.bits, uint64(1<<c.bits-1)*0x0101010101010101
	for at := 0; at < len(levels); at += block {
		from := code[at/(planes*block)*block:][:block]
		shift := at / block % planes * c.bits
		to := levels[at : at+block]
		for j := 0; j < block; j += 8 { // bytes at a time
			eight := binary.LittleEndian.Uint64(from[j:]) >> shift & masks
			binary.LittleEndian.PutUint64(to[j:], eight)
		}
	}
}
