package engine

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"iter"
	"math"
	"slices"

	"github.com/chromad/chromad/hnsw"
)

// CreateTenant makes a tenant. ErrExists.
func (db *DB) CreateTenant(ctx context.Context, name string) error {
	return db.changeCatalog(ctx, func() (*catalogEntry, error) {
		if _, ok := db.catalog.tenants[name]; ok {
			return nil, fmt.Errorf("tenant %q: %w", name, ErrExists)
		}
		return &catalogEntry{op: opCreateTenant, tenant: name}, nil
	})
}

// SetTenantResource sets the resource name of a tenant, which need not have
// been created before.
func (db *DB) SetTenantResource(ctx context.Context, name, resource string) error {
	return db.changeCatalog(ctx, func() (*catalogEntry, error) {
		return &catalogEntry{op: opSetTenant, tenant: name, resource: resource}, nil
	})
}

// Tenant looks a tenant up. ErrNotFound.
func (db *DB) Tenant(ctx context.Context, name string) (Tenant, error) {
	if err := db.enter(ctx); err != nil {
		return Tenant{}, err
	}
	defer db.leave()
	db.mu.RLock()
	defer db.mu.RUnlock()
	resource, ok := db.catalog.tenants[name]
	if !ok {
		return Tenant{}, fmt.Errorf("tenant %q: %w", name, ErrNotFound)
	}
	return Tenant{name, resource}, nil
}

// CreateDatabase makes a database. ErrExists. The tenant need not have been
// created.
func (db *DB) CreateDatabase(ctx context.Context, tenant, name string) (Database, error) {
	d := Database{ID: newID(), Name: name, Tenant: tenant}
	err := db.changeCatalog(ctx, func() (*catalogEntry, error) {
		if db.catalog.databases[dbKey{tenant, name}] != nil {
			return nil, fmt.Errorf("database %q: %w", name, ErrExists)
		}
		return &catalogEntry{op: opCreateDatabase, tenant: tenant, database: name, id: d.ID}, nil
	})
	return d, err
}

// Database looks a database up. ErrNotFound.
func (db *DB) Database(ctx context.Context, tenant, name string) (Database, error) {
	if err := db.enter(ctx); err != nil {
		return Database{}, err
	}
	defer db.leave()
	db.mu.RLock()
	defer db.mu.RUnlock()
	d := db.catalog.databases[dbKey{tenant, name}]
	if d == nil {
		return Database{}, fmt.Errorf("database %q: %w", name, ErrNotFound)
	}
	return d.Database, nil
}

// Databases yields the databases of a tenant by name, byte-wise.
func (db *DB) Databases(ctx context.Context, tenant string) iter.Seq2[Database, error] {
	return func(yield func(Database, error) bool) {
		if err := db.enter(ctx); err != nil {
			yield(Database{}, err)
			return
		}
		defer db.leave()
		var found []Database
		db.mu.RLock()
		for k, d := range db.catalog.databases {
			if k.tenant == tenant {
				found = append(found, d.Database)
			}
		}
		db.mu.RUnlock()
		slices.SortFunc(found, func(a, b Database) int { return cmp.Compare(a.Name, b.Name) })
		for _, d := range found {
			if !yield(d, nil) {
				return
			}
		}
	}
}

// DeleteDatabase deletes a database with its collections. ErrNotFound; ErrHeld:
// one of them is under legal hold.
func (db *DB) DeleteDatabase(ctx context.Context, tenant, name string) error {
	return db.changeCatalog(ctx, func() (*catalogEntry, error) {
		if db.catalog.databases[dbKey{tenant, name}] == nil {
			return nil, fmt.Errorf("database %q: %w", name, ErrNotFound)
		}
		if err := db.held(func(c *Collection) bool { return c.tenant == tenant && c.database == name }); err != nil {
			return nil, err
		}
		return &catalogEntry{op: opDeleteDatabase, tenant: tenant, database: name}, nil
	})
}

// Reset deletes everything; the default tenant and database come back. ErrHeld:
// a collection is under legal hold.
func (db *DB) Reset(ctx context.Context) error {
	return db.changeCatalog(ctx, func() (*catalogEntry, error) {
		if err := db.held(func(*Collection) bool { return true }); err != nil {
			return nil, err
		}
		return &catalogEntry{op: opReset}, nil
	})
}

// changeCatalog logs and applies the entry that check returns (nil: nothing).
// check sees the catalog as it will be when the entry is applied.
func (db *DB) changeCatalog(ctx context.Context, check func() (*catalogEntry, error)) error {
	if err := db.enterWrite(ctx); err != nil {
		return err
	}
	return db.await(ctx, func() error {
		if err := db.catMu.lock(ctx); err != nil {
			return err
		}
		defer db.catMu.Unlock()
		e, err := check()
		if err != nil || e == nil {
			return err
		}
		return db.commitCatalog(e)
	})
}

// A Namespace is one database of one tenant. Collections are reached only
// through it, so an id of another tenant's collection is simply not found.
type Namespace struct {
	db  *DB
	key dbKey
}

// Namespace returns the namespace of a database, which need not exist.
func (db *DB) Namespace(tenant, database string) *Namespace {
	return &Namespace{db, dbKey{tenant, database}}
}

// Default is the namespace that exists on every store.
func (db *DB) Default() *Namespace { return db.Namespace(DefaultTenant, DefaultDatabase) }

// Create makes a collection. ErrExists; ErrNotFound when the database is missing.
func (n *Namespace) Create(ctx context.Context, name string, spec Spec) (*Collection, error) {
	c, created, err := n.GetOrCreate(ctx, name, spec)
	if err == nil && !created {
		return nil, fmt.Errorf("collection %q: %w", name, ErrExists)
	}
	return c, err
}

// GetOrCreate returns the collection of that name as it is, or makes it.
func (n *Namespace) GetOrCreate(ctx context.Context, name string, spec Spec) (c *Collection, created bool, err error) {
	spec, err = spec.withDefaults(&n.db.opts.Limits)
	if err != nil {
		return nil, false, err
	}
	if name == "" {
		return nil, false, &InvalidError{Field: "name", Index: -1, Reason: reasonEmpty}
	}
	if err := n.db.enterWrite(ctx); err != nil {
		return nil, false, err
	}
	var out struct { // read only when await has waited
		c       *Collection
		created bool
	}
	err = n.db.await(ctx, func() error {
		if err := n.db.catMu.lock(ctx); err != nil {
			return err
		}
		defer n.db.catMu.Unlock()
		d := n.db.catalog.databases[n.key]
		if d == nil {
			return fmt.Errorf("database %q: %w", n.key.database, ErrNotFound)
		}
		if out.c = d.byName[name]; out.c != nil {
			return nil
		}
		e := &catalogEntry{op: opCreateCollection, tenant: n.key.tenant, database: n.key.database, name: name, id: newID(), spec: spec}
		if err := n.db.createCollection(e); err != nil {
			return err
		}
		out.c, out.created = d.byName[name], true
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	return out.c, out.created, nil
}

// withDefaults checks a spec and fills in what is zero.
func (s Spec) withDefaults(lim *Limits) (Spec, error) {
	if s.Metric > IP {
		return s, &InvalidError{Field: "metric", Index: -1, Reason: fmt.Sprintf("%d is none of l2, cosine, ip", s.Metric)}
	}
	for _, p := range []struct {
		name string
		v    *int
		def  int
	}{{"M", &s.M, 16}, {"EFConstruction", &s.EFConstruction, 100}, {"EFSearch", &s.EFSearch, 100}} {
		if *p.v < 0 || *p.v > math.MaxInt32 {
			return s, &InvalidError{Field: p.name, Index: -1, Reason: fmt.Sprintf("%d is not within 0 to 2^31-1", *p.v)}
		}
		setDefault(p.v, p.def)
	}
	if err := (hnsw.Params{M: s.M, EFConstruction: s.EFConstruction}).Check(); err != nil {
		return s, &InvalidError{Field: "graph", Index: -1, Reason: err.Error()}
	}
	if _, err := checkMetadata(s.Metadata, -1, lim); err != nil {
		return s, err
	}
	s.Metadata = mergeMetadata(nil, s.Metadata)
	s.Extension = bytes.Clone(s.Extension)
	return s, nil
}

// Collection looks a collection up by name. ErrNotFound.
func (n *Namespace) Collection(ctx context.Context, name string) (*Collection, error) {
	if err := n.db.enter(ctx); err != nil {
		return nil, err
	}
	defer n.db.leave()
	n.db.mu.RLock()
	defer n.db.mu.RUnlock()
	if d := n.db.catalog.databases[n.key]; d != nil && d.byName[name] != nil {
		return d.byName[name], nil
	}
	return nil, fmt.Errorf("collection %q: %w", name, ErrNotFound)
}

// CollectionByID looks a collection up. One of another database is ErrNotFound.
func (n *Namespace) CollectionByID(ctx context.Context, id ID) (*Collection, error) {
	if err := n.db.enter(ctx); err != nil {
		return nil, err
	}
	defer n.db.leave()
	n.db.mu.RLock()
	defer n.db.mu.RUnlock()
	if c := n.db.catalog.collections[id]; c != nil && c.tenant == n.key.tenant && c.database == n.key.database {
		return c, nil
	}
	return nil, fmt.Errorf("collection %s: %w", id, ErrNotFound)
}

// Collections yields the collections of the database, ordered by id.
func (n *Namespace) Collections(ctx context.Context) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := n.db.enter(ctx); err != nil {
			yield(Info{}, err)
			return
		}
		defer n.db.leave()
		var found []Info
		n.db.mu.RLock()
		if d := n.db.catalog.databases[n.key]; d != nil {
			for _, c := range d.byName {
				found = append(found, c.infoLocked())
			}
		}
		n.db.mu.RUnlock()
		slices.SortFunc(found, func(a, b Info) int { return bytes.Compare(a.ID[:], b.ID[:]) })
		for _, info := range found {
			if !yield(info, nil) {
				return
			}
		}
	}
}

// Count is the number of collections; 0 when the database is missing.
func (n *Namespace) Count(ctx context.Context) (int, error) {
	if err := n.db.enter(ctx); err != nil {
		return 0, err
	}
	defer n.db.leave()
	n.db.mu.RLock()
	defer n.db.mu.RUnlock()
	if d := n.db.catalog.databases[n.key]; d != nil {
		return len(d.byName), nil
	}
	return 0, nil
}

// Delete deletes a collection with its records. ErrNotFound; ErrHeld: it is
// under legal hold.
func (n *Namespace) Delete(ctx context.Context, name string) error {
	return n.db.changeCatalog(ctx, func() (*catalogEntry, error) {
		d := n.db.catalog.databases[n.key]
		if d == nil || d.byName[name] == nil {
			return nil, fmt.Errorf("collection %q: %w", name, ErrNotFound)
		}
		c := d.byName[name]
		if k := c.keep.Load(); k != nil && k.held {
			return nil, c.heldError()
		}
		return &catalogEntry{op: opDeleteCollection, id: c.id}, nil
	})
}
