package hnsw

import (
	"math/bits"
	"slices"

	"github.com/chromad/chromad/internal/kernel"
)

// Neighbor is one row of an answer. Distance is that of kernel.Distance.
type Neighbor struct {
	Row      uint32
	Distance float32
}

// Search appends the k nearest rows among allowed, ascending by (Distance,
// Row), and returns the extended slice. allowed is a bitset of rows, nil for
// all of them. ef is the number of rows that the walk keeps: more find more
// of the true neighbours and take longer.
//
// The answer always has min(k, rows allowed) entries. It is exact when so few
// rows are allowed that comparing them all is cheaper than walking, and when
// the walk meets fewer allowed rows than were asked for. v must be the
// vectors that the graph was built over and q must have v.Dim numbers. s may
// be nil; otherwise no other search may use it at the same time. The error is
// that of v.Touch, and dst is then returned as it was.
func (g *Graph) Search(dst []Neighbor, v Vectors, q []float32, k, ef int, allowed []uint64, s *Scratch) ([]Neighbor, error) {
	if s == nil {
		s = new(Scratch)
	}
	matches := g.rows
	if allowed != nil {
		allowed = trim(allowed, g.rows)
		matches = count(allowed, g.rows)
	}
	k = min(k, matches)
	if k <= 0 {
		return dst, nil
	}
	ef = max(ef, k)
	s.aim(v, q)
	ok := false
	if !exactIsCheaper(v.Metric, matches, g.rows, ef) {
		if ok = g.walk(s, k, ef, allowed, matches) && s.err == nil; ok {
			dst = appendNeighbors(dst, s.found.keys[:k])
		}
	}
	if !ok && s.err == nil {
		dst = exact(dst, g.rows, k, allowed, s)
	}
	return dst, s.release()
}

// exactIsCheaper compares the rows that a walk scores, measured at about 14
// for every unit of ef, with the allowed ones. A walk scores a row in about
// twice the time of a scan, which reads rows in order.
func exactIsCheaper(m kernel.Metric, matches, rows, ef int) bool {
	switch {
	case matches == rows:
		return matches <= 20*ef
	case m == kernel.IP: // walks that need more seeds and find less
		return matches <= 60*ef
	}
	return matches <= 30*ef
}

// walk fills s.found with at least k rows, or reports that it could not.
func (g *Graph) walk(s *Scratch, k, ef int, allowed []uint64, matches int) bool {
	switch {
	case allowed == nil || matches == g.rows:
		g.walkAll(s, ef)
		s.pool, s.found = s.found, s.pool
	case matches >= g.rows/4*3:
		g.sweep(s, ef, allowed, matches)
	default:
		if !g.hop(s, ef, allowed, matches) {
			return false
		}
	}
	return len(s.found.keys) >= k
}

// startsForIP is the greatest number of seats of level 1 from which a walk
// for the inner product goes down to level 0.
const startsForIP = 256

// walkAll fills the pool with ef rows near the query.
//
// For the inner product a greedy walk often ends far away: it is no metric,
// and a long vector in the wrong direction looks better than all its
// neighbours. There, level 1 is walked with a pool too.
func (g *Graph) walkAll(s *Scratch, ef int) {
	if s.scorer.v.Metric != kernel.IP || g.top() == 0 {
		s.begin(g.rows)
		s.start(ef, g.descend(s, 0))
		g.expand(s, 0)
		return
	}
	s.begin(len(g.seatRow))
	s.start(min(4*ef, startsForIP), g.descend(s, 1))
	g.expand(s, 1)
	s.pool, s.found = s.found, s.pool
	s.begin(g.rows)
	s.pool.reset(ef)
	for _, key := range s.found.keys {
		row := g.seatRow[nodeOf(key)]
		if key = pack(distanceOf(key), row); key < s.pool.worst {
			s.visit(row)
			s.pool.insert(key)
		}
	}
	g.expand(s, 0)
}

// descend walks greedily from the entry to level and returns the key of the
// node of level where it ends.
func (g *Graph) descend(s *Scratch, level int) uint64 {
	l := g.top()
	if l < level {
		l = level
	}
	node := g.entryNode(l)
	s.batch = append(s.batch[:0], node)
	best := pack(0, node)
	if dist := s.score(g, l, s.batch); dist != nil {
		best = pack(dist[0], node)
	}
	for ; l > level; l-- {
		for {
			from := best
			list := g.neighbours(l, nodeOf(best))
			for i, d := range s.score(g, l, list) {
				best = min(best, pack(d, list[i]))
			}
			if best == from {
				break
			}
		}
		if l == 1 {
			best = pack(distanceOf(best), g.seatRow[nodeOf(best)])
		}
	}
	return best
}

// start puts the first key into the pool.
func (s *Scratch) start(ef int, first uint64) {
	s.pool.reset(ef)
	s.visit(nodeOf(first))
	s.pool.insert(first)
}

// expand is algorithm 2 of the paper: it expands the nearest node of the pool
// that was not, until all of them were. One call scores all neighbours that
// were not met before.
func (g *Graph) expand(s *Scratch, level int) {
	p := &s.pool
	for at := 0; at < len(p.keys) && s.err == nil; {
		if p.keys[at]&expanded != 0 {
			at++
			continue
		}
		p.keys[at] |= expanded
		s.batch = s.batch[:0]
		for _, n := range g.neighbours(level, nodeOf(p.keys[at])) {
			if s.visit(n) {
				s.batch = append(s.batch, n)
			}
		}
		at++
		for i, d := range s.score(g, level, s.batch) {
			if key := pack(d, s.batch[i]); key < p.worst {
				at = min(at, p.insert(key))
			}
		}
	}
}

func appendNeighbors(dst []Neighbor, keys []uint64) []Neighbor {
	dst = slices.Grow(dst, len(keys))
	for _, key := range keys {
		dst = append(dst, Neighbor{nodeOf(key), distanceOf(key)})
	}
	return dst
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
