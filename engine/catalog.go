package engine

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/chromad/chromad/internal/disk"
)

// What exists on an empty store.
const (
	DefaultTenant   = "default_tenant"
	DefaultDatabase = "default_database"
)

// Tenant is the outermost of the three levels tenant, database, collection.
type Tenant struct {
	Name     string
	Resource string // set by SetTenantResource; empty: none
}

// Database is a named set of collections of a tenant.
type Database struct {
	ID           ID
	Name, Tenant string
}

type dbKey struct{ tenant, database string }

type database struct {
	Database
	byName map[string]*Collection
}

// catalog says which tenants, databases and collections there are. Its maps
// are guarded by DB.mu; they change under DB.catMu too, together with the log.
type catalog struct {
	settings    map[string][]byte // name → value, see settings.go
	tenants     map[string]string // name → resource
	databases   map[dbKey]*database
	collections map[ID]*Collection
}

func newCatalog() *catalog {
	c := &catalog{settings: map[string][]byte{}, tenants: map[string]string{}, databases: map[dbKey]*database{}, collections: map[ID]*Collection{}}
	c.tenants[DefaultTenant] = ""
	c.addDatabase(Database{Name: DefaultDatabase, Tenant: DefaultTenant})
	return c
}

func (c *catalog) addDatabase(d Database) {
	c.databases[dbKey{d.Tenant, d.Name}] = &database{d, map[string]*Collection{}}
}

// commitCatalog logs e and applies it; catMu is held, and e was checked
// against the catalog under it.
func (db *DB) commitCatalog(e *catalogEntry) error {
	if err := db.commitLocked(e.append(nil)); err != nil {
		return err
	}
	dropped, err := db.applyDropping(e)
	if err != nil {
		return err
	}
	return db.destroyKeys(dropped)
}

// applyCatalog makes e's change, in the same way when it is written and when
// the log is replayed. An entry that does not fit the catalog is corruption:
// it was checked before it was logged.
func (db *DB) applyCatalog(e *catalogEntry) error {
	_, err := db.applyDropping(e)
	return err
}

// applyDropping returns the collections that e took away.
func (db *DB) applyDropping(e *catalogEntry) ([]*Collection, error) {
	if db.changesNames(e) {
		db.died()
	}
	g := db.going(e)
	dropped, err := db.changeMaps(e)
	if err == nil {
		db.went(g, dropped)
	}
	for _, c := range dropped {
		c.retire()
	}
	return dropped, err
}

// changeMaps returns the collections that are no more.
func (db *DB) changeMaps(e *catalogEntry) (dropped []*Collection, err error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	cat := db.catalog
	key := dbKey{e.tenant, e.database}
	bad := func(what string) ([]*Collection, error) {
		return nil, fmt.Errorf("%w: log entry %d: %s", ErrCorrupt, e.op, what)
	}
	switch e.op {
	case opCreateTenant, opSetTenant:
		cat.tenants[e.tenant] = e.resource
	case opCreateDatabase:
		if cat.databases[key] != nil {
			return bad("the database exists")
		}
		cat.addDatabase(Database{ID: e.id, Name: e.database, Tenant: e.tenant})
	case opDeleteDatabase:
		d := cat.databases[key]
		if d == nil {
			return bad("no such database")
		}
		for _, c := range d.byName {
			delete(cat.collections, c.id)
			dropped = append(dropped, c)
		}
		delete(cat.databases, key)
	case opCreateCollection:
		d := cat.databases[key]
		if d == nil || d.byName[e.name] != nil {
			return bad("no such database, or the collection exists")
		}
		c := db.newCollection(e)
		d.byName[e.name], cat.collections[e.id] = c, c
	case opModifyCollection, opKeep:
		c := cat.collections[e.id]
		if c == nil {
			return bad("no such collection")
		}
		if e.op == opKeep {
			c.keep.Store(e.keep)
			break
		}
		d := cat.databases[dbKey{c.tenant, c.database}]
		delete(d.byName, c.name)
		c.name = e.name
		c.setSpec(e.spec)
		d.byName[c.name] = c
	case opDeleteCollection:
		c := cat.collections[e.id]
		if c == nil {
			return bad("no such collection")
		}
		delete(cat.databases[dbKey{c.tenant, c.database}].byName, c.name)
		delete(cat.collections, c.id)
		dropped = append(dropped, c)
	case opReset:
		dropped = slices.AppendSeq(dropped, maps.Values(cat.collections))
		db.catalog = newCatalog()
		db.catalog.settings = cat.settings
	case opSet:
		if len(e.value) == 0 {
			delete(cat.settings, e.name)
		} else {
			cat.settings[e.name] = e.value
		}
	default:
		return bad("unknown operation")
	}
	return dropped, nil
}

// retire ends the use of a collection that is no longer in the catalog. Its
// files go at the next checkpoint that nobody reads them.
func (c *Collection) retire() {
	c.applyMu.Lock()
	defer c.applyMu.Unlock()
	c.dropped.Store(true)
	s := c.state.Load()
	n := c.mem.bytes
	if s.frozen != nil {
		n += s.frozen.bytes
	}
	c.db.memBytes.Add(-n)
	bytes := int64(0)
	for _, h := range s.version.segments {
		bytes += h.info.Length
	}
	c.db.jobs.waste(bytes)
	c.db.jobs.left(c)
	s.version.release()
}

// append encodes the catalog with all manifests; catMu is held.
func (cat *catalog) append(b []byte) ([]byte, error) {
	b = binary.AppendUvarint(b, uint64(len(cat.settings)))
	for _, name := range sortedKeys(cat.settings) {
		b = appendString(b, name)
		b = appendBlob(b, cat.settings[name])
	}
	b = binary.AppendUvarint(b, uint64(len(cat.tenants)))
	for _, name := range sortedKeys(cat.tenants) {
		b = appendString(b, name)
		b = appendString(b, cat.tenants[name])
	}
	dbs := slices.SortedFunc(maps.Values(cat.databases), func(a, b *database) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Name, b.Name))
	})
	b = binary.AppendUvarint(b, uint64(len(dbs)))
	for _, d := range dbs {
		b = appendString(b, d.Tenant)
		b = appendString(b, d.Name)
		b = append(b, d.ID[:]...)
		b = binary.AppendUvarint(b, uint64(len(d.byName)))
		for _, name := range sortedKeys(d.byName) {
			c := d.byName[name]
			b = append(b, c.id[:]...)
			b = appendString(b, name)
			b = appendSpec(b, *c.spec.Load())
			var err error
			if b, err = c.manifest.append(b); err != nil {
				return nil, fmt.Errorf("collection %s: %w", c.id, err)
			}
		}
	}
	return cat.appendKeepings(b), nil
}

// appendKeepings encodes the collections with a retention or a hold, by id;
// where there are none, nothing.
func (cat *catalog) appendKeepings(b []byte) []byte {
	var kept []*Collection
	for _, c := range cat.collections {
		if c.keep.Load() != nil {
			kept = append(kept, c)
		}
	}
	if len(kept) == 0 {
		return b
	}
	slices.SortFunc(kept, func(a, b *Collection) int { return bytes.Compare(a.id[:], b.id[:]) })
	b = binary.AppendUvarint(b, uint64(len(kept)))
	for _, c := range kept {
		b = append(b, c.id[:]...)
		b = c.keep.Load().append(b)
	}
	return b
}

// decodeKeepings reads what appendKeepings wrote.
func (cat *catalog) decodeKeepings(d *disk.Decoder) {
	if d.Err() != nil || d.Len() == 0 {
		return
	}
	var last ID
	n := d.Count(len(last) + 1)
	if n == 0 {
		d.Fail("no collection with a retention, and a count of them")
	}
	for i := range n {
		var id ID
		copy(id[:], d.Bytes(len(id)))
		k := decodeKeeping(d)
		c := cat.collections[id]
		if c == nil || k == nil || i > 0 && bytes.Compare(last[:], id[:]) >= 0 {
			d.Fail("retention of collection %s, which is not there, or out of order, or none", id)
			return
		}
		c.keep.Store(k)
		last = id
	}
}

// decodeCatalog reads what append wrote into db.catalog.
func (db *DB) decodeCatalog(d *disk.Decoder) error {
	cat := &catalog{settings: map[string][]byte{}, tenants: map[string]string{}, databases: map[dbKey]*database{}, collections: map[ID]*Collection{}}
	last := ""
	for i := range d.Count(2) {
		name, value := d.String(), d.Blob()
		if i > 0 && name <= last || len(value) == 0 {
			d.Fail("setting %.80q out of order, or empty", name)
		}
		cat.settings[name], last = slices.Clone(value), name
	}
	last = ""
	for i := range d.Count(2) {
		name, resource := d.String(), d.String()
		if i > 0 && name <= last {
			d.Fail("tenant %.80q out of order", name)
		}
		cat.tenants[name], last = resource, name
	}
	lastKey := dbKey{}
	for i := range d.Count(19) {
		in := Database{Tenant: d.String(), Name: d.String()}
		copy(in.ID[:], d.Bytes(len(in.ID)))
		key := dbKey{in.Tenant, in.Name}
		if i > 0 && cmp.Or(cmp.Compare(lastKey.tenant, key.tenant), cmp.Compare(lastKey.database, key.database)) >= 0 {
			d.Fail("database %.80q out of order", in.Name)
		}
		cat.addDatabase(in)
		lastKey = key
		if err := db.decodeCollections(d, cat, in); err != nil {
			return err
		}
	}
	cat.decodeKeepings(d)
	db.catalog = cat
	return d.Done()
}

func (db *DB) decodeCollections(d *disk.Decoder, cat *catalog, in Database) error {
	byName := cat.databases[dbKey{in.Tenant, in.Name}].byName
	last := ""
	for i := range d.Count(28) {
		e := &catalogEntry{op: opCreateCollection, tenant: in.Tenant, database: in.Name}
		copy(e.id[:], d.Bytes(len(e.id)))
		e.name = d.String()
		var err error
		if e.spec, err = decodeSpec(d); err != nil {
			return err
		}
		m, err := decodeManifest(d)
		if err != nil {
			return fmt.Errorf("collection %s: %w", e.id, err)
		}
		if i > 0 && e.name <= last || cat.collections[e.id] != nil {
			return fmt.Errorf("collection %s is there twice, or out of order", e.id)
		}
		c := db.newCollection(e)
		c.load(m)
		byName[e.name], cat.collections[e.id], last = c, c, e.name
	}
	return d.Err()
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
