package hnsw

import (
	"math/bits"

	"github.com/chromad/chromad/internal/kernel"
)

// scan offers the codes of all allowed rows to the pool.
func (g *Graph) scan(s *Scratch, limit int, allowed []uint64) {
	s.trace.Plan = "scan"
	s.pool.reset(limit)
	g.scanBatches(s, allowed, func(h *kernel.Hop) { s.offer(h) })
}

// scanBatches gathers all allowed rows and hands them to score in batches,
// each while the next is being fetched.
func (g *Graph) scanBatches(s *Scratch, allowed []uint64, score func(h *kernel.Hop)) {
	clear(s.visited)
	next, last := &s.hops[0], &s.hops[1]
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
		if next.Room() < 64 {
			score(last)
			next, last = last, next
			if s.err != nil {
				break
			}
		}
		if word == ^uint64(0) {
			next.AddRange(uint32(w*64), 64)
			continue
		}
		n := 0
		for ; word != 0; word &= word - 1 {
			s.block[n&63] = uint32(w*64 + bits.TrailingZeros64(word))
			n++
		}
		next.Gather(s.block[:n])
	}
	score(last)
	score(next)
}
