//go:build !purego

package kernel

var (
	hopDot = hopForm{gatherNEON, scoreDot, offerGeneric, prefetchNEON}
	hopMul = hopForm{gatherNEON, scoreMul, offerGeneric, prefetchNEON}
)
