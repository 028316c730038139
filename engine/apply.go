package engine

import (
	"fmt"
	"maps"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/mutant"
	"github.com/chromad/chromad/segment"
)

// applier applies log entries to a collection. What it does depends on the
// entries and the state alone, so replaying a log gives the same state.
// It is used with Collection.applyMu held; publish makes the result visible.
type applier struct {
	c     *Collection
	v     *view
	dead  []*roaring.Bitmap // copies of those that changed
	fdead *roaring.Bitmap
	keys  map[string]KindSet // copy, nil while unchanged
	live  int
	dim   int
	kills bool // a record was deleted or overwritten
}

func (c *Collection) newApplier() *applier {
	c.timeMemtable()
	s := c.state.Load()
	s.version.acquire() // cannot fail: versions change under applyMu
	return &applier{
		c: c, v: &view{s, c.db.readers, make([]*segment.Reader, len(s.dead))},
		dead: make([]*roaring.Bitmap, len(s.dead)), live: s.live, dim: s.dimension,
	}
}

// open opens all segments: nearly every entry looks into all of them, and
// once entries change the memtable no lack of file handles may stop it.
func (a *applier) open() error {
	for i := range a.v.readers {
		if _, err := a.v.reader(i); err != nil {
			return err // damage is met again by the entry that it concerns
		}
	}
	return nil
}

// close gives up the applier's hold on the files, published or not.
func (a *applier) close() { a.v.close() }

// publish makes everything that was applied visible at once.
func (a *applier) publish() {
	if a.kills {
		a.c.overwrote.Store(true)
		a.c.db.died()
	}
	s := *a.v.state
	s.dead = append([]*deletions(nil), s.dead...)
	for i, d := range a.dead {
		if d != nil {
			s.dead[i] = newDeletions(d)
		}
	}
	if a.fdead != nil {
		s.fdead = newDeletions(a.fdead)
	}
	if a.keys != nil {
		s.keys = a.keys
	}
	// A snapshot makes the next change copy what it touches of the trees.
	// While nobody reads, none is taken.
	if s.mem = nil; a.c.observed.Swap(false) {
		s.mem = a.c.mem.snapshot()
	} else if mutant.On(mutant.StaleView) {
		s.mem = a.v.state.mem
	}
	s.rows, s.live, s.dimension = a.c.mem.rows.Len(), a.live, a.dim
	a.c.state.Store(&s)
	a.c.wrote()
}

// place is where the live version of a record is.
type place struct {
	mem     *memRow // in the memtable, or in frozen
	frozen  bool
	segment int
	row     uint32
}

// find returns the place of the live record id. There is at most one: a
// write that replaces a record deletes the old row in the same step.
func (a *applier) find(id string) (place, bool, error) {
	if r, ok := a.c.mem.ids.Get(id); ok {
		return place{mem: r}, true, nil
	}
	if f := a.v.frozen; f != nil {
		if r, ok := f.ids.Get(id); ok {
			if row := f.rowOf(r); !a.frozenDead().Contains(row) {
				return place{mem: r, frozen: true, row: row}, true, nil
			}
		}
	}
	for i := len(a.dead) - 1; i >= 0; i-- {
		reader, err := a.v.reader(i)
		if err != nil {
			return place{}, false, err
		}
		row, found, err := reader.Lookup(id)
		if err != nil {
			return place{}, false, err
		}
		if found && !a.segmentDead(i).Contains(row) {
			return place{segment: i, row: row}, true, nil
		}
	}
	return place{}, false, nil
}

func (a *applier) frozenDead() *roaring.Bitmap {
	if a.fdead != nil {
		return a.fdead
	}
	return a.v.fdead.rows
}

func (a *applier) segmentDead(i int) *roaring.Bitmap {
	if a.dead[i] != nil {
		return a.dead[i]
	}
	return a.v.state.dead[i].rows
}

// kill takes the row at p out of the collection.
func (a *applier) kill(p place) {
	a.kills = true
	switch {
	case p.frozen:
		if a.fdead == nil {
			a.fdead = a.v.fdead.rows.Clone()
		}
		a.fdead.Add(p.row)
	case p.mem != nil:
		a.c.mem.remove(p.mem)
	default:
		if a.dead[p.segment] == nil {
			a.dead[p.segment] = a.v.state.dead[p.segment].rows.Clone()
		}
		a.dead[p.segment].Add(p.row)
	}
	a.live--
}

// load reads the whole record at p.
func (a *applier) load(p place) (*memRow, error) {
	if p.mem != nil {
		return p.mem, nil
	}
	reader, err := a.v.reader(p.segment)
	if err != nil {
		return nil, err
	}
	row := &memRow{}
	if row.order, err = reader.Order(p.row); err != nil {
		return nil, err
	}
	var rec Record
	if err := loadRow(reader, p.row, IncludeAll, &rec); err != nil {
		return nil, err
	}
	row.id, row.vector, row.metadata, row.document, row.uri = rec.ID, rec.Embedding, rec.Metadata, rec.Document, rec.URI
	row.invNorm = kernel.InvNorm(row.vector)
	return row, nil
}

// write applies an entry that judge and judgeHold let through.
func (a *applier) write(seq uint64, e *writeEntry) error {
	a.c.mem.touch(seq)
	for i := range e.records {
		r := &e.records[i]
		p, found, err := a.find(r.ID)
		if err != nil {
			return err
		}
		if found {
			gone, err := a.isOver(p, e.terms)
			if err != nil {
				return err
			}
			if found = !gone; gone && e.kind != writeUpdate {
				a.kill(p)
			}
		}
		switch {
		case found && e.kind == writeAdd, !found && e.kind == writeUpdate:
			continue
		case found:
			old, err := a.load(p)
			if err != nil {
				return err
			}
			if !e.rule.Match(old.metadata, nil) {
				continue // hidden, so an update: see judge
			}
			row := mergeRow(old, r)
			if mutant.On(mutant.UpdateMoves) {
				row.order, a.c.nextOrder = a.c.nextOrder, a.c.nextOrder+1
			}
			a.kill(p)
			a.insert(row)
		default:
			if a.dim == 0 {
				a.dim = len(r.Embedding)
			}
			if len(r.Embedding) != a.dim {
				// Checked before the entry was logged, so the log is not what was written.
				return fmt.Errorf("%w: entry %d: record of %d dimensions in a collection of %d", ErrCorrupt, seq, len(r.Embedding), a.dim)
			}
			row := newMemRow(a.c.nextOrder, r)
			given := withoutNulls(r.Metadata)
			if row.metadata = e.terms.stamped(given); len(row.metadata) > len(given) {
				a.learn(row.metadata)
			}
			if len(row.metadata) != len(r.Metadata) || e.terms != nil {
				row.bytes = rowBytes(row)
			}
			a.insert(row)
			a.c.nextOrder++
		}
		a.learn(r.Metadata)
	}
	return nil
}

func (a *applier) insert(row *memRow) {
	a.c.mem.put(row)
	a.live++
}

// learn remembers which kinds of values a key has had.
func (a *applier) learn(m Metadata) {
	for k, v := range m {
		kind := v.Kind()
		if kind == filter.KindNull {
			continue
		}
		known := a.keys
		if known == nil {
			known = a.v.state.keys
		}
		if known[k].Has(kind) {
			continue
		}
		if a.keys == nil {
			a.keys = maps.Clone(a.v.state.keys)
			if a.keys == nil {
				a.keys = map[string]KindSet{}
			}
		}
		a.keys[k] = a.keys[k].with(kind)
	}
}

// delete applies an opDelete and returns how many records went, of those that
// were not over on the terms of the caller (nil: none).
func (a *applier) delete(seq uint64, e *deleteEntry, seen *terms) (int, error) {
	a.c.mem.touch(seq)
	n := 0
	for _, id := range e.ids {
		p, found, err := a.find(id)
		if err != nil {
			return n, err
		}
		if !found {
			continue
		}
		gone, err := a.isOver(p, seen)
		if err != nil {
			return n, err
		}
		if a.kill(p); !gone {
			n++
		}
	}
	return n, nil
}

// mergeRow is old with the fields that r gives, in old's place of the order.
func mergeRow(old *memRow, r *Record) *memRow {
	row := *old
	if r.Embedding != nil {
		row.vector, row.invNorm = r.Embedding, kernel.InvNorm(r.Embedding)
	}
	if r.Metadata != nil {
		row.metadata = mergeMetadata(old.metadata, r.Metadata)
	}
	if r.Document != nil {
		row.document = r.Document
	}
	if r.URI != nil {
		row.uri = r.URI
	}
	row.bytes = rowBytes(&row)
	return &row
}

// withoutNulls is m, which the entry gives up, or a copy without its null
// values. Nothing left is nil.
func withoutNulls(m Metadata) Metadata {
	if len(m) == 0 {
		return nil
	}
	for _, v := range m {
		if v.Kind() == filter.KindNull {
			return mergeMetadata(nil, m)
		}
	}
	return m
}

// mergeMetadata sets the keys of change in old; a null value removes its
// key. Nothing left is nil.
func mergeMetadata(old, change Metadata) Metadata {
	if len(change) == 0 {
		return old
	}
	m := make(Metadata, len(old)+len(change))
	maps.Copy(m, old)
	for k, v := range change {
		if v.Kind() == filter.KindNull {
			delete(m, k)
		} else {
			m[k] = v
		}
	}
	if len(m) == 0 {
		return nil
	}
	return m
}
