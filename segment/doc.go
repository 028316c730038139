// Package segment is one immutable file of rows: ids, vectors, metadata,
// documents, a filter index and a graph. It builds such files, opens them,
// looks rows up, searches them and merges several into one.
//
//	Write    rows of a memtable, ascending by order  -> one file
//	Merge    several files, minus their dead rows    -> one file
//	Open     a file                                  -> a Reader
//
// A row is the 0-based number of a record inside one segment. Rows stand in
// the order in which their records were created (Row.Order), so "insertion
// order" of a collection is a merge of its segments. Nothing in a file ever
// changes: an update is a new row in another segment and a dead bit, kept by
// the engine, for the old one.
//
// A Reader maps its file and reads next to nothing when it is opened; every
// block is verified, and decrypted, when it is first touched, every index
// decoded when it is first asked. The hot part, graph and codes, is loaded by
// the first search (hot.go); vectors are read for the last step of one only.
// Decrypted vectors, ids, metadata and documents come and go under Spec.Memory;
// nothing that a Reader returns aliases them. A file that is damaged, truncated under a running query or
// not the one that was meant gives disk.ErrCorrupt, never a wrong answer and
// never the end of the process. Damage in graph, filter index, id table or vectors in
// bytes costs speed only: what they were made of is asked instead (degraded.go;
// Reader.Degraded tells).
//
// Where to read on: layout.go (what a file holds), builder.go (how it is
// written), reader.go, search.go and hot.go (how a query is answered), merge.go, check.go
// (all that is wrong), repair.go (what can be read all the same). The
// bytes are drawn in docs/format/segment.md.
//
// This package may change in any release. The compatibility promise covers
// package engine only.
package segment
