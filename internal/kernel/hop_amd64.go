//go:build !purego

package kernel

var (
	hopAVX2 = hopForm{
		gatherAMD64, byWidth[func(*Hop, int, int, int) int]{score2AVX2, score4AVX2, score8AVX2}, offerAVX2,
		byWidth[func(*Hop, int, int, []float32)]{panels2AVX2, panels4AVX2, panels8AVX2}, boundAVX2, nearerAVX2, prefetchAMD64,
	}
	hopAVX512 = hopForm{
		gatherAMD64, byWidth[func(*Hop, int, int, int) int]{score2AVX512, score4AVX512, score8AVX512}, offerAVX512,
		byWidth[func(*Hop, int, int, []float32)]{panels2AVX512, panels4AVX512, panels8AVX512}, boundAVX512, nearerAVX512, prefetchAMD64,
	}
)
