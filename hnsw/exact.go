package hnsw

import (
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/chromad/chromad/internal/kernel"
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
	if s.best.k <= takeMost {
		s.pool.reset(s.best.k)
	}
	if allowed == nil {
		for first := 0; first < rows && s.goesOn(); first += scanBlock {
			s.exactRange(first, min(rows, first+scanBlock))
		}
	} else {
		s.exactSet(rows, allowed)
	}
	if s.best.k <= takeMost {
		s.collect()
		return
	}
	s.best.cut()
}

// take keeps the nearest of rows, which come in ascending order, by their distances.
// Both lists lose their content.
func (s *Scratch) take(distances []float32, rows []uint32) {
	if s.best.k > takeMost {
		for i, d := range distances {
			s.best.add(pack(d, rows[i]))
		}
		return
	}
	for p := &s.pool; len(rows) > 0; {
		n := min(len(rows), takeBlock)
		d, r := distances[:n], rows[:n]
		if below := p.below(); p.n == p.limit && below == below { // nearer than what is no number is everything
			d, r = less(d, r, below) // most rows, soon
		}
		p.n, _ = kernel.Offer(p.keys, p.n, p.limit, d, r)
		distances, rows = distances[n:], rows[n:]
	}
}

// takeMost is the most rows that exact searches keep in order: of rows that come nearer and
// nearer every one moves all others.
const takeMost = 128

// takeBlock is how many rows are taken before the next are held to what is known then.
const takeBlock = 64

// exactSet scores runs of whole words as ranges and the rest row by row.
func (s *Scratch) exactSet(rows int, allowed []uint64) {
	for w := 0; w < len(allowed) && (w%16 > 0 && s.err == nil || s.goesOn()); w++ {
		word := allowed[w]
		if word == math.MaxUint64 && (w+1)*64 <= rows && s.vectors.Touch == nil {
			s.exactRows() // those before come first
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
	n := len(s.rows)
	for row := first; row < end; row++ {
		s.rows = append(s.rows, uint32(row))
	}
	if s.vectors.Touch != nil || s.names != nil || s.vectors.Bytes.Data != nil {
		s.exactRows()
		return
	}
	s.trace.Reranked += end - first
	s.scorer.scoreRange(first, s.dist[:end-first])
	s.take(s.dist[:end-first], s.rows[n:])
	s.rows = s.rows[:n]
}

func (s *Scratch) exactRows() {
	s.scoreRows()
	s.take(s.dist[:len(s.rows)], s.rows)
	s.rows = s.rows[:0]
}
