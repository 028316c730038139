package hnsw

import (
	"math"
	"slices"

	"github.com/chromad/chromad/internal/kernel"
)

// fewLinks is the number of links below which a node also takes candidates
// that lie behind others. It matters where all rows lie on a line, as those
// of equal direction do for the cosine: the heuristic alone leaves one link.
const fewLinks = 4

// shrink is a squared distance divided by α² = 1.1. A candidate must lie nearer to
// a chosen node than that is to be passed over: a few more long links shorten
// the way (Vamana: Subramanya et al., "DiskANN", 2019, algorithm 2).
func shrink(d int32) int32 { return d - d>>4 - d>>5 }

// A picker is the memory of choose.
type picker struct {
	d       []int32 // distances of the candidates that are still alive
	norms   []int32 // their norms in the grid
	rows    []uint32
	far     []int32 // from the row that was chosen last
	least   []int32 // from it, or from the one that comes next if that is nearer
	queries []int8  // these two
	bias    [2]int32
}

// choose appends up to most of nodes, candidates for links of the row that w is
// aimed at, each of them once: the nearest first, and then only those that are
// nearer to the row, or hardly farther, than to any chosen before (algorithm 4
// of the paper, see shrink). Links lead into different directions that way. A candidate that equals a
// chosen one adds no direction and is passed over too. Of those at the same
// distance the first in the list counts.
//
// Where a kernel does so at no cost, the others are compared with two at a time: with the nearest, and with
// the next, which is chosen too five times of six.
func (b *builder) choose(w *worker, level int, nodes []uint32, most int, chosen []uint32) []uint32 {
	p, g := &w.pick, b.grid
	p.rows = append(p.rows[:0], b.rowsOf(w, level, nodes)...)
	p.d = append(p.d[:0], w.distances(p.rows)...)
	p.norms = p.norms[:0]
	for _, r := range p.rows {
		p.norms = append(p.norms, g.norm[r])
	}
	if b.depth == 0 && !b.g.grouped { // groups keep few links for ways out of them
		for i, d := range p.d {
			p.d[i] = shrink(d)
		}
	}
	p.far, p.least = slices.Grow(p.far[:0], len(nodes))[:len(nodes)], slices.Grow(p.least[:0], len(nodes))[:len(nodes)]
	p.queries = slices.Grow(p.queries[:0], 2*g.stride)[:2*g.stride]
	two := kernel.TwoAtOnce()
	for len(p.d) > 0 && len(chosen) < most {
		at := p.aim(g, 0)
		chosen = append(chosen, b.nodeOf(level, p.rows[at]))
		if len(chosen) == most || len(p.d) == 1 {
			break
		}
		if !two {
			far := p.far[:len(p.d)]
			kernel.Dot8Rows(p.queries[:g.stride], g.codes, g.stride, p.rows, far)
			kernel.Keys8(far, p.norms)
			p.prune(far, p.bias[0])
			continue
		}
		p.d[at] = chosenAlready
		next := p.aim(g, 1)
		kernel.Least8(p.queries, &p.bias, g.codes, g.stride, p.rows, p.norms, p.far, p.least)
		if far := p.far[next]; far < p.d[next] || far <= 0 {
			p.prune(p.far, 0)
			continue
		}
		chosen = append(chosen, b.nodeOf(level, p.rows[next]))
		p.d[next] = chosenAlready
		p.prune(p.least, 0)
	}
	if few := min(fewLinks, most, len(nodes)); len(chosen) < few {
		chosen = b.fill(w, level, nodes, few, chosen)
	}
	return chosen
}

// chosenAlready is the distance of such a candidate.
const chosenAlready = math.MaxInt32

// aim makes the nearest candidate one of the two rows, and returns its place.
func (p *picker) aim(g *grid, which int) int {
	at := firstLeast(p.d)
	row := p.rows[at]
	kernel.Signed8(p.queries[which*g.stride:][:g.stride], g.code(row))
	p.bias[which] = g.bias[row]
	return at
}

// prune leaves out the candidates that are nearer to what was chosen.
func (p *picker) prune(far []int32, bias int32) {
	n := kernel.Prune(p.d, p.norms, far, p.rows, bias)
	p.d, p.norms, p.rows = p.d[:n], p.norms[:n], p.rows[:n]
}

// firstLeast is the place of the smallest number, the first of them. Which numbers are
// smaller than all before them is nothing that a processor can predict.
func firstLeast(d []int32) int {
	a, b, c, e := d[0], d[0], d[0], d[0]
	rest := d
	for ; len(rest) >= 4; rest = rest[4:] {
		a, b, c, e = min(a, rest[0]), min(b, rest[1]), min(c, rest[2]), min(e, rest[3])
	}
	for _, x := range rest {
		a = min(a, x)
	}
	return slices.Index(d, min(a, b, c, e))
}

// fill adds the nearest of nodes to those chosen until there are so many.
func (b *builder) fill(w *worker, level int, nodes []uint32, few int, chosen []uint32) []uint32 {
	d := w.distances(b.rowsOf(w, level, nodes))
	for len(chosen) < few {
		at := -1
		for i, n := range nodes {
			if (at < 0 || d[i] < d[at]) && !slices.Contains(chosen, n) {
				at = i
			}
		}
		if at < 0 {
			break
		}
		chosen = append(chosen, nodes[at])
	}
	return chosen
}

// chooseAmong returns the links that node should have among list, whose memory
// it uses.
func (b *builder) chooseAmong(w *worker, level int, node uint32, list []uint32) []uint32 {
	w.aim(b.grid, b.g.rowOf(level, node))
	if len(list) > mostBack {
		list = b.nearest(w, level, list)
	}
	w.chosen = b.choose(w, level, list, b.g.width(level), w.chosen[:0])
	return append(list[:0], w.chosen...)
}

// nearest returns the mostBack of list that are nearest to the row that w is
// aimed at.
func (b *builder) nearest(w *worker, level int, list []uint32) []uint32 {
	w.keys = w.keys[:0]
	for i, d := range w.distances(b.rowsOf(w, level, list)) {
		w.keys = append(w.keys, keyOf(d, list[i]))
	}
	slices.Sort(w.keys)
	for i, key := range w.keys[:mostBack] {
		list[i] = nodeIn(key)
	}
	return list[:mostBack]
}

// nodeOf is the node of a row that is at level.
func (b *builder) nodeOf(level int, row uint32) uint32 {
	if level > 0 {
		return uint32(b.g.seat(row))
	}
	return row
}

// rowsOf returns the rows of nodes, valid until the next call.
func (b *builder) rowsOf(w *worker, level int, nodes []uint32) []uint32 {
	if level == 0 {
		return nodes
	}
	w.rows = w.rows[:0]
	for _, n := range nodes {
		w.rows = append(w.rows, b.g.seatRow[n])
	}
	return w.rows
}
