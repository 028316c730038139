package hnsw

import (
	"math"
	"math/bits"
	"slices"
)

// Exact is Graph.Search without a graph: it compares q with every allowed
// row.
func Exact(dst []Neighbor, v Vectors, q []float32, k int, allowed []uint64, s *Scratch) ([]Neighbor, error) {
	if s == nil {
		s = new(Scratch)
	}
	matches := v.Rows
	if allowed != nil {
		allowed = trim(allowed, v.Rows)
		matches = count(allowed, v.Rows)
	}
	if k = min(k, matches); k <= 0 {
		return dst, nil
	}
	s.aim(v, q)
	dst = exact(dst, v.Rows, k, allowed, s)
	return dst, s.release()
}

// scanBlock is the number of rows scored at a time: their distances stay in
// the nearest cache.
const scanBlock = 512

// exact scans for Exact and Search; 0 < k <= allowed rows.
func exact(dst []Neighbor, rows, k int, allowed []uint64, s *Scratch) []Neighbor {
	t := nearest{k: k, keys: slices.Grow(s.keys[:0], max(2*k, scanBlock)), worst: math.MaxUint64}
	s.dist = slices.Grow(s.dist[:0], scanBlock)[:scanBlock]
	if allowed == nil {
		for first := 0; first < rows && s.err == nil; first += scanBlock {
			s.scanRange(&t, first, min(rows, first+scanBlock))
		}
	} else {
		s.scanSet(&t, rows, allowed)
	}
	t.cut()
	s.keys = t.keys
	if s.err != nil {
		return dst
	}
	return appendNeighbors(dst, t.keys)
}

// scanSet scores runs of whole words as ranges and the rest row by row.
func (s *Scratch) scanSet(t *nearest, rows int, allowed []uint64) {
	s.batch = s.batch[:0]
	for w := 0; w < len(allowed) && s.err == nil; w++ {
		word := allowed[w]
		if word == math.MaxUint64 && (w+1)*64 <= rows {
			s.scanRange(t, w*64, w*64+64)
			continue
		}
		for ; word != 0; word &= word - 1 {
			if row := w<<6 + bits.TrailingZeros64(word); row < rows {
				s.batch = append(s.batch, uint32(row))
			}
		}
		if len(s.batch) > scanBlock-64 {
			s.scanBatch(t)
		}
	}
	s.scanBatch(t)
}

func (s *Scratch) scanRange(t *nearest, first, end int) {
	if s.vectors.Touch != nil {
		s.rows = s.rows[:0]
		for row := first; row < end; row++ {
			s.rows = append(s.rows, uint32(row))
		}
		if !s.touch(s.rows) {
			return
		}
	}
	dist := s.dist[:end-first]
	s.scorer.scoreRange(first, dist)
	for i, d := range dist {
		t.add(pack(d, uint32(first+i)))
	}
}

func (s *Scratch) scanBatch(t *nearest) {
	if s.vectors.Touch != nil && !s.touch(s.batch) {
		return
	}
	dist := s.dist[:len(s.batch)]
	s.scorer.score(s.batch, dist)
	for i, d := range dist {
		t.add(pack(d, s.batch[i]))
	}
	s.batch = s.batch[:0]
}

// nearest collects the k smallest of many keys. It gathers up to twice as
// many and then sorts, which costs less than a heap and is no slower when k
// is as large as the number of rows.
type nearest struct {
	k     int
	keys  []uint64
	worst uint64
}

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
