package hnsw

import "github.com/chromad/chromad/internal/kernel"

// A scorer computes the distance from a query to rows of the matrix, that of
// kernel.Distance.
type scorer struct {
	v   *Vectors
	q   []float32
	inv float32 // 1/|q|, cosine only
}

// aim takes a query.
func (s *scorer) aim(v *Vectors, q []float32) {
	*s = scorer{v: v, q: q}
	if v.Metric == kernel.Cosine {
		s.inv = kernel.InvNorm(q)
	}
}

// score sets out[i] to the distance of rows[i].
func (s *scorer) score(rows []uint32, out []float32) {
	out = out[:len(rows)]
	inBytes := s.v.Bytes.Data != nil
	switch {
	case s.v.Metric == kernel.L2 && inBytes:
		s.v.Bytes.L2Rows(s.q, rows, out)
	case s.v.Metric == kernel.L2:
		kernel.L2Rows(s.q, s.v.Data, s.v.Stride, rows, out)
	case inBytes:
		s.v.Bytes.DotRows(s.q, rows, out)
	default:
		kernel.DotRows(s.q, s.v.Data, s.v.Stride, rows, out)
	}
	switch s.v.Metric {
	case kernel.Cosine:
		for i, r := range rows {
			out[i] = 1 - out[i]*s.inv*s.v.InvNorms[r]
		}
	case kernel.IP:
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
