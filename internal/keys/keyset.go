package keys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/aesgcm"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/signature"
	"github.com/tink-crypto/tink-go/v2/signature/ed25519"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
)

// maxKeysetKeys bounds the keys in a keyset, so that every KMS takes it (AWS:
// 4096 bytes). A rotation that is finished leaves one.
const maxKeysetKeys = 16

// opened is what a keyset holds. It never changes: a change makes another.
type opened struct {
	redacted
	sealedKeyset                // as in the file that it was read from or written to
	wrapping     *keyset.Handle // AES256-GCM keys, with Tink's prefix
	signing      *keyset.Handle // Ed25519
	wrap         tink.AEAD
	signer       tink.Signer
	primary      uint32
	ids          []uint32 // of the wrapping keys, as they stand
}

// newKeyset draws a keyset of one key, and the signing key.
func newKeyset() (*opened, error) {
	wrapping, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, err
	}
	signing, err := keyset.NewHandle(signature.ED25519KeyTemplate())
	if err != nil {
		return nil, err
	}
	return newOpened(wrapping, signing)
}

// newOpened makes the primitives of two keysets, whose keys must be of the
// kinds that the format has.
func newOpened(wrapping, signing *keyset.Handle) (*opened, error) {
	o := &opened{wrapping: wrapping, signing: signing}
	for i := range wrapping.Len() {
		e, err := wrapping.Entry(i)
		if err != nil {
			return nil, err
		}
		p, ok := e.Key().Parameters().(*aesgcm.Parameters)
		if !ok || p.KeySizeInBytes() != keySize || p.Variant() != aesgcm.VariantTink {
			return nil, fmt.Errorf("key %d is no AES256-GCM key with Tink's prefix", e.KeyID())
		}
		o.ids = append(o.ids, e.KeyID())
		if e.IsPrimary() {
			o.primary = e.KeyID()
		}
	}
	for i := range signing.Len() {
		e, err := signing.Entry(i)
		if err != nil {
			return nil, err
		}
		if p, ok := e.Key().Parameters().(*ed25519.Parameters); !ok || p.Variant() != ed25519.VariantTink {
			return nil, fmt.Errorf("signing key %d is no Ed25519 key with Tink's prefix", e.KeyID())
		}
	}
	var err error
	if o.wrap, err = aead.New(wrapping); err != nil {
		return nil, err
	}
	o.signer, err = signature.NewSigner(signing)
	return o, err
}

// addPrimary returns the keyset with a new key as its primary.
func (o *opened) addPrimary() (*opened, error) {
	if len(o.ids) >= maxKeysetKeys {
		return nil, fmt.Errorf("keyset has %d keys, no more may be: finish the rotation first", len(o.ids))
	}
	m := keyset.NewManagerFromHandle(o.wrapping)
	id, err := m.Add(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, err
	}
	if err := m.SetPrimary(id); err != nil {
		return nil, err
	}
	return o.with(m)
}

// without returns the keyset without some of its keys.
func (o *opened) without(ids []uint32) (*opened, error) {
	m := keyset.NewManagerFromHandle(o.wrapping)
	for _, id := range ids {
		if err := m.Delete(id); err != nil {
			return nil, err
		}
	}
	return o.with(m)
}

func (o *opened) with(m *keyset.Manager) (*opened, error) {
	h, err := m.Handle()
	if err != nil {
		return nil, err
	}
	n, err := newOpened(h, o.signing)
	if err != nil {
		return nil, err
	}
	n.sealedKeyset = o.sealedKeyset
	return n, nil
}

// seal wraps the keyset for a file with this number under op, and proves that
// op opens it again: what only seals would lose the store.
func (o *opened) seal(ctx context.Context, number uint64, op Operator) (*opened, error) {
	uri, err := uriOf(op)
	if err != nil {
		return nil, err
	}
	n := *o
	n.number, n.uri = number, uri
	plain, err := o.appendSecrets()
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	if n.sealed, err = op.EncryptWithContext(ctx, plain, n.associated()); err != nil {
		return nil, fmt.Errorf("%w: seal the keyset under the operator's key %q: %w", ErrOperator, uri, err)
	}
	again, err := op.DecryptWithContext(ctx, n.sealed, n.associated())
	defer clear(again)
	if err != nil {
		return nil, fmt.Errorf("%w: the operator's key %q sealed a keyset and does not open it: %w", ErrOperator, uri, err)
	}
	if !bytes.Equal(plain, again) {
		return nil, fmt.Errorf("%w: the operator's key %q sealed a keyset and opens another: %w", ErrOperator, uri, seal.ErrKey)
	}
	return &n, nil
}

// appendSecrets is what the operator's key wraps: both keysets in Tink's
// binary form.
func (o *opened) appendSecrets() ([]byte, error) {
	wrapping, err := marshal(o.wrapping)
	if err != nil {
		return nil, err
	}
	defer clear(wrapping)
	signing, err := marshal(o.signing)
	if err != nil {
		return nil, err
	}
	defer clear(signing)
	b := make([]byte, 0, len(wrapping)+len(signing)+20) // never grows: no copy stays behind
	return appendBlob(appendBlob(b, wrapping), signing), nil
}

// isRefusal tells an operator's key that is not the right one from one that
// could not be asked, of which package engine/keys has errors that say so. The
// error of any other Operator is taken for a refusal.
func isRefusal(err error) bool {
	e, ok := errors.AsType[interface {
		error
		WrongKey() bool
	}](err)
	return !ok || e.WrongKey()
}

// openKeyset unwraps what a keyset's file holds.
func openKeyset(ctx context.Context, s sealedKeyset, op Operator) (*opened, error) {
	uri, err := uriOf(op)
	if err != nil {
		return nil, err
	}
	if op == nil {
		return nil, fmt.Errorf("%s: the store is encrypted, it opens with the operator's key %q: %w", s.name(), s.uri, seal.ErrKey)
	}
	plain, err := op.DecryptWithContext(ctx, s.sealed, s.associated())
	defer clear(plain)
	switch {
	case ctx.Err() != nil && err != nil:
		return nil, fmt.Errorf("%s: open with the operator's key %q: %w", s.name(), uri, err)
	case err != nil && !isRefusal(err):
		return nil, fmt.Errorf("%s: open with the operator's key: %w", s.name(), err)
	case err != nil:
		return nil, fmt.Errorf("%s: sealed under the operator's key %q, does not open with %q: %w: %w", s.name(), s.uri, uri, err, seal.ErrKey)
	}
	o, err := decodeSecrets(plain)
	if err != nil {
		return nil, fmt.Errorf("%s: keyset under the operator's key %q: %w: %w", s.name(), s.uri, err, seal.ErrKey)
	}
	o.sealedKeyset = s
	return o, nil
}

// decodeSecrets reads what appendSecrets wrote. No error shows any of it.
func decodeSecrets(plain []byte) (*opened, error) {
	d := disk.NewDecoder(plain)
	w, s := d.Blob(), d.Blob()
	if d.Done() != nil {
		return nil, errors.New("content is not what this version writes")
	}
	wrapping, err := unmarshal(w)
	if err != nil {
		return nil, err
	}
	signing, err := unmarshal(s)
	if err != nil {
		return nil, fmt.Errorf("signing keys: %w", err)
	}
	return newOpened(wrapping, signing)
}

// unmarshal reads a keyset; Tink refuses one without an enabled primary.
func unmarshal(b []byte) (*keyset.Handle, error) {
	proto, err := keyset.NewBinaryReader(bytes.NewReader(b)).Read()
	if err != nil {
		return nil, errors.New("not a keyset of Tink's")
	}
	var ids []uint32
	for _, k := range proto.GetKey() {
		ids = append(ids, k.GetKeyId())
		defer clear(k.GetKeyData().GetValue())
	}
	h, err := insecurecleartextkeyset.Read(parsed{proto})
	if err != nil {
		return nil, fmt.Errorf("keys %d, primary %d: %w", ids, proto.GetPrimaryKeyId(), err)
	}
	return h, nil
}

// parsed is a keyset.Reader of what was read already.
type parsed struct{ keyset *tinkpb.Keyset }

// Read implements keyset.Reader.
func (p parsed) Read() (*tinkpb.Keyset, error) { return p.keyset, nil }

// ReadEncrypted implements keyset.Reader; nothing is encrypted by Tink here.
func (p parsed) ReadEncrypted() (*tinkpb.EncryptedKeyset, error) { return nil, errors.ErrUnsupported }

func marshal(h *keyset.Handle) ([]byte, error) {
	var w wiper
	err := insecurecleartextkeyset.Write(h, keyset.NewBinaryWriter(&w))
	return w.b, err
}

// wiper keeps what is written and wipes the writer's copy, which Tink makes
// for this one call and leaves to the garbage.
type wiper struct{ b []byte }

func (w *wiper) Write(p []byte) (int, error) {
	w.b = slices.Concat(w.b, p)
	clear(p)
	return len(p), nil
}
