package engine

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// everywhere runs test with what write has written in the memtable, in a
// segment that is scanned, in one with a graph, and after opening again.
func everywhere(t *testing.T, spec Spec, write func(c *Collection), test func(where string, c *Collection)) {
	t.Helper()
	ctx := t.Context()
	for _, graph := range []int{1 << 30, 2} {
		disk := faultfs.New(1)
		db := openOn(t, disk, Options{GraphMin: graph, Workers: 1})
		c, err := db.Default().Create(ctx, "c", spec)
		check(t, err)
		write(c)
		test("in memory", c)
		check(t, db.Flush(ctx))
		test(fmt.Sprintf("in a segment, graphs from %d", graph), c)
		check(t, db.Close())
		db = openOn(t, disk, Options{GraphMin: graph})
		test("reopened", collection(t, db, "c"))
		check(t, db.Compact(ctx))
		test("merged", collection(t, db, "c"))
		check(t, db.Close())
	}
}

// Records at the limits come back as they were; those one beyond are refused,
// and nothing of their call is written.
func TestLimitsExact(t *testing.T) {
	ctx := t.Context()
	keys := Metadata{}
	for i := range 10_000 {
		keys[fmt.Sprint("k", i)] = filter.Int(int64(i))
	}
	whole := []Record{
		rec(strings.Repeat("i", 1<<16), 1),
		rec("\x00", 2), rec("../..", 3), rec("a/b\n", 4), rec("e\u0301", 5), rec("é", 6),
		{ID: "many keys", Embedding: []float32{7}, Metadata: keys},
		{ID: "numbers", Embedding: []float32{8}, Metadata: Metadata{
			"least": filter.Int(math.MinInt64), "most": filter.Int(math.MaxInt64), "odd": filter.Int(1<<53 + 1), "like an int": filter.Float(3),
			"tiny": filter.Float(math.SmallestNonzeroFloat64), "zero": filter.Float(math.Copysign(0, -1)),
		}},
		{ID: "long value", Embedding: []float32{9}, Metadata: Metadata{"v": filter.String(strings.Repeat("v", 1<<20))}},
		{ID: "long list", Embedding: []float32{10}, Metadata: Metadata{"v": filter.Strings(slices.Repeat([]string{"x"}, 10_000)...)}},
		{ID: "empty", Embedding: []float32{11}, Document: Optional(""), URI: Optional("")},
	}
	want := &modelCollection{dim: 1}
	want.write(writeAdd, whole)
	everywhere(t, Spec{}, func(c *Collection) { check(t, c.Add(ctx, whole...)) }, func(where string, c *Collection) {
		if d, err := want.diff(ctx, c); d != "" || err != nil {
			t.Errorf("%s: %.200s %v", where, d, err)
		}
		if got := getAll(t, c, Selection{IDs: []string{"numbers"}}, IncludeMetadata)[0].Metadata["odd"]; fmt.Sprint(got) != "9007199254740993" {
			t.Errorf("%s: 2^53+1 became %v", where, got)
		}
	})
	db, disk := newDB(t, Options{})
	c := newCollection(t, db, "c")
	wide := newCollection(t, db, "wide")
	check(t, wide.Add(ctx, rec("widest", make([]float32, 65535)...)))
	check(t, c.Add(ctx, rec("first", 1)))
	ops := disk.Ops()
	keys["one more"] = filter.Int(0)
	for name, tc := range map[string]struct {
		r    Record
		want error
	}{
		"id":        {rec(strings.Repeat("i", 1<<16+1), 1), ErrTooLarge},
		"dimension": {rec("x", make([]float32, 65536)...), ErrInvalid},
		"keys":      {Record{ID: "x", Embedding: []float32{1}, Metadata: keys}, ErrTooLarge},
		"no floats": {Record{ID: "x", Embedding: []float32{}}, ErrInvalid},
	} {
		if err := c.Add(ctx, rec("good", 1), tc.r); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	for _, v := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		if err := c.Update(ctx, rec("good", v)); !errors.Is(err, ErrInvalid) {
			t.Errorf("update with %v: %v", v, err)
		}
		if _, err := c.Query(ctx, []float32{v}, 1, nil); !errors.Is(err, ErrInvalid) {
			t.Errorf("query with %v: %v", v, err)
		}
	}
	if n, err := c.Count(ctx); n != 1 || err != nil || disk.Ops() != ops {
		t.Errorf("%d records of refused calls, %v; the disk was changed %d times", n, err, disk.Ops()-ops)
	}
}

// A zero vector has no direction: its cosine distance to anything is 1.
func TestZeroVector(t *testing.T) {
	ctx := t.Context()
	everywhere(t, Spec{Metric: Cosine}, func(c *Collection) {
		check(t, c.Add(ctx, rec("zero", 0, 0), rec("east", 2, 0), rec("north", 0, 3), rec("west", -1, 0)))
	}, func(where string, c *Collection) {
		for _, exact := range []bool{true, false} {
			for _, tc := range []struct {
				q    []float32
				want string
			}{
				{[]float32{1, 0}, "east 0, north 1, west 2, zero 1"},
				{[]float32{0, 0}, "east 1, north 1, west 1, zero 1"},
			} {
				found, err := c.Query(ctx, tc.q, 4, &QueryOptions{Exact: exact})
				check(t, err)
				var got []string
				for _, m := range found {
					got = append(got, fmt.Sprintf("%s %.4g", m.ID, m.Distance))
				}
				if slices.Sort(got); strings.Join(got, ", ") != tc.want {
					t.Errorf("%s, exact %v: %v to %v, want %s", where, exact, got, tc.q, tc.want)
				}
			}
		}
	})
}

// What is asked for decides nothing about memory: only what is there does.
func TestHugeRequests(t *testing.T) {
	ctx := t.Context()
	var recs []Record
	for i := range 300 {
		recs = append(recs, rec(fmt.Sprint(i), float32(i), 1))
	}
	everywhere(t, Spec{}, func(c *Collection) { check(t, c.Add(ctx, recs...)) }, func(where string, c *Collection) {
		cost := func(f func() int) uint64 {
			f() // opens segments
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if n := f(); n != len(recs) {
				t.Errorf("%s: %d found", where, n)
			}
			runtime.ReadMemStats(&after)
			return after.TotalAlloc - before.TotalAlloc
		}
		for name, f := range map[string]func(n int) int{
			"query": func(n int) int {
				found, err := c.Query(ctx, []float32{1, 1}, n, nil)
				check(t, err)
				return len(found)
			},
			"candidates": func(n int) int {
				found, err := c.Query(ctx, []float32{1, 1}, len(recs), &QueryOptions{EF: n})
				check(t, err)
				return len(found)
			},
			"get": func(n int) int { return len(getAll(t, c, Selection{Limit: n}, 0)) },
		} {
			if small, large := cost(func() int { return f(len(recs)) }), cost(func() int { return f(1 << 62) }); large > 2*small+256<<10 {
				t.Errorf("%s, %s: %d bytes for all rows, %d for 2^62", where, name, small, large)
			}
		}
		if got := getAll(t, c, Selection{Offset: 1 << 62}, 0); len(got) != 0 {
			t.Errorf("%s: %d records beyond the end", where, len(got))
		}
		if found, err := c.Query(ctx, []float32{1, 1}, 0, nil); len(found) != 0 || err != nil {
			t.Errorf("%s: nothing asked for, %v, %v", where, found, err)
		}
	})
}

// Filters that match nothing, one and all, and a collection that has lost
// every record, which can be filled again.
func TestNothingLeft(t *testing.T) {
	ctx := t.Context()
	var recs []Record
	for i := range 200 {
		r := rec(fmt.Sprint(i), float32(i%14), float32(i/14))
		r.Metadata = Metadata{"i": filter.Int(int64(i))}
		recs = append(recs, r)
	}
	count := func(c *Collection, where *Filter) int {
		found, err := c.Query(ctx, []float32{3, 3}, 1000, &QueryOptions{Where: where})
		check(t, err)
		if n := len(getAll(t, c, Selection{Where: where}, 0)); n != len(found) {
			t.Errorf("%d found by get, %d by query", n, len(found))
		}
		return len(found)
	}
	everywhere(t, Spec{}, func(c *Collection) { check(t, c.Add(ctx, recs...)) }, func(where string, c *Collection) {
		for _, tc := range []struct {
			where *Filter
			want  int
		}{
			{filter.Lt("i", filter.Int(0)), 0}, {filter.Eq("i", filter.Int(77)), 1}, {filter.Gte("i", filter.Int(0)), 200}, {nil, 200},
			{filter.Nin("i", filter.Int(1), filter.Int(2)), 198}, {filter.Eq("no such key", filter.Int(1)), 0},
		} {
			if got := count(c, tc.where); got != tc.want {
				t.Errorf("%s: %d found, want %d", where, got, tc.want)
			}
		}
		ids := make([]string, len(recs))
		for i := range recs {
			ids[i] = recs[i].ID
		}
		n, err := c.Delete(ctx, Selection{IDs: ids})
		if n != len(recs) || err != nil {
			t.Fatalf("%s: %d deleted, %v", where, n, err)
		}
		if got := count(c, nil) + count(c, filter.Gte("i", filter.Int(0))); got != 0 {
			t.Errorf("%s: %d found when all are deleted", where, got)
		}
		check(t, c.Add(ctx, recs...))
	})
}

// Vectors that are all equal, all on a line, and far from all others.
func TestDegenerateVectors(t *testing.T) {
	ctx := t.Context()
	const n = 3000
	for name, at := range map[string]func(i int) []float32{
		"equal":   func(int) []float32 { return []float32{1, 2, 3} },
		"line":    func(i int) []float32 { return []float32{float32(i), float32(i), float32(i)} },
		"outlier": func(i int) []float32 { return []float32{float32(i % 50), float32(i / 50), float32(i/(n-1)) * 1e30} },
	} {
		db, _ := newDB(t, Options{GraphMin: 100})
		c := newCollection(t, db, "c")
		var recs []Record
		for i := range n {
			recs = append(recs, rec(fmt.Sprint(i), at(i)...))
		}
		check(t, c.Add(ctx, recs...))
		check(t, db.Flush(ctx))
		hits, wanted := 0, 0
		for i := 0; i < n; i += 149 {
			want, err := c.Query(ctx, at(i), 10, &QueryOptions{Exact: true})
			check(t, err)
			got, err := c.Query(ctx, at(i), 10, nil)
			check(t, err)
			if len(got) != 10 || len(want) != 10 || want[0].Distance != 0 {
				t.Fatalf("%s: %d and %d found, the nearest at %v", name, len(want), len(got), want[0].Distance)
			}
			for j := range got {
				if wanted++; got[j].Distance <= want[9].Distance {
					hits++
				}
			}
		}
		if hits*100 < wanted*95 {
			t.Errorf("%s: %d of %d nearest are found", name, hits, wanted)
		}
		if far, err := c.Query(ctx, at(n-1), 1, nil); name == "outlier" && (err != nil || far[0].ID != fmt.Sprint(n-1)) {
			t.Errorf("the outlier is not found: %v, %v", far, err)
		}
	}
}

// Conditions as deep and as wide as they come end, and say what they mean.
func TestLargeConditions(t *testing.T) {
	heavy(t)
	ctx := t.Context()
	var recs []Record
	for i := range 100 {
		r := rec(fmt.Sprint(i), float32(i))
		r.Metadata, r.Document = Metadata{"i": filter.Int(int64(i))}, Optional(strings.Repeat("(a+)+$", i))
		recs = append(recs, r)
	}
	deep, wide, values := filter.Eq("i", filter.Int(7)), []*Filter{}, []Value{}
	for i := range 1000 {
		if deep = filter.And(deep, filter.Gte("i", filter.Int(0))); i%2 == 0 {
			deep = filter.Or(deep, filter.Lt("i", filter.Int(0)))
		}
	}
	for i := range 10_000 {
		wide = append(wide, filter.Eq("i", filter.Int(int64(50+i))))
	}
	for i := range 100_000 {
		values = append(values, filter.Int(int64(i+90)))
	}
	everywhere(t, Spec{}, func(c *Collection) { check(t, c.Add(ctx, recs...)) }, func(where string, c *Collection) {
		for name, tc := range map[string]struct {
			where *Filter
			want  int
		}{
			"deep": {deep, 1}, "wide": {filter.Or(wide...), 50}, "in": {filter.In("i", values...), 10},
			"text": {filter.DocumentContains("(a+)+$(a+)+$"), 98},
		} {
			if got := len(getAll(t, c, Selection{Where: tc.where}, 0)); got != tc.want {
				t.Errorf("%s: %s matches %d, want %d", where, name, got, tc.want)
			}
		}
	})
}

// Writers that outrun the disk are held up before memory exceeds its limit by
// a fifth, records on their way included.
func TestMemoryLimit(t *testing.T) {
	const limit, writers, each = 200_000, 8, 400
	ctx := t.Context()
	db, disk := newDB(t, Options{MemoryLimit: limit, GraphMin: 1 << 30})
	var most atomic.Int64
	look := func() {
		for n := db.memBytes.Load(); ; {
			old := most.Load()
			if n <= old || most.CompareAndSwap(old, n) {
				return
			}
		}
	}
	disk.Hook(func(faultfs.Op, string) {
		look()
		runtime.Gosched() // a disk that is slower than its writers
	})
	var wg sync.WaitGroup
	for w := range writers {
		c := newCollection(t, db, fmt.Sprint("c", w%3, w))
		wg.Go(func() {
			for i := range each {
				if err := c.Add(ctx, rec(fmt.Sprint(i), make([]float32, 64)...)); err != nil {
					t.Error(err)
					return
				}
				look()
			}
		})
	}
	wg.Wait()
	if n := most.Load(); n > limit*6/5 || n < limit/2 {
		t.Errorf("memory went up to %d, the limit is %d", n, limit)
	}
	if n := db.Stats().Records; n != writers*each {
		t.Errorf("%d records", n)
	}
}

// Numbers of rows around every constant of the formats and of the options.
func TestThresholds(t *testing.T) {
	ctx := t.Context()
	for _, around := range []int{1, 64, 256, 1000, 1024, 4096, 16384} {
		if testing.Short() && around > 1100 {
			t.Log("only up to 1,024 rows in a short run")
			break
		}
		for n := max(1, around-1); n <= around+1; n++ {
			disk := faultfs.New(1)
			db := openOn(t, disk, Options{Workers: 2})
			c := newCollection(t, db, "c")
			want := &modelCollection{dim: 2}
			for from := 0; from < n; from += 5000 {
				var recs []Record
				for i := from; i < min(n, from+5000); i++ {
					recs = append(recs, rec(fmt.Sprint(i), float32(i%128), float32(i/128)))
				}
				check(t, c.Add(ctx, recs...))
				want.records = append(want.records, recs...)
			}
			for _, where := range []string{"memory", "segment", "reopened"} {
				if d, err := want.diff(ctx, c); d != "" || err != nil {
					t.Fatalf("%d rows, %s: %s %v", n, where, d, err)
				}
				for _, i := range []int{0, n / 2, n - 1} {
					found, err := c.Query(ctx, want.records[i].Embedding, 1, nil)
					if err != nil || len(found) != 1 || found[0].Distance != 0 || found[0].ID != fmt.Sprint(i) {
						t.Fatalf("%d rows, %s: row %d: %v, %v", n, where, i, found, err)
					}
				}
				if where == "memory" {
					check(t, db.Flush(ctx))
				} else if where == "segment" {
					check(t, db.Close())
					db = openOn(t, disk, Options{})
					c = collection(t, db, "c")
				}
			}
			check(t, db.Close())
		}
	}
}
