package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/chromad/chromad/filter"
)

// BenchmarkRetention is what a retention costs: a query, and a query behind each
// write, which takes a new state. In "half over" nobody has deleted what is over.
func BenchmarkRetention(b *testing.B) {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(1, 1))
	vector := func() []float32 {
		v := make([]float32, 64)
		for i := range v {
			v[i] = r.Float32()
		}
		return v
	}
	for _, c := range []struct {
		name  string
		share int // in percent, of what is over
		on    bool
	}{{"none", 0, false}, {"nothing over", 0, true}, {"half over", 50, true}, {"filter instead", 50, false}} {
		db, err := Open(b.TempDir(), &Options{ExpireEvery: -1})
		check(b, err)
		in := newCollection(b, db, "c")
		write := func(n int) {
			var recs []Record
			for range n {
				at := int64(4e9) + r.Int64N(1e6)
				if r.IntN(100) < c.share {
					at = 1 + r.Int64N(1e9)
				}
				recs = append(recs, Record{ID: fmt.Sprint(r.Uint64()), Embedding: vector(), Metadata: Metadata{DefaultRetentionKey: filter.Int(at), "a": filter.Int(1), "b": filter.String("x")}})
			}
			check(b, in.Add(ctx, recs...))
		}
		for range 20 {
			write(5000)
			check(b, db.Flush(ctx))
		}
		check(b, db.Compact(ctx))
		write(8000)
		if c.on {
			check(b, in.SetRetention(ctx, &Retention{}))
		}
		var o *QueryOptions
		if c.name == "filter instead" {
			o = &QueryOptions{Where: filter.Gt(DefaultRetentionKey, filter.Int(2e9))}
		}
		query := func() {
			if _, err := in.Query(ctx, vector(), 10, o); err != nil {
				b.Fatal(err)
			}
		}
		b.Run("query/"+c.name, func(b *testing.B) {
			for b.Loop() {
				query()
			}
		})
		b.Run("write and query/"+c.name, func(b *testing.B) {
			for b.Loop() {
				write(1)
				query()
			}
		})
		check(b, db.Close())
	}
}
