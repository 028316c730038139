package engine

import (
	"context"
	"fmt"
	"iter"

	"github.com/chromad/chromad/filter"
)

// Guarded is a collection for somebody who may meet the records that match a
// rule and no others. The rest is as if it were not there: it is not read, not
// found, not counted, not updated and not deleted, and takes no place among
// the nearest. What is written must match the rule as it will stand there, else
// the call writes nothing and returns a RuleError.
//
// An id that is taken by a hidden record is still taken: adding it changes
// nothing and is no error, as with every id that is there; an upsert of it is
// a RuleError.
type Guarded struct {
	c    *Collection
	rule *Filter
	size int // of the rule's stored form
}

// maxRule bounds the stored form of a rule: it stands in every entry of the
// log that is written under it.
const maxRule = 1 << 20

// Under is the collection under a rule: a condition on metadata. One on the
// document is ErrInvalid, a rule without end ErrTooLarge.
func (c *Collection) Under(rule *Filter) (*Guarded, error) {
	for key := range rule.Operands() {
		if key == filter.DocumentKey {
			return nil, &InvalidError{Field: "rule", Index: -1, Reason: "a rule about records is about their metadata, not about documents"}
		}
	}
	b, err := filter.AppendExpr(nil, rule)
	if err != nil {
		return nil, fmt.Errorf("%w: rule: %w", ErrTooLarge, err)
	}
	if len(b) > maxRule {
		return nil, fmt.Errorf("%w: a rule of %d bytes, at most %d are allowed", ErrTooLarge, len(b), maxRule)
	}
	return &Guarded{c, rule, len(b)}, nil
}

// Info is Collection.Info without Keys, which tell of all records.
func (g *Guarded) Info() Info {
	i := g.c.Info()
	i.Keys = nil
	return i
}

// Add is Collection.Add of records that match the rule.
func (g *Guarded) Add(ctx context.Context, recs ...Record) error {
	return g.c.writeUnder(ctx, g, writeAdd, recs)
}

// Upsert is Collection.Upsert of records that match the rule, before and after.
func (g *Guarded) Upsert(ctx context.Context, recs ...Record) error {
	return g.c.writeUnder(ctx, g, writeUpsert, recs)
}

// Update is Collection.Update of the records that match the rule and will.
func (g *Guarded) Update(ctx context.Context, recs ...Record) error {
	return g.c.writeUnder(ctx, g, writeUpdate, recs)
}

// Delete is Collection.Delete among the records that match the rule.
func (g *Guarded) Delete(ctx context.Context, sel Selection) (int, error) {
	if sel.IDs != nil || sel.Where != nil {
		sel.Where = g.and(sel.Where)
	}
	return g.c.Delete(ctx, sel)
}

// Get is Collection.Get among the records that match the rule.
func (g *Guarded) Get(ctx context.Context, sel Selection, inc Include) iter.Seq2[Record, error] {
	sel.Where = g.and(sel.Where)
	return g.c.Get(ctx, sel, inc)
}

// QueryMany is Collection.QueryMany among the records that match the rule.
func (g *Guarded) QueryMany(ctx context.Context, vectors [][]float32, k int, opts *QueryOptions) ([][]Match, error) {
	return g.c.QueryMany(ctx, vectors, k, g.narrowed(opts))
}

// QueryEach is Collection.QueryEach among the records that match the rule.
func (g *Guarded) QueryEach(ctx context.Context, vectors [][]float32, k int, opts *QueryOptions, see func(vector int, m *Match) error) error {
	return g.c.QueryEach(ctx, vectors, k, g.narrowed(opts), see)
}

func (g *Guarded) narrowed(opts *QueryOptions) *QueryOptions {
	o := QueryOptions{}
	if opts != nil {
		o = *opts
	}
	o.Where = g.and(o.Where)
	return &o
}

// Count is the number of records that match the rule.
func (g *Guarded) Count(ctx context.Context) (int, error) {
	if g.rule == nil {
		return g.c.Count(ctx)
	}
	return g.c.countWhere(ctx, g.rule)
}

func (g *Guarded) and(where *Filter) *Filter { return filter.And(g.rule, where) }

// countWhere counts the records that match.
func (c *Collection) countWhere(ctx context.Context, where *Filter) (int, error) {
	if err := c.db.enter(ctx); err != nil {
		return 0, err
	}
	defer c.db.leave()
	v, err := c.visible(ctx)
	if err != nil {
		return 0, err
	}
	defer v.close()
	n := 0
	for i := range v.dead {
		rows, all, err := v.allowed(ctx, i, nil, where)
		if err != nil {
			return 0, err
		}
		if all {
			n += int(v.version.segments[i].info.Rows)
		} else {
			n += int(rows.GetCardinality())
		}
	}
	count := func(cur *cursor) error {
		for {
			more, err := cur.next()
			if err != nil || !more {
				return err
			}
			n++
		}
	}
	if v.frozen != nil {
		if err := count(tableCursor(v.frozen.table, v.fdead.rows, Selection{Where: where})); err != nil {
			return 0, err
		}
	}
	return n, count(tableCursor(v.mem, v.memDead(), Selection{Where: where}))
}

// admit is the check at the door: what the rule refuses now need not be logged.
// The one that counts is made when the entry is applied, where nobody comes in
// between. An addition is judged here alone: what it writes does not depend on
// what is there, and neither does the answer, or that would tell of records
// that are hidden.
func (g *Guarded) admit(ctx context.Context, kind writeKind, recs []Record, t *terms) error {
	known := map[string]Metadata{}
	if kind != writeAdd {
		v, err := g.c.visible(ctx)
		if err != nil {
			return err
		}
		defer v.close()
		ids := make([]string, len(recs))
		for i := range recs {
			ids[i] = recs[i].ID
		}
		for r, err := range v.get(ctx, Selection{IDs: ids}, IncludeMetadata) {
			if err != nil {
				return err
			}
			known[r.ID] = r.Metadata
		}
	}
	refused, err := breach(g.rule, kind, recs, t, func(id string) (Metadata, bool, error) {
		m, found := known[id]
		return m, found, nil
	})
	if refused >= 0 {
		return &RuleError{Index: refused}
	}
	return err
}

// breach is the position of the first record that may not be written under the
// rule, -1 when all may. find tells the metadata of a record that is there. A
// record that is written may be written again by a later one of the same call.
func breach(rule *Filter, kind writeKind, recs []Record, t *terms, find func(id string) (Metadata, bool, error)) (int, error) {
	written := map[string]Metadata{}
	for i := range recs {
		r := &recs[i]
		old, there := written[r.ID]
		if !there && kind != writeAdd {
			var err error
			if old, there, err = find(r.ID); err != nil {
				return -1, err
			}
		}
		hidden := there && !rule.Match(old, nil)
		if kind == writeUpdate && (!there || hidden) {
			continue // updates nothing
		}
		if kind == writeAdd {
			old, there = nil, false
		}
		m := mergeMetadata(old, r.Metadata)
		if len(old) == 0 {
			m = withoutNulls(r.Metadata)
		}
		if !there {
			m = t.stamped(m)
		}
		if hidden && kind == writeUpsert || !rule.Match(m, nil) {
			return i, nil
		}
		written[r.ID] = m
	}
	return -1, nil
}

// breachAlone is the position of the first record of an upsert that may not be
// written because it is alone: the record of its id before it in the same call
// is over, and goes when the next one comes. -1: there is none.
//
// breach does not see that, and entries that it let through are in logs: they
// have to do there what they did. So it is judged before an entry is logged,
// for which nothing but the entry has to be known.
func breachAlone(e *writeEntry) int {
	if e.rule == nil || e.kind != writeUpsert || e.terms == nil || e.terms.key == "" {
		return -1
	}
	var gone map[string]bool
	for i := range e.records {
		r := &e.records[i]
		m := r.Metadata
		if gone[r.ID] {
			if m = e.terms.stamped(withoutNulls(m)); !e.rule.Match(m, nil) {
				return i
			}
			delete(gone, r.ID)
		}
		if e.terms.over(m) {
			if gone == nil {
				gone = map[string]bool{}
			}
			gone[r.ID] = true
		}
	}
	return -1
}

// judge returns the position of the first record of e that its rule refuses,
// -1 when it refuses none.
func (a *applier) judge(e *writeEntry) (int, error) {
	if e.rule == nil {
		return -1, nil
	}
	return breach(e.rule, e.kind, e.records, e.terms, func(id string) (Metadata, bool, error) {
		p, found, err := a.find(id)
		if err != nil || !found {
			return nil, false, err
		}
		m, err := a.metadataAt(p)
		if err != nil || e.terms.over(m) {
			return nil, false, err
		}
		return m, true, nil
	})
}
