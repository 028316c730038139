package hnsw

import (
	"math"
	"slices"
)

// equals are the rows whose vectors are equal to that of an earlier row. To
// the heuristic, a thousand equal vectors are a thousand nearest neighbours
// in no direction: they would link to each other only. So one of each group
// is placed in the graph and the others hang below it as a tree.
type equals struct {
	groups [][]uint32 // the placed row first, the others ascending
	hangs  []bool     // by row; nil when there are no groups
}

// is reports whether row hangs below another.
func (e *equals) is(row uint32) bool { return e.hangs != nil && e.hangs[row] }

// mostCompared bounds the comparisons of one row with others of the same
// hash. Who makes hashes collide on purpose gets equal rows that are placed
// one by one.
const mostCompared = 8

func findEquals(v *Vectors, each func(n int, f func(w *worker, i int)) error) (equals, error) {
	keys := make([]uint64, v.Rows)
	err := each(v.Rows, func(_ *worker, i int) {
		keys[i] = hash(v.row(uint32(i)))&^math.MaxUint32 | uint64(i)
	})
	if err != nil {
		return equals{}, err
	}
	slices.Sort(keys)
	var e equals
	for from := 0; from < len(keys); {
		end := from + 1
		for end < len(keys) && keys[end]>>32 == keys[from]>>32 {
			end++
		}
		if end-from > 1 {
			e.split(v, keys[from:end])
		}
		from = end
	}
	slices.SortFunc(e.groups, slices.Compare)
	for _, group := range e.groups {
		if e.hangs == nil {
			e.hangs = make([]bool, v.Rows)
		}
		for _, r := range group[1:] {
			e.hangs[r] = true
		}
	}
	return e, nil
}

// split adds the groups among rows of one hash, the low halves of keys.
func (e *equals) split(v *Vectors, keys []uint64) {
	var groups [][]uint32
	for _, key := range keys {
		row := uint32(key)
		at := slices.IndexFunc(groups, func(g []uint32) bool { return slices.Equal(v.row(g[0]), v.row(row)) })
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

// hash mixes the bits of a vector; the high half is used.
func hash(x []float32) uint64 {
	h := uint64(len(x))
	for _, f := range x {
		h = (h ^ uint64(math.Float32bits(f))) * 0x9fb21c651e98df25
		h ^= h >> 29
	}
	return mix(h)
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

// prefer makes the first row of each group for which ok holds the placed one.
func (e *equals) prefer(ok func(row uint32) bool) {
	for _, group := range e.groups {
		if at := slices.IndexFunc(group, ok); at > 0 {
			e.hangs[group[0]], e.hangs[group[at]] = true, false
			group[0], group[at] = group[at], group[0]
			slices.Sort(group[1:])
		}
	}
}
