package hnsw

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/chromad/chromad/internal/kernel"
)

// TestNarrow: of data a part of the coordinates tells what is near, of noise all
// are needed; few nodes are compared by all.
func TestNarrow(t *testing.T) {
	const n, dim = narrowFrom, 256
	r := rand.New(rand.NewPCG(51, 52))
	noise := make([][]float32, n)
	for i := range noise {
		for range dim {
			noise[i] = append(noise[i], float32(r.NormFloat64()))
		}
	}
	data := clustered(53, n, dim)
	for _, c := range []struct {
		name string
		rows [][]float32
		all  bool
	}{{"data", data, false}, {"noise", noise, true}, {"few", data[:n-1], true}, {"narrow", clustered(53, n, 60), true}} {
		for _, m := range metrics {
			v := matrix(m, c.rows, len(c.rows[0]), 0)
			b, err := newBuilder(t.Context(), v, Params{M: 16, Workers: 1})
			if err != nil {
				t.Fatal(err)
			}
			k := &bulk{builder: b, nodes: slices.Clone(b.rows), rows: b.rows, fan: fan, near: nearOf(b.p), once: true}
			if err := k.partition(); err != nil {
				t.Fatal(err)
			}
			if err := k.narrow(); err != nil {
				t.Fatal(err)
			}
			if k.width%64 != 0 || (k.width == b.grid.stride) != c.all {
				t.Errorf("%s, %v: %d of %d coordinates", c.name, m, k.width, b.grid.stride)
			}
			row := b.rows[n/2]
			if norm := squares(b.grid.code(row)[:k.width]); norm != k.norm[row] {
				t.Errorf("%s, %v: norm %d of row %d, want %d", c.name, m, k.norm[row], row, norm)
			}
			bias := k.norm[row]
			for _, u := range b.grid.code(row)[:k.width] {
				bias += 256 * (int32(u) - 128)
			}
			if bias != k.bias[row] {
				t.Errorf("%s, %v: bias %d of row %d, want %d", c.name, m, k.bias[row], row, bias)
			}
		}
	}
	v := matrix(kernel.L2, data, dim, 0)
	one, _ := mustBuild(t, v, Params{Workers: 1}).AppendBinary(nil)
	if three, _ := mustBuild(t, v, Params{Workers: 3}).AppendBinary(nil); !bytes.Equal(one, three) {
		t.Error("three workers write other bytes than one")
	}
}

func TestNth(t *testing.T) {
	r := rand.New(rand.NewPCG(54, 55))
	for range 2000 {
		x := make([]float32, 1+r.IntN(40))
		for i := range x {
			x[i] = float32(r.IntN(1 + r.IntN(40)))
		}
		sorted, n := slices.Clone(x), r.IntN(len(x))
		slices.Sort(sorted)
		if got := nth(x, n); got != sorted[n] || slices.Max(x[:n+1]) != got || slices.Min(x[n:]) != got {
			t.Fatalf("number %d of %v is %v", n, sorted, got)
		}
	}
}

func squares(code []byte) (sum int32) {
	for _, u := range code {
		s := int32(u) - 128
		sum += s * s
	}
	return sum
}
