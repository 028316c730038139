package hnsw

import (
	"math"
	"math/rand/v2"
)

// latent draws rows near a curved surface of 40 dimensions, in clusters of
// very unequal size and width: harder than clustered, and the set that
// searches are measured on.
func latent(seed uint64, n, dim int) [][]float32 {
	const plane, clusters = 40, 1000
	r := rand.New(rand.NewPCG(seed, 2))
	matrix := func(rows, cols int, scale float64) []float64 {
		m := make([]float64, rows*cols)
		for i := range m {
			m[i] = r.NormFloat64() * scale
		}
		return m
	}
	weight, sum := make([]float64, clusters), 0.0
	width := make([]float64, clusters)
	for c := range clusters {
		sum += math.Pow(1-r.Float64(), -1/1.2) - 1 + 0.05
		weight[c], width[c] = sum, math.Exp(-0.4+0.5*r.NormFloat64())
	}
	centre, shape := matrix(clusters, plane, 1.2), matrix(clusters, plane, 1)
	for i := range shape {
		shape[i] = math.Sqrt(r.ExpFloat64())
	}
	straight := matrix(plane, dim, 1/math.Sqrt(plane))
	inner, outer := matrix(plane, 2*dim, 1/math.Sqrt(plane)), matrix(2*dim, dim, 1/math.Sqrt(float64(2*dim)))
	rows, z, bent := make([][]float32, n), make([]float64, plane), make([]float64, 2*dim)
	for i := range rows {
		pick, c := r.Float64()*sum, 0
		for weight[c] < pick {
			c++
		}
		chi := 0.0
		for range 6 {
			x := r.NormFloat64()
			chi += x * x
		}
		for j := range z {
			z[j] = centre[c*plane+j] + r.NormFloat64()*shape[c*plane+j]*width[c]/math.Sqrt(chi/6)
		}
		multiply(bent, z, inner)
		for j, x := range bent {
			bent[j] = 1.5 * math.Tanh(x)
		}
		flat, curved := make([]float64, dim), make([]float64, dim)
		multiply(flat, z, straight)
		multiply(curved, bent, outer)
		rows[i] = make([]float32, dim)
		for j := range rows[i] {
			rows[i][j] = float32(flat[j] + curved[j] + 0.03*r.NormFloat64())
		}
	}
	return rows
}

// multiply sets out to x times m, a matrix of len(x) rows.
func multiply(out, x, m []float64) {
	clear(out)
	for i, f := range x {
		for j, g := range m[i*len(out) : (i+1)*len(out)] {
			out[j] += f * g
		}
	}
}
