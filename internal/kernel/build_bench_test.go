package kernel

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkBuild times the comparison of the rows of one group: all pairs,
// one row with some, and what is done with the results.
func BenchmarkBuild(b *testing.B) {
	r := rand.New(rand.NewPCG(3, 4))
	const rows = 512
	for _, f := range supported() {
		for _, stride := range []int{128, 384, 768} {
			codes, queries, list := make([]byte, rows*stride), make([]int8, 8*stride), make([]uint32, rows)
			for i := range codes {
				codes[i] = byte(r.Uint32())
			}
			for i := range queries {
				queries[i] = int8(r.IntN(255) - 127)
			}
			for i := range list {
				list[i] = uint32(r.IntN(rows))
			}
			packed, out, norm := make([]byte, rows*stride), make([]int32, 8*rows), make([]int32, rows)
			run := func(name string, per int, fn func()) {
				b.Run(fmt.Sprintf("%s/%s/%d", name, f.name, stride), func(b *testing.B) {
					for b.Loop() {
						fn()
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(per), "ns/row")
				})
			}
			run("pack8", 32, func() { f.pack8(packed[:32*stride], codes, stride, (*[packRows]uint32)(list)) })
			run("dot8x8", 8*rows, func() { f.dot8x8(queries, stride, packed, out, rows) })
			run("dot8Rows", 32, func() { f.dot8Rows(queries[:stride], codes, stride, list[:32], out) })
			far := make([]int32, rows)
			run("least8", 32, func() { f.least8(queries[:2*stride], new([2]int32), codes, stride, list[:32], norm, out, far) })
			if stride > 128 {
				continue
			}
			run("keys8", rows, func() { f.keys8(out[:rows], norm) })
			across := make([]uint16, rows*packRows)
			run("keys16", 8*rows, func() { f.keys16(out, rows, new([8]int32), norm, across) })
			run("widen", 32*packRows, func() { f.widen(out, packRows, across[:32*packRows]) })
			at, outAt, some := make([]uint16, rows), make([]uint16, rows), make([]int32, rows)
			for i := range some {
				some[i] = r.Int32N(1000)
			}
			run("countBelow", rows, func() { f.countBelow(some, 50) })
			run("below", rows, func() { f.below(some, at, 50, out, outAt) })
			run("prune", rows, func() { f.prune(some, norm, far, list, 500) })
		}
	}
}
