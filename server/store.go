package server

import (
	"context"
	"iter"

	"github.com/chromad/chromad/engine"
)

// Store is the engine as the server sees it. Every method takes the tenant and
// database of the request's path, so nothing can be found from outside of them.
type Store interface {
	CreateTenant(ctx context.Context, name string) error
	Tenant(ctx context.Context, name string) (engine.Tenant, error)
	SetTenantResource(ctx context.Context, name, resource string) error

	CreateDatabase(ctx context.Context, tenant, name string) (engine.Database, error)
	Database(ctx context.Context, tenant, name string) (engine.Database, error)
	Databases(ctx context.Context, tenant string) iter.Seq2[engine.Database, error]
	DeleteDatabase(ctx context.Context, tenant, name string) error

	Create(ctx context.Context, at Place, name string, spec engine.Spec) (Collection, error)
	GetOrCreate(ctx context.Context, at Place, name string, spec engine.Spec) (c Collection, created bool, err error)
	Collection(ctx context.Context, at Place, name string) (Collection, error)
	CollectionByID(ctx context.Context, at Place, id engine.ID) (Collection, error)
	Collections(ctx context.Context, at Place) iter.Seq2[engine.Info, error]
	Count(ctx context.Context, at Place) (int, error)
	Delete(ctx context.Context, at Place, name string) error

	Reset(ctx context.Context) error
	// AuditRecords are those of the audit log, from a number on.
	AuditRecords(ctx context.Context, from uint64) iter.Seq2[engine.AuditRecord, error]

	// Kept are the collections with a retention or a legal hold.
	Kept(ctx context.Context) ([]engine.Kept, error)

	// Usage is what a tenant has stored.
	Usage(tenant string) (databases int, collections []engine.Usage)
	// Stats are sums over the whole store; they name nothing in it.
	Stats() engine.Stats
	// Err says why no more writes are accepted; nil while they are.
	Err() error
}

// Place is a database of a tenant.
type Place struct{ Tenant, Database string }

// Collection is one collection of a Store; *engine.Collection is one.
type Collection interface {
	Records
	Modify(ctx context.Context, ch engine.Change) error
	Retention() *engine.Retention
	Hold() *engine.Hold
	SetRetention(ctx context.Context, r *engine.Retention) error
	PlaceHold(ctx context.Context, reason string) error
	ReleaseHold(ctx context.Context) error
	RetentionState(ctx context.Context) (engine.RetentionState, error)
	// Under is the collection as far as its records match a rule.
	Under(rule *engine.Filter) (*engine.Guarded, error)
}

// Records are those of a collection that somebody may meet: all, or with an
// *engine.Guarded those of his rule. Routes about records get nothing else. Nobody
// keeps the vectors of a query: their memory is lent again.
type Records interface {
	Info() engine.Info
	Add(ctx context.Context, recs ...engine.Record) error
	Upsert(ctx context.Context, recs ...engine.Record) error
	Update(ctx context.Context, recs ...engine.Record) error
	Delete(ctx context.Context, sel engine.Selection) (int, error)
	Count(ctx context.Context) (int, error)
	Get(ctx context.Context, sel engine.Selection, inc engine.Include) iter.Seq2[engine.Record, error]
	QueryEach(ctx context.Context, vectors [][]float32, k int, opts *engine.QueryOptions, see func(vector int, m *engine.Match) error) error
}

// EngineStore makes a Store of a database engine.
func EngineStore(db *engine.DB) Store { return engineStore{db} }

// engineStore embeds DB for the methods whose names and meanings are the same.
type engineStore struct{ *engine.DB }

func (s engineStore) at(p Place) *engine.Namespace { return s.Namespace(p.Tenant, p.Database) }

func (s engineStore) Create(ctx context.Context, at Place, name string, spec engine.Spec) (Collection, error) {
	return found(s.at(at).Create(ctx, name, spec))
}

func (s engineStore) GetOrCreate(ctx context.Context, at Place, name string, spec engine.Spec) (Collection, bool, error) {
	made, created, err := s.at(at).GetOrCreate(ctx, name, spec)
	c, err := found(made, err)
	return c, created, err
}

func (s engineStore) Collection(ctx context.Context, at Place, name string) (Collection, error) {
	return found(s.at(at).Collection(ctx, name))
}

func (s engineStore) CollectionByID(ctx context.Context, at Place, id engine.ID) (Collection, error) {
	return found(s.at(at).CollectionByID(ctx, id))
}

func (s engineStore) Collections(ctx context.Context, at Place) iter.Seq2[engine.Info, error] {
	return s.at(at).Collections(ctx)
}

func (s engineStore) Count(ctx context.Context, at Place) (int, error) { return s.at(at).Count(ctx) }

func (s engineStore) Delete(ctx context.Context, at Place, name string) error {
	return s.at(at).Delete(ctx, name)
}

// found keeps a nil pointer from becoming an interface that is not nil.
func found(c *engine.Collection, err error) (Collection, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}
