//go:build !purego

package kernel

//go:generate go -C gen run . -group codec -out ../codec_amd64.s -stubs ../codec_stubs_amd64.go -pkg kernel

var (
	codecAVX2   = codecForm{flipAVX2, hadamardAVX2, foldAVX2, levelsAVX2, largestAVX2, quantize8AVX2, asBytesAVX2, scaleAVX2, subtractAVX2}
	codecAVX512 = codecForm{flipAVX512, hadamardAVX512, foldAVX512, levelsAVX512, largestAVX512, quantize8AVX512, asBytesAVX512, scaleAVX512, subtractAVX512}
)

func hadamardAVX2(x []float32, scale float32) {
	if len(x) < 8 {
		hadamardGeneric(x, scale)
		return
	}
	transformAVX2(x, scale)
}

func hadamardAVX512(x []float32, scale float32) {
	if len(x) < 16 {
		hadamardGeneric(x, scale)
		return
	}
	transformAVX512(x, scale)
}

func levelsAVX2(y []float32, inverseStep float32, bits int, code []byte) (vy, vv float32) {
	var sum, squares uint32
	switch bits {
	case 2:
		vy, sum, squares = levels2AVX2(y, inverseStep, code)
	case 4:
		vy, sum, squares = levels4AVX2(y, inverseStep, code)
	default:
		vy, sum, squares = levels8AVX2(y, inverseStep, code)
	}
	return vy, squareOfLevels(len(y), bits, sum, squares)
}

func levelsAVX512(y []float32, inverseStep float32, bits int, code []byte) (vy, vv float32) {
	var sum, squares uint32
	switch bits {
	case 2:
		vy, sum, squares = levels2AVX512(y, inverseStep, code)
	case 4:
		vy, sum, squares = levels4AVX512(y, inverseStep, code)
	default:
		vy, sum, squares = levels8AVX512(y, inverseStep, code)
	}
	return vy, squareOfLevels(len(y), bits, sum, squares)
}

// squareOfLevels is <v,v> of n levels from their sum and that of their
// squares: v is twice the level less the greatest level.
func squareOfLevels(n, bits int, sum, squares uint32) float32 {
	top := int64(1)<<bits - 1
	return float32(4*int64(squares) - 4*top*int64(sum) + int64(n)*top*top)
}
