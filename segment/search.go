package segment

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/hnsw"
)

const (
	defaultEF = 100
	// exactRows is how many allowed rows are compared by their vectors: no
	// more than a search of the graph reads of them at its end.
	exactRows = 64
)

// Query asks for the rows nearest to a vector.
type Query struct {
	Vector  []float32
	K       int             // how many, at most
	EF      int             // width of the graph walk, 0: 100
	Allowed *roaring.Bitmap // rows that may be found, nil: all, or Dense
	Dense   []uint64        // the same as a bit for each row, for who asks again and again
	Matches int             // bits set in Dense
	Ready   *hnsw.Subset    // the same as Reader.Again gave it, instead of both
	Again   Again           // what Reader.Again calls the rows, which it did not have
	Exact   bool            // look at every allowed row
	// Late, when set, is asked at most once, after the graph was walked and before
	// the search looks at vectors: rows at that distance or beyond are not needed.
	// It may wait.
	Late func() (bound float32, ok bool)
	// IDs, when set, becomes the ids of what was found.
	IDs *[]string
	// Trace, when set, is told what the search did.
	Trace *Trace
}

// Trace says what a search did. It is the same each time, until rows are Ready.
type Trace struct {
	Plan                       string // of hnsw.Trace; "exact" without a graph
	Matches                    int    // rows that were allowed
	Expanded, Scored, Reranked int
	Bits, CodeBytes            int // of a number in a code, of a code; 0 without a graph
}

// scratch is what a search needs beside its result.
type scratch struct {
	hnsw    hnsw.Scratch
	allowed []uint64
	rows    []uint32 // whose ids are asked for
	spans   []span
	text    strings.Builder // ids of this and of earlier calls
}

func (r *Reader) takeScratch() *scratch {
	if s, ok := r.scratch.Get().(*scratch); ok {
		return s
	}
	return &scratch{}
}

// Search appends to dst the K rows of Allowed that are nearest to Vector,
// ascending by distance and then row; fewer if there are fewer, or if Late says
// that they are not needed. Without Exact it may miss some. Distances are
// kernel.Distance.
func (r *Reader) Search(ctx context.Context, q Query, dst []hnsw.Neighbor) ([]hnsw.Neighbor, error) {
	inBytes := r.bytes != nil && r.badBytes.get() == nil
	found, err := r.guarded(ctx, &q, dst, inBytes)
	if err != nil && inBytes && ofSection(err, r.bytes) {
		r.badBytes.set(err)
		q.Late, q.Again = nil, Again{} // they may have been asked, and told
		return r.guarded(ctx, &q, dst, false)
	}
	return found, err
}

func (r *Reader) guarded(ctx context.Context, q *Query, dst []hnsw.Neighbor, inBytes bool) ([]hnsw.Neighbor, error) {
	err := r.guard(func() (err error) {
		dst, err = r.search(ctx, q, dst, inBytes)
		return err
	})
	return dst, err
}

func (r *Reader) search(ctx context.Context, q *Query, dst []hnsw.Neighbor, inBytes bool) ([]hnsw.Neighbor, error) {
	if len(q.Vector) != r.dim {
		return dst, fmt.Errorf("query has %d dimensions instead of %d", len(q.Vector), r.dim)
	}
	if err := ctx.Err(); err != nil {
		return dst, err
	}
	if q.IDs != nil {
		*q.IDs = (*q.IDs)[:0]
	}
	m, err := r.matches(q)
	if err != nil {
		return dst, err
	}
	if q.Trace != nil {
		*q.Trace = Trace{Plan: "exact", Matches: m}
	}
	if q.K = min(q.K, m); q.K <= 0 {
		return dst, nil
	}
	if q.EF <= 0 {
		q.EF = defaultEF
	}
	q.EF = max(q.EF, q.K)

	s := r.takeScratch()
	defer r.scratch.Put(s)
	allowed := q.Dense
	if q.Allowed != nil {
		allowed = s.bitset(q.Allowed, r.rows)
	}
	g, err := r.graphFor(ctx, q, m)
	if err != nil {
		return dst, err
	}
	v, err := r.searched(g, inBytes)
	if err != nil {
		return dst, err
	}
	if g != nil && allowed != nil {
		r.remember(q.Again, g, v, allowed)
	}
	before := len(dst)
	if dst, err = r.nearest(ctx, g, v, q, allowed, m, s, dst); err != nil || q.IDs == nil {
		return dst, err
	}
	s.rows = s.rows[:0]
	for _, n := range dst[before:] {
		s.rows = append(s.rows, n.Row)
	}
	*q.IDs = slices.Grow(*q.IDs, len(s.rows))[:len(s.rows)]
	if err := r.idsOf(s, *q.IDs); err != nil {
		return dst[:before], err
	}
	return dst, nil
}

// matches is how many rows are allowed; a set of all of them is none.
func (r *Reader) matches(q *Query) (int, error) {
	switch {
	case q.Ready != nil:
		return q.Ready.Len(), nil
	case q.Allowed != nil:
		if !q.Allowed.IsEmpty() && q.Allowed.Maximum() >= r.rows {
			return 0, fmt.Errorf("row %d of %d is allowed", q.Allowed.Maximum(), r.rows)
		}
		m := int(q.Allowed.GetCardinality())
		if m == int(r.rows) {
			q.Allowed = nil
		}
		return m, nil
	case q.Dense != nil:
		if q.Matches < 0 || q.Matches > int(r.rows) || len(q.Dense) != int(r.rows+63)/64 {
			return 0, fmt.Errorf("%d rows in %d words are allowed of %d", q.Matches, len(q.Dense), r.rows)
		}
		return q.Matches, nil
	}
	return int(r.rows), nil
}

// graphFor is the graph if a query with m allowed rows is to be asked of it.
// Of a few rows the vectors are nearer than their codes, and a segment that
// nobody has searched yet need not be loaded for them.
func (r *Reader) graphFor(ctx context.Context, q *Query, m int) (*hnsw.Graph, error) {
	if q.Exact || m <= min(max(exactRows, 2*q.K), int(r.rows)/2) {
		return nil, nil
	}
	return r.usableGraph(ctx)
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
