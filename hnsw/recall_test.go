package hnsw

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/chromad/chromad/internal/kernel"
)

// meanDegree is the number of links of a row at level 0.
func meanDegree(g *Graph) float64 {
	sum := 0
	for _, d := range g.degree {
		sum += int(d)
	}
	return float64(sum) / float64(max(g.rows, 1))
}

func TestRecall(t *testing.T) {
	for _, c := range []struct{ n, dim int }{{3000, 8}, {8000, 64}, {4000, 128}} {
		for _, m := range metrics {
			t.Run(fmt.Sprintf("%v/%dx%d", m, c.n, c.dim), func(t *testing.T) {
				base, queries := split(clustered(7, c.n+100, c.dim), 100)
				v := matrix(m, base, c.dim, c.dim%3)
				g := mustBuild(t, v, Params{})
				mustReach(t, g)
				at30 := recall(t, walkOnly, g, v, queries, 10, 30, nil)
				at100 := recall(t, walkOnly, g, v, queries, 10, 100, nil)
				t.Logf("ef 30: %.3f, ef 100: %.3f, links %.1f", at30, at100, meanDegree(g))
				if at30 < 0.94 || at100 < 0.98 {
					t.Errorf("recall %.3f at ef 30, %.3f at ef 100", at30, at100)
				}
			})
		}
	}
}

// TestRecallFiltered asks for rows that are allowed at random, and for those
// of one region, the rows nearest to some other row, which may be anywhere
// seen from the query.
func TestRecallFiltered(t *testing.T) {
	const n, dim = 20000, 32
	base, queries := split(clustered(11, n+40, dim), 40)
	for _, m := range metrics {
		v := matrix(m, base, dim, 0)
		g := mustBuild(t, v, Params{EFConstruction: 100})
		mustReach(t, g)
		for _, share := range []float64{0.9, 0.5, 0.2, 0.1, 0.03, 0.01, 0.001} {
			r := rand.New(rand.NewPCG(12, uint64(share*1e6)))
			scattered := make([]uint64, (n+63)/64)
			for row := range n {
				if r.Float64() < share {
					scattered[row>>6] |= 1 << (row & 63)
				}
			}
			var se Scratch
			region := func(i int) []uint64 {
				set := make([]uint64, (n+63)/64)
				for _, nb := range exactly(v, v.row(uint32(i*37)), int(share*n), nil, &se) {
					set[nb.Row>>6] |= 1 << (nb.Row & 63)
				}
				return set
			}
			random := recall(t, search, g, v, queries, 10, 100, func(int) []uint64 { return scattered })
			inside := recall(t, search, g, v, queries, 10, 100, region)
			t.Logf("%v %5.1f %%: scattered %.3f, region %.3f", m, 100*share, random, inside)
			least, leastInside := 0.97, 0.97
			if m == kernel.IP {
				least, leastInside = 0.93, 0.85
			}
			if random < least {
				t.Errorf("%v %g: recall %.3f among scattered rows", m, share, random)
			}
			if inside < leastInside {
				t.Errorf("%v %g: recall %.3f in a region", m, share, inside)
			}
		}
	}
}

// TestAnswerSize: whatever the filter, k and ef, the answer has min(k,
// allowed) rows.
func TestAnswerSize(t *testing.T) {
	const n, dim = 3000, 8
	v := matrix(0, clustered(13, n, dim), dim, 0)
	g := mustBuild(t, v, Params{M: 4, EFConstruction: 20})
	r := rand.New(rand.NewPCG(14, 15))
	var s Scratch
	for range 400 {
		set := make([]uint64, n/64+1)
		share := r.Float64() * r.Float64() * r.Float64()
		for row := range n {
			if r.Float64() < share {
				set[row>>6] |= 1 << (row & 63)
			}
		}
		if r.IntN(2) == 0 {
			set[n/64] |= 1 << 63 // beyond the last row: no row
		}
		if r.IntN(4) == 0 {
			set = set[:r.IntN(len(set))]
		}
		k, ef := r.IntN(50)*r.IntN(50), 1+r.IntN(60)
		q := v.row(uint32(r.IntN(n)))
		got := search(g, v, q, k, ef, set, &s)
		if want := min(k, count(trim(set, n), n)); len(got) != want {
			t.Fatalf("k %d ef %d of %d allowed: %d rows, want %d", k, ef, count(trim(set, n), n), len(got), want)
		}
	}
	for _, k := range []int{n - 1, n, n + 1, math.MaxInt} {
		got := search(g, v, v.row(0), k, 10, nil, &s)
		if !slices.Equal(got, exactly(v, v.row(0), k, nil, nil)) {
			t.Errorf("k %d: not the exact answer", k)
		}
	}
	for _, k := range []int{0, -1} {
		if got := search(g, v, v.row(0), k, 10, nil, &s); len(got) != 0 {
			t.Errorf("k %d: %d rows", k, len(got))
		}
	}
}

// TestExact compares the scan with a plain sort.
func TestExact(t *testing.T) {
	const n, dim = 1500, 5
	for _, m := range metrics {
		rows := clustered(16, n, dim)
		rows[700] = rows[3] // equal distances go by row
		v := matrix(m, rows, dim, 1)
		set := make([]uint64, (n+63)/64)
		for w := range set {
			set[w] = [...]uint64{^uint64(0), 0, 0x5555, ^uint64(1)}[w%4]
		}
		for _, allowed := range [][]uint64{nil, set} {
			q := rows[3]
			var want []Neighbor
			for r := range uint32(n) {
				if allowed == nil || has(allowed, r) {
					want = append(want, Neighbor{r, 0})
				}
			}
			var sc scorer
			sc.aim(&v, q)
			for i := range want {
				d := []float32{0}
				sc.score([]uint32{want[i].Row}, d)
				want[i].Distance = d[0]
			}
			slices.SortStableFunc(want, func(a, b Neighbor) int {
				switch {
				case a.Distance < b.Distance:
					return -1
				case a.Distance > b.Distance:
					return 1
				}
				return int(a.Row) - int(b.Row)
			})
			for _, k := range []int{1, 10, 600, n} {
				got := exactly(v, q, k, allowed, nil)
				if !slices.Equal(got, want[:min(k, len(want))]) {
					t.Errorf("%v k %d, filter %v: not the sorted distances", m, k, allowed != nil)
				}
			}
		}
	}
}

func TestSearchAllocations(t *testing.T) {
	const n, dim = 5000, 16
	for _, m := range metrics {
		v := matrix(m, clustered(17, n, dim), dim, 0)
		g := mustBuild(t, v, Params{EFConstruction: 40})
		half := make([]uint64, (n+63)/64)
		for w := range half {
			half[w] = 0x5555555555555555
		}
		var s Scratch
		dst := make([]Neighbor, 0, 10)
		for _, allowed := range [][]uint64{nil, half} {
			q := v.row(9)
			got := testing.AllocsPerRun(50, func() { dst = all(g.Search(dst[:0], v, Query{Vector: q, K: 10, EF: 50, Allowed: allowed}, &s)) })
			exact := testing.AllocsPerRun(5, func() { dst = all(Exact(dst[:0], v, Query{Vector: q, K: 10, Allowed: allowed}, &s)) })
			if got != 0 || exact != 0 {
				t.Errorf("%v, filter %v: %v allocations in a search, %v in a scan", m, allowed != nil, got, exact)
			}
		}
	}
}
