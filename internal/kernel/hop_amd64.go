//go:build !purego

package kernel

var (
	hopAVX2   = hopGeneric
	hopAVX512 = hopGeneric
)
