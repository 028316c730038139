package hnsw

import "math/bits"

// scan offers the codes of all allowed rows to the pool. The next rows are
// being fetched while the last are scored.
func (g *Graph) scan(s *Scratch, limit int, allowed []uint64) {
	s.trace.Plan = "scan"
	s.pool.reset(limit)
	clear(s.visited)
	next, last := &s.hops[0], &s.hops[1]
	for w := range (g.rows + 63) / 64 {
		if next.Room() < 64 {
			s.offer(last)
			next, last = last, next
		}
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
		n := 0
		for ; word != 0; word &= word - 1 {
			s.block[n&63] = uint32(w*64 + bits.TrailingZeros64(word))
			n++
		}
		next.Gather(s.block[:n])
	}
	s.offer(last)
	s.offer(next)
}
