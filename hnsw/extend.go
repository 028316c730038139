package hnsw

import (
	"context"
	"fmt"
	"math"
	"slices"
)

// NoRow stands for a row that was dropped.
const NoRow = math.MaxUint32

// Extend builds the graph of v from that of fewer or other rows: old[r] is
// the row in v of base's row r, or NoRow when it was dropped. The links of
// base are kept, rows that had links to dropped ones take over those of the
// dropped, and the rows of v that are not in base are inserted. When base
// gives less than half of v's rows, or was built with another M, Extend is
// Build.
func Extend(ctx context.Context, base *Graph, old []uint32, v Vectors, p Params) (*Graph, error) {
	kept, err := checkMap(base, old, v.Rows)
	if err != nil {
		return nil, err
	}
	if p.M == 0 {
		p.M = base.m
	}
	if kept == 0 || kept < v.Rows-kept || p.M != base.m {
		return Build(ctx, v, p)
	}
	b, err := newBuilder(ctx, v, p)
	if err != nil {
		return nil, err
	}
	if b.uneven != base.uneven {
		return Build(ctx, v, p)
	}
	e := extension{builder: b, base: base, old: old}
	if err := e.keep(kept); err != nil {
		return nil, err
	}
	if kept < base.rows {
		for level := b.g.top(); level >= 0; level-- {
			if err := b.reach(level, e.absent); err != nil {
				return nil, err
			}
		}
	}
	if err := b.insert(e.added, kept); err != nil {
		return nil, err
	}
	return b.finish()
}

// checkMap returns the number of rows that old keeps.
func checkMap(base *Graph, old []uint32, rows int) (int, error) {
	if len(old) != base.rows {
		return 0, fmt.Errorf("extend: a map of %d rows for a graph of %d", len(old), base.rows)
	}
	seen := make([]uint64, (min(int64(max(rows, 0)), maxRows)+63)/64)
	kept := 0
	for r, to := range old {
		if to == NoRow {
			continue
		}
		if int64(to) >= int64(rows) || has(seen, to) {
			return 0, fmt.Errorf("extend: row %d becomes row %d of %d, or a second one does", r, to, rows)
		}
		seen[to>>6] |= 1 << (to & 63)
		kept++
	}
	return kept, nil
}

type extension struct {
	*builder
	base   *Graph
	old    []uint32
	absent []uint64 // rows of v that base does not have
	added  []uint32 // those of them to insert, in order
}

// keep makes the graph of the rows that base has.
func (e *extension) keep(kept int) error {
	b, base := e.builder, e.base
	levels := make([]uint8, b.v.Rows)
	e.absent = make([]uint64, (b.v.Rows+63)/64)
	for r := range b.v.Rows {
		e.absent[r>>6] |= 1 << (r & 63)
	}
	for _, to := range e.old {
		if to != NoRow {
			e.absent[to>>6] &^= 1 << (to & 63)
		}
	}
	b.equal.prefer(func(r uint32) bool { return !has(e.absent, r) })
	for r := range uint32(b.v.Rows) {
		if has(e.absent, r) && !b.equal.is(r) {
			e.added = append(e.added, r)
		}
	}
	b.listRows()
	b.drawLevels(b.rows, levels)
	b.sort(e.added, levels)
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
	b.done = kept
	if err := b.each(base.rows, func(w *worker, i int) { e.take(w, 0, uint32(i)) }); err != nil {
		return err
	}
	err := b.each(len(base.seatRow), func(w *worker, i int) {
		for l := 1; l <= base.seatLevel(uint32(i)); l++ {
			e.take(w, l, uint32(i))
		}
	})
	if err != nil {
		return err
	}
	b.g.setEntry(e.highest())
	return nil
}

// highest returns the kept row of the highest level: base's entry if it was
// kept, else the first.
func (e *extension) highest() uint32 {
	if to := e.old[e.base.entry]; to != NoRow {
		return to
	}
	best, level := uint32(NoRow), 0
	for s, r := range e.base.seatRow {
		if l := e.base.seatLevel(uint32(s)); l > level && e.old[r] != NoRow {
			best, level = e.old[r], l
		}
	}
	if level > 0 {
		return best
	}
	at := slices.IndexFunc(e.old, func(to uint32) bool { return to != NoRow })
	return e.old[at]
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
	if len(list) < len(e.base.neighbours(level, from)) {
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
