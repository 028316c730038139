package engine

import (
	"fmt"
	"math"

	"github.com/chromad/chromad/internal/kernel"
)

// The cosine does not know how long vectors are, arithmetic with float32 does:
// the product of two vectors of length 1e20 is no number any more, that of two
// of length 1e-25 is zero.

// direction is q, at length 1 where its own would lead out of the range of
// float32.
func direction(q []float32) []float32 {
	inverse := kernel.InvNorm(q)
	if inverse == 0 || inverse > 1e-6 && inverse < 1e6 {
		return q
	}
	norm := length(q)
	unit := make([]float32, len(q))
	for i, x := range q {
		unit[i] = float32(float64(x) / norm)
	}
	return unit
}

// length is that of v, in float64, whose squares no float32 overflows.
func length(v []float32) float64 {
	square := 0.0
	for _, x := range v {
		square += float64(x) * float64(x)
	}
	return math.Sqrt(square)
}

// shortest and longest are the lengths of records, beside zero, whose products
// with what direction returns are precise.
const (
	shortest = 1e-30
	longest  = 1e30
)

// checkLengths refuses what the cosine cannot be computed of.
func checkLengths(recs []Record) error {
	for i := range recs {
		v := recs[i].Embedding
		if inverse := kernel.InvNorm(v); inverse != 0 && (inverse < 1/longest || inverse > 1/shortest) {
			n := length(v)
			return &InvalidError{Field: "embedding", Index: i,
				Reason: fmt.Sprintf("length %.3g, cosine distances need %.0e to %.0e; scale it, its direction is what counts", n, shortest, longest)}
		}
	}
	return nil
}
