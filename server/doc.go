// Package server speaks Chroma's HTTP API (version 2) for a store.
//
// A request passes these stations, one file or group of files each:
//
//	server.go    listener, timeouts, request ids, access log, panics
//	routes.go    the table of all routes: method, pattern, action, handler
//	call.go      one request: path segments, body under its limit, answer
//	json_*.go    strict reading in one pass over the body, bounded writing
//	tenants.go, collections.go, records.go, search.go, extensions.go, system.go
//	             one file per group of routes; get and query are in records.go
//	auth.go      who asks, and whether he may
//	users.go, retention.go, audit_read.go, privacy.go
//	             routes of chromad's own: users, retention and holds, the audit log,
//	             what may be stored
//	fields.go    which fields a role sees, and what is stored of them
//	audit_call.go what a request leaves in the audit log
//	metrics.go   GET /metrics
//	overload.go  whose turn it is, and what is refused because of how much is asked
//	quota.go     how much a tenant may store
//	schema*.go   collection configuration and schema, which are the server's
//	             own: the engine keeps them as bytes and never looks inside
//	store.go     the engine as the server sees it
//	errors.go    the engine's errors as statuses and Chroma's error names
//
// The order of checks on a record route is Chroma's: body (400 or 422),
// database name and collection id (400), the collection exists (404),
// filters (400), values (400).
//
// The reader is strict where two different bodies could otherwise come to mean the
// same: a field given twice, bytes that are not UTF-8 and lone surrogates are
// refused, a field in another case is not that field, numbers are never null. What it allocates
// is bounded by the length of the body, and every list has a limit of its own.
package server
