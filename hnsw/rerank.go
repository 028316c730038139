package hnsw

import (
	"math"
	"slices"

	"github.com/chromad/chromad/internal/kernel"
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
// their estimates, but for those that cannot be among the best: their estimate
// is too far beyond the worst of these, even if it is as wrong as estimates
// are. It reports whether rows that were not in the pool cannot be among them
// either; their codes are taken to be no coarser than those in the pool.
func (g *Graph) rerank(s *Scratch) (sure bool) {
	s.dist = slices.Grow(s.dist[:0], scanBlock)[:scanBlock]
	s.rows = s.rows[:0]
	size, step := s.best.block(), float32(0)
	many := size == scanBlock // so that it is worth a look at the context
	m := g.margin(s)
	keys := s.pool.keys[:s.pool.n]
	if s.likely != nil {
		for _, key := range keys[:min(len(keys), s.best.k)] {
			s.rows = append(s.rows, nodeOf(key))
		}
		s.likely(s.rows)
		s.rows = s.rows[:0]
	}
	for _, key := range keys {
		row := nodeOf(key)
		own := g.step(row)
		step = max(step, own)
		if m.tooFar(distanceOf(key), own) {
			continue
		}
		if s.rows = append(s.rows, row); len(s.rows) == size {
			s.rerankRows()
			if many && !s.goesOn() {
				return true
			}
			m, size = g.margin(s), s.best.block()
		}
	}
	s.rerankRows()
	s.best.cut()
	if len(keys) < s.pool.limit {
		return true
	}
	m = g.margin(s)
	return m.tooFar(distanceOf(keys[len(keys)-1]), step)
}

// collect takes the best of a pool that was filled by exact distances.
func (s *Scratch) collect() {
	for _, key := range s.pool.keys[:s.pool.n] {
		if key &^= expanded; len(s.best.keys) == s.best.k || key >= s.best.worst {
			break
		}
		s.best.keys = append(s.best.keys, key)
	}
}

// rescan compares the codes of all allowed rows again, and the vectors of
// those that may be among the best. It is for queries from which very many
// rows are about as far as the best: more than a pool holds lie within the
// error of their estimates. The best that are known stay: the estimates of
// some may be so wrong that they would not be looked at again.
func (g *Graph) rescan(s *Scratch, allowed []uint64) {
	s.rows = s.rows[:0]
	e := g.margin(s)
	g.scanBatches(s, allowed, &e.beyond, func(keys []float32, rows []uint32) {
		for i, key := range keys {
			if e.tooFar(key, g.step(rows[i])) {
				continue
			}
			if s.rows = append(s.rows, rows[i]); len(s.rows) == scanBlock {
				s.rerankRows()
				e = g.margin(s)
			}
		}
	})
	s.rerankRows()
	s.best.cut()
}

// A margin says which estimates are beyond the worst of the best rows.
type margin struct {
	offset, factor float32
	slack          float32
	worst          float32 // NaN, and so never exceeded, while there are too few
	beyond         float32 // the least key that is too far whatever its row
}

func (g *Graph) margin(s *Scratch) margin {
	q, worst := &s.query, distanceOf(s.best.worst)
	if worst != worst {
		return margin{q.Offset, q.Factor, 0, worst, float32(math.Inf(1))}
	}
	e := margin{q.Offset, q.Factor, rerankSigmas * q.SlackAt(worst), worst, 0}
	e.beyond = (worst + e.slack*g.coarsest - e.offset) / e.factor
	if e.beyond != e.beyond {
		e.beyond = float32(math.Inf(1))
	}
	return e
}

// tooFar judges the row of a key and the step of its code.
func (e *margin) tooFar(key, step float32) bool {
	return e.offset+e.factor*key-e.slack*step >= e.worst
}

// rerankRows takes rows among the best, and empties the list. Very many are in
// order only after a cut.
func (s *Scratch) rerankRows() {
	s.scoreRows()
	dist, t := s.dist[:len(s.rows)], &s.best
	switch {
	case t.k > widest:
		for i, d := range dist {
			t.add(pack(d, s.rows[i]))
		}
	case len(t.keys) == 0:
		t.first(dist, s.rows)
	default:
		for i, d := range dist {
			t.insert(pack(d, s.rows[i]))
		}
	}
	s.rows = s.rows[:0]
}

// scoreRows sets dist to the exact distances of rows, at most scanBlock of
// them; of none when they cannot be read.
func (s *Scratch) scoreRows() {
	rows := s.named(s.rows)
	if len(rows) == 0 || !s.touch(rows) {
		s.rows = s.rows[:0]
		return
	}
	s.trace.Reranked += len(rows)
	s.scorer.score(rows, s.dist[:len(rows)])
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

// block is how many vectors to read next: all that it takes without a look at
// their distances, and few where each may tell that others need not be read.
func (t *nearest) block() int {
	room := t.k - len(t.keys)
	if t.k > widest {
		room = scanBlock // the worst is known after a cut only
	}
	return min(max(rerankBlock, room), scanBlock)
}

// first is insert of the first keys, of different rows.
func (t *nearest) first(distances []float32, rows []uint32) {
	n, _ := kernel.Offer(t.keys[:cap(t.keys)], 0, t.k, distances, rows)
	for n > 0 && t.keys[:n][n-1] >= t.worst {
		n--
	}
	if t.keys = t.keys[:n]; n == t.k {
		t.worst = t.keys[n-1]
	}
}

// insert keeps keys in order, each once, which is right for few.
func (t *nearest) insert(key uint64) {
	if key >= t.worst {
		return
	}
	at, found := slices.BinarySearch(t.keys, key)
	if found {
		return
	}
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
	t.keys = slices.Compact(t.keys) // of rows that were met twice
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
