package hnsw

import (
	"math"
	"slices"

	"github.com/chromad/chromad/internal/kernel"
)

// equals are the rows whose vectors are equal to that of an earlier row. To
// the heuristic, a thousand equal vectors are a thousand nearest neighbours
// in no direction: they would link to each other only. So one of each group
// is placed in the graph and the others hang below it as a tree.
//
// Rows that are nowhere are a group too: those with numbers that are not
// finite, and zero vectors for the cosine, whose distance of 1 to everything
// would attract the links of every lonely row. None of them is placed; the
// first hangs below some row that has room.
type equals struct {
	groups [][]uint32 // the placed row first, the others ascending
	hangs  []bool     // by row; nil when there are no groups
	lost   []uint32   // rows that are nowhere, ascending; a group too if more than one
}

// is reports whether row has no place of its own.
func (e *equals) is(row uint32) bool { return e.hangs != nil && e.hangs[row] }

// isLost reports whether row is nowhere.
func (e *equals) isLost(row uint32) bool {
	_, found := slices.BinarySearch(e.lost, row)
	return found
}

// mostCompared bounds the comparisons of one row with others of the same
// hash. Who makes hashes collide on purpose gets equal rows that are placed
// one by one.
const mostCompared = 8

// farthest is the greatest norm that arithmetic on float32 has room for.
const farthest = 1e35

// findEquals looks at every vector: at its norm too, which the grid needs. Few that
// differ have the same, so all others need no hash.
func (b *builder) findEquals() error {
	v := &b.v
	keys := make([]uint64, v.Rows)
	b.squares = make([]float64, v.Rows)
	err := b.each(v.Rows, func(w *worker, i int) {
		b.squares[i] = square(b.row(&w.point, uint32(i)))
		keys[i] = hashed(math.Float64bits(b.squares[i]), uint32(i))
	})
	if err != nil {
		return err
	}
	e := &b.equal
	for r, s := range b.squares {
		nowhere := !(s <= farthest*farthest)
		if v.Metric == kernel.Cosine {
			nowhere = !(s > 0 && s <= math.MaxFloat64)
		}
		if nowhere {
			e.lost = append(e.lost, uint32(r))
			keys[r] = math.MaxUint64
		} else if v.Metric == kernel.IP {
			b.most = max(b.most, s)
		}
	}
	slices.Sort(keys)
	var again []uint64
	eachAlike(keys[:len(keys)-len(e.lost)], func(some []uint64) { again = append(again, some...) })
	err = b.each(len(again), func(w *worker, i int) {
		row := uint32(again[i])
		again[i] = hashed(hash(b.row(&w.point, row)), row)
	})
	if err != nil {
		return err
	}
	slices.Sort(again)
	eachAlike(again, b.splitEquals)
	slices.SortFunc(e.groups, slices.Compare)
	if len(e.groups)+len(e.lost) > 0 {
		e.hangs = make([]bool, v.Rows)
	}
	for _, group := range e.groups {
		for _, r := range group[1:] {
			e.hangs[r] = true
		}
	}
	for _, r := range e.lost {
		e.hangs[r] = true
	}
	if len(e.lost) > 1 {
		e.groups = append(e.groups, slices.Clone(e.lost))
	}
	return b.ctx.Err()
}

// hashed has a part of a hash in its high half and a row in the low one.
func hashed(hash uint64, row uint32) uint64 { return mix(hash)&^math.MaxUint32 | uint64(row) }

// eachAlike calls f with those keys, two at least, that have the same high half.
func eachAlike(keys []uint64, f func(some []uint64)) {
	for from := 0; from < len(keys); {
		end := from + 1
		for end < len(keys) && keys[end]>>32 == keys[from]>>32 {
			end++
		}
		if end-from > 1 {
			f(keys[from:end])
		}
		from = end
	}
}

// square is |x|², in float64 so that it is the same for every form of the
// kernels and the difference of two is worth something.
func square(x []float32) float64 {
	of := func(f float32) float64 { return float64(float64(f) * float64(f)) } // rounded before the sum
	var s, t, u, v float64
	for ; len(x) >= 4; x = x[4:] {
		s, t, u, v = s+of(x[0]), t+of(x[1]), u+of(x[2]), v+of(x[3])
	}
	for _, f := range x {
		s += of(f)
	}
	return s + t + (u + v)
}

// splitEquals adds the groups among rows of one hash, the low halves of keys.
func (b *builder) splitEquals(keys []uint64) {
	var groups [][]uint32
	var one, other []float32
	e := &b.equal
	for _, key := range keys {
		row := uint32(key)
		x := b.row(&one, row)
		at := slices.IndexFunc(groups, func(g []uint32) bool { return slices.Equal(b.row(&other, g[0]), x) })
		if at >= 0 {
			groups[at] = append(groups[at], row)
		} else if len(groups) < mostCompared {
			groups = append(groups, []uint32{row})
		}
	}
	for _, g := range groups {
		if len(g) > 1 {
			e.groups = append(e.groups, g)
		}
	}
}

// hash mixes the bits of a vector, in which -0 is 0.
func hash(x []float32) uint64 {
	next := func(h, bits uint64) uint64 {
		h = (h ^ bits) * 0x9fb21c651e98df25
		return h ^ h>>29
	}
	h := uint64(len(x))
	lanes := [4]uint64{h, h + 1, h + 2, h + 3} // one product does not wait for the one before
	two := func(a, b float32) uint64 { return uint64(math.Float32bits(a+0)) | uint64(math.Float32bits(b+0))<<32 }
	for ; len(x) >= 8; x = x[8:] {
		lanes[0] = next(lanes[0], two(x[0], x[1]))
		lanes[1] = next(lanes[1], two(x[2], x[3]))
		lanes[2] = next(lanes[2], two(x[4], x[5]))
		lanes[3] = next(lanes[3], two(x[6], x[7]))
	}
	for _, f := range x {
		h = next(h, uint64(math.Float32bits(f+0)))
	}
	for _, l := range lanes {
		h = next(h, l)
	}
	return h
}

// linkEquals hangs a group below its first row. Every other row links to the
// row above it and to as many below as fit, so that a walk which meets one
// meets them all.
func (b *builder) linkEquals(group []uint32) {
	g := b.g
	width := g.width(0)
	top := group[0]
	if list := g.neighbours(0, top); !slices.Contains(list, group[1]) {
		list = slices.Clone(list[:min(len(list), width-1)]) // the last is the farthest
		g.setNeighbours(0, top, append(list, group[1]))
	}
	fan := width - 1
	for i := 1; i < len(group); i++ {
		above := 0
		if i > 1 {
			above = (i-2)/fan + 1
		}
		list := []uint32{group[above]}
		first := min(len(group), fan*(i-1)+2)
		list = append(list, group[first:min(len(group), first+fan)]...)
		g.setNeighbours(0, group[i], list)
	}
}

// prefer makes the first row of each group for which ok holds the top one.
func (e *equals) prefer(ok func(row uint32) bool) {
	for _, group := range e.groups {
		at := slices.IndexFunc(group, ok)
		if at <= 0 {
			continue
		}
		group[0], group[at] = group[at], group[0]
		slices.Sort(group[1:])
		if !e.isLost(group[0]) {
			e.hangs[group[0]] = false
			for _, r := range group[1:] {
				e.hangs[r] = true
			}
		}
	}
}
