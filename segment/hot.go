package segment

import (
	"context"
	"errors"

	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/disk"
)

// hot is the part of a segment that every search reads: the graph with the
// codes of all rows. It is loaded by the first search, whole, and stays until
// the segment is closed.
type hot struct {
	graph *hnsw.Graph // nil: there are too few rows for one
	own   bool        // it lies in memory of the process's own (disk.Section.Resident)
}

// usableGraph is the graph, nil when there is none or it cannot be used: then
// searches scan. The error is that of ctx.
func (r *Reader) usableGraph(ctx context.Context) (*hnsw.Graph, error) {
	h, err := r.graph.get(ctx, r.loadGraph)
	if err != nil {
		return nil, ctx.Err()
	}
	return h.graph, nil
}

func (r *Reader) loadGraph() (h hot, err error) {
	s, ok := r.file.Section(sectionGraph)
	if !ok {
		return h, nil
	}
	err = r.file.Faults(func() error {
		b, own, err := s.Resident()
		if err == nil {
			h.own = own
			h.graph, err = r.decodeGraph(s, b)
		}
		return err
	})
	return h, r.named(err)
}

// mappedGraph decodes the graph where it lies in the file, for one use.
func (r *Reader) mappedGraph() (*hnsw.Graph, error) {
	s, ok := r.file.Section(sectionGraph)
	if !ok {
		return nil, nil
	}
	b, err := s.Bytes(0, s.Len())
	if err != nil {
		return nil, err
	}
	return r.decodeGraph(s, b)
}

// Index tells what the index of the segment is, without loading it; found is
// false when there are too few rows for one.
func (r *Reader) Index() (f hnsw.Facts, found bool, err error) {
	err = r.guard(func() error {
		s, ok := r.file.Section(sectionGraph)
		if !ok {
			return nil
		}
		var err error
		f, err = hnsw.Describe(s.Len(), func(n int) ([]byte, error) { return s.Bytes(0, n) })
		if err != nil && !errors.Is(err, disk.ErrCorrupt) {
			err = damaged(s, 0, "%w", err)
		}
		found = err == nil
		return err
	})
	return f, found, err
}

func (r *Reader) decodeGraph(s *disk.Section, b []byte) (*hnsw.Graph, error) {
	g, err := hnsw.Decode(b, int(r.rows))
	if err == nil {
		err = g.Fits(r.metric, r.dim)
	}
	if err != nil {
		return nil, damaged(s, 0, "%w", err)
	}
	return g, nil
}

// nearest asks the graph, or every allowed row when g is nil; so many rows are
// allowed.
func (r *Reader) nearest(ctx context.Context, g *hnsw.Graph, v hnsw.Vectors, q *Query, allowed []uint64, matches int, s *scratch, dst []hnsw.Neighbor) (_ []hnsw.Neighbor, err error) {
	ask := hnsw.Query{Vector: q.Vector, K: q.K, EF: q.EF, Allowed: allowed, Matches: matches, Subset: q.Ready, Late: q.Late, Exact: q.Exact, Context: ctx}
	if q.IDs != nil {
		ask.Likely = r.fetchEnds
	}
	if g == nil {
		ask.Late = nil // a scan reads all vectors, and need not wait for what others find
		dst, err = hnsw.Exact(dst, v, ask, &s.hnsw)
	} else {
		dst, err = g.Search(dst, v, ask, &s.hnsw)
	}
	if q.Trace != nil {
		did := s.hnsw.Trace()
		q.Trace.Plan, q.Trace.Expanded, q.Trace.Scored, q.Trace.Reranked = did.Plan, did.Expanded, did.Scored, did.Reranked
		if g != nil {
			q.Trace.Bits, q.Trace.CodeBytes = g.Codes()
		}
	}
	return dst, err
}
