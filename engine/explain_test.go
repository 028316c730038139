package engine

import (
	"cmp"
	"reflect"
	"testing"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// TestExplain: the plan of each segment is what its size, the filter and the
// options ask for, in numbers that are the same each time.
func TestExplain(t *testing.T) {
	ctx := t.Context()
	db, _ := newDB(t, Options{GraphMin: 1000, Workers: 1, IndexBits: 4})
	db.jobs.stop()
	c, rng := layered(t, db, L2, 3, 500, 4000, 200)
	q := onGrid(rng)
	for _, tc := range []struct {
		name  string
		o     *QueryOptions
		plans []string // of the large segment, and of the small one, which has no graph
	}{
		{"all", &QueryOptions{EF: 50}, []string{"sweep", "exact"}}, // some are dead
		{"wide", &QueryOptions{EF: 2000}, []string{"scan", "exact"}},
		{"exact", &QueryOptions{Exact: true}, []string{"exact", "exact"}},
		{"a few", &QueryOptions{IDs: []string{"id600", "id700", "id3"}}, []string{"exact", "exact"}},
		{"a tenth", &QueryOptions{EF: 50, Where: filter.Lt("n", filter.Int(10))}, []string{"scan", "exact"}},
		{"nothing", &QueryOptions{Where: filter.Lt("n", filter.Int(-1))}, nil},
	} {
		e, got, err := c.Explain(ctx, q, 5, tc.o)
		check(t, err)
		again, _, err := c.Explain(ctx, q, 5, tc.o)
		check(t, err)
		if !reflect.DeepEqual(e, again) {
			t.Errorf("%s: %vand then %v", tc.name, e, again)
		}
		if want, err := c.Query(ctx, q, 5, tc.o); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v instead of %v, %v", tc.name, got, want, err)
		}
		var plans []string
		matches := e.Memory
		for _, s := range e.Segments {
			plans = append(plans, s.Plan)
			matches += s.Matches
			large := s.Rows > 3000
			if s.Plan == "exact" && (s.Scored != 0 || s.Reranked != s.Matches) ||
				s.Plan == "scan" && (s.Expanded != 0 || s.Scored != s.Matches || s.Reranked > 1000) ||
				s.Plan == "sweep" && (s.Expanded < 50 || s.Scored < s.Expanded || s.Reranked < 5 || s.Reranked > 150) ||
				large && s.Plan != "exact" && (s.Bits != 4 || s.CodeBytes != 64) || !large && s.Bits != 0 {
				t.Errorf("%s: %+v", tc.name, s)
			}
		}
		if !reflect.DeepEqual(plans, tc.plans) {
			t.Errorf("%s: %v, not %v", tc.name, plans, tc.plans)
		}
		if n := len(getAll(t, c, Selection{IDs: tc.o.IDs, Where: tc.o.Where}, 0)); n != matches {
			t.Errorf("%s: %d rows match, not %d", tc.name, matches, n)
		}
	}
}

// TestBound: a segment that lies far away costs no look at its vectors, once
// the nearer ones are known.
func TestBound(t *testing.T) {
	ctx := t.Context()
	db, _ := newDB(t, Options{GraphMin: 100, Workers: 1})
	db.jobs.stop()
	c := newCollection(t, db, "c")
	_, rng := layered(t, db, L2, 4, 10)
	for part, rows := range []int{2000, 1000} {
		var recs []Record
		for i := range rows {
			v := onGrid(rng)
			v[0] += float32(part * 1000)
			recs = append(recs, rec(string(rune('a'+part))+string(rune(1000+i)), v...))
		}
		check(t, c.Add(ctx, recs...))
		check(t, db.Flush(ctx))
	}
	near, _, err := c.Explain(ctx, []float32{2, 2, 2, 2, 2, 2}, 10, nil)
	check(t, err)
	far, _, err := c.Explain(ctx, []float32{1002, 2, 2, 2, 2, 2}, 10, nil)
	check(t, err)
	if s := near.Segments; len(s) != 2 || s[0].Reranked < 10 || s[1].Reranked != 0 || s[1].Scored == 0 {
		t.Errorf("the far segment is read:\n%v", near)
	}
	if s := far.Segments; len(s) != 2 || s[0].Reranked < 10 || s[1].Reranked < 10 {
		t.Errorf("the near segment is not read:\n%v", far)
	}
}

// TestIndexView: inspect shows the index of each segment that has one, and what
// Options.IndexBits asked for.
func TestIndexView(t *testing.T) {
	for _, bits := range []int{0, 2, 4, 8, 32} {
		fs := faultfs.New(1)
		db := openOn(t, fs, Options{GraphMin: 1000, Workers: 1, IndexBits: bits})
		db.jobs.stop()
		layered(t, db, IP, 5, 1500, 100, 5)
		check(t, db.Close())
		v, err := Inspect(t.Context(), "", &Options{fs: fs})
		check(t, err)
		found := 0
		for _, s := range v.Segments {
			if (s.Rows >= 1000) != (s.Index != nil) {
				t.Errorf("a segment of %d rows: %+v", s.Rows, s.Index)
			}
			if x := s.Index; x != nil {
				found++
				want := IndexView{M: 16, CodeBits: cmp.Or(bits, 8), CodeBytes: 64, Bytes: x.Bytes} // in few dimensions codes are wide
				if bits == 32 {
					want.CodeBytes = 0 // walks read the vectors
				}
				if *x != want || x.Bytes < int64(s.Rows*(want.CodeBytes+128)) {
					t.Errorf("%d bits: %+v", bits, *x)
				}
			}
		}
		if found != 1 || len(v.Problems) > 0 {
			t.Errorf("%d indexes, %v", found, v.Problems)
		}
	}
}
