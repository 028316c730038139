package quant

import (
	"math"
	"slices"
	"testing"

	"github.com/chromad/chromad/internal/kernel"
)

// with returns a copy of rows after change was given each.
func with(rows []float32, dim int, change func(i int, row []float32)) []float32 {
	rows = slices.Clone(rows)
	for i := range len(rows) / dim {
		change(i, rows[i*dim:(i+1)*dim])
	}
	return rows
}

func scaled(factor float32) func(int, []float32) {
	return func(_ int, row []float32) { kernel.Scale(row, row, factor) }
}

// TestExtremes meets rows that a grid, or float32, does not expect. Nothing
// may be other than a number, and the nearest rows of ordinary queries must
// stay among the best estimates: no odd row attracts or hides everything.
func TestExtremes(t *testing.T) {
	const n = 120
	for _, dim := range []int{1, 2, 3, 17, 100, 600} {
		base := manifold(n, dim, min(dim, 30), uint64(dim))
		for _, c := range []struct {
			name string
			rows []float32
		}{
			{"ordinary", base},
			{"tiny", with(base, dim, scaled(1e-30))},
			{"huge", with(base, dim, scaled(1e30))},
			{"smallest", with(base, dim, scaled(1e-40))},
			{"largest", with(base, dim, scaled(1e36))},
			{"all zero", make([]float32, n*dim)},
			{"all equal", slices.Repeat(base[:dim], n)},
			{"some zero", with(base, dim, func(i int, row []float32) {
				if i%3 == 2 {
					clear(row)
				}
			})},
			{"mostly equal", with(base, dim, func(i int, row []float32) {
				if i%5 != 0 {
					copy(row, base[:dim])
				}
			})},
			{"constant columns", with(base, dim, func(_ int, row []float32) {
				for j := 1; j < dim; j += 2 {
					row[j] = 1000
				}
			})},
			{"one outlier", with(base, dim, func(i int, row []float32) {
				if i == n/2 {
					kernel.Scale(row, row, 1e6)
				}
			})},
			{"one far outlier", with(base, dim, func(i int, row []float32) {
				if i == n/2 {
					kernel.Scale(row, row, 1e30)
				}
			})},
			{"a tenth outliers", with(base, dim, func(i int, row []float32) {
				if i%10 == 3 {
					kernel.Scale(row, row, 1e6)
				}
			})},
			{"all lengths", with(base, dim, func(i int, row []float32) { kernel.Scale(row, row, float32(math.Pow(10, float64(i%61-30)))) })},
			{"single numbers", with(base, dim, func(i int, row []float32) {
				x := row[i%dim]
				clear(row)
				row[i%dim] = x
			})},
		} {
			for _, m := range metrics {
				for _, bits := range widths {
					extreme(t, c.name, encodeRows(t, c.rows, Options{Metric: m, Dim: dim, Bits: bits, Seed: 21}))
				}
				extreme(t, c.name, encodeRows(t, c.rows, Options{Metric: m, Dim: dim, Seed: 22}))
			}
		}
	}
}

func extreme(t *testing.T, name string, set *coded) {
	t.Helper()
	fail := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%s, %v, %d numbers of %d bits: "+format, append([]any{name, set.metric, set.dim, set.bits}, args...)...)
	}
	for i, m := range set.codes.Meta {
		if !finites(m.A, m.B) || m.B < 0 {
			fail("row %d: %v", i, m)
			return
		}
	}
	b, _ := set.AppendBinary(nil)
	if _, _, err := Decode(b); err != nil {
		fail("%v", err)
	}
	largest := slices.Repeat([]float32{math.MaxFloat32}, set.dim)
	var q Query
	for _, x := range [][]float32{make([]float32, set.dim), largest, slices.Repeat([]float32{1e-44}, set.dim), set.row(0), set.row(len(set.rows) / set.dim / 2)} {
		set.Aim(&q, x)
		if !finites(q.Mul, q.Sub, q.Offset, q.Factor, q.Slack, q.SlackAt(0), q.SlackAt(math.MaxFloat32)) || q.Slack < 0 {
			fail("query of %v...: %v", x[0], []float32{q.Mul, q.Sub, q.Offset, q.Factor, q.Slack})
		}
		for i, key := range set.keys(&q) {
			if d := q.Distance(key); !finites(key) || d != d {
				fail("query of %v..., row %d: key %v, distance %v", x[0], i, key, d)
				return
			}
		}
	}
}

func finites(x ...float32) bool {
	return !slices.ContainsFunc(x, func(v float32) bool { return v-v != 0 })
}

// TestOutliersHideNothing counts how many of the nearest rows are among the
// best estimates when some other rows are odd.
func TestOutliersHideNothing(t *testing.T) {
	const n, dim, held = 2000, 128, 20
	base := manifold(n+held, dim, 40, 31)
	var queries [][]float32
	for i := range held {
		queries = append(queries, base[(n+i)*dim:][:dim])
	}
	base = base[:n*dim]
	for name, change := range map[string]func(i int, row []float32){
		"none": func(int, []float32) {},
		"one, a million times as long": func(i int, row []float32) {
			if i == 77 {
				kernel.Scale(row, row, 1e6)
			}
		},
		"one, as long as float32 allows": func(i int, row []float32) {
			if i == 77 {
				kernel.Scale(row, row, 1e35)
			}
		},
		"a tenth, a thousand times as long": func(i int, row []float32) {
			if i%10 == 7 {
				kernel.Scale(row, row, 1e3)
			}
		},
		"three quarters zero": func(i int, row []float32) {
			if i%4 != 3 {
				clear(row)
			}
		},
		"moved far from zero": func(_ int, row []float32) {
			for j := range row {
				row[j] += 200
			}
		},
	} {
		rows := with(base, dim, change)
		for _, m := range metrics[:2] { // a long row really is near to everything by inner product
			from := queries
			if name == "moved far from zero" {
				from = nil
				for _, x := range queries {
					from = append(from, with(x, dim, change))
				}
			}
			set := encodeRows(t, rows, Options{Metric: m, Dim: dim, Bits: 4, Seed: 41})
			if got := set.quality(from); got.at20 < 0.97 || got.at40 < 0.995 {
				t.Errorf("%s, %v: of the nearest 10, %.3f are among the best 20, %.4f among 40", name, m, got.at20, got.at40)
			}
		}
	}
}

// TestZeroVectors wants the cosine distance of a zero vector to be 1, to any
// row and from any query.
func TestZeroVectors(t *testing.T) {
	const dim = 100
	rows := with(manifold(400, dim, 20, 51), dim, func(i int, row []float32) {
		if i%20 == 0 {
			clear(row)
		}
	})
	for _, bits := range widths {
		set := encodeRows(t, rows, Options{Metric: kernel.Cosine, Dim: dim, Bits: bits, Seed: 1})
		var q Query
		set.Aim(&q, set.row(1))
		for i, key := range set.keys(&q) {
			if d := float64(q.Distance(key)); i%20 == 0 && math.Abs(d-1) > 5*float64(q.Slack*set.codes.Meta[i].B)+1e-6 {
				t.Errorf("%d bits: zero vector %d at %v", bits, i, d)
			}
		}
		set.Aim(&q, make([]float32, dim))
		for i, key := range set.keys(&q) {
			if d := q.Distance(key); d != 1 {
				t.Errorf("%d bits: row %d at %v from zero", bits, i, d)
			}
		}
	}
}

// TestLongVectors goes to the limits of the dimension.
func TestLongVectors(t *testing.T) {
	for _, dim := range []int{4095, 65535, maxDim} {
		rows := make([]float32, 4*dim)
		state := uint64(dim)
		for i := range rows {
			rows[i] = float32(int64(splitmix(&state))) * 0x1p-63
		}
		for _, bits := range widths {
			set := encodeRows(t, rows, Options{Metric: kernel.L2, Dim: dim, Bits: bits, Seed: 2})
			var q Query
			set.Aim(&q, set.row(0))
			for i, key := range set.keys(&q) {
				want := exact(kernel.L2, set.row(0), set.row(i))
				sigma := float64(q.SlackAt(float32(want)) * set.codes.Meta[i].B)
				if off := math.Abs(float64(q.Distance(key)) - want); off > 4*sigma+1e-5*float64(dim) {
					t.Errorf("%d numbers of %d bits: row %d at %v, want %v, sigma %v", dim, bits, i, q.Distance(key), want, sigma)
				}
			}
		}
	}
}
