//go:build !purego

package kernel

var (
	hopDot = hopForm{gatherNEON, anyWidth(scoreDot), offerNEON, anyWidth(panelsDot), boundGeneric, nearerNEON, prefetchNEON}
	hopMul = hopForm{gatherNEON, anyWidth(scoreMul), offerNEON, anyWidth(panelsMul), boundGeneric, nearerNEON, prefetchNEON}
)
