// Command bench loads WordNet into the engine and measures: rows a second,
// query latency, recall against exact search, filters, bytes on disk and in
// memory, and the time to reopen.
//
//	make data
//	go run ./bench [-sample] [-json FILE]
//
// load.py beside it measures the same through the HTTP API and the official
// Python client; the difference of the two is what HTTP and the client cost.
// Both hold some glosses out as queries, so that a question is never one of
// the stored vectors.
package main
