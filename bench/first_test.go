package main

import (
	"flag"
	"testing"
	"time"

	"github.com/chromad/chromad/engine"
)

var firstRows = flag.Int("first.rows", 1_000_000, "rows of BenchmarkFirstQuery")

// BenchmarkFirstQuery opens a store of one segment whose files are in the page
// cache and asks one query: the hot part of the index is verified and copied
// then. Run it with -benchtime 1x: every figure is a metric of its own.
func BenchmarkFirstQuery(b *testing.B) {
	dir, queries := loaded(b, *firstRows, 1)
	ctx := b.Context()
	const rounds = 11
	var took [4][]time.Duration
	var worked []time.Duration
	for b.Loop() {
		for n := range rounds {
			var at [5]time.Time
			at[0] = time.Now()
			db, err := engine.Open(dir, nil)
			if err != nil {
				b.Fatal(err)
			}
			at[1] = time.Now()
			c, err := db.Default().Collection(ctx, "c")
			if err != nil {
				b.Fatal(err)
			}
			before := cpu(b)
			for i := range 3 {
				if got, err := c.Query(ctx, queries[n*3+i], 10, nil); err != nil || len(got) != 10 {
					b.Fatal(got, err)
				}
				at[2+i] = time.Now()
				if i == 0 {
					worked = append(worked, cpu(b)-before)
				}
			}
			for i := range took {
				took[i] = append(took[i], at[i+1].Sub(at[i]))
			}
			if err := db.Close(); err != nil {
				b.Fatal(err)
			}
		}
	}
	for i, name := range []string{"open", "first", "second", "third"} {
		b.ReportMetric(float64(median(took[i]))/1e6, name+"-ms")
	}
	b.ReportMetric(float64(median(worked))/1e6, "first-cpu-ms")
}
