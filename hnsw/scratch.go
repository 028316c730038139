package hnsw

import "slices"

// Scratch is the memory of one search at a time: about one bit per row and
// 30 bytes per unit of ef. The zero value is ready. Keeping it for the next
// search saves the allocations; it holds nothing else between searches.
type Scratch struct {
	visited []uint64
	pool    pool
	found   pool
	batch   []uint32
	rows    []uint32
	bridges []uint32
	dist    []float32
	keys    []uint64
	scorer  scorer
	vectors Vectors // what scorer scores, during a search
	err     error   // of Vectors.Touch: the search is over
}

// aim prepares a search for q. The vectors are kept by value: a pointer to
// the caller's would cost an allocation.
func (s *Scratch) aim(v Vectors, q []float32) {
	s.vectors = v
	s.scorer.aim(&s.vectors, q)
}

// release keeps no vector alive and returns what ended the search.
func (s *Scratch) release() error {
	err := s.err
	s.vectors, s.scorer, s.err = Vectors{}, scorer{}, nil
	return err
}

// touch reports whether rows may be read.
func (s *Scratch) touch(rows []uint32) bool {
	if s.err == nil {
		s.err = s.vectors.Touch(rows)
	}
	return s.err == nil
}

// begin forgets what was visited among n nodes.
func (s *Scratch) begin(n int) {
	words := (n + 63) / 64
	s.visited = slices.Grow(s.visited[:0], words)[:words]
	clear(s.visited)
}

// visit marks a node and reports whether it had no mark.
func (s *Scratch) visit(node uint32) bool {
	w, bit := &s.visited[node>>6], uint64(1)<<(node&63)
	if *w&bit != 0 {
		return false
	}
	*w |= bit
	return true
}

// score returns the distances of nodes of level, valid until the next call;
// none when the search is over.
func (s *Scratch) score(g *Graph, level int, nodes []uint32) []float32 {
	s.dist = slices.Grow(s.dist[:0], len(nodes))[:len(nodes)]
	rows := nodes
	if level > 0 {
		s.rows = s.rows[:0]
		for _, n := range nodes {
			s.rows = append(s.rows, g.seatRow[n])
		}
		rows = s.rows
	}
	if s.vectors.Touch != nil && !s.touch(rows) {
		return nil
	}
	s.scorer.score(rows, s.dist)
	return s.dist
}
