package kernel

import "math/bits"

// Kernels that turn vectors into codes and queries into bytes. Their results
// are the same bits in every form: sums run in sixteen lanes that are added
// in one order, and no product is fused with a sum.

// A codecForm turns vectors into codes. Slices are not empty, and as long as
// the first or, for levels, long enough.
type codecForm struct {
	// flip changes the sign of the numbers whose bit is set.
	flip func(x []float32, signs []uint64)
	// hadamard is the Hadamard transform of scale*x; len(x) is a power of two.
	hadamard func(x []float32, scale float32)
	// fold rotates each pair of numbers, one of a and one of b, by an eighth
	// of a turn.
	fold func(a, b []float32)
	// levels, quantize8, asBytes, scale and subtract are the exported functions,
	// of asBytes what is lost: nothing when it is 0.
	levels    func(y []float32, inverseStep float32, bits int, code []byte) (vy, vv float32)
	largest   func(x []float32) float32
	quantize8 func(x []float32, inverse float32, out []int8)
	asBytes   func(x []float32, base int32, out []byte) (lost uint32)
	scale     func(dst, x []float32, factor float32)
	subtract  func(dst, x []float32)
}

var codecGeneric = codecForm{flipGeneric, hadamardGeneric, foldGeneric, levelsGeneric,
	largestGeneric, quantize8Generic, asBytesGeneric, scaleGeneric, subtractGeneric}

// rotateRounds is how often Rotate mixes all numbers.
const rotateRounds = 4

// SignWords is the length of the signs that Rotate wants for vectors of n
// numbers: four rounds of n bits, each round beginning with a new word.
func SignWords(n int) int { return rotateRounds * ((n + 63) / 64) }

// Rotate multiplies x with an orthonormal matrix that is chosen by signs, of
// which it wants SignWords(len(x)): norms and inner products stay what they
// are, and any vector comes out with numbers that look normally distributed.
//
// Each of the four rounds flips the numbers whose sign bit is set and takes
// the Hadamard transform of the first or, in odd rounds, the last 2^k
// numbers, 2^k being the largest power of two that fits. Unless that is all
// of x, its two halves are mixed once, after the second round: 2^k numbers at
// either end may have as few as one in common (the scheme of the library of
// Gao et al., "Practical and Asymptotically Optimal Quantization of
// High-Dimensional Vectors", arXiv 2409.09913, with one walk instead of four).
func Rotate(x []float32, signs []uint64) {
	atLeast(len(signs), SignWords(len(x)))
	if len(x) > 0 {
		active.rotate(x, signs)
	}
}

func (f *codecForm) rotate(x []float32, signs []uint64) {
	n := len(x)
	words := (n + 63) / 64
	size := 1 << (bits.Len(uint(n)) - 1)
	scale := inverseRoot(size)
	for round := range rotateRounds {
		f.flip(x, signs[round*words:(round+1)*words])
		if round%2 == 0 {
			f.hadamard(x[:size], scale)
		} else {
			f.hadamard(x[n-size:], scale)
		}
		if round == 1 && size < n {
			f.fold(x[:n/2], x[n-n/2:])
		}
	}
}

// inverseRoot is 1/sqrt(n) for a power of two, rounded once.
func inverseRoot(n int) float32 {
	k := bits.TrailingZeros(uint(n))
	scale := 1 / float32(uint64(1)<<(k/2))
	if k%2 == 1 {
		scale *= rootHalf
	}
	return scale
}

const rootHalf = 0.70710678118654752440 // sqrt(1/2)

// Levels cuts the numbers of y into levels of bits (2, 4 or 8) bits and writes
// them to code. The level l of a number stands for v = 2l - (2^bits - 1), an
// odd number; the cuts lie at multiples of the step. Levels returns <v,y> and
// <v,v>.
//
// A block of 64 bytes of code holds 512/bits numbers in planes: number j of
// the block is in byte j%64, bits (j/64)*bits and up. len(code) must be a
// multiple of 64 and have room for y; numbers behind the end of y get level 0
// and count for nothing.
func Levels(y []float32, inverseStep float32, bits int, code []byte) (vy, vv float32) {
	whole(len(code), blockBytes)
	if bits != 2 && bits != 4 && bits != 8 {
		atLeast(0, bits)
	}
	atLeast(len(code), (len(y)*bits+7)/8)
	if len(code) == 0 {
		return 0, 0
	}
	return active.levels(y, inverseStep, bits, code)
}

// Quantize8 rounds the numbers of x, divided by scale, to signed bytes, where
// scale is the greatest magnitude over 127, and sets what is left of out to
// zero. len(out) must be at least len(x). Numbers that are all below 1e-35
// become zero, with a scale of zero.
func Quantize8(x []float32, out []int8) (scale float32) {
	atLeast(len(out), len(x))
	clear(out[len(x):])
	out = out[:len(x)]
	most := Largest(x)
	if !(most >= 1e-35) {
		clear(out)
		return 0
	}
	active.quantize8(x, 127/most, out)
	return most / 127
}

// AsBytes writes the numbers of x, less base, to bytes and reports whether these
// say all: that the numbers are integers from base to base+255, and none the zero
// with a sign. Where they are not, what it writes means nothing. len(out) must be
// at least len(x).
func AsBytes(x []float32, base int32, out []byte) bool {
	atLeast(len(out), len(x))
	return len(x) == 0 || active.asBytes(x, base, out[:len(x)]) == 0
}

// Largest is the greatest magnitude in x, 0 when x is empty.
func Largest(x []float32) float32 {
	if len(x) == 0 {
		return 0
	}
	return active.largest(x)
}

// Scale sets dst[i] to x[i]*factor. len(dst) must be at least len(x).
func Scale(dst, x []float32, factor float32) {
	atLeast(len(dst), len(x))
	if dst = dst[:len(x)]; len(x) > 0 {
		active.scale(dst, x, factor)
	}
}

// Subtract takes x from dst. len(dst) must be at least len(x).
func Subtract(dst, x []float32) {
	atLeast(len(dst), len(x))
	if dst = dst[:len(x)]; len(x) > 0 {
		active.subtract(dst, x)
	}
}
