// Package audit says what was done to a store, by whom, and what was refused:
// one event for each act, written before its answer leaves.
//
//	event.go  what an event says, and its form
//	class.go  which acts leave an event, and which of them wait for the disk
//	log.go    writes events and tells who listens
//	flood.go  counts what comes too often to be written one by one
//	query.go  which lines of the log somebody asks for
//
// An event holds names, counts and outcomes, never content. Storage is the
// engine's, which chains, seals and signs the bytes.
package audit
