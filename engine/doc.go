// Package engine is an embedded vector database: collections of records
// (id, embedding, metadata, document, uri) in one directory, durable when a
// write returns, searched by nearest embedding and filtered by metadata and
// document text. It is the only package of the module with a compatibility
// promise, with what its API takes from package filter: values, conditions and
// their parsers. Everything else may change in any release.
//
// # Use
//
//	db, err := engine.Open("./data", nil)
//	docs, _, err := db.Default().GetOrCreate(ctx, "docs", engine.Spec{Metric: engine.Cosine})
//	err = docs.Add(ctx, engine.Record{ID: "a", Embedding: v, Document: engine.Optional("text")})
//	found, err := docs.Query(ctx, v, 10, nil)
//
// Query and QueryMany return matches that are the caller's to keep; who asks very often, or
// for very many, has QueryEach tell them one by one, in memory that is used again.
//
// A nil error from a write means: on disk, for good, and seen by every read
// that starts afterwards. A call's records are written all or none.
//
// # How it works, for those who read on
//
// A store is one log and a set of immutable segments; everything else is a
// view of them. entry.go says what a log entry means. A write (write.go) is
// validated, encoded and handed to the log, whose committer makes many
// writers' entries durable with one sync; then apply.go changes the
// collection's memtable (memtable.go) and publishes a new state (state.go),
// which readers (get.go, query.go) take as a view; search.go asks its segments,
// lanes.go merges what they find. flush.go turns memtables
// into segments, compact.go several segments into one; both end with an edit
// in the log, policy.go decides which, jobs.go when, rest.go once nobody writes any
// more, and cores.go on how many processors. readers.go opens segments when somebody
// looks into them. checkpoint.go writes the whole catalog and all manifests under
// a fresh number, so that the log before it can go. recover.go reads the
// newest checkpoint and the log after it. reserve.go keeps room for deletions
// on a full disk.
//
// guarded.go is a collection for who may meet the records of a rule only.
//
// retain.go has records that expire and legal holds: retain_terms.go what an entry
// says of them, retain_view.go what readers see, retain_sweep.go the deletion of
// what is over.
//
// An encrypted store (Options.Keys) is the same with other bytes: keys.go has
// its keys, envelope.go the entries that are sealed under those of their
// collections, rotate.go changes keys, and encrypts a plain store.
//
// A damaged store: degraded.go has segments with a damaged index made anew,
// check.go tells all that is wrong, repair.go makes a new store of what can be
// proven, inspect.go shows what files hold.
//
// audit.go is the audit log, a log of its own: audit_write.go adds to it and
// closes its files, audit_read.go and audit_verify.go read them, audit_tend.go
// signs them and removes the oldest, audit_check.go and audit_reserve.go are for
// damage and full disks.
//
// erase.go takes what was deleted out of all files within a time, erasejob.go
// decides when, and receipt.go has what is signed about it.
//
// # Locks
//
// In the order in which they may be taken:
//
//	DB.rotation          one change of keys at a time
//	DB.erasure.run       one erasure, with its receipts, at a time
//	auditLog.work        one who writes the audit log at a time
//	Collection.jobs.one  one compaction, or copying under new keys, at a time
//	Collection.maint     one flush, or one installation of a compaction, at a time
//	DB.catMu             catalog changes and edits, each with its log entry; checkpoints
//	Collection.writeMu   order of the collection's entries in the log
//	Collection.sealing   the sealer of the collection's entries
//	Collection.applyMu   the memtable and the published state
//	Collection.pendMu    entries between log and memtable
//	DB.reserve           the files that keep room for deletions
//	DB.mu                the catalog's maps, never held over I/O
//	readerCache.mu, liveFiles.mu, jobs.mu, erasure.mu
package engine
