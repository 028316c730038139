package hnsw

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/chromad/chromad/internal/kernel"
)

// Neighbor is one row of an answer. Distance is that of kernel.Distance.
type Neighbor struct {
	Row      uint32
	Distance float32
}

// Query asks for the K rows that are nearest to Vector.
type Query struct {
	Vector []float32 // Dim numbers
	K      int
	// EF is the number of rows whose links a walk follows: more find more of the true
	// neighbours and take longer. There are at least K. It keeps as many, and K and a
	// quarter at least.
	EF      int
	Allowed []uint64 // a bitset of the rows that may be found; nil: all
	Matches int      // how many rows that are, if known; 0: they are counted
	Subset  *Subset  // the rows that may be found, instead of Allowed; of the same graph
	// Late, when set, is asked for a bound once, after the walk and before the
	// search looks at vectors for its answer: a distance from which on rows are not
	// needed, because enough nearer ones are known from elsewhere. It may wait for
	// what others find.
	Late  func() (bound float32, ok bool)
	Exact bool // compare the vectors of all allowed rows
	// Context, when set, ends a search that compares very many rows. A walk does
	// not look at it.
	Context context.Context
	// Likely, when set, is told rows that are likely to be found before their vectors
	// are read, once or not at all: who will read more of what is found may ask
	// memory for it. They are the nearest by their codes, at most K, in a slice of
	// the search's own.
	Likely func(rows []uint32)
}

// Search appends the nearest rows, ascending by (Distance, Row), and returns
// the extended slice.
//
// Without a bound the answer has min(K, rows allowed) entries; with one it may
// have fewer, all of them nearer than the bound. v must be the vectors that
// the graph was built over. Their Touch is called for the rows whose exact
// distance is computed only. s may be nil; otherwise no other search may use
// it at the same time. The error is that of v.Touch or q.Context, or tells that v or
// q.Vector do not belong to this graph; dst is then returned as it was.
func (g *Graph) Search(dst []Neighbor, v Vectors, q Query, s *Scratch) ([]Neighbor, error) {
	if err := g.fits(&v, len(q.Vector)); err != nil {
		return dst, err
	}
	if s == nil {
		s = new(Scratch)
	}
	matches, k := q.limit(g.rows)
	s.aim(v, &q)
	s.trace.Matches = matches
	if k <= 0 {
		return dst, s.release()
	}
	s.best.reset(k)
	g.answer(s, &q, k, matches)
	if s.err == nil {
		dst = s.best.appendTo(dst)
	}
	return dst, s.release()
}

// fits checks that a search cannot read beyond anything.
func (g *Graph) fits(v *Vectors, numbers int) error {
	if v.Rows != g.rows || numbers != v.Dim {
		return fmt.Errorf("search: a query of %d numbers for %d rows of %d, in a graph of %d", numbers, v.Rows, v.Dim, g.rows)
	}
	return g.Fits(v.Metric, v.Dim)
}

// limit trims the filter to rows and returns how many of them are allowed and
// how many are wanted.
func (q *Query) limit(rows int) (matches, k int) {
	matches = rows
	if q.Subset != nil {
		q.Allowed, q.Matches = q.Subset.allowed, q.Subset.matches
		if q.Matches == 0 {
			return 0, 0
		}
	}
	if q.Allowed != nil {
		q.Allowed = trim(q.Allowed, rows)
		if matches = min(q.Matches, rows); matches <= 0 {
			matches = count(q.Allowed, rows)
		}
		if matches == rows {
			q.Allowed = nil
		}
	}
	return matches, min(q.K, matches)
}

// bound is a key: those from it on are not needed.
func (q *Query) bound() uint64 {
	if q.Late != nil {
		if late, ok := q.Late(); ok {
			return pack(late, 0)
		}
	}
	return math.MaxUint64
}

// walk fills the pool with rows near the query, all of them allowed to be
// found: those of which it keeps so many, and of which it expands the nearest ef.
func (g *Graph) walk(s *Scratch, ef, keep int) {
	s.elsewhere = s.elsewhere[:0]
	if g.uneven {
		g.lookElsewhere(s)
	}
	clear(s.visited)
	s.pool.reset(keep)
	g.enter(s)
	for _, key := range s.elsewhere {
		if row := nodeOf(key); !has(s.visited, row) {
			s.mark(row)
			s.pool.insert(key)
		}
	}
	s.pool.unmark()
	g.approach(s, ef, nil)
}

// Rows that lookElsewhere begins from, spread over all, and those it keeps.
const (
	elsewhereRows = 250
	elsewhereKeep = 16
)

// lookElsewhere walks from rows that were not chosen for their length, with a
// narrow pool. From the longest rows alone, a walk for the inner product does
// not come to a group of shorter ones of which only a few are near the query.
func (g *Graph) lookElsewhere(s *Scratch) {
	clear(s.visited)
	s.pool.reset(elsewhereKeep)
	s.rows = s.rows[:0]
	n := min(g.rows, elsewhereRows)
	for i := range n {
		s.rows = append(s.rows, uint32(i*g.rows/n))
	}
	s.hops[0].Gather(s.rows)
	s.offer(&s.hops[0])
	g.approach(s, elsewhereKeep, nil)
	s.elsewhere = append(s.elsewhere, s.pool.keys[:s.pool.n]...)
}

// enter offers the entry and walks greedily down the upper levels. All rows
// that it meets stay in the pool: they were scored, and some are good places
// to begin from. Those that were expanded are marked.
func (g *Graph) enter(s *Scratch) {
	if g.uneven {
		g.enterByLength(s)
		return
	}
	h, p, level, entry := &s.hops[0], &s.pool, g.top(), g.entry
	if len(g.high) > 0 {
		entry, level = g.nearestHigh(s), g.highLevel-1
	}
	s.mark(entry)
	h.Add(entry)
	if s.offer(h); p.n == 0 {
		p.insert(pack(float32(math.Inf(1)), entry)) // its code is too far away for a number: begin from it all the same
	}
	for ; level > 0; level-- {
		g.climb(s, level, g.beam())
	}
}

// nearestHigh compares the rows of the highest levels by a part of their codes, and the
// nearest few by all, and returns the nearest. No row is marked: the walk may come to them.
func (g *Graph) nearestHigh(s *Scratch) uint32 {
	h, q, n := &s.hops[0], &s.query, kernel.WholePanels(len(g.high))
	mul, sub := g.codec.Part(q, g.highCodes.Stride())
	h.AimPanels(g.highCodes, q.Codes[:g.highCodes.Width()], mul, sub)
	s.trace.Scored += len(g.high)
	s.keys = slices.Grow(s.keys[:0], n)[:n]
	s.near = slices.Grow(s.near[:0], n)[:n]
	h.PanelKeys(0, s.keys)
	few := kernel.Nearer(s.keys, 0, math.Nextafter32(h.Bound(highFew), float32(math.Inf(1))), s.near)
	h.Aim(&g.codes, q.Codes, q.Mul, q.Sub, s.visited)
	for _, at := range few[:min(len(few), h.Room())] {
		h.Add(g.high[at])
	}
	nearest, below := g.high[0], float32(math.Inf(1))
	keys, rows := h.Score(below)
	for i, key := range keys {
		if key < below {
			nearest, below = rows[i], key
		}
	}
	return nearest
}

// beam is how many of the nearest rows are expanded at each upper level. Below
// the head of a tight group lie more rows at its distance than a pool may have
// room for: a walk has to come down at the right one.
func (g *Graph) beam() int {
	if g.grouped {
		return groupBeam
	}
	return 1
}

const groupBeam = 16

// The width of the beam grows with the walk's, in percent.
const (
	beamShare = 250
	beamLeast = 64
	beamMost  = 1024
)

// enterByLength compares the longest rows, and goes through the levels
// between them and level 0 with a beam: many of them may be near by inner
// product and lead nowhere.
func (g *Graph) enterByLength(s *Scratch) {
	h, p := &s.hops[0], &s.pool
	limit := p.limit
	beam := min(max(limit*beamShare/100, beamLeast), beamMost)
	p.reset(max(limit, beam))
	for rest := g.long; len(rest) > 0; {
		n := min(len(rest), h.Room())
		h.Gather(rest[:n])
		s.offer(h)
		rest = rest[n:]
	}
	if p.n == 0 {
		s.mark(g.entry)
		p.insert(pack(float32(math.Inf(1)), g.entry))
	}
	for level := g.longLevel - 1; level > 0; level-- {
		g.climb(s, level, beam)
	}
	p.limit, p.n = limit, min(p.n, limit)
}

// climb expands at an upper level until the nearest rows of the pool, so many
// of them, are expanded.
func (g *Graph) climb(s *Scratch, level, width int) {
	h, p := &s.hops[0], &s.pool
	p.unmark()
	for at := 0; at < min(p.n, width); {
		if p.keys[at]&expanded != 0 {
			at++
			continue
		}
		s.rows = g.linksAbove(s.rows[:0], level, nodeOf(p.keys[at]))
		p.keys[at] |= expanded
		s.trace.Expanded++
		h.Gather(s.rows)
		at = min(at+1, s.offer(h))
	}
}

// unmark makes all rows of the pool rows to be expanded.
func (p *pool) unmark() {
	for i := range p.keys[:p.n] {
		p.keys[i] &^= expanded
	}
}

// approach is algorithm 2 of the paper: it expands the nearest row of the pool
// that was not, until the first ef of them were. Two steps overlap: while the codes of
// one row's neighbours are on their way from memory, those of the row before
// are scored. So the next row is chosen before the last one's neighbours are
// known, which is nearly always the same choice. With a set of allowed rows, all
// others marked, it walks over these, see subgraph.
func (g *Graph) approach(s *Scratch, ef int, allowed []uint64) {
	p := &s.pool
	next, last := &s.hops[0], &s.hops[1]
	for at := 0; ; {
		for at < p.n && p.keys[at]&expanded != 0 {
			at++
		}
		if at < min(p.n, ef) {
			row := nodeOf(p.keys[at])
			p.keys[at] |= expanded
			at++
			s.trace.Expanded++
			links := g.neighbours(0, row)
			next.Gather(links)
			if allowed != nil {
				g.bridge(s, next, links, allowed)
			}
			g.prefetch(p, at)
		} else if last.Len() == 0 {
			return
		}
		if last.Len() > 0 {
			at = min(at, s.offer(last))
		}
		next, last = last, next
	}
}

// prefetch asks for the links of the next two rows to be expanded.
func (g *Graph) prefetch(p *pool, at int) {
	width := 2 * g.m
	for left := 2; at < min(p.n, at+6) && left > 0; at++ {
		if key := p.keys[at]; key&expanded == 0 {
			kernel.Prefetch(g.links[int(nodeOf(key))*width:][:width])
			left--
		}
	}
}
