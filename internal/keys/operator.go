package keys

import (
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/chromad/chromad/internal/seal"
)

// Operator is the operator's key: what wraps the keyset, usually a key that
// never leaves a KMS. It must be able to encrypt and to decrypt.
type Operator interface {
	tink.AEADWithContext
	// URI says which key it is. It is no secret: it stands in the keyset's
	// file and in messages.
	URI() string
}

var (
	// ErrShredded says that a collection has no key: it was destroyed, and
	// what was written under it is unreadable for good. errors.Is(err,
	// seal.ErrKey) holds.
	ErrShredded = fmt.Errorf("the collection has no key, it was destroyed or its file is missing: %w", seal.ErrKey)
	// ErrReadOnly says that a ring was opened for reading and asked to change.
	ErrReadOnly = errors.New("keys are open for reading only")
	// ErrOperator says that the operator's key could not be used for a change,
	// and that nothing was changed.
	ErrOperator = errors.New("keys stay as they were")
	// ErrFailed says that the disk failed under a change of keys.
	ErrFailed = errors.New("keys cannot be changed until the store is opened again")
	// ErrClosed says that the ring was closed.
	ErrClosed = errors.New("keys are closed")
)

// maxURI bounds the operator's URI, so that what is bound to the keyset fits
// where a KMS keeps it in hexadecimal (AWS: 8192 characters).
const maxURI = 2048

// uriOf is the URI of an operator's key, for messages too.
func uriOf(op Operator) (string, error) {
	if op == nil {
		return "", nil
	}
	uri := op.URI()
	if uri == "" || len(uri) > maxURI {
		return "", fmt.Errorf("operator's key: a URI of %d bytes, it has 1 to %d", len(uri), maxURI)
	}
	return uri, nil
}
