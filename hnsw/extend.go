package hnsw

import "slices"

// An extension keeps the links of a graph that gives most of the rows.
type extension struct {
	*builder
	base *Graph
	old  []uint32
	from []uint32 // of each row of v, the row of base; NoRow when it is not there
	lost [][]bool // by level and node of v: more than a third of the links
}

// keep makes the graph of the rows that base has.
func (e *extension) keep() error {
	b, base := e.builder, e.base
	e.from = make([]uint32, b.v.Rows)
	for r := range e.from {
		e.from[r] = NoRow
	}
	for r, to := range e.old {
		if to != NoRow {
			e.from[to] = uint32(r)
		}
	}
	b.equal.prefer(func(r uint32) bool { return e.from[r] != NoRow })
	b.listRows()
	levels := make([]uint8, b.v.Rows)
	b.drawLevels(b.rows, levels)
	for _, to := range e.old {
		if to != NoRow {
			levels[to] = 0
		}
	}
	for s, r := range base.seatRow {
		if to := e.old[r]; to != NoRow {
			levels[to] = uint8(base.seatLevel(uint32(s)))
		}
	}
	b.g = newGraph(levels, b.p.M)
	b.g.uneven = b.uneven
	for level := 0; level == 0 || level <= base.top(); level++ {
		e.lost = append(e.lost, make([]bool, b.g.nodes(level)))
		err := b.each(base.nodes(level), func(w *worker, i int) {
			if level == 0 || base.seatLevel(uint32(i)) >= level {
				e.take(w, level, uint32(i))
			}
		})
		if err != nil {
			return err
		}
	}
	// A row that has the place of its group now may have hung below another.
	for _, group := range b.equal.groups {
		e.lost[0][group[0]] = true
	}
	return nil
}

// asks reports whether a node needs links: it is new, or lost many of its own.
func (e *extension) asks(level int, node uint32) bool {
	return e.from[e.g.rowOf(level, node)] == NoRow || e.lost[level][node]
}

// node translates a node of base, if it was kept.
func (e *extension) node(level int, n uint32) (uint32, bool) {
	to := e.old[e.base.rowOf(level, n)]
	if to == NoRow || level == 0 {
		return to, to != NoRow
	}
	return uint32(e.g.seat(to)), true
}

// take copies the links of one node of base. In the place of links to dropped
// nodes it takes the best among the links that those had. The others stay as
// they are: the heuristic would leave out some of them, seen from which the
// dropped ones did not lie in between.
func (e *extension) take(w *worker, level int, from uint32) {
	node, ok := e.node(level, from)
	if !ok {
		return
	}
	list := w.list[:0]
	for _, n := range e.base.neighbours(level, from) {
		if to, ok := e.node(level, n); ok {
			list = append(list, to)
		}
	}
	if had := len(e.base.neighbours(level, from)); len(list) < had {
		e.lost[level][node] = 3*len(list) < 2*had
		stay := slices.Clone(list)
		for _, n := range e.base.neighbours(level, from) {
			if _, ok := e.node(level, n); ok {
				continue
			}
			for _, m := range e.base.neighbours(level, n) {
				if to, ok := e.node(level, m); ok && m != from && !slices.Contains(list, to) {
					list = append(list, to)
				}
			}
		}
		w.list = list
		list = e.chooseAmong(w, level, node, list)
		for _, n := range stay {
			if len(list) < e.g.width(level) && !slices.Contains(list, n) {
				list = append(list, n)
			}
		}
	}
	w.list = list[:0]
	e.g.setNeighbours(level, node, list)
}
