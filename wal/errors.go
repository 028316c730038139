package wal

import (
	"errors"
	"fmt"

	"github.com/chromad/chromad/internal/disk"
)

var (
	// ErrRefused marks an entry that is not in the log and never will be.
	ErrRefused = errors.New("entry refused")
	// ErrUnknown marks an entry that may or may not be in the log when it is
	// opened again.
	ErrUnknown = errors.New("entry in doubt")
	// ErrFailed marks a log that stopped after an error of the disk. It stays
	// so until the log is opened again.
	ErrFailed = errors.New("log has failed")
	// ErrClosed marks a log after Close.
	ErrClosed = errors.New("log is closed")
	// ErrTooLarge marks an entry longer than MaxPayload.
	ErrTooLarge = errors.New("entry too large")
	// ErrReadOnly marks a change to a log opened with Options.ReadOnly.
	ErrReadOnly = errors.New("log is read-only")
	// ErrNotReplayed marks a change before Replay has come to its end.
	ErrNotReplayed = errors.New("log is not replayed yet")
	// ErrEpoch marks an Options.Epoch smaller than one found in the log.
	ErrEpoch = errors.New("epoch is over")
)

var errChecksum = errors.New("checksum mismatch")

// corrupt names a place in a file.
func corrupt(file string, off int64, format string, args ...any) error {
	return &disk.CorruptError{File: file, Offset: off, Err: fmt.Errorf(format, args...)}
}

// refuse is the error of an entry that was not logged because of cause.
func refuse(cause error) error { return fmt.Errorf("%w: %w", ErrRefused, cause) }
