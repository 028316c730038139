//go:build !purego

package kernel

var (
	buildAVX2   = buildGeneric
	buildAVX512 = buildGeneric
)
