package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
)

// writeLog writes the records to the new store that the log has and no
// segment, as their users wrote them.
//
// Behind a gap an entry may mean something else than it did: an update of a
// record that the gap has deleted, an addition of one that it had. So a
// collection gets its entries up to the first gap that may concern it, and no
// further: it is then what it was at one time. A gap does not concern a
// collection that was made after it, nor one whose segments hold everything
// up to its end.
func (r *repair) writeLog(out string) (err error) {
	db, err := Open(out, r.outOptions())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	left := map[*source]*Loss{}
	err = r.entries(func(seq uint64, o op, payload []byte) error {
		if !o.isData() {
			return nil
		}
		id, err := entryCollection(payload)
		if err != nil {
			return nil
		}
		s := r.byID[id]
		if s == nil && !r.found && !r.gone[id] && !r.wiped {
			s = r.unheard(db, id)
		}
		if s == nil || r.gone[id] || seq <= s.c.manifest.flushed {
			return nil
		}
		if end := r.end(s); seq >= end {
			if left[s] == nil {
				left[s] = &Loss{Row: -1, First: seq, Text: fmt.Sprintf("entries behind the gap at %d are not applied: what is lost may have changed what they mean", end)}
			}
			left[s].Last = seq
			return nil
		}
		return r.write(db, s, seq, o, payload)
	})
	for _, s := range r.sources {
		if l := left[s]; l != nil {
			r.lose(s, *l)
		}
		err = cmp.Or(err, r.count(db, s))
	}
	return err
}

// end is the position of the first entry that must not be applied.
func (r *repair) end(s *source) uint64 {
	for _, g := range r.gaps {
		if g.end > s.c.manifest.flushed+1 && g.end > s.created {
			return g.first
		}
	}
	return r.next + 1<<62
}

func (r *repair) write(db *DB, s *source, seq uint64, o op, payload []byte) error {
	c := db.collectionOf(s.c.id)
	lost := func(err error) error {
		r.lose(s, Loss{Row: -1, First: seq, Last: seq, Text: fmt.Sprintf("an entry of the log: %v", err)})
		return nil
	}
	payload, err := r.db.openEntry(nil, payload)
	switch {
	case errors.Is(err, ErrKey), errors.Is(err, ErrCorrupt):
		return lost(err)
	case err != nil:
		return err
	}
	if o == opDelete {
		e, err := decodeDeleteEntry(payload)
		if err != nil {
			return lost(err)
		}
		for _, id := range e.ids {
			delete(s.lost, id)
		}
		_, err = c.Delete(r.ctx, Selection{IDs: e.ids})
		return err
	}
	if o == opExpire {
		return r.expire(c, s, payload, lost)
	}
	e, err := decodeWriteEntry(payload)
	if err != nil {
		return lost(err)
	}
	if e.rule != nil && s.unjudged(e) {
		return lost(errors.New("it was written under a rule about records that are lost, in part or with their ids: whether the rule allowed it cannot be told"))
	}
	records := e.records[:0]
	for _, rec := range e.records {
		if s.lost[rec.ID] {
			switch e.kind {
			case writeAdd: // the record was there, so nothing was added
				continue
			case writeUpdate:
				r.lose(s, Loss{ID: rec.ID, Row: -1, First: seq, Last: seq, Text: "an update of a record that is lost"})
				continue
			}
			r.lose(s, Loss{ID: rec.ID, Row: -1, First: seq, Last: seq, Text: "what a record had that was lost before this entry has changed a part of it"})
			delete(s.lost, rec.ID)
		}
		records = append(records, rec)
	}
	g, err := c.Under(e.rule)
	if err == nil {
		err = c.writeOn(r.ctx, g, e.kind, records, e.terms)
	}
	if errors.Is(err, ErrRule) || errors.Is(err, ErrHeld) {
		return nil // as it was then
	}
	if errors.Is(err, ErrInvalid) || errors.Is(err, ErrDimension) || errors.Is(err, ErrTooLarge) {
		return lost(err)
	}
	return err
}

// expire deletes what the background had deleted. Of a record that is lost in part,
// its time perhaps with it, the entry itself says that it was over.
func (r *repair) expire(c *Collection, s *source, payload []byte, lost func(error) error) error {
	e, err := decodeExpireEntry(payload)
	if err != nil {
		return lost(err)
	}
	var partly []string
	for _, id := range e.ids {
		delete(s.lost, id)
		if s.partly[id] {
			partly = append(partly, id)
		}
	}
	if _, err = c.Delete(r.ctx, Selection{IDs: append([]string{}, partly...)}); err == nil {
		_, err = c.expireSome(r.ctx, nil, e)
	}
	return err
}

// unjudged reports whether an entry under a rule meets records that are not
// what they were. It is as if it were lost then: nobody may get to what a rule
// had kept from him. What later entries say of its records is in doubt too.
func (s *source) unjudged(e *writeEntry) bool {
	doubt := s.nameless > 0
	for i := range e.records {
		doubt = doubt || s.lost[e.records[i].ID] || s.partly[e.records[i].ID]
	}
	if doubt {
		for i := range e.records {
			s.lost[e.records[i].ID] = true
		}
	}
	return doubt
}

// unheard is a collection that only entries of records speak of.
func (r *repair) unheard(db *DB, id ID) *source {
	c := r.recovered(id, Spec{})
	s := r.source(c)
	e := &catalogEntry{op: opCreateCollection, tenant: c.tenant, database: c.database, name: c.name, id: id, spec: *c.spec.Load()}
	if err := db.catMu.lock(r.ctx); err != nil {
		return nil
	}
	defer db.catMu.Unlock()
	if db.createCollection(e) != nil {
		return nil
	}
	s.out = RepairedCollection{ID: id.String(), Tenant: c.tenant, Database: c.database, Name: c.name, Recovered: true}
	r.sources = append(r.sources, s)
	r.chose("the collection %s is known from records in the log only: its metric is taken to be l2", id)
	return s
}

// collectionOf finds a collection by its id.
func (db *DB) collectionOf(id ID) *Collection {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.catalog.collections[id]
}

// count completes the report of a collection.
func (r *repair) count(db *DB, s *source) error {
	n, err := db.collectionOf(s.c.id).Count(context.WithoutCancel(r.ctx))
	if err != nil {
		return err
	}
	s.out.Records = n
	r.report.Collections = append(r.report.Collections, s.out)
	if s.nameless > 0 && !s.recovered {
		r.chose("collection %q: %d records are lost with their ids. An addition in the log that met one of these was ignored then, and is kept now",
			s.c.name, s.nameless)
	}
	return nil
}
