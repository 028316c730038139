// Package kernel computes distances between float32 vectors, one query
// against one vector, against a list of rows of a matrix, or against
// consecutive rows. It is the only arithmetic in the database that is worth
// assembly: a search spends most of its time here, waiting for memory.
//
// There are two forms of each kernel. The generic one is plain Go with eight
// running sums. The other is AVX2 with fused multiply-add, written by the
// program in gen and committed as kernel_amd64.s; `go generate` writes it
// again. The package takes AVX2 when the processor has both features, unless
// the environment variable CHROMAD_KERNEL says "generic" or the build tag
// purego leaves the assembly out. Name tells which form runs.
//
// The forms add in different orders, so their results differ in the last
// bits. Within one form a pair, a gather and a sequence give the same bits
// for the same two vectors, and swapping the two vectors changes nothing.
//
// The functions check every length and every row number before assembly sees
// them and panic like an index expression does: a wrong length is a mistake
// of the caller, never of the data.
package kernel
