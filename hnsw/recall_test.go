package hnsw

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
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

// TestRecallFiltered asks for rows that are allowed at random, for those of
// one region, which may be anywhere seen from the query, for the rows nearest
// to the query and for those farthest from it. It sees every plan.
func TestRecallFiltered(t *testing.T) {
	heavy(t)
	const n, dim, queries = 24000, 32, 30
	base, held := split(clustered(11, n+queries, dim), queries)
	for _, m := range metrics {
		v := matrix(m, base, dim, 0)
		g := mustBuild(t, v, Params{})
		mustReach(t, g)
		var se Scratch
		r := rand.New(rand.NewPCG(12, uint64(m)))
		lot := make([]Neighbor, n)
		for i, row := range r.Perm(n) {
			lot[i].Row = uint32(row)
		}
		plans := map[string]int{}
		for kind, order := range map[string]func(i int) []Neighbor{
			"scattered": func(int) []Neighbor { return lot },
			"region":    func(i int) []Neighbor { return exactly(v, v.row(uint32(i*37)), n, nil, &se) },
			"near":      func(i int) []Neighbor { return exactly(v, held[i], n, nil, &se) },
			"far": func(i int) []Neighbor {
				all := exactly(v, held[i], n, nil, &se)
				slices.Reverse(all)
				return all
			},
		} {
			var orders [queries][]Neighbor
			for i := range orders {
				orders[i] = order(i)
			}
			for _, share := range []float64{0.95, 0.8, 0.5, 0.2, 0.03, 0.001, 0.0001} {
				allowed := func(i int) []uint64 {
					set := make([]uint64, (n+63)/64)
					for _, nb := range orders[i][:max(1, int(share*n))] {
						set[nb.Row>>6] |= 1 << (nb.Row & 63)
					}
					return set
				}
				traced := func(g *Graph, v Vectors, q []float32, k, ef int, allowed []uint64, s *Scratch) []Neighbor {
					got := search(g, v, q, k, ef, allowed, s)
					plans[s.Trace().Plan]++
					return got
				}
				if got := recall(t, traced, g, v, held, 10, 100, allowed); got < 0.97 {
					t.Errorf("%v %s %g: recall %.3f", m, kind, share, got)
				}
			}
		}
		t.Log(m, plans)
		// Only the two smallest shares are worth reading all their vectors.
		if plans["exact"] != 4*2*queries || plans["scan"] == 0 || plans["sweep"] == 0 || (plans["subgraph"] == 0) != (m == kernel.IP) {
			t.Errorf("%v: plans %v", m, plans)
		}
	}
}

// TestBound: rows at the bound or beyond are left out, and no others.
func TestBound(t *testing.T) {
	heavy(t)
	const n, dim = 12000, 16
	base, held := split(clustered(18, n+20, dim), 20)
	few := make([]uint64, (n+63)/64)
	for w := range few {
		few[w] = 1 << (w % 64)
	}
	for _, m := range metrics {
		v := matrix(m, base, dim, 0)
		g := mustBuild(t, v, Params{})
		var s Scratch
		for _, q := range held {
			for name, query := range map[string]Query{
				"walk": {K: 10, EF: 60}, "scan": {K: 10, EF: 60, Allowed: few}, "exact": {K: 10, Exact: true},
			} {
				query.Vector = q
				full := all(g.Search(nil, v, query, &s))
				if plan := s.Trace().Plan; plan != name {
					t.Fatalf("%v: %s instead of %s", m, plan, name)
				}
				reranked := s.Trace().Reranked
				bound, asked := full[4].Distance, 0
				want := full[:slices.IndexFunc(full, func(x Neighbor) bool { return x.Distance >= bound })]
				query.Late = func() (float32, bool) { asked++; return bound, true }
				if got := all(g.Search(nil, v, query, &s)); !slices.Equal(got, want) || asked != 1 {
					t.Fatalf("%v %s: bound %v of %v gives %v, asked %d times", m, name, bound, full, got, asked)
				}
				if s.Trace().Reranked > reranked {
					t.Errorf("%v %s: a bound makes %d vectors of %d", m, name, s.Trace().Reranked, reranked)
				}
				query.Late = func() (float32, bool) { return 0, false }
				if got := all(g.Search(nil, v, query, &s)); !slices.Equal(got, full) {
					t.Fatalf("%v %s: no bound gives %v instead of %v", m, name, got, full)
				}
			}
		}
	}
}

// TestConcurrent: searches share a graph, and each gives the answer that it
// gives alone.
func TestConcurrent(t *testing.T) {
	const n, dim = 12000, 16
	base, held := split(clustered(19, n+40, dim), 40)
	half := make([]uint64, (n+63)/64)
	for w := range half {
		half[w] = 0x5555555555555555
	}
	for _, m := range metrics {
		v := matrix(m, base, dim, 0)
		g := mustBuild(t, v, Params{})
		ask := func(i int, s *Scratch) []Neighbor {
			set := half
			if i%2 == 0 {
				set = nil
			}
			return search(g, v, held[i], 10, 60, set, s)
		}
		want := make([][]Neighbor, len(held))
		for i := range want {
			want[i] = ask(i, new(Scratch))
		}
		var wg sync.WaitGroup
		for worker := range 4 {
			wg.Go(func() {
				var s Scratch
				for i := range held {
					at := (i + worker*7) % len(held)
					if got := ask(at, &s); !slices.Equal(got, want[at]) {
						t.Errorf("%v query %d: %v, alone %v", m, at, got, want[at])
					}
				}
			})
		}
		wg.Wait()
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

// TestExactTies: rows that are equal, and such whose distance is no number, go by row
// wherever a filter lets them through.
func TestExactTies(t *testing.T) {
	const n = 256
	equal := make([][]float32, n)
	strange := make([][]float32, n)
	for i := range equal {
		equal[i] = []float32{1, float32(i % 3)}
		strange[i] = []float32{1, float32(i) / n}
		if i < 63 {
			strange[i] = []float32{3e38, 3e38}
		}
	}
	all64 := ^uint64(0)
	for _, allowed := range [][]uint64{nil, {1 << 3, all64, all64, 0}, {all64, 7, all64, 1 << 60}, {all64 << 1, all64, 1, all64}} {
		for _, m := range metrics {
			for name, rows := range map[string][][]float32{"equal": equal, "no numbers": strange} {
				v := matrix(m, rows, 2, 0)
				for _, k := range []int{1, 2, 5, 63, 64, 100, takeMost, takeMost + 1, n} {
					q := []float32{2, -2}
					var keys []uint64
					dist := make([]float32, 1)
					s := scorer{}
					s.aim(&v, q)
					for r := range uint32(n) {
						if allowed == nil || has(allowed, r) {
							s.score([]uint32{r}, dist)
							keys = append(keys, pack(dist[0], r))
						}
					}
					slices.Sort(keys)
					got := all(Exact(nil, v, Query{Vector: q, K: k, Allowed: allowed}, nil))
					if len(got) != min(k, len(keys)) {
						t.Fatalf("%s, %v: %d rows", name, m, len(got))
					}
					for i, hit := range got {
						if hit.Row != nodeOf(keys[i]) {
							t.Fatalf("%s, %v, k %d: place %d has row %d at %v, not %d at %v", name, m, k, i, hit.Row, hit.Distance, nodeOf(keys[i]), distanceOf(keys[i]))
						}
					}
				}
			}
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

// TestSearchAllocations goes all ways: a walk, a sweep, one over what is
// allowed, a scan, one that goes on until it is sure, and by vectors.
func TestSearchAllocations(t *testing.T) {
	const n, dim = 9000, 16
	for _, m := range metrics {
		v := matrix(m, clustered(17, n, dim), dim, 0)
		g := mustBuild(t, v, Params{Bits: 2})
		q := v.row(9)
		half, few, far, side := make([]uint64, (n+63)/64), make([]uint64, (n+63)/64), make([]uint64, (n+63)/64), make([]uint64, (n+63)/64)
		for w := range half {
			half[w], few[w] = 0x5555555555555555, 0x10001
		}
		for _, nb := range exactly(v, q, n, nil, nil)[n/2:] {
			far[nb.Row>>6] |= 1 << (nb.Row & 63)
		}
		other := v.row(n/2 - 1)
		for _, nb := range exactly(v, other, n, nil, nil)[:n/2] {
			side[nb.Row>>6] |= 1 << (nb.Row & 63)
		}
		var s Scratch
		dst := make([]Neighbor, 0, 10)
		for name, query := range map[string]Query{
			"walk": {}, "sweep": {Allowed: half}, "subgraph": {Allowed: side}, "scan": {Allowed: few}, "relist": {Allowed: far}, "exact": {Exact: true},
		} {
			if name == "subgraph" && m == kernel.IP {
				continue // never goes this way
			}
			query.Vector, query.K, query.EF = q, 10, 40
			dst = all(g.Search(dst[:0], v, query, &s))
			if trace := s.Trace(); trace.Plan != name && (name != "relist" || trace.Plan != "scan" || trace.Reranked < 1000) {
				t.Errorf("%v %s: %+v", m, name, trace)
			}
			if got := testing.AllocsPerRun(20, func() { dst = all(g.Search(dst[:0], v, query, &s)) }); got != 0 {
				t.Errorf("%v %s: %v allocations", m, name, got)
			}
			if got := testing.AllocsPerRun(5, func() { dst = all(Exact(dst[:0], v, query, &s)) }); got != 0 {
				t.Errorf("%v %s: %v allocations by vectors", m, name, got)
			}
		}
	}
}

// TestRescanKeeps: a row among the best whose estimate is farther off than
// estimates are does not get lost when codes are compared once more.
func TestRescanKeeps(t *testing.T) {
	const n, dim, k = 2000, 16, 10
	for _, m := range metrics {
		v := matrix(m, clustered(5, n, dim), dim, 0)
		g := mustBuild(t, v, Params{M: 8, EFConstruction: 40})
		q := v.row(17)
		want := exactly(v, q, k, nil, new(Scratch))
		for _, hit := range []Neighbor{want[0], want[k-1]} {
			meta := &g.codes.Meta[hit.Row]
			was := *meta
			*meta = kernel.Meta{A: was.A + 1e6}
			var s Scratch
			s.aim(v, &Query{Vector: q})
			s.best.reset(k)
			s.aimCodes(g)
			s.dist = make([]float32, scanBlock)
			for _, w := range want {
				s.best.insert(pack(w.Distance, w.Row))
			}
			g.rescan(&s, nil)
			if got := s.best.appendTo(nil); !slices.Equal(got, want) {
				t.Errorf("%v: %v, the %d nearest are %v", m, got, k, want)
			}
			*meta = was
		}
	}
}

// TestWide: answers and pools of more rows than are kept in order all the time.
func TestWide(t *testing.T) {
	heavy(t)
	const n, dim = 20000, 4
	base, queries := split(clustered(21, n+4, dim), 4)
	odd := make([]uint64, n/64+1)
	for r := range n {
		odd[r>>6] |= uint64(r&1) << (r & 63)
	}
	for _, m := range metrics {
		v := matrix(m, base, dim, 0)
		g := mustBuild(t, v, Params{M: 4, EFConstruction: 20})
		for _, c := range []struct {
			k, ef   int
			allowed []uint64
		}{{10, widest + 1, nil}, {10, n, odd}, {widest + 1, 1, nil}, {widest + 300, n, nil}, {2400, n, odd}} {
			var s Scratch
			if _, err := g.Search(nil, v, Query{Vector: queries[0], K: c.k, EF: c.ef, Allowed: c.allowed}, &s); err != nil || s.Trace().Plan != "scan" {
				t.Errorf("%v, k %d, ef %d: %q, %v", m, c.k, c.ef, s.Trace().Plan, err)
			}
			if r := recall(t, search, g, v, queries, c.k, c.ef, func(int) []uint64 { return c.allowed }); r < 0.999 {
				t.Errorf("%v, k %d, ef %d: recall %.4f", m, c.k, c.ef, r)
			}
		}
	}
}
