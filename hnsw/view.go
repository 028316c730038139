package hnsw

import (
	"math"
	"slices"

	"github.com/chromad/chromad/internal/kernel"
)

// A view shows rows of a build as they lie around a point near them, in the
// space that the graph is built in. A tight group is linked over a view of its
// rows: what remains of them is small and exact, and nobody copies them. And
// rows that are far from zero beside what they differ in are seen in a view,
// since rotating them as they are would round that away.
type view struct {
	of     *builder  // which holds the vectors
	rows   []uint32  // of it, ascending; nil: all
	origin []float64 // the point
}

// row sets dst to a row of the view, and returns it.
func (p *view) row(dst []float32, row uint32) []float32 {
	b := p.of
	if p.rows != nil {
		row = p.rows[row]
	}
	x, factor := b.v.row(row), b.factor(row)
	dst = slices.Grow(dst[:0], len(p.origin))[:len(p.origin)]
	for i, f := range x {
		dst[i] = float32(float64(float64(f)*factor) - p.origin[i]) // not fused: the same on every processor
	}
	if n := len(x); b.v.Metric == kernel.IP {
		dst[n] = float32(b.lift(row) - p.origin[n])
	}
	return dst
}

// exactPoint is a row in the space that the graph is built in, see transform.
// The row is one of b or, if b has a view of rows, of the view's.
func (b *builder) exactPoint(dst []float64, row uint32) []float64 {
	if b.view != nil {
		if b.view.rows != nil {
			row = b.view.rows[row]
		}
		b = b.view.of
	}
	x, factor := b.v.row(row), b.factor(row)
	dst = dst[:0]
	for _, f := range x {
		dst = append(dst, float64(f)*factor)
	}
	if b.v.Metric == kernel.IP {
		dst = append(dst, b.lift(row))
	}
	return dst
}

// factor is what a row's numbers are multiplied by.
func (b *builder) factor(row uint32) float64 {
	if b.v.Metric == kernel.Cosine {
		return 1 / math.Sqrt(b.squares[row])
	}
	return 1
}

// lift is the number that a row has more than its vector, for the inner
// product.
func (b *builder) lift(row uint32) float64 { return math.Sqrt(max(0, b.most-b.squares[row])) }

// row is the vector of a row, in buf unless it is one that b holds.
func (b *builder) row(buf *[]float32, row uint32) []float32 {
	if b.view == nil || b.view.of == b {
		return b.v.row(row)
	}
	*buf = b.view.row(*buf, row)
	return *buf
}

// inner is the builder of a group, whose rows are seen from its head.
func (b *builder) inner(t *tightGroup, workers []*worker) *builder {
	in := &view{of: b, rows: t.rows, origin: b.exactPoint(nil, t.head)}
	if b.view != nil {
		in.of = b.view.of
		if of := b.view.rows; of != nil {
			in.rows = make([]uint32, len(t.rows))
			for i, r := range t.rows {
				in.rows[i] = of[r]
			}
		}
	}
	var heads []uint32
	for _, h := range append([]uint32{t.head}, b.heads...) {
		if at, ok := slices.BinarySearch(t.rows, h); ok {
			heads = append(heads, uint32(at))
		}
	}
	p := b.p
	p.Bits, p.Workers, p.Progress = plainBits, len(workers), nil
	return &builder{
		ctx: b.ctx, v: Vectors{Metric: kernel.L2, Rows: len(t.rows), Dim: len(in.origin)}, p: p,
		view: in, depth: b.depth + 1, coarse: b.points.inverse, heads: heads, workers: workers,
	}
}

// lookFrom makes b's view one from the middle of some of its rows.
func (b *builder) lookFrom(some []uint32) {
	points := make([][]float64, len(some))
	for i, r := range some {
		points[i] = b.exactPoint(nil, r)
	}
	column := make([]float64, len(some))
	origin := make([]float64, len(points[0]))
	for j := range origin {
		for i, p := range points {
			column[i] = p[j]
		}
		origin[j] = nth(column, len(column)/2)
	}
	if b.view != nil {
		b.view = &view{of: b.view.of, rows: b.view.rows, origin: origin}
		return
	}
	b.view = &view{of: b, origin: origin}
}
