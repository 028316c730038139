package disk

import (
	"errors"
	"fmt"

	"github.com/chromad/chromad/internal/seal"
)

var (
	// ErrCorrupt marks bytes that are not what was written.
	ErrCorrupt = errors.New("corrupt")
	// ErrFormat marks a file of a version or kind that this program does not know.
	ErrFormat = errors.New("unknown format")
	// ErrKey marks a file whose key is missing or is not the right one.
	ErrKey = seal.ErrKey
	// ErrSealed marks what cannot be done with a file whose blocks are encrypted.
	ErrSealed = errors.New("file is sealed")
)

// CorruptError says where the damage is. errors.Is(err, ErrCorrupt) holds.
type CorruptError struct {
	File   string
	Offset int64 // in the file, in bytes
	Err    error // what is wrong there
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s: at %d: %v: %v", e.File, e.Offset, e.Err, ErrCorrupt)
}

// Unwrap returns ErrCorrupt and the finding.
func (e *CorruptError) Unwrap() []error { return []error{ErrCorrupt, e.Err} }

var errChecksum = errors.New("checksum mismatch")

// damage is a finding before the name of the file is known.
func damage(off int64, format string, args ...any) *CorruptError {
	return &CorruptError{Offset: off, Err: fmt.Errorf(format, args...)}
}

// in names the file of a finding, and wraps anything else as a path.
func in(file string, err error) error {
	if c, ok := errors.AsType[*CorruptError](err); ok && c.File == "" {
		c.File = file
		return c
	}
	return fmt.Errorf("%s: %w", file, err)
}
