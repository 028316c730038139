package server

import (
	"errors"
	"net/http"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/server/access"
	"github.com/chromad/chromad/server/privacy"
)

// look finds out what the principal sees of the records of a collection.
func (c *call) look(at access.Target, id engine.ID) error {
	sight := c.who.Sight(c.route.action, at)
	if sight == nil {
		return nil
	}
	var keys *privacy.Keys
	if sight.Keyed() {
		var err error
		if keys, err = c.s.config.Privacy.Keys(c.toTheEnd()); err != nil {
			return err
		}
	}
	c.view = privacy.NewView(sight, keys, id.String())
	return nil
}

// forbiddenField is the answer to a request about a field that is not shown as
// it is. It is the same whether any record has the field.
func forbiddenField(err error) error {
	if e, ok := errors.AsType[*privacy.FieldError](err); ok {
		return &apiError{status: http.StatusForbidden, kind: kindDenied, message: "Forbidden: " + e.Error()}
	}
	return err
}

// asked is a condition of the client as it is asked of what is stored: with
// what pseudonyms stand for, and what the rules have made of values.
func (c *call) asked(info *engine.Info, where *filter.Expr) (*filter.Expr, error) {
	if where == nil {
		return nil, nil
	}
	if c.view != nil {
		var err error
		if where, err = c.view.Where(where); err != nil {
			return nil, forbiddenField(err)
		}
	}
	return c.asStored(access.Target{Tenant: info.Tenant, Database: info.Database, Collection: info.Name}, info.ID, where)
}

// asStored is a condition with what the rules about storing make of its values.
func (c *call) asStored(at access.Target, id engine.ID, where *filter.Expr) (*filter.Expr, error) {
	plan, keys, err := c.plan(at)
	if plan == nil || err != nil {
		return where, err
	}
	return plan.Where(keys, id.String(), where)
}

// ruleAsStored is a rule about records with all that its values may be stored as.
func (c *call) ruleAsStored(id engine.ID, rule *filter.Expr) (*filter.Expr, error) {
	keys, err := c.s.config.Privacy.Made(c.ctx())
	if err != nil {
		return nil, err
	}
	rule, err = privacy.RuleWhere(keys, id.String(), rule)
	if errors.Is(err, filter.ErrTooLarge) {
		return nil, invalid("%s", err)
	}
	return rule, err
}

// mayRename refuses a new name by which other rules about storing hold to
// who may not change these: else who changes names decides what they are about.
func (c *call) mayRename(info engine.Info, name string) error {
	if c.s.config.Privacy.SameRules(info.Tenant, info.Database, info.Name, name) || c.who.May(access.WritePrivacy, access.Target{}) {
		return nil
	}
	c.denied = "not granted"
	return &apiError{status: http.StatusForbidden, kind: kindDenied,
		message: "Forbidden: under the new name other rules about what may be stored hold; that takes " + string(access.WritePrivacy)}
}

// plan is what may be stored in a collection, nil: everything, and the keys
// that it takes to store it.
func (c *call) plan(at access.Target) (*privacy.Plan, *privacy.Keys, error) {
	keeper := c.s.config.Privacy
	plan := keeper.Plan(at.Tenant, at.Database, at.Collection)
	if plan == nil || !plan.Keyed() {
		return plan, nil, nil
	}
	keys, err := keeper.Keys(c.toTheEnd())
	return plan, keys, err
}

// shownTo makes of a record what the principal sees of it.
func (c *call) shownTo(r *engine.Record) (err error) {
	if c.view == nil {
		return nil
	}
	if r.Metadata, err = c.view.Metadata(r.Metadata); err != nil {
		return err
	}
	if r.Document, err = c.view.Document(r.Document); err != nil {
		return err
	}
	r.URI, err = c.view.URI(r.URI)
	return err
}

// mayInclude refuses to read embeddings that are hidden: a list without them
// would be taken for one with them.
func (c *call) mayInclude(inc *include) error {
	if c.view == nil || !inc.embeddings || c.view.Embedding() {
		return nil
	}
	return forbiddenField(&privacy.FieldError{Field: "embeddings", Act: "read"})
}

// mayAsk refuses a search by fields that are not shown as they are.
func (c *call) mayAsk(p *searchPayload) (err error) {
	if c.view == nil {
		return nil
	}
	if p.filter, err = c.view.Where(p.filter); err != nil {
		return forbiddenField(err)
	}
	for _, x := range []struct {
		act  string
		keys []string
	}{{"group by", p.group.keys}, {"sort by", p.group.sortBy}, {"rank by", p.ranks}} {
		for _, key := range x.keys {
			if err := c.view.Ask(x.act, key); err != nil && key != embeddingKey {
				return forbiddenField(err)
			}
		}
	}
	return nil
}

// minimise makes of records what may be stored of them, and refuses what the
// principal may not write or the collection does not take.
func (c *call) minimise(to Records, records []engine.Record) error {
	if c.view != nil {
		for i := range records {
			r := &records[i]
			if err := c.view.Write(r.Metadata, r.Document, r.URI); err != nil {
				return forbiddenField(err)
			}
		}
	}
	some, err := c.s.config.Privacy.Any()
	if errors.Is(err, privacy.ErrLost) {
		return &apiError{status: http.StatusServiceUnavailable, kind: kindInternal, message: err.Error()}
	}
	if !some {
		return err
	}
	info := to.Info()
	plan, keys, err := c.plan(access.Target{Tenant: info.Tenant, Database: info.Database, Collection: info.Name})
	if plan == nil || err != nil {
		return err
	}
	for i := range records {
		if err := c.ctx().Err(); err != nil { // looking at many texts takes a while
			return err
		}
		r := &records[i]
		kept := privacy.Record{Metadata: r.Metadata, Document: r.Document, URI: r.URI}
		if err := plan.Apply(keys, info.ID.String(), &kept); err != nil {
			if e, ok := errors.AsType[*privacy.Refused](err); ok {
				return invalid("record %d: %s", i, e.Error())
			}
			return err
		}
		r.Metadata, r.Document, r.URI = kept.Metadata, kept.Document, kept.URI
	}
	return nil
}
