// Package faultfs is a file system in memory that loses everything it is
// allowed to lose. It is imported by tests only.
//
// Every file has the bytes that programs see and the bytes that are on the
// disk, and between them the writes since the last Sync. Every directory has
// the names that programs see and those on the disk, and between them the
// operations since the last SyncDir. Crash cuts the power and returns one of
// the disks that may be found afterwards:
//
//   - writes that were not synced, the one in flight included, are cut into
//     sectors of 512 or 4096 bytes, each of which is there or not; what is
//     missing below the end of the file reads as zeros or as old garbage;
//   - of the directory operations that were not synced a prefix is there, as
//     with an ordered journal, or any subset: a removal may have landed while
//     the rename before it did not;
//   - a rename inside one directory is atomic; one between directories is an
//     addition in one and a removal in the other;
//   - a file whose name is gone is gone, synced or not.
//
// Rules (Inject) make single operations fail, or lie: failing syncs that drop
// what they should have written, short writes, flipped bits, sectors that were
// never written or landed in another file. A budget makes the disk full.
//
// Everything random comes from the seed, so that with one caller at a time the
// same calls have the same outcome.
package faultfs
