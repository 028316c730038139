package hnsw

import (
	"math"
	"slices"

	"github.com/chromad/chromad/internal/kernel"
)

// A grid holds the rows of a build as points with small integer coordinates.
// Their squared distances are integers, so nothing depends on who computes
// them, or in which order. And they are symmetric, which pruning needs: by
// the codes of a search, whose error depends on which of two rows is the
// query, links that lie behind others would be kept.
//
// One step serves all coordinates of all rows. Searches never see the grid,
// it is gone when the build is.
type grid struct {
	stride int
	codes  []byte  // coordinate s of a row is the byte s+128, padding is 128
	norm   []int32 // Σ s²
	bias   []int32 // Σ s² + 256 Σ s, see worker.distances
}

const (
	gridSample = 256 // rows from which centre and step are taken
	gridMost   = 127 // greatest coordinate
	// Wider vectors get fewer levels: Σ s² - 2 Σ (s+128) t, the key of
	// kernel.Keys8, must fit 32 bits.
	gridWide     = 26000
	gridMostWide = 64
	// gridCopies is the number of bytes up to which narrow vectors are held
	// several times, each copy rounded at other places: with a few hundred
	// levels alone, rows on a line would fall together.
	gridCopies = 64
)

// calibrate chooses how rows become points.
func (b *builder) calibrate() {
	t, some := newTransform(b), sampleOf(b.rows, b.p.Seed)
	t.calibrate(some)
	if t.isFar() {
		b.lookFrom(some)
		t = newTransform(b)
		t.calibrate(some)
	}
	b.points = t
}

// dropGrid gives back the memory of the grid, which fillGrid makes again.
func (b *builder) dropGrid() {
	b.grid = nil
	for _, w := range b.workers {
		w.grid = nil
	}
}

// fillGrid makes points of all rows. Those that are nowhere are in the middle.
func (b *builder) fillGrid() error {
	t := b.points
	g := &grid{stride: (t.width*t.copies + 63) &^ 63}
	g.codes = make([]byte, b.v.Rows*g.stride)
	g.norm = make([]int32, b.v.Rows)
	g.bias = make([]int32, b.v.Rows)
	for _, r := range b.equal.lost {
		code := g.code(r)
		for i := range code {
			code[i] = 128
		}
	}
	b.grid = g
	return b.each(b.v.Rows, func(w *worker, i int) {
		r := uint32(i)
		if b.equal.isLost(r) {
			return
		}
		code := g.code(r)
		w.point = t.point(w.point, r)
		t.encode(code, w.point)
		norm, sum := w.sumsOf(code)
		g.norm[r], g.bias[r] = norm, norm+256*sum
	})
}

// sumsOf adds up the squares of coordinates, whole blocks of 64, and the coordinates.
func (w *worker) sumsOf(code []byte) (squares, sum int32) {
	n := len(code)
	for len(w.ones) < n {
		w.ones = append(w.ones, 1)
	}
	w.query = slices.Grow(w.query[:0], n)[:n]
	kernel.Signed8(w.query, code)
	out := &w.sums // Σ (s+128) s and Σ (s+128)
	kernel.Dot8Rows(w.query, code, n, firstRow, out[:1])
	kernel.Dot8Rows(w.ones[:n], code, n, firstRow, out[1:])
	sum = out[1] - 128*int32(n)
	return out[0] - 128*sum, sum
}

var firstRow = []uint32{0}

// sampleOf chooses gridSample of rows, or all of them.
func sampleOf(rows []uint32, seed uint64) []uint32 {
	if len(rows) <= gridSample {
		return rows
	}
	chosen := make([]uint32, gridSample)
	for i := range chosen {
		from, to := i*len(rows)/gridSample, (i+1)*len(rows)/gridSample
		chosen[i] = rows[from+int(mix(seed^uint64(i))%uint64(to-from))]
	}
	return chosen
}

// A transform turns rows into the points of a grid. For l2 they are the
// vectors; for cosine, of length 1; for ip, with one number more.
//
// The inner product is not a distance: a long vector is near to everything
// and would collect every link. With the number sqrt(R²-|x|²), R being the
// greatest norm, all vectors have norm R, and since a query has 0 there,
// their l2 order seen from a query is the order by inner product (Bachrach et
// al., "Speeding up the Xbox recommender system using a euclidean
// transformation for inner-product spaces", RecSys 2014, section 3).
//
// All are rotated then, so that one step suits all coordinates.
type transform struct {
	b       *builder
	width   int
	copies  int
	signs   []uint64
	centre  []float32
	reach   float32 // how far rows are from the centre, along one coordinate
	inverse float32 // 1/step
	limit   float32 // greatest magnitude of a number, in units of the centre
}

func newTransform(b *builder) *transform {
	t := &transform{b: b, width: b.width(), copies: 1}
	if t.width > 0 {
		t.copies = max(1, gridCopies/t.width)
	}
	t.signs = make([]uint64, kernel.SignWords(t.width))
	for i := range t.signs {
		t.signs[i] = mix(mix(b.p.Seed+2) ^ uint64(i))
	}
	t.centre = make([]float32, t.width)
	return t
}

// width is how many numbers a row has in the space that the graph is built in.
func (b *builder) width() int {
	if b.v.Metric == kernel.IP {
		return b.v.Dim + 1
	}
	return b.v.Dim
}

// point returns the row's point, around the centre.
func (t *transform) point(dst []float32, row uint32) []float32 {
	b := t.b
	dst = slices.Grow(dst[:0], t.width)[:t.width]
	switch {
	case b.view != nil:
		dst = b.view.row(dst, row)
	case b.v.Metric == kernel.Cosine:
		factor := b.factor(row)
		for i, f := range b.v.row(row) {
			dst[i] = float32(float64(f) * factor)
		}
	case b.v.Metric == kernel.IP:
		copy(dst, b.v.row(row))
		dst[t.width-1] = float32(b.lift(row))
	default:
		copy(dst, b.v.row(row))
	}
	kernel.Rotate(dst, t.signs)
	kernel.Subtract(dst, t.centre)
	return dst
}

// calibrate chooses centre and step by a sample. Medians, not means: one row
// that is a million times longer than the others moves them nowhere.
func (t *transform) calibrate(rows []uint32) {
	if len(rows) == 0 || t.width == 0 {
		t.inverse, t.limit = 1, gridMost
		return
	}
	points := make([][]float32, len(rows))
	for i, r := range rows {
		points[i] = t.point(nil, r)
	}
	column := make([]float32, len(rows))
	for j := range t.centre {
		for i, p := range points {
			column[i] = p[j]
		}
		t.centre[j] = nth(column, len(column)/2)
	}
	var sizes []float32
	every := max(1, len(rows)*t.width>>15)
	for i, p := range points {
		kernel.Subtract(p, t.centre)
		for j := i % every; j < len(p); j += every {
			sizes = append(sizes, max(p[j], -p[j]))
		}
	}
	// Few numbers are cut off. Where the longest are much longer than most
	// others, more of them are: the many matter.
	n := len(sizes)
	most19, last := n*19/20, n-1-n/5000
	reach := 4 * nth(sizes, most19)
	reach = min(reach, nth(sizes[most19:], last-most19))
	if !(reach > 0) {
		reach = slices.Max(sizes)
	}
	t.reach = reach
	most := float32(gridMost)
	if t.width > gridWide {
		most = gridMostWide
	}
	if t.inverse = most / reach; !(reach > 0) || t.inverse > math.MaxFloat32 {
		t.inverse = 1
	}
	t.limit = most / t.inverse
}

// nth puts the nth smallest of x where it belongs and returns it, smaller ones
// before it and greater ones behind (Hoare, "Algorithm 65: find", 1961). There
// must be no NaN.
func nth[T float32 | float64](x []T, n int) T {
	for low, high := 0, len(x)-1; low < high; {
		pivot := x[low+(high-low)/2]
		i, j := low, high
		for i <= j {
			for x[i] < pivot {
				i++
			}
			for x[j] > pivot {
				j--
			}
			if i <= j {
				x[i], x[j] = x[j], x[i]
				i++
				j--
			}
		}
		switch {
		case n <= j:
			high = j
		case n >= i:
			low = i
		default:
			return x[n]
		}
	}
	return x[n]
}

// farFrom is how many times farther than they reach rows are from zero when
// rotating them rounds by a step of the grid or so.
const farFrom = 1 << 16

// isFar reports whether rows are so far from zero that their points tell little
// of how they differ.
func (t *transform) isFar() bool {
	for _, c := range t.centre {
		if max(c, -c) > farFrom*t.reach {
			return true
		}
	}
	return false
}

// encode writes the point as bytes.
func (t *transform) encode(code []byte, p []float32) {
	if t.copies > 1 {
		var wide [gridCopies]float32
		for i := range t.copies * t.width {
			shift := (float32(i/t.width)+0.5)/float32(t.copies) - 0.5
			wide[i] = p[i%t.width] + shift/t.inverse
		}
		kernel.Codes8(wide[:t.copies*t.width], t.inverse, code)
		return
	}
	if t.width > gridWide {
		for i := range p {
			p[i] = min(max(p[i], -t.limit), t.limit)
		}
	}
	kernel.Codes8(p, t.inverse, code)
}

func (g *grid) code(row uint32) []byte { return g.codes[int(row)*g.stride:][:g.stride] }

// A key of a build holds a distance in the grid, a node and one mark, as that
// of a search does.
func keyOf(d int32, node uint32) uint64 { return uint64(uint32(d))<<32 | uint64(node)<<1 }

func nodeIn(key uint64) uint32 { return uint32(key) >> 1 }

func distanceIn(key uint64) int32 { return int32(key >> 32) }

// aim makes row the one that distances are measured from.
func (w *worker) aim(g *grid, row uint32) {
	w.grid, w.bias = g, g.bias[row]
	w.query = slices.Grow(w.query[:0], g.stride)[:g.stride]
	kernel.Signed8(w.query, g.code(row))
}

// distances returns the squared distances of rows, valid until the next call.
// With the query t and a row s it is Σ t² + Σ s² - 2 Σ st, where the kernel
// gives Σ (s+128) t; what is too much, 256 Σ t, is in the query's bias.
func (w *worker) distances(rows []uint32) []int32 {
	w.dots = slices.Grow(w.dots[:0], len(rows))[:len(rows)]
	kernel.Dot8Rows(w.query, w.grid.codes, w.grid.stride, rows, w.dots)
	for i, r := range rows {
		w.dots[i] = w.bias + w.grid.norm[r] - 2*w.dots[i]
	}
	return w.dots
}
