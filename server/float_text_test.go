package server

import (
	"flag"
	"math"
	"math/rand/v2"
	"testing"
)

var allFloats = flag.Bool("floats.all", false, "write all 2^32 numbers, which takes minutes")

// sameText compares the two ways to write a float32.
func sameText(t *testing.T, bits uint32) {
	v := math.Float32frombits(bits)
	var fast, slow [64]byte
	got, want := appendFloat32(fast[:0], v), appendFloat(slow[:0], float64(v), 32)
	if string(got) != string(want) {
		t.Fatalf("%#08x: %s, want %s", bits, got, want)
	}
}

// TestFloat32Text: the text of a number is strconv's, for numbers of every
// exponent, both neighbours of every power of two and of ten, and at random.
func TestFloat32Text(t *testing.T) {
	if *allFloats {
		for bits := uint64(0); bits < 1<<32; bits++ {
			sameText(t, uint32(bits))
		}
		return
	}
	for exponent := range uint32(256) {
		for near := range uint32(64) {
			sameText(t, exponent<<23+near)
			sameText(t, exponent<<23-near)
			sameText(t, 1<<31|exponent<<23|near)
		}
	}
	for e := -46; e < 40; e++ {
		at := math.Float32bits(float32(math.Pow(10, float64(e))))
		for near := range uint32(64) {
			sameText(t, at+near-32)
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 500_000 {
		sameText(t, rnd.Uint32())
	}
	for range 200_000 {
		sameText(t, math.Float32bits(float32(rnd.NormFloat64()*0.05)))
		sameText(t, math.Float32bits(float32(rnd.IntN(1<<20))/float32(int(1)<<rnd.IntN(20))))
	}
}

func FuzzFloat32Text(f *testing.F) {
	for _, v := range []float32{1, 0.1, 1e-5, 9.9999e-6, 1e16, 9.999999e15, math.MaxFloat32, math.SmallestNonzeroFloat32, 16777216, 8.5e9, -3.25} {
		f.Add(math.Float32bits(v))
	}
	f.Fuzz(sameText)
}

// BenchmarkAppendVector takes many vectors: of a single one the processor
// learns where it branches.
func BenchmarkAppendVector(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 2))
	const dim, vectors = 384, 500
	v := make([]float32, dim*vectors)
	for i := range v {
		v[i] = float32(rnd.NormFloat64() * 0.05)
	}
	var buf []byte
	for _, w := range []struct {
		name  string
		write func([]byte, float32) []byte
	}{
		{"schubfach", appendFloat32},
		{"strconv", func(b []byte, v float32) []byte { return appendFloat(b, float64(v), 32) }},
	} {
		b.Run(w.name, func(b *testing.B) {
			at := 0
			for b.Loop() {
				buf = buf[:0]
				for _, x := range v[at : at+dim] {
					buf = append(w.write(buf, x), ',')
				}
				at = (at + dim) % len(v)
			}
			b.SetBytes(int64(len(buf)))
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*dim), "ns/number")
		})
	}
}
