package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/internal/mutant"
	"github.com/chromad/chromad/segment"
)

// A flush freezes the memtable, writes its rows as a segment, logs an edit
// that says so, and installs the segment. Until then the frozen rows are read
// from memory; what is deleted of them meanwhile is marked by row number,
// which is the same in the segment.

// Flush writes every memtable into segments. It is not needed for durability.
// When ctx ends while the disk is waited for, the step under way is left to
// itself (ErrUnknown); nothing is half done.
func (db *DB) Flush(ctx context.Context) error {
	if err := db.enterWrite(ctx); err != nil {
		return err
	}
	return db.await(ctx, func() error { return db.flushAll(ctx) })
}

// flushAll goes on past damage, which is one collection's alone.
func (db *DB) flushAll(ctx context.Context) error {
	var damage error
	for _, c := range db.largestFirst() {
		err := db.flush(ctx, c)
		if err != nil {
			c.queueFlush() // what is frozen is not to stay so
		}
		if errors.Is(err, ErrCorrupt) {
			damage = errors.Join(damage, err)
		} else if err != nil {
			return err
		}
	}
	return damage
}

// flush makes the collection's memtable a segment. After an error it is what
// it was, and what is deleted of it meanwhile need not be written.
func (db *DB) flush(ctx context.Context, c *Collection) error {
	if err := c.maint.lock(ctx); err != nil {
		return err
	}
	defer c.maint.Unlock()
	f := c.freeze()
	if f == nil {
		return nil
	}
	err := db.flushTable(ctx, c, f)
	if err != nil {
		c.thaw(f)
	}
	return err
}

func (db *DB) flushTable(ctx context.Context, c *Collection, f *frozenTable) error {
	start := time.Now()
	defer db.cores.work()()
	var info segment.Info
	if f.len() > 0 {
		number := db.newNumber()
		defer db.files.release(number)
		var err error
		info, err = segment.Write(ctx, db.fs, db.keys, c.buildSpec(number, f.dimension), f.segmentRows())
		if c.dropped.Load() && errors.Is(err, ErrKey) {
			return nil // its key is destroyed, and so is what it would have written
		}
		if err = db.written(segment.Name(number), err); err != nil {
			return db.diskError(fmt.Errorf("flush collection %s: %w", c.id, err))
		}
	}
	if err := c.installFlush(ctx, f, info); err != nil {
		if info.Rows > 0 {
			db.discard(info.Number)
		}
		return db.diskError(fmt.Errorf("flush collection %s: %w", c.id, err))
	}
	db.jobs.notifyFreed()
	c.scheduleCompact()
	db.work.flushes.add(int64(info.Rows), info.Length)
	if e := db.opts.Events.Flushed; e != nil {
		e(FlushEvent{Collection: c.id, Rows: int(info.Rows), Bytes: info.Length, Duration: time.Since(start)})
	}
	return nil
}

// freeze takes the memtable out of the writers' hands and gives them a new
// one; nil: there is nothing to flush. maint is held.
func (c *Collection) freeze() *frozenTable {
	c.applyMu.Lock()
	defer c.applyMu.Unlock()
	if c.mem.empty() || c.usable() != nil {
		return nil
	}
	old := c.state.Load()
	f := &frozenTable{
		table: c.mem.snapshot(), first: c.mem.first, last: c.mem.last, bytes: c.mem.bytes,
		nextOrder: c.nextOrder, dimension: old.dimension, keys: old.keys, deadAt: deadOf(old.dead),
	}
	c.mem = &memtable{}
	s := *old
	s.frozen, s.fdead, s.mem, s.rows = f, newDeletions(roaring.New()), c.mem.snapshot(), 0
	c.jobs.size.Store(0)
	c.jobs.read.Store(0)
	c.state.Store(&s)
	return f
}

// thaw gives the rows of f that are alive back to the memtable: they could
// not be written. maint is held.
func (c *Collection) thaw(f *frozenTable) {
	c.applyMu.Lock()
	defer c.applyMu.Unlock()
	s := *c.state.Load()
	if c.dropped.Load() || s.frozen != f {
		return
	}
	m := &memtable{first: f.first, last: max(f.last, c.mem.last)}
	if c.usable() == nil { // of a damaged collection only the positions are kept
		for n, r := range f.all() {
			if !s.fdead.rows.Contains(uint32(n)) {
				m.put(r)
			}
		}
		for _, r := range c.mem.rows.Values() {
			m.put(r)
		}
	}
	c.db.memBytes.Add(m.bytes - c.mem.bytes - f.bytes)
	c.jobs.size.Store(m.bytes)
	c.mem = m
	s.frozen, s.fdead, s.mem, s.rows = nil, nil, m.snapshot(), m.rows.Len()
	c.state.Store(&s)
}

func (t *table) segmentRows() iter.Seq2[segment.Row, error] {
	return func(yield func(segment.Row, error) bool) {
		for _, r := range t.all() {
			row := segment.Row{Order: r.order, ID: r.id, Vector: r.vector, Metadata: r.metadata, Document: r.document, URI: r.uri}
			if !yield(row, nil) {
				return
			}
		}
	}
}

// installFlush logs the edit and makes the segment (info.Rows 0: there is
// none) take the frozen table's place.
func (c *Collection) installFlush(ctx context.Context, f *frozenTable, info segment.Info) error {
	db := c.db
	if err := db.catMu.lock(ctx); err != nil {
		return err
	}
	defer db.catMu.Unlock()
	if c.dropped.Load() {
		return nil
	}
	m := &manifest{flushed: f.last, nextOrder: f.nextOrder, dimension: f.dimension, keys: f.keys}
	for i, s := range c.manifest.segments {
		m.segments = append(m.segments, segmentState{s.info, f.deadAt[i]})
	}
	if info.Rows > 0 {
		m.segments = append(m.segments, segmentState{info, roaring.New()})
	}
	if err := c.commitEdit(m); err != nil {
		return err
	}
	c.applyMu.Lock()
	defer c.applyMu.Unlock()
	s := *c.state.Load()
	handles, dead := slices.Clone(s.version.segments), slices.Clone(s.dead)
	if info.Rows > 0 {
		handles = append(handles, c.newHandle(info, f.dimension))
		dead = append(dead, s.fdead)
	}
	s.frozen, s.fdead, s.dead = nil, nil, dead
	c.install(&s, handles)
	db.memBytes.Add(-f.bytes)
	return nil
}

// commitEdit logs the collection's new manifest; catMu and maint are held.
func (c *Collection) commitEdit(m *manifest) error {
	if c.db.replaying {
		c.manifest = m
		return nil
	}
	payload, err := appendEdit(c.db.entryBuffer(0), c.id, m)
	if err != nil {
		return err
	}
	if payload, _, err = c.sealEntry(payload); err != nil {
		return err
	}
	if mutant.On(mutant.EditInstalledEarly) {
		c.manifest = m
	}
	if err := c.db.commitLocked(payload); err != nil {
		return err
	}
	c.manifest = m
	return nil
}

// install publishes s with a new set of segments; applyMu is held.
func (c *Collection) install(s *state, handles []*handle) {
	old := s.version
	s.version = newVersion(handles)
	c.state.Store(s)
	c.timed.Store(nil) // or it would keep what is in no memory any more
	c.wrote()
	old.release()
}
