package quant

import (
	"math"
	"testing"

	"github.com/chromad/chromad/internal/kernel"
)

// TestPart: distances by the first numbers of codes are those by all, less exactly, and
// neither greater nor smaller on the whole. Rows differ in length, so that what does
// not depend on the row counts too.
func TestPart(t *testing.T) {
	const n, dim = 600, 900
	rows := manifold(n, dim, 200, 81)
	for i := range n {
		for j := range dim {
			rows[i*dim+j] *= 1 + float32(i%4)
		}
	}
	for _, m := range metrics {
		for _, of := range []struct {
			bits, bytes int
			spread      float64 // at most, of that of all keys
		}{{2, 64, 0.5}, {2, 32, 0.6}, {2, 96, 0.5}, {4, 64, 0.5}, {8, 128, 0.5}} {
			bits := of.bits
			c := encodeRows(t, rows, Options{Metric: m, Dim: dim, Bits: bits})
			all := make([]uint32, n)
			for i := range all {
				all[i] = uint32(i)
			}
			p := kernel.NewPanels(&c.codes, of.bytes, all)
			var q Query
			var sum, square, spread, mean float64
			count := 0
			for i := 0; i < n; i += 20 {
				c.Aim(&q, c.row(i))
				whole := c.keys(&q)
				mul, sub := c.Part(&q, p.Stride())
				var hop kernel.Hop
				hop.AimPanels(p, q.Codes[:p.Width()], mul, sub)
				keys := make([]float32, kernel.WholePanels(n))
				hop.PanelKeys(0, keys)
				for at, key := range keys[:n] {
					if at != i {
						d := float64(key - whole[at])
						sum, square, count = sum+d, square+d*d, count+1
						mean += float64(whole[at])
						spread += float64(whole[at]) * float64(whole[at])
					}
				}
			}
			k := float64(count)
			sigma := math.Sqrt(spread/k - mean/k*mean/k)
			if count != (n-1)*n/20 || math.Abs(sum/k) > 0.03*sigma || math.Sqrt(square/k) > of.spread*sigma {
				t.Errorf("%v, %d bits, %d of %d bytes: %d keys, off by %.3g on average, by %.3g as a rule, where they spread by %.3g",
					m, bits, p.Stride(), c.Stride(), count, sum/k, math.Sqrt(square/k), sigma)
			}
			if mul, sub := c.Part(&q, c.Stride()); mul != q.Mul || sub != q.Sub {
				t.Errorf("%v, %d bits: the whole is not a part", m, bits)
			}
		}
	}
}
