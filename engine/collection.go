package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/mutant"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/segment"
)

// Spec is how a collection is made. The zero value is an l2 collection with
// the usual graph parameters.
type Spec struct {
	Metric Metric
	// M, EFConstruction and EFSearch are the parameters of the graph by their
	// names in Malkov and Yashunin, "Efficient and robust approximate nearest
	// neighbor search using HNSW graphs" (2016). 0: 16, 100, 100. M is 2 to
	// 64, EFConstruction at most 4096.
	M, EFConstruction, EFSearch int
	Metadata                    Metadata
	// Extension is kept for the caller, who alone knows what it means.
	Extension []byte
}

// Info describes a collection.
type Info struct {
	ID                     ID
	Name, Tenant, Database string
	Dimension              int // 0 until the first record is written
	Spec                   Spec
	// Keys are the metadata keys ever written, with the kinds of their values,
	// but for those that only records had that were erased.
	Keys map[string]KindSet
}

// Change is what Modify changes; nil fields are left as they are.
type Change struct {
	Name      *string
	Metadata  *Metadata // replaces the whole; empty clears it
	M         *int
	EFSearch  *int
	Extension []byte // replaces the whole
}

// Collection is a set of records with embeddings of one dimension. It is safe
// for concurrent use and needs no closing.
type Collection struct {
	db *DB
	id ID

	maint waitLock // see doc.go for the order of locks

	// Guarded by DB.mu: what the catalog says of the collection.
	name, tenant, database string
	spec                   atomic.Pointer[Spec] // changes with DB.mu held, and is replaced, so queries need no lock

	// Guarded by DB.catMu (and, to change it, maint too): the durable files.
	manifest *manifest

	unread error // why an edit after the checkpoint could not be opened

	writeMu waitLock
	sealing sealing
	pending pendingWrites

	applyMu   sync.Mutex
	mem       *memtable
	nextOrder uint64

	state    atomic.Pointer[state]
	observed atomic.Bool // a reader has taken a view since the last publication
	dropped  atomic.Bool
	// overwrote: a record was deleted or overwritten since the last erasure.
	overwrote atomic.Bool
	broken    atomic.Pointer[error]   // a log entry could not be applied: damage
	keep      atomic.Pointer[keeping] // nil: records stay, and there is no hold; changes with writeMu held
	timed     atomic.Pointer[timed]   // what of a state is not over
	behind    atomic.Int64            // since when what is over could not be deleted, in seconds since 1970; 0: it could
	jobs      collectionJobs
}

func (db *DB) newCollection(e *catalogEntry) *Collection {
	c := &Collection{db: db, id: e.id, name: e.name, tenant: e.tenant, database: e.database, maint: newWaitLock()}
	c.setSpec(e.spec)
	c.writeMu, c.jobs.one = newWaitLock(), newWaitLock()
	c.pending.init()
	c.load(&manifest{nextOrder: 1})
	return c
}

func (c *Collection) setSpec(s Spec) { c.spec.Store(&s) }

// load makes m the state of a collection that nobody uses yet.
func (c *Collection) load(m *manifest) {
	c.manifest = m
	c.mem = &memtable{}
	c.nextOrder = m.nextOrder
	handles := make([]*handle, len(m.segments))
	dead := make([]*deletions, len(m.segments))
	live := 0
	for i, s := range m.segments {
		handles[i] = c.newHandle(s.info, m.dimension)
		dead[i] = newDeletions(s.dead)
		live += int(s.info.Rows) - int(s.dead.GetCardinality())
	}
	old := c.state.Swap(&state{
		version: newVersion(handles), dead: dead, live: live,
		dimension: m.dimension, keys: m.keys,
	})
	if old != nil {
		old.version.release()
	}
}

func (c *Collection) newHandle(info segment.Info, dim int) *handle {
	return &handle{spec: c.segmentSpec(info.Number, info.File, dim), info: info, files: &c.db.files, met: degraded{c: c, number: info.Number}}
}

func (c *Collection) segmentSpec(number uint64, file seal.ID, dim int) segment.Spec {
	s := c.spec.Load()
	return segment.Spec{
		Store: c.db.store, Collection: seal.ID(c.id), Number: number, File: file,
		Dim: dim, Metric: s.Metric, GraphMin: c.db.opts.GraphMin, Cache: c.db.texts, Memory: c.db.memory,
		Graph: hnsw.Params{M: s.M, EFConstruction: s.EFConstruction, Seed: number, Bits: c.db.opts.IndexBits, Workers: c.db.opts.Workers},
	}
}

// buildSpec is the spec of a segment that the background builds: queries that
// come meanwhile find a processor.
func (c *Collection) buildSpec(number uint64, dim int) segment.Spec {
	s := c.segmentSpec(number, newFileID(), dim)
	s.Graph.Yield = c.db.cores.manners().yield
	return s
}

// Info tells what the collection is now.
func (c *Collection) Info() Info {
	c.db.mu.RLock()
	defer c.db.mu.RUnlock()
	return c.infoLocked()
}

func (c *Collection) infoLocked() Info {
	s, spec := c.state.Load(), *c.spec.Load()
	spec.Metadata, spec.Extension = maps.Clone(spec.Metadata), slices.Clone(spec.Extension)
	return Info{
		ID: c.id, Name: c.name, Tenant: c.tenant, Database: c.database,
		Dimension: s.dimension, Spec: spec, Keys: maps.Clone(s.keys),
	}
}

// ID is the collection's identity, which survives renaming.
func (c *Collection) ID() ID { return c.id }

func (c *Collection) metric() Metric { return c.spec.Load().Metric }

// usable returns why the collection cannot be used, if so.
func (c *Collection) usable() error {
	if c.dropped.Load() {
		return fmt.Errorf("collection %s: %w", c.id, ErrNotFound)
	}
	if err := c.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// view takes a consistent view of the collection, to be closed. The caller
// has entered the DB's gate.
func (c *Collection) view() (*view, error) {
	v := &view{}
	if err := c.hold(v); err != nil {
		return nil, err
	}
	return v, nil
}

// hold is view in memory that was closed, or never used.
func (c *Collection) hold(v *view) error {
	for {
		if err := c.usable(); err != nil {
			return err
		}
		s, err := c.observe()
		if err != nil {
			return err
		}
		if s.version.acquire() {
			n := len(s.dead)
			v.state, v.cache, v.readers = s, c.db.readers, slices.Grow(v.readers[:0], n)[:n]
			return nil
		}
	}
}

// observe returns the published state with its memtable. The first reader
// after writes that nobody watched waits for the batch that is being applied
// and takes the snapshot; from then on writers publish one with each state,
// until a state goes by that nobody has read.
func (c *Collection) observe() (*state, error) {
	if !c.observed.Load() { // storing costs more, and most of the time it is set
		c.observed.Store(true)
	}
	if s := c.state.Load(); s.mem != nil {
		return s, nil
	}
	c.applyMu.Lock()
	defer c.applyMu.Unlock()
	if err := c.usable(); err != nil {
		return nil, err // the memtable holds what was never published
	}
	s := c.state.Load()
	if s.mem == nil {
		c.timeMemtable()
		with := *s
		with.mem = c.mem.snapshot()
		s = &with
		c.state.Store(s)
	}
	return s, nil
}

// Count is the number of records.
func (c *Collection) Count(ctx context.Context) (int, error) {
	if err := c.db.enter(ctx); err != nil {
		return 0, err
	}
	defer c.db.leave()
	if err := c.usable(); err != nil {
		return 0, err
	}
	if !c.keeping().expires() {
		return c.state.Load().live, nil
	}
	v, err := c.visible(ctx)
	if err != nil {
		return 0, err
	}
	defer v.close()
	return v.live, nil
}

// Add inserts records. An id that exists, or that stands earlier in the
// call, is left as it is; that is no error.
func (c *Collection) Add(ctx context.Context, recs ...Record) error {
	return c.write(ctx, writeAdd, recs)
}

// Upsert inserts records whose ids are new and merges the others into what is
// there: the embedding is replaced, metadata are merged key by key (a Null
// value removes its key), a nil document or uri leaves the old one.
func (c *Collection) Upsert(ctx context.Context, recs ...Record) error {
	return c.write(ctx, writeUpsert, recs)
}

// Update merges records into those that exist, as Upsert does; nil fields,
// the embedding too, are left as they are. Unknown ids are skipped.
func (c *Collection) Update(ctx context.Context, recs ...Record) error {
	return c.write(ctx, writeUpdate, recs)
}

// Modify changes the collection's name, metadata or parameters. ErrExists:
// another collection of the database has the new name.
func (c *Collection) Modify(ctx context.Context, ch Change) error {
	if ch.Name != nil && *ch.Name == "" {
		return &InvalidError{Field: "name", Index: -1, Reason: reasonEmpty}
	}
	ch = ch.clone()
	return c.db.changeCatalog(ctx, func() (*catalogEntry, error) { return c.modified(&ch) })
}

// clone copies what the caller may change after the call.
func (ch Change) clone() Change {
	if ch.Name != nil {
		ch.Name = Optional(*ch.Name)
	}
	if ch.Metadata != nil {
		ch.Metadata = Optional(maps.Clone(*ch.Metadata))
	}
	if ch.M != nil {
		ch.M = Optional(*ch.M)
	}
	if ch.EFSearch != nil {
		ch.EFSearch = Optional(*ch.EFSearch)
	}
	ch.Extension = slices.Clone(ch.Extension)
	return ch
}

// modified is the entry that makes ch; catMu is held.
func (c *Collection) modified(ch *Change) (*catalogEntry, error) {
	if c.dropped.Load() {
		return nil, c.usable()
	}
	if k := c.keep.Load(); k != nil && k.held {
		return nil, c.heldError()
	}
	db := c.db
	db.mu.RLock()
	e := &catalogEntry{op: opModifyCollection, id: c.id, tenant: c.tenant, database: c.database, name: c.name, spec: *c.spec.Load()}
	if ch.Name != nil && *ch.Name != c.name {
		e.name = *ch.Name
		if d := db.catalog.databases[dbKey{c.tenant, c.database}]; d != nil && d.byName[e.name] != nil {
			db.mu.RUnlock()
			return nil, fmt.Errorf("collection %q: %w", e.name, ErrExists)
		}
	}
	db.mu.RUnlock()
	if ch.Metadata != nil {
		e.spec.Metadata = *ch.Metadata
	}
	if ch.M != nil {
		e.spec.M = *ch.M
	}
	if ch.EFSearch != nil {
		e.spec.EFSearch = *ch.EFSearch
	}
	if ch.Extension != nil {
		e.spec.Extension = ch.Extension
	}
	var err error
	e.spec, err = e.spec.withDefaults(&db.opts.Limits)
	return e, err
}

// breakWith marks the collection as damaged: a durable entry could not be
// applied, so what is in memory is not what the log says. Other collections
// go on.
func (c *Collection) breakWith(err error) {
	if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrKey) {
		err = fmt.Errorf("collection %s cannot be brought up to date until the store is opened again: %w", c.id, err)
	}
	c.broken.CompareAndSwap(nil, &err)
	c.db.report("apply", err, false)
}

// forsake gives up the memory of a damaged collection, which nobody can read
// or flush any more, so that it does not count against the others. The log
// keeps the entries. before is what of the memtable was accounted for;
// applyMu is held.
func (c *Collection) forsake(before int64) {
	c.db.memBytes.Add(-before)
	c.mem = &memtable{first: c.mem.first, last: c.mem.last}
	c.jobs.size.Store(0)
	c.db.jobs.notifyFreed()
}

// firstUnflushed is the sequence number of the oldest entry that is not in a
// segment yet, 0 when all are.
func (c *Collection) firstUnflushed() uint64 {
	low := c.pending.low()
	if mutant.On(mutant.CheckpointedInFlight) {
		low = 0
	}
	c.applyMu.Lock()
	defer c.applyMu.Unlock()
	if f := c.state.Load().frozen; f != nil {
		return minSeq(low, f.first)
	}
	return minSeq(low, c.mem.first)
}

// minSeq is the smaller of two sequence numbers of which 0 means none.
func minSeq(a, b uint64) uint64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// deadOf returns the rows of deletions, which are immutable once published.
func deadOf(ds []*deletions) []*roaring.Bitmap {
	out := make([]*roaring.Bitmap, len(ds))
	for i, d := range ds {
		out[i] = d.rows
	}
	return out
}
