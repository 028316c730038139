package engine

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What group commit is worth: acknowledged writes of one record a second, on
// a real directory, with nothing flushed. One writer pays a sync for each;
// many share them. The ratio says little where a sync costs less than 100 µs.
func BenchmarkCommit(b *testing.B) {
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
			db, err := Open(b.TempDir(), &Options{MemtableRows: 1 << 40, MemtableBytes: 1 << 40, MemoryLimit: 1 << 40, LogLimit: 1 << 40})
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
