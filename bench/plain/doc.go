// Package plain is a textbook HNSW over float32 vectors (Malkov and Yashunin,
// arXiv 1603.09320, algorithms 1, 2, 4 and 5): one call a distance, two heaps,
// no codes, no batches, no prefetching.
//
// It is what package hnsw is measured against, in one run on one machine: the
// ratio of the two says whether a change has made the index slower, which
// seconds alone do not where machines differ. So it must stay as it is. It is
// for measuring only: nothing outside bench may use it.
package plain
