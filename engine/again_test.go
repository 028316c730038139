package engine

import (
	"fmt"
	"slices"
	"testing"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/race"
)

// TestConditionAgain: a condition that comes with query after query is answered from
// copies at last, and from what is there now: without records that were deleted
// or moved out of it, with those that came.
func TestConditionAgain(t *testing.T) {
	race.Heavy(t)
	ctx := t.Context()
	const n, k = 6000, 5
	for _, o := range []Options{{Workers: 1}, {Workers: 1, Keys: operator("a")}} {
		db, _ := newDB(t, o)
		c := newCollection(t, db, "c")
		var recs []Record
		at := func(i int) []float32 { return []float32{float32(i % 77), float32(i / 77), float32(i % 13)} }
		for i := range n {
			recs = append(recs, Record{ID: fmt.Sprint(i), Embedding: at(i), Metadata: Metadata{"team": filter.Int(int64(i % 20))}})
		}
		check(t, c.Add(ctx, recs...))
		check(t, db.Flush(ctx))
		opts := &QueryOptions{EF: 50, Where: filter.Eq("team", filter.Int(3))}
		q := at(4003)
		ask := func() ([]string, string) {
			t.Helper()
			e, got, err := c.Explain(ctx, q, k, opts)
			check(t, err)
			exact := *opts
			exact.Exact = true
			want, err := c.Query(ctx, q, k, &exact)
			check(t, err)
			ids := func(m []Match) (list []string) {
				for _, x := range m {
					list = append(list, x.ID)
				}
				return list
			}
			if !slices.Equal(ids(got), ids(want)) {
				t.Fatalf("%v instead of %v\n%v", ids(got), ids(want), e)
			}
			return ids(got), e.Segments[0].Plan
		}
		settle := func() []string {
			t.Helper()
			ids, plan := ask()
			if plan == "packed" {
				t.Fatal("packed at once")
			}
			for n := 0; plan != "packed"; n++ { // the more, the shorter what was packed before lasted
				if ids, plan = ask(); n == 100 {
					t.Fatal("not packed: ", plan)
				}
			}
			return ids
		}
		ids := settle()
		if ids[0] != "4003" {
			t.Fatal(ids)
		}
		_, err := c.Delete(ctx, Selection{IDs: ids[:1]})
		check(t, err)
		if now := settle(); slices.Contains(now, ids[0]) {
			t.Errorf("%s is deleted: %v", ids[0], now)
		}
		check(t, c.Upsert(ctx, Record{ID: ids[1], Embedding: q, Metadata: Metadata{"team": filter.Int(4)}},
			Record{ID: "new", Embedding: q, Metadata: Metadata{"team": filter.Int(3)}}))
		if now := settle(); slices.Contains(now, ids[1]) || now[0] != "new" {
			t.Errorf("%s is of another team, and another record is nearest: %v", ids[1], now)
		}
		check(t, c.Update(ctx, Record{ID: ids[2], Metadata: Metadata{"team": filter.Int(5)}}))
		if now := settle(); slices.Contains(now, ids[2]) {
			t.Errorf("%s is of another team: %v", ids[2], now)
		}
		check(t, db.Flush(ctx))
		check(t, db.Compact(ctx))
		settle()
	}
}
