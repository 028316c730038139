package engine

import (
	"context"
	"errors"
)

// What QueryEach holds at a time: so many matches of several vectors, with
// fields of so many bytes. What is beyond either is held one record at a time.
const (
	eachMatches = 4096
	eachBytes   = 16 << 20
)

// errTooMuch is why a few vectors could not be answered together.
var errTooMuch = errors.New("more than is held at a time")

// QueryEach is QueryMany for answers of any size. From one view of the
// collection, with the filter evaluated once, see is told every match: those of
// the first vector, nearest first, then those of the next. However many there
// are, few of them are in memory at a time. What see returns, if it is not nil,
// ends the query and is returned. What the Match holds is see's to keep, the Match
// itself is used again once see has returned. The vectors are the caller's again when
// QueryEach returns.
func (c *Collection) QueryEach(ctx context.Context, vectors [][]float32, k int, opts *QueryOptions, see func(vector int, m *Match) error) error {
	w := c.db.worker()
	defer c.db.retire(w)
	return c.query(ctx, w, vectors, k, opts, goal{see: see})
}

// each answers vectors, as many together as have few matches. When these are too
// long after all, those vectors are searched again, and all further ones one
// after the other.
func (s *search) each(ctx context.Context, w *worker, vectors [][]float32, see func(int, *Match) error) error {
	together := min(max(1, eachMatches/s.k), len(vectors))
	var out [][]Match
	if together > 1 {
		out = make([][]Match, together)
		s.bounded = true
	}
	for first := 0; first < len(vectors); {
		if together == 1 {
			if err := s.alone(ctx, w, first, vectors[first], see); err != nil {
				return err
			}
			first++
			continue
		}
		part := vectors[first:min(first+together, len(vectors))]
		s.room.Store(eachBytes)
		err := s.all(ctx, w, part, out)
		if errors.Is(err, errTooMuch) {
			together = 1
			continue
		}
		if err == nil {
			err = told(first, out[:len(part)], see)
		}
		if err != nil {
			return err
		}
		first += len(part)
	}
	return nil
}

func told(first int, out [][]Match, see func(int, *Match) error) error {
	for i, matches := range out {
		for n := range matches {
			if err := see(first+i, &matches[n]); err != nil {
				return err
			}
		}
		out[i] = nil
	}
	return nil
}

// aloneIDs is how many ids are read together.
const aloneIDs = 256

// alone answers one vector and loads a record when it is told.
func (s *search) alone(ctx context.Context, w *worker, number int, q []float32, see func(int, *Match) error) error {
	if err := s.find(ctx, w, q); err != nil {
		return err
	}
	m := &w.match
	for from := 0; from < len(w.best); from += aloneIDs {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		to := min(from+aloneIDs, len(w.best))
		ids, err := s.idsOf(w, from, to)
		if err != nil {
			return err
		}
		for i, id := range ids {
			*m = Match{}
			if err := s.load(w, from+i, id, m); err != nil {
				return err
			}
			if err := see(number, m); err != nil {
				return err
			}
		}
	}
	return nil
}

// loaded counts what was loaded of a record, where that is bounded.
func (s *search) loaded(r *Record) error {
	if !s.bounded || s.include == 0 {
		return nil
	}
	n := 4 * len(r.Embedding)
	for key, v := range r.Metadata {
		n += len(key) + v.Size()
	}
	if r.Document != nil {
		n += len(*r.Document)
	}
	if r.URI != nil {
		n += len(*r.URI)
	}
	if s.room.Add(-int64(n)) < 0 {
		return errTooMuch
	}
	return nil
}
