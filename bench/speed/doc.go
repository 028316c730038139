//go:build unix

// Command speed fails when the index has become slower: it measures package
// hnsw and the plain implementation of bench/plain in turn, in one run, and
// compares the ratio of the two with the one that bench/ratios.json remembers.
// A ratio does not depend on the machine as seconds do; one that is more than
// a fifth below its memory is an error.
//
//	go run ./bench/speed          # compares, within a minute and a half
//	go run ./bench/speed -write   # measures, and remembers
//
// Ratios are remembered for each form of the kernels (kernel.Name), because
// they differ. On a machine without AVX-512 the ratio of AVX2 to it is left
// out.
package main
