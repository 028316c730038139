package keys

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/signature"
)

// Sign signs a message with the store's signing key: Ed25519 with Tink's
// prefix, which names the key.
func (r *Ring) Sign(msg []byte) ([]byte, error) {
	return r.keyset.Load().signer.Sign(msg)
}

// Public is the public half of the signing key, a keyset in Tink's JSON form,
// compact. It is no secret: who has it from a source that they trust can tell
// what the store signed.
func (r *Ring) Public() ([]byte, error) {
	public, err := r.keyset.Load().signing.Public()
	if err != nil {
		return nil, err
	}
	var b, compact bytes.Buffer
	if err := public.WriteWithNoSecrets(keyset.NewJSONWriter(&b)); err != nil {
		return nil, err
	}
	// Tink's encoder adds spaces at random.
	err = json.Compact(&compact, b.Bytes())
	return compact.Bytes(), err
}

// Verify returns nil if signature is what Sign made of msg under the keyset
// that Public returned.
func Verify(public, msg, sig []byte) error {
	h, err := keyset.ReadWithNoSecrets(keyset.NewJSONReader(bytes.NewReader(public)))
	if err != nil {
		return fmt.Errorf("public keyset: %w", err)
	}
	v, err := signature.NewVerifier(h)
	if err != nil {
		return fmt.Errorf("public keyset: %w", err)
	}
	return v.Verify(sig, msg)
}
