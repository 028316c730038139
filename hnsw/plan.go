package hnsw

import "math/bits"

// answer collects the best rows. Every way that comes to nothing gives way to
// a surer one.
func (g *Graph) answer(s *Scratch, q *Query, k, matches int) {
	found := false
	if !q.Exact && g.codec != nil && matches > max(exactRows, 4*k) {
		found = g.estimate(s, q, k, matches)
	}
	s.best.worst = q.bound()
	if found {
		g.rerank(s)
	} else {
		s.exact(g.rows, q.Allowed)
	}
}

// estimate fills the pool with rows whose codes are near the query's, or
// reports that it found too few.
func (g *Graph) estimate(s *Scratch, q *Query, k, matches int) bool {
	ef := min(max(q.EF, k), matches)
	s.aimCodes(g)
	if matches <= scanRows(ef, q.Allowed != nil) || !g.follow(s, q.Allowed, k, ef, matches) {
		g.scan(s, max(ef, k+scanMore), q.Allowed)
	}
	return s.pool.n >= k
}

const (
	exactRows = 64 // so few vectors are compared without a look at codes
	scanMore  = 64 // rows beyond k that a scan keeps
)

// follow fills the pool by way of the graph, unless a scan turns out to be
// better.
func (g *Graph) follow(s *Scratch, allowed []uint64, k, ef, matches int) bool {
	switch {
	case allowed == nil:
		s.trace.Plan = "walk"
		g.walk(s, ef)
	case matches >= g.rows/4*3:
		g.sweep(s, ef, allowed, matches)
	default:
		if !g.hop(s, ef, allowed, matches) {
			return false
		}
	}
	return s.pool.n >= k
}

// scanRows is the number of codes that take as long as a walk.
func scanRows(ef int, filtered bool) int {
	if filtered {
		return 60 * ef
	}
	return 20 * ef
}

// trim returns the words of allowed that say something about rows.
func trim(allowed []uint64, rows int) []uint64 {
	return allowed[:min(len(allowed), (rows+63)/64)]
}

// count returns the number of rows in a trimmed set.
func count(set []uint64, rows int) int {
	n := 0
	for _, w := range set {
		n += bits.OnesCount64(w)
	}
	if rest := rows % 64; rest != 0 && len(set) == rows/64+1 {
		n -= bits.OnesCount64(set[len(set)-1] >> rest)
	}
	return n
}

func has(set []uint64, row uint32) bool {
	w := int(row >> 6)
	return w < len(set) && set[w]>>(row&63)&1 != 0
}
