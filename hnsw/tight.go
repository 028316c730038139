package hnsw

import (
	"math"
	"slices"
)

// A tight group is rows that lie so near to each other that the grid of a
// build cannot tell which of them are nearer: copies of one document, a little
// changed, among documents about anything. Linked by the grid, their links
// would lead to any of them, and to nothing else.
//
// So one of them, the head, is placed in the graph among all other rows. The
// whole group is linked as a graph of its own, over a grid of its own, which
// may find tight groups again. Every row of it keeps some links for ways out:
// to the head, and to what that has links to. What lies deeper has them to the
// two groups around it only, or there would be no room for its own.
//
// No row is the head of a group within its group, since it has no room for links
// into three.
type tightGroup struct {
	rows  []uint32 // ascending
	head  uint32
	heads []uint32 // of the pieces that it was made of, its own first
	first []uint32 // links of the head among other rows
	out   []uint32 // what the others have links to, beside the head
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
	// A group stands apart: no more than one in tightBeside of its links leads to
	// other rows within tightAround steps. Where rows are dense here and less so there,
	// groups would cut what belongs together.
	tightAround = 6
	tightBeside = 32
	// tightMany is the memory of a build, in bytes, from which on a group is
	// linked by all workers together: each of them might have one.
	tightMany = 8 << 20
	// tightRow is what a build needs of it for a row, beside the grid.
	tightRow = 400
	// tightShare is the share of the rows from which on groups are worth a
	// second build: one in so many.
	tightShare = 200
	// waysOut is the share of the links of a row of a group that lead out, and
	// waysMost how much of them, where groups lie in groups.
	waysOut  = 8
	waysMost = 4
	// tightDepth is how deep groups lie within groups: each has a tenth or so of
	// the width of that around it, and what is nearer than 1e-23 has the distance
	// zero where vectors have lengths of about 1. Rows that differ by such scales
	// cost as many builds.
	tightDepth = 24
	// tightFiner is how much finer than the grid around it that of a group is
	// where groups in it may be wider than a step. There would be many, each a little
	// smaller than the one around it.
	tightFiner = 4
	// lookEvery is how many rows one goroutine goes through in a millisecond or so.
	lookEvery = 1 << 10
)

// regroup makes the graph again, if there are tight groups in it.
func (b *builder) regroup() error {
	if b.depth >= tightDepth || b.depth > 0 && !(b.points.inverse > b.coarse) {
		return nil // the group that it is might find itself again
	}
	groups, err := b.tightGroups()
	if err != nil || len(groups) == 0 {
		return err
	}
	all := len(b.rows)
	b.hide(groups)
	levels := make([]uint8, b.v.Rows)
	b.drawLevels(b.rows, levels)
	for _, t := range groups {
		levels[t.head] = max(levels[t.head], 1)
	}
	b.g = newGraph(levels, b.p.M)
	b.g.uneven, b.g.grouped = b.uneven, true
	b.part, b.linked = nil, 0
	if err := b.link(nil); err != nil {
		return err
	}
	groups = b.oneOfPieces(groups, all)
	if err := b.shares(len(groups), 8, func(w *worker, i int) { b.findWays(w, &groups[i]) }); err != nil {
		return err
	}
	b.ways = make([]uint8, b.v.Rows)
	// The groups have grids of their own: there is never more than one of a row.
	few := tightMany / (tightRow + b.grid.stride)
	b.dropGrid()
	if err := b.linkGroups(groups, few); err != nil {
		return err
	}
	return b.fillGrid()
}

// linkGroups links the rows of groups, those of up to so many rows side by side.
func (b *builder) linkGroups(groups []tightGroup, few int) error {
	errs := make([]error, len(groups))
	if err := b.shares(len(groups), 1, func(w *worker, i int) {
		if len(groups[i].rows) <= few {
			errs[i] = b.linkWithin(&groups[i], []*worker{w})
		}
	}); err != nil {
		return err
	}
	for i := range groups {
		if t := &groups[i]; len(t.rows) > few {
			errs[i] = b.linkWithin(t, b.workers)
		}
		if errs[i] != nil {
			return errs[i]
		}
	}
	return nil
}

// tightGroups finds the groups along the links of level 0. What is joined so may
// reach far, from one row to the next, or not stand apart: of that, only rows that
// are equal to the grid are groups.
func (b *builder) tightGroups() ([]tightGroup, error) {
	limit := b.tightLimit(tightStep)
	if b.points.inverse < tightFiner*b.coarse {
		limit = 0
	}
	near, same := make([]bool, b.v.Rows), make([]bool, b.v.Rows)
	err := b.each(len(b.rows), func(w *worker, i int) {
		r := b.rows[i]
		w.aim(b.grid, r)
		for _, d := range w.distances(b.g.neighbours(0, r)) {
			near[r] = near[r] || d <= limit
			same[r] = same[r] || d == 0
		}
	})
	if err != nil || !slices.Contains(near, true) {
		return nil, err
	}
	joined, err := b.joined(near, limit)
	if err != nil {
		return nil, err
	}
	apart, err := b.apart(joined)
	if err != nil {
		return nil, err
	}
	var groups []tightGroup
	clear(near)
	all, some := len(b.rows), false
	for i, t := range joined {
		switch {
		case len(t.rows) < tightLeast:
		case len(t.rows) < all && (limit == 0 || apart[i] && b.narrow(t.rows)):
			groups = append(groups, t)
		default:
			for _, r := range t.rows {
				near[r] = same[r]
				some = some || same[r]
			}
		}
	}
	if some && limit > 0 {
		if joined, err = b.joined(near, 0); err != nil {
			return nil, err
		}
		for _, t := range joined {
			if len(t.rows) >= tightLeast && len(t.rows) < all {
				groups = append(groups, t)
			}
		}
		slices.SortFunc(groups, func(t, u tightGroup) int { return int(t.rows[0]) - int(u.rows[0]) })
	}
	return b.withHeads(groups, all), b.ctx.Err()
}

// apart reports which groups stand apart.
func (b *builder) apart(groups []tightGroup) ([]bool, error) {
	limit := b.tightLimit(tightAround)
	of, beside := make([]uint32, b.v.Rows), make([]uint8, b.v.Rows)
	for i, t := range groups {
		for _, r := range t.rows {
			of[r] = uint32(i + 1)
		}
	}
	err := b.each(len(b.rows), func(w *worker, i int) {
		r := b.rows[i]
		if g := of[r]; g > 0 && len(groups[g-1].rows) >= tightLeast {
			w.aim(b.grid, r)
			list := b.g.neighbours(0, r)
			for j, d := range w.distances(list) {
				if d <= limit && of[list[j]] != g {
					beside[r]++
				}
			}
		}
	})
	apart := make([]bool, len(groups))
	for i, t := range groups {
		out, all := 0, 0
		for _, r := range t.rows {
			out += int(beside[r])
			all += len(b.g.neighbours(0, r))
		}
		apart[i] = out*tightBeside <= all
	}
	return apart, err
}

// withHeads chooses the heads of groups, unless these have too few of all rows.
func (b *builder) withHeads(groups []tightGroup, all int) []tightGroup {
	sum := 0
	for i := range groups {
		t := &groups[i]
		sum += len(t.rows)
		// A small group deep within others may have no other row.
		at := slices.IndexFunc(t.rows, func(r uint32) bool { return !slices.Contains(b.heads, r) })
		t.head = t.rows[max(at, 0)]
		t.heads = []uint32{t.head}
	}
	if sum*tightShare < all {
		return nil
	}
	return groups
}

// tightLimit is the squared distance in the grid of rows that are so many
// steps apart along each coordinate. Copies of a coordinate that are rounded at
// other places are as good as smaller steps.
func (b *builder) tightLimit(steps float64) int32 {
	return int32(min(steps*steps*float64(b.points.width)*float64(b.points.copies), math.MaxInt32))
}

// joined puts rows that are linked and at most limit apart into one group.
func (b *builder) joined(near []bool, limit int32) ([]tightGroup, error) {
	parent := sets(b.v.Rows)
	find, w := parent.find, b.workers[0]
	for i, r := range b.rows {
		if i%lookEvery == 0 && b.ctx.Err() != nil {
			return nil, b.ctx.Err()
		}
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
	return groups, nil
}

// disjoint sets, each known by its least member.
type disjoint []uint32

// sets is n sets of one.
func sets(n int) disjoint {
	d := make(disjoint, n)
	for i := range d {
		d[i] = uint32(i)
	}
	return d
}

func (d disjoint) find(i uint32) uint32 {
	for d[i] != i {
		d[i] = d[d[i]]
		i = d[i]
	}
	return i
}

// oneOfPieces joins groups whose heads are as near to each other as the rows of
// one: a bulk that compares thousands of equal points does so in pieces, and
// there need be no link from one to the other. Where that would make one of all
// rows they stay apart, since it would be made again within itself.
func (b *builder) oneOfPieces(groups []tightGroup, all int) []tightGroup {
	heads := make(map[uint32]uint32, len(groups))
	for i := range groups {
		heads[groups[i].head] = uint32(i)
	}
	to := sets(len(groups))
	limit, w := b.tightLimit(tightStep), b.workers[0]
	for i := range uint32(len(groups)) {
		if i%lookEvery == 0 && b.ctx.Err() != nil {
			return groups // whoever goes on sees that too
		}
		w.aim(b.grid, groups[i].head)
		list := b.g.neighbours(0, groups[i].head)
		for j, d := range slices.Clone(w.distances(list)) {
			other, ok := heads[list[j]]
			if !ok || d > limit {
				continue
			}
			// Links from one to the next may go far: the first heads decide.
			from, into := to.find(i), to.find(other)
			w.aim(b.grid, groups[from].head)
			if from != into && w.distances(groups[into].heads[:1])[0] <= limit {
				to[max(from, into)] = min(from, into)
			}
		}
	}
	rows := 0
	for i := range uint32(len(groups)) {
		if to.find(i) == 0 {
			rows += len(groups[i].rows)
		}
	}
	if rows == all {
		return groups
	}
	for i := range groups {
		if into := to.find(uint32(i)); int(into) != i {
			groups[into].rows = append(groups[into].rows, groups[i].rows...)
			groups[into].heads = append(groups[into].heads, groups[i].heads...)
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
		for _, r := range t.rows {
			hidden[r] = r != t.head
		}
	}
	b.rows = slices.DeleteFunc(b.rows, func(r uint32) bool { return hidden[r] })
}

// findWays finds the links of a group that lead out: those of the heads of its
// pieces, but for those to each other.
func (b *builder) findWays(w *worker, t *tightGroup) {
	width := b.g.width(0)
	for _, h := range t.heads {
		for _, n := range b.g.neighbours(0, h) {
			if _, own := slices.BinarySearch(t.rows, n); !own && !slices.Contains(t.out, n) {
				t.out = append(t.out, n)
			}
		}
		if len(t.out) >= width {
			break
		}
	}
	if t.first = t.out; len(t.first) > width/2 {
		w.aim(b.grid, t.head)
		t.first = b.choose(w, 0, t.out, width/2, nil)
	}
}

// linkWithin builds the graph of a group, and links its rows by it.
func (b *builder) linkWithin(t *tightGroup, workers []*worker) error {
	in := b.inner(t, workers)
	if err := in.prepare(); err != nil {
		return err
	}
	own, err := in.build()
	if err != nil {
		return err
	}
	return in.each(len(t.rows), func(w *worker, i int) {
		ways := 0
		if in.ways != nil {
			ways = int(in.ways[i])
		}
		w.list = b.hang(t, own, i, ways, w.list[:0])
	})
}

// hang gives the i-th row of a group its links: first those that lead out, then
// those of the group's own graph, of which so many lead out of groups within.
func (b *builder) hang(t *tightGroup, own *Graph, i, ways int, list []uint32) []uint32 {
	row, width := t.rows[i], b.g.width(0)
	if row == t.head {
		list = append(list, t.first...)
	} else {
		if ways < max(1, width/waysMost) {
			list = append(list, t.head)
			few := min(max(1, width/waysOut)-1, len(t.out))
			for next := range few {
				list = append(list, t.out[(i*few+next)%len(t.out)])
			}
		}
		b.ways[row] = uint8(ways + len(list))
	}
	for _, n := range own.neighbours(0, uint32(i)) {
		if r := t.rows[n]; len(list) < width && !slices.Contains(list, r) {
			list = append(list, r)
		}
	}
	b.g.setNeighbours(0, row, list)
	return list
}
