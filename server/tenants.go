package server

import (
	"iter"
	"strings"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server/access"
)

// readName reads a body whose one field is a text that must be there.
func (c *call) readName(kind, field string) (string, error) {
	var value string
	present := false
	err := c.scan(kind, func(s *scanner, name string) {
		if name != field {
			s.skip()
			return
		}
		value, present = s.text(), true
	})
	if err != nil {
		return "", err
	}
	return value, c.require(present, field)
}

func (s *Server) createTenant(c *call) error {
	name, err := c.readName("CreateTenantPayload", "name")
	if err != nil {
		return err
	}
	if err := checkFreeName("name", name); err != nil {
		return err
	}
	if err := c.permit(access.CreateTenant, access.Target{Tenant: name}); err != nil {
		return err
	}
	if err := s.store.CreateTenant(c.toTheEnd(), name); err != nil {
		return taken(err, "Tenant [%s] already exists", name)
	}
	return c.done()
}

func (s *Server) getTenant(c *call) error {
	name := c.vars["tenant"]
	t, err := s.store.Tenant(c.ctx(), name)
	if err != nil {
		return missing(err, "Tenant [%s] not found", name)
	}
	b := c.buffer()
	*b = append(*b, `{"name":`...)
	*b = append(appendText(*b, t.Name), `,"resource_name":`...)
	if t.Resource == "" {
		*b = append(*b, "null"...)
	} else {
		*b = appendText(*b, t.Resource)
	}
	*b = append(*b, '}')
	c.json(*b)
	return nil
}

func (s *Server) updateTenant(c *call) error {
	resource, err := c.readName("UpdateTenantPayload", "resource_name")
	if err != nil {
		return err
	}
	if len(resource) > maxNameBytes {
		return invalid("Validation error: resource_name: %d bytes, at most %d are allowed", len(resource), maxNameBytes)
	}
	if err := s.store.SetTenantResource(c.toTheEnd(), c.vars["tenant"], resource); err != nil {
		return err
	}
	return c.done()
}

func (s *Server) createDatabase(c *call) error {
	name, err := c.readName("CreateDatabasePayload", "name")
	if err != nil {
		return err
	}
	if reason := checkDatabaseName(name); reason != "" {
		return invalid("%s", reason)
	}
	if err := c.permit(access.CreateDatabase, access.Target{Tenant: c.vars["tenant"], Database: name}); err != nil {
		return err
	}
	done, err := c.mayMake(c.vars["tenant"], "")
	if err != nil {
		return err
	}
	defer done()
	if _, err := s.store.CreateDatabase(c.toTheEnd(), c.vars["tenant"], name); err != nil {
		return taken(err, "Database [%s] already exists", name)
	}
	return c.done()
}

func appendDatabase(b []byte, d engine.Database) []byte {
	b = append(b, `{"id":"`...)
	b = append(b, d.ID.String()...)
	b = append(b, `","name":`...)
	b = appendText(b, d.Name)
	b = append(b, `,"tenant":`...)
	return append(appendText(b, d.Tenant), '}')
}

func (s *Server) getDatabase(c *call) error {
	at, err := c.place()
	if err != nil {
		return err
	}
	d, err := s.store.Database(c.ctx(), at.Tenant, at.Database)
	if err != nil {
		return missing(err, "Database [%s] not found. Are you sure it exists?", at.Database)
	}
	b := c.buffer()
	*b = appendDatabase(*b, d)
	c.json(*b)
	return nil
}

func (s *Server) listDatabases(c *call) error {
	limit, offset, err := c.page()
	if err != nil {
		return err
	}
	all := only(s.store.Databases(c.ctx(), c.vars["tenant"]), func(d engine.Database) bool {
		return c.who.May(access.GetDatabase, access.Target{Tenant: d.Tenant, Database: d.Name})
	})
	return list(c, all, limit, offset, appendDatabase)
}

// only yields those of all that keep allows, and errors.
func only[T any](all iter.Seq2[T, error], keep func(T) bool) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for one, err := range all {
			if (err != nil || keep(one)) && !yield(one, err) {
				return
			}
		}
	}
}

// list answers with the page of all that limit (negative: none) and offset
// select.
func list[T any](c *call, all iter.Seq2[T, error], limit, offset int, appendOne func([]byte, T) []byte) error {
	b := c.buffer()
	*b = append(*b, '[')
	i := 0
	for one, err := range all {
		if err != nil {
			return err
		}
		if limit >= 0 && i >= offset+limit {
			break
		}
		if i >= offset {
			*b = append(appendOne(*b, one), ',')
		}
		i++
	}
	*b = closeList(*b)
	c.json(*b)
	return nil
}

// closeList ends a list whose elements were each followed by a comma.
func closeList(b []byte) []byte {
	if b[len(b)-1] == ',' {
		b = b[:len(b)-1]
	}
	return append(b, ']')
}

func (s *Server) deleteDatabase(c *call) error {
	name := c.vars["database"]
	if err := s.store.DeleteDatabase(c.toTheEnd(), c.vars["tenant"], name); err != nil {
		return missing(err, "Database [%s] not found", name)
	}
	return c.done()
}

// splitCRN cuts a Chroma resource name into its three parts.
func splitCRN(crn string) (tenant, database, collection string, ok bool) {
	parts := strings.Split(crn, ":")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
		return "", "", "", false
	}
	return parts[0], parts[1], parts[2], true
}
