package server

import (
	"errors"
	"strconv"
	"time"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server/access"
)

// underRetention is where the retention and the hold of a collection are: beside
// Chroma's routes, so that no client of Chroma's meets them.
const underRetention = "/api/v2/chromad/tenants/{tenant}/databases/{database}/collections/{collection}/retention"

func retentionRoutes() []route {
	return []route{
		{"GET", "/api/v2/chromad/retention", access.ReadRetention, false, 200, (*Server).listRetention},
		{"GET", underRetention, access.ReadRetention, false, 200, (*Server).retention},
		{"PUT", underRetention, access.WriteRetention, true, 200, (*Server).setRetention},
		{"DELETE", underRetention, access.WriteRetention, false, 200, (*Server).endRetention},
		{"PUT", underRetention + "/hold", access.PlaceHold, true, 200, (*Server).placeHold},
		{"DELETE", underRetention + "/hold", access.ReleaseHold, false, 200, (*Server).releaseHold},
	}
}

// listRetention answers with the collections that have a retention or a hold, as
// far as the principal may see what they have.
func (s *Server) listRetention(c *call) error {
	all, err := s.store.Kept(c.ctx())
	if err != nil {
		return err
	}
	buf := c.buffer()
	b := append(*buf, '[')
	for _, k := range all {
		at := access.Target{Tenant: k.Tenant, Database: k.Database, Collection: k.Name}
		if !c.who.May(access.ReadRetention, at) || c.who.Confined(at) {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(appendKept(b, k), '}')
	}
	*buf = append(b, ']')
	c.json(*buf)
	return nil
}

// kept is the collection of the path for whoever may meet all of its records: a
// retention tells of all, and may make all of them go.
func (c *call) kept() (Collection, error) {
	found, err := c.whole()
	if err != nil {
		return nil, err
	}
	info := found.Info()
	if c.who.Confined(access.Target{Tenant: info.Tenant, Database: info.Database, Collection: info.Name}) {
		return nil, c.forbidden(c.route.action)
	}
	return found, nil
}

func (s *Server) retention(c *call) error {
	found, err := c.kept()
	if err != nil {
		return err
	}
	state, err := found.RetentionState(c.ctx())
	if err != nil {
		return err
	}
	return c.tellRetention(found, &state)
}

// tellRetention answers with what holds for a collection now, and what that means
// for its records; nil: nobody could tell.
func (c *call) tellRetention(found Collection, state *engine.RetentionState) error {
	info := found.Info()
	buf := c.buffer()
	b := appendKept(*buf, engine.Kept{ID: info.ID, Tenant: info.Tenant, Database: info.Database, Name: info.Name, Retention: found.Retention(), Hold: found.Hold()})
	if state == nil {
		b = append(b, `,"over":null,"unclear":null}`...)
	} else {
		b = appendInt(append(b, `,"over":`...), state.Over)
		b = append(appendInt(append(b, `,"unclear":`...), state.Unclear), '}')
	}
	*buf = b
	c.json(*buf)
	return nil
}

// appendKept begins an object and leaves it open.
func appendKept(b []byte, k engine.Kept) []byte {
	for _, f := range [][2]string{{`{"id":`, k.ID.String()}, {`,"tenant":`, k.Tenant}, {`,"database":`, k.Database}, {`,"name":`, k.Name}} {
		b = appendText(append(b, f[0]...), f[1])
	}
	b = append(b, `,"retention":`...)
	if r := k.Retention; r == nil {
		b = append(b, "null"...)
	} else {
		b = appendText(append(b, `{"key":`...), r.Key)
		b = append(b, `,"default_seconds":`...)
		b = append(strconv.AppendInt(b, int64(r.Default/time.Second), 10), '}')
	}
	b = append(b, `,"hold":`...)
	if h := k.Hold; h == nil {
		return append(b, "null"...)
	}
	b = appendText(append(b, `{"reason":`...), k.Hold.Reason)
	b = appendText(append(b, `,"since":`...), k.Hold.Since.UTC().Format(time.RFC3339))
	return append(b, '}')
}

func (s *Server) setRetention(c *call) error {
	var r engine.Retention
	unknown := ""
	err := c.scan("Retention", func(s *scanner, field string) {
		switch field {
		case "key":
			r.Key = s.text()
		case "default_seconds":
			// More than that is refused below, and a Duration holds it.
			r.Default = time.Duration(s.uint(1<<33, "a number of seconds")) * time.Second
		default:
			unknown = field
			s.skip()
		}
	})
	if err != nil {
		return err
	}
	if unknown != "" { // it may have meant to keep less
		return invalid("Validation error: retention has key and default_seconds, not %s", clip(unknown))
	}
	return c.changeRetention(func(found Collection) error { return found.SetRetention(c.toTheEnd(), &r) })
}

func (s *Server) endRetention(c *call) error {
	return c.changeRetention(func(found Collection) error { return found.SetRetention(c.toTheEnd(), nil) })
}

func (s *Server) placeHold(c *call) error {
	reason, err := c.readName("Hold", "reason")
	if err != nil {
		return err
	}
	return c.changeRetention(func(found Collection) error {
		return taken(found.PlaceHold(c.toTheEnd(), reason), "Collection is under legal hold already: release that one first, or keep it")
	})
}

func (s *Server) releaseHold(c *call) error {
	return c.changeRetention(func(found Collection) error {
		err := found.ReleaseHold(c.toTheEnd())
		if errors.Is(err, engine.ErrNotFound) && found.Hold() == nil {
			return notFound("Collection is under no legal hold")
		}
		return err
	})
}

// heldFrom is the error of a hold without the name of a collection that the
// principal may not see: a database that he may delete can have such.
func (c *call) heldFrom(err error) error {
	held, is := errors.AsType[*engine.HeldError](err)
	if !is || c.who != nil && c.who.May(access.GetCollection, access.Target{Tenant: held.Tenant, Database: held.Database, Collection: held.Name}) {
		return err
	}
	unnamed := *held
	unnamed.Name = ""
	return &unnamed
}

func (c *call) changeRetention(change func(Collection) error) error {
	found, err := c.kept()
	if err != nil {
		return err
	}
	if err := change(found); err != nil {
		return err
	}
	state, err := found.RetentionState(c.ctx())
	if err != nil { // a damaged collection can be put under hold, which is done
		c.cause = err
		return c.tellRetention(found, nil)
	}
	return c.tellRetention(found, &state)
}
