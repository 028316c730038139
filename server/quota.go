package server

import (
	"context"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"sync"

	"github.com/chromad/chromad/engine"
)

// Quota is how much a tenant may store. Zero fields: as much as it likes.
type Quota struct {
	Databases           int64
	Collections         int64 // of all its databases
	DatabaseCollections int64 // of one of them
	Records             int64 // of all its collections
	CollectionRecords   int64 // of one of them
	Bytes               int64 // of all its collections, see engine.Usage
	CollectionBytes     int64 // of one of them
	Dimensions          int64 // of embeddings
}

// Quotas are what tenants may store: all of them, and those that have a
// quota of their own, in which fields that are zero are those of all.
type Quotas struct {
	Quota
	Tenants map[string]Quota
}

// Check tells what is wrong with quotas.
func (q *Quotas) Check() error {
	if err := q.Quota.check(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(q.Tenants)) {
		own := q.Tenants[name]
		if err := own.check(); err != nil {
			return fmt.Errorf("tenant %q: %w", name, err)
		}
	}
	return nil
}

func (q *Quota) fields() []*int64 {
	return []*int64{&q.Databases, &q.Collections, &q.DatabaseCollections, &q.Records, &q.CollectionRecords, &q.Bytes, &q.CollectionBytes, &q.Dimensions}
}

func (q *Quota) check() error {
	for _, f := range q.fields() {
		if *f < 0 {
			return fmt.Errorf("%d is no quota; leave it out for none", *f)
		}
	}
	return nil
}

// of is the quota of a tenant.
func (q *Quotas) of(tenant string) Quota {
	own, ok := q.Tenants[tenant]
	if !ok {
		return q.Quota
	}
	all := q.Quota
	for i, f := range own.fields() {
		if *f == 0 {
			*f = *all.fields()[i]
		}
	}
	return own
}

// allotted is what requests under way may add, by tenant and collection: two
// that fit by themselves and not together are not both let in.
type allotted struct {
	mu sync.Mutex
	of map[string]map[engine.ID]engine.Usage

	making sync.Mutex // of collections and databases, where their number is bounded
}

// quotaRefusal is its reason in the metrics and in the audit log.
const quotaRefusal = "quota"

// exceeded is the answer to what a quota does not allow. Chroma's clients look
// for the first two words. How much is there is not said: not everybody may see it.
// It is counted where it is answered: what replaces something may fit all the same.
func (c *call) exceeded(name string, allowed, more int64) error {
	text := fmt.Sprintf("Quota exceeded: %s: %d are allowed", name, allowed)
	if !c.who.Ruled() { // how many are there counts records that are hidden from him
		text += fmt.Sprintf(", and %d more were asked for", more)
	}
	return &apiError{status: http.StatusUnprocessableEntity, kind: kindChroma, message: text, refused: quotaRefusal}
}

// fits refuses a write that would bring its collection or tenant above a
// quota, before anything of it is written. release must be called when the
// write has ended.
func (c *call) fits(ctx context.Context, to Records, records []engine.Record, adds bool) (release func(), err error) {
	info := to.Info()
	quota := c.s.config.Quotas.of(info.Tenant)
	release = func() {}
	if quota == (Quota{}) {
		return release, nil
	}
	for i := range records {
		if n := int64(len(records[i].Embedding)); quota.Dimensions > 0 && n > quota.Dimensions {
			return release, c.exceeded("dimensions", quota.Dimensions, n)
		}
	}
	more := engine.Usage{Bytes: int64(len(c.body))}
	if adds {
		more.Records = int64(len(records))
	}
	over := func() error { return c.overQuota(&quota, info.ID, info.Tenant, more) }
	a := &c.s.allotted
	a.mu.Lock()
	defer a.mu.Unlock()
	if err = over(); err != nil && adds {
		// What is there already is not new: looked at only when it decides.
		a.mu.Unlock()
		known, e := existing(ctx, to, records)
		a.mu.Lock()
		if e != nil {
			return release, e
		}
		more.Records -= known
		err = over()
	}
	if err != nil {
		return release, err
	}
	a.add(info.Tenant, info.ID, more.Records, more.Bytes)
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.add(info.Tenant, info.ID, -more.Records, -more.Bytes)
	}, nil
}

func (a *allotted) add(tenant string, id engine.ID, records, bytes int64) {
	if a.of[tenant] == nil {
		if a.of == nil {
			a.of = map[string]map[engine.ID]engine.Usage{}
		}
		a.of[tenant] = map[engine.ID]engine.Usage{}
	}
	u := a.of[tenant][id]
	u.Records, u.Bytes = u.Records+records, u.Bytes+bytes
	if a.of[tenant][id] = u; u == (engine.Usage{}) {
		delete(a.of[tenant], id)
	}
	if len(a.of[tenant]) == 0 {
		delete(a.of, tenant)
	}
}

// overQuota compares what is there and under way with the quota. The caller
// holds allotted.mu.
func (c *call) overQuota(q *Quota, id engine.ID, tenant string, more engine.Usage) error {
	_, used := c.s.store.Usage(tenant)
	var all, one engine.Usage
	for _, u := range used {
		all.Records, all.Bytes = all.Records+u.Records, all.Bytes+u.Bytes
		if u.ID == id {
			one = u
		}
	}
	for other, u := range c.s.allotted.of[tenant] {
		all.Records, all.Bytes = all.Records+u.Records, all.Bytes+u.Bytes
		if other == id {
			one.Records, one.Bytes = one.Records+u.Records, one.Bytes+u.Bytes
		}
	}
	for _, x := range []struct {
		name                 string
		allowed, there, more int64
	}{
		{"collection_records", q.CollectionRecords, one.Records, more.Records}, {"records", q.Records, all.Records, more.Records},
		{"collection_bytes", q.CollectionBytes, one.Bytes, more.Bytes}, {"bytes", q.Bytes, all.Bytes, more.Bytes},
	} {
		if x.allowed > 0 && x.more > 0 && x.more > max(x.allowed-x.there, 0) {
			return c.exceeded(x.name, x.allowed, x.more)
		}
	}
	return nil
}

// existing is how many of the records replace one that is there, or stand
// earlier in the same write.
func existing(ctx context.Context, in Records, records []engine.Record) (int64, error) {
	ids := make([]string, len(records)) // as many as the request has brought
	for i := range records {
		ids[i] = records[i].ID
	}
	slices.Sort(ids)
	distinct := slices.Compact(ids)
	twice := len(records) - len(distinct)
	found := 0
	for _, err := range in.Get(ctx, engine.Selection{IDs: distinct}, 0) {
		if err != nil {
			return 0, err
		}
		found++
	}
	return int64(found + twice), nil
}

// mayMake refuses a collection or database that is one too many. done must be
// called when it was made.
func (c *call) mayMake(tenant, database string) (done func(), err error) {
	q := c.s.config.Quotas.of(tenant)
	if database == "" && q.Databases == 0 || database != "" && q.Collections == 0 && q.DatabaseCollections == 0 {
		return func() {}, nil
	}
	c.s.allotted.making.Lock()
	defer func() {
		if err != nil {
			c.s.allotted.making.Unlock()
		}
	}()
	databases, used := c.s.store.Usage(tenant)
	if database == "" {
		if int64(databases) >= q.Databases {
			return nil, c.exceeded("databases", q.Databases, 1)
		}
		return c.s.allotted.making.Unlock, nil
	}
	here := int64(0)
	for _, u := range used {
		if u.Database == database {
			here++
		}
	}
	if n := int64(len(used)); n >= or(q.Collections) {
		return nil, c.exceeded("collections", q.Collections, 1)
	}
	if here >= or(q.DatabaseCollections) {
		return nil, c.exceeded("database_collections", q.DatabaseCollections, 1)
	}
	return c.s.allotted.making.Unlock, nil
}

// or is a quota, or one that nobody reaches.
func or(quota int64) int64 {
	if quota == 0 {
		return math.MaxInt64
	}
	return quota
}
