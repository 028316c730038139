package server

import (
	"context"
	"strconv"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/filter"
)

func (s *Server) add(c *call) error {
	return c.writeRecords("AddCollectionRecordsPayload", false, false, Records.Add)
}

func (s *Server) upsert(c *call) error {
	return c.writeRecords("UpsertCollectionRecordsPayload", false, true, Records.Upsert)
}

func (s *Server) update(c *call) error {
	return c.writeRecords("UpdateCollectionRecordsPayload", true, true, Records.Update)
}

func (c *call) writeRecords(kind string, update, nulls bool, write func(Records, context.Context, ...engine.Record) error) error {
	body, err := c.readWrite(kind, update, nulls)
	if err == nil {
		err = c.charge(len(body.records))
	}
	if err != nil {
		return err
	}
	to, err := c.collection()
	if err != nil {
		return err
	}
	if err := body.check(); err != nil {
		return err
	}
	if err := c.minimise(to, body.records); err != nil {
		return err
	}
	if len(body.records) > 0 {
		ctx, cancel := context.WithTimeout(c.ctx(), c.s.timeouts.Busy)
		defer cancel()
		release, err := c.fits(ctx, to, body.records, !update)
		if err != nil {
			return c.gone(err)
		}
		defer release()
		if err := write(to, ctx, body.records...); err != nil {
			return c.gone(err)
		}
		c.touched = int64(len(body.records))
	}
	return c.done()
}

// gone names the collection when it was deleted under the request.
func (c *call) gone(err error) error {
	return missing(err, "Collection [%s] does not exist.", c.vars["collection"])
}

// target is the collection of the path, and the condition of sel, which its
// schema must allow.
func (c *call) target(sel *selection) (from Records, info *engine.Info, where *filter.Expr, err error) {
	if from, err = c.collection(); err != nil {
		return nil, nil, nil, err
	}
	i := from.Info()
	if where, err = sel.filter(); err == nil {
		where, err = c.asked(&i, where)
	}
	if err == nil {
		err = c.s.schemaOf(&i).allows(where)
	}
	return from, &i, where, err
}

func (s *Server) deleteRecords(c *call) error {
	body, err := c.readDelete()
	if err == nil {
		err = c.charge(len(body.ids))
	}
	if err != nil {
		return err
	}
	from, _, where, err := c.target(body)
	if err != nil {
		return err
	}
	filtered := body.where != nil && string(body.where) != "null" || body.whereDocument != nil && string(body.whereDocument) != "null"
	switch {
	case body.limit >= 0 && !filtered:
		return invalid("Validation error: limit, where: limit can only be specified when a where clause is provided")
	case body.ids != nil && len(body.ids) == 0 && !filtered:
		return invalid("Validation error: ids, where: Either ids or where must be specified")
	case body.ids == nil && !filtered, body.limit == 0, body.ids != nil && len(body.ids) == 0:
		return c.deleted(0)
	}
	ctx, cancel := context.WithTimeout(c.ctx(), s.timeouts.Busy)
	defer cancel()
	n, err := from.Delete(ctx, engine.Selection{IDs: body.ids, Where: where, Limit: max(body.limit, 0)})
	if err != nil {
		return c.gone(err)
	}
	return c.deleted(n)
}

func (c *call) deleted(n int) error {
	c.touched = int64(n)
	c.json([]byte(`{"deleted":` + strconv.Itoa(n) + `}`))
	return nil
}

func (s *Server) count(c *call) error {
	level, given, err := c.parameter("read_level")
	if err != nil {
		return err
	}
	if given && !readLevel(level) {
		return invalid("Failed to deserialize query string: read_level: unknown variant `%s`, expected one of `index_and_wal`, `index_only`, `index_and_bounded_wal`", clip(level))
	}
	from, err := c.collection()
	if err != nil {
		return err
	}
	n, err := from.Count(c.ctx())
	if err != nil {
		return c.gone(err)
	}
	c.json(strconv.AppendInt(nil, int64(n), 10))
	return nil
}

func readLevel(level string) bool {
	return level == "index_and_wal" || level == "index_only" || level == "index_and_bounded_wal"
}

func (s *Server) get(c *call) error {
	body, err := c.readGet()
	if err == nil {
		err = c.charge(len(body.ids))
	}
	if err != nil {
		return err
	}
	from, _, where, err := c.target(&body.selection)
	if err == nil {
		err = c.mayInclude(&body.include)
	}
	if err != nil {
		return err
	}
	t := c.table(&body.include, false)
	t.begin(1)
	if body.limit != 0 {
		sel := engine.Selection{IDs: body.ids, Where: where, Offset: body.offset, Limit: max(body.limit, 0)}
		for r, err := range from.Get(c.ctx(), sel, body.include.fields()) {
			if err == nil {
				err = t.add(&r, 0)
			}
			if err != nil {
				return c.gone(err)
			}
		}
	}
	t.end()
	c.json(t.parts()...)
	return nil
}

func (s *Server) query(c *call) error {
	body, err := c.readQuery()
	if err == nil {
		err = c.charge(len(body.vectors) + len(body.ids))
	}
	if err != nil {
		return err
	}
	from, info, where, err := c.target(&body.selection)
	if err == nil {
		err = c.mayInclude(&body.include)
	}
	if err != nil {
		return err
	}
	if err := body.check(info.Dimension); err != nil {
		return err
	}
	if err := c.matches(from, info, body, where); err != nil {
		return c.gone(err)
	}
	return nil
}

// matches answers with what the engine finds, unless the answer is empty in any
// case.
func (c *call) matches(from Records, info *engine.Info, body *queryBody, where *filter.Expr) error {
	t := c.table(&body.include, true)
	k := body.results // may be anything: the engine returns no more than it has
	if k > 0 && len(body.vectors) > 0 && info.Dimension > 0 && (body.ids == nil || len(body.ids) > 0) {
		options := engine.QueryOptions{IDs: body.ids, Where: where, Include: body.include.fields()}
		err := from.QueryEach(c.ctx(), body.vectors, k, &options, func(vector int, m *engine.Match) error {
			t.begin(vector + 1)
			return t.add(&m.Record, m.Distance)
		})
		if err != nil {
			return err
		}
	}
	t.begin(len(body.vectors))
	t.end()
	c.json(t.parts()...)
	return nil
}
