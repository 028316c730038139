package hnsw

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/chromad/chromad/internal/kernel"
)

func TestByteFit(t *testing.T) {
	row := func(first ...float32) []float32 {
		return append(first, slices.Repeat(first[:1], byteDimensions-len(first))...)
	}
	minusZero := float32(math.Copysign(0, -1))
	for name, tc := range map[string]struct {
		rows [][]float32
		base float32
		fits bool
	}{
		"none":            {nil, 0, false},
		"bytes":           {[][]float32{row(0, 255), row(7)}, 0, true},
		"int8":            {[][]float32{row(3), row(-128, 127)}, -128, true},
		"one value":       {[][]float32{row(9)}, 0, true},
		"one below":       {[][]float32{row(-128)}, -128, true},
		"half of each":    {[][]float32{row(0, 127)}, 0, true},
		"a byte more":     {[][]float32{row(256)}, 0, false},
		"a byte less":     {[][]float32{row(1), row(-129)}, 0, false},
		"far":             {[][]float32{row(1 << 30)}, 0, false},
		"farther":         {[][]float32{row(3e9)}, 0, false},
		"far below":       {[][]float32{row(-1 << 31)}, 0, false},
		"too wide":        {[][]float32{row(0, 255), row(-1)}, 0, false},
		"too wide a row":  {[][]float32{row(-128, 128)}, 0, false},
		"a fraction":      {[][]float32{row(1), row(2, 0.5)}, 0, false},
		"a negative zero": {[][]float32{row(1, minusZero)}, 0, false},
		"infinite":        {[][]float32{row(float32(math.Inf(-1)))}, 0, false},
		"no number":       {[][]float32{row(1, float32(math.NaN()))}, 0, false},
		"then one fits":   {[][]float32{row(0.5), row(2)}, 0, false},
		"few dimensions":  {[][]float32{row(1)[:byteDimensions-1]}, 0, false},
	} {
		var f ByteFit
		dim := byteDimensions
		for _, r := range tc.rows {
			f.Add(r)
			dim = len(r)
		}
		m, ok := f.Rows(dim)
		if ok != tc.fits || ok && m.Base != tc.base {
			t.Errorf("%s: %v, base %v", name, ok, m.Base)
		}
		if b := InBytes(matrix(kernel.L2, tc.rows, dim, 3)); (b.Data != nil) != tc.fits {
			t.Errorf("%s: %d bytes", name, len(b.Data))
		}
		for _, r := range tc.rows {
			if !ok {
				break
			}
			b := AppendRow(nil, &m, r)
			for i, x := range r {
				if got := m.Base + float32(b[i]); math.Float32bits(got) != math.Float32bits(x) {
					t.Errorf("%s: %v became %v", name, x, got)
				}
			}
			if len(b) != m.Stride || m.Stride != kernel.ByteStride(dim) || m.Stride%64 != 0 {
				t.Errorf("%s: %d bytes, stride %d", name, len(b), m.Stride)
			}
		}
	}
}

// Searches over bytes give what they give over the same numbers in float32, to
// the last bit, and read no float32.
func TestSearchBytes(t *testing.T) {
	const n, dim = 4000, 40
	rows := clustered(81, n+20, dim)
	for _, row := range rows {
		for i, x := range row {
			row[i] = max(-128, min(127, float32(int(20*x))))
		}
	}
	base, held := split(rows, 20)
	for i, q := range held {
		if i%2 == 1 {
			q[0] += 0.3 // a query need not be of integers
		}
	}
	r := rand.New(rand.NewPCG(82, 1))
	for _, m := range metrics {
		wide := matrix(m, base, dim, 5)
		narrow := wide
		if narrow.Bytes = InBytes(wide); narrow.Bytes.Data == nil {
			t.Fatal("no bytes")
		}
		narrow.Data = nil
		touched, read := narrow, map[uint32]bool{}
		touched.Touch = func(rows []uint32) error {
			for _, row := range rows {
				read[row] = true
			}
			return nil
		}
		g := mustBuild(t, wide, Params{Bits: 2})
		for _, size := range []int{0, 1, 70, 600, 2500, n} {
			set := make([]uint64, (n+63)/64)
			for _, row := range r.Perm(n)[:size] {
				set[row>>6] |= 1 << (row & 63)
			}
			var subsets [2]*Subset
			for i, v := range []Vectors{wide, narrow} {
				var err error
				if subsets[i], err = g.Subset(v, set, true, 1<<30); err != nil {
					t.Fatal(err)
				}
			}
			if size == 600 && subsets[1].Bytes() > subsets[0].Bytes()-size*(4*dim-kernel.ByteStride(dim)) {
				t.Errorf("copies take %d bytes, of float32 %d", subsets[1].Bytes(), subsets[0].Bytes())
			}
			var s Scratch
			for i, x := range held {
				q := Query{Vector: x, K: 10, EF: 30, Exact: i%5 == 0, Allowed: set}
				name := fmt.Sprintf("%v, %d rows, query %d", m, size, i)
				want := all(g.Search(nil, wide, q, &s))
				plan := s.Trace()
				if got := all(g.Search(nil, narrow, q, &s)); !slices.Equal(got, want) || s.Trace() != plan {
					t.Fatalf("%s: %v instead of %v; %v instead of %v", name, got, want, s.Trace(), plan)
				}
				clear(read)
				if got := all(g.Search(nil, touched, q, &s)); !slices.Equal(got, want) {
					t.Fatalf("%s, touched: %v instead of %v", name, got, want)
				}
				for _, n := range want {
					if !read[n.Row] {
						t.Fatalf("%s: row %d was not touched", name, n.Row)
					}
				}
				if got := all(Exact(nil, narrow, q, &s)); !slices.Equal(got, all(Exact(nil, wide, q, &s))) {
					t.Fatalf("%s, exact: %v", name, got)
				}
				q.Allowed, q.Subset = nil, subsets[0]
				want = all(g.Search(nil, wide, q, &s))
				q.Subset = subsets[1]
				if got := all(g.Search(nil, narrow, q, &s)); !slices.Equal(got, want) {
					t.Fatalf("%s, copies: %v instead of %v", name, got, want)
				}
			}
		}
	}
}
