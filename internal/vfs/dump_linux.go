package vfs

import "golang.org/x/sys/unix"

// dontDump is best effort: a kernel that does not know the advice only makes
// core dumps larger.
func dontDump(b []byte) { _ = unix.Madvise(b, unix.MADV_DONTDUMP) }
