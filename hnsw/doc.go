// Package hnsw builds and searches a hierarchical navigable small world graph
// (Malkov and Yashunin, "Efficient and robust approximate nearest neighbor
// search using Hierarchical Navigable Small World graphs", arXiv 1603.09320)
// over vectors that somebody else holds.
//
// A graph is made once, by Build or by Join from older ones, and never
// changes afterwards: searches take no lock. Its bytes depend on the vectors
// and the parameters alone, not on the number of workers. AppendBinary writes
// it and Decode reads it back without copying; docs/format/graph.md draws the
// bytes.
//
// Every row has a place at level 0, where up to 2M links lead to near rows in
// different directions. One row in M also has a seat at level 1, one in M² at
// level 2 and so on; a search walks greedily down the levels and then keeps
// the ef nearest rows it has met at level 0, expanding the nearest first,
// until all of them are expanded. It compares codes of a few bits a number,
// which are part of the graph (internal/quant), and computes exact distances
// for the best of them at the end. With few rows, or few allowed by a filter,
// it compares the codes of all instead; docs/index.md tells when.
//
// Words used in the code:
//
//	row    number of a vector, from 0
//	seat   number of a row in the table of those with a level of 1 or more
//	node   a row at level 0, a seat at the levels above
//	key    a distance and a node in one uint64 that sorts by both
//
// This package may change in any release. The promise of compatibility covers
// package engine only.
package hnsw
