package hnsw

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/race"
)

var metrics = []kernel.Metric{kernel.L2, kernel.Cosine, kernel.IP}

var heavy = race.Heavy

// matrix turns rows of dim numbers into Vectors, with a stride beyond dim
// when pad > 0.
func matrix(m kernel.Metric, rows [][]float32, dim, pad int) Vectors {
	v := Vectors{Metric: m, Rows: len(rows), Dim: dim, Stride: dim + pad}
	for _, r := range rows {
		v.Data = append(v.Data, r...)
		v.Data = append(v.Data, make([]float32, pad)...)
		if m == kernel.Cosine {
			v.InvNorms = append(v.InvNorms, kernel.InvNorm(r))
		}
	}
	return v
}

// clustered draws rows around centres of different weight and width, each on
// a low-dimensional plane, with norms that differ: what embeddings look like
// more than a cloud of independent numbers does.
func clustered(seed uint64, n, dim int) [][]float32 {
	r := rand.New(rand.NewPCG(seed, 1))
	const plane = 12
	groups := 1 + n/200
	type group struct {
		centre []float32
		axes   [][]float32
		width  float64
	}
	normal := func() []float32 {
		x := make([]float32, dim)
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
		return x
	}
	list := make([]group, groups)
	for g := range list {
		list[g].centre, list[g].width = normal(), 0.2+0.6*r.Float64()
		for range min(plane, dim) {
			list[g].axes = append(list[g].axes, normal())
		}
	}
	rows := make([][]float32, n)
	for i := range rows {
		g := list[int(float64(groups)*r.Float64()*r.Float64())]
		x, scale := make([]float32, dim), float32(math.Exp(0.3*r.NormFloat64()))
		copy(x, g.centre)
		for _, axis := range g.axes {
			c := float32(g.width * r.NormFloat64() / math.Sqrt(plane))
			for j := range x {
				x[j] += float32(c * axis[j]) // not fused: the same on every processor
			}
		}
		for j := range x {
			x[j] = scale * (x[j] + float32(0.05*float32(r.NormFloat64())))
		}
		rows[i] = x
	}
	return rows
}

// split takes the last rows away as queries.
func split(rows [][]float32, queries int) (base, held [][]float32) {
	return rows[:len(rows)-queries], rows[len(rows)-queries:]
}

// walkOnly is Search by way of the graph, however few rows there are.
func walkOnly(g *Graph, v Vectors, q []float32, k, ef int, _ []uint64, s *Scratch) []Neighbor {
	s.aim(v, &Query{Vector: q})
	s.aimCodes(g)
	s.best.reset(k)
	g.walk(s, max(k, ef), max(k, ef))
	if g.plain {
		s.collect()
	} else {
		g.rerank(s)
	}
	return s.best.appendTo(nil)
}

// subgraphOnly is a walk over all rows, and one over those that are allowed,
// whether or not it is believed.
func subgraphOnly(g *Graph, v Vectors, q []float32, k, ef int, allowed []uint64, s *Scratch) []Neighbor {
	s.aim(v, &Query{Vector: q})
	s.aimCodes(g)
	s.best.reset(k)
	g.walk(s, ef+20, ef+20)
	s.pool.keep(allowed)
	g.subgraph(s, allowed, k, ef)
	if g.plain {
		s.collect()
	} else {
		g.rerank(s)
	}
	return s.best.appendTo(nil)
}

type searcher func(g *Graph, v Vectors, q []float32, k, ef int, allowed []uint64, s *Scratch) []Neighbor

// all is what a search that nothing can end has found.
func all(found []Neighbor, err error) []Neighbor {
	if err != nil {
		panic(err)
	}
	return found
}

func search(g *Graph, v Vectors, q []float32, k, ef int, allowed []uint64, s *Scratch) []Neighbor {
	return all(g.Search(nil, v, Query{Vector: q, K: k, EF: ef, Allowed: allowed}, s))
}

func exactly(v Vectors, q []float32, k int, allowed []uint64, s *Scratch) []Neighbor {
	return all(Exact(nil, v, Query{Vector: q, K: k, Allowed: allowed}, s))
}

// recall is the share of the true nearest rows, or rows at the same distance
// as the last of them, among the answers. Every answer is checked for order,
// distance and filter on the way.
func recall(t testing.TB, f searcher, g *Graph, v Vectors, queries [][]float32, k, ef int, allowed func(i int) []uint64) float64 {
	t.Helper()
	var s, se Scratch
	hits, wanted := 0, 0
	for i, q := range queries {
		var set []uint64
		if allowed != nil {
			set = allowed(i)
		}
		want := exactly(v, q, k, set, &se)
		got := f(g, v, q, k, ef, set, &s)
		wanted += len(want)
		for j, n := range got {
			if set != nil && !has(set, n.Row) {
				t.Fatalf("query %d: row %d is not allowed", i, n.Row)
			}
			if j > 0 && (n.Distance < got[j-1].Distance || n.Distance == got[j-1].Distance && n.Row <= got[j-1].Row) {
				t.Fatalf("query %d: %v after %v", i, n, got[j-1])
			}
			if d := kernel.Distance(v.Metric, q, v.row(n.Row)); d != n.Distance {
				t.Fatalf("query %d row %d: distance %v, kernel.Distance %v", i, n.Row, n.Distance, d)
			}
			last := want[len(want)-1].Distance
			if v.Metric == kernel.Cosine {
				last += 1e-6 // rows of one direction differ by rounding only
			}
			if n.Distance <= last {
				hits++
			}
		}
	}
	return float64(hits) / float64(max(wanted, 1))
}

func mustBuild(t testing.TB, v Vectors, p Params) *Graph {
	t.Helper()
	g, err := Build(t.Context(), v, p)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// mustReach fails unless every row can be reached from the entry at level 0
// and every seat at its levels, and the graph passes its own decoder and check.
func mustReach(t testing.TB, g *Graph) {
	t.Helper()
	b, err := g.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(b, g.rows); err != nil {
		t.Fatal(err)
	}
	if err := g.Check(); err != nil {
		t.Fatal(err)
	}
	if g.rows == 0 {
		return
	}
	for level := g.top(); level >= 0; level-- {
		seen := map[uint32]bool{g.entryNode(level): true}
		queue := []uint32{g.entryNode(level)}
		for len(queue) > 0 {
			for _, n := range g.neighbours(level, queue[0]) {
				if !seen[n] {
					seen[n] = true
					queue = append(queue, n)
				}
			}
			queue = queue[1:]
		}
		want := g.rows
		if level > 0 {
			want = 0
			for s := range g.seatRow {
				if g.seatLevel(uint32(s)) >= level {
					want++
				}
			}
		}
		if len(seen) != want {
			t.Fatalf("level %d: %d of %d nodes can be reached", level, len(seen), want)
		}
	}
}
