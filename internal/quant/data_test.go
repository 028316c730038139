package quant

import (
	"math"
	"math/rand/v2"
)

// manifold returns n rows of dim numbers that lie near a plane of latent
// dimensions, in clusters of which few are large and many small.
func manifold(n, dim, latent int, seed uint64) []float32 {
	const clusters = 100
	r := rand.New(rand.NewPCG(seed, 1))
	normal := func(n int) []float64 {
		x := make([]float64, n)
		for i := range x {
			x[i] = r.NormFloat64()
		}
		return x
	}
	plane, centres := normal(latent*dim), normal(clusters*latent)
	out := make([]float32, n*dim)
	for i := range n {
		c := int(clusters * math.Pow(r.Float64(), 3))
		row, spread := out[i*dim:(i+1)*dim], 0.3+0.7*float64(c%10)/10
		for j, z := range normal(latent) {
			z = centres[c*latent+j] + spread*z
			for k := range row {
				row[k] += float32(z * plane[j*dim+k])
			}
		}
		for k := range row {
			row[k] += float32(r.NormFloat64() / 10)
		}
	}
	return out
}

// clumps returns n rows of dim numbers in groups of 100 that are far closer to
// each other than to the other groups: what little tells them apart drowns in
// the errors of coarse grids.
func clumps(n, dim int) []float32 {
	r := rand.New(rand.NewPCG(11, 1))
	out := make([]float32, n*dim)
	centre := make([]float64, dim)
	for i := range n {
		for j := range centre {
			if i%100 == 0 {
				centre[j] = r.NormFloat64()
			}
			out[i*dim+j] = float32(centre[j] + r.NormFloat64()/50)
		}
	}
	return out
}
