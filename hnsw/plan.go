package hnsw

import "math/bits"

// answer collects the best rows. Every way that comes to nothing gives way to
// a surer one.
func (g *Graph) answer(s *Scratch, q *Query, k, matches int) {
	found := !q.Exact && (g.codec != nil || g.plain) && matches > max(exactRows, 4*k) && g.estimate(s, q, k, matches)
	if !found && q.Subset.packed() {
		s.inPacked(q, k)
		return
	}
	s.best.worst = q.bound()
	switch {
	case !found:
		s.exact(g.rows, q.Allowed)
	case g.plain:
		s.collect()
	case s.listed != 0:
		g.rerankCopies(s)
	case !g.rerank(s) && s.trace.Plan == "scan" && s.err == nil && !g.relist(s):
		g.rescan(s, q.Allowed)
	}
}

// estimate fills the pool with rows whose codes are near the query's, or
// reports that it found too few. Without codes it does not scan, nor with a
// packed subset: that would be what follows.
func (g *Graph) estimate(s *Scratch, q *Query, k, matches int) bool {
	ef := min(max(q.EF, k), matches)
	width := g.widthFor(q, k, ef, matches)
	scans := !g.plain && !q.Subset.packed()
	if width == 0 && !scans {
		return false
	}
	s.aimCodes(g)
	if !g.follow(s, q, k, ef, width, matches) {
		if !scans {
			return false
		}
		return g.scan(s, k, q.Allowed) >= k
	}
	return s.pool.n >= k
}

const (
	exactRows = 64 // so few vectors are compared without a look at codes
	// widest is the most rows that are kept in order at every moment, as a walk
	// needs them: beyond it the time for that grows with the square.
	widest = 4096
)

// What a walk costs, in codes that a scan compares in the time, for each row that
// the walk keeps: at level 0, and of a beam above it. A scan of 1,500 rows takes
// as long as a walk of ef 50, one of 3,000 rows as of ef 95, from 64 to 768 numbers.
const (
	walkCodes = 30
	beamCodes = 60
)

// walkCost is the number of codes that could be compared in the time of a
// walk that keeps width rows.
func (g *Graph) walkCost(width int) int {
	cost := walkCodes*width + len(g.long)
	if g.longLevel > 1 {
		cost += beamCodes * width * (g.longLevel - 1)
	}
	return cost
}

// widthFor is how many rows the first walk keeps, 0 when comparing all allowed
// ones costs less. Of rows in lumps the copies are then compared, if there are any: a walk as
// wide as for rows that lie anywhere would be for nothing half of the time.
func (g *Graph) widthFor(q *Query, k, ef, matches int) int {
	if width := g.lumpsWidth(q, k, ef, matches); width > 0 || q.lumped() && q.Subset.packed() {
		return width
	}
	width := g.sweepWidth(k, ef, matches)
	if !g.affords(q, width, matches) || q.Allowed == nil && g.walkCost(width) == matches {
		return 0
	}
	return width
}

// sweepWidth is how many rows a walk has to keep for enough allowed ones to be among them
// if these lie anywhere; ef where all are allowed.
func (g *Graph) sweepWidth(k, ef, matches int) int {
	return ef + 2*k*(g.rows-matches)/matches
}

// affords reports whether a walk that keeps width rows costs no more than
// comparing all allowed ones.
func (g *Graph) affords(q *Query, width, matches int) bool {
	return len(g.links) > 0 && width <= widest && g.walkCost(width) <= q.cost(matches)
}

// follow fills the pool by way of the graph, unless comparing all allowed rows is
// better or turns out to be: then width is 0, or a walk has found too few.
//
// With a filter, the walk goes over all rows, keeps more of them, and the
// allowed ones among those are the answer if they are enough: then the
// nearest allowed rows lie within the region that was walked through, however
// the filter has to do with the query. When they are not, the share of
// allowed rows near the query says how wide the next walk has to be, unless a
// walk over allowed rows only gives an answer first: in lumps from those that were
// found, or from anywhere where so many are allowed that it does not lose its way.
func (g *Graph) follow(s *Scratch, q *Query, k, ef, width, matches int) bool {
	allowed := q.Allowed
	if allowed == nil && width > 0 {
		s.trace.Plan = "walk"
		g.walk(s, ef, max(ef, min(k+k/spare, widest)))
		return s.pool.n >= k
	}
	wide := g.sweepWidth(k, ef, matches)
	beside, anywhere, keep := q.lumped() && width < wide, g.mayWalkSubgraph(s, matches), ef
	if beside {
		keep += k
	}
	for width > 0 && g.affords(q, width, matches) && s.err == nil {
		s.trace.Plan = "sweep"
		g.walk(s, width, width)
		s.pool.keep(allowed)
		found := s.pool.n
		if found >= k+k/2 {
			return true
		}
		if beside && found > 0 || anywhere && width >= wide {
			if g.subgraph(s, allowed, k, keep) {
				return true
			}
			beside, anywhere = false, false
		}
		next := wide
		if found > 0 {
			next = max(wide, width*max(2, 2*k/found))
		}
		if next <= width {
			break // what is allowed is far away, in one direction or in all
		}
		width = next
	}
	return false
}

// spare is which part of k a walk keeps beyond k at least: where the order of codes is
// not that of vectors, the k-th row is often among those that come next.
const spare = 4

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

// among counts the rows that are in a set.
func among(rows []uint32, set []uint64) int {
	n := 0
	for _, r := range rows {
		if has(set, r) {
			n++
		}
	}
	return n
}
