package hnsw

import (
	"fmt"
	"testing"
)

func TestRecall(t *testing.T) {
	for _, c := range []struct{ n, dim int }{{3000, 8}, {8000, 64}, {4000, 128}} {
		for _, m := range metrics {
			t.Run(fmt.Sprintf("%v/%dx%d", m, c.n, c.dim), func(t *testing.T) {
				t.Parallel()
				base, queries := split(clustered(7, c.n+100, c.dim), 100)
				v := matrix(m, base, c.dim, c.dim%3)
				g := mustBuild(t, v, Params{})
				mustReach(t, g)
				sum := 0
				for _, d := range g.degree {
					sum += int(d)
				}
				t.Logf("ef 10: %.3f, 30: %.3f, 100: %.3f; degree %.1f", recall(t, walkOnly, g, v, queries, 10, 10, nil),
					recall(t, walkOnly, g, v, queries, 10, 30, nil), recall(t, walkOnly, g, v, queries, 10, 100, nil), float64(sum)/float64(g.rows))
			})
		}
	}
}
