//go:build !purego

package kernel

var (
	buildDot = buildForm{codes8Whole, signed8Whole, pack8NEON, dot8x4Dot, dot8RowsDot, keys8Whole, nextBelowWhole}
	buildMul = buildForm{codes8Whole, signed8Whole, pack8NEON, dot8x4Mul, dot8RowsMul, keys8Whole, nextBelowWhole}
)

// The assembly works on whole registers, plain Go on what is left.

func codes8Whole(y []float32, inverse float32, out []byte) {
	n := len(y) &^ 15
	if n > 0 {
		codes8NEON(&y[0], inverse, &out[0], n)
	}
	codes8Generic(y[n:], inverse, out[n:])
}

func signed8Whole(out []int8, code []byte) {
	n := len(code) &^ 15
	if n > 0 {
		signed8NEON(&out[0], &code[0], n)
	}
	signed8Generic(out[n:], code[n:])
}

func keys8Whole(dot, norm []int32) {
	n := len(dot) &^ 3
	if n > 0 {
		keys8NEON(&dot[0], &norm[0], n)
	}
	keys8Generic(dot[n:], norm[n:])
}

// nextBelowWhole finds the sixteen numbers in assembly, the one in plain Go.
func nextBelowWhole(d []int32, below int32) int {
	at, n := 0, len(d)&^15
	if n > 0 {
		at = nextBelowNEON(&d[0], n, below)
	}
	return at + nextBelowGeneric(d[at:], below)
}
