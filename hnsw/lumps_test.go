package hnsw

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/chromad/chromad/internal/kernel"
)

// TestLumps: a subset whose rows lie together is walked through from beside them, one whose rows
// do not is not. Whether a query is among them, beside them or far away, or where
// some of the rows lie alone, hardly any answer is wrong by half. Where there are copies and few
// of them, they are compared.
func TestLumps(t *testing.T) {
	heavy(t)
	const n, dim, queries, k = 40000, 24, 60, 10
	base, held := split(clustered(81, n+queries, dim), queries)
	lot := rand.New(rand.NewPCG(82, 1)).Perm(n)
	add := func(set []uint64, row uint32) { set[row>>6] |= 1 << (row & 63) }
	for _, m := range metrics {
		v := matrix(m, base, dim, 0)
		g := mustBuild(t, v, Params{})
		var s, se Scratch
		around := func(row, size int) []uint64 {
			set := make([]uint64, (n+63)/64)
			for _, nb := range exactly(v, v.row(uint32(row)), size, nil, &se) {
				add(set, nb.Row)
			}
			return set
		}
		scattered := func(size int) []uint64 {
			set := make([]uint64, (n+63)/64)
			for _, row := range lot[:size] {
				add(set, uint32(row))
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
		alone := func(i int) []float32 { return base[lot[i]] }
		for _, c := range []struct {
			name   string
			set    []uint64
			lumped bool
			ask    func(i int) []float32 // nil: any
		}{
			{"region", around(7, n/5), true, nil},
			{"regions", union(around(7, n/12), around(11000, n/12), around(29000, n/12)), true, nil},
			{"large", around(9000, n/2), true, nil},
			{"nearly all", around(9000, n*5/6), false, nil},
			{"few", around(7, lumpsLeast-1), false, nil},
			{"scattered", scattered(n / 5), false, nil},
			{"many scattered", scattered(n / 2), false, nil},
			{"small ones", union(around(7, n/6), around(17003, 8), around(27000, 5)), true, func(i int) []float32 { return base[17003+i%2*9997] }},
			// Most lie together, and a query is near those that do not.
			{"alone, 1 in 20", union(around(7, n/6), scattered(n/20)), true, alone},
			{"alone, 1 in 100", union(around(7, n/6), scattered(n/100)), true, alone},
			{"alone, 1 in 300", union(around(7, n/6), scattered(n/300)), true, alone},
			{"alone, 1 in 900", union(around(7, n/6), scattered(n/900)), true, alone},
		} {
			lumped := c.lumped && m != kernel.IP
			for _, copies := range []bool{false, true} {
				most := 8 * len(c.set)
				if copies {
					most = 1 << 30
				}
				u, err := g.Subset(v, c.set, false, most)
				if err != nil {
					t.Fatal(err)
				}
				if copies = u.packed(); u.lumped != lumped {
					t.Fatalf("%v, %s: lie together: %v", m, c.name, u.lumped)
				}
				for _, ef := range []int{12, 40} {
					plans, right, wrong := map[string]int{}, 0, 0
					for i, x := range held {
						if c.ask != nil {
							x = c.ask(i)
						}
						want := exactly(v, x, k, c.set, &se)
						got := all(g.Search(nil, v, Query{Vector: x, K: k, EF: ef, Subset: u}, &s))
						plans[s.Trace().Plan]++
						found := 0
						for _, nb := range got {
							if slices.Contains(want, nb) {
								found++
							}
						}
						if right += found; found < k/2 {
							wrong++
						}
					}
					recall := float64(right) / (k * queries)
					t.Logf("%v, %s, ef %d: %d rows, recall %.3f, %d wrong, %v", m, c.name, ef, u.Len(), recall, wrong, plans)
					if least := []float64{0.94, 0.97}[ef/40]; recall < least || wrong > 1 {
						t.Errorf("%v, %s, ef %d: recall %.3f, %d wrong, %v", m, c.name, ef, recall, wrong, plans)
					}
					switch {
					case copies && lumped && plans["packed"] != queries:
						t.Errorf("%v, %s, ef %d, copies: %v", m, c.name, ef, plans)
					case !copies && lumped && c.ask == nil && (plans["subgraph"] < queries/6 || plans["scan"] > queries/2):
						t.Errorf("%v, %s, ef %d: %v", m, c.name, ef, plans)
					}
				}
			}
		}
	}
}
