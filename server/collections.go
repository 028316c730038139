package server

import (
	"iter"
	"net/http"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/server/access"
	"github.com/chromad/chromad/server/privacy"
)

// collectionMetadata is the metadata of a request about a collection.
type collectionMetadata struct {
	given bool
	empty bool // {}
	m     filter.Metadata
	bad   string // what is wrong with a key
}

// readMetadata reads a collection's metadata, or null.
func readMetadata(s *scanner, limits *Limits, nulls bool) (out collectionMetadata) {
	if s.null() {
		return out
	}
	out.given, out.empty = true, true
	out.m = filter.Metadata{}
	r := &recordReader{scanner: s, limits: limits, nulls: nulls}
	s.object("a map", func(key string) {
		out.empty = false
		switch {
		case out.bad != "":
		case key == "":
			out.bad = "Metadata key cannot be empty"
		case key[0] == '#' || key[0] == '$':
			out.bad = "Metadata key cannot start with '#' or '$': " + clip(key)
		}
		v, keep := r.value(-1, key)
		if keep && !v.IsNull() {
			out.m[key] = v
		}
	})
	return out
}

func (m *collectionMetadata) check(field string) error {
	switch {
	case m.empty:
		return invalid("Validation error: %s: Metadata cannot be empty", field)
	case m.bad != "":
		return invalid("Validation error: %s: %s", field, m.bad)
	}
	return nil
}

func (s *Server) createCollection(c *call) error {
	var name string
	var meta collectionMetadata
	var config configuration
	var requested *schema
	var present, getOrCreate bool
	err := c.scan("CreateCollectionPayload", func(sc *scanner, field string) {
		switch field {
		case "name":
			name, present = sc.text(), true
		case "metadata":
			meta = readMetadata(sc, &s.limits, false)
		case "configuration":
			config = readConfiguration(sc, false)
		case "schema":
			if !sc.null() {
				requested = readSchema(sc)
			}
		case "get_or_create":
			getOrCreate = sc.boolean()
		default:
			sc.skip()
		}
	})
	if err != nil {
		return err
	}
	if err := c.require(present, "name"); err != nil {
		return err
	}
	at, err := c.place()
	if err != nil {
		return err
	}
	if reason := checkName(name); reason != "" {
		return invalid("Validation error: name: %s", reason)
	}
	if err := meta.check("metadata"); err != nil {
		return err
	}
	sc, err := s.newSchema(config, requested, meta.m)
	if err != nil {
		return err
	}
	spec := sc.spec(meta.m)
	if len(spec.Extension) > maxSchema {
		return invalid("Validation error: schema: %d bytes, at most %d are allowed", len(spec.Extension), maxSchema)
	}
	return c.makeCollection(at, name, spec, getOrCreate)
}

// makeCollection makes a collection that nothing is wrong with, and answers with it.
func (c *call) makeCollection(at Place, name string, spec engine.Spec, getOrCreate bool) error {
	s := c.s
	target := access.Target{Tenant: at.Tenant, Database: at.Database, Collection: name}
	if err := c.permit(access.CreateCollection, target); err != nil {
		return err
	}
	if getOrCreate {
		if err := c.permit(access.GetCollection, target); err != nil {
			return err
		}
	}
	done, err := c.mayMake(at.Tenant, at.Database)
	if err != nil && getOrCreate {
		// One that is there already is not made.
		if made, e := s.store.Collection(c.ctx(), at, name); e == nil {
			c.got = true
			return c.answer(made, nil)
		}
	}
	if err != nil {
		return err
	}
	var made Collection
	if getOrCreate {
		created := false
		made, created, err = s.store.GetOrCreate(c.toTheEnd(), at, name, spec)
		c.got = err == nil && !created
	} else {
		made, err = s.store.Create(c.toTheEnd(), at, name, spec)
	}
	done()
	if err != nil {
		if missing(err, "") != err {
			return &apiError{status: http.StatusBadRequest, kind: kindInvalid, message: "Database [" + at.Database + "] does not exist"}
		}
		return taken(err, "Collection [%s] already exists", name)
	}
	info := made.Info()
	return c.collectionJSON(&info)
}

// collectionJSON answers with a collection.
func (c *call) collectionJSON(info *engine.Info) error {
	b := c.buffer()
	*b = c.appendCollection(*b, info)
	c.json(*b)
	return nil
}

// shown is info for the principal, and what he sees of its records. The keys
// that metadata have ever had are none of his business when a rule hides
// records from him, nor is a key that he does not see as it is.
func (c *call) shown(info *engine.Info) (*engine.Info, *privacy.Sight) {
	at := access.Target{Tenant: info.Tenant, Database: info.Database, Collection: info.Name}
	if c.who.Ruled() {
		for _, a := range []access.Action{access.Get, access.Query, access.Count} {
			if _, ruled := c.who.Rule(a, at); ruled {
				info.Keys = nil
			}
		}
	}
	if !c.who.Fielded() {
		return info, nil
	}
	return info, c.who.SightOfAll(at)
}

func (c *call) appendCollection(b []byte, info *engine.Info) []byte {
	info, sight := c.shown(info)
	sc := c.s.schemaOf(info)
	b = append(b, `{"id":"`...)
	b = append(b, info.ID.String()...)
	b = append(b, `","name":`...)
	b = appendText(b, info.Name)
	b = append(b, `,"configuration_json":`...)
	b = sc.appendConfiguration(b)
	b = append(b, `,"schema":`...)
	b = sc.appendSeen(b, info.Keys, sight)
	b = append(b, `,"metadata":`...)
	b = info.Spec.Metadata.AppendJSON(b)
	b = append(b, `,"dimension":`...)
	if info.Dimension == 0 {
		b = append(b, "null"...)
	} else {
		b = appendInt(b, info.Dimension)
	}
	b = append(b, `,"tenant":`...)
	b = appendText(b, info.Tenant)
	b = append(b, `,"database":`...)
	b = appendText(b, info.Database)
	return append(b, `,"log_position":0,"version":0}`...)
}

func (s *Server) listCollections(c *call) error {
	at, err := c.place()
	if err != nil {
		return err
	}
	limit, offset, err := c.page()
	if err != nil {
		return err
	}
	return list(c, c.visible(at), limit, offset, func(b []byte, info engine.Info) []byte {
		return c.appendCollection(b, &info)
	})
}

// visible yields the collections of a database that the principal may see.
func (c *call) visible(at Place) iter.Seq2[engine.Info, error] {
	all := c.s.store.Collections(c.ctx(), at)
	if c.who.MayAll(access.GetCollection, at.Tenant, at.Database) {
		return all
	}
	return only(all, func(i engine.Info) bool {
		return c.who.May(access.GetCollection, access.Target{Tenant: at.Tenant, Database: at.Database, Collection: i.Name})
	})
}

func (s *Server) countCollections(c *call) error {
	at, err := c.place()
	if err != nil {
		return err
	}
	if !c.who.MayAll(access.GetCollection, at.Tenant, at.Database) {
		n := 0
		for _, err := range c.visible(at) {
			if err != nil {
				return err
			}
			n++
		}
		c.json(appendInt(nil, n))
		return nil
	}
	n, err := s.store.Count(c.ctx(), at)
	if err != nil {
		if missing(err, "") == err {
			return err
		}
		n = 0
	}
	c.json(appendInt(nil, n))
	return nil
}

func (s *Server) getCollection(c *call) error {
	at, err := c.place()
	if err != nil {
		return err
	}
	name := c.vars["collection"]
	if err := c.hidden(name, engine.ErrNotFound); err != nil {
		return c.answer(nil, err)
	}
	return c.answer(s.store.Collection(c.ctx(), at, name))
}

// answer answers with a collection that was looked up by name.
func (c *call) answer(found Collection, err error) error {
	if err != nil {
		return missing(err, "Collection [%s] does not exist", c.vars["collection"])
	}
	info := found.Info()
	return c.collectionJSON(&info)
}

func (s *Server) getCollectionByID(c *call) error {
	id, err := engine.ParseID(c.vars["collection"])
	if err != nil {
		return invalid("Validation error: collection_id: Invalid collection ID format, expected UUID")
	}
	at, err := c.place()
	if err != nil {
		return err
	}
	c.vars["collection"] = id.String()
	found, err := s.store.CollectionByID(c.ctx(), at, id)
	if err == nil {
		err = c.hidden(found.Info().Name, engine.ErrNotFound)
	}
	return c.answer(found, err)
}

// getCollectionByCRN looks a collection up by its resource name. The name of
// a tenant's resource is not an index of the store: only a tenant that was
// given its own name as resource is found.
func (s *Server) getCollectionByCRN(c *call) error {
	resource, database, name, ok := splitCRN(c.vars["crn"])
	if !ok {
		return invalid("Validation error: crn: CRN must be in the format <tenant_resource_name>:<database_name>:<collection_name> with non-empty parts")
	}
	c.vars["collection"] = name
	t, err := s.store.Tenant(c.ctx(), resource)
	if err == nil && t.Resource != resource {
		err = engine.ErrNotFound
	}
	if err != nil {
		return c.answer(nil, err)
	}
	if !c.who.May(access.GetCollection, access.Target{Tenant: t.Name, Database: database, Collection: name}) {
		return c.answer(nil, engine.ErrNotFound)
	}
	return c.answer(s.store.Collection(c.ctx(), Place{t.Name, database}, name))
}

func (s *Server) deleteCollection(c *call) error {
	at, err := c.place()
	if err != nil {
		return err
	}
	name := c.vars["collection"]
	if err := c.hidden(name, engine.ErrNotFound); err != nil {
		return missing(err, "Collection [%s] does not exist", name)
	}
	if err := s.store.Delete(c.toTheEnd(), at, name); err != nil {
		return missing(err, "Collection [%s] does not exist", name)
	}
	return c.done()
}

func (s *Server) updateCollection(c *call) error {
	var name *string
	var meta collectionMetadata
	var config configuration
	err := c.scan("UpdateCollectionPayload", func(sc *scanner, field string) {
		switch field {
		case "new_name":
			if !sc.null() {
				t := sc.text()
				name = &t
			}
		case "new_metadata":
			meta = readMetadata(sc, &s.limits, true)
		case "new_configuration":
			config = readConfiguration(sc, true)
		default:
			sc.skip()
		}
	})
	if err != nil {
		return err
	}
	found, err := c.whole()
	if err != nil {
		return err
	}
	change := engine.Change{Name: name}
	if name != nil {
		if reason := checkName(*name); reason != "" {
			return invalid("Validation error: new_name: %s", reason)
		}
		// A new name may lead out of what the principal is confined to, or into it.
		to := access.Target{Tenant: c.vars["tenant"], Database: c.vars["database"], Collection: *name}
		if err := c.permit(access.UpdateCollection, to); err != nil {
			return err
		}
	}
	if err := meta.check("new_metadata"); err != nil {
		return err
	}
	if meta.given {
		change.Metadata = &meta.m
	}
	if err := config.check(); err != nil {
		return err
	}
	s.modify.Lock()
	defer s.modify.Unlock()
	if config.hasHNSW || config.hasFunction {
		info := found.Info()
		next := s.schemaOf(&info).update(config)
		spec := next.spec(nil)
		if len(spec.Extension) > maxSchema {
			return invalid("Validation error: new_configuration: %d bytes, at most %d are allowed", len(spec.Extension), maxSchema)
		}
		change.Extension, change.M, change.EFSearch = spec.Extension, &spec.M, &spec.EFSearch
	}
	if err := found.Modify(c.toTheEnd(), change); err != nil {
		if name != nil {
			err = taken(err, "Collection [%s] already exists", *name)
		}
		return c.gone(err)
	}
	return c.done()
}
