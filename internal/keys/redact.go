package keys

import (
	"fmt"
	"io"
)

// redacted is embedded by every type that reaches key bytes: however it is
// printed or encoded, no key comes out.
type redacted struct{}

const redaction = "redacted"

// String implements fmt.Stringer.
func (redacted) String() string { return redaction }

// GoString implements fmt.GoStringer.
func (redacted) GoString() string { return redaction }

// Format implements fmt.Formatter, for every verb.
func (redacted) Format(w fmt.State, _ rune) { io.WriteString(w, redaction) }

// MarshalText implements encoding.TextMarshaler, and so says what JSON shows.
func (redacted) MarshalText() ([]byte, error) { return []byte(redaction), nil }
