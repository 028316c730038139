package hnsw

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
)

// NoRow stands for a row that was dropped.
const NoRow = math.MaxUint32

// A Part is a graph whose rows come into another one.
type Part struct {
	Rows []uint32 // of each of its rows, the row that it becomes, or NoRow
	// Graph is called once at most, and no other part's while what it returned is in use. A
	// nil graph helps nobody.
	Graph func() (*Graph, error)
}

// Join builds the graph of v, of which some rows, or all, come from graphs that are
// there: no row from two of them.
//
// Where one of the parts gives two thirds of the rows, its links are kept: rows that had links to
// dropped ones take over those of the dropped, and only the rows of v that are not in this part, or
// lost a third of their links, look for neighbours among all.
//
// Else all rows look for neighbours, but who has links in a part looks for them mostly among the other
// parts, and in fewer groups: those links tell what is near in its own. What a
// part built with another M, or with tight groups, knows is of no use, nor are more than 255 parts.
func Join(ctx context.Context, parts []Part, v Vectors, p Params) (*Graph, error) {
	parts, kept, err := sorted(parts, v.Rows)
	if err != nil {
		return nil, err
	}
	var base *Graph
	for len(parts) > 0 && base == nil {
		if base, err = parts[0].graph(); err != nil {
			return nil, err
		}
		if base == nil {
			parts, kept = parts[1:], kept[1:]
		}
	}
	if base == nil {
		return Build(ctx, v, p)
	}
	if p.M == 0 {
		p.M = base.m
	}
	b, err := newBuilder(ctx, v, p)
	if err != nil {
		return nil, err
	}
	if b.fits(base) && kept[0] >= 2*(v.Rows-kept[0]) {
		e := extension{builder: b, base: base, old: parts[0].Rows}
		if err := e.keep(); err != nil {
			return nil, err
		}
		return b.finish(e.asks)
	}
	b.begin()
	if err := b.takeOver(base, parts); err != nil {
		return nil, err
	}
	return b.finish(nil)
}

// sorted returns the parts, those that keep most rows first, and how many rows each keeps.
func sorted(parts []Part, rows int) (some []Part, kept []int, err error) {
	type counted struct {
		Part
		kept int
	}
	var all []counted
	seen := make([]uint64, (min(int64(max(rows, 0)), maxRows)+63)/64)
	for i, part := range parts {
		c := counted{Part: part}
		for r, to := range part.Rows {
			if to == NoRow {
				continue
			}
			if int64(to) >= int64(rows) || has(seen, to) {
				return nil, nil, fmt.Errorf("join: row %d of part %d becomes row %d of %d, or a second one does", r, i, to, rows)
			}
			seen[to>>6] |= 1 << (to & 63)
			c.kept++
		}
		all = append(all, c)
	}
	slices.SortStableFunc(all, func(x, y counted) int { return cmp.Compare(y.kept, x.kept) })
	for _, c := range all {
		some, kept = append(some, c.Part), append(kept, c.kept)
	}
	return some, kept, nil
}

// graph is nil for a part that knows nothing.
func (part *Part) graph() (*Graph, error) {
	g, err := part.Graph()
	if err == nil && g != nil && g.rows != len(part.Rows) {
		return nil, fmt.Errorf("join: a map of %d rows for a graph of %d", len(part.Rows), g.rows)
	}
	return g, err
}

// fits reports whether the links of a graph are such as this builder makes.
func (b *builder) fits(g *Graph) bool {
	return g.m == b.p.M && !g.grouped && g.uneven == b.uneven
}

const (
	partsMost = math.MaxUint8
	// joinedFan is fan where most rows have links. Over three generations of parts, 64 to
	// one, recall stays what it is of a graph built at once, see docs/index.md.
	joinedFan = 6
)

// takeOver gives rows the links that they have in parts, of which the first is base, as far as these
// lead to rows with a place.
func (b *builder) takeOver(base *Graph, parts []Part) error {
	if len(b.rows) <= groupOnly {
		return nil // all are compared with all
	}
	b.part = make([]uint8, b.v.Rows)
	for i, part := range parts[:min(len(parts), partsMost)] {
		if i > 0 {
			base = nil // one at a time
			var err error
			if base, err = part.graph(); err != nil {
				return err
			}
		}
		if base != nil && b.fits(base) {
			if err := b.takeFrom(base, part.Rows, uint8(i+1)); err != nil {
				return err
			}
		}
	}
	for _, r := range b.rows {
		if b.part[r] > 0 {
			b.linked++
		}
	}
	return nil
}

// takeFrom gives rows the links that they have in one part.
func (b *builder) takeFrom(g *Graph, rows []uint32, part uint8) error {
	return b.each(g.rows, func(w *worker, r int) {
		row := rows[r]
		if row == NoRow || b.equal.is(row) {
			return
		}
		had := g.neighbours(0, uint32(r))
		list := w.list[:0]
		for _, n := range had {
			if to := rows[n]; to != NoRow && to != row && !b.equal.is(to) {
				list = append(list, to)
			}
		}
		w.list = list
		if len(list) > 0 && 3*len(list) >= 2*len(had) {
			b.part[row] = part
			b.g.setNeighbours(0, row, list)
		}
	})
}

// parted reports whether rows at level have links from a part already.
func (b *builder) parted(level int) bool { return level == 0 && b.linked > 0 }

// know returns which of rows, the members of a group in the order of their parts, are of the part
// that row at is of: none when it has no links.
func (k *bulk) know(rows []uint32, at int) (from, end int) {
	if !k.parted(k.level) || k.part[rows[at]] == 0 {
		return 0, 0
	}
	part := k.part[rows[at]]
	by := func(row uint32, part uint8) int { return cmp.Compare(k.part[row], part) }
	from, _ = slices.BinarySearchFunc(rows, part, by)
	if end = len(rows); part < partsMost {
		end, _ = slices.BinarySearchFunc(rows, part+1, by)
	}
	return from, end
}

// byPart lists the places of nodes, those of no part first, then part by part.
func (k *bulk) byPart() []uint32 {
	var first [partsMost + 2]int
	for _, r := range k.rows {
		first[int(k.part[r])+1]++
	}
	for p := range partsMost + 1 {
		first[p+1] += first[p]
	}
	list := make([]uint32, len(k.rows))
	for i, r := range k.rows {
		at := &first[k.part[r]]
		list[*at] = uint32(i)
		*at++
	}
	return list
}
