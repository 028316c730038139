package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/segment"
)

// A flush freezes the memtable, writes its rows as a segment, logs an edit
// that says so, and installs the segment. Until then the frozen rows are read
// from memory; what is deleted of them meanwhile is marked by row number,
// which is the same in the segment.

// Flush writes every memtable into segments. It is not needed for durability.
func (db *DB) Flush(ctx context.Context) error {
	if err := db.enterWrite(ctx); err != nil {
		return err
	}
	defer db.leave()
	return db.flushAll(ctx)
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

// flush makes the collection's memtable a segment, after what an earlier
// flush froze and could not write.
func (db *DB) flush(ctx context.Context, c *Collection) error {
	c.maint.Lock()
	defer c.maint.Unlock()
	for {
		f, again := c.freeze()
		if f == nil {
			return nil
		}
		if err := db.flushTable(ctx, c, f); err != nil {
			return err
		}
		if !again {
			return nil
		}
	}
}

func (db *DB) flushTable(ctx context.Context, c *Collection, f *frozenTable) error {
	start := time.Now()
	var info segment.Info
	if f.len() > 0 {
		number := db.newNumber()
		defer db.files.release(number)
		var err error
		info, err = segment.Write(ctx, db.fs, db.keys, c.segmentSpec(number, newFileID(), f.dimension), f.segmentRows())
		if err != nil {
			return db.diskError(fmt.Errorf("flush collection %s: %w", c.id, err))
		}
	}
	if err := c.installFlush(f, info); err != nil {
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
// one; nil: there is nothing to flush. What an earlier flush froze and could
// not write comes first, and again tells that the memtable is to follow.
// maint is held.
func (c *Collection) freeze() (f *frozenTable, again bool) {
	c.applyMu.Lock()
	defer c.applyMu.Unlock()
	if c.dropped.Load() {
		return nil, false
	}
	old := c.state.Load()
	if old.frozen != nil {
		return old.frozen, true
	}
	if c.mem.empty() || c.usable() != nil {
		return nil, false
	}
	f = &frozenTable{
		table: c.mem.snapshot(), first: c.mem.first, last: c.mem.last, bytes: c.mem.bytes,
		nextOrder: c.nextOrder, dimension: old.dimension, keys: old.keys, deadAt: deadOf(old.dead),
	}
	c.mem = &memtable{}
	s := *old
	s.frozen, s.fdead, s.mem, s.rows = f, newDeletions(roaring.New()), c.mem.snapshot(), 0
	c.jobs.size.Store(0)
	c.state.Store(&s)
	return f, false
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
func (c *Collection) installFlush(f *frozenTable, info segment.Info) error {
	db := c.db
	db.catMu.Lock()
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
	payload, err := appendEdit(nil, c.id, m)
	if err != nil {
		return err
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
	old.release()
}
