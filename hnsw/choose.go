package hnsw

import (
	"slices"

	"github.com/chromad/chromad/internal/kernel"
)

// fewLinks is the number of links below which a node also takes candidates
// that lie behind others. It matters where all rows lie on a line, as those
// of equal direction do for the cosine: the heuristic alone leaves one link.
const fewLinks = 4

// A picker is the memory of choose.
type picker struct {
	keys  []uint64 // candidates that are still alive
	rows  []uint32 // of these
	norms []int32
	dots  []int32
	lost  []uint64 // candidates that were passed over
}

// choose appends up to most of the candidates, ascending keys seen from the
// node that is to be linked: the nearest first, and then only those that are
// nearer to the node than to any chosen before (algorithm 4 of the paper).
// Links lead into different directions that way. A candidate that equals a
// chosen one adds no direction and is passed over too.
func (b *builder) choose(w *worker, level int, candidates []uint64, most int, chosen []uint32) []uint32 {
	p := &w.pick
	p.keys, p.rows, p.norms = append(p.keys[:0], candidates...), p.rows[:0], p.norms[:0]
	for _, key := range candidates {
		row := b.g.rowOf(level, nodeIn(key))
		p.rows = append(p.rows, row)
		p.norms = append(p.norms, b.grid.norm[row])
	}
	p.dots = slices.Grow(p.dots[:0], len(p.rows))[:len(p.rows)]
	alive, rows, norms, dots, lost := p.keys, p.rows, p.norms, p.dots, p.lost[:0]
	for len(alive) > 0 && len(chosen) < most {
		row := rows[0]
		chosen = append(chosen, nodeIn(alive[0]))
		alive, rows, norms = alive[1:], rows[1:], norms[1:]
		if len(chosen) == most || len(alive) == 0 {
			break
		}
		kernel.Signed8(w.query, b.grid.code(row))
		kernel.Dot8Rows(w.query, b.grid.codes, b.grid.stride, rows, dots)
		bias, kept := b.grid.bias[row], 0
		for i, key := range alive {
			if d := bias + norms[i] - 2*dots[i]; d < distanceIn(key) || d <= 0 {
				if len(lost) < fewLinks {
					lost = append(lost, key)
				}
				continue
			}
			alive[kept], rows[kept], norms[kept] = key, rows[i], norms[i]
			kept++
		}
		alive, rows, norms = alive[:kept], rows[:kept], norms[:kept]
	}
	p.lost = lost
	for _, key := range lost {
		if len(chosen) >= min(fewLinks, most) {
			break
		}
		chosen = append(chosen, nodeIn(key))
	}
	return chosen
}

// chooseAmong returns the links that node should have among list, in place.
func (b *builder) chooseAmong(w *worker, level int, node uint32, list []uint32) []uint32 {
	w.aim(b.grid, b.g.rowOf(level, node))
	b.score(w, level, list)
	return b.choose(w, level, w.keys[:min(len(w.keys), mostBack)], b.g.width(level), list[:0])
}

// score sets w.keys to the keys of nodes as seen from the row that w is aimed
// at, ascending.
func (b *builder) score(w *worker, level int, nodes []uint32) {
	w.keys = w.keys[:0]
	for i, d := range w.distances(b.rowsOf(w, level, nodes)) {
		w.keys = append(w.keys, keyOf(d, nodes[i]))
	}
	slices.Sort(w.keys)
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
