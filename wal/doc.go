// Package wal is the log: an ordered run of opaque entries, durable when they
// are acknowledged.
//
// This package may change in any release. The compatibility promise covers
// package engine only.
//
// # Files
//
// The log is the directory "log". Its files have names of 16 hexadecimal
// digits, numbered by the log itself:
//
//	log/0000000000000001.wal    released when a checkpoint covers it
//	log/0000000000000002.wal
//	log/0000000000000003.wal    the last one, appended to
//	log/0000000000000003.newest empty: says that 3 must be there
//
// A file begins with a header (identity, and the position at which it begins)
// and goes on with frames. A frame holds the entries of one fsync; its
// checksum covers its address (store, file, index) and the checksum of the
// frame before. docs/format/wal.md draws the bytes.
//
// A new file is written under a temporary name, synced, renamed into place,
// and its directory synced, before any frame is added to it. So a file that
// can be seen has a whole header. Then it is marked as the newest, in the same
// way, and the mark of the one before is removed. So a log that has lost its
// newest files is not taken for a shorter one.
//
// # What is durable
//
// There is one fsync per frame, and no frame is written before the fsync of
// the frame before it succeeded. Hence the rules of reading:
//
//   - Only the last frame of the last file can be torn by a power cut.
//   - The header of a frame in a file proves that the frames before it in
//     that file, and all files before that file, were durable.
//
// # Torn tail, or corruption
//
// Let the frame expected at some offset be damaged: cut short, not matching
// its checksum, or an older frame of the same file, as a sector that was never
// written may hold one. It is a torn tail, and the log ends before it, when
//
//   - it is in the last file,
//   - and behind its first byte that file holds no intact frame header (a
//     checksum over the file's identity protects it) with a larger index,
//   - and the checkpoint does not say that the log went further (the position
//     given to Open, Options.Last).
//
// Everything else is a disk.CorruptError: damage in a file that another one
// follows, damage with a later frame behind it, and a later frame, or one of
// another history, in the place of the expected one. What a file holds beyond
// the position at which the next file begins is a dead tail, and is not looked
// at.
//
// A device that damages the last frame after its fsync succeeded is not told
// from a power cut, unless the checkpoint lies beyond.
//
// # Recovery
//
// The last frame may have been written by a process that died before its
// fsync, or whose fsync failed. Readers will see its entries, so they must be
// durable first, and asking for another fsync proves nothing: after a failed
// one the system may hold pages that it will never write. Recovery therefore
// writes the frame again, as the first one of a new file that begins at the
// position of that frame. Nothing is ever appended to an old file, and torn
// tails stay where they are, dead.
package wal
