package quant

import (
	"fmt"
	"testing"

	"github.com/chromad/chromad/internal/kernel"
)

// BenchmarkCodec times the encoding of a row, the aiming of a query, and the
// training, with calibration, on many rows.
func BenchmarkCodec(b *testing.B) {
	for _, dim := range []int{128, 384, 768, 1536} {
		rows := manifold(5000, dim, min(dim, 40), 1)
		o := Options{Metric: kernel.L2, Dim: dim, Seed: 1}
		at := func(i int) []float32 { return rows[i*dim : (i+1)*dim] }
		b.Run(fmt.Sprintf("train/%d", dim), func(b *testing.B) {
			for b.Loop() {
				if _, err := Train(5000, at, o); err != nil {
					b.Fatal(err)
				}
			}
		})
		c, err := Train(5000, at, o)
		if err != nil {
			b.Fatal(err)
		}
		var point []float32
		var q Query
		code := make([]byte, c.Stride())
		b.Run(fmt.Sprintf("encode/%d/%d", dim, c.Bits()), func(b *testing.B) {
			i := 0
			for b.Loop() {
				point = c.Point(point, at(i%5000))
				c.Encode(code, point)
				i++
			}
		})
		for _, m := range metrics {
			o.Metric, o.Bits = m, c.Bits()
			c, err := Train(100, at, o)
			if err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("aim/%d/%v", dim, m), func(b *testing.B) {
				i := 0
				for b.Loop() {
					c.Aim(&q, at(i%5000))
					i++
				}
			})
		}
	}
}
