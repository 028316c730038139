package plain

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/chromad/chromad/internal/kernel"
)

// TestSearch: what everything is measured against must itself be right.
func TestSearch(t *testing.T) {
	const rows, dim, k = 2000, 16, 10
	rng := rand.New(rand.NewPCG(5, 5))
	data := make([]float32, rows*dim)
	for i := range data {
		data[i] = float32(rng.NormFloat64())
	}
	g := Build(data, dim, 1)
	even := make([]uint64, (rows+63)/64)
	for i := range even {
		even[i] = 0x5555555555555555
	}
	for name, allowed := range map[string][]uint64{"all": nil, "even": even} {
		hits := 0
		for range 100 {
			q := make([]float32, dim)
			for i := range q {
				q[i] = float32(rng.NormFloat64())
			}
			var all []uint32
			for row := range uint32(rows) {
				if allowed == nil || row%2 == 0 {
					all = append(all, row)
				}
			}
			slices.SortFunc(all, func(a, b uint32) int { return cmp.Compare(g.distance(q, a), g.distance(q, b)) })
			got := g.Search(nil, q, k, 100, allowed)
			if len(got) != k {
				t.Fatalf("%s: %d rows", name, len(got))
			}
			for i, row := range got {
				if i > 0 && kernel.L2Squared(q, g.vector(got[i-1])) > g.distance(q, row) {
					t.Fatalf("%s: %v is not in order", name, got)
				}
				if slices.Contains(all[:k], row) {
					hits++
				}
			}
		}
		if recall := float64(hits) / (100 * k); recall < 0.97 {
			t.Errorf("%s: recall %.3f", name, recall)
		}
	}
}
