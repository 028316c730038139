package hnsw

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/chromad/chromad/internal/kernel"
)

var (
	benchRows = flag.Int("rows", 50000, "rows of BenchmarkFilter")
	benchDim  = flag.Int("dim", 128, "numbers of a row of BenchmarkFilter")
)

// BenchmarkFilter prints time, recall and plan for every metric, kind of
// filter and share of allowed rows. The thresholds in plan.go were fitted
// with it:
//
//	go test ./hnsw -run xxx -bench Filter -rows 200000 -benchtime 100x
//
// Rows are allowed by lot, or are those nearest to another row (region), on
// one side of a plane (side), or farthest from the query (far).
func BenchmarkFilter(b *testing.B) {
	const queries = 50
	rows := latent(45, *benchRows+queries, *benchDim)
	r := rand.New(rand.NewPCG(46, 1))
	r.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	base, held := split(rows, queries)
	for _, m := range metrics {
		v := matrix(m, base, *benchDim, 0)
		g := mustBuild(b, v, Params{})
		var s Scratch
		lot := make([]Neighbor, len(base))
		for i, row := range r.Perm(len(base)) {
			lot[i].Row = uint32(row)
		}
		product := v
		product.Metric = kernel.IP
		side := exactly(product, base[0], len(base), nil, &s)
		for _, kind := range []struct {
			name  string
			order func(i int) []Neighbor // a filter of m rows allows the first m
		}{
			{"lot", func(int) []Neighbor { return lot }},
			{"side", func(int) []Neighbor { return side }},
			{"region", func(i int) []Neighbor { return exactly(v, base[i*97], len(base), nil, &s) }},
			{"far", func(i int) []Neighbor {
				order := exactly(v, held[i], len(base), nil, &s)
				slices.Reverse(order)
				return order
			}},
		} {
			orders := make([][]Neighbor, queries)
			for i := range orders {
				orders[i] = kind.order(i)
			}
			for _, share := range []float64{0.0001, 0.001, 0.01, 0.03, 0.1, 0.2, 0.5, 0.8, 0.95} {
				benchFilter(b, g, v, held, fmt.Sprintf("%v/%s/%g%%", m, kind.name, 100*share), func(i int) []uint64 {
					set := make([]uint64, (len(base)+63)/64)
					for _, nb := range orders[i][:max(1, int(share*float64(len(base))))] {
						set[nb.Row>>6] |= 1 << (nb.Row & 63)
					}
					return set
				})
			}
		}
	}
}

func benchFilter(b *testing.B, g *Graph, v Vectors, held [][]float32, name string, allowed func(i int) []uint64) {
	sets := make([][]uint64, len(held))
	for i := range sets {
		sets[i] = allowed(i)
	}
	b.Run(name, func(b *testing.B) {
		var s Scratch
		dst := make([]Neighbor, 0, 10)
		scored, reranked, i := 0, 0, 0
		for b.Loop() {
			at := i % len(held)
			dst = all(g.Search(dst[:0], v, Query{Vector: held[at], K: 10, EF: 100, Allowed: sets[at]}, &s))
			scored += s.Trace().Scored
			reranked += s.Trace().Reranked
			i++
		}
		b.ReportMetric(recall(b, search, g, v, held, 10, 100, func(i int) []uint64 { return sets[i] }), "recall")
		b.ReportMetric(float64(scored)/float64(i), "codes/op")
		b.ReportMetric(float64(reranked)/float64(i), "vectors/op")
	})
}
