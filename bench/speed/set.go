//go:build unix

package main

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/chromad/chromad/internal/kernel"
)

const (
	neighbours = 10
	queries    = 300
	// allowedShare of the rows are let through by the filter.
	allowedShare = 0.01
)

// set is rows in clusters on a curved surface of few dimensions, which are
// about as hard as embeddings, with queries of the same kind.
type set struct {
	dim, rows int
	data      []float32 // of length 1 where the metric is cosine
	queries   [][]float32
	metric    kernel.Metric
	allowed   []uint64     // about one row of a hundred
	truth     [2][]float32 // distance of the tenth neighbour: among all rows, among those allowed
}

func newSet(rows, dim int, metric kernel.Metric) *set {
	const latent, clusters = 48, 40
	rng := rand.New(rand.NewPCG(uint64(dim), uint64(rows)))
	matrix := func(rows, columns int, scale float64) [][]float64 {
		out := make([][]float64, rows)
		for i := range out {
			out[i] = make([]float64, columns)
			for j := range out[i] {
				out[i][j] = scale * rng.NormFloat64()
			}
		}
		return out
	}
	centres := matrix(clusters, latent, 1.2)
	straight, inner, outer := matrix(dim, latent, 1/math.Sqrt(latent)), matrix(dim, latent, 1/math.Sqrt(latent)), matrix(dim, dim, 1.5/math.Sqrt(float64(dim)))
	z, bent := make([]float64, latent), make([]float64, dim)
	row := func(x []float32) {
		centre := centres[int(clusters*rng.Float64()*rng.Float64())] // some clusters are much larger than others
		for i := range z {
			z[i] = centre[i] + 0.7*rng.NormFloat64()
		}
		for i, a := range inner {
			bent[i] = math.Tanh(dot(a, z))
		}
		for i := range x {
			x[i] = float32(dot(straight[i], z) + dot(outer[i], bent))
		}
		if metric == kernel.Cosine {
			scale := kernel.InvNorm(x)
			for i := range x {
				x[i] *= scale
			}
		}
	}
	s := &set{dim: dim, rows: rows, metric: metric, data: make([]float32, rows*dim), allowed: make([]uint64, (rows+63)/64)}
	for i := range rows {
		row(s.vector(i))
		if rng.Float64() < allowedShare {
			s.allowed[i/64] |= 1 << (i % 64)
		}
	}
	for range queries {
		q := make([]float32, dim)
		row(q)
		s.queries = append(s.queries, q)
		s.truth[0] = append(s.truth[0], s.tenth(q, nil))
		s.truth[1] = append(s.truth[1], s.tenth(q, s.allowed))
	}
	return s
}

func dot(a, b []float64) (sum float64) {
	for i, x := range a {
		sum += x * b[i]
	}
	return sum
}

func (s *set) vector(row int) []float32 { return s.data[row*s.dim : (row+1)*s.dim] }

// tenth is the squared distance of the tenth nearest row; on vectors of length
// 1 it orders as the cosine does.
func (s *set) tenth(q []float32, allowed []uint64) float32 {
	var all []float32
	for row := range s.rows {
		if allowed == nil || allowed[row/64]>>(row%64)&1 != 0 {
			all = append(all, kernel.L2Squared(q, s.vector(row)))
		}
	}
	slices.SortFunc(all, cmp.Compare)
	return all[neighbours-1]
}

// hits counts the rows that are as near as the tenth nearest.
func (s *set) hits(query int, rows []uint32, filtered bool) (n int) {
	limit := s.truth[0][query]
	if filtered {
		limit = s.truth[1][query]
	}
	for _, row := range rows {
		if kernel.L2Squared(s.queries[query], s.vector(int(row))) <= limit*(1+1e-5) {
			n++
		}
	}
	return n
}
