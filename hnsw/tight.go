package hnsw

import (
	"math"
	"slices"

	"github.com/chromad/chromad/internal/kernel"
)

// A tight group is rows that lie so near to each other that the grid of a
// build cannot tell which of them are nearer: copies of one document, a little
// changed, among documents about anything. Linked by the grid, their links
// would lead to any of them, and to nothing else.
//
// So one of them, the head, is placed in the graph among all other rows. The
// whole group is linked as a graph of its own, over a grid of its own, which
// may find tight groups again. Every row of it keeps some links for ways out:
// to the head, and to what the head has links to.
type tightGroup struct {
	rows []uint32 // ascending; the head is the first
	own  *Graph   // of the rows, by their places in the group
}

const (
	// tightLeast is the size from which on a group is taken apart. A few near
	// rows are all among each other's links, which also lead out.
	tightLeast = 9
	// tightStep is how far apart rows of a group are along one coordinate, in
	// steps of the grid: the error of a difference is 0.4.
	tightStep = 1.5
	// tightReach is how far from the head its group reaches along one coordinate, in
	// steps: farther, and the grid of its own would not be much finer.
	tightReach = 12
	// tightMany rows of a group are linked by all workers together.
	tightMany = 1 << 14
	// tightShare is the share of the rows from which on groups are worth a
	// second build: one in so many.
	tightShare = 200
	// waysOut is the share of the links of a row of a group that lead out.
	waysOut = 8
)

// regroup makes the graph again, if there are tight groups in it.
func (b *builder) regroup() error {
	groups, err := b.tightGroups()
	if err != nil || len(groups) == 0 {
		return err
	}
	b.hide(groups)
	levels := make([]uint8, b.v.Rows)
	b.drawLevels(b.rows, levels)
	for _, t := range groups {
		levels[t.rows[0]] = max(levels[t.rows[0]], 1)
	}
	b.g = newGraph(levels, b.p.M)
	b.g.uneven, b.g.grouped = b.uneven, true
	if err := b.link(nil); err != nil {
		return err
	}
	groups = b.oneOfPieces(groups)
	errs := make([]error, len(groups))
	if err := b.shares(len(groups), 1, func(_ *worker, i int) {
		if len(groups[i].rows) < tightMany {
			errs[i] = b.linkWithin(&groups[i], 1)
		}
	}); err != nil {
		return err
	}
	for i := range groups {
		if t := &groups[i]; len(t.rows) >= tightMany {
			errs[i] = b.linkWithin(t, b.p.Workers)
		}
		if errs[i] != nil {
			return errs[i]
		}
		b.hang(&groups[i])
		groups[i].own = nil
	}
	return nil
}

// tightGroups finds the groups along the links of level 0.
func (b *builder) tightGroups() ([]tightGroup, error) {
	limit := b.tightLimit(tightStep)
	near := make([]bool, b.v.Rows)
	err := b.each(len(b.rows), func(w *worker, i int) {
		r := b.rows[i]
		w.aim(b.grid, r)
		for _, d := range w.distances(b.g.neighbours(0, r)) {
			if d <= limit {
				near[r] = true
			}
		}
	})
	if err != nil || !slices.Contains(near, true) {
		return nil, err
	}
	groups := b.joined(near, limit)
	all := len(b.rows)
	groups = slices.DeleteFunc(groups, func(t tightGroup) bool {
		return len(t.rows) < tightLeast || len(t.rows) == all || !b.narrow(t.rows)
	})
	sum := 0
	for _, t := range groups {
		sum += len(t.rows)
	}
	if sum*tightShare < all {
		groups = nil
	}
	return groups, b.ctx.Err()
}

// tightLimit is the squared distance in the grid of rows that are so many
// steps apart along each coordinate. Copies of a coordinate that are rounded at
// other places are as good as smaller steps.
func (b *builder) tightLimit(steps float64) int32 {
	width := b.v.Dim
	if b.v.Metric == kernel.IP {
		width++
	}
	copies := max(1, gridCopies/max(width, 1))
	return int32(min(steps*steps*float64(width)*float64(copies), math.MaxInt32))
}

// joined puts rows that are linked and at most limit apart into one group.
func (b *builder) joined(near []bool, limit int32) []tightGroup {
	parent := make([]uint32, b.v.Rows)
	for r := range parent {
		parent[r] = uint32(r)
	}
	find := func(r uint32) uint32 {
		for parent[r] != r {
			parent[r] = parent[parent[r]]
			r = parent[r]
		}
		return r
	}
	w := b.workers[0]
	for _, r := range b.rows {
		if !near[r] {
			continue
		}
		w.aim(b.grid, r)
		list := b.g.neighbours(0, r)
		for i, d := range w.distances(list) {
			if from, to := find(r), find(list[i]); d <= limit && from != to {
				parent[max(from, to)] = min(from, to)
			}
		}
	}
	var groups []tightGroup
	at := make(map[uint32]int)
	for _, r := range b.rows {
		head := find(r)
		i, ok := at[head]
		switch {
		case ok:
			groups[i].rows = append(groups[i].rows, r)
		case near[r]:
			at[head] = len(groups)
			groups = append(groups, tightGroup{rows: []uint32{r}})
		}
	}
	return groups
}

// oneOfPieces joins groups whose heads are as near to each other as the rows of
// one: a bulk that compares thousands of equal points does so in pieces, and
// there need be no link from one to the other.
func (b *builder) oneOfPieces(groups []tightGroup) []tightGroup {
	heads := make(map[uint32]int, len(groups))
	to := make([]int, len(groups)) // the group that one became a part of, or itself
	for i, t := range groups {
		heads[t.rows[0]], to[i] = i, i
	}
	limit, w := b.tightLimit(tightStep), b.workers[0]
	for i, t := range groups {
		w.aim(b.grid, t.rows[0])
		list := b.g.neighbours(0, t.rows[0])
		for j, d := range w.distances(list) {
			other, ok := heads[list[j]]
			if !ok || d > limit {
				continue
			}
			a, c := i, other
			for to[a] != a {
				a = to[a]
			}
			for to[c] != c {
				c = to[c]
			}
			to[max(a, c)] = min(a, c)
		}
	}
	for i := len(groups) - 1; i >= 0; i-- {
		if into := to[i]; into != i {
			groups[into].rows = append(groups[into].rows, groups[i].rows...)
			groups[i].rows = nil
		}
	}
	for i := range groups {
		slices.Sort(groups[i].rows)
	}
	return slices.DeleteFunc(groups, func(t tightGroup) bool { return t.rows == nil })
}

// narrow reports whether a grid of the rows' own would be finer.
func (b *builder) narrow(rows []uint32) bool {
	w := b.workers[0]
	w.aim(b.grid, rows[0])
	sum, some := 0.0, sampleOf(rows, b.p.Seed)
	for _, d := range w.distances(some) {
		sum += float64(d)
	}
	return sum <= float64(b.tightLimit(tightReach))*float64(len(some))
}

// hide leaves only the heads of groups among the rows that have a place.
func (b *builder) hide(groups []tightGroup) {
	hidden := make([]bool, b.v.Rows)
	for _, t := range groups {
		for _, r := range t.rows[1:] {
			hidden[r] = true
		}
	}
	b.rows = slices.DeleteFunc(b.rows, func(r uint32) bool { return hidden[r] })
}

// linkWithin builds the graph of a group. Its rows are moved so that the head
// is at zero: what remains of them is small and exact. They are copied for it.
func (b *builder) linkWithin(t *tightGroup, workers int) (err error) {
	width := b.v.Dim
	if b.v.Metric == kernel.IP {
		width++
	}
	v := Vectors{Metric: kernel.L2, Rows: len(t.rows), Dim: width, Stride: width, Data: make([]float32, len(t.rows)*width)}
	head, most := make([]float64, width), b.longest()
	b.exactPoint(head, t.rows[0], most)
	point := make([]float64, width)
	for i, r := range t.rows {
		b.exactPoint(point, r, most)
		for j, x := range point {
			v.Data[i*width+j] = float32(x - head[j])
		}
	}
	p := b.p
	p.Bits, p.Workers, p.Progress, p.Guard = plainBits, workers, nil, nil
	t.own, err = Build(b.ctx, v, p)
	return err
}

// longest is the greatest square of a row's length, for the inner product.
func (b *builder) longest() float64 {
	most := 0.0
	for _, s := range b.squares {
		if s > most && s <= farthest*farthest {
			most = s
		}
	}
	return most
}

// exactPoint is the row in the space that the graph is built in, see transform.
func (b *builder) exactPoint(dst []float64, row uint32, most float64) {
	x, factor := b.v.row(row), 1.0
	switch b.v.Metric {
	case kernel.Cosine:
		factor = 1 / math.Sqrt(b.squares[row])
	case kernel.IP:
		dst[len(x)] = math.Sqrt(max(0, most-b.squares[row]))
	}
	for i, f := range x {
		dst[i] = float64(f) * factor
	}
}

// hang gives the rows of a group their links: first those that lead out, then
// those of the group's own graph.
func (b *builder) hang(t *tightGroup) {
	g, head := b.g, t.rows[0]
	width := g.width(0)
	out := slices.Clone(g.neighbours(0, head))
	w := b.workers[0]
	var list []uint32
	next := 0
	for i, r := range t.rows {
		list = list[:0]
		if i == 0 {
			list = append(list, b.nearestFew(w, head, out, width/2)...)
		} else {
			list = append(list, head)
			for range min(max(1, width/waysOut)-1, len(out)) {
				list = append(list, out[next%len(out)])
				next++
			}
		}
		for _, n := range t.own.neighbours(0, uint32(i)) {
			if r := t.rows[n]; len(list) < width && !slices.Contains(list, r) {
				list = append(list, r)
			}
		}
		g.setNeighbours(0, r, list)
	}
}

// nearestFew chooses links among list.
func (b *builder) nearestFew(w *worker, row uint32, list []uint32, most int) []uint32 {
	if len(list) <= most {
		return list
	}
	w.aim(b.grid, row)
	return b.choose(w, 0, list, most, nil)
}
