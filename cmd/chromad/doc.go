// Command chromad runs a vector database that speaks Chroma's HTTP API.
//
//	chromad run --path ./chroma --port 8000
//
// That much is as with Chroma's own command, so scripts and container files keep
// working. `chromad help` lists the other commands, each of which has --help;
// docs/operations.md says it in full.
package main
