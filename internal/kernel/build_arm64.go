//go:build !purego

package kernel

var (
	buildDot = buildForm{codes8Whole, signed8Whole, pack8NEON, byFours(dot8x4Dot), dot8RowsDot, least8Generic, keys8Whole, keys16Whole, widenWhole, countBelowWhole, belowWhole, pruneWhole, false}
	buildMul = buildForm{codes8Whole, signed8Whole, pack8NEON, byFours(dot8x4Mul), dot8RowsMul, least8Generic, keys8Whole, keys16Whole, widenWhole, countBelowWhole, belowWhole, pruneWhole, false}
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

func keys16Whole(dot []int32, width int, bias *[8]int32, norm []int32, across []uint16) {
	keys16NEON(&dot[0], width, bias, &norm[0], len(norm), &across[0])
}

func widenWhole(out []int32, width int, in []uint16) {
	widenNEON(&out[0], width, &in[0], len(in)/packRows)
}

func countBelowWhole(d []int32, below int32) int {
	count, n := 0, len(d)&^3
	if n > 0 {
		count = countBelowNEON(&d[0], n, below)
	}
	return count + countBelowGeneric(d[n:], below)
}

func belowWhole(d []int32, at []uint16, below int32, outD []int32, outAt []uint16) int {
	count, n := 0, len(d)&^3
	if n > 0 {
		count = belowNEON(&d[0], &at[0], n, below, &outD[0], &outAt[0])
	}
	return count + belowGeneric(d[n:], at[n:], below, outD[count:], outAt[count:])
}

func pruneWhole(d, norm, far []int32, rows []uint32, bias int32) int {
	count, n := 0, len(d)&^3
	if n > 0 {
		count = pruneNEON(&d[0], &norm[0], &far[0], &rows[0], n, bias)
	}
	return pruneRest(d, norm, far, rows, bias, count, n)
}
