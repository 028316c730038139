package engine

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/keys"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/segment"
)

// erasure is what is known of deletions whose bytes are still in files: since
// when there are any, and what receipts will say of those in the catalog.
type erasure struct {
	run     waitLock      // held by whoever erases
	wake    chan struct{} // tells the background that there is something to erase
	opening bool          // the log is being replayed: it does not say when

	mu sync.Mutex
	// since is when the oldest deletion that is not erased was made, in
	// seconds since 1970, 0: there is none. The next checkpoint carries it, so
	// that opening the store again does not start the clock anew.
	since int64
	// later is the same of deletions that a run that goes on may not cover.
	later   int64
	running bool
	// unsure: it is not known which collections have had deletions, since that
	// was before the store was opened.
	unsure bool
	gone   []*gone
	swept  bool // a checkpoint was written since the last deletion in the catalog
}

// gone is a deletion in the catalog that has no receipt yet.
type gone struct {
	kind         goneKind
	at           int64 // seconds since 1970
	tenant       nameHash
	database     ID // zero for a reset
	databaseName nameHash
	collections  []goneCollection
	busy         []waitLock // of the collections: who holds one may be writing a file
}

// goneCollection is a collection that was deleted, with what was of it on disk.
type goneCollection struct {
	id        ID
	name      nameHash
	rows      uint64 // that were alive; of those that a crash left in the log alone, nobody knows
	destroyed int64  // when its keys were, seconds since 1970; 0: not by us
	keys      []keys.KeyInfo
	files     []segment.Info
}

type goneKind uint8

const (
	goneCollections goneKind = 1
	goneDatabase    goneKind = 2
	goneEverything  goneKind = 3
)

// nameHash stands for a name that is not to stay (hashName).
type nameHash [32]byte

// now is the one clock of the store, in seconds since 1970. It says when
// records expire, when deletions are to be erased, and what receipts show, and
// nothing else.
func now() int64 { return time.Now().Unix() }

// deathTime is when a deletion that is being applied was made. Of one that is
// replayed it is only known that it is not older than the newest checkpoint,
// or is in that checkpoint's own time.
func (db *DB) deathTime() int64 {
	if db.erasure.opening && db.checkpoint.written != 0 { // later it is another's to look at
		return db.checkpoint.written
	}
	return now()
}

// died is told before a deletion, or what overwrites, can be seen by anybody.
func (db *DB) died() {
	e := &db.erasure
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.since != 0 && (!e.running || e.later != 0) {
		return
	}
	t := max(1, db.deathTime())
	if e.running {
		e.later = t
	}
	if e.since == 0 {
		e.since = t
		e.wakeUp()
	}
}

func (e *erasure) wakeUp() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// unerased is when the oldest deletion was made that is not erased, 0: none.
func (e *erasure) unerased() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.since
}

// going describes the deletion that e is about to make; nil: none, or one that
// nobody wants a receipt of. catMu is held.
func (db *DB) going(e *catalogEntry) *gone {
	g := &gone{at: db.deathTime()}
	db.mu.RLock()
	defer db.mu.RUnlock()
	tenant, database := e.tenant, e.database
	switch e.op {
	case opDeleteCollection:
		g.kind = goneCollections
		c := db.catalog.collections[e.id]
		if c == nil {
			return nil
		}
		tenant, database = c.tenant, c.database
	case opDeleteDatabase:
		g.kind = goneDatabase
	case opReset:
		g.kind = goneEverything
		return g
	default:
		return nil
	}
	g.tenant, g.databaseName = db.hashName(tenant), db.hashName(database)
	if d := db.catalog.databases[dbKey{tenant, database}]; d != nil {
		g.database = d.ID
	}
	return g
}

// changesNames tells the entries that overwrite something in the catalog.
func (db *DB) changesNames(e *catalogEntry) bool {
	switch e.op {
	case opModifyCollection:
		return true
	case opKeep:
		db.mu.RLock()
		defer db.mu.RUnlock()
		c := db.catalog.collections[e.id]
		return c != nil && c.keep.Load() != nil
	case opSet:
		db.mu.RLock()
		defer db.mu.RUnlock()
		return e.name != auditSetting && db.catalog.settings[e.name] != nil
	case opCreateTenant, opSetTenant:
		db.mu.RLock()
		defer db.mu.RUnlock()
		old := db.catalog.tenants[e.tenant]
		return old != "" && old != e.resource
	}
	return false
}

// went keeps what a receipt will say of a deletion; catMu is held.
func (db *DB) went(g *gone, dropped []*Collection) {
	if g == nil {
		return
	}
	db.died()
	for _, c := range dropped {
		g.busy = append(g.busy, c.maint, c.jobs.one)
		gc := goneCollection{id: c.id, name: db.hashName(c.name), rows: uint64(c.state.Load().live)}
		for _, s := range c.manifest.segments {
			gc.files = append(gc.files, s.info)
		}
		g.collections = append(g.collections, gc)
	}
	e := &db.erasure
	e.mu.Lock()
	defer e.mu.Unlock()
	e.gone = append(e.gone, g)
	e.swept = false
	e.wakeUp()
}

// destroyed notes the keys that were destroyed with collections.
func (db *DB) destroyed(infos []keys.KeyInfo) {
	e := &db.erasure
	e.mu.Lock()
	defer e.mu.Unlock()
	of := map[seal.ID][]keys.KeyInfo{}
	for _, k := range infos {
		of[k.Collection] = append(of[k.Collection], k)
	}
	for _, g := range e.gone {
		for i := range g.collections {
			if c := &g.collections[i]; of[seal.ID(c.id)] != nil {
				c.keys = append(c.keys, of[seal.ID(c.id)]...)
				c.destroyed = now()
			}
		}
	}
}

// restore takes over what the newest checkpoint says, before the log is read.
func (e *erasure) restore(since int64) {
	e.since, e.unsure = since, since != 0
	e.opening = true
}

// append encodes what a checkpoint keeps of deletions in the catalog: nothing
// where there will be no receipts.
func (e *erasure) append(b []byte, receipts bool) []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !receipts {
		return append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(e.gone)))
	for _, g := range e.gone {
		b = append(b, byte(g.kind))
		b = binary.LittleEndian.AppendUint64(b, uint64(g.at))
		b = append(b, g.tenant[:]...)
		b = append(b, g.database[:]...)
		b = append(b, g.databaseName[:]...)
		b = binary.AppendUvarint(b, uint64(len(g.collections)))
		for i := range g.collections {
			b = g.collections[i].append(b)
		}
	}
	return b
}

func (c *goneCollection) append(b []byte) []byte {
	b = append(b, c.id[:]...)
	b = append(b, c.name[:]...)
	b = binary.AppendUvarint(b, c.rows)
	b = binary.LittleEndian.AppendUint64(b, uint64(c.destroyed))
	b = binary.AppendUvarint(b, uint64(len(c.keys)))
	for _, k := range c.keys {
		b = binary.LittleEndian.AppendUint32(b, k.Generation)
		b = append(b, k.File[:]...)
		b = binary.LittleEndian.AppendUint32(b, k.Wrapped)
	}
	b = binary.AppendUvarint(b, uint64(len(c.files)))
	for _, f := range c.files {
		b, _ = f.AppendBinary(b) // never fails
	}
	return b
}

// decode reads what append wrote.
func (e *erasure) decode(d *disk.Decoder, receipts bool) {
	e.gone = nil
	for range d.Count(1 + 8 + 32 + 16 + 32 + 1) {
		g := &gone{kind: goneKind(d.Byte()), at: int64(d.Uint64())}
		if d.Err() == nil && (g.kind < goneCollections || g.kind > goneEverything) {
			d.Fail("a deletion of kind %d", g.kind)
		}
		copy(g.tenant[:], d.Bytes(len(g.tenant)))
		copy(g.database[:], d.Bytes(len(g.database)))
		copy(g.databaseName[:], d.Bytes(len(g.databaseName)))
		for range d.Count(16 + 32 + 1 + 8 + 1 + 1) {
			g.collections = append(g.collections, decodeGone(d))
		}
		e.gone = append(e.gone, g)
	}
	if len(e.gone) > 0 && !receipts {
		d.Fail("deletions that wait for receipts in a plain store")
	}
}

func decodeGone(d *disk.Decoder) (c goneCollection) {
	copy(c.id[:], d.Bytes(len(c.id)))
	copy(c.name[:], d.Bytes(len(c.name)))
	c.rows = d.Uvarint()
	c.destroyed = int64(d.Uint64())
	for range d.Count(4 + 16 + 4) {
		k := keys.KeyInfo{Collection: seal.ID(c.id), Generation: d.Uint32()}
		copy(k.File[:], d.Bytes(len(k.File)))
		k.Wrapped = d.Uint32()
		c.keys = append(c.keys, k)
	}
	for range d.Count(infoSize) {
		c.files = append(c.files, segment.DecodeInfo(d))
	}
	return c
}
