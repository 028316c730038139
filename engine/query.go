package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/segment"
)

// QueryOptions narrow and tune a query. nil and the zero value search all
// records with the collection's parameters and return ids and distances only.
type QueryOptions struct {
	IDs     []string // only these; nil: any, empty: none
	Where   *Filter  // only what matches; applied before ranking
	EF      int      // candidates the graph walk keeps; 0: the collection's EFSearch
	Exact   bool     // scan, do not walk the graph
	Include Include
}

// Query returns the k records nearest to vector, nearest first; fewer when
// fewer match. A collection that never had a record has no dimension yet and
// answers every vector with nothing.
func (c *Collection) Query(ctx context.Context, vector []float32, k int, opts *QueryOptions) ([]Match, error) {
	out, err := c.QueryMany(ctx, [][]float32{vector}, k, opts)
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// QueryMany answers several vectors from one view of the collection, with the
// filter evaluated once.
func (c *Collection) QueryMany(ctx context.Context, vectors [][]float32, k int, opts *QueryOptions) ([][]Match, error) {
	if err := c.db.enter(ctx); err != nil {
		return nil, err
	}
	defer c.db.leave()
	if k < 0 {
		return nil, &InvalidError{Field: "k", Index: -1, Reason: fmt.Sprintf("%d is negative", k)}
	}
	v, err := c.view()
	if err != nil {
		return nil, err
	}
	defer v.close()
	out := make([][]Match, len(vectors))
	if v.dimension == 0 {
		return out, nil
	}
	for i, q := range vectors {
		if len(q) != v.dimension {
			return nil, &DimensionError{Want: v.dimension, Got: len(q)}
		}
		if err := checkEmbedding(q, i, &c.db.opts.Limits); err != nil {
			return nil, err
		}
	}
	k = min(k, v.live)
	if k == 0 {
		return out, nil
	}
	if opts == nil {
		opts = &QueryOptions{}
	}
	s, err := v.newSearch(ctx, c, opts, k)
	if err != nil {
		return nil, err
	}
	for i, q := range vectors {
		if out[i], err = s.run(ctx, q); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// search is a query with everything evaluated that does not depend on the
// vector.
type search struct {
	v       *view
	metric  Metric
	k, ef   int
	exact   bool
	include Include
	targets []searchTarget // segments with at least one allowed row
	rows    []*memRow      // allowed rows in memory
	hits    []hnsw.Neighbor
}

type searchTarget struct {
	segment int
	allowed *roaring.Bitmap // nil: all rows
}

func (v *view) newSearch(ctx context.Context, c *Collection, opts *QueryOptions, k int) (*search, error) {
	c.db.mu.RLock()
	ef, metric := c.spec.EFSearch, c.spec.Metric
	c.db.mu.RUnlock()
	if opts.EF > 0 {
		ef = opts.EF
	}
	s := &search{v: v, metric: metric, k: k, ef: max(min(ef, v.live), k), exact: opts.Exact, include: opts.Include}
	for i := range v.dead {
		rows, all, err := v.allowed(ctx, i, opts.IDs, opts.Where)
		if err != nil {
			return nil, err
		}
		if all || !rows.IsEmpty() {
			s.targets = append(s.targets, searchTarget{i, rows})
		}
	}
	sel := Selection{IDs: opts.IDs, Where: opts.Where}
	if v.frozen != nil {
		s.addTable(v.frozen.table, v.fdead.rows, sel)
	}
	s.addTable(v.mem, nil, sel)
	return s, nil
}

func (s *search) addTable(t *table, dead *roaring.Bitmap, sel Selection) {
	if sel.Where == nil && (dead == nil || dead.IsEmpty()) {
		s.rows = append(s.rows, t.selected(sel.IDs)...)
		return
	}
	for cur := tableCursor(t, dead, sel); ; {
		more, _ := cur.next() // rows in memory do not fail
		if !more {
			return
		}
		s.rows = append(s.rows, cur.row())
	}
}

// candidate is a row that may be among the nearest.
type candidate struct {
	distance float32
	order    uint64
	mem      *memRow // nil: row of the segment
	segment  int
	row      uint32
}

// compareCandidates sorts by distance, equal ones by insertion order.
func compareCandidates(a, b candidate) int {
	if c := cmp.Compare(a.distance, b.distance); c != 0 {
		return c
	}
	return cmp.Compare(a.order, b.order)
}

func (s *search) run(ctx context.Context, q []float32) ([]Match, error) {
	best, err := s.searchMemory(ctx, q)
	if err != nil {
		return nil, err
	}
	for _, t := range s.targets {
		reader, err := s.v.reader(t.segment)
		if err != nil {
			return nil, err
		}
		s.hits, err = reader.Search(ctx, segment.Query{Vector: q, K: s.k, EF: s.ef, Allowed: t.allowed, Exact: s.exact}, s.hits[:0])
		if err != nil {
			return nil, err
		}
		for _, h := range s.hits {
			order, err := reader.Order(h.Row)
			if err != nil {
				return nil, err
			}
			best = append(best, candidate{distance: h.Distance, order: order, segment: t.segment, row: h.Row})
		}
	}
	slices.SortFunc(best, compareCandidates)
	best = best[:min(len(best), s.k)]
	out := make([]Match, len(best))
	for i, b := range best {
		out[i].Distance = s.visible(b.distance)
		if b.mem != nil {
			loadMemRow(b.mem, s.include, &out[i].Record)
			continue
		}
		reader, err := s.v.reader(b.segment)
		if err != nil {
			return nil, err
		}
		if err := loadRow(reader, b.row, s.include, &out[i].Record); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// visible keeps a cosine distance within 0 to 2, where rounding may lead out of it.
func (s *search) visible(d float32) float32 {
	if s.metric == Cosine {
		return min(max(d, 0), 2)
	}
	return d
}

// searchMemory scans the rows in memory: they are few enough, and so the
// write path has no graph to keep.
func (s *search) searchMemory(ctx context.Context, q []float32) ([]candidate, error) {
	inv := kernel.InvNorm(q)
	best := make([]candidate, 0, min(2*s.k, len(s.rows)))
	worst := candidate{order: 0, distance: 0}
	full := false
	for i, r := range s.rows {
		if i%1024 == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		cand := candidate{order: r.order, mem: r}
		switch s.metric {
		case L2:
			cand.distance = kernel.L2Squared(q, r.vector)
		case Cosine:
			cand.distance = 1 - kernel.Dot(q, r.vector)*inv*r.invNorm
		default:
			cand.distance = 1 - kernel.Dot(q, r.vector)
		}
		if full && compareCandidates(cand, worst) >= 0 {
			continue
		}
		// Keep up to 2k and cut back to k when that is reached: amortised
		// constant work a row without a heap.
		if best = append(best, cand); len(best) >= 2*s.k {
			slices.SortFunc(best, compareCandidates)
			best = best[:s.k]
			worst, full = best[s.k-1], true
		}
	}
	return best, nil
}
