//go:build !purego

package kernel

//go:generate go -C gen run . -group float -out ../float_amd64.s -stubs ../float_stubs_amd64.go -pkg kernel

var (
	floatAVX2   = floatForm{dotAVX2, l2AVX2, dotRowsAVX2, l2RowsAVX2, dotRangeAVX2, l2RangeAVX2}
	floatAVX512 = floatForm{dotAVX512, l2AVX512, dotRowsAVX512, l2RowsAVX512, dotRangeAVX512, l2RangeAVX512}
)
