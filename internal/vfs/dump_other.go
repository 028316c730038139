//go:build !linux

package vfs

func dontDump([]byte) {}

func smallPages([]byte) {}

func largePages([]byte) {}

func joinPages([]byte) {}

// forget keeps the pages: what other systems have for it does not promise that
// they are gone.
func forget(b []byte) { clear(b) }
