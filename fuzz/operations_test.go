package fuzz

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/filter"
)

const maxOperations = 200

// FuzzOperations runs a program of operations on a store and on a plain list.
// Both must always say the same, whatever is in memory, in segments, or merged.
func FuzzOperations(f *testing.F) {
	for i := range uint64(12) {
		f.Add(noise(i, 1200))
	}
	f.Add([]byte("\x00\x02\x00\x01\x05add\x05more\x05rows\x07\x08\x0a\x09"))
	f.Add([]byte{1, 1, 1, 2, 0, 7, 1, 2, 3, 0, 7, 4, 5, 6, 7, 3, 2, 1, 8, 9, 4, 4, 9, 6})
	f.Add([]byte(strings.Repeat("\x01\x03abcdefgh", 30)))
	f.Fuzz(func(t *testing.T, data []byte) {
		p := newProgram(t, data)
		for i := 0; len(p.data) > 0 && i < maxOperations; i++ {
			if err := p.step(); err != nil {
				t.Fatalf("operation %d: %v\n%s", i, err, strings.Join(p.trace, "\n"))
			}
		}
		for _, step := range []func() error{p.whole, p.reopen, p.whole, p.compact, p.whole} {
			if err := step(); err != nil {
				t.Fatalf("at the end: %v\n%s", err, strings.Join(p.trace, "\n"))
			}
		}
	})
}

// program is a byte string as operations, and where they are run.
type program struct {
	data  []byte
	trace []string

	dir  string
	opts engine.Options
	db   *engine.DB
	c    *engine.Collection
	dim  int
	want model
}

func newProgram(t *testing.T, data []byte) *program {
	p := &program{data: data, dir: scratch(t)}
	p.opts = engine.Options{MemtableRows: 1 + p.below(40), GraphMin: 1 + p.below(12), Workers: 1, OpenSegments: 1 + p.below(3)}
	p.dim = 1 + p.below(5)
	p.want.metric = engine.Metric(p.below(3))
	p.note("%+v, metric %v, dimension %d", p.opts, p.want.metric, p.dim)
	var err error
	p.db, err = engine.Open(p.dir, &p.opts)
	must(t, err)
	shut(t, func() *engine.DB { return p.db })
	p.c, err = p.db.Default().Create(ctx, "docs", engine.Spec{Metric: p.want.metric, M: 2 + p.below(6)})
	must(t, err)
	return p
}

func (p *program) note(format string, args ...any) {
	p.trace = append(p.trace, fmt.Sprintf(format, args...))
}

// below takes a number under n from the program, 0 behind its end.
func (p *program) below(n int) int {
	if len(p.data) == 0 {
		return 0
	}
	b := int(p.data[0])
	p.data = p.data[1:]
	return b % n
}

func (p *program) step() error {
	switch n := p.below(16); {
	case n < 3:
		return p.write("add", p.c.Add, p.want.add, true)
	case n < 5:
		return p.write("upsert", p.c.Upsert, p.want.upsert, true)
	case n < 7:
		return p.write("update", p.c.Update, p.want.update, false)
	case n < 9:
		return p.delete()
	case n < 11:
		return p.get()
	case n < 13:
		return p.query()
	case n == 13:
		p.note("flush")
		return p.db.Flush(ctx)
	case n == 14:
		return p.compact()
	}
	return p.reopen()
}

func (p *program) write(name string, store func(c context.Context, recs ...engine.Record) error, list func(...engine.Record), full bool) error {
	recs := make([]engine.Record, 1+p.below(20))
	for i := range recs {
		recs[i] = p.record(full)
	}
	p.note("%s %q", name, texts(recs))
	if err := store(ctx, recs...); err != nil {
		return err
	}
	list(recs...)
	return nil
}

func (p *program) id() string { return fmt.Sprint("id-", p.below(64)) }

func (p *program) vector() []float32 {
	v := make([]float32, p.dim)
	for i := range v {
		v[i] = float32(p.below(9) - 4)
	}
	return v
}

// record draws one; full ones have an embedding. Its fields are few and meet.
func (p *program) record(full bool) engine.Record {
	r := engine.Record{ID: p.id()}
	shape := p.below(64)
	if full || shape&1 == 0 {
		r.Embedding = p.vector()
	}
	if shape&6 != 0 {
		r.Metadata = engine.Metadata{}
		for range shape & 6 / 2 {
			r.Metadata[p.key()] = p.value()
		}
	}
	if shape&8 != 0 {
		r.Document = engine.Optional(p.words())
	}
	if shape&48 == 48 {
		r.URI = engine.Optional(p.words())
	}
	return r
}

func (p *program) key() string { return string(rune('a' + p.below(3))) }

func (p *program) words() string {
	words := []string{"", "a", "the quick", "fox", "füchse", "$", "\x00", strings.Repeat("long ", 20)}
	return words[p.below(8)] + words[p.below(8)]
}

func (p *program) value() engine.Value {
	n := p.below(4)
	switch p.below(8) {
	case 0:
		return filter.Null()
	case 1:
		return filter.Int(int64(n) - 1)
	case 2:
		return filter.Float(float64(n)/2 - 0.5)
	case 3:
		return filter.Bool(n > 1)
	case 4:
		return filter.Ints(1, int64(n))
	case 5:
		return filter.Strings("x", p.words())
	case 6:
		return filter.Int(1<<53 + int64(n))
	}
	return filter.String(p.words())
}

func (p *program) where() *engine.Filter {
	switch p.below(12) {
	case 0:
		return filter.Eq(p.key(), p.value())
	case 1:
		return filter.Ne(p.key(), p.value())
	case 2:
		return filter.Gte(p.key(), p.value())
	case 3:
		return filter.Lt(p.key(), p.value())
	case 4:
		return filter.In(p.key(), p.value(), p.value())
	case 5:
		return filter.Nin(p.key(), p.value(), p.value())
	case 6:
		return filter.Contains(p.key(), p.value())
	case 7:
		return filter.DocumentContains(p.words())
	case 8:
		return filter.DocumentNotContains(p.words())
	case 9:
		return filter.And(p.where(), p.where())
	case 10:
		return filter.Or(p.where(), p.where())
	}
	return nil
}

// selection draws one: ids, filter, both, or neither, and perhaps a window.
func (p *program) selection() (sel engine.Selection) {
	shape := p.below(16)
	if shape&1 != 0 {
		sel.IDs = []string{}
		for range p.below(6) {
			sel.IDs = append(sel.IDs, p.id())
		}
	}
	if shape&2 != 0 {
		sel.Where = p.where()
	}
	if shape&4 != 0 {
		sel.Limit = p.below(5)
	}
	if shape&8 != 0 {
		sel.Offset = p.below(5)
	}
	return sel
}

func (p *program) delete() error {
	sel := p.selection()
	p.note("delete %+v", sel)
	got, err := p.c.Delete(ctx, sel)
	if want := p.want.delete(sel); err == nil && got != want {
		return fmt.Errorf("%d deleted, want %d", got, want)
	}
	return err
}

func (p *program) get() error {
	sel := p.selection()
	p.note("get %+v", sel)
	got, err := get(p.c, sel, engine.IncludeAll)
	if err != nil {
		return err
	}
	if d := differ(got, texts(p.want.get(sel))); d != "" {
		return fmt.Errorf("get %s", d)
	}
	return nil
}

func (p *program) query() error {
	q, k, sel := p.vector(), p.below(30), p.selection()
	sel.Limit, sel.Offset = 0, 0
	for _, exact := range []bool{true, false} {
		p.note("query %v, %d nearest of %+v, exact %v", q, k, sel, exact)
		got, err := p.c.Query(ctx, q, k, &engine.QueryOptions{IDs: sel.IDs, Where: sel.Where, Exact: exact, Include: engine.IncludeAll})
		if err != nil {
			return err
		}
		if err := p.want.checkNearest(got, q, k, sel); err != nil {
			return fmt.Errorf("exact %v: %w", exact, err)
		}
	}
	// Only so narrow a walk is cheaper than a scan of so few rows. What it
	// finds need not be the nearest.
	p.note("query %v, walking, of %+v", q, sel)
	got, err := p.c.Query(ctx, q, 1, &engine.QueryOptions{IDs: sel.IDs, Where: sel.Where, EF: 1, Include: engine.IncludeAll})
	if err != nil {
		return err
	}
	if err := p.want.checkFound(got, q, 1, sel); err != nil {
		return fmt.Errorf("walking: %w", err)
	}
	return nil
}

// checkNearest compares a query's answer. Records at the same distance may
// stand for each other.
func (m *model) checkNearest(got []engine.Match, q []float32, k int, sel engine.Selection) error {
	if err := m.checkFound(got, q, k, sel); err != nil {
		return err
	}
	_, best := m.nearest(q, k, sel)
	for i, g := range got {
		if !near(g.Distance, best[i]) {
			return fmt.Errorf("%s at %d: distance %v, want %v", g.ID, i, g.Distance, best[i])
		}
	}
	return nil
}

// checkFound wants as many records as there are, up to k: selected ones, each
// once, at their own distances, ascending.
func (m *model) checkFound(got []engine.Match, q []float32, k int, sel engine.Selection) error {
	byID, best := m.nearest(q, k, sel)
	if len(got) != len(best) {
		return fmt.Errorf("%d found, want %d", len(got), len(best))
	}
	seen := map[string]bool{}
	for i, g := range got {
		d, ok := byID[g.ID]
		switch {
		case !ok || seen[g.ID]:
			return fmt.Errorf("%s at %d is not selected, or there twice", g.ID, i)
		case !near(g.Distance, d):
			return fmt.Errorf("%s at %d: distance %v, its own is %v", g.ID, i, g.Distance, d)
		case i > 0 && g.Distance < got[i-1].Distance:
			return fmt.Errorf("%s at %d: distance %v after %v", g.ID, i, g.Distance, got[i-1].Distance)
		}
		seen[g.ID] = true
		if want := text(m.records[m.find(g.ID)]); text(g.Record) != want {
			return fmt.Errorf("at %d:\n got %s\nwant %s", i, text(g.Record), want)
		}
	}
	return nil
}

func (p *program) compact() error {
	p.note("compact")
	return p.db.Compact(ctx)
}

func (p *program) reopen() error {
	p.note("reopen")
	if err := p.db.Close(); err != nil {
		return err
	}
	db, err := engine.Open(p.dir, &p.opts)
	if err != nil {
		return err
	}
	p.db = db
	p.c, err = db.Default().Collection(ctx, "docs")
	return err
}

// whole compares everything there is.
func (p *program) whole() error {
	got, err := get(p.c, engine.Selection{}, engine.IncludeAll)
	if err != nil {
		return err
	}
	if d := differ(got, texts(p.want.records)); d != "" {
		return fmt.Errorf("all records %s", d)
	}
	n, err := p.c.Count(ctx)
	if err != nil {
		return err
	}
	if n != len(got) {
		return fmt.Errorf("count %d of %d records", n, len(got))
	}
	ids, err := getIDs(p.c, engine.Selection{})
	if err != nil {
		return err
	}
	if slices.Sort(ids); len(slices.Compact(ids)) != n {
		return fmt.Errorf("an id is there twice: %q", ids)
	}
	return p.db.Err()
}
