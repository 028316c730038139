// Command chromad runs a vector database that speaks Chroma's HTTP API.
//
//	chromad run --path ./chroma --port 8000
//
// The subcommands and flags are those of Chroma's own command, so scripts and
// container files keep working; `chromad help` and `chromad run --help` list
// what else there is, and docs/operations.md says it in full.
package main
