// Package vfs is the only door to the file system: files under one root
// directory, created, appended, synced, mapped, renamed and listed.
//
// The operations are those that object storage can also offer (create if
// absent, read at, list, delete), plus append for the local log. Nothing in
// a name comes from a user: callers pass numbers of their own.
//
// What is durable when: the bytes of a file after its Sync, its name after
// SyncDir of its directory. Nothing else is promised, and package faultfs
// takes away everything that is not.
package vfs
