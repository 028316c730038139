package hnsw

import (
	"math"
	"slices"
)

const (
	// rerankBlock is the number of vectors read at a time: enough for their
	// ways from memory to overlap.
	rerankBlock = 16
	// rerankSigmas is how far a distance is expected to be from its estimate
	// at most, in standard deviations of the estimate's error.
	rerankSigmas = 3
)

// rerank computes the exact distances of rows of the pool, in the order of
// their estimates, until no further one can be among the best: the next
// estimate is too far beyond the worst of those, even if it is as wrong as
// estimates are.
func (g *Graph) rerank(s *Scratch) {
	s.dist = slices.Grow(s.dist[:0], scanBlock)[:scanBlock]
	keys, size := s.pool.keys[:s.pool.n], min(max(rerankBlock, s.best.k), scanBlock)
	for done := false; !done && s.err == nil; size = rerankBlock {
		keys, done = g.promising(s, keys, size)
		s.scoreRows()
		for i, d := range s.dist[:len(s.rows)] {
			s.best.insert(pack(d, s.rows[i]))
		}
	}
}

// promising sets s.rows to the rows of the first keys, at most size, that may
// be among the best, and returns the keys after them and whether no others
// may.
func (g *Graph) promising(s *Scratch, keys []uint64, size int) (rest []uint64, done bool) {
	q, worst := &s.query, distanceOf(s.best.worst) // not a number, and so never exceeded, without any
	slack := rerankSigmas * q.SlackAt(worst)
	s.rows = s.rows[:0]
	for i, key := range keys {
		row := nodeOf(key)
		if q.Offset+q.Factor*distanceOf(key)-slack*g.codes.Meta[row].B > worst {
			return nil, true
		}
		if i == size {
			return keys[i:], false
		}
		s.rows = append(s.rows, row)
	}
	return nil, true
}

// scoreRows sets dist to the exact distances of rows, at most scanBlock of
// them; of none when they cannot be read.
func (s *Scratch) scoreRows() {
	if len(s.rows) == 0 || !s.touch(s.rows) {
		s.rows = s.rows[:0]
		return
	}
	s.trace.Reranked += len(s.rows)
	s.scorer.score(s.rows, s.dist[:len(s.rows)])
}

// nearest collects the k smallest of many keys.
type nearest struct {
	k     int
	keys  []uint64
	worst uint64 // keys from here on are refused
}

func (t *nearest) reset(k int) {
	t.k, t.keys, t.worst = k, slices.Grow(t.keys[:0], max(2*k, scanBlock)), math.MaxUint64
}

// insert keeps keys in order, which is right for few.
func (t *nearest) insert(key uint64) {
	if key >= t.worst {
		return
	}
	at, _ := slices.BinarySearch(t.keys, key)
	if len(t.keys) < t.k {
		t.keys = append(t.keys, 0)
	}
	copy(t.keys[at+1:], t.keys[at:])
	t.keys[at] = key
	if len(t.keys) == t.k {
		t.worst = t.keys[t.k-1]
	}
}

// add gathers up to twice as many as are wanted; cut then sorts, which costs
// less than a heap and is no slower when k is as large as the number of rows.
func (t *nearest) add(key uint64) {
	if key >= t.worst {
		return
	}
	if t.keys = append(t.keys, key); len(t.keys) >= max(2*t.k, scanBlock) {
		t.cut()
	}
}

func (t *nearest) cut() {
	slices.Sort(t.keys)
	if len(t.keys) >= t.k {
		t.keys = t.keys[:t.k]
		t.worst = t.keys[t.k-1]
	}
}

// appendTo appends what was collected, in order.
func (t *nearest) appendTo(dst []Neighbor) []Neighbor {
	dst = slices.Grow(dst, len(t.keys))
	for _, key := range t.keys {
		dst = append(dst, Neighbor{nodeOf(key), distanceOf(key)})
	}
	return dst
}
