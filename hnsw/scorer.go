package hnsw

import (
	"math"

	"github.com/chromad/chromad/internal/kernel"
)

// A scorer computes the distance from one vector to rows of the matrix. It is
// the only thing a walk knows about vectors, so that rows stored in fewer
// bits can take the place of float32 ones.
//
// For searching, the distance is that of kernel.Distance. A graph needs a
// distance that is symmetric and nearly metric, which the inner product is
// not: a long vector is "near" to everything and would collect every link. So
// graphs for it are built over vectors with one more number,
// sqrt(R²-|x|²) where R is the greatest norm. All of them then have norm R,
// and since a query has 0 there, their L2 order seen from a query is the
// order by inner product (Bachrach et al., "Speeding up the Xbox recommender
// system using a euclidean transformation for inner-product spaces",
// RecSys 2014, section 3).
type scorer struct {
	v    *Vectors
	q    []float32
	inv  float32   // 1/|q|, cosine only
	lift []float32 // the additional number of each row, when building for the inner product
	own  float32   // that of q
	// building puts zero vectors far away from everything in a cosine graph:
	// at their distance of 1 to all they would attract the links of every
	// lonely row.
	building bool
}

// zeroFar is beyond the greatest cosine distance, 2.
const zeroFar = 4

// aim takes a query that is no row.
func (s *scorer) aim(v *Vectors, q []float32) {
	*s = scorer{v: v, q: q}
	if v.Metric == kernel.Cosine {
		s.inv = kernel.InvNorm(q)
	}
}

// aimRow takes a row as the query, in the space the graph is built in.
func (s *scorer) aimRow(row uint32) {
	s.q = s.v.row(row)
	if s.v.Metric == kernel.Cosine {
		s.inv = s.v.InvNorms[row]
	}
	if s.lift != nil {
		s.own = s.lift[row]
	}
}

// score sets out[i] to the distance of rows[i].
func (s *scorer) score(rows []uint32, out []float32) {
	out = out[:len(rows)]
	switch {
	case s.v.Metric == kernel.L2:
		kernel.L2Rows(s.q, s.v.Data, s.v.Stride, rows, out)
	case s.v.Metric == kernel.Cosine:
		kernel.DotRows(s.q, s.v.Data, s.v.Stride, rows, out)
		for i, r := range rows {
			inv := s.v.InvNorms[r]
			out[i] = 1 - out[i]*s.inv*inv
			if s.building && (inv == 0 || s.inv == 0) {
				out[i] = zeroFar
			}
		}
	case s.building:
		kernel.L2Rows(s.q, s.v.Data, s.v.Stride, rows, out)
		for i, r := range rows {
			d := s.lift[r] - s.own
			out[i] += d * d
		}
	default:
		kernel.DotRows(s.q, s.v.Data, s.v.Stride, rows, out)
		for i := range out {
			out[i] = 1 - out[i]
		}
	}
}

// scoreRange sets out[i] to the distance of row first+i, for searching only.
func (s *scorer) scoreRange(first int, out []float32) {
	if s.v.Metric == kernel.L2 {
		kernel.L2Range(s.q, s.v.Data, s.v.Stride, first, out)
		return
	}
	kernel.DotRange(s.q, s.v.Data, s.v.Stride, first, out)
	if s.v.Metric == kernel.IP {
		for i := range out {
			out[i] = 1 - out[i]
		}
		return
	}
	for i, inv := range s.v.InvNorms[first : first+len(out)] {
		out[i] = 1 - out[i]*s.inv*inv
	}
}

// lifts returns sqrt(R²-|x|²) for every row x, computed in float64: the
// difference of two large squares is what counts.
func lifts(v *Vectors, each func(n int, f func(w *worker, i int)) error) ([]float32, error) {
	squares := make([]float64, v.Rows)
	err := each(v.Rows, func(_ *worker, i int) {
		var sum float64
		for _, x := range v.row(uint32(i)) {
			sum += float64(x) * float64(x)
		}
		squares[i] = sum
	})
	if err != nil {
		return nil, err
	}
	var most float64
	for _, s := range squares {
		if s > most && !math.IsInf(s, 1) {
			most = s
		}
	}
	lift := make([]float32, v.Rows)
	for i, s := range squares {
		lift[i] = float32(math.Sqrt(max(0, most-s)))
	}
	return lift, nil
}
