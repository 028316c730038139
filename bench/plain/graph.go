package plain

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/chromad/chromad/internal/kernel"
)

const (
	m              = 16
	efConstruction = 200
)

// A Graph is built once and then searched, by one goroutine at a time.
type Graph struct {
	data   []float32
	dim    int
	links  [][][]uint32 // of a row, by level
	entry  uint32
	mark   []uint32 // the search that met a row last
	search uint32
}

// Build makes a graph of the rows of data by squared Euclidean distance, one
// after the other.
func Build(data []float32, dim int, seed uint64) *Graph {
	rows := len(data) / dim
	g := &Graph{data: data, dim: dim, links: make([][][]uint32, rows), mark: make([]uint32, rows)}
	rng := rand.New(rand.NewPCG(seed, seed))
	for row := range rows {
		level := int(-math.Log(1-rng.Float64()) / math.Log(m))
		g.links[row] = make([][]uint32, level+1)
		if row > 0 {
			g.insert(uint32(row), level)
		}
	}
	return g
}

func (g *Graph) vector(row uint32) []float32 {
	return g.data[int(row)*g.dim : (int(row)+1)*g.dim]
}

func (g *Graph) distance(q []float32, row uint32) float32 {
	return kernel.L2Squared(q, g.vector(row))
}

func (g *Graph) top() int { return len(g.links[g.entry]) - 1 }

// insert is algorithm 1.
func (g *Graph) insert(row uint32, level int) {
	q := g.vector(row)
	at := g.descend(q, level)
	for l := min(level, g.top()); l >= 0; l-- {
		found := g.layer(q, at, efConstruction, l, nil)
		at = found[0]
		room := m
		if l == 0 {
			room = 2 * m
		}
		g.links[row][l] = g.choose(found, m)
		for _, other := range g.links[row][l] {
			list := append(g.links[other][l], row)
			if len(list) > room {
				list = g.shrink(other, list, room)
			}
			g.links[other][l] = list
		}
	}
	if level > g.top() {
		g.entry = row
	}
}

// descend walks greedily from the entry down to the level above.
func (g *Graph) descend(q []float32, level int) near {
	at := near{g.distance(q, g.entry), g.entry}
	for l := g.top(); l > level; l-- {
		for from := (near{-1, 0}); from != at; {
			from = at
			for _, row := range g.links[from.row][l] {
				if d := g.distance(q, row); d < at.distance {
					at = near{d, row}
				}
			}
		}
	}
	return at
}

// layer is algorithm 2: the ef nearest rows that a walk on one level meets,
// ascending. With a filter, rows outside are walked over and not returned.
func (g *Graph) layer(q []float32, at near, ef, level int, allowed []uint64) []near {
	g.search++
	g.mark[at.row] = g.search
	candidates, found := heap{items: []near{at}}, heap{largest: true}
	if has(allowed, at.row) {
		found.push(at)
	}
	for len(candidates.items) > 0 {
		c := candidates.pop()
		if len(found.items) == ef && c.distance > found.top().distance {
			break
		}
		for _, row := range g.links[c.row][level] {
			if g.mark[row] == g.search {
				continue
			}
			g.mark[row] = g.search
			d := g.distance(q, row)
			if len(found.items) == ef && d >= found.top().distance {
				continue
			}
			candidates.push(near{d, row})
			if !has(allowed, row) {
				continue
			}
			if found.push(near{d, row}); len(found.items) > ef {
				found.pop()
			}
		}
	}
	slices.SortFunc(found.items, ascending)
	return found.items
}

func ascending(a, b near) int {
	return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.row, b.row))
}

// choose is algorithm 4: of rows in ascending order those that are nearer to
// the new one than to any that was chosen before.
func (g *Graph) choose(found []near, room int) []uint32 {
	out := make([]uint32, 0, room+1)
next:
	for _, n := range found {
		if len(out) == room {
			break
		}
		for _, row := range out {
			if g.distance(g.vector(n.row), row) < n.distance {
				continue next
			}
		}
		out = append(out, n.row)
	}
	return out
}

func (g *Graph) shrink(row uint32, list []uint32, room int) []uint32 {
	all := make([]near, len(list))
	for i, other := range list {
		all[i] = near{g.distance(g.vector(row), other), other}
	}
	slices.SortFunc(all, ascending)
	return g.choose(all, room)
}

// Search is algorithm 5: it appends the k nearest rows that are allowed (nil:
// all), nearest first.
func (g *Graph) Search(dst []uint32, q []float32, k, ef int, allowed []uint64) []uint32 {
	if len(g.links) == 0 {
		return dst
	}
	found := g.layer(q, g.descend(q, 0), max(ef, k), 0, allowed)
	for _, n := range found[:min(k, len(found))] {
		dst = append(dst, n.row)
	}
	return dst
}

func has(allowed []uint64, row uint32) bool {
	return allowed == nil || allowed[row/64]>>(row%64)&1 != 0
}
