// Package fuzz holds the fuzz targets that span packages. A target of a single
// decoder stands beside the decoder; these look at what only the whole shows:
//
//	FuzzStore       a file of a store is damaged: an error or the right data
//	FuzzSealed      the same of encrypted stores, and what is behind the seal
//	FuzzRepair      a damaged store is inspected, checked and repaired
//	FuzzRequest     requests to a server over a store: no failure, no lost id
//	FuzzOperations  a program of operations on the engine and on a plain map
//	FuzzWhere       filters over segments and memory, and row by row
//
// All of them work on real stores in temporary directories. There is no code
// here but tests: go test ./fuzz runs the seeds, make fuzz searches on. The
// command in attack looks at the running binary from outside.
package fuzz
