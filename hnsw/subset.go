package hnsw

import (
	"math/bits"
	"slices"

	"github.com/chromad/chromad/internal/kernel"
)

// A Subset is rows of a graph for who asks for the nearest of the same rows again
// and again: those of a condition, or of a rule about who may see what, which come
// with query after query. What a search reads of the rows lies together, so that
// comparing all of them goes through memory in order. It never changes and may be
// used by many goroutines.
type Subset struct {
	allowed []uint64
	matches int
	lumped  bool // they lie together, see Graph.together
	// rows are those of the graph that the copies are of, ascending; none when
	// they are too many for copies.
	rows    []uint32
	graph   *Graph  // the codes of rows, and no links
	vectors Vectors // of rows; none: they are read where they are
}

const (
	// Of more than one row in packedShare a walk finds the allowed ones sooner.
	packedShare = 4
	// packedVectors is how many bytes of vectors are copied: as much as a
	// processor has near.
	packedVectors = 2 << 20
	// In the time of a code here and there, packedNear bytes of copies are gone through where
	// all of them are no more than a processor has near, and packedFar of what is beyond that.
	packedNear = 640
	packedFar  = 320
	// Where searches walk over vectors, a copy of one takes so much of the time of one.
	packedVector = 0.4
)

// Subset copies what searches read of the rows in a set, where that takes at most
// so many bytes: their vectors too if these may be copied, are few, and can be read
// without a Touch.
func (g *Graph) Subset(v Vectors, allowed []uint64, vectors bool, most int) (*Subset, error) {
	if err := g.fits(&v, v.Dim); err != nil {
		return nil, err
	}
	allowed = slices.Clone(trim(allowed, g.rows))
	u := &Subset{allowed: allowed, matches: count(allowed, g.rows)}
	u.lumped = g.together(allowed, u.matches, v.Metric)
	row := v.Dim * 4
	if v.Bytes.Data != nil {
		row = v.Bytes.Stride
	}
	vectors = vectors && v.Touch == nil && u.matches*row <= packedVectors
	copied := 0
	if vectors {
		copied += u.matches * row
		if v.Metric == kernel.Cosine {
			copied += u.matches * 4
		}
	}
	if g.codec != nil {
		copied += kernel.PanelBytes(u.matches, g.codes.Stride)
	}
	if u.matches == 0 || u.matches > g.rows/packedShare || copied == 0 || u.Bytes()+4*u.matches+copied > most {
		return u, nil
	}
	u.rows = make([]uint32, 0, u.matches)
	for w, word := range allowed {
		for ; word != 0; word &= word - 1 {
			if row := w<<6 + bits.TrailingZeros64(word); row < g.rows {
				u.rows = append(u.rows, uint32(row))
			}
		}
	}
	u.graph = g.only(u.rows)
	if vectors {
		u.vectors = v.only(u.rows)
	}
	return u, nil
}

// only is the codes of rows.
func (g *Graph) only(rows []uint32) *Graph {
	u := &Graph{rows: len(rows), entrySeat: -1, codec: g.codec, coarsest: g.coarsest}
	if g.codec != nil {
		u.copies = kernel.NewPanels(&g.codes, g.codes.Stride, rows)
	}
	return u
}

// only is the vectors of rows.
func (v *Vectors) only(rows []uint32) Vectors {
	u := Vectors{Metric: v.Metric, Rows: len(rows), Dim: v.Dim, Stride: v.Dim}
	if b := &v.Bytes; b.Data != nil {
		u.Bytes = kernel.ByteRows{Base: b.Base, Stride: b.Stride, Data: make([]uint8, 0, len(rows)*b.Stride)}
		for _, r := range rows {
			u.Bytes.Data = append(u.Bytes.Data, b.Data[int(r)*b.Stride:][:b.Stride]...)
		}
	} else {
		u.Data = make([]float32, 0, len(rows)*v.Dim)
		for _, r := range rows {
			u.Data = append(u.Data, v.row(r)...)
		}
	}
	if v.Metric == kernel.Cosine {
		for _, r := range rows {
			u.InvNorms = append(u.InvNorms, v.InvNorms[r])
		}
	}
	return u
}

// Len is the number of rows.
func (u *Subset) Len() int { return u.matches }

// Bytes is the memory that it takes.
func (u *Subset) Bytes() int {
	n := 8*len(u.allowed) + 4*len(u.rows) + 4*len(u.vectors.Data) + len(u.vectors.Bytes.Data) + 4*len(u.vectors.InvNorms)
	if u.graph != nil && u.graph.copies != nil {
		n += u.graph.copies.Bytes()
	}
	return n
}

// packed reports whether there are copies.
func (u *Subset) packed() bool { return u != nil && u.graph != nil }

// cost is how many codes of rows here and there are compared in the time that
// all allowed ones take.
func (q *Query) cost(matches int) int {
	if !q.Subset.packed() {
		return matches
	}
	codec := q.Subset.graph.codec
	if codec == nil {
		return int(packedVector * float64(matches))
	}
	bytes := kernel.PanelBytes(matches, codec.Stride())
	near := min(bytes, packedVectors)
	return min(matches, near/packedNear+(bytes-near)/packedFar)
}

// inPacked collects the best rows of a subset by its copies.
func (s *Scratch) inPacked(q *Query, k int) {
	u := q.Subset
	q.Subset, q.Allowed = nil, nil
	s.likely = nil // whose rows have other numbers
	defer func() {
		for i := range s.hops {
			s.hops[i].Forget() // the copies may be given up while s is kept
		}
	}()
	if u.vectors.Rows > 0 {
		s.vectors = u.vectors
	} else {
		s.names = u.rows
	}
	u.graph.answer(s, q, k, len(u.rows))
	s.trace.Plan = "packed"
	for i, key := range s.best.keys { // in the same order
		s.best.keys[i] = key>>32<<32 | uint64(u.rows[nodeOf(key)])<<1
	}
}

// named are the rows of vectors that belong to rows.
func (s *Scratch) named(rows []uint32) []uint32 {
	if s.names == nil {
		return rows
	}
	s.inside = s.inside[:0]
	for _, r := range rows {
		s.inside = append(s.inside, s.names[r])
	}
	return s.inside
}
