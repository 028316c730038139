//go:build !purego

package kernel

var (
	hopDot = hopForm{gatherNEON, scoreDot, offerNEON, panelsDot, prefetchNEON}
	hopMul = hopForm{gatherNEON, scoreMul, offerNEON, panelsMul, prefetchNEON}
)
