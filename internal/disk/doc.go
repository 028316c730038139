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
//
// What is decrypted of many files can share a Budget. When it is short, sections
// that were named to File.Share lose blocks that were not used for some time:
// their memory goes back to the system and their place in the address space
// stays, so that the next touch decrypts them again. Whoever reads such a
// section holds the file (File.Hold, File.Free), and nothing is taken from
// under him.
//
// Where to read on: header.go, table.go, writer.go and file.go (the bytes),
// section.go (touching), reveal.go (decrypting and forgetting), fill.go (many
// blocks at once), budget.go.
package disk
