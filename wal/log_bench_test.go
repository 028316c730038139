package wal

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/chromad/chromad/internal/vfs"
)

// BenchmarkCommit measures acknowledged entries on a real directory. With more
// writers than one, an fsync acknowledges many of them.
func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{128, 4096} {
		for _, writers := range []int{1, 8, 32, 128} {
			b.Run(fmt.Sprintf("size=%d/writers=%d", size, writers), func(b *testing.B) {
				l := benchLog(b)
				payload := make([]byte, size)
				procs := 1
				if writers > 1 {
					procs = runtime.GOMAXPROCS(0)
				}
				old := runtime.GOMAXPROCS(procs)
				b.SetParallelism(writers / procs)
				b.SetBytes(int64(size))
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if _, err := l.Commit(context.Background(), payload); err != nil {
							b.Error(err)
							return
						}
					}
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
				runtime.GOMAXPROCS(old)
			})
		}
	}
}

func benchLog(b *testing.B) *Log {
	fs, err := vfs.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	l, err := Open(fs, Position{}, Options{})
	if err != nil {
		b.Fatal(err)
	}
	for _, err := range l.Replay() {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := l.Close(); err != nil {
			b.Error(err)
		}
	})
	return l
}
