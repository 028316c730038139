package vfs

import (
	"errors"
	"os"

	"github.com/edsrzf/mmap-go"
	"golang.org/x/sys/windows"
)

// ownMemory maps memory; here none is shared without a name.
const ownMemory = mmap.RDWR

const nonblock = 0

func full(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

func handles(err error) bool { return errors.Is(err, windows.ERROR_TOO_MANY_OPEN_FILES) }

func unmappable(err error) bool {
	return errors.Is(err, windows.ERROR_NOT_ENOUGH_MEMORY) || errors.Is(err, windows.ERROR_COMMITMENT_LIMIT)
}

// flushDir does nothing: directories cannot be flushed here, the file system
// logs its names itself.
func flushDir(*os.File) error { return nil }
