// Package audit says what was done to a store, by whom, and what was refused:
// one event for each act, written before its answer leaves.
//
//	event.go  what an event says, and its form
//
// An event holds names, counts and outcomes, never content. Storage is the
// engine's, which chains, seals and signs the bytes.
package audit
