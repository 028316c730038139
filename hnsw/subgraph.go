package hnsw

import (
	"math"
	"math/bits"
	"slices"

	"github.com/chromad/chromad/internal/kernel"
)

const (
	// A walk over allowed rows only is tried where at least one row in
	// subgraphFrom is allowed and one in subgraphTo is not: where few are it loses its
	// way, and where nearly all are, what is missing is what is near the query.
	subgraphFrom = 3
	subgraphTo   = 4
	// It costs so many codes that a scan compares in the time, and for each row that it keeps.
	subgraphFixed = 1200
	subgraphCodes = 80
	// subgraphSeeds is how many places it begins from, beside those that are known.
	subgraphSeeds = 16
	// shellSpread is how much farther the last row of its pool must be than the
	// first. Where a filter takes away all that is near the query, on every
	// side, what is left lies on a shell around it, and a walk finds a part of that.
	// Estimates of equal distances differ by shellSigmas standard deviations.
	shellSpread = 0.06
	shellSigmas = 2
)

// mayWalkSubgraph reports whether a walk over so many allowed rows only is worth
// trying wherever a query is.
func (g *Graph) mayWalkSubgraph(s *Scratch, matches int) bool {
	return matches >= g.rows/subgraphFrom && g.mayWalkAmong(matches, s.vectors.Metric)
}

// mayWalkAmong reports whether a walk over so many allowed rows only may be an answer.
// Distances by inner product do not say what lies on a shell. From one
// tight group to the next it may be that no way leads over allowed rows.
func (g *Graph) mayWalkAmong(matches int, m kernel.Metric) bool {
	return matches <= g.rows-g.rows/subgraphTo && m != kernel.IP && !g.grouped && len(g.links) > 0
}

// subgraph walks over allowed rows only, from those in the pool and from some
// that are spread over all of them, and reports whether the pool is an answer
// of k rows, at most ef.
// Of a row that has few links to allowed rows it takes those of the others that
// it leads to (ACORN-1: Patel et al., "ACORN: Performant and Predicate-Agnostic
// Search Over Vector Embeddings and Structured Data", 2024, section 5).
func (g *Graph) subgraph(s *Scratch, allowed []uint64, k, ef int) bool {
	s.trace.Plan = "subgraph"
	p := &s.pool
	p.limit, p.n = ef, min(p.n, ef) // the walk before was as wide at least
	p.unmark()
	s.shut(allowed)
	for _, key := range p.keys[:p.n] {
		s.mark(nodeOf(key))
	}
	s.sample(allowed)
	s.hops[0].Gather(s.rows)
	s.offer(&s.hops[0])
	g.approach(s, ef, allowed)
	// Fewer rows are all of a part that nothing leads out of.
	return p.n == ef && !g.astray(p.keys[:k], allowed) && !g.shell(s)
}

// astray reports whether a row of an answer lies alone: where no link of it leads to an
// allowed row, none may have led to others that are near.
func (g *Graph) astray(keys []uint64, allowed []uint64) bool {
	for _, key := range keys {
		if among(g.neighbours(0, nodeOf(key)), allowed) == 0 {
			return true
		}
	}
	return false
}

// shell reports whether the rows of the pool are all about as far.
func (g *Graph) shell(s *Scratch) bool {
	keys, noise := s.pool.keys[:s.pool.n], float32(0)
	first, last := distanceOf(keys[0]), distanceOf(keys[len(keys)-1])
	if !s.plain {
		first, last = s.query.Distance(first), s.query.Distance(last)
		noise = shellSigmas * s.query.SlackAt(first) * g.codes.Meta[nodeOf(keys[0])].B
	}
	return last-first < shellSpread*first+noise
}

// shut marks all rows that are not allowed, so that none is gathered.
func (s *Scratch) shut(allowed []uint64) {
	for i := range s.visited {
		s.visited[i] = math.MaxUint64
		if i < len(allowed) {
			s.visited[i] = ^allowed[i]
		}
	}
	s.bridged = slices.Grow(s.bridged[:0], len(s.visited))[:len(s.visited)]
	clear(s.bridged)
}

// sample sets rows to some that are allowed: the first after each of some places.
func (s *Scratch) sample(allowed []uint64) {
	s.rows = s.rows[:0]
	for i := range subgraphSeeds {
		from, to := i*len(allowed)/subgraphSeeds, (i+1)*len(allowed)/subgraphSeeds
		for w := from; w < to; w++ {
			if allowed[w] != 0 {
				s.rows = append(s.rows, uint32(w*64+bits.TrailingZeros64(allowed[w])))
				break
			}
		}
	}
}

// bridge gathers rows behind the links that do not lead to allowed ones, if
// few of links do.
func (g *Graph) bridge(s *Scratch, h *kernel.Hop, links []uint32, allowed []uint64) {
	inside := 0
	s.rows = s.rows[:0]
	for _, r := range links {
		if has(allowed, r) {
			inside++
		} else if int(r) < g.rows && !has(s.bridged, r) {
			s.rows = append(s.rows, r)
		}
	}
	if inside >= g.m {
		return
	}
	width := 2 * g.m
	for _, r := range s.rows {
		kernel.Prefetch(g.links[int(r)*width:][:width])
	}
	for _, r := range s.rows {
		if h.Room() < width {
			return
		}
		s.bridged[r>>6] |= 1 << (r & 63)
		h.Gather(g.neighbours(0, r))
	}
}
