// Package disk is what every file of a store shares: the 64-byte header with
// its identity, blocks with checksums, the table and footer at the end, and
// the bounded decoder.
//
//	header | section | section | ... | table | footer
//
// A section is a run of blocks of one size, 64-byte aligned... (the byte
// diagrams are in docs/format/file.md).
//
// A Section presents its bytes as one contiguous address space. Each block is
// verified when it is first touched, once: unsealed files are read through a
// read-only mapping, so opening a file costs its header, table and footer and
// nothing else.
package disk
