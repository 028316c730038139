// Package keytest makes operator's keys for tests: real ones, of Tink's, whose
// bytes come from a name.
package keytest

import (
	"context"
	"crypto/sha256"
	"sync/atomic"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Operator is an operator's key in memory. It is safe for concurrent use.
type Operator struct {
	uri   string
	aead  tink.AEAD
	calls atomic.Int64
	fail  atomic.Pointer[error]
}

// New returns the key of a name: AES-256-GCM under the name's SHA-256. Equal
// names are the same key.
func New(name string) *Operator {
	key := sha256.Sum256([]byte(name))
	a, err := subtle.NewAESGCM(key[:])
	if err != nil {
		return nil // 32 bytes are a key
	}
	return &Operator{uri: "test://" + name, aead: a}
}

// URI is test:// and the name.
func (o *Operator) URI() string { return o.uri }

// Alias returns the same key under another URI.
func (o *Operator) Alias(uri string) *Operator { return &Operator{uri: uri, aead: o.aead} }

// Fail makes every later call fail with err, until it is called with nil: a
// KMS that is away.
func (o *Operator) Fail(err error) {
	if err == nil {
		o.fail.Store(nil)
		return
	}
	o.fail.Store(&err)
}

// Calls is how often the key was used.
func (o *Operator) Calls() int { return int(o.calls.Load()) }

// EncryptWithContext implements tink.AEADWithContext.
func (o *Operator) EncryptWithContext(ctx context.Context, plaintext, associated []byte) ([]byte, error) {
	if err := o.begin(ctx); err != nil {
		return nil, err
	}
	return o.aead.Encrypt(plaintext, associated)
}

// DecryptWithContext implements tink.AEADWithContext.
func (o *Operator) DecryptWithContext(ctx context.Context, ciphertext, associated []byte) ([]byte, error) {
	if err := o.begin(ctx); err != nil {
		return nil, err
	}
	return o.aead.Decrypt(ciphertext, associated)
}

func (o *Operator) begin(ctx context.Context) error {
	o.calls.Add(1)
	if p := o.fail.Load(); p != nil {
		return *p
	}
	return ctx.Err()
}
