// Package limit keeps a server on its feet: it says how much somebody may ask
// for, and how much is done at a time. It knows names of principals and of
// actions, and neither HTTP nor a store.
//
//	bounds.go   how much somebody may ask for, and how bounds are combined
//	table.go    buckets of those who ask: requests, rows and bytes a second
//	guesses.go  failed authentications, by address and by name
//	gate.go     how many requests are worked on at a time, and who is next
//	watch.go    when a queue has become too long to be one
//	budget.go   bytes of bodies and answers that are in memory
//
// Whatever is kept by name is bounded: names are made up by whoever asks.
package limit
