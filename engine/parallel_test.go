package engine

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/segment"
)

// layered makes a collection of several segments of different sizes, with rows
// in memory and dead ones everywhere. Vectors lie on a coarse grid, so that
// many distances are equal and all are exact.
func layered(t *testing.T, db *DB, metric Metric, seed uint64, parts ...int) (*Collection, *rand.Rand) {
	t.Helper()
	ctx := t.Context()
	c, err := db.Default().Create(ctx, fmt.Sprint(metric, seed), Spec{Metric: metric})
	check(t, err)
	rng := rand.New(rand.NewPCG(seed, 51))
	n := 0
	for i, rows := range parts {
		var recs []Record
		for range rows {
			recs = append(recs, Record{ID: fmt.Sprint("id", n), Embedding: onGrid(rng), Metadata: Metadata{"n": filter.Int(int64(n % 100))}})
			n++
		}
		check(t, c.Add(ctx, recs...))
		var gone []string
		for range n / 20 {
			gone = append(gone, fmt.Sprint("id", rng.IntN(n)))
		}
		_, err := c.Delete(ctx, Selection{IDs: gone})
		check(t, err)
		for range rows / 20 { // they move to this segment and keep their order
			check(t, c.Upsert(ctx, Record{ID: fmt.Sprint("id", rng.IntN(n)), Embedding: onGrid(rng)}))
		}
		if i < len(parts)-1 {
			check(t, db.Flush(ctx))
		}
	}
	return c, rng
}

func onGrid(rng *rand.Rand) []float32 {
	v := make([]float32, 6)
	for i := range v {
		v[i] = float32(rng.IntN(5))
	}
	return v
}

// TestSideBySide: whether segments, and vectors of a call, are searched one
// after the other or on several goroutines, the answer is the same, to the
// order of equal distances; and of an exact query it is the right one.
func TestSideBySide(t *testing.T) {
	ctx := t.Context()
	for _, metric := range []Metric{L2, Cosine, IP} {
		t.Run(metric.String(), func(t *testing.T) {
			db, _ := newDB(t, Options{GraphMin: 100, Workers: 1})
			db.jobs.stop() // segments stay as they are
			c, rng := layered(t, db, metric, 7, 900, 300, 1500, 120, 60)
			var queries [][]float32
			for range 40 {
				queries = append(queries, onGrid(rng))
			}
			for _, o := range []*QueryOptions{
				{}, {EF: 15}, {Exact: true}, {Where: filter.Lt("n", filter.Int(30))}, {Where: filter.Lt("n", filter.Int(2)), EF: 5},
				{IDs: []string{"id5", "id1000", "id2800", "nobody"}},
			} {
				for _, k := range []int{1, 10, 300} {
					var want [][]Match
					for _, cores := range []int{1, 2, 16} {
						db.cores.max = int32(cores)
						var got [][]Match
						for _, q := range queries {
							m, err := c.Query(ctx, q, k, o)
							check(t, err)
							got = append(got, m)
						}
						many, err := c.QueryMany(ctx, queries, k, o)
						check(t, err)
						if want == nil {
							want = got
						}
						if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(many, want) {
							t.Fatalf("%+v, k %d, %d cores: other answers", o, k, cores)
						}
					}
					if o.Exact {
						ordered(t, c, metric, queries, want)
					}
				}
			}
			for deadline := 0; db.cores.busy.Load() != 0; deadline++ { // helpers that found nothing to do are not waited for
				if deadline == 1e6 {
					t.Fatalf("%d processors are still taken", db.cores.busy.Load())
				}
				runtime.Gosched()
			}
		})
	}
}

// ordered compares answers with all records of the collection.
func ordered(t *testing.T, c *Collection, metric Metric, queries [][]float32, got [][]Match) {
	t.Helper()
	all := getAll(t, c, Selection{}, IncludeEmbedding) // in the order of insertion
	place := map[string]int{}
	for i, r := range all {
		place[r.ID] = i
	}
	for i, q := range queries {
		nearer := 0
		last := got[i][len(got[i])-1]
		for n, m := range got[i] {
			if n > 0 {
				if p := got[i][n-1]; p.Distance > m.Distance || p.Distance == m.Distance && place[p.ID] >= place[m.ID] {
					t.Fatalf("%v: %s at %v stands before %s at %v", q, p.ID, p.Distance, m.ID, m.Distance)
				}
			}
		}
		if metric != L2 {
			continue // rounding
		}
		for at, r := range all {
			d := float32(0)
			for j, x := range q {
				d += (x - r.Embedding[j]) * (x - r.Embedding[j])
			}
			if d < last.Distance || d == last.Distance && at <= place[last.ID] {
				nearer++
			}
		}
		if nearer != len(got[i]) {
			t.Fatalf("%v: %d records are as near as the %d of the answer", q, nearer, len(got[i]))
		}
	}
}

// TestSideBySideDamage: damage in one of several segments ends a query that
// meets it, however many goroutines are at it, and leaves none waiting.
func TestSideBySideDamage(t *testing.T) {
	ctx := t.Context()
	db, fs := newDB(t, Options{GraphMin: 1 << 30})
	db.jobs.stop()
	c, rng := layered(t, db, L2, 8, 400, 700, 300, 5)
	names := []string{}
	for _, s := range c.manifest.segments {
		names = append(names, segment.Name(s.info.Number))
	}
	for _, name := range names {
		whole := content(t, fs, name)
		check(t, fs.Damage(name, func(b []byte) []byte { b[disk.HeaderSize+1]++; return b }))
		for _, cores := range []int{1, 2, 16} {
			db.cores.max = int32(cores)
			check(t, db.readers.close()) // what was verified is forgotten
			for range 20 {
				if _, err := c.Query(ctx, onGrid(rng), 10, nil); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), name) {
					t.Fatalf("%s, %d cores: %v", name, cores, err)
				}
			}
			if _, err := c.QueryMany(ctx, [][]float32{onGrid(rng), onGrid(rng), onGrid(rng)}, 10, nil); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s, %d cores: %v", name, cores, err)
			}
		}
		check(t, db.readers.close())
		check(t, fs.Damage(name, func([]byte) []byte { return whole }))
	}
	_, err := c.Query(ctx, onGrid(rng), 10, nil)
	check(t, err)
}

// TestLaneWaits: a lane has the bound of all lanes before it and waits for them,
// and rows at the distance of the last one are within it. Who asks no bound may
// be ready first.
func TestLaneWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := &DB{}
		w := db.worker()
		w.reset(&search{db: db, k: 3, targets: make([]searchTarget, 4)})
		found := [][]float32{{4, 6}, {5, 8, 9}, {1, 2}, {}}
		bounds := make([]float32, 3)
		ends := 0
		for i := range bounds {
			go func() {
				var ok bool
				if bounds[i], ok = w.lane(i).bound(); !ok {
					bounds[i] = -1
				}
				ends++
			}()
		}
		for _, step := range []struct{ target, ends int }{{3, 1}, {0, 2}, {1, 3}, {2, 3}} {
			w.lane(step.target).hits = nil
			for row, d := range found[step.target] {
				w.lane(step.target).hits = append(w.lane(step.target).hits, hnsw.Neighbor{Row: uint32(row), Distance: d})
			}
			w.finish(step.target)
			synctest.Wait()
			if ends != step.ends {
				t.Errorf("%d lanes have a bound after lane %d, not %d", ends, step.target, step.ends)
			}
		}
		above := func(d float32) float32 { return math.Nextafter32(d, 100) }
		if want := []float32{-1, -1, above(6)}; !slices.Equal(bounds, want) {
			t.Errorf("bounds %v, not %v", bounds, want)
		}
	})
}

// TestCores: no more processors are given out than there are.
func TestCores(t *testing.T) {
	c := cores{max: 4}
	c.begin()
	done := c.work()
	if got := c.take(5); got != 2 {
		t.Errorf("%d of 2 idle processors", got)
	}
	if got := c.take(1); got != 0 {
		t.Errorf("%d processors of a busy machine", got)
	}
	c.end()
	if got := c.take(1); got != 1 {
		t.Errorf("%d of 1", got)
	}
	for range 3 {
		c.end()
	}
	done()
	if c.busy.Load() != 0 {
		t.Errorf("%d are left", c.busy.Load())
	}
	c.busy.Store(9) // more searches than processors
	if got := c.take(3); got != 0 {
		t.Errorf("%d processors of a busy machine", got)
	}
}

// TestManners: background work makes room when a query came, and takes it back
// when none has come for some time.
func TestManners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cores{max: 2}
		c.begin()
		m := c.manners()
		if m.yield(0) {
			t.Error("it yields to a query of before")
		}
		c.begin()
		for range 5 {
			if !m.yield(0) || !m.yield(1) || m.yield(2) {
				t.Error("it does not yield a processor to each of two queries")
			}
			time.Sleep(quiet / 6)
		}
		c.begin()
		if !m.yield(0) {
			t.Error("it does not yield to the next one")
		}
		for range 3 {
			c.end()
		}
		defer c.work()()
		if !m.yield(0) || m.yield(1) {
			t.Error("it does not leave one processor to the next query")
		}
		time.Sleep(quiet)
		if m.yield(0) {
			t.Error("it yields when no queries come")
		}
	})
}
