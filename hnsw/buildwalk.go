package hnsw

import "slices"

// A walk is the memory of one search during a build, for nodes near the row
// that its worker is aimed at.
type walk struct {
	visited []uint64
	pool    []uint64 // keys of the nearest nodes met, ascending
	limit   int      // of the pool
	batch   []uint32
}

// expandedNode marks the key of a node whose links were followed.
const expandedNode = 1

// begin forgets what was visited among n nodes and puts first into the pool.
func (s *walk) begin(n, limit int, first uint64) {
	words := (n + 63) / 64
	s.visited = slices.Grow(s.visited[:0], words)[:words]
	clear(s.visited)
	s.limit = limit
	s.pool = append(s.pool[:0], first)
	s.visit(nodeIn(first))
}

// visit marks a node and reports whether it had no mark.
func (s *walk) visit(node uint32) bool {
	word, bit := &s.visited[node>>6], uint64(1)<<(node&63)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}

// offer puts a key into the pool and returns its place, or the limit.
func (s *walk) offer(key uint64) int {
	n := len(s.pool)
	if n == s.limit {
		if key >= s.pool[n-1] {
			return n
		}
		n--
	} else {
		s.pool = append(s.pool, key)
	}
	at, _ := slices.BinarySearch(s.pool[:n], key)
	copy(s.pool[at+1:n+1], s.pool[at:n])
	s.pool[at] = key
	return at
}

// descend walks greedily from the entry to level and returns the key of the
// node of level where it ends.
func (b *builder) descend(w *worker, level int) uint64 {
	g := b.g
	l := max(g.top(), level)
	start := []uint32{g.entryNode(l)}
	best := keyOf(w.distances(b.rowsOf(w, l, start))[0], start[0])
	for ; l > level; l-- {
		for {
			from := best
			list := g.neighbours(l, nodeIn(best))
			for i, d := range w.distances(b.rowsOf(w, l, list)) {
				best = min(best, keyOf(d, list[i]))
			}
			if best == from {
				break
			}
		}
		if l == 1 {
			best = keyOf(distanceIn(best), g.seatRow[nodeIn(best)])
		}
	}
	return best
}

// walk is algorithm 2 of the paper: it expands the nearest node of the pool
// that was not, until all of them were.
func (b *builder) walk(w *worker, level int) {
	s := &w.walk
	for at := 0; at < len(s.pool); {
		if s.pool[at]&expandedNode != 0 {
			at++
			continue
		}
		s.pool[at] |= expandedNode
		s.batch = s.batch[:0]
		for _, n := range b.g.neighbours(level, nodeIn(s.pool[at])) {
			if s.visit(n) {
				s.batch = append(s.batch, n)
			}
		}
		at++
		for i, d := range w.distances(b.rowsOf(w, level, s.batch)) {
			at = min(at, s.offer(keyOf(d, s.batch[i])))
		}
	}
}
