package engine

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// TestCosineOfAnyLength: vectors of any length that is allowed
// are compared by their direction, in memory, by codes and by a graph.
func TestCosineOfAnyLength(t *testing.T) {
	const dim, rows = 12, 1500
	ctx := t.Context()
	db, _ := newDB(t, Options{GraphMin: 1000, Workers: 1})
	c, err := db.Default().Create(ctx, "lengths", Spec{Metric: Cosine})
	check(t, err)
	rng := rand.New(rand.NewPCG(9, 78))
	scales := []float64{1, 1e-29, 1e-25, 1e-10, 1e10, 1.8e19, 1e25, 1e29}
	draw := func(scale float64) []float32 {
		x := make([]float32, dim)
		for i := range x {
			x[i] = float32(scale * rng.NormFloat64())
		}
		return x
	}
	var recs []Record
	for i := range rows {
		recs = append(recs, Record{ID: fmt.Sprint(i), Embedding: draw(scales[i%len(scales)])})
	}
	check(t, c.Add(ctx, recs...))
	cosine := func(a, b []float32) float64 {
		dot := 0.0
		for i, x := range a {
			dot += float64(x) / length(a) * (float64(b[i]) / length(b))
		}
		return 1 - dot
	}
	ask := func(where string, o *QueryOptions) {
		t.Helper()
		for _, scale := range scales {
			q := draw(scale)
			got, err := c.Query(ctx, q, 10, o)
			check(t, err)
			best := math.Inf(1)
			for _, r := range recs {
				best = min(best, cosine(q, r.Embedding))
			}
			if len(got) != 10 || math.Abs(float64(got[0].Distance)-best) > 1e-5 {
				t.Fatalf("%s: query of length %g: %v, the nearest is %v away", where, length(q), got, best)
			}
			for _, m := range got {
				var n int
				fmt.Sscan(m.ID, &n)
				if want := cosine(q, recs[n].Embedding); math.Abs(want-float64(m.Distance)) > 1e-5 {
					t.Fatalf("%s: query of length %g, record of %g: %v instead of %v", where, length(q), length(recs[n].Embedding), m.Distance, want)
				}
			}
		}
	}
	ask("memory", nil)
	check(t, db.Flush(ctx))
	ask("codes", nil)
	ask("exact", &QueryOptions{Exact: true})
	ask("graph", &QueryOptions{EF: 30})
	for name, v := range map[string][]float32{"long": {1e30, 1e30, 0}, "short": {1e-44, 0, 0}} {
		d, err := db.Default().Create(ctx, name, Spec{Metric: Cosine})
		check(t, err)
		if err := d.Add(ctx, Record{ID: "a", Embedding: v}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		check(t, d.Add(ctx, Record{ID: "zero", Embedding: []float32{0, 0, 0}}))
	}
}
