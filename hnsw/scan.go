package hnsw

import (
	"math"
	"math/bits"

	"github.com/chromad/chromad/internal/kernel"
)

// scan offers the codes of all allowed rows to the pool.
func (g *Graph) scan(s *Scratch, limit int, allowed []uint64) {
	s.trace.Plan = "scan"
	if limit > widest {
		g.scanMany(s, limit, allowed)
		return
	}
	s.pool.reset(limit)
	g.scanBatches(s, allowed, func(h *kernel.Hop) { s.offer(h) })
}

// scanMany is scan for so many rows that they are put in order now and then
// only.
func (g *Graph) scanMany(s *Scratch, limit int, allowed []uint64) {
	many := nearest{keys: s.pool.keys}
	many.reset(limit)
	below := float32(math.Inf(1))
	g.scanBatches(s, allowed, func(h *kernel.Hop) {
		s.trace.Scored += h.Len()
		keys, rows := h.Score(below)
		for i, key := range keys {
			many.add(pack(key, rows[i]))
		}
		if many.worst != math.MaxUint64 {
			below = distanceOf(many.worst)
		}
	})
	many.cut()
	s.pool = pool{keys: many.keys, n: len(many.keys), limit: limit}
}

// scanBatches gathers all allowed rows and hands them to score in batches,
// each while the next is being fetched.
func (g *Graph) scanBatches(s *Scratch, allowed []uint64, score func(h *kernel.Hop)) {
	clear(s.visited)
	next, last := &s.hops[0], &s.hops[1]
	n := 0 // rows of words before that were not gathered: few rows a word would be a call for each
	for w := range (g.rows + 63) / 64 {
		word := ^uint64(0)
		if allowed != nil {
			if w == len(allowed) {
				break
			}
			word = allowed[w]
		}
		if rest := g.rows - w*64; rest < 64 {
			word &= 1<<rest - 1
		}
		if word == 0 {
			continue
		}
		if n+bits.OnesCount64(word) > len(s.block) {
			next.Gather(s.block[:n])
			n = 0
		}
		if next.Room() < 2*len(s.block) {
			score(last)
			next, last = last, next
			if !s.goesOn() {
				break
			}
		}
		if word == ^uint64(0) && n == 0 {
			next.AddRange(uint32(w*64), 64)
			continue
		}
		for ; word != 0; word &= word - 1 {
			s.block[n&63] = uint32(w*64 + bits.TrailingZeros64(word))
			n++
		}
	}
	next.Gather(s.block[:n])
	score(last)
	score(next)
}
