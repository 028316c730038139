//go:build !purego

package kernel

var floatNEON = floatForm{dotNEON, l2NEON, dotRowsNEON, l2RowsNEON, dotRangeNEON, l2RangeNEON, dotByteRowsNEON, l2ByteRowsNEON}
