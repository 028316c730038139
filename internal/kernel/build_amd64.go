//go:build !purego

package kernel

//go:generate go -C gen run . -group build -out ../build_amd64.s -stubs ../build_stubs_amd64.go -pkg kernel

var (
	buildAVX2   = buildForm{codes8AVX2, signed8AVX2, pack8AMD64, byFours(dot8x4AVX2), dot8RowsAVX2, least8Generic, keys8AVX2, keys16AVX2, widenAVX2, countBelowAVX2, belowWhole, pruneWhole, false}
	buildAVX512 = buildForm{codes8AVX512, signed8AVX512, pack8AMD64, dot8x8AVX512, dot8RowsAVX512, least8AVX512, keys8AVX512, keys16AVX512, widenAVX512, countBelowAVX512, belowAVX512, pruneAVX512, true}
)

func signed8AVX2(out []int8, code []byte) {
	whole := len(code) &^ 31
	if whole > 0 {
		flipBytesAVX2(out[:whole], code[:whole])
	}
	signed8Generic(out[whole:], code[whole:])
}

func signed8AVX512(out []int8, code []byte) {
	whole := len(code) &^ 63
	if whole > 0 {
		flipBytesAVX512(out[:whole], code[:whole])
	}
	signed8Generic(out[whole:], code[whole:])
}

func dot8RowsAVX2(query []int8, codes []byte, stride int, rows []uint32, out []int32) {
	if len(rows) >= 4 {
		dot8FoursAVX2(query, codes, stride, rows, out)
		return
	}
	four := repeated(rows)
	var sums [4]int32
	dot8FoursAVX2(query, codes, stride, four[:], sums[:])
	copy(out, sums[:len(rows)])
}

func dot8RowsAVX512(query []int8, codes []byte, stride int, rows []uint32, out []int32) {
	if len(rows) >= 4 {
		dot8FoursAVX512(query, codes, stride, rows, out)
		return
	}
	four := repeated(rows)
	var sums [4]int32
	dot8FoursAVX512(query, codes, stride, four[:], sums[:])
	copy(out, sums[:len(rows)])
}

func least8AVX512(queries []int8, bias *[2]int32, codes []byte, stride int, rows []uint32, norm, one, least []int32) {
	if len(rows) >= 4 {
		least8FoursAVX512(queries, bias, codes, stride, rows, norm, one, least)
		return
	}
	four := repeated(rows)
	var norms, a, b [4]int32
	copy(norms[:], norm[:len(rows)])
	least8FoursAVX512(queries, bias, codes, stride, four[:], norms[:], a[:], b[:])
	copy(one, a[:len(rows)])
	copy(least, b[:len(rows)])
}

// repeated is up to three rows and the last of them again.
func repeated(rows []uint32) (four [4]uint32) {
	for i := range four {
		four[i] = rows[min(i, len(rows)-1)]
	}
	return four
}

// belowWhole and pruneWhole leave what does not fill a register to plain Go.

func belowWhole(d []int32, at []uint16, below int32, outD []int32, outAt []uint16) int {
	n, whole := 0, len(d)&^7
	if whole > 0 {
		n = belowAVX2(d[:whole], at, below, outD, outAt)
	}
	return n + belowGeneric(d[whole:], at[whole:], below, outD[n:], outAt[n:])
}

func pruneWhole(d, norm, far []int32, rows []uint32, bias int32) int {
	n, whole := 0, len(d)&^7
	if whole > 0 {
		n = pruneAVX2(d[:whole], norm, far, rows, bias)
	}
	return pruneRest(d, norm, far, rows, bias, n, whole)
}
