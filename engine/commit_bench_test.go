package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What group commit is worth: acknowledged writes of one record a second, on
// a real directory, with nothing flushed. One writer pays a sync for each;
// many share them. The ratio says little where a sync costs less than 100 µs.
// The same on an encrypted store.
func BenchmarkCommit(b *testing.B) {
	b.Run("plain", func(b *testing.B) { benchmarkCommit(b, nil) })
	b.Run("encrypted", func(b *testing.B) { benchmarkCommit(b, operator("a")) })
}

func benchmarkCommit(b *testing.B, key OperatorKey) {
	var one float64 // writes/s of a single writer
	for _, bc := range []struct {
		name                 string
		writers, collections int
	}{
		{"writers=1", 1, 1},
		{"writers=32", 32, 1},
		{"writers=32,collections=32", 32, 32},
	} {
		b.Run(bc.name, func(b *testing.B) {
			db, err := Open(b.TempDir(), &Options{Keys: key, MemtableRows: 1 << 40, MemtableBytes: 1 << 40, MemoryLimit: 1 << 40, LogLimit: 1 << 40})
			check(b, err)
			defer db.Close()
			var cs []*Collection
			for i := range bc.collections {
				cs = append(cs, newCollection(b, db, fmt.Sprint("c", i)))
			}
			vector := make([]float32, 16)
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			start := time.Now()
			for w := range bc.writers {
				wg.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						if err := cs[w%len(cs)].Add(context.Background(), Record{ID: fmt.Sprint(i), Embedding: vector}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			rate := float64(b.N) / time.Since(start).Seconds()
			b.ReportMetric(rate, "writes/s")
			if bc.writers == 1 {
				one = rate
			} else if one > 0 {
				b.ReportMetric(rate/one, "x")
			}
		})
	}
}

// What encryption costs a load: 100,000 records of 128 dimensions, 1,000 a
// call, and one segment of them all, so that both ways do the same work.
func BenchmarkLoad(b *testing.B) {
	const rows, dim, batch = 100_000, 128, 1000
	rng := rand.New(rand.NewPCG(1, 1))
	recs := make([]Record, rows)
	for i := range recs {
		v := make([]float32, dim)
		for j := range v {
			v[j] = rng.Float32()
		}
		recs[i] = Record{ID: fmt.Sprint(i), Embedding: v, Document: Optional(fmt.Sprint("document ", i))}
	}
	for _, bc := range []struct {
		name string
		key  OperatorKey
	}{{"plain", nil}, {"encrypted", operator("a")}} {
		b.Run(bc.name, func(b *testing.B) {
			for b.Loop() {
				db, err := Open(b.TempDir(), &Options{Keys: bc.key, MemtableRows: rows + 1, MemtableBytes: 1 << 40, LogLimit: 1 << 40})
				check(b, err)
				c := newCollection(b, db, "c")
				for i := 0; i < rows; i += batch {
					check(b, c.Add(context.Background(), recs[i:i+batch]...))
				}
				check(b, db.Flush(context.Background()))
				check(b, db.Close())
			}
			b.ReportMetric(float64(rows*b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
