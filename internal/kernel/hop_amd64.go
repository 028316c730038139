//go:build !purego

package kernel

var (
	hopAVX2   = hopForm{gatherAMD64, scoreAVX2, offerAVX2, panelsAVX2, prefetchAMD64}
	hopAVX512 = hopForm{gatherAMD64, scoreAVX512, offerAVX512, panelsAVX512, prefetchAMD64}
)

func scoreAVX2(h *Hop, first, last, out int) int {
	switch h.bits {
	case 2:
		return score2AVX2(h, first, last, out)
	case 4:
		return score4AVX2(h, first, last, out)
	}
	return score8AVX2(h, first, last, out)
}

func scoreAVX512(h *Hop, first, last, out int) int {
	switch h.bits {
	case 2:
		return score2AVX512(h, first, last, out)
	case 4:
		return score4AVX512(h, first, last, out)
	}
	return score8AVX512(h, first, last, out)
}

func panelsAVX2(h *Hop, from, to, out int) int {
	switch h.bits {
	case 2:
		return panels2AVX2(h, from, to, out)
	case 4:
		return panels4AVX2(h, from, to, out)
	}
	return panels8AVX2(h, from, to, out)
}

func panelsAVX512(h *Hop, from, to, out int) int {
	switch h.bits {
	case 2:
		return panels2AVX512(h, from, to, out)
	case 4:
		return panels4AVX512(h, from, to, out)
	}
	return panels8AVX512(h, from, to, out)
}
