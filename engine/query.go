package engine

import (
	"context"
	"fmt"
)

// QueryOptions narrow and tune a query. nil and the zero value search all
// records with the collection's parameters and return ids and distances only.
type QueryOptions struct {
	IDs     []string // only these; nil: any, empty: none
	Where   *Filter  // only what matches; applied before ranking
	EF      int      // candidates the graph walk keeps; 0: the collection's EFSearch
	Exact   bool     // compare with every record, do not walk the graph
	Include Include
}

// Query returns the k records nearest to vector, nearest first, of equal
// distances the one that was inserted first; fewer when fewer match. A
// collection that never had a record has no dimension yet and answers every
// vector with nothing.
func (c *Collection) Query(ctx context.Context, vector []float32, k int, opts *QueryOptions) ([]Match, error) {
	w := c.db.worker()
	defer c.db.retire(w)
	w.vector[0], w.answer[0] = vector, nil
	if err := c.query(ctx, w, w.vector[:], k, opts, goal{out: w.answer[:]}); err != nil {
		return nil, err
	}
	return w.answer[0], nil
}

// QueryMany answers several vectors from one view of the collection, with the
// filter evaluated once. It uses the processors that are idle.
func (c *Collection) QueryMany(ctx context.Context, vectors [][]float32, k int, opts *QueryOptions) ([][]Match, error) {
	w := c.db.worker()
	defer c.db.retire(w)
	out := make([][]Match, len(vectors))
	if err := c.query(ctx, w, vectors, k, opts, goal{out: out}); err != nil {
		return nil, err
	}
	return out, nil
}

// goal is what becomes of the matches of a query: out[i] is set to those of
// vectors[i], or see is told each of them.
type goal struct {
	out     [][]Match
	see     func(vector int, m *Match) error
	explain *Explanation // is told how, of one vector
}

// query answers vectors in the memory of w.
func (c *Collection) query(ctx context.Context, w *worker, vectors [][]float32, k int, opts *QueryOptions, to goal) error {
	if err := c.db.enter(ctx); err != nil {
		return err
	}
	defer c.db.leave()
	if k < 0 {
		return &InvalidError{Field: "k", Index: -1, Reason: fmt.Sprintf("%d is negative", k)}
	}
	if err := c.hold(&w.view); err != nil {
		return err
	}
	defer w.view.close()
	return c.ask(ctx, w, vectors, k, opts, to)
}

// ask is query of the view that w holds. They are two functions because where many
// returns meet several defers, Go keeps a list of these in memory.
func (c *Collection) ask(ctx context.Context, w *worker, vectors [][]float32, k int, opts *QueryOptions, to goal) error {
	v := &w.view
	if err := c.narrow(ctx, v); err != nil {
		return err
	}
	if v.dimension == 0 {
		return nil
	}
	for i, q := range vectors {
		if len(q) != v.dimension {
			return &DimensionError{Want: v.dimension, Got: len(q)}
		}
		if err := checkEmbedding(q, i, &c.db.opts.Limits); err != nil {
			return err
		}
	}
	if k = min(k, v.live); k == 0 {
		return nil
	}
	if opts == nil {
		opts = &QueryOptions{}
	}
	c.db.cores.begin()
	defer c.db.cores.end()
	s := &w.search
	s.explain = to.explain
	if err := s.prepare(ctx, c, v, opts, k, len(vectors) > 1); err != nil {
		return err
	}
	c.scanned(len(s.rows), len(vectors))
	c.searched(s, len(vectors), v.live)
	if to.see != nil {
		return s.each(ctx, w, vectors, to.see)
	}
	return s.all(ctx, w, vectors, to.out)
}
