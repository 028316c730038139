package quant

import (
	"encoding/binary"
	"math"
	"os"
	"testing"

	"github.com/chromad/chromad/internal/kernel"
)

// TestText is TestQuality on vectors of a model, where `make data` put them.
func TestText(t *testing.T) {
	const name, dim, n, held = "../../data/wordnet/vectors.f32", 384, 5000, 20
	f, err := os.Open(name)
	if err != nil {
		t.Skipf("no vectors of text: %v; make data fetches them", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() < 4*dim*(n+held) {
		t.Fatalf("%s: %d bytes, %v", name, info.Size(), err)
	}
	step := info.Size() / (4 * dim) / (n + held)
	rows, raw := make([]float32, 0, (n+held)*dim), make([]byte, 4*dim)
	for i := range int64(n + held) {
		if _, err := f.ReadAt(raw, i*step*4*dim); err != nil {
			t.Fatal(err)
		}
		for j := range dim {
			rows = append(rows, math.Float32frombits(binary.LittleEndian.Uint32(raw[4*j:])))
		}
	}
	var queries [][]float32
	for i := range held {
		q := i * n / held // text is in the order of the alphabet: take queries from everywhere
		x := append([]float32(nil), rows[q*dim:(q+1)*dim]...)
		copy(rows[q*dim:], rows[(n+i)*dim:(n+i+1)*dim])
		queries = append(queries, x)
	}
	for bits, least := range map[int]float64{2: 0.97, 4: 0.995, 8: 1} {
		set := encodeRows(t, rows[:n*dim], Options{Metric: kernel.Cosine, Dim: dim, Bits: bits, Seed: 1})
		if got := set.quality(queries); got.at20 < least || got.at40 < 0.995 || got.near > 1.1 || got.beyond3 > 0.012 {
			t.Errorf("%d bits: of the nearest 10, %.3f are among the best 20, %.4f among 40; near errors of %.3f sigmas, %.4f beyond 3",
				bits, got.at20, got.at40, got.near, got.beyond3)
		}
	}
	if set := encodeRows(t, rows[:n*dim], Options{Metric: kernel.Cosine, Dim: dim, Seed: 1}); set.Bits() != 4 {
		t.Errorf("%d bits were chosen", set.Bits())
	}
}
