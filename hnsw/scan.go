package hnsw

import (
	"math"
	"math/bits"

	"github.com/chromad/chromad/internal/kernel"
)

// scan compares the codes of all allowed rows, and returns how many it found, k at
// least if there are so many. Of copies see scanCopies. Of others it puts the nearest
// into the pool, as many as vectors are read of at first, and lists all that may be as
// near as the last of these: which of them are shows when vectors were looked at.
func (g *Graph) scan(s *Scratch, k int, allowed []uint64) (found int) {
	s.trace.Plan = "scan"
	p, l, limit := &s.pool, &s.list, max(rerankBlock, k+k/2)
	p.reset(min(limit, widest))
	if g.copies != nil {
		if g.compareCopies(s); s.err != nil {
			return 0
		}
	}
	switch {
	case limit > widest:
		return g.scanMany(s, k, allowed)
	case g.copies != nil:
		return g.scanCopies(s, k, limit)
	}
	l.reset()
	g.scanBatches(s, allowed, &l.below, func(keys []float32, rows []uint32) {
		l.add(keys, rows)
		keys, rows = less(keys, rows, p.below())
		if p.n, _ = kernel.Offer(p.keys, p.n, p.limit, keys, rows); p.n == p.limit {
			l.below = g.listBelow(s, p.below())
		}
	})
	return p.n
}

// less moves those of keys that are less than below to the front, with their rows.
func less(keys []float32, rows []uint32, below float32) ([]float32, []uint32) {
	n := 0
	for i, key := range keys {
		keys[n], rows[n] = key, rows[i]
		if key < below {
			n++
		}
	}
	return keys[:n], rows[:n]
}

// scanMany is scan for so many rows that they are put in order now and then
// only, and no others are listed.
func (g *Graph) scanMany(s *Scratch, k int, allowed []uint64) (found int) {
	many := nearest{keys: s.pool.keys}
	many.reset(k + k/64 + rerankBlock)
	below := float32(math.Inf(1))
	g.scanBatches(s, allowed, &below, func(keys []float32, rows []uint32) {
		for i, key := range keys {
			many.add(pack(key, rows[i]))
		}
		if many.worst != math.MaxUint64 {
			below = distanceOf(many.worst)
		}
	})
	many.cut()
	s.pool = pool{keys: many.keys, n: len(many.keys), limit: many.k}
	s.list.short = true
	return s.pool.n
}

// A list is the rows that a scan has met whose keys were less than below was then.
type list struct {
	keys  []float32
	rows  []uint32
	below float32 // never more than before
	short bool    // rows were left out
}

// listMost bounds the rows of a list: where one far row among the others makes
// all estimates seem coarse, too many would be.
const listMost = 1 << 14

func (l *list) reset() {
	*l = list{keys: l.keys[:0], rows: l.rows[:0], below: float32(math.Inf(1))}
}

func (l *list) add(keys []float32, rows []uint32) {
	if l.short = l.short || len(l.keys)+len(keys) > listMost; !l.short {
		l.keys, l.rows = append(l.keys, keys...), append(l.rows, rows...)
	}
}

// listBelow is the key from which on no row is as near as the estimate of the last
// of the pool, even if its own is as wrong as estimates are. So many more are in
// the pool than are wanted that the last who is wanted is nearer than that nearly always.
func (g *Graph) listBelow(s *Scratch, last float32) float32 {
	q, behind := &s.query, math.Nextafter32(last, float32(math.Inf(1)))
	if s.list.short {
		return min(behind, s.list.below)
	}
	below := max(behind, last+rerankSigmas*q.SlackAt(q.Distance(last))*g.coarsest/q.Factor)
	if !(below < s.list.below) {
		return s.list.below
	}
	return below
}

// relist reads the vectors of listed rows that may be among the best, beside
// those that were in the pool. It reports whether no others may be.
func (g *Graph) relist(s *Scratch) bool {
	l, e := &s.list, g.margin(s)
	if l.short || !(e.beyond <= l.below) {
		return false
	}
	g.rerankListed(s, &e, s.pool.keys[s.pool.n-1], l.keys, l.rows)
	s.rerankRows()
	s.best.cut()
	return true
}

// rerankListed reads the vectors of rows that may be among the best, but for those up
// to the key known, which were read, and for the last of them, which stay listed in s.
func (g *Graph) rerankListed(s *Scratch, e *margin, known uint64, keys []float32, rows []uint32) {
	inside := distanceOf(known)
	for i, key := range keys {
		if key >= e.beyond || key < inside || key == inside && pack(key, rows[i]) <= known || e.tooFar(key, g.step(rows[i])) {
			continue
		}
		if s.rows = append(s.rows, rows[i]); len(s.rows) == rerankBlock {
			s.rerankRows()
			*e = g.margin(s)
		}
	}
}

// scanFirst is the size of the first batch. Those that follow are larger and
// larger: the more is known, the fewer of the next rows are worth a place.
const scanFirst = 32

// scanBatches scores all allowed rows, but for copies, in batches, and hands those that are less
// than below is then to take.
func (g *Graph) scanBatches(s *Scratch, allowed []uint64, below *float32, take func(keys []float32, rows []uint32)) {
	h := &s.hops[0]
	if g.copies != nil { // they were
		s.eachNear(below, take)
		return
	}
	score := func(h *kernel.Hop) {
		s.trace.Scored += h.Len()
		take(h.Score(*below))
	}
	if allowed == nil {
		for row := 0; row < g.rows && s.goesOn(); score(h) {
			for end := min(row+h.Room(), g.rows); row < end; row++ {
				h.Add(uint32(row))
			}
		}
		return
	}
	clear(s.visited)
	next, last := h, &s.hops[1] // one is scored while the other is being fetched
	n := 0                      // rows of words before that were not gathered: few rows a word would be a call for each
	for w, word := range allowed {
		if rest := g.rows - w*64; rest < 64 {
			word &= 1<<rest - 1
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
		for ; word != 0; word &= word - 1 {
			s.block[n&63] = uint32(w*64 + bits.TrailingZeros64(word))
			n++
		}
	}
	next.Gather(s.block[:n])
	score(last)
	score(next)
}
