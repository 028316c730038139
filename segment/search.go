package segment

import (
	"context"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/hnsw"
)

const (
	defaultEF = 100
	// scanBytes is how much a scan of filtered rows may read instead of a
	// filtered walk of the graph: it takes no longer, and of a segment that
	// nobody has searched yet it reads less. rowCost is what a row costs
	// beside its own bytes. Measured with 16 to 512 dimensions at ef 100.
	scanBytes = 16 << 20
	rowCost   = 256
)

// Query asks for the rows nearest to a vector.
type Query struct {
	Vector  []float32
	K       int             // how many, at most
	EF      int             // width of the graph walk, 0: 100
	Allowed *roaring.Bitmap // rows that may be found, nil: all
	Exact   bool            // look at every allowed row
}

// scratch is what a search needs beside its result.
type scratch struct {
	hnsw    hnsw.Scratch
	allowed []uint64
}

// Search appends to dst the K rows of Allowed that are nearest to Vector,
// ascending by distance and then row; fewer if there are fewer. Without
// Exact it may miss some. Distances are kernel.Distance.
func (r *Reader) Search(ctx context.Context, q Query, dst []hnsw.Neighbor) ([]hnsw.Neighbor, error) {
	err := r.guard(func() (err error) {
		dst, err = r.search(ctx, q, dst)
		return err
	})
	return dst, err
}

func (r *Reader) search(ctx context.Context, q Query, dst []hnsw.Neighbor) ([]hnsw.Neighbor, error) {
	if len(q.Vector) != r.dim {
		return dst, fmt.Errorf("query has %d dimensions instead of %d", len(q.Vector), r.dim)
	}
	if err := ctx.Err(); err != nil {
		return dst, err
	}
	m := int(r.rows)
	if q.Allowed != nil {
		if !q.Allowed.IsEmpty() && q.Allowed.Maximum() >= r.rows {
			return dst, fmt.Errorf("row %d of %d is allowed", q.Allowed.Maximum(), r.rows)
		}
		if m = int(q.Allowed.GetCardinality()); m == int(r.rows) {
			q.Allowed = nil
		}
	}
	if q.K = min(q.K, m); q.K <= 0 {
		return dst, nil
	}
	if q.EF <= 0 {
		q.EF = defaultEF
	}
	q.EF = max(q.EF, q.K)

	s, _ := r.scratch.Get().(*scratch)
	if s == nil {
		s = &scratch{}
	}
	defer r.scratch.Put(s)
	allowed := s.bitset(q.Allowed, r.rows)
	if g := r.graphFor(q, m); g != nil {
		v, err := r.matrix()
		if err != nil {
			return dst, err
		}
		return g.Search(dst, v, q.Vector, q.K, q.EF, allowed, &s.hnsw)
	}
	v, err := r.matrix()
	if err != nil {
		return dst, err
	}
	return hnsw.Exact(dst, v, q.Vector, q.K, allowed, &s.hnsw)
}

// graphFor is the graph if a query with m allowed rows is to walk it. The
// graph itself scans too where that is cheaper.
func (r *Reader) graphFor(q Query, m int) *hnsw.Graph {
	if q.Exact || m < int(r.rows)/4*3 && m <= scanBytes/(r.stride*4+rowCost) {
		return nil
	}
	return r.usableGraph()
}

// bitset is the rows in b as a bit for each of n, nil for nil.
func (s *scratch) bitset(b *roaring.Bitmap, n uint32) []uint64 {
	if b == nil {
		return nil
	}
	words := (int(n) + 63) / 64
	if cap(s.allowed) < words {
		s.allowed = make([]uint64, words)
	}
	s.allowed = s.allowed[:words]
	clear(s.allowed)
	b.WriteDenseTo(s.allowed)
	return s.allowed
}

// usableGraph is the graph, nil when there is none or it is damaged: then
// searches scan.
func (r *Reader) usableGraph() *hnsw.Graph {
	g, err := r.graph.get(r.decodeGraph)
	if err != nil {
		return nil
	}
	return g
}

func (r *Reader) decodeGraph() (g *hnsw.Graph, err error) {
	s, ok := r.file.Section(sectionGraph)
	if !ok {
		return nil, nil
	}
	err = r.file.Faults(func() error {
		b, err := s.Bytes(0, s.Len())
		if err != nil {
			return err
		}
		if g, err = hnsw.Decode(b, int(r.rows)); err != nil {
			return damaged(s, 0, "graph: %w", err)
		}
		return nil
	})
	return g, r.named(err)
}
