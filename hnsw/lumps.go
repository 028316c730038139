package hnsw

import (
	"math/bits"

	"github.com/chromad/chromad/internal/kernel"
)

// Where a condition has to do with the vectors (a language, a customer, a topic), its rows
// lie together in lumps, which most queries are beside or far from: a walk over all rows
// meets hardly any of them or nothing else, and one over them only, from those that it met,
// loses its way less than it would where as many are allowed by lot.
const (
	// lumpsLeast is the fewest rows that are looked at for that. Fewer are soon compared.
	lumpsLeast = 4096
	// lumpsSample is of how many rows the links are followed.
	lumpsSample = 256
	// Of rows in lumps at least one link in subgraphFrom leads to another, and one in lumpsFrom
	// of those that would not if they lay anywhere.
	lumpsFrom = 4
)

// together reports whether the rows of a set, so many, lie in lumps: it follows the links of
// some that are spread over all of them.
func (g *Graph) together(allowed []uint64, matches int, m kernel.Metric) bool {
	if matches < lumpsLeast || !g.mayWalkAmong(matches, m) {
		return false
	}
	links, inside, seen := 0, 0, 0
	for w, next := 0, 0; w < len(allowed); w++ {
		n := bits.OnesCount64(allowed[w])
		if seen += n; seen <= next {
			continue
		}
		next = seen + matches/lumpsSample
		if row := w<<6 + bits.TrailingZeros64(allowed[w]); row < g.rows {
			of := g.neighbours(0, uint32(row))
			links += len(of)
			inside += among(of, allowed)
		}
	}
	share, found := float64(matches)/float64(g.rows), float64(inside)/float64(max(links, 1))
	return found >= 1./subgraphFrom && found-share >= (1-share)/lumpsFrom
}

// lumped reports whether the rows that a query may find lie in lumps.
func (q *Query) lumped() bool { return q.Subset != nil && q.Subset.lumped }

// lumpsWidth is how many rows a walk keeps that is to find out whether a query is among
// the lumps, beside them or far from them; 0 when it and a walk over allowed rows would cost
// more than comparing all of these.
func (g *Graph) lumpsWidth(q *Query, k, ef, matches int) int {
	if width := ef + k; q.lumped() && width <= widest && g.walkCost(width)+subgraphFixed+subgraphCodes*width <= q.cost(matches) {
		return width
	}
	return 0
}
