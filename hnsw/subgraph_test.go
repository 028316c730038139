package hnsw

import "testing"

// TestSubgraphManyLinks: where a row has more links, and they have more, than are
// scored at once, and few lead to allowed rows, a walk over these takes some.
func TestSubgraphManyLinks(t *testing.T) {
	const n, dim, m = 4000, 48, 64
	base, held := split(latent(31, n+20, dim), 20)
	third := make([]uint64, (n+63)/64)
	for w := range third {
		third[w] = 0x9249249249249249 << (w % 3)
	}
	for _, metric := range metrics {
		v := matrix(metric, base, dim, 0)
		g := mustBuild(t, v, Params{M: m})
		if got := recall(t, subgraphOnly, g, v, held, 10, 100, func(int) []uint64 { return third }); got < 0.97 {
			t.Errorf("%v: recall %.3f", metric, got)
		}
	}
}
