package keys

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tink-crypto/tink-go/v2/tink"
)

// Operator is the operator's key. It is safe for concurrent use. The
// associated data of a call is bound to the ciphertext: decrypting with another
// is an error that wraps ErrWrongKey.
type Operator interface {
	tink.AEADWithContext
	// URI names the key, not its bytes: it is no secret, and stands in the
	// store so that a message can say which key is needed.
	URI() string
}

// What can be wrong with an operator's key. Every error of an Operator, and of
// what opens one, wraps one of these or the error of the caller's context.
var (
	// ErrConfig: the URI, the key file or the settings around them are not
	// usable as they are.
	ErrConfig = errors.New("operator's key is not set up right")
	// ErrDenied: there are no credentials, or they may not use the key.
	ErrDenied = errors.New("access to the operator's key denied")
	// ErrNotFound: there is no such key, or it is disabled.
	ErrNotFound = errors.New("operator's key not found or disabled")
	// ErrUnavailable: the key service did not answer, or asked to wait. It was
	// tried several times; a later call may succeed.
	ErrUnavailable = errors.New("key service not available")
	// ErrWrongKey: the ciphertext is not of this key, or not of this
	// associated data.
	ErrWrongKey = errors.New("not encrypted with this operator's key")
)

// Error is what went wrong with a key. It holds no secret.
type Error struct {
	URI    string // of the key
	Op     string // "open", "encrypt" or "decrypt"
	Kind   error  // one of the five above, or the error of a context
	Detail string // what was found, in the words of the service if it has some
	Check  string // what to look at next
}

// Error reads as a path from the key to what to do.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s: %v", e.URI, e.Op, e.Kind)
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	if e.Check != "" {
		b.WriteString("; " + e.Check)
	}
	return b.String()
}

// WrongKey tells a key that answered, and is not the right one, from one that
// could not be asked.
func (e *Error) WrongKey() bool { return e.Kind == ErrWrongKey }

// Unwrap gives Kind to errors.Is.
func (e *Error) Unwrap() error { return e.Kind }

// Open opens the key that a URI names: a path or file:///path (OpenFile), or
// env://NAME (OpenEnv). URIs of key services are ErrConfig here: see package
// engine/keys/all.
func Open(ctx context.Context, uri string) (Operator, error) {
	if err := ctx.Err(); err != nil {
		return nil, &Error{URI: uri, Op: "open", Kind: err}
	}
	scheme, rest, found := strings.Cut(uri, "://")
	switch {
	case uri == "":
		return nil, &Error{URI: `""`, Op: "open", Kind: ErrConfig, Detail: "no key is named",
			Check: "give the path of a key file or a URI"}
	case !found:
		return OpenFile(uri)
	case scheme == "file":
		path, err := filePath(uri)
		if err != nil {
			return nil, err
		}
		return OpenFile(path)
	case scheme == "env":
		return OpenEnv(rest)
	}
	return nil, &Error{URI: uri, Op: "open", Kind: ErrConfig, Detail: "scheme " + scheme + " is not known here",
		Check: "use a path, file:///path or env://NAME, or a scheme that package engine/keys/all lists"}
}
