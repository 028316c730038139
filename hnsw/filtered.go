package hnsw

import (
	"math/bits"

	"github.com/chromad/chromad/internal/kernel"
)

// sweep walks over all rows as if there were no filter and keeps the allowed
// ones that it meets: right when most rows are allowed. The walk keeps more
// rows, so that about ef allowed ones are among them.
func (g *Graph) sweep(s *Scratch, ef int, allowed []uint64, matches int) {
	ef = int(int64(ef) * int64(g.rows) / int64(matches))
	g.walkAll(s, ef)
	s.found.reset(ef)
	for _, key := range s.pool.keys {
		if has(allowed, nodeOf(key)) {
			s.found.keys = append(s.found.keys, key)
		}
	}
}

const (
	seeds      = 64  // allowed rows, spread over the filter, where a hop walk also begins
	seedsForIP = 256 // more of them where a greedy walk goes astray, see walkAll
	bridgeStop = 64  // neighbours enough for one expansion
)

// hop walks over allowed rows only. Where a neighbour is not allowed, it looks
// through it at that row's own neighbours, once (ACORN-1: Patel et al.,
// arXiv 2403.04871, section 5), so that the walk crosses gaps of one row. It
// gives up, and reports false, when the allowed rows are so scattered or so
// many must be scored that a scan is better.
func (g *Graph) hop(s *Scratch, ef int, allowed []uint64, matches int) bool {
	s.begin(g.rows)
	s.pool.reset(ef)
	p := &s.pool
	first := g.descend(s, 0)
	s.batch = append(s.batch[:0], nodeOf(first))
	s.visit(nodeOf(first))
	if !has(allowed, nodeOf(first)) {
		s.batch = s.batch[:0]
		g.gather(s, nodeOf(first), allowed)
	}
	s.spread(g.rows, allowed, matches)
	s.offer(g)
	bridged, scored := 0, 0
	for at := 0; at < len(p.keys) && s.err == nil; {
		if p.keys[at]&expanded != 0 {
			at++
			continue
		}
		p.keys[at] |= expanded
		s.batch = s.batch[:0]
		bridged += g.gather(s, nodeOf(p.keys[at]), allowed)
		scored += len(s.batch)
		at = min(at+1, s.offer(g))
		if bridged > 4*ef && len(p.keys) < ef/2 || 2*scored > matches {
			return false
		}
	}
	s.pool, s.found = s.found, s.pool
	return len(s.found.keys) >= ef/2
}

// gather adds to the batch the allowed rows near node that were not met, and
// returns the number of rows it looked through.
func (g *Graph) gather(s *Scratch, node uint32, allowed []uint64) int {
	s.bridges = s.bridges[:0]
	for _, n := range g.neighbours(0, node) {
		if has(allowed, n) {
			if s.visit(n) {
				s.batch = append(s.batch, n)
			}
		} else if s.visited[n>>6]>>(n&63)&1 == 0 {
			s.bridges = append(s.bridges, n)
		}
	}
	for i, b := range s.bridges {
		if len(s.batch) >= bridgeStop {
			return i
		}
		s.visit(b)
		for _, n := range g.neighbours(0, b) {
			if has(allowed, n) && s.visit(n) {
				s.batch = append(s.batch, n)
			}
		}
	}
	return len(s.bridges)
}

// spread adds allowed rows at equal steps through the filter to the batch:
// when what is allowed lies far from the query, the walk cannot find it.
func (s *Scratch) spread(rows int, allowed []uint64, matches int) {
	most := seeds
	if s.scorer.v.Metric == kernel.IP {
		most = seedsForIP
	}
	step := max(1, matches/most)
	next, before := step/2, 0 // rank of the next seed, rows in the words before
	for w, word := range allowed {
		here := bits.OnesCount64(word)
		for next < before+here {
			rest := word
			for range next - before {
				rest &= rest - 1
			}
			if row := uint32(w<<6 + bits.TrailingZeros64(rest)); int(row) < rows && s.visit(row) {
				s.batch = append(s.batch, row)
			}
			next += step
		}
		before += here
	}
}

// offer scores the batch, inserts it into the pool and returns the first
// place that changed.
func (s *Scratch) offer(g *Graph) int {
	at := len(s.pool.keys)
	for i, d := range s.score(g, 0, s.batch) {
		if key := pack(d, s.batch[i]); key < s.pool.worst {
			at = min(at, s.pool.insert(key))
		}
	}
	return at
}
