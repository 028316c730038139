package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/chromad/chromad/filter"
)

// model is what a store must hold, kept in plain maps: collections by name,
// records in the order of their first insertion.
type model map[string]*modelCollection

type modelCollection struct {
	metric  Metric
	dim     int
	records []Record
	keys    map[string]KindSet
}

func (m model) clone() model {
	out := model{}
	for name, c := range m {
		out[name] = &modelCollection{c.metric, c.dim, slices.Clone(c.records), maps.Clone(c.keys)}
	}
	return out
}

func (c *modelCollection) find(id string) int {
	return slices.IndexFunc(c.records, func(r Record) bool { return r.ID == id })
}

func (c *modelCollection) write(kind writeKind, recs []Record) {
	for _, r := range recs {
		i := c.find(r.ID)
		switch {
		case i >= 0 && kind != writeAdd:
			old := &c.records[i]
			if r.Embedding != nil {
				old.Embedding = r.Embedding
			}
			if r.Document != nil {
				old.Document = r.Document
			}
			if r.URI != nil {
				old.URI = r.URI
			}
			old.Metadata = modelMerge(old.Metadata, r.Metadata)
			c.learn(r.Metadata)
		case i < 0 && kind != writeUpdate:
			r.Metadata = modelMerge(nil, r.Metadata)
			c.dim = len(r.Embedding)
			c.records = append(c.records, r)
			c.learn(r.Metadata)
		}
	}
}

func (c *modelCollection) learn(m Metadata) {
	for k, v := range m {
		if v.IsNull() {
			continue
		}
		if c.keys == nil {
			c.keys = map[string]KindSet{}
		}
		c.keys[k] = c.keys[k].with(v.Kind())
	}
}

func modelMerge(old, change Metadata) Metadata {
	out := Metadata{}
	maps.Copy(out, old)
	for k, v := range change {
		if v.IsNull() {
			delete(out, k)
		} else {
			out[k] = v
		}
	}
	return out
}

func (c *modelCollection) delete(match func(Record) bool) int {
	before := len(c.records)
	c.records = slices.DeleteFunc(c.records, match)
	return before - len(c.records)
}

// modelOp is one random operation, on the store and on the model.
type modelOp struct {
	name  string
	store func(ctx context.Context, db *DB) error
	model func(m model)
}

// opMaker draws operations. Ids and collections are few, so that they meet.
type opMaker struct {
	*rand.Rand
	prefix      string // of ids and collections, so that writers do not meet
	collections int
	ids         int
	batch       int
	rules       bool // some of the writes are under a rule
}

func (r *opMaker) collection() string { return fmt.Sprintf("%sc%d", r.prefix, r.IntN(r.collections)) }

func (r *opMaker) record(dim int, full bool) Record {
	rec := Record{ID: fmt.Sprintf("%sid-%d", r.prefix, r.IntN(r.ids))}
	if full || r.IntN(2) == 0 {
		rec.Embedding = make([]float32, dim)
		for i := range rec.Embedding {
			rec.Embedding[i] = float32(r.IntN(2000)-1000) / 64
		}
	}
	if r.IntN(3) > 0 {
		rec.Metadata = Metadata{}
		for range r.IntN(4) {
			rec.Metadata[fmt.Sprintf("k%d", r.IntN(4))] = r.value()
		}
	}
	if r.IntN(2) == 0 {
		rec.Document = Optional(strings.Repeat(fmt.Sprintf("doc %d ", r.IntN(50)), r.IntN(4)))
	}
	if r.IntN(4) == 0 {
		rec.URI = Optional(fmt.Sprintf("file:///%d", r.IntN(100)))
	}
	return rec
}

func (r *opMaker) value() Value {
	switch r.IntN(6) {
	case 0:
		return filter.Null()
	case 1:
		return filter.Int(r.Int64N(5))
	case 2:
		return filter.Float(float64(r.IntN(8)) / 2)
	case 3:
		return filter.Bool(r.IntN(2) == 0)
	case 4:
		return filter.Strings("a", fmt.Sprint(r.IntN(3)))
	}
	return filter.String(fmt.Sprint("v", r.IntN(4)))
}

// op draws the next operation; m says what exists.
func (r *opMaker) op(m model) modelOp {
	name := r.collection()
	c := m[name]
	if c == nil {
		return r.create(name)
	}
	switch n := r.IntN(20); {
	case n < 4 && r.rules:
		return r.writeUnder(name, c, r.rule())
	case n < 13:
		return r.write(name, c)
	case n < 16:
		return r.deleteIDs(name)
	case n < 17:
		return r.deleteWhere(name)
	case n < 18:
		return modelOp{"flush", func(ctx context.Context, db *DB) error { return db.Flush(ctx) }, func(model) {}}
	case n < 19:
		return modelOp{"checkpoint", func(ctx context.Context, db *DB) error { return db.writeCheckpoint(ctx) }, func(model) {}}
	case r.IntN(6) == 0:
		return modelOp{"rotate keys", rotateIfKeyed, func(model) {}}
	}
	switch r.IntN(4) {
	case 1:
		return modelOp{"rest", restNow, func(model) {}}
	case 2, 3:
		return modelOp{"compact", func(ctx context.Context, db *DB) error { return db.Compact(ctx) }, func(model) {}}
	}
	return modelOp{
		"drop " + name,
		func(ctx context.Context, db *DB) error { return db.Default().Delete(ctx, name) },
		func(m model) { delete(m, name) },
	}
}

// rotateIfKeyed changes the keys of a store that has some.
func rotateIfKeyed(ctx context.Context, db *DB) error {
	if db.ring == nil {
		return nil
	}
	return db.RotateKeys(ctx, nil)
}

// restNow is what happens when every collection has come to rest, and any merge
// is worth it.
func restNow(ctx context.Context, db *DB) error {
	for _, c := range db.all() {
		_, err := c.compact(ctx, func(segments []segmentState) []int {
			if len(segments) < 2 {
				return nil
			}
			return pickAll(segments)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *opMaker) create(name string) modelOp {
	metric := Metric(r.IntN(3))
	return modelOp{
		"create " + name,
		func(ctx context.Context, db *DB) error {
			_, err := db.Default().Create(ctx, name, Spec{Metric: metric})
			return err
		},
		func(m model) { m[name] = &modelCollection{metric: metric} },
	}
}

func (r *opMaker) write(name string, c *modelCollection) modelOp {
	kind := writeKind(1 + r.IntN(3))
	dim := c.dim
	if dim == 0 {
		dim = 1 + r.IntN(4)
	}
	recs := make([]Record, 1+r.IntN(r.batch))
	for i := range recs {
		recs[i] = r.record(dim, kind != writeUpdate)
	}
	return modelOp{
		fmt.Sprintf("write %s kind %d of %d", name, kind, len(recs)),
		onCollection(name, func(ctx context.Context, c *Collection) error { return c.write(ctx, kind, recs) }),
		func(m model) { m[name].write(kind, recs) },
	}
}

func (r *opMaker) deleteIDs(name string) modelOp {
	ids := []string{r.record(1, false).ID, r.record(1, false).ID}
	return modelOp{
		"delete " + name,
		onCollection(name, func(ctx context.Context, c *Collection) error {
			_, err := c.Delete(ctx, Selection{IDs: ids})
			return err
		}),
		func(m model) {
			m[name].delete(func(r Record) bool { return slices.Contains(ids, r.ID) })
		},
	}
}

func (r *opMaker) deleteWhere(name string) modelOp {
	key, limit := fmt.Sprintf("k%d", r.IntN(4)), r.IntN(3)
	value := filter.Int(r.Int64N(5))
	return modelOp{
		"delete where " + name,
		onCollection(name, func(ctx context.Context, c *Collection) error {
			_, err := c.Delete(ctx, Selection{Where: filter.Eq(key, value), Limit: limit})
			return err
		}),
		func(m model) {
			left := limit
			m[name].delete(func(r Record) bool {
				if !filter.Eq(key, value).Match(r.Metadata, r.Document) || limit > 0 && left == 0 {
					return false
				}
				left--
				return true
			})
		},
	}
}

func onCollection(name string, f func(ctx context.Context, c *Collection) error) func(ctx context.Context, db *DB) error {
	return func(ctx context.Context, db *DB) error {
		c, err := db.Default().Collection(ctx, name)
		if err != nil {
			return err
		}
		return f(ctx, c)
	}
}

// diff compares the store with the model, only collections of the prefix:
// every record, in order, bit by bit. It returns "" when they agree.
func (m model) diff(ctx context.Context, db *DB, prefix string) (string, error) {
	names := map[string]bool{}
	for info, err := range db.Default().Collections(ctx) {
		if err != nil {
			return "", err
		}
		if !strings.HasPrefix(info.Name, prefix) {
			continue
		}
		names[info.Name] = true
		want := m[info.Name]
		if want == nil {
			return fmt.Sprintf("collection %s is there", info.Name), nil
		}
		c, err := db.Default().Collection(ctx, info.Name)
		if err != nil {
			return "", err
		}
		if d, err := want.diff(ctx, c); d != "" || err != nil {
			return info.Name + ": " + d, err
		}
	}
	for name := range m {
		if !names[name] {
			return fmt.Sprintf("collection %s is missing", name), nil
		}
	}
	return "", nil
}

func (c *modelCollection) diff(ctx context.Context, got *Collection) (string, error) {
	n := 0
	for r, err := range got.Get(ctx, Selection{}, IncludeAll) {
		if err != nil {
			return "", err
		}
		if n >= len(c.records) {
			return fmt.Sprintf("record %s is there", r.ID), nil
		}
		if d := diffRecord(c.records[n], r); d != "" {
			return fmt.Sprintf("record %d: %s", n, d), nil
		}
		n++
	}
	if n != len(c.records) {
		return fmt.Sprintf("%d records, want %d: %s is missing", n, len(c.records), c.records[n].ID), nil
	}
	if info := got.Info(); info.Dimension != c.dim || info.Spec.Metric != c.metric || !maps.Equal(info.Keys, c.keys) {
		return fmt.Sprintf("dimension %d, metric %v, keys %v, want %d, %v, %v", info.Dimension, info.Spec.Metric, info.Keys, c.dim, c.metric, c.keys), nil
	}
	count, err := got.Count(ctx)
	if err == nil && count != n {
		return fmt.Sprintf("count %d of %d records", count, n), nil
	}
	return "", err
}

func diffRecord(want, got Record) string {
	switch {
	case want.ID != got.ID:
		return fmt.Sprintf("id %s, want %s", got.ID, want.ID)
	case !slices.Equal(want.Embedding, got.Embedding):
		return fmt.Sprintf("%s: embedding %v, want %v", got.ID, got.Embedding, want.Embedding)
	case !want.Metadata.Equal(got.Metadata):
		return fmt.Sprintf("%s: metadata %v, want %v", got.ID, got.Metadata, want.Metadata)
	case !equalOptional(want.Document, got.Document):
		return fmt.Sprintf("%s: document %v, want %v", got.ID, show(got.Document), show(want.Document))
	case !equalOptional(want.URI, got.URI):
		return fmt.Sprintf("%s: uri %v, want %v", got.ID, show(got.URI), show(want.URI))
	}
	return ""
}

func equalOptional(a, b *string) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }

func show(s *string) string {
	if s == nil {
		return "none"
	}
	return fmt.Sprintf("%q", *s)
}

// findAll looks every record up by its id and by its own vector: a record
// that a scan of the store shows but that search cannot reach is lost too.
func (c *modelCollection) findAll(ctx context.Context, got *Collection) error {
	for _, r := range c.records {
		n := 0
		for g, err := range got.Get(ctx, Selection{IDs: []string{r.ID}}, IncludeAll) {
			if err != nil {
				return err
			}
			if d := diffRecord(r, g); d != "" {
				return errors.New("by id: " + d)
			}
			n++
		}
		if n != 1 {
			return fmt.Errorf("by id: %s found %d times", r.ID, n)
		}
		for _, exact := range []bool{true, false} {
			ms, err := got.Query(ctx, r.Embedding, len(c.records), &QueryOptions{Exact: exact})
			if err != nil {
				return err
			}
			i := slices.IndexFunc(ms, func(m Match) bool { return m.ID == r.ID })
			if len(ms) != len(c.records) || i < 0 {
				return fmt.Errorf("by vector (exact %v): %s at place %d of %d, %d records", exact, r.ID, i, len(ms), len(c.records))
			}
			if c.metric == L2 && ms[i].Distance != 0 {
				return fmt.Errorf("by vector: %s at distance %v from itself", r.ID, ms[i].Distance)
			}
		}
	}
	return nil
}

// drain reads to the end.
func drain[T any](seq iter.Seq2[T, error]) error {
	for _, err := range seq {
		if err != nil {
			return err
		}
	}
	return nil
}
