package hnsw

import (
	"context"
	"slices"

	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/quant"
)

// Scratch is the memory of one search at a time: a bit or two per row, some 30 bytes
// per unit of ef, and four per row of a Subset with copies. The zero value is ready.
// Keeping it for the next search saves the allocations; beside the trace it holds
// nothing that matters between searches.
type Scratch struct {
	query     quant.Query
	visited   []uint64
	bridged   []uint64 // rows that are not allowed and whose links were looked at
	pool      pool
	list      list
	keys      []float32 // of all copies
	near      []uint32  // room for copies that are near enough
	nearKeys  []float32
	listed    uint64        // copies that have this key or less were found; 0: not looked for that way
	hops      [2]kernel.Hop // one is being gathered while the other waits to be scored
	rows      []uint32
	elsewhere []uint64   // keys, see lookElsewhere
	block     [64]uint32 // rows of a set, on their way to a hop
	dist      []float32
	best      nearest // by float32
	scorer    scorer
	vectors   Vectors  // what scorer scores, during a search
	names     []uint32 // of the rows that are searched, those of vectors; nil: the same
	inside    []uint32 // room for some of those
	ctx       context.Context
	likely    func([]uint32) // of the query
	plain     bool           // the walk compares vectors
	err       error          // of Vectors.Touch or ctx: the search is over
	trace     Trace
}

// Trace is what a search did.
type Trace struct {
	// Plan is the way it took last: "exact" compared vectors only, "scan" all
	// allowed codes, "packed" the copies in a subset, "walk" went through the graph,
	// "sweep" did with a filter, and "subgraph" went through the part that is allowed. A way that came to
	// nothing before is counted below too.
	Plan     string
	Matches  int // rows that were allowed
	Expanded int // rows whose links were followed
	Scored   int // codes that were compared with the query
	Reranked int // vectors that were, at the end or by the walk
}

// Trace tells what the last search with this scratch did.
func (s *Scratch) Trace() Trace { return s.trace }

// aim prepares for comparing the vector of q with vectors. They are kept by
// value: a pointer to the caller's would cost an allocation.
func (s *Scratch) aim(v Vectors, q *Query) {
	s.vectors, s.ctx, s.likely = v, q.Context, q.Likely
	s.names, s.err, s.listed = nil, nil, 0 // a search that ended in a panic left them
	s.scorer.aim(&s.vectors, q.Vector)
	s.trace = Trace{}
}

// aimCodes prepares for comparing the query with codes, or with vectors where
// there are none; the marks of all rows are as they were left.
func (s *Scratch) aimCodes(g *Graph) {
	words := (g.rows + 63) / 64
	s.visited = slices.Grow(s.visited[:0], words)[:words]
	if s.plain = g.plain; s.plain {
		for i := range s.hops {
			s.hops[i].AimRows(s.vectors.Data, s.vectors.Stride, g.rows, s.visited)
		}
		return
	}
	g.codec.Aim(&s.query, s.scorer.q)
	if g.copies != nil {
		s.hops[0].AimPanels(g.copies, s.query.Codes, s.query.Mul, s.query.Sub)
		return
	}
	for i := range s.hops {
		s.hops[i].Aim(&g.codes, s.query.Codes, s.query.Mul, s.query.Sub, s.visited)
	}
}

// release keeps no vector alive and returns what ended the search.
func (s *Scratch) release() error {
	err := s.err
	s.vectors, s.names, s.scorer, s.ctx, s.likely, s.err = Vectors{}, nil, scorer{}, nil, nil, nil
	return err
}

// touch reports whether rows may be read.
func (s *Scratch) touch(rows []uint32) bool {
	if s.err == nil && s.vectors.Touch != nil {
		s.err = s.vectors.Touch(rows)
	}
	return s.err == nil
}

// goesOn reports whether the search is not over, by its context either.
func (s *Scratch) goesOn() bool {
	if s.err == nil && s.ctx != nil {
		s.err = s.ctx.Err()
	}
	return s.err == nil
}

// mark sets the mark of a row.
func (s *Scratch) mark(row uint32) { s.visited[row>>6] |= 1 << (row & 63) }

// offer scores the rows of h and merges those that are near enough into the
// pool. It returns the first place that changed.
func (s *Scratch) offer(h *kernel.Hop) (first int) {
	p := &s.pool
	keys, rows := s.score(h, p.below())
	if len(keys) == 0 {
		return p.n
	}
	p.n, first = kernel.Offer(p.keys, p.n, p.limit, keys, rows)
	return first
}

// score empties h and returns the keys of its rows that are less than below.
func (s *Scratch) score(h *kernel.Hop, below float32) (keys []float32, rows []uint32) {
	if !s.plain {
		s.trace.Scored += h.Len()
		return h.Score(below)
	}
	rows = h.Take()
	if len(rows) == 0 || !s.touch(rows) {
		return nil, nil
	}
	s.trace.Reranked += len(rows)
	s.dist = slices.Grow(s.dist[:0], scanBlock)[:scanBlock]
	s.scorer.score(rows, s.dist[:len(rows)])
	return less(s.dist[:len(rows)], rows, below)
}
