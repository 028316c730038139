package engine

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/race"
)

// eachOf collects what QueryEach tells, as QueryMany returns it.
func eachOf(t *testing.T, c *Collection, vectors [][]float32, k int, o *QueryOptions) [][]Match {
	t.Helper()
	out := make([][]Match, len(vectors))
	last := 0
	check(t, c.QueryEach(t.Context(), vectors, k, o, func(i int, m *Match) error {
		if i < last {
			t.Fatalf("vector %d after %d", i, last)
		}
		last = i
		out[i] = append(out[i], *m)
		return nil
	}))
	return out
}

// One match after another is the same as all of them at once, whether vectors
// are answered together or alone.
func TestQueryEach(t *testing.T) {
	ctx := t.Context()
	db, _ := newDB(t, Options{GraphMin: 100, Workers: 1})
	db.jobs.stop() // segments stay as they are
	c, rng := layered(t, db, L2, 7, 900, 300, 3500, 120)
	var queries [][]float32
	for range 9 {
		queries = append(queries, onGrid(rng))
	}
	for _, o := range []*QueryOptions{
		nil, {Include: IncludeMetadata | IncludeEmbedding}, {Where: filter.Lt("n", filter.Int(30))}, {IDs: []string{"id5", "id1000", "nobody"}}, {IDs: []string{}},
	} {
		for _, k := range []int{0, 1, 10, 1000, 4096, 4097, 1 << 62} {
			for _, n := range []int{0, 1, len(queries)} {
				want, err := c.QueryMany(ctx, queries[:n], k, o)
				check(t, err)
				got := eachOf(t, c, queries[:n], k, o)
				for i := range want {
					if len(got[i]) != len(want[i]) || len(want[i]) > 0 && !reflect.DeepEqual(got[i], want[i]) {
						t.Fatalf("%+v, k %d, %d vectors: vector %d has %d matches, want %d", o, k, n, i, len(got[i]), len(want[i]))
					}
				}
			}
		}
	}
	enough := errors.New("enough")
	seen := 0
	err := c.QueryEach(ctx, queries, 10, nil, func(int, *Match) error {
		if seen++; seen == 15 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || seen != 15 {
		t.Errorf("%d seen, %v", seen, err)
	}
	ended, cancel := context.WithCancel(ctx)
	seen = 0
	err = c.QueryEach(ended, queries, 1<<62, nil, func(int, *Match) error {
		seen++
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) || seen > 256 {
		t.Errorf("%d seen after the context had ended, %v", seen, err)
	}
}

// Few matches are in memory at a time, however many are asked for, and of long
// records few bytes.
func TestQueryEachHolds(t *testing.T) {
	if race.Enabled {
		t.Skip("what the heap holds, with -race, is not what it holds")
	}
	ctx := t.Context()
	db, _ := newDB(t, Options{MemtableRows: 1 << 20, TextCache: 1})
	c := newCollection(t, db, "many")
	var recs []Record
	for i := range 5000 {
		recs = append(recs, rec(fmt.Sprint(i), float32(i), 1))
	}
	check(t, c.Add(ctx, recs...))
	long := newCollection(t, db, "long")
	recs = nil
	for i := range 40 {
		r := rec(fmt.Sprint(i), float32(i), 1)
		r.Document = Optional(strings.Repeat("x", 1<<20))
		recs = append(recs, r)
	}
	check(t, long.Add(ctx, recs...))
	recs = nil
	check(t, db.Flush(ctx)) // now they are copied out of segments
	vectors := make([][]float32, 200)
	for i := range vectors {
		vectors[i] = []float32{float32(i), 0}
	}
	heap := func() int64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc)
	}
	for _, q := range []struct {
		c    *Collection
		n, k int
		o    *QueryOptions
	}{{c, 200, 5000, nil}, {c, 200, 2000, nil}, {long, 5, 40, &QueryOptions{Include: IncludeDocument}}} {
		before, most, seen := heap(), int64(0), 0
		check(t, q.c.QueryEach(ctx, vectors[:q.n], q.k, q.o, func(i int, m *Match) error {
			if seen++; seen%(q.n*q.k/5) == 0 || seen == 1 {
				most = max(most, heap()-before)
			}
			return nil
		}))
		if seen != q.n*q.k || most > 32<<20 {
			t.Errorf("k %d: %d of %d matches, %d bytes", q.k, seen, q.n*q.k, most)
		}
	}
}

// TestQueryEachAllocations: the ids of some twenty answers share an allocation, and
// nothing else of an answer is garbage. What see is told stays as it was.
func TestQueryEachAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("with -race, a sync.Pool forgets")
	}
	ctx := t.Context()
	db, _ := newDB(t, Options{GraphMin: 100, Workers: 1})
	c, rng := layered(t, db, L2, 7, 900)
	check(t, db.Flush(ctx))
	check(t, db.Compact(ctx))
	vectors, seen := [][]float32{onGrid(rng)}, []string(nil)
	see := func(_ int, m *Match) error {
		if len(seen) < cap(seen) {
			seen = append(seen, m.ID)
		}
		return nil
	}
	check(t, c.QueryEach(ctx, vectors, 10, nil, see))
	seen = make([]string, 0, 10)
	if n := testing.AllocsPerRun(200, func() { check(t, c.QueryEach(ctx, vectors, 10, nil, see)) }); n > 0 {
		t.Errorf("%v allocations a query", n)
	}
	want, err := c.Query(ctx, vectors[0], 10, nil)
	check(t, err)
	for i, m := range want {
		if m.ID != seen[i] {
			t.Errorf("match %d was %q, is %q", i, m.ID, seen[i])
		}
	}
}
