package hnsw

import (
	"math/bits"

	"github.com/chromad/chromad/internal/kernel"
)

// keep drops the rows that are not allowed.
func (p *pool) keep(allowed []uint64) {
	n := 0
	for _, key := range p.keys[:p.n] {
		if has(allowed, nodeOf(key)) {
			p.keys[n] = key
			n++
		}
	}
	p.n = n
}

const (
	seeds      = 64 // allowed rows, spread over the filter, where a hop walk also begins
	bridgeStop = 64 // rows enough for one expansion
)

// hop walks over allowed rows only. Where a neighbour is not allowed, it looks
// through it at that row's own neighbours, once (ACORN-1: Patel et al.,
// arXiv 2403.04871, section 5), so that the walk crosses gaps of one row. It
// gives up, and reports false, when the allowed rows are so scattered or so
// many must be scored that a scan is better.
func (g *Graph) hop(s *Scratch, ef int, allowed []uint64, matches int) bool {
	s.trace.Plan = "hop"
	clear(s.visited)
	p := &s.pool
	p.reset(ef)
	g.enter(s)
	p.unmark()
	first := nodeOf(p.keys[0])
	s.restrict(g, allowed)
	next, last := &s.hops[0], &s.hops[1]
	if !has(allowed, first) {
		g.gather(s, next, first)
		s.offer(next)
	}
	s.spread(next, g.rows, allowed, matches)
	s.offer(next)
	bridged := 0
	for at := 0; ; {
		for at < p.n && p.keys[at]&expanded != 0 {
			at++
		}
		if at < p.n {
			row := nodeOf(p.keys[at])
			p.keys[at] |= expanded
			at++
			s.trace.Expanded++
			bridged += g.gather(s, next, row)
			g.prefetch(p, at)
		} else if last.Len() == 0 {
			break
		}
		if last.Len() > 0 {
			at = min(at, s.offer(last))
		}
		next, last = last, next
		if bridged > 4*ef && p.n < ef/2 || 2*s.trace.Scored > matches {
			s.drop()
			return false
		}
	}
	return p.n >= ef/2
}

// restrict makes rows that are not allowed count as visited, and as rows to
// look through. Of the pool only allowed rows stay.
func (s *Scratch) restrict(g *Graph, allowed []uint64) {
	s.bridged = append(s.bridged[:0], allowed...)
	for len(s.bridged) < len(s.visited) {
		s.bridged = append(s.bridged, 0)
	}
	for i, w := range s.bridged {
		s.visited[i] = ^w
	}
	s.pool.keep(allowed)
	for _, key := range s.pool.keys[:s.pool.n] {
		s.mark(nodeOf(key))
	}
}

// drop empties the batches.
func (s *Scratch) drop() {
	for i := range s.hops {
		s.hops[i].Score(0)
	}
}

// gather adds to the batch the allowed rows near row that were not met, and
// returns the number of rows it looked through.
func (g *Graph) gather(s *Scratch, h *kernel.Hop, row uint32) int {
	links := g.neighbours(0, row)
	h.Gather(links)
	s.bridges = s.bridges[:0]
	for _, n := range links {
		if s.bridged[n>>6]>>(n&63)&1 == 0 {
			s.bridges = append(s.bridges, n)
			kernel.Prefetch(g.neighbours(0, n))
		}
	}
	for i, b := range s.bridges {
		if h.Len() >= bridgeStop || h.Room() < 2*g.m {
			return i
		}
		s.bridged[b>>6] |= 1 << (b & 63)
		h.Gather(g.neighbours(0, b))
	}
	return len(s.bridges)
}

// spread adds allowed rows at equal steps through the filter to the batch:
// when what is allowed lies far from the query, the walk cannot find it.
func (s *Scratch) spread(h *kernel.Hop, rows int, allowed []uint64, matches int) {
	step := max(1, matches/seeds)
	next, before := step/2, 0 // rank of the next seed, rows in the words before
	for w, word := range allowed {
		here := bits.OnesCount64(word)
		for next < before+here {
			rest := word
			for range next - before {
				rest &= rest - 1
			}
			row := uint32(w<<6 + bits.TrailingZeros64(rest))
			if int(row) < rows && s.visited[row>>6]>>(row&63)&1 == 0 && h.Room() > 0 {
				s.mark(row)
				h.Add(row)
			}
			next += step
		}
		before += here
	}
}
