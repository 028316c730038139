package engine

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/segment"
)

// Selection says which records a read or a delete means. All that is given
// must hold.
type Selection struct {
	IDs    []string // nil: any; empty: none. Unknown and repeated ids are no error
	Where  *Filter  // nil: any
	Offset int      // records skipped, in insertion order
	Limit  int      // 0: no limit
}

func (s *Selection) check() error {
	if s.Offset < 0 || s.Limit < 0 {
		return &InvalidError{Field: "selection", Index: -1, Reason: fmt.Sprintf("offset %d, limit %d: neither may be negative", s.Offset, s.Limit)}
	}
	return nil
}

// Get yields the selected records in the order of their first insertion, with
// the fields of inc and always the ID. An error is yielded once, last. What
// is seen is the collection as it was when iteration began; stopping early
// is fine. The store must not be closed from inside the loop.
func (c *Collection) Get(ctx context.Context, sel Selection, inc Include) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := c.db.enter(ctx); err != nil {
			yield(Record{}, err)
			return
		}
		defer c.db.leave()
		if err := sel.check(); err != nil {
			yield(Record{}, err)
			return
		}
		v, err := c.visible(ctx)
		if err != nil {
			yield(Record{}, err)
			return
		}
		defer v.close()
		v.get(ctx, sel, inc)(yield)
	}
}

// cursor walks the selected rows of one source in insertion order.
type cursor struct {
	order uint64                             // of the row it stands on
	next  func() (more bool, err error)      // steps on
	load  func(inc Include, r *Record) error // reads the row it stands on
	row   func() *memRow                     // of a table: the row it stands on
}

// get merges the sources of the view by order.
func (v *view) get(ctx context.Context, sel Selection, inc Include) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		cursors, err := v.cursors(ctx, sel)
		if err != nil {
			yield(Record{}, err)
			return
		}
		for n := 0; len(cursors) > 0; n++ {
			if n%256 == 0 && ctx.Err() != nil {
				yield(Record{}, context.Cause(ctx))
				return
			}
			least := 0
			for i, cur := range cursors {
				if cur.order < cursors[least].order {
					least = i
				}
			}
			if n >= sel.Offset {
				if sel.Limit > 0 && n-sel.Offset >= sel.Limit {
					return
				}
				var r Record
				if err := cursors[least].load(inc, &r); err != nil {
					yield(Record{}, err)
					return
				}
				if !yield(r, nil) {
					return
				}
			}
			more, err := cursors[least].next()
			if err != nil {
				yield(Record{}, err)
				return
			}
			if !more {
				cursors = slices.Delete(cursors, least, least+1)
			}
		}
	}
}

// cursors returns one for each source that has a selected row, standing on
// its first.
func (v *view) cursors(ctx context.Context, sel Selection) ([]*cursor, error) {
	var out []*cursor
	add := func(c *cursor) error {
		more, err := c.next()
		if more {
			out = append(out, c)
		}
		return err
	}
	for i := range v.dead {
		rows, all, err := v.allowed(ctx, i, sel.IDs, sel.Where)
		if err != nil {
			return nil, err
		}
		reader, err := v.reader(i)
		if err != nil {
			return nil, err
		}
		if err := add(segmentCursor(reader, rows, all)); err != nil {
			return nil, err
		}
	}
	if v.frozen != nil {
		if err := add(tableCursor(v.frozen.table, v.fdead.rows, sel)); err != nil {
			return nil, err
		}
	}
	return out, add(tableCursor(v.mem, v.memDead(), sel))
}

// allowed returns the live rows of segment i that ids and where select; all
// means every row, and rows is nil then.
func (v *view) allowed(ctx context.Context, i int, ids []string, where *Filter) (rows *roaring.Bitmap, all bool, err error) {
	reader, err := v.reader(i)
	if err != nil {
		return nil, false, err
	}
	if ids != nil {
		rows = roaring.New()
		for n, id := range ids {
			if n%256 == 0 && ctx.Err() != nil {
				return nil, false, context.Cause(ctx)
			}
			row, found, err := reader.Lookup(id)
			if err != nil {
				return nil, false, err
			}
			if found {
				rows.Add(row)
			}
		}
		if rows.IsEmpty() {
			return rows, false, nil
		}
	}
	if where != nil {
		match, err := reader.Filter(ctx, where)
		if err != nil {
			return nil, false, err
		}
		if rows == nil {
			rows = match
		} else {
			rows.And(match)
		}
	}
	if rows != nil {
		rows.AndNot(v.dead[i].rows)
		return rows, false, nil
	}
	rows = v.dead[i].live(reader.Rows())
	return rows, rows == nil, nil
}

// again names the live rows of segment i that a condition holds for, and returns
// them where they are ready to be searched.
func (v *view) again(i int, where *Filter) (a segment.Again, ready *hnsw.Subset, err error) {
	reader, err := v.reader(i)
	if err == nil {
		a, ready = reader.Again(where, v.dead[i].serial)
	}
	return a, ready, err
}

func segmentCursor(reader *segment.Reader, rows *roaring.Bitmap, all bool) *cursor {
	c := &cursor{}
	var row uint32
	step := func() bool {
		row++
		return int(row) < reader.Rows()
	}
	if all {
		row-- // the first step makes it 0
	} else {
		it := rows.Iterator()
		step = func() bool {
			if !it.HasNext() {
				return false
			}
			row = it.Next()
			return true
		}
	}
	c.next = func() (bool, error) {
		if !step() {
			return false, nil
		}
		var err error
		c.order, err = reader.Order(row)
		return err == nil, err
	}
	c.load = func(inc Include, r *Record) error { return loadRow(reader, row, inc, r) }
	return c
}

// tableCursor walks the rows of t that are not dead and that sel selects.
func tableCursor(t *table, dead *roaring.Bitmap, sel Selection) *cursor {
	rows := t.selected(sel.IDs)
	at := -1
	c := &cursor{}
	c.next = func() (bool, error) {
		for at++; at < len(rows); at++ {
			r := rows[at]
			if sel.Where != nil && !sel.Where.Match(r.metadata, r.document) {
				continue
			}
			if dead != nil && !dead.IsEmpty() && dead.Contains(t.rowOf(r)) {
				continue
			}
			c.order = r.order
			return true, nil
		}
		return false, nil
	}
	c.row = func() *memRow { return rows[at] }
	c.load = func(inc Include, rec *Record) error {
		loadMemRow(rows[at], inc, rec)
		return nil
	}
	return c
}

// selected returns the rows with one of ids (nil: all) in insertion order.
func (t *table) selected(ids []string) []*memRow {
	if ids == nil {
		return t.all()
	}
	var rows []*memRow
	for _, id := range ids {
		if r, ok := t.ids.Get(id); ok {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, func(a, b *memRow) int { return cmp.Compare(a.order, b.order) })
	return slices.CompactFunc(rows, func(a, b *memRow) bool { return a.order == b.order })
}

// loadRow reads the fields of inc, copied out of the segment's memory.
func loadRow(reader *segment.Reader, row uint32, inc Include, r *Record) error {
	var err error
	if r.ID, err = reader.ID(row); err != nil {
		return err
	}
	return loadFields(reader, row, inc, r)
}

// loadFields is loadRow without the ID.
func loadFields(reader *segment.Reader, row uint32, inc Include, r *Record) error {
	if inc&IncludeEmbedding != 0 {
		v, err := reader.Vector(row)
		if err != nil {
			return err
		}
		r.Embedding = v
	}
	if inc&IncludeMetadata != 0 {
		m, err := reader.Metadata(row)
		if err != nil {
			return err
		}
		r.Metadata = m
	}
	if inc&IncludeDocument != 0 {
		if s, ok, err := reader.Document(row); err != nil {
			return err
		} else if ok {
			r.Document = &s
		}
	}
	if inc&IncludeURI != 0 {
		if s, ok, err := reader.URI(row); err != nil {
			return err
		} else if ok {
			r.URI = &s
		}
	}
	return nil
}

func loadMemRow(row *memRow, inc Include, r *Record) {
	r.ID = row.id
	if inc&IncludeEmbedding != 0 {
		r.Embedding = slices.Clone(row.vector)
	}
	if inc&IncludeMetadata != 0 {
		r.Metadata = maps.Clone(row.metadata)
	}
	if inc&IncludeDocument != 0 && row.document != nil {
		r.Document = Optional(*row.document)
	}
	if inc&IncludeURI != 0 && row.uri != nil {
		r.URI = Optional(*row.uri)
	}
}
