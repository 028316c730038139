package keys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/aesgcm"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// maxKeyset bounds what is read as a keyset, in bytes: some 300 keys. A larger
// file is not a key file, whatever it is.
const maxKeyset = 64 << 10

// Generate makes a keyset with one new AES256-GCM key: the JSON that a key file
// holds. The bytes are the secret.
func Generate() ([]byte, error) {
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("making an AES256-GCM key: %w", err)
	}
	return encode(h)
}

// encode writes a keyset as JSON that ends in a newline.
func encode(h *keyset.Handle) ([]byte, error) {
	var b bytes.Buffer
	if err := insecurecleartextkeyset.Write(h, keyset.NewJSONWriter(&b)); err != nil {
		return nil, fmt.Errorf("encoding a keyset: %w", err)
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// decode reads the JSON of a keyset that this package takes: AES256-GCM keys,
// the primary one enabled. The errors say nothing of what text holds: parsers
// like to quote, and what they quote would be a key.
func decode(text []byte) (*keyset.Handle, error) {
	switch trimmed := bytes.TrimSpace(text); {
	case len(trimmed) == 0:
		return nil, errors.New("it is empty")
	case len(text) > maxKeyset:
		return nil, fmt.Errorf("it is larger than %d bytes, a keyset is not", maxKeyset)
	case trimmed[0] != '{':
		return nil, errors.New("it is not a Tink keyset in JSON")
	case trimmed[len(trimmed)-1] != '}':
		return nil, errors.New("it is cut off, or more than a Tink keyset in JSON")
	}
	ks, err := keyset.NewJSONReader(bytes.NewReader(text)).Read()
	if err != nil {
		if bytes.Contains(text, []byte(`"encryptedKeyset"`)) {
			return nil, errors.New("it is an encrypted Tink keyset, and the operator's key has to be in the clear")
		}
		return nil, errors.New("it is not a Tink keyset in JSON, or it is damaged")
	}
	if err := keyset.Validate(ks); err != nil { // names ids and states, no values
		return nil, errors.New(strings.TrimSuffix(err.Error(), "\n"))
	}
	h, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(text)))
	if err != nil {
		return nil, errors.New("a key in it is damaged, or of a type that is not AES256-GCM")
	}
	return h, checkKeys(h)
}

// checkKeys wants AES256-GCM keys with ids in front of their ciphertexts, by
// which the right key of several is found.
func checkKeys(h *keyset.Handle) error {
	for i := range h.Len() {
		entry, err := h.Entry(i)
		if err != nil {
			return fmt.Errorf("key at place %d: %w", i, err)
		}
		p, ok := entry.Key().Parameters().(*aesgcm.Parameters)
		switch {
		case !ok:
			return fmt.Errorf("key %d is not an AES-GCM key", entry.KeyID())
		case p.KeySizeInBytes() != 32:
			return fmt.Errorf("key %d is AES%d-GCM, and AES256-GCM is wanted", entry.KeyID(), 8*p.KeySizeInBytes())
		case p.IVSizeInBytes() != 12, p.TagSizeInBytes() != 16, p.Variant() != aesgcm.VariantTink:
			return fmt.Errorf("key %d is not of Tink's template AES256_GCM", entry.KeyID())
		}
	}
	return nil
}

// local is a keyset in memory.
type local struct {
	uri   string
	check string // what to look at when it is not the right one
	aead  tink.AEAD
}

// newLocal makes an operator's key of the JSON of a keyset, and wipes text.
// check is what to look at when it is not the right key. Making another one
// then helps nobody, which it does when there is none.
func newLocal(uri, check, another string, text []byte) (Operator, error) {
	defer clear(text)
	h, err := decode(text)
	if err != nil {
		return nil, &Error{URI: uri, Op: "open", Kind: ErrConfig, Detail: err.Error(), Check: check + ", or make one with: " + another}
	}
	a, err := aead.New(h)
	if err != nil {
		return nil, &Error{URI: uri, Op: "open", Kind: ErrConfig, Detail: "Tink does not take the keyset", Check: check}
	}
	return &local{uri, check, a}, nil
}

// EncryptWithContext implements tink.AEADWithContext.
func (l *local) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, &Error{URI: l.uri, Op: "encrypt", Kind: err}
	}
	sealed, err := l.aead.Encrypt(plaintext, associatedData)
	if err != nil {
		return nil, &Error{URI: l.uri, Op: "encrypt", Kind: ErrConfig, Detail: err.Error()}
	}
	return sealed, nil
}

// DecryptWithContext implements tink.AEADWithContext.
func (l *local) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, &Error{URI: l.uri, Op: "decrypt", Kind: err}
	}
	opened, err := l.aead.Decrypt(ciphertext, associatedData)
	if err != nil { // the cipher knows no more than that
		return nil, &Error{URI: l.uri, Op: "decrypt", Kind: ErrWrongKey, Check: l.check}
	}
	return opened, nil
}

// URI implements Operator.
func (l *local) URI() string { return l.uri }

// Format prints the URI, whatever the verb: never the key.
func (l *local) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "key %s (redacted)", l.uri) }

// MarshalText is Format for encoders.
func (l *local) MarshalText() ([]byte, error) { return fmt.Append(nil, l), nil }
