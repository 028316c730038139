package engine

import (
	"context"
	"fmt"
	"strings"

	"github.com/chromad/chromad/segment"
)

// Explanation says how a query was answered. The same query of the same
// segments gives the same one, until its condition has come so often that rows are
// "packed": it counts work, not time.
type Explanation struct {
	Memory   int           // rows in memory that were compared, all of those that match
	Segments []SegmentPlan // that have rows which match, in the order in which they were searched
}

// SegmentPlan says how one segment was searched.
type SegmentPlan struct {
	Segment uint64 // number in the file's name
	Rows    int    // dead ones included
	Matches int    // rows that were allowed: alive, and what ids and filter select
	// Plan is "walk" (along the graph), "sweep" (along the graph, keeping what
	// is allowed), "subgraph" (along what is allowed of it), "scan" (codes of all
	// that is allowed), "packed" (copies of these, lying together, of a condition that
	// came before), or "exact" (vectors of all that is allowed).
	Plan      string
	Expanded  int // rows whose links were followed
	Scored    int // rows whose distance was estimated from their codes
	Reranked  int // rows whose distance was computed from their vectors
	Bits      int // of a number in a code; 32: the graph is walked over vectors, 0: there is no index
	CodeBytes int // of a code, 0 where there are none
}

// Explain answers a query as Query does, and says how. Segments are searched
// one after the other.
func (c *Collection) Explain(ctx context.Context, vector []float32, k int, opts *QueryOptions) (*Explanation, []Match, error) {
	w := c.db.worker()
	defer c.db.retire(w)
	e := &Explanation{}
	w.vector[0], w.answer[0] = vector, nil
	if err := c.query(ctx, w, w.vector[:], k, opts, goal{out: w.answer[:], explain: e}); err != nil {
		return nil, nil, err
	}
	return e, w.answer[0], nil
}

func (e *Explanation) add(r *segment.Reader, t *segment.Trace) {
	e.Segments = append(e.Segments, SegmentPlan{
		Segment: r.Number(), Rows: r.Rows(), Matches: t.Matches, Plan: t.Plan,
		Expanded: t.Expanded, Scored: t.Scored, Reranked: t.Reranked, Bits: t.Bits, CodeBytes: t.CodeBytes,
	})
}

// String is one line for each source, for logs and terminals.
func (e *Explanation) String() string {
	var b strings.Builder
	if e.Memory > 0 {
		fmt.Fprintf(&b, "memory: exact, %d rows\n", e.Memory)
	}
	for _, s := range e.Segments {
		fmt.Fprintf(&b, "segment %d: %s, %d of %d rows match, %d expanded, %d scored, %d reranked, codes of %d bits and %d bytes\n",
			s.Segment, s.Plan, s.Matches, s.Rows, s.Expanded, s.Scored, s.Reranked, s.Bits, s.CodeBytes)
	}
	return b.String()
}
