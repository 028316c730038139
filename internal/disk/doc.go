// Package disk is what every file of a store shares: the 128-byte header with
// its identity, blocks with checksums, the table and footer at the end, and
// the bounded decoder.
//
//	header | section | section | ... | table | footer
//
// A section is a run of blocks of one size that begins at a multiple of 64
// bytes; the bytes between sections are zero. Every block has a checksum in
// the table that binds it to its address, header and table have one in the
// footer, and whoever names the file keeps that one and the length (Info): so
// no byte can change, move or be missing unnoticed. The byte diagrams are in
// docs/format/file.md.
//
// A Section presents its bytes as one contiguous address space. Each block is
// verified when it is first touched, once: unsealed files are read through a
// read-only mapping, so opening a file costs its header, table and footer and
// nothing else. Blocks of sealed files are decrypted when first touched, into
// memory with the same layout.
package disk
