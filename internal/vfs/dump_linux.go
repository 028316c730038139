package vfs

import "golang.org/x/sys/unix"

// All advice is best effort: a kernel that does not know it only makes core
// dumps larger, or takes other pages.

func dontDump(b []byte) { _ = unix.Madvise(b, unix.MADV_DONTDUMP) }

func smallPages(b []byte) { _ = unix.Madvise(b, unix.MADV_NOHUGEPAGE) }

func largePages(b []byte) { _ = unix.Madvise(b, unix.MADV_HUGEPAGE) }

func joinPages(b []byte) {
	largePages(b)
	_ = unix.Madvise(b, unix.MADV_COLLAPSE)
}

// forget is best effort too. Pages that stay hold what they held.
func forget(b []byte) { _ = unix.Madvise(b, unix.MADV_DONTNEED) }
