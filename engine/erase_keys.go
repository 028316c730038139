package engine

import (
	"context"
	"maps"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/segment"
)

// forgetKeys leaves in the collection's list of metadata keys those that a
// record has: a key that only deleted records had is a part of them. Nearly
// always the first rows have every key, and then nothing is written.
func (c *Collection) forgetKeys(ctx context.Context) error {
	if err := c.jobs.one.lock(ctx); err != nil { // segments come, and none goes
		return err
	}
	defer c.jobs.one.Unlock()
	v, err := c.view()
	if err != nil {
		return err
	}
	defer v.close()
	left := unseen{maps.Clone(v.keys)}
	if v.frozen != nil {
		left.rows(v.frozen.all())
	}
	left.rows(v.mem.rows.Values())
	old := map[uint64]bool{}
	for i, h := range v.version.segments {
		old[h.info.Number] = true
		if err := left.segment(ctx, v, i); err != nil {
			return err
		}
	}
	if left.none() {
		return nil
	}
	return c.dropKeys(ctx, left, old)
}

// dropKeys takes keys off the list, those apart that records have had since
// the segments in old were looked at.
func (c *Collection) dropKeys(ctx context.Context, left unseen, old map[uint64]bool) error {
	if err := c.maint.lock(ctx); err != nil { // so nothing is frozen
		return err
	}
	defer c.maint.Unlock()
	if err := c.db.catMu.lock(ctx); err != nil {
		return err
	}
	defer c.db.catMu.Unlock()
	c.applyMu.Lock()
	defer c.applyMu.Unlock()
	if err := c.usable(); err != nil {
		return err
	}
	s := *c.state.Load()
	left.rows(c.mem.rows.Values())
	v := &view{&s, c.db.readers, make([]*segment.Reader, len(s.dead))}
	s.version.acquire() // cannot fail: versions change under applyMu
	defer v.close()
	for i, h := range s.version.segments {
		if !old[h.info.Number] {
			if err := left.segment(ctx, v, i); err != nil {
				return err
			}
		}
	}
	if left.none() {
		return nil
	}
	m := *c.manifest
	m.keys = left.without(m.keys)
	if err := c.commitEdit(&m); err != nil {
		return err
	}
	s.keys = left.without(s.keys)
	c.state.Store(&s)
	return nil
}

// unseen are the keys, and kinds of their values, that no row has had so far.
type unseen struct{ keys map[string]KindSet }

func (u unseen) none() bool { return len(u.keys) == 0 }

func (u unseen) saw(m Metadata) {
	for k, v := range m {
		kinds, listed := u.keys[k]
		if !listed || v.Kind() == filter.KindNull {
			continue
		}
		if kinds &^= KindSet(0).with(v.Kind()); kinds == 0 {
			delete(u.keys, k)
		} else {
			u.keys[k] = kinds
		}
	}
}

func (u unseen) rows(rows []*memRow) {
	for _, r := range rows {
		if u.none() {
			return
		}
		u.saw(r.metadata)
	}
}

// segment looks at the live rows of segment i.
func (u unseen) segment(ctx context.Context, v *view, i int) error {
	if u.none() {
		return nil
	}
	r, err := v.reader(i)
	if err != nil {
		return err
	}
	dead := v.dead[i].rows
	for row := range uint32(r.Rows()) {
		if u.none() || ctx.Err() != nil {
			break
		}
		if dead.Contains(row) {
			continue
		}
		m, err := r.Metadata(row)
		if err != nil {
			return err
		}
		u.saw(m)
	}
	return ctx.Err()
}

// without returns a copy of known that lacks what was not seen.
func (u unseen) without(known map[string]KindSet) map[string]KindSet {
	out := make(map[string]KindSet, len(known))
	for k, kinds := range known {
		if kinds &^= u.keys[k]; kinds != 0 {
			out[k] = kinds
		}
	}
	return out
}
