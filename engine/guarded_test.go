package engine

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

var ruleSeeds = flag.Int("rule.seeds", 40, "seeds of TestRuleModel")

func under(t testing.TB, c *Collection, rule *Filter) *Guarded {
	t.Helper()
	g, err := c.Under(rule)
	check(t, err)
	return g
}

func team(names ...string) *Filter {
	var values []Value
	for _, n := range names {
		values = append(values, filter.String(n))
	}
	return filter.In("team", values...)
}

// of is a record of a team.
func of(name, id string, v ...float32) Record {
	r := rec(id, v...)
	r.Metadata = Metadata{"team": filter.String(name)}
	return r
}

// What somebody of team a may do to a store with the records a (of his team),
// b (of another) and n (of none), and what is there then.
func TestRuleWrites(t *testing.T) {
	stays := "a:a n: b:b"
	meta := func(id string, m Metadata) Record { return Record{ID: id, Metadata: m} }
	null := Metadata{"team": filter.Null()}
	for _, tc := range []struct {
		name    string
		kind    writeKind
		recs    []Record
		refused int
		want    string // teams by id, in the order of insertion
	}{
		{"add his", writeAdd, []Record{of("a", "x", 9)}, -1, stays + " x:a"},
		{"add another's", writeAdd, []Record{of("a", "x", 9), of("b", "y", 9)}, 1, stays},
		{"add without a team", writeAdd, []Record{rec("x", 9)}, 0, stays},
		{"add a null", writeAdd, []Record{{ID: "x", Embedding: []float32{9}, Metadata: null}}, 0, stays},
		{"add one that is there", writeAdd, []Record{of("a", "a", 9)}, -1, stays},
		{"add one that is hidden", writeAdd, []Record{of("a", "b", 9)}, -1, stays},
		{"add another's that is there", writeAdd, []Record{of("b", "a", 9)}, 0, stays},
		{"add another's that is hidden", writeAdd, []Record{of("b", "b", 9)}, 0, stays},
		{"add the same id again", writeAdd, []Record{of("a", "x", 9), of("b", "x", 9)}, 1, stays},
		{"upsert his", writeUpsert, []Record{of("a", "a", 9), of("a", "x", 9)}, -1, stays + " x:a"},
		{"upsert as another's", writeUpsert, []Record{of("a", "x", 9), of("b", "a", 9)}, 1, stays},
		{"upsert without a team on his", writeUpsert, []Record{rec("a", 9)}, -1, stays},
		{"upsert without a team", writeUpsert, []Record{rec("x", 9)}, 0, stays},
		{"upsert a hidden one", writeUpsert, []Record{of("a", "b", 9)}, 0, stays},
		{"upsert a hidden one without a team", writeUpsert, []Record{of("a", "x", 9), rec("b", 9)}, 1, stays},
		{"upsert one that has no team", writeUpsert, []Record{of("a", "n", 9)}, 0, stays},
		{"upsert what the call made", writeUpsert, []Record{of("a", "x", 9), rec("x", 8)}, -1, stays + " x:a"},
		{"upsert and give away", writeUpsert, []Record{of("a", "x", 9), {ID: "x", Embedding: []float32{1}, Metadata: null}}, 1, stays},
		{"update his", writeUpdate, []Record{meta("a", Metadata{"k": filter.Int(1)})}, -1, stays},
		{"update his away", writeUpdate, []Record{meta("a", Metadata{"team": filter.String("b")})}, 0, stays},
		{"update his to none", writeUpdate, []Record{meta("a", null)}, 0, stays},
		{"update hidden ones", writeUpdate, []Record{of("a", "b"), of("a", "n"), of("b", "b")}, -1, stays},
		{"update what is not there", writeUpdate, []Record{of("a", "x"), of("b", "y")}, -1, stays},
	} {
		for _, flushed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, flushed %t", tc.name, flushed), func(t *testing.T) {
				ctx := t.Context()
				db, fs := newDB(t, Options{})
				c := newCollection(t, db, "c")
				check(t, c.Add(ctx, of("a", "a", 1), rec("n", 2), of("b", "b", 3)))
				if flushed {
					check(t, db.Flush(ctx))
				}
				hidden := showAll(getAll(t, c, Selection{IDs: []string{"b", "n"}}, IncludeAll))
				before := showAll(getAll(t, c, Selection{}, IncludeAll))
				g := under(t, c, team("a"))
				err := writeAs(ctx, g, tc.kind, tc.recs)
				wrong, is := errors.AsType[*RuleError](err)
				if is != (tc.refused >= 0) || is && (wrong.Index != tc.refused || !errors.Is(err, ErrRule)) || !is && err != nil {
					t.Errorf("%v, want record %d refused", err, tc.refused)
				}
				for range 2 { // as it is, and after a power cut
					var got []string
					for _, r := range getAll(t, c, Selection{}, IncludeMetadata) {
						got = append(got, r.ID+":"+r.Metadata["team"].AsString())
					}
					if s := strings.Join(got, " "); s != tc.want {
						t.Errorf("store: %s, want %s", s, tc.want)
					}
					if s := showAll(getAll(t, c, Selection{IDs: []string{"b", "n"}}, IncludeAll)); s != hidden {
						t.Errorf("hidden: %s, was %s", s, hidden)
					}
					if s := showAll(getAll(t, c, Selection{}, IncludeAll)); is && s != before {
						t.Errorf("refused, and the store is %s, was %s", s, before)
					}
					again := openOn(t, fs.Clone().Crash(rand.New(rand.NewPCG(1, 1))), Options{})
					defer again.Close()
					c = collection(t, again, "c")
				}
			})
		}
	}
}

func showAll(rs []Record) string {
	var b strings.Builder
	for _, r := range rs {
		fmt.Fprintf(&b, "%s %v %v %s; ", r.ID, r.Embedding, r.Metadata, show(r.Document))
	}
	return b.String()
}

func writeAs(ctx context.Context, g *Guarded, kind writeKind, recs []Record) error {
	switch kind {
	case writeAdd:
		return g.Add(ctx, recs...)
	case writeUpsert:
		return g.Upsert(ctx, recs...)
	}
	return g.Update(ctx, recs...)
}

// What can be no rule, and what nothing and everything are.
func TestUnder(t *testing.T) {
	ctx := t.Context()
	db, _ := newDB(t, Options{})
	c := newCollection(t, db, "c")
	check(t, c.Add(ctx, of("a", "a", 1)))
	if _, err := c.Under(filter.And(team("a"), filter.DocumentContains("x"))); !errors.Is(err, ErrInvalid) {
		t.Errorf("a rule on documents: %v", err)
	}
	deep := team("a")
	for range filter.MaxDepth {
		deep = filter.Or(deep, team("b"))
	}
	if _, err := c.Under(deep); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a deep rule: %v", err)
	}
	if _, err := c.Under(team(strings.Repeat("x", maxRule))); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a long rule: %v", err)
	}
	none, all := under(t, c, filter.Or()), under(t, c, nil)
	n, err := none.Count(ctx)
	m, err2 := all.Count(ctx)
	if n != 0 || m != 1 || err != nil || err2 != nil {
		t.Errorf("counts %d and %d, %v, %v", n, m, err, err2)
	}
	if err := none.Add(ctx, of("a", "x", 1)); !errors.Is(err, ErrRule) {
		t.Errorf("written under a rule that nothing matches: %v", err)
	}
	if n, err := none.Delete(ctx, Selection{IDs: []string{"a"}}); n != 0 || err != nil {
		t.Errorf("deleted %d, %v", n, err)
	}
	if n, err := all.Delete(ctx, Selection{}); n != 0 || err != nil {
		t.Errorf("deleted %d without a selection, %v", n, err)
	}
	if n, err := under(t, c, team("a")).Delete(ctx, Selection{Limit: 1}); n != 0 || err != nil {
		t.Errorf("deleted %d without a selection, %v", n, err)
	}
	if none.Info().Keys != nil || c.Info().Keys == nil || none.Info().Dimension != 1 {
		t.Errorf("info: %+v", none.Info())
	}
}

// writeUnder is the meaning of a write under a rule, record by record: the
// position of the one that is refused, and the collection as it was, or -1.
func (c *modelCollection) writeUnder(rule *Filter, kind writeKind, recs []Record) int {
	next := &modelCollection{c.metric, c.dim, slices.Clone(c.records), maps.Clone(c.keys)}
	for i, r := range recs {
		at := next.find(r.ID)
		sees := at >= 0 && rule.Match(next.records[at].Metadata, nil)
		allowed := func(old Metadata) bool { return rule.Match(modelMerge(old, r.Metadata), nil) }
		switch {
		case kind == writeAdd && !allowed(nil):
			return i
		case kind == writeUpsert && at < 0 && !allowed(nil):
			return i
		case kind == writeUpsert && at >= 0 && (!sees || !allowed(next.records[at].Metadata)):
			return i
		case kind == writeUpdate && !sees:
			continue
		case kind == writeUpdate && !allowed(next.records[at].Metadata):
			return i
		}
		next.write(kind, []Record{r})
	}
	*c = *next
	return -1
}

// rule draws a rule on the metadata that opMaker makes.
func (r *opMaker) rule() *Filter {
	for {
		if e := r.filter(2); !slices.Contains(slices.Collect(keysAsked(e)), filter.DocumentKey) {
			return e
		}
	}
}

func keysAsked(e *Filter) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range e.Operands() {
			if !yield(k) {
				return
			}
		}
	}
}

// writeUnder draws a write, or a deletion, under a rule.
func (r *opMaker) writeUnder(name string, c *modelCollection, rule *Filter) modelOp {
	if r.IntN(6) == 0 {
		return r.deleteUnder(name, rule)
	}
	kind, dim := writeKind(1+r.IntN(3)), c.dim
	if dim == 0 {
		dim = 1 + r.IntN(4)
	}
	recs := make([]Record, 1+r.IntN(r.batch))
	for i := range recs {
		recs[i] = r.record(dim, kind != writeUpdate)
	}
	if kind != writeUpdate && r.IntN(3) > 0 { // mostly what is allowed
		recs = slices.DeleteFunc(recs, func(x Record) bool { return !rule.Match(modelMerge(nil, x.Metadata), nil) })
	}
	next := model{name: c}.clone()[name]
	want := next.writeUnder(rule, kind, recs)
	return modelOp{
		fmt.Sprintf("write %s kind %d of %d under a rule, refused %d", name, kind, len(recs), want),
		onCollection(name, func(ctx context.Context, c *Collection) error {
			g, err := c.Under(rule)
			if err != nil {
				return err
			}
			err = writeAs(ctx, g, kind, recs)
			if wrong, ok := errors.AsType[*RuleError](err); ok && wrong.Index == want {
				return nil
			}
			if err == nil && want >= 0 {
				return fmt.Errorf("record %d was not refused", want)
			}
			return err
		}),
		func(m model) { m[name].writeUnder(rule, kind, recs) },
	}
}

func (r *opMaker) deleteUnder(name string, rule *Filter) modelOp {
	sel := Selection{Limit: r.IntN(3)}
	for range 1 + r.IntN(4) {
		sel.IDs = append(sel.IDs, r.record(1, false).ID)
	}
	if r.IntN(2) == 0 {
		sel.Where = r.filter(1)
		if r.IntN(2) == 0 {
			sel.IDs = nil
		}
	}
	gone := func(c *modelCollection) int {
		n := 0
		return c.delete(func(x Record) bool {
			if sel.IDs != nil && !slices.Contains(sel.IDs, x.ID) || !sel.Where.Match(x.Metadata, x.Document) ||
				!rule.Match(x.Metadata, nil) || sel.Limit > 0 && n == sel.Limit {
				return false
			}
			n++
			return true
		})
	}
	want := -1
	return modelOp{
		"delete " + name + " under a rule",
		onCollection(name, func(ctx context.Context, c *Collection) error {
			g, err := c.Under(rule)
			if err != nil {
				return err
			}
			n, err := g.Delete(ctx, sel)
			if want = n; err != nil {
				want = -1
			}
			return err
		}),
		func(m model) {
			if n := gone(m[name]); want >= 0 && n != want {
				m[name] = nil // a wrong count is a wrong store
			}
		},
	}
}

// Two people with rules, and one without, work on a collection that is flushed,
// merged, closed and cut off from power. What each of them sees is at any time
// what the model holds and his rule lets through; what is refused, and which
// record of it, is what the model refuses.
func TestRuleModel(t *testing.T) {
	for seed := range uint64(rounds(*ruleSeeds)) {
		if err := ruleModelOne(t, seed); err != nil {
			t.Fatalf("seed %d (run with -rule.seeds=%d): %v", seed, seed+1, err)
		}
	}
}

func ruleModelOne(t *testing.T, seed uint64) error {
	ctx := t.Context()
	r := rand.New(rand.NewPCG(seed, 21))
	fs := faultfs.New(seed)
	ops := &opMaker{Rand: r, collections: 1, ids: 30, batch: 5}
	o := Options{MemtableRows: 1 + r.IntN(40), GraphMin: 1 + r.IntN(10), OpenSegments: 2, Workers: 1, Keys: keysOf(seed, fs)}
	db := openOn(t, fs, o)
	defer func() { db.Close() }()
	m, rules := model{}, []*Filter{ops.rule(), ops.rule()}
	create := ops.create("c0")
	if err := create.store(ctx, db); err != nil {
		return err
	}
	create.model(m)
	for i := range 80 {
		switch r.IntN(25) {
		case 0:
			fs = fs.Crash(r)
			db.Close() // on a disk without power
			db = openOn(t, fs, o)
		case 1:
			if err := db.Close(); err != nil {
				return err
			}
			db = openOn(t, fs, o)
		case 2:
			if err := db.Compact(ctx); err != nil {
				return err
			}
		case 3:
			if err := db.Flush(ctx); err != nil {
				return err
			}
		case 4:
			rules[r.IntN(2)] = ops.rule()
		}
		op := ops.write("c0", m["c0"])
		if r.IntN(4) > 0 {
			op = ops.writeUnder("c0", m["c0"], rules[r.IntN(2)])
		}
		if err := op.store(ctx, db); err != nil {
			return fmt.Errorf("%d: %s: %w", i, op.name, err)
		}
		if op.model(m); m["c0"] == nil {
			return fmt.Errorf("%d: %s: counts what the model does not delete", i, op.name)
		}
		if d, err := m.diff(ctx, db, ""); d != "" || err != nil {
			return fmt.Errorf("%d: %s: %s, %w", i, op.name, d, err)
		}
		c, err := db.Default().Collection(ctx, "c0")
		if err != nil {
			return err
		}
		for n, rule := range rules {
			if err := ops.sees(ctx, c, m["c0"], rule); err != nil {
				return fmt.Errorf("%d: after %s: principal %d: %w", i, op.name, n, err)
			}
		}
	}
	return nil
}

// sees compares what is seen under a rule with the model: all of it, its
// number, by ids, and the nearest under a filter.
func (r *opMaker) sees(ctx context.Context, c *Collection, m *modelCollection, rule *Filter) error {
	g, err := c.Under(rule)
	if err != nil {
		return err
	}
	where := r.filter(1)
	var seen, matching []Record
	for _, x := range m.records {
		if rule.Match(x.Metadata, x.Document) {
			seen = append(seen, x)
			if where.Match(x.Metadata, x.Document) {
				matching = append(matching, x)
			}
		}
	}
	if n, err := g.Count(ctx); n != len(seen) || err != nil {
		return fmt.Errorf("count %d of %d, %w", n, len(seen), err)
	}
	ids := []string{r.record(1, false).ID, r.record(1, false).ID, r.record(1, false).ID}
	byID := slices.DeleteFunc(slices.Clone(seen), func(x Record) bool { return !slices.Contains(ids, x.ID) })
	skip := r.IntN(3)
	for _, q := range []struct {
		sel  Selection
		want []Record
	}{{Selection{}, seen}, {Selection{Where: where}, matching}, {Selection{IDs: ids}, byID}, {Selection{Offset: skip, Limit: 2}, seen[min(skip, len(seen)):min(skip+2, len(seen))]}} {
		var got []Record
		for x, err := range g.Get(ctx, q.sel, IncludeAll) {
			if err != nil {
				return err
			}
			got = append(got, x)
		}
		if len(got) != len(q.want) {
			return fmt.Errorf("get %+v: %s, want %s", q.sel, idsOf(got), idsOf(q.want))
		}
		for i := range got {
			if d := diffRecord(q.want[i], got[i]); d != "" {
				return fmt.Errorf("get %+v: %s", q.sel, d)
			}
		}
	}
	if m.dim == 0 {
		return nil
	}
	q := make([]float32, m.dim)
	for i := range q {
		q[i] = float32(r.IntN(2000)-1000) / 64
	}
	for _, exact := range []bool{true, false} {
		found, err := g.QueryMany(ctx, [][]float32{q}, 10, &QueryOptions{Where: where, Exact: exact})
		if err != nil {
			return err
		}
		if err := m.nearest(q, matching, found[0], exact); err != nil {
			return fmt.Errorf("query (exact %t): %w", exact, err)
		}
	}
	return nil
}

// What counts is the rule and the record when the entry is applied: a write
// that was allowed at the door is refused when somebody took the record away
// meanwhile, and is refused again in every replay.
func TestRuleAtApply(t *testing.T) { bothWays(t, ruleAtApply) }

func ruleAtApply(t *testing.T, key OperatorKey) {
	ctx := t.Context()
	db, fs := newDB(t, Options{Keys: key})
	c := newCollection(t, db, "c")
	check(t, c.Add(ctx, of("a", "1", 1), of("a", "2", 2), of("a", "3", 3)))
	getAll(t, c, Selection{}, 0) // the state has its snapshot, so that looking at it waits for nobody
	inFlight := func(n int) {
		for {
			c.pending.mu.Lock()
			have := len(c.pending.lows)
			c.pending.mu.Unlock()
			if have == n {
				return
			}
			runtime.Gosched()
		}
	}
	g := under(t, c, team("a"))
	errs := make([]error, 4)
	var wg sync.WaitGroup
	c.applyMu.Lock()
	for i, write := range []func() error{
		func() error { return c.Update(ctx, of("b", "1"), of("b", "2")) },
		func() error { return g.Upsert(ctx, of("a", "3", 9), of("a", "1", 9)) },
		func() error { return g.Update(ctx, of("a", "3", 8), of("a", "2", 8)) },
		func() error { return g.Add(ctx, of("a", "2", 7), of("a", "4", 7)) },
	} {
		wg.Go(func() { errs[i] = write() })
		inFlight(i + 1)
	}
	c.applyMu.Unlock()
	wg.Wait()
	if wrong, ok := errors.AsType[*RuleError](errs[1]); !ok || wrong.Index != 1 {
		t.Errorf("an upsert of what is another's by now: %v", errs[1])
	}
	if err := errors.Join(errs[0], errs[2], errs[3]); err != nil {
		t.Error(err)
	}
	const want = `1 [1] {"team":"b"} none; 2 [2] {"team":"b"} none; 3 [8] {"team":"a"} none; 4 [7] {"team":"a"} none; `
	if got := showAll(getAll(t, c, Selection{}, IncludeAll)); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	again := openOn(t, fs.Clone().Crash(rand.New(rand.NewPCG(1, 1))), Options{Keys: key})
	defer again.Close()
	if got := showAll(getAll(t, collection(t, again, "c"), Selection{}, IncludeAll)); got != want {
		t.Errorf("after a crash: %s\nwant\n%s", got, want)
	}
}

// Under the hands of many, a record that is another team's has nothing in it
// that was written under the rule, and nothing that is deleted under it was
// another's. It is the same after a power cut.
func TestRuleConcurrent(t *testing.T) {
	ctx := t.Context()
	db, fs := newDB(t, busyOptions)
	c := newCollection(t, db, "c")
	g := under(t, c, team("a"))
	const ids = 8
	var wg sync.WaitGroup
	work := func(seed uint64, step func(r *rand.Rand, id string) error) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, 31))
			for range rounds(300) {
				if err := step(r, strconv.Itoa(r.IntN(ids))); err != nil && !errors.Is(err, ErrRule) {
					t.Error(err)
					return
				}
			}
		})
	}
	by := func(r Record, who string) Record {
		r.Metadata["by"] = filter.String(who)
		return r
	}
	for n := range uint64(3) {
		work(n, func(r *rand.Rand, id string) error {
			return c.Upsert(ctx, by(of([]string{"a", "b"}[r.IntN(2)], id, 1), "admin"))
		})
		work(10+n, func(r *rand.Rand, id string) error {
			switch r.IntN(4) {
			case 0:
				_, err := g.Delete(ctx, Selection{IDs: []string{id}})
				return err
			case 1:
				return g.Update(ctx, Record{ID: id, Metadata: Metadata{"by": filter.String("a")}})
			case 2:
				return g.Update(ctx, by(of("b", id), "a"))
			}
			return g.Upsert(ctx, by(of("a", id, 2), "a"))
		})
		work(20+n, func(*rand.Rand, string) error {
			for r, err := range g.Get(ctx, Selection{}, IncludeMetadata) {
				if err != nil || r.Metadata["team"].AsString() != "a" {
					return fmt.Errorf("%s: %v, %w", r.ID, r.Metadata, err)
				}
			}
			return nil
		})
	}
	wg.Wait()
	all := getAll(t, c, Selection{}, IncludeAll)
	for _, r := range all {
		if r.Metadata["team"].AsString() == "b" && r.Metadata["by"].AsString() != "admin" {
			t.Errorf("%s: %v was written under a rule that hides it", r.ID, r.Metadata)
		}
	}
	again := openOn(t, fs.Clone().Crash(rand.New(rand.NewPCG(1, 1))), busyOptions)
	defer again.Close()
	if got := showAll(getAll(t, collection(t, again, "c"), Selection{}, IncludeAll)); got != showAll(all) {
		t.Errorf("after a crash: %s\nwas\n%s", got, showAll(all))
	}
}

// A rule costs no more than the same condition sent with the query.
func BenchmarkRule(b *testing.B) {
	const rows, dim = 8000, 32
	ctx := b.Context()
	db, _ := newDB(b, Options{})
	c := newCollection(b, db, "c")
	r := rand.New(rand.NewPCG(1, 1))
	vector := func() []float32 {
		v := make([]float32, dim)
		for i := range v {
			v[i] = r.Float32()
		}
		return v
	}
	recs := make([]Record, rows)
	for i := range recs {
		recs[i] = of(strconv.Itoa(r.IntN(10)), strconv.Itoa(i), vector()...)
	}
	check(b, c.Add(ctx, recs...))
	check(b, db.Flush(ctx))
	q, rule := [][]float32{vector()}, team("1", "2", "3")
	g := under(b, c, rule)
	b.Run("query/filter", func(b *testing.B) {
		for b.Loop() {
			_, err := c.QueryMany(ctx, q, 10, &QueryOptions{Where: rule})
			check(b, err)
		}
	})
	b.Run("query/rule", func(b *testing.B) {
		for b.Loop() {
			_, err := g.QueryMany(ctx, q, 10, nil)
			check(b, err)
		}
	})
	one := Record{ID: "x", Embedding: q[0], Metadata: Metadata{"team": filter.String("1")}}
	b.Run("upsert/free", func(b *testing.B) {
		for b.Loop() {
			check(b, c.Upsert(ctx, one))
		}
	})
	b.Run("upsert/rule", func(b *testing.B) {
		for b.Loop() {
			check(b, g.Upsert(ctx, one))
		}
	})
}
