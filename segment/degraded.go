package segment

import (
	"context"
	"errors"
	"math/bits"
	"sync/atomic"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/disk"
)

// Graph, vectors in bytes, filter index and id table say nothing that vectors,
// metadata, documents and ids do not say. When one of them is damaged, what it stands
// for is looked at itself: slower, and never wrong. Only who meets the damage
// knows of it, so Degraded tells what has been met so far.

// damageMet is the first damage that was met in one index.
type damageMet struct{ err atomic.Pointer[error] }

func (d *damageMet) set(err error) { d.err.CompareAndSwap(nil, &err) }

func (d *damageMet) get() error {
	if p := d.err.Load(); p != nil {
		return *p
	}
	return nil
}

// Degraded is what is wrong with graph, vectors in bytes, filter index and id table, as far as
// somebody has met it: searches and lookups go without, and there is no Copy. A Merge of the segment
// alone makes all of them anew.
func (r *Reader) Degraded() error {
	_, _, graph := r.graph.peek()
	return errors.Join(graph, r.badFilter.get(), r.badTable.get(), r.badBytes.get(), r.badCopy.get())
}

// scan is Filter without the index: every row is asked.
func (r *Reader) scan(ctx context.Context, e *filter.Expr) (*roaring.Bitmap, error) {
	rows := roaring.New()
	for row := range r.rows {
		if row%checkEvery == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		m, err := r.decodeMetadata(row)
		if err != nil {
			return nil, err
		}
		doc, err := r.documents.pointer(row)
		if err != nil {
			return nil, err
		}
		if e.Match(m, doc) {
			rows.Add(row)
		}
	}
	return rows, nil
}

// ofSection tells that err is damage of that section.
func ofSection(err error, s *disk.Section) bool {
	c, ok := errors.AsType[*disk.CorruptError](err)
	p := s.Part()
	return ok && c.Offset >= p.Offset && c.Offset < p.End
}

// remade is the id table made anew from the ids, in memory: 6 bytes a row.
func (r *Reader) remade() ([]uint32, error) {
	return r.ownTable.get(context.Background(), func() ([]uint32, error) {
		mask := uint32(1)<<bits.Len32(r.rows) - 1
		table := make([]uint32, slotCount(r.rows)) // rows is bounded by the file's sections
		for row := range r.rows {
			id, err := r.ids.at(row)
			if err != nil {
				return nil, err
			}
			slot, tag := slotOf(hashID(r.seed, string(id)), r.rows, len(table))
			for table[slot]&mask != 0 {
				if slot++; slot == len(table) {
					slot = 0
				}
			}
			table[slot] = tag | (row + 1)
		}
		return table, nil
	})
}

// lookup finds the row whose id is id.
func (r *Reader) lookup(id string) (uint32, bool, error) {
	if r.badTable.get() == nil {
		row, found, err := r.probe(nil, id)
		if err == nil || !ofSection(err, r.table) {
			return row, found, err
		}
		if _, e := r.remade(); e != nil {
			return 0, false, err // the ids are damaged too
		}
		r.badTable.set(err)
	}
	table, err := r.remade()
	if err != nil {
		return 0, false, err
	}
	return r.probe(table, id)
}
