package hnsw

import (
	"math"
	"slices"
)

// A floatWalk is the memory of a walk of a builder: over float32 rows and a
// graph that is not complete.
type floatWalk struct {
	visited []uint64
	pool    floatPool
	batch   []uint32
	rows    []uint32
	dist    []float32
	keys    []uint64
	scorer  scorer
}

// begin forgets what was visited among n nodes.
func (s *floatWalk) begin(n int) {
	words := (n + 63) / 64
	s.visited = slices.Grow(s.visited[:0], words)[:words]
	clear(s.visited)
}

// visit marks a node and reports whether it had no mark.
func (s *floatWalk) visit(node uint32) bool {
	w, bit := &s.visited[node>>6], uint64(1)<<(node&63)
	if *w&bit != 0 {
		return false
	}
	*w |= bit
	return true
}

// score returns the distances of nodes of level, valid until the next call.
func (s *floatWalk) score(g *Graph, level int, nodes []uint32) []float32 {
	s.dist = slices.Grow(s.dist[:0], len(nodes))[:len(nodes)]
	rows := nodes
	if level > 0 {
		s.rows = s.rows[:0]
		for _, n := range nodes {
			s.rows = append(s.rows, g.seatRow[n])
		}
		rows = s.rows
	}
	s.scorer.score(rows, s.dist)
	return s.dist
}

// start puts the first key into the pool.
func (s *floatWalk) start(ef int, first uint64) {
	s.pool.reset(ef)
	s.visit(nodeOf(first))
	s.pool.insert(first)
}

// descend walks greedily from the entry to level and returns the key of the
// node of level where it ends.
func (g *Graph) descend(s *floatWalk, level int) uint64 {
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

// expand is algorithm 2 of the paper: it expands the nearest node of the pool
// that was not, until all of them were. One call scores all neighbours that
// were not met before.
func (g *Graph) expand(s *floatWalk, level int) {
	p := &s.pool
	for at := 0; at < len(p.keys); {
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

// A floatPool keeps the smallest keys it was given, ascending.
type floatPool struct {
	keys  []uint64
	limit int
	worst uint64 // keys from here on are refused
}

func (p *floatPool) reset(limit int) {
	p.keys = slices.Grow(p.keys[:0], limit)
	p.limit = limit
	p.worst = math.MaxUint64
}

// insert returns the place of key, which must be below worst.
func (p *floatPool) insert(key uint64) int {
	at, _ := slices.BinarySearch(p.keys, key)
	if len(p.keys) < p.limit {
		p.keys = append(p.keys, 0)
	}
	copy(p.keys[at+1:], p.keys[at:])
	p.keys[at] = key
	if len(p.keys) == p.limit {
		p.worst = p.keys[p.limit-1] &^ expanded
	}
	return at
}
