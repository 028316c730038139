package kernel

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkCodec times what a row and a query cost in each form.
func BenchmarkCodec(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, f := range supported() {
		for _, n := range []int{128, 384, 768, 1536} {
			x, signs, out, bytes := random(r, n), make([]uint64, SignWords(n)), make([]int8, n), make([]byte, n)
			for i := range signs {
				signs[i] = r.Uint64()
			}
			run := func(name string, fn func()) {
				b.Run(fmt.Sprintf("%s/%s/%d", name, f.name, n), func(b *testing.B) {
					for b.Loop() {
						fn()
					}
				})
			}
			run("rotate", func() { f.rotate(x, signs) })
			for _, bits := range []int{2, 4, 8} {
				code := make([]byte, (n*bits+511)/512*64)
				run(fmt.Sprintf("levels%d", bits), func() { f.levels(x, 2, bits, code) })
			}
			run("asBytes", func() { f.asBytes(x, 0, bytes) })
			run("quantize8", func() { f.quantize8(x, 127/f.largest(x), out) })
		}
	}
}
