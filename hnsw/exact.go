package hnsw

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// Exact is Graph.Search without a graph: it compares the vector with every
// allowed row.
func Exact(dst []Neighbor, v Vectors, q Query, s *Scratch) ([]Neighbor, error) {
	if len(q.Vector) != v.Dim {
		return dst, fmt.Errorf("search: a query of %d numbers for rows of %d", len(q.Vector), v.Dim)
	}
	if s == nil {
		s = new(Scratch)
	}
	matches, k := q.limit(v.Rows)
	s.aim(v, &q)
	s.trace = Trace{Plan: "exact", Matches: matches}
	if k <= 0 {
		return dst, s.release()
	}
	s.best.reset(k)
	s.best.worst = q.bound()
	s.exact(v.Rows, q.Allowed)
	if s.err == nil {
		dst = s.best.appendTo(dst)
	}
	return dst, s.release()
}

// scanBlock is the number of rows scored at a time: their distances stay in
// the nearest cache.
const scanBlock = 512

// exact collects the best of all allowed rows.
func (s *Scratch) exact(rows int, allowed []uint64) {
	s.trace.Plan = "exact"
	s.rows = s.rows[:0]
	s.dist = slices.Grow(s.dist[:0], scanBlock)[:scanBlock]
	if allowed == nil {
		for first := 0; first < rows && s.goesOn(); first += scanBlock {
			s.exactRange(first, min(rows, first+scanBlock))
		}
	} else {
		s.exactSet(rows, allowed)
	}
	s.best.cut()
}

// exactSet scores runs of whole words as ranges and the rest row by row.
func (s *Scratch) exactSet(rows int, allowed []uint64) {
	for w := 0; w < len(allowed) && (w%16 > 0 && s.err == nil || s.goesOn()); w++ {
		word := allowed[w]
		if word == math.MaxUint64 && (w+1)*64 <= rows && s.vectors.Touch == nil {
			s.exactRange(w*64, w*64+64)
			continue
		}
		for ; word != 0; word &= word - 1 {
			if row := w<<6 + bits.TrailingZeros64(word); row < rows {
				s.rows = append(s.rows, uint32(row))
			}
		}
		if len(s.rows) > scanBlock-64 {
			s.exactRows()
		}
	}
	s.exactRows()
}

func (s *Scratch) exactRange(first, end int) {
	if s.vectors.Touch != nil || s.names != nil {
		for row := first; row < end; row++ {
			s.rows = append(s.rows, uint32(row))
		}
		s.exactRows()
		return
	}
	s.trace.Reranked += end - first
	dist := s.dist[:end-first]
	s.scorer.scoreRange(first, dist)
	for i, d := range dist {
		s.best.add(pack(d, uint32(first+i)))
	}
}

func (s *Scratch) exactRows() {
	s.scoreRows()
	for i, d := range s.dist[:len(s.rows)] {
		s.best.add(pack(d, s.rows[i]))
	}
	s.rows = s.rows[:0]
}
