package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/chromad/chromad/engine/keys"
)

// Service is one key in a key service. Its calls end when the context does.
type Service interface {
	Encrypt(ctx context.Context, plaintext, associatedData []byte) ([]byte, error)
	Decrypt(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error)
	// Explain says what an error of Encrypt or Decrypt means. Errors of
	// network.go need not be looked at.
	Explain(op string, err error) Failure
}

// Failure is the meaning of an error.
type Failure struct {
	Kind   error  // one of package keys; ErrUnavailable is tried again
	Code   string // how the service calls it, printed as it is
	Detail string // in the words of the service
	Check  string // what the operator should look at
}

// Options is what differs between services.
type Options struct {
	Policy Policy
	// MaxPlaintext is the most that the service encrypts, in bytes.
	MaxPlaintext int
	// Probe makes Encrypt prove that the service binds associated data: for
	// services that leave out what they do not know.
	Probe bool
}

// New makes an operator's key of a service.
func New(uri string, service Service, o Options) keys.Operator {
	return &operator{uri: uri, service: service, options: o}
}

type operator struct {
	uri     string
	service Service
	options Options
}

const (
	encrypting = "encrypt"
	decrypting = "decrypt"
)

// EncryptWithContext encrypts, and decrypts what it got: a key that may
// encrypt only, or a service that gives back nonsense, must be noticed while
// the plaintext is still known. It happens when a store gets new keys, so the
// second call costs nothing that matters.
func (o *operator) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	if len(plaintext) == 0 || len(plaintext) > o.options.MaxPlaintext {
		return nil, &keys.Error{URI: o.uri, Op: encrypting, Kind: keys.ErrConfig,
			Detail: fmt.Sprintf("%d bytes are to be encrypted, and the service takes 1 to %d", len(plaintext), o.options.MaxPlaintext),
			Check:  "a store that was rotated often has old keys to retire"}
	}
	sealed, err := o.call(ctx, encrypting, func(ctx context.Context) ([]byte, error) {
		return o.service.Encrypt(ctx, plaintext, associatedData)
	})
	if err != nil {
		return nil, err
	}
	opened, err := o.DecryptWithContext(ctx, sealed, associatedData)
	if err != nil {
		return nil, fmt.Errorf("decrypting what was just encrypted: %w", err)
	}
	same := bytes.Equal(opened, plaintext)
	clear(opened)
	if !same {
		return nil, &keys.Error{URI: o.uri, Op: encrypting, Kind: keys.ErrConfig, Detail: "what comes back is not what was encrypted",
			Check: "check that the address is that of the key service"}
	}
	if o.options.Probe {
		return sealed, o.probe(ctx, sealed, associatedData)
	}
	return sealed, nil
}

// probe wants the service to refuse other associated data.
func (o *operator) probe(ctx context.Context, sealed, associatedData []byte) error {
	other := append(bytes.Clone(associatedData), 'x')
	opened, err := o.DecryptWithContext(ctx, sealed, other)
	switch {
	case err == nil:
		clear(opened)
		return &keys.Error{URI: o.uri, Op: encrypting, Kind: keys.ErrConfig, Detail: "the service does not bind associated data to what it encrypts",
			Check: "check its version and the type of the key"}
	case keyRefused(err):
		return nil
	}
	return fmt.Errorf("checking that associated data is bound: %w", err)
}

// DecryptWithContext implements tink.AEADWithContext.
func (o *operator) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	if len(ciphertext) == 0 {
		return nil, &keys.Error{URI: o.uri, Op: decrypting, Kind: keys.ErrWrongKey, Detail: "the ciphertext is empty"}
	}
	return o.call(ctx, decrypting, func(ctx context.Context) ([]byte, error) {
		opened, err := o.service.Decrypt(ctx, ciphertext, associatedData)
		if err == nil && len(opened) == 0 { // nothing empty is ever encrypted
			return nil, ErrAnswer
		}
		return opened, err
	})
}

// call tries op by the policy and turns its error into a keys.Error.
func (o *operator) call(ctx context.Context, name string, op func(context.Context) ([]byte, error)) ([]byte, error) {
	out, err := o.options.Policy.try(ctx, op, func(err error) bool {
		return o.explain(name, err).Kind == keys.ErrUnavailable
	})
	if err == nil {
		return out, nil
	}
	if cause := ctx.Err(); cause != nil { // the caller's end, not ours
		return nil, &keys.Error{URI: o.uri, Op: name, Kind: cause}
	}
	f := o.explain(name, err)
	return nil, &keys.Error{URI: o.uri, Op: name, Kind: f.Kind, Detail: f.text(), Check: f.Check}
}

func (o *operator) explain(name string, err error) Failure {
	if f, ok := network(err); ok {
		return f
	}
	return o.service.Explain(name, err)
}

// URI implements keys.Operator.
func (o *operator) URI() string { return o.uri }

// Format prints the URI, whatever the verb: never what the client holds.
func (o *operator) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "key %s (redacted)", o.uri) }

// MarshalText is Format for encoders.
func (o *operator) MarshalText() ([]byte, error) { return fmt.Append(nil, o), nil }

// keyRefused reports whether a decryption failed because key and ciphertext do
// not fit.
func keyRefused(err error) bool { return errors.Is(err, keys.ErrWrongKey) }
