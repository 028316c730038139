package filter

import (
	"errors"
	"fmt"
)

// The errors of the parsers, to be tested with errors.Is. Their texts are what
// users of the API see. An error may say more after the sentinel's text; a
// server that must answer with the exact text prints the sentinel.
var (
	ErrWhere         = errors.New("Invalid where clause")
	ErrWhereDocument = errors.New("Invalid where document clause")
	// ErrTooLarge comes together with one of the errors above when a clause is
	// nested too deeply or has too many parts.
	ErrTooLarge = errors.New("too large")
	// ErrRegex marks a pattern that cannot be used. The text is the API's,
	// misspelling included.
	ErrRegex = errors.New("Regex syntax errror")
	// ErrFullTextDisabled says that a collection keeps no document index.
	ErrFullTextDisabled = errors.New("Cannot filter using full-text search because FTS indexing is disabled")
	// ErrCorrupt marks index bytes that Builder did not write.
	ErrCorrupt = errors.New("filter index corrupt")
)

// DisabledError says that a collection keeps no index for a key and kind.
type DisabledError struct {
	Key  string
	Kind Kind
}

func (e *DisabledError) Error() string {
	return fmt.Sprintf("Cannot filter using metadata key '%s' with type '%s' because indexing is disabled", e.Key, e.Kind)
}

// regexError puts the API's prefix before the parser's text.
type regexError struct{ err error }

func (e *regexError) Error() string   { return ErrRegex.Error() + ": " + e.err.Error() }
func (e *regexError) Unwrap() []error { return []error{ErrRegex, e.err} }
