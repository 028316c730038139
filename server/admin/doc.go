// Package admin lets the owner of a store talk to the server that has it open:
// what needs the store, and cannot have it while a server holds its lock, is
// done by that server.
//
//	GET  /admin/v1/status       what the store is, how large, what is under way
//	GET  /admin/v1/keys         the keys of an encrypted store, nothing secret
//	POST /admin/v1/keys/rotate  put everything under new keys
//	POST /admin/v1/compact      merge segments, give space back
//	GET  /admin/v1/access       who may do what; hashes of secrets, no secret
//	POST /admin/v1/access       change that: the body is an access.Command
//	POST /admin/v1/audit        lines of the audit log: the body is an AuditQuery
//	POST /admin/v1/audit/verify whether it is what was written
//	GET  /admin/v1/privacy      what may be stored
//	POST /admin/v1/privacy      change that: the body is privacy.Rules
//	POST /admin/v1/privacy/rotate  new keys for pseudonyms and hashes
//	POST /admin/v1/privacy/reveal  what pseudonyms stand for: the body is Pseudonyms
//	GET  /admin/v1/retention    collections with a retention or a legal hold
//	POST /admin/v1/retention    change one: the body is a RetentionCommand
//
// It is HTTP, but never over the network: there is no authentication in it.
// Who may open the socket (a file in the store's directory, for its owner
// alone) owns the store's files anyhow. Making the socket and looking at who
// calls is up to the caller; Admin answers and Client asks.
//
// The answer to a POST of work is JSON, one Line after the other while the work goes
// on. The work is the server's: it goes on when the caller leaves, and who asks
// for it while it is under way joins. It ends with the context that New was
// given; what is left undone then is no harm, for both are done in steps that
// leave a whole store.
//
// routes.go answers, job.go runs work that several may watch, client.go asks,
// message.go is what they say to each other.
package admin
