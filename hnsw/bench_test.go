package hnsw

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkSearch reports the recall beside the time: one means nothing
// without the other.
func BenchmarkSearch(b *testing.B) {
	const n, dim = 20000, 128
	base, queries := split(clustered(41, n+200, dim), 200)
	for _, m := range metrics {
		v := matrix(m, base, dim, 0)
		start := time.Now()
		g := mustBuild(b, v, Params{})
		built := time.Since(start)
		half, tenth := make([]uint64, (n+63)/64), make([]uint64, (n+63)/64)
		for row := range n {
			if mix(uint64(row))%2 == 0 {
				half[row>>6] |= 1 << (row & 63)
			}
			if mix(uint64(row))%10 == 0 {
				tenth[row>>6] |= 1 << (row & 63)
			}
		}
		for _, c := range []struct {
			name    string
			ef      int
			allowed []uint64
		}{{"all", 20, nil}, {"all", 50, nil}, {"all", 100, nil}, {"all", 200, nil}, {"half", 100, half}, {"tenth", 100, tenth}} {
			b.Run(fmt.Sprintf("%v/%s/ef=%d", m, c.name, c.ef), func(b *testing.B) {
				var s Scratch
				dst := make([]Neighbor, 0, 10)
				i := 0
				for b.Loop() {
					dst = all(g.Search(dst[:0], v, Query{Vector: queries[i%len(queries)], K: 10, EF: c.ef, Allowed: c.allowed}, &s))
					i++
				}
				b.ReportMetric(recall(b, search, g, v, queries, 10, c.ef, func(int) []uint64 { return c.allowed }), "recall")
				b.ReportMetric(float64(built.Microseconds())/n, "build-µs/row")
			})
		}
	}
}

func BenchmarkExact(b *testing.B) {
	const n, dim = 20000, 128
	v := matrix(0, clustered(42, n, dim), dim, 0)
	var s Scratch
	dst := make([]Neighbor, 0, 10)
	b.SetBytes(4 * n * dim)
	for b.Loop() {
		dst = all(Exact(dst[:0], v, Query{Vector: v.row(7), K: 10}, &s))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/row")
}

func BenchmarkBuild(b *testing.B) {
	const n, dim = 10000, 128
	rows := clustered(43, n, dim)
	for _, m := range metrics {
		v := matrix(m, rows, dim, 0)
		b.Run(m.String(), func(b *testing.B) {
			for b.Loop() {
				mustBuild(b, v, Params{Workers: 1})
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/n, "µs/row")
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	const n = 20000
	g := mustBuild(b, matrix(0, clustered(44, n, 8), 8, 0), Params{EFConstruction: 40})
	data, _ := g.AppendBinary(nil)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := Decode(data, n); err != nil {
			b.Fatal(err)
		}
	}
}
