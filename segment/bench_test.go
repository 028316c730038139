package segment

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/seal"
)

func BenchmarkRow(b *testing.B) {
	rows := randomRows(rand.New(rand.NewPCG(1, 9)), 5000, 128)
	r := written(b, testSpec(1, 128, kernel.L2), rows)
	for _, c := range []struct {
		name string
		f    func(row uint32) error
	}{
		{"lookup", func(row uint32) error { _, _, err := r.Lookup(rows[row].ID); return err }},
		{"absent", func(row uint32) error { _, _, err := r.Lookup("no such id"); return err }},
		{"id", func(row uint32) error { _, err := r.ID(row); return err }},
		{"vector", func(row uint32) error { _, err := r.Vector(row); return err }},
		{"metadata", func(row uint32) error { _, err := r.Metadata(row); return err }},
		{"document", func(row uint32) error { _, _, err := r.Document(row); return err }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			row := uint32(0)
			for b.Loop() {
				if err := c.f(row); err != nil {
					b.Fatal(err)
				}
				row = (row + 1) % uint32(len(rows))
			}
		})
	}
}

func BenchmarkSearch(b *testing.B) {
	rng := rand.New(rand.NewPCG(2, 9))
	const n, dim = 20000, 64
	rows := randomRows(rng, n, dim)
	spec := testSpec(1, dim, kernel.L2)
	spec.GraphMin, spec.Graph.M, spec.Graph.EFConstruction, spec.Graph.Workers = 1, 16, 100, 0
	r := written(b, spec, rows)
	for _, c := range []struct {
		name  string
		share float64
		exact bool
	}{{"graph", 1, false}, {"half", 0.5, false}, {"tenth", 0.1, false}, {"hundredth", 0.01, false}, {"scan", 1, true}} {
		var allowed *roaring.Bitmap
		if c.share < 1 {
			allowed = roaring.New()
			for row := range uint32(n) {
				if rng.Float64() < c.share {
					allowed.Add(row)
				}
			}
		}
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				q := Query{Vector: rows[i%n].Vector, K: 10, EF: 100, Allowed: allowed, Exact: c.exact}
				if _, err := r.Search(context.Background(), q, nil); err != nil {
					b.Fatal(err)
				}
				i += 7
			}
		})
	}
}

func BenchmarkMerge(b *testing.B) {
	fs, _ := tempFS(b)
	rows := randomRows(rand.New(rand.NewPCG(3, 9)), 40000, 32)
	var in []Input
	for i := range 4 {
		spec := testSpec(uint64(i+1), 32, kernel.L2)
		part := rows[i*10000 : (i+1)*10000]
		in = append(in, Input{mustOpen(b, fs, seal.Plain(), spec, mustWrite(b, fs, seal.Plain(), spec, part)), roaring.BitmapOf(1, 5)})
	}
	number := uint64(100)
	for b.Loop() {
		number++
		if _, err := Merge(context.Background(), fs, seal.Plain(), testSpec(number, 32, kernel.L2), in); err != nil {
			b.Fatal(err)
		}
		if err := fs.Remove(Name(number)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(len(rows)), "µs/row")
}
