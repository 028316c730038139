//go:build !purego

package kernel

var (
	hopDot = hopForm{gatherNEON, scoreDot, offerNEON, prefetchNEON}
	hopMul = hopForm{gatherNEON, scoreMul, offerNEON, prefetchNEON}
)
