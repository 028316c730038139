package engine

import (
	"errors"
	"fmt"
	"time"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/wal"
)

// Test with errors.Is.
var (
	// ErrNotFound: there is no such tenant, database or collection, or the
	// collection was deleted meanwhile. Unknown ids of records are no error.
	ErrNotFound = errors.New("not found")
	// ErrExists: the name is taken.
	ErrExists = errors.New("already exists")
	// ErrClosed: Close was called.
	ErrClosed = errors.New("store is closed")
	// ErrReadOnly: a write to a store that was opened with Options.ReadOnly.
	ErrReadOnly = errors.New("store is read-only")
	// ErrInvalid: nothing was written; errors.As an InvalidError says what is wrong.
	ErrInvalid = errors.New("invalid")
	// ErrTooLarge: nothing was written; a record or the call is beyond Options.Limits.
	ErrTooLarge = errors.New("too large")
	// ErrDimension: nothing was written; errors.As a DimensionError says which was wanted.
	ErrDimension = errors.New("dimension mismatch")
	// ErrRule: nothing was written; a record is not one that the rule of
	// Collection.Under lets its user write. errors.As a RuleError says which.
	ErrRule = errors.New("not allowed by the rule")
	// ErrHeld: nothing was changed; the collection is under legal hold
	// (Collection.PlaceHold). errors.As a HeldError says which.
	ErrHeld = errors.New("under legal hold")
	// ErrFailed is returned by every write after the disk refused to make
	// bytes durable. Reads go on. Closing and opening the store again
	// recovers what is really on disk.
	ErrFailed = errors.New("store has failed and accepts no more writes; open it again to recover")
	// ErrUnknown says that a write may or may not have happened. The disk
	// failed under it, and reading after the store was opened again tells; or
	// the context ended while it waited for the disk (the error is the
	// context's too), and reading a little later tells.
	ErrUnknown = errors.New("outcome unknown")
	// ErrBusy is returned when a write waited for memory as long as its
	// context allowed.
	ErrBusy = errors.New("busy: writes arrive faster than they can be flushed; try again later")

	// ErrLocked is returned by Open while somebody else has the store open.
	ErrLocked = vfs.ErrLocked
	// ErrDiskFull: nothing was written. Writes succeed again when there is room.
	ErrDiskFull = vfs.ErrNoSpace
	// ErrNoHandle: as many files are open, or mapped, as the system allows.
	// Nothing was changed; Options.OpenSegments is the store's share of them.
	ErrNoHandle = vfs.ErrNoHandle
	// ErrCorrupt: bytes are not what was written; the text names file and
	// offset. From Open it is the store's, from a collection that one's alone.
	ErrCorrupt = disk.ErrCorrupt
	// ErrKey: a key is missing or is not the right one; the text says which is
	// needed, never what it is. From Open nothing was written, from a
	// collection it is that one's alone.
	ErrKey = seal.ErrKey
	// ErrRollback: the store is older than Options.MinGeneration.
	ErrRollback = errors.New("store is older than it has to be")
	// ErrFormat: a file has a version that this code does not know. When Open
	// returns it, nothing was changed.
	ErrFormat = disk.ErrFormat
)

// InvalidError says which part of an input is wrong. errors.Is(err, ErrInvalid) holds.
type InvalidError struct {
	Field  string // "id", "embedding", "metadata", …
	Index  int    // position of the record in the call, -1 if it is not about one
	Reason string
}

func (e *InvalidError) Error() string {
	if e.Index < 0 {
		return fmt.Sprintf("%s: %s", e.Field, e.Reason)
	}
	return fmt.Sprintf("record %d: %s: %s", e.Index, e.Field, e.Reason)
}

func (e *InvalidError) Unwrap() error { return ErrInvalid }

// DimensionError is an embedding of another length than the collection's.
// errors.Is(err, ErrDimension) holds.
type DimensionError struct{ Want, Got int }

func (e *DimensionError) Error() string {
	return fmt.Sprintf("embedding of %d dimensions in a collection of %d", e.Got, e.Want)
}

func (e *DimensionError) Unwrap() error { return ErrDimension }

// RuleError is a record that may not be written under a rule: because of what
// it says, or because somebody else's record has its id. errors.Is(err, ErrRule)
// holds.
type RuleError struct{ Index int } // position of the record in the call

func (e *RuleError) Error() string { return fmt.Sprintf("record %d: %v", e.Index, ErrRule) }

func (e *RuleError) Unwrap() error { return ErrRule }

// HeldError is a collection whose legal hold forbids what was asked for.
// errors.Is(err, ErrHeld) holds.
type HeldError struct {
	Collection ID
	Tenant     string
	Database   string
	Name       string // empty: it is not to be told
	Since      time.Time
	Index      int // position of the record in the call that would be overwritten, -1: it is not about one
}

func (e *HeldError) Error() string {
	which := "a collection"
	if e.Name != "" {
		which = fmt.Sprintf("collection %q", e.Name)
	}
	text := fmt.Sprintf("%s is %v since %s: what it has may not be deleted or changed until the hold is released", which, ErrHeld, e.Since.UTC().Format(time.RFC3339))
	if e.Index >= 0 {
		return fmt.Sprintf("record %d: %s", e.Index, text)
	}
	return text
}

func (e *HeldError) Unwrap() error { return ErrHeld }

// logError translates what the log said of an entry.
func logError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, wal.ErrUnknown):
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	case errors.Is(err, wal.ErrFailed):
		return fmt.Errorf("%w: %w", ErrFailed, err)
	case errors.Is(err, wal.ErrTooLarge):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case errors.Is(err, wal.ErrClosed):
		return ErrClosed
	}
	return fmt.Errorf("log: %w", err)
}
