//go:build unix

package vfs

import (
	"errors"
	"os"

	"github.com/edsrzf/mmap-go"
	"golang.org/x/sys/unix"
)

// ownMemory maps memory that is this process's alone: pages of shared memory
// are not given back by asking for it.
const ownMemory = mmap.COPY

// nonblock makes opening a fifo return at once.
const nonblock = unix.O_NONBLOCK

func full(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG)
}

func handles(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)
}

// unmappable tells that a process has as much mapped as it may, in bytes or in
// mappings.
func unmappable(err error) bool { return errors.Is(err, unix.ENOMEM) }

func flushDir(d *os.File) error { return d.Sync() }
