package segment

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/seal"
)

// divided is rows of which each says, under a key, of which part it is.
func divided(rng *rand.Rand, n, dim int, key string, parts int) []Row {
	rows := randomRows(rng, n, dim)
	for i := range rows {
		rows[i].Metadata = filter.Metadata{key: filter.Int(int64(i % parts))}
	}
	return rows
}

// TestAgain: rows that come again and again are made ready, without those that are
// dead, and give what they gave before; other dead rows are other rows.
func TestAgain(t *testing.T) {
	rng := rand.New(rand.NewPCG(81, 0))
	const n, dim = 3000, 24
	rows := divided(rng, n, dim, "tenth", 10)
	where := filter.Eq("tenth", filter.Int(3))
	for _, metric := range []kernel.Metric{kernel.L2, kernel.Cosine, kernel.IP} {
		for _, s := range []testKeys{seal.Plain(), newGCM(t)} {
			fs, _ := tempFS(t)
			spec := testSpec(1, dim, metric)
			spec.Cache, spec.GraphMin = NewCache(1<<20), 1000
			r := mustOpen(t, fs, s, spec, mustWrite(t, fs, s, spec, rows))
			all, err := r.Filter(t.Context(), where)
			if err != nil {
				t.Fatal(err)
			}
			vector, first := randomRows(rng, 1, dim)[0].Vector, []hnsw.Neighbor(nil)
			ask := func(serial uint64, dead *roaring.Bitmap, ready bool) []hnsw.Neighbor {
				t.Helper()
				var trace Trace
				q := Query{Vector: vector, K: 10, Trace: &trace}
				if q.Again, q.Ready = r.Again(where, serial); (q.Ready != nil) != ready {
					t.Fatalf("%v: ready: %v", metric, q.Ready != nil)
				}
				if q.Ready == nil {
					q.Allowed = roaring.AndNot(all, dead)
				}
				hits, err := r.Search(t.Context(), q, nil)
				if err != nil {
					t.Fatal(err)
				}
				if packed := trace.Plan == "packed"; packed != ready || trace.Matches != n/10-int(dead.GetCardinality()) {
					t.Fatalf("%v: %+v", metric, trace)
				}
				return hits
			}
			none := roaring.New()
			for i := range againTimes + 3 {
				hits := ask(7, none, i >= againTimes)
				if i == 0 {
					first = hits
				}
				if !slices.Equal(hits, first) {
					t.Fatalf("%v, search %d: %v instead of %v", metric, i, hits, first)
				}
			}
			kept := r.documents.shared.Size()
			if least := int64(n / 10 * 64); kept < least || s.Overhead() > 0 && kept > least+n/8+n/10*(8+4)+2000 {
				t.Errorf("%v, encrypted %v: %d bytes are kept", metric, s.Overhead() > 0, kept)
			}
			dead := roaring.BitmapOf(first[0].Row, first[4].Row)
			for i := range 2*againTimes + 1 { // what was made before has not paid
				hits := ask(9, dead, i >= 2*againTimes)
				for _, h := range hits {
					if dead.Contains(h.Row) {
						t.Fatalf("%v, search %d: row %d is dead", metric, i, h.Row)
					}
				}
				if i == 1 && r.documents.shared.Size() >= kept {
					t.Error("what was ready with other dead rows is still kept")
				}
			}
			for range againTimes + 1 {
				ask(7, none, false) // a reader that came before
			}
			ask(9, dead, true)
		}
	}
}

// TestAgainBound: what would take too much of the cache is not made ready, or only
// which rows they are, and nothing is without a cache.
func TestAgainBound(t *testing.T) {
	rng := rand.New(rand.NewPCG(82, 0))
	const n, dim = 2000, 8
	rows := divided(rng, n, dim, "fifth", 5)
	for _, c := range []struct {
		size          int64
		ready, packed bool
	}{{0, false, false}, {300, false, false}, {100_000, true, false}, {400_000, true, true}} {
		fs, _ := tempFS(t)
		spec := testSpec(1, dim, kernel.L2)
		spec.GraphMin = 1000
		if c.size > 0 {
			spec.Cache = NewCache(c.size)
		}
		r := mustOpen(t, fs, seal.Plain(), spec, mustWrite(t, fs, seal.Plain(), spec, rows))
		for i := range 20 {
			where := filter.Eq("fifth", filter.Int(int64(i%2)))
			allowed, err := r.Filter(t.Context(), where)
			if err != nil {
				t.Fatal(err)
			}
			var trace Trace
			q := Query{Vector: rows[0].Vector, K: 3, Allowed: allowed, Trace: &trace}
			if q.Again, q.Ready = r.Again(where, 1); q.Ready != nil {
				q.Allowed = nil
			}
			if hits, err := r.Search(t.Context(), q, nil); err != nil || len(hits) != 3 || int(hits[0].Row)%5 != i%2 {
				t.Fatal(fmt.Sprint(c.size), hits, err)
			}
			if late := i >= 2*againTimes; (q.Ready != nil) != (c.ready && late) || (trace.Plan == "packed") != (c.packed && late) {
				t.Errorf("%d bytes, search %d: ready is %v, %s", c.size, i, q.Ready != nil, trace.Plan)
			}
			if s := r.documents.shared.Size(); s > c.size {
				t.Errorf("%d bytes of %d are kept", s, c.size)
			}
		}
	}
}
