// Package kernel is the arithmetic of the database that is worth assembly:
// distances between vectors, and what a search and a build do with vectors
// that were replaced by codes of few bits. A search spends most of its time
// here, waiting for memory.
//
// # What there is
//
// Float32 vectors (float.go): inner product and squared distance of a pair,
// of one query and rows of a matrix by number, of one query and consecutive
// rows. A search compares the vectors of its last candidates with them.
//
// Codes (codes.go, hop.go): a row is a code of 2, 4 or 8 bits a number and
// two float32 numbers beside it, its Meta. A Hop is one step of a search over
// a graph: Gather takes the links of a node, drops those that were visited
// and starts to fetch the others' codes; Score works out the keys of what was
// gathered and returns those that are small enough. Two Hops take turns, so
// that the codes of one arrive while the other is scored.
//
// The pool (pool.go): Offer merges keys into the sorted list of the nearest
// rows that a search keeps.
//
// The codec (codec.go) turns vectors into codes, and the build (build.go)
// compares all rows of a group with each other.
//
// # Forms
//
// Every kernel exists in several forms: plain Go, which runs everywhere;
// "avx2", with fused multiply-add; "avx512", which needs the parts F, BW, VL
// and VNNI; on arm64 "neon", with dot products of bytes, and "armv8" without
// them. The best that the processor can run is chosen before main. The
// environment variable CHROMAD_KERNEL asks for another one by name, and the
// build tag purego leaves the assembly out. Name tells which form runs.
//
// Sums over float32 vectors add in a different order in each form, so they
// differ in the last bits. Within one form a pair, a gather and a sequence
// give the same bits for the same two vectors, and swapping the two vectors
// changes nothing. Everything over codes is exact, or rounds in the same
// places: its results are the same bits in every form, on every machine.
//
// # Assembly
//
// The programs in gen write it; `go generate` writes it again. gen is a module
// of its own, so that the assembler library is no dependency of the database.
// Each group of kernels has its files, <group>_<processor>.s and the stubs
// beside it. A group is a struct of functions, such as hopForm, that a form
// embeds.
//
// The exported functions check every length and every row number before
// assembly sees them and panic like an index expression does: a wrong length
// is a mistake of the caller, never of the data. The exceptions are the links that
// Hop.Gather is given, of which one that is no row counts as the last row, and the
// rows that Hop.Add is given, which must be rows.
// No call of an assembly function runs much longer than 50 µs: the scheduler
// cannot interrupt it.
package kernel
