package engine

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

var metaSeeds = flag.Int("meta.seeds", 10, "seeds of TestMetamorphic")

// How a store is tuned, encrypted, converted, put under other keys, reopened and
// compacted decides nothing about what it answers: the same operations under
// option sets that have little in common give the same records, the same exact
// queries to the bit, and the answers of a model that evaluates filters record
// by record.
func TestMetamorphic(t *testing.T) {
	runSeeds(t, 0, rounds(*metaSeeds), metamorphicOne, func(seed uint64) string { return fmt.Sprintf("-meta.seeds=%d", seed+1) })
}

// variant is one way to run the operations.
type variant struct {
	Options
	reopen, compact, rotate int  // every so many operations, 0: never
	keyed                   bool // encrypted from the beginning
	convert, rewrap         int  // the operation before which the store is encrypted, or put under another operator's key
}

var variants = []variant{
	{Options: Options{}},
	{Options: Options{}, keyed: true},
	{Options: Options{MemtableRows: 1, GraphMin: 1, OpenSegments: 1, Workers: 1}},
	{Options: Options{MemtableRows: 1, GraphMin: 1, OpenSegments: 1, Workers: 1, SegmentMemory: 1}, keyed: true},
	{Options: Options{MemtableRows: 3, GraphMin: 2, Workers: 2, LogLimit: 4000}, reopen: 7},
	{Options: Options{MemtableRows: 3, GraphMin: 2, Workers: 2, LogLimit: 4000, SegmentMemory: 20000}, reopen: 7, rotate: 9, keyed: true},
	{Options: Options{MemtableRows: 17, GraphMin: 10000, MemoryLimit: 20000}, compact: 11, convert: 20},
	{Options: Options{MemtableRows: 17, GraphMin: 10000, MemoryLimit: 20000}, compact: 11, rotate: 23, keyed: true},
	{Options: Options{MemtableRows: 10000, GraphMin: 5, Workers: 3}, reopen: 13, compact: 17, convert: 41},
	{Options: Options{MemtableRows: 10000, GraphMin: 5, Workers: 8}, reopen: 13, compact: 17, rewrap: 31, keyed: true},
	{Options: Options{MemtableBytes: 2000, GraphMin: 20, OpenSegments: 2, TextCache: 1}, reopen: 5, compact: 3},
	{Options: Options{MemtableBytes: 2000, GraphMin: 20, OpenSegments: 2, SegmentMemory: 5000, TextCache: 1}, reopen: 5, compact: 3, rotate: 15, keyed: true},
}

func metamorphicOne(seed uint64) error {
	ctx := context.Background()
	var first []string
	for n, v := range variants {
		r := rand.New(rand.NewPCG(seed, 11))
		run := &metamorphicRun{
			variant: v, fs: faultfs.New(seed), m: model{},
			ops: &opMaker{Rand: r, collections: 2, ids: 60, batch: 12, rules: true},
			ask: &opMaker{Rand: rand.New(rand.NewPCG(seed, 12))},
		}
		answers, err := run.do(ctx)
		if err != nil {
			return fmt.Errorf("variant %d: %w", n, err)
		}
		if first == nil {
			first = answers
		}
		for i := range answers {
			if answers[i] != first[i] {
				return fmt.Errorf("question %d: variant %d answers\n%s\nvariant 0\n%s", i, n, answers[i], first[i])
			}
		}
	}
	return nil
}

type metamorphicRun struct {
	variant
	fs       *faultfs.FS
	m        model
	ops, ask *opMaker
	db       *DB
}

func (x *metamorphicRun) do(ctx context.Context) (answers []string, err error) {
	x.Options.fs, x.Options.reserve = x.fs, testReserve
	if x.keyed {
		x.Options.Keys = operator("a")
	}
	if x.db, err = Open("", &x.Options); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, x.db.Close()) }()
	for i := range 60 {
		op := x.ops.op(x.m)
		if err := x.aside(ctx, i); err != nil {
			return nil, err
		}
		if err := op.store(ctx, x.db); err != nil {
			return nil, fmt.Errorf("%s: %w", op.name, err)
		}
		op.model(x.m)
		if i%6 == 5 {
			a, err := x.question(ctx)
			if err != nil {
				return nil, fmt.Errorf("after %s: %w", op.name, err)
			}
			answers = append(answers, a)
		}
	}
	d, err := x.m.diff(ctx, x.db, "")
	if err == nil && d != "" {
		err = errors.New(d)
	}
	return answers, err
}

// aside is what the variant does before operation i, which no answer may show.
func (x *metamorphicRun) aside(ctx context.Context, i int) error {
	now := func(every int) bool { return every > 0 && i%every == every-1 }
	if now(x.compact) {
		if err := x.db.Compact(ctx); err != nil {
			return err
		}
	}
	if now(x.rotate) {
		if err := x.db.RotateKeys(ctx, nil); err != nil {
			return err
		}
	}
	once := i > 0 && (i == x.convert || i == x.rewrap)
	if !now(x.reopen) && !once {
		return nil
	}
	err := x.db.Close()
	switch {
	case err == nil && once && i == x.convert:
		x.Options.Keys = operator("a")
		err = Encrypt(ctx, "", &x.Options, nil)
	case err == nil && once:
		err = rewrapOn(ctx, x.fs, operator("a"), operator("b"))
		x.Options.Keys = operator("b")
	}
	if err != nil {
		return err
	}
	x.db, err = Open("", &x.Options)
	return err
}

// question asks each collection a Get and an exact query with a random filter.
func (x *metamorphicRun) question(ctx context.Context) (string, error) {
	out := ""
	where := x.ask.filter(2)
	for _, name := range sortedKeys(x.m) {
		want := x.m[name]
		c, err := x.db.Default().Collection(ctx, name)
		if err != nil {
			return "", err
		}
		var matching []Record
		for _, r := range want.records {
			if where.Match(r.Metadata, r.Document) {
				matching = append(matching, r)
			}
		}
		i := 0
		for r, err := range c.Get(ctx, Selection{Where: where}, IncludeAll) {
			if err != nil {
				return "", err
			}
			if i >= len(matching) || diffRecord(matching[i], r) != "" {
				return "", fmt.Errorf("%s: record %d under a filter is %s: %v", name, i, r.ID, r.Metadata)
			}
			i++
		}
		if i < len(matching) {
			return "", fmt.Errorf("%s: %s is missing under a filter", name, matching[i].ID)
		}
		q := make([]float32, want.dim)
		for i := range q {
			q[i] = float32(x.ask.IntN(2000)-1000) / 64
		}
		for _, exact := range []bool{true, false} {
			found, err := c.Query(ctx, q, 10, &QueryOptions{Where: where, Exact: exact})
			if err != nil {
				return "", err
			}
			if err := want.nearest(q, matching, found, exact); err != nil {
				return "", fmt.Errorf("%s (exact %v): %w", name, exact, err)
			}
			if exact {
				for _, f := range found {
					out += fmt.Sprintf("%s %x; ", f.ID, math.Float32bits(f.Distance))
				}
			}
		}
		out += "\n"
	}
	return out, nil
}

// nearest compares found with a scan of matching. A walk of the graph may miss
// some, but what it finds is right.
func (c *modelCollection) nearest(q []float32, matching []Record, found []Match, exact bool) error {
	distance := map[string]float32{}
	for _, r := range matching {
		distance[r.ID] = kernel.Distance(c.metric, q, r.Embedding)
	}
	best := slices.SortedFunc(func(yield func(float32) bool) {
		for _, d := range distance {
			if !yield(d) {
				return
			}
		}
	}, cmp.Compare)
	if want := min(10, len(matching)); len(found) != want {
		return fmt.Errorf("%d found, want %d", len(found), want)
	}
	for i, f := range found {
		d, ok := distance[f.ID]
		if !ok || !near(d, f.Distance) {
			return fmt.Errorf("%s at distance %v, want %v (matches: %v)", f.ID, f.Distance, d, ok)
		}
		if exact && !near(best[i], f.Distance) {
			return fmt.Errorf("place %d is %s at distance %v, want one at %v", i, f.ID, f.Distance, best[i])
		}
	}
	return nil
}

// near allows for sums in another order.
func near(a, b float32) bool {
	return a == b || math.Abs(float64(a-b)) <= 1e-5*(1+math.Abs(float64(a)))
}

// filter draws a condition on the metadata and documents that opMaker makes.
func (r *opMaker) filter(depth int) *Filter {
	key := fmt.Sprintf("k%d", r.IntN(4))
	v := r.value()
	for v.IsNull() || v.Kind().IsArray() {
		v = r.value()
	}
	if depth > 0 && r.IntN(2) == 0 {
		kids := []*Filter{r.filter(depth - 1), r.filter(depth - 1)}
		if r.IntN(2) == 0 {
			return filter.And(kids...)
		}
		return filter.Or(kids...)
	}
	number := filter.Float(float64(r.IntN(8)) / 2)
	switch r.IntN(11) {
	case 0:
		return filter.Ne(key, v)
	case 1:
		return filter.Gt(key, number)
	case 2:
		return filter.Lte(key, number)
	case 3:
		return filter.In(key, v)
	case 4:
		return filter.Nin(key, v)
	case 5:
		return filter.Contains(key, filter.String("a"))
	case 6:
		return filter.DocumentContains(fmt.Sprint("doc ", r.IntN(50)))
	case 7:
		return filter.DocumentNotContains(fmt.Sprint(r.IntN(10)))
	case 8:
		return filter.Lt(key, number)
	case 9:
		return filter.Gte(key, number)
	}
	return filter.Eq(key, v)
}
