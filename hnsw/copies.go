package hnsw

import (
	"math"
	"slices"

	"github.com/chromad/chromad/internal/kernel"
)

// Who compares all copies of a set keeps their keys: four bytes of each, where its
// code has 32 at least. Going through the keys again, when more is known, takes a tenth
// of the time that the codes took.

const (
	// copiesBatch is how many copies are compared between looks at the context, and
	// how many keys are looked through at a time.
	copiesBatch = 1024
	// copiesBound is the fewest rows whose vectors are read first: with their bound come
	// half as many again, which make a rerankBlock.
	copiesBound = 10
	// copiesMost is how many rows with that bound are taken as they come. There are
	// more only if near rows are sixteen places apart.
	copiesMost = 4 * rerankBlock
)

// compareCopies sets the keys of s to those of all copies.
func (g *Graph) compareCopies(s *Scratch) {
	n := kernel.WholePanels(g.rows)
	s.keys = slices.Grow(s.keys[:0], n)[:n]
	s.near = slices.Grow(s.near[:0], copiesBatch+copiesMost)[:copiesBatch+copiesMost]
	s.trace.Scored += g.rows
	for first := 0; first < n && s.goesOn(); first += copiesBatch {
		s.hops[0].PanelKeys(first, s.keys[first:min(first+copiesBatch, n)])
	}
}

// scanCopies finds the nearest rows, k of them at least if there are so many: few as
// they come, or in the pool.
func (g *Graph) scanCopies(s *Scratch, k, limit int) (found int) {
	if k <= kernel.BoundMost && s.listFew(s.hops[0].Bound(max(k, copiesBound))) {
		return len(s.rows)
	}
	p, below := &s.pool, float32(math.Inf(1))
	p.reset(limit)
	s.eachNear(&below, func(keys []float32, rows []uint32) {
		p.n, _ = kernel.Offer(p.keys, p.n, p.limit, keys, rows)
		below = p.below()
	})
	if p.n > 0 {
		s.listed = p.keys[p.n-1]
	}
	return p.n
}

// listFew makes the rows of s those whose keys are bound or less, and reports whether they are few.
func (s *Scratch) listFew(bound float32) bool {
	below, found := math.Nextafter32(bound, float32(math.Inf(1))), 0
	for first := 0; first < len(s.keys); first += copiesBatch {
		keys := s.keys[first:min(first+copiesBatch, len(s.keys))]
		found += len(kernel.Nearer(keys, uint32(first), below, s.near[found:]))
		if found > copiesMost {
			return false
		}
	}
	s.rows, s.listed = append(s.rows[:0], s.near[:found]...), pack(bound, math.MaxUint32>>1)
	return true
}

// rerankCopies reads the vectors of what scanCopies found, and of all copies that may be as
// near as the best of them.
func (g *Graph) rerankCopies(s *Scratch) {
	if s.pool.n > 0 {
		g.rerank(s)
	} else {
		s.dist = slices.Grow(s.dist[:0], scanBlock)[:scanBlock]
		s.rerankRows()
	}
	e := g.margin(s)
	s.eachNear(&e.beyond, func(keys []float32, rows []uint32) { g.rerankListed(s, &e, s.listed, keys, rows) })
	s.rerankRows()
	s.best.cut()
}

// eachNear hands the rows whose keys are less than below is then to take, in batches.
func (s *Scratch) eachNear(below *float32, take func(keys []float32, rows []uint32)) {
	size := copiesBatch
	if *below > math.MaxFloat32 {
		size = scanFirst
	}
	s.nearKeys = slices.Grow(s.nearKeys[:0], copiesBatch)[:copiesBatch]
	for first := 0; first < len(s.keys) && s.goesOn(); first, size = first+size, min(2*size, copiesBatch) {
		rows := kernel.Nearer(s.keys[first:min(first+size, len(s.keys))], uint32(first), *below, s.near)
		for i, row := range rows {
			s.nearKeys[i] = s.keys[row]
		}
		take(s.nearKeys[:len(rows)], rows)
	}
}
