package hnsw

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/chromad/chromad/internal/kernel"
)

// TestLumps: a subset whose rows lie together is walked through, one whose rows do not is
// not, and where some of its rows lie alone, or a query is far from all, another plan answers.
func TestLumps(t *testing.T) {
	heavy(t)
	const n, dim, queries, k, ef = 40000, 24, 60, 10, 40
	base, held := split(clustered(81, n+queries, dim), queries)
	r := rand.New(rand.NewPCG(82, 1))
	lot := r.Perm(n)
	for _, m := range metrics {
		v := matrix(m, base, dim, 0)
		g := mustBuild(t, v, Params{})
		var s, se Scratch
		around := func(row, share int) []uint64 {
			set := make([]uint64, (n+63)/64)
			for _, nb := range exactly(v, v.row(uint32(row)), n/share, nil, &se) {
				set[nb.Row>>6] |= 1 << (nb.Row & 63)
			}
			return set
		}
		scattered := func(share int) []uint64 {
			set := make([]uint64, (n+63)/64)
			for _, row := range lot[:n/share] {
				set[row>>6] |= 1 << (row & 63)
			}
			return set
		}
		union := func(sets ...[]uint64) []uint64 {
			for _, set := range sets[1:] {
				for w := range set {
					sets[0][w] |= set[w]
				}
			}
			return sets[0]
		}
		alone := scattered(100)
		for _, c := range []struct {
			name   string
			set    []uint64
			lumped bool
			ask    func(i int) []float32
		}{
			{"region", around(7, 5), true, nil},
			{"regions", union(around(7, 12), around(11000, 12), around(29000, 12)), true, nil},
			{"large", around(9000, 2), true, nil},
			{"nearly all", around(9000, 1)[:(n-n/6)/64], false, nil},
			{"scattered", scattered(5), false, nil},
			{"many scattered", scattered(2), false, nil},
			{"small ones", union(around(7, 6), around(17003, 400), around(27000, 800)), true, func(i int) []float32 { return base[17003+i%2*9997] }},
			// Most lie together, and a query is near those that do not.
			{"some alone", union(around(7, 6), alone), true, func(i int) []float32 { return base[lot[i]] }},
		} {
			u, err := g.Subset(v, c.set, false, 8*len(c.set))
			if err != nil {
				t.Fatal(err)
			}
			if want := c.lumped && m != kernel.IP; u.packed() || u.inLumps() != want {
				t.Fatalf("%v, %s: %d rows, copies: %v, lie together: %v", m, c.name, u.Len(), u.packed(), u.inLumps())
			}
			plans, right := map[string]int{}, 0
			for i, x := range held {
				if c.ask != nil {
					x = c.ask(i)
				}
				want := exactly(v, x, k, c.set, &se)
				got := all(g.Search(nil, v, Query{Vector: x, K: k, EF: ef, Subset: u}, &s))
				plans[s.Trace().Plan]++
				for _, nb := range got {
					if !has(c.set, nb.Row) {
						t.Fatalf("%v, %s: row %d is not allowed", m, c.name, nb.Row)
					}
					if slices.Contains(want, nb) {
						right++
					}
				}
			}
			recall := float64(right) / (k * queries)
			t.Logf("%v, %s: %d rows, recall %.3f, %v", m, c.name, u.Len(), recall, plans)
			if recall < 0.95 {
				t.Errorf("%v, %s: recall %.3f, %v", m, c.name, recall, plans)
			}
			if c.lumped && c.ask == nil && m != kernel.IP && (plans["subgraph"] < queries/5 || plans["scan"] > queries/2) {
				t.Errorf("%v, %s: %v", m, c.name, plans)
			}
		}
	}
}
