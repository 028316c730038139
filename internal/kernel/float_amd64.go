//go:build !purego

package kernel

var (
	floatAVX2   = floatForm{dotAVX2, l2AVX2, dotRowsAVX2, l2RowsAVX2, dotRangeAVX2, l2RangeAVX2, dotByteRowsAVX2, l2ByteRowsAVX2}
	floatAVX512 = floatForm{dotAVX512, l2AVX512, dotRowsAVX512, l2RowsAVX512, dotRangeAVX512, l2RangeAVX512, dotByteRowsAVX512, l2ByteRowsAVX512}
)
