package engine

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestNearCopies: documents that are nearly the same, many kinds of them, are
// told apart in a segment, after a merge, and when the store is opened again.
func TestNearCopies(t *testing.T) {
	heavy(t)
	const dim, kinds, copies = 24, 8, 150
	ctx := t.Context()
	db, fs := newDB(t, Options{GraphMin: 1000, Workers: 2})
	rng := rand.New(rand.NewPCG(5, 77))
	around := func(centre []float32, spread float64) []float32 {
		x := make([]float32, dim)
		for i := range x {
			x[i] = float32(spread * rng.NormFloat64())
			if centre != nil {
				x[i] += centre[i]
			}
		}
		return x
	}
	defer func() { check(t, db.Close()) }()
	for _, metric := range []Metric{L2, Cosine, IP} {
		c, err := db.Default().Create(ctx, metric.String(), Spec{Metric: metric})
		check(t, err)
		var centres [][]float32
		for range kinds {
			centres = append(centres, around(nil, 1))
		}
		n := 0
		recall := func(when string) {
			t.Helper()
			hits := 0
			for range 40 {
				q := around(centres[rng.IntN(kinds)], 0.002)
				want, err := c.Query(ctx, q, 10, &QueryOptions{Exact: true})
				check(t, err)
				got, err := c.Query(ctx, q, 10, &QueryOptions{EF: 25}) // wider ones compare all of so few
				check(t, err)
				for _, m := range got {
					if m.Distance <= want[9].Distance {
						hits++
					}
				}
			}
			if hits < 380 {
				t.Errorf("%v %s: recall %.3f", metric, when, float64(hits)/400)
			}
		}
		for range 2 {
			var recs []Record
			for i := range kinds * copies {
				recs = append(recs, Record{ID: fmt.Sprint(n), Embedding: around(centres[i%kinds], 0.002)})
				n++
			}
			check(t, c.Add(ctx, recs...))
			check(t, db.Flush(ctx))
			recall("in segments")
		}
		check(t, db.Compact(ctx))
		recall("in one")
		e, _, err := c.Explain(ctx, centres[0], 10, &QueryOptions{EF: 25})
		check(t, err)
		if len(e.Segments) != 1 || e.Segments[0].Plan != "walk" || metric != IP && e.Segments[0].Bits != 32 {
			t.Errorf("%v: %v", metric, e)
		}
		check(t, db.Close())
		if r, err := Check(ctx, "", &Options{fs: fs}, CheckOptions{}); err != nil || len(r.Findings) > 0 {
			t.Fatalf("%v: %+v, %v", metric, r, err)
		}
		db = openOn(t, fs, Options{GraphMin: 1000, Workers: 2})
		c, err = db.Default().Collection(ctx, metric.String())
		check(t, err)
		recall("opened again")
	}
}
