package engine

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/segment"
)

// collectionCheck compares the parts of one collection with each other.
type collectionCheck struct {
	*checkup
	c       *Collection
	state   *state
	mem     *table // the memtable, nil when nobody can read it
	readers []*segment.Reader
	orders  []uint64 // of all live rows
	live    int64
	whole   bool // all that was read so far is as it should be
}

// collection checks the segments of c, each on its own and with the others.
func (k *checkup) collection(c *Collection) error {
	k.report.Collections++
	cc := &collectionCheck{checkup: k, c: c, whole: true}
	close, err := cc.take()
	if err != nil {
		return ignoreDropped(err)
	}
	defer close()
	for i, h := range cc.state.version.segments {
		if err := cc.segment(i, h); err != nil {
			return err
		}
	}
	if err := cc.rows(); err != nil {
		return err
	}
	if cc.whole {
		if err := cc.everyID(); err != nil {
			return err
		}
	}
	k.report.Records += cc.live
	return nil
}

// take holds on to a state of the collection.
func (cc *collectionCheck) take() (close func(), err error) {
	c := cc.c
	cc.readers = make([]*segment.Reader, len(c.state.Load().dead))
	if err := c.usable(); err != nil && !errors.Is(err, ErrNotFound) {
		cc.tell(Damage, c, "", "", err)
		cc.whole = false
		cc.state = c.state.Load() // as of the last entry that could be applied
		return cc.closeReaders, nil
	}
	v, err := c.view()
	if err != nil {
		return nil, err
	}
	cc.state, cc.mem = v.state, v.mem
	cc.readers = make([]*segment.Reader, len(v.dead))
	return func() {
		cc.closeReaders()
		v.close()
	}, nil
}

func (cc *collectionCheck) closeReaders() {
	for i, r := range cc.readers {
		switch {
		case r == nil:
		case cc.open:
			cc.db.readers.release(cc.state.version.segments[i])
		default:
			r.Close()
		}
	}
}

// damaged tells a finding of the collection.
func (cc *collectionCheck) damaged(file, format string, args ...any) {
	cc.whole = false
	cc.tell(Damage, cc.c, file, "", fmt.Errorf(format, args...))
}

// segment opens and checks one segment.
func (cc *collectionCheck) segment(i int, h *handle) error {
	name := segment.Name(h.info.Number)
	cc.report.Segments++
	var r *segment.Reader
	var damage, err error
	if cc.open {
		r, err = cc.db.readers.acquire(h)
		if errors.Is(err, ErrCorrupt) {
			damage, err = err, nil
		}
	} else {
		r, damage, err = segment.OpenDamaged(cc.db.fs, cc.db.keys, h.spec, h.info)
	}
	if errors.Is(err, ErrKey) {
		damage, err = err, nil // of this collection alone
	}
	if err != nil {
		return err
	}
	if damage != nil {
		cc.whole = false
		cc.tell(Damage, cc.c, name, "", damage)
	}
	if r == nil {
		return nil
	}
	cc.readers[i] = r
	return r.Check(cc.ctx, cc.step, func(f segment.Finding) {
		cc.whole = cc.whole && f.Index
		cc.tell(severityOf(f), cc.c, name, sectionOf(f), f.Err)
	})
}

// rows walks all live rows: no id and no order may be there twice, and the
// collection must know every metadata key. A row that cannot be read was told.
func (cc *collectionCheck) rows() error {
	for i, r := range cc.readers {
		if r == nil {
			cc.whole = false
			continue
		}
		dead := cc.state.dead[i].rows
		for row := range uint32(r.Rows()) {
			if row%256 == 0 && cc.ctx.Err() != nil {
				return cc.ctx.Err()
			}
			if dead.Contains(row) {
				continue
			}
			cc.live++
			if err := cc.row(i, row); err != nil && !errors.Is(err, ErrCorrupt) {
				return err
			}
		}
	}
	var tables []*memRow
	if f := cc.state.frozen; f != nil {
		for n, m := range f.all() {
			if !cc.state.fdead.rows.Contains(uint32(n)) {
				tables = append(tables, m)
			}
		}
	}
	if cc.mem != nil {
		tables = append(tables, cc.mem.all()...)
	}
	for _, m := range tables {
		cc.live++
		cc.orders = append(cc.orders, m.order)
		cc.known(m.id, m.metadata)
	}
	if cc.mem != nil && cc.live != int64(cc.state.live) {
		cc.damaged("", "%d records are alive, the collection counts %d", cc.live, cc.state.live)
	}
	slices.Sort(cc.orders)
	for i := 1; i < len(cc.orders); i++ {
		if cc.orders[i] == cc.orders[i-1] {
			cc.damaged("", "two records have the order %d", cc.orders[i])
		}
	}
	next := uint64(math.MaxUint64) // of an open store, where it moves on while this is read
	if !cc.open {
		next = max(cc.c.manifest.nextOrder, cc.c.nextOrder)
	}
	if n := len(cc.orders); n > 0 && cc.orders[n-1] >= next {
		cc.damaged("", "a record has the order %d, and the next one to be given is %d", cc.orders[n-1], next)
	}
	return nil
}

func (cc *collectionCheck) row(i int, row uint32) error {
	r := cc.readers[i]
	order, err := r.Order(row)
	if err != nil {
		return err
	}
	cc.orders = append(cc.orders, order)
	id, err := r.ID(row)
	if err != nil {
		return err
	}
	name := segment.Name(cc.state.version.segments[i].info.Number)
	for j := i + 1; j < len(cc.readers); j++ {
		if cc.readers[j] == nil {
			continue
		}
		other, found, err := cc.readers[j].Lookup(id)
		if err == nil && found && !cc.state.dead[j].rows.Contains(other) {
			cc.damaged(name, "row %d has the id %q, and so has row %d of segment %d", row, id, other, cc.state.version.segments[j].info.Number)
		}
	}
	if f := cc.state.frozen; f != nil {
		if m, found := f.ids.Get(id); found && !cc.state.fdead.rows.Contains(f.rowOf(m)) {
			cc.damaged(name, "row %d has the id %q of a record in memory", row, id)
		}
	}
	if cc.mem != nil {
		if _, found := cc.mem.ids.Get(id); found {
			cc.damaged(name, "row %d has the id %q of a record in memory", row, id)
		}
	}
	m, err := r.Metadata(row)
	if err != nil {
		return err
	}
	cc.known(id, m)
	return nil
}

func (cc *collectionCheck) known(id string, m Metadata) {
	for key, v := range m {
		if v.Kind() != filter.KindNull && !cc.state.keys[key].Has(v.Kind()) {
			cc.damaged("", "record %q has the metadata key %q of a kind that the collection does not know", id, key)
		}
	}
}

// everyID asks for each record by its id, as users do.
func (cc *collectionCheck) everyID() error {
	v := &view{state: cc.state, cache: cc.db.readers, readers: cc.readers}
	state := *cc.state
	state.mem = cc.mem
	v.state = &state
	var ids []string
	ask := func() error {
		if len(ids) == 0 { // which would be all
			return nil
		}
		n := 0
		for _, err := range v.get(cc.ctx, Selection{IDs: ids}, 0) {
			if err != nil {
				return err
			}
			n++
		}
		if n != len(ids) {
			cc.damaged("", "of %d records, %d are found by their ids: %.200q", len(ids), n, ids)
		}
		ids = ids[:0]
		return nil
	}
	for i, r := range cc.readers {
		live := roaring.Flip(cc.state.dead[i].rows, 0, uint64(r.Rows()))
		for it := live.Iterator(); it.HasNext(); {
			id, err := r.ID(it.Next())
			if err != nil {
				return err
			}
			if ids = append(ids, id); len(ids) == 1000 {
				if err := ask(); err != nil {
					return err
				}
			}
		}
	}
	if f := cc.state.frozen; f != nil {
		for _, m := range f.all() {
			if !cc.state.fdead.rows.Contains(f.rowOf(m)) {
				ids = append(ids, m.id)
			}
		}
	}
	for _, m := range cc.mem.all() {
		ids = append(ids, m.id)
	}
	return ask()
}
