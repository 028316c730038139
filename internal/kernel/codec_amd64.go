//go:build !purego

package kernel

var (
	codecAVX2   = codecGeneric
	codecAVX512 = codecGeneric
)
