package privacy

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/tink-crypto/tink-go/v2/daead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/chromad/chromad/filter"
)

// Keys make pseudonyms and hashes. Each is bound to a scope (the collection)
// and a field, so that equal values of two collections, or under two keys, do
// not look equal. Values that compare as equal have one pseudonym and one hash.
//
// A pseudonym is base64url of AES-SIV. A hash is hex of 16 bytes of
// HMAC-SHA256 and of 4 bytes by which the store knows it for its own.
type Keys struct {
	stored     storedKeys
	pseudonyms tink.DeterministicAEAD
	each       []tink.DeterministicAEAD // the same, each with another key as its primary; the newest first
	hashes     []prf.PRF                // the newest first
}

// storedKeys is the form in which keys are kept: Tink's keysets, in the clear.
// The store seals it when it is encrypted.
type storedKeys struct {
	Version    int    `json:"version"`
	Pseudonyms []byte `json:"pseudonyms"`
	Hashes     []byte `json:"hashes"`
}

const (
	keysVersion = 1
	maxKeyset   = 16 // keys
	digestBytes = 16
	checkBytes  = 4
)

// Format keeps keys out of every text.
func (Keys) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "privacy.Keys") }

// NewKeys draws keys.
func NewKeys() (*Keys, error) {
	pseudonyms, err := keyset.NewHandle(daead.AESSIVKeyTemplate())
	if err != nil {
		return nil, err
	}
	hashes, err := keyset.NewHandle(prf.HMACSHA256PRFKeyTemplate())
	if err != nil {
		return nil, err
	}
	return newKeys(pseudonyms, hashes)
}

// Rotated are the keys with new ones for what is made from now on. The old ones
// go on to be understood.
func (k *Keys) Rotated() (*Keys, error) {
	pseudonyms, hashes, err := k.stored.handles()
	if err != nil {
		return nil, err
	}
	if pseudonyms.Len() >= maxKeyset {
		return nil, fmt.Errorf("privacy: %d keys, and no more may be", pseudonyms.Len())
	}
	p, h := keyset.NewManagerFromHandle(pseudonyms), keyset.NewManagerFromHandle(hashes)
	for _, m := range []*keyset.Manager{p, h} {
		template := daead.AESSIVKeyTemplate()
		if m == h {
			template = prf.HMACSHA256PRFKeyTemplate()
		}
		id, err := m.Add(template)
		if err == nil {
			err = m.SetPrimary(id)
		}
		if err != nil {
			return nil, err
		}
	}
	if pseudonyms, err = p.Handle(); err != nil {
		return nil, err
	}
	if hashes, err = h.Handle(); err != nil {
		return nil, err
	}
	return newKeys(pseudonyms, hashes)
}

// Len is how many keys there are, of which the newest is in use.
func (k *Keys) Len() int { return len(k.each) }

// Encode is the stored form.
func (k *Keys) Encode() ([]byte, error) { return json.Marshal(&k.stored) }

// DecodeKeys reads the stored form. No error shows any of it.
func DecodeKeys(b []byte) (*Keys, error) {
	var s storedKeys
	if json.Unmarshal(b, &s) != nil || s.Version != keysVersion {
		return nil, errors.New("privacy: keys: not what this version writes")
	}
	pseudonyms, hashes, err := s.handles()
	if err != nil {
		return nil, err
	}
	return newKeys(pseudonyms, hashes)
}

func (s *storedKeys) handles() (pseudonyms, hashes *keyset.Handle, err error) {
	read := func(b []byte) *keyset.Handle {
		h, e := insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(b)))
		if e != nil || h.Len() == 0 || h.Len() > maxKeyset {
			err = errors.New("privacy: keys: not keysets of Tink's")
		}
		return h
	}
	pseudonyms, hashes = read(s.Pseudonyms), read(s.Hashes)
	return pseudonyms, hashes, err
}

func newKeys(pseudonyms, hashes *keyset.Handle) (*Keys, error) {
	k := &Keys{stored: storedKeys{Version: keysVersion}}
	for _, x := range []struct {
		h  *keyset.Handle
		to *[]byte
	}{{pseudonyms, &k.stored.Pseudonyms}, {hashes, &k.stored.Hashes}} {
		var b bytes.Buffer
		if err := insecurecleartextkeyset.Write(x.h, keyset.NewBinaryWriter(&b)); err != nil {
			return nil, fmt.Errorf("privacy: keys: %w", err)
		}
		*x.to = b.Bytes()
	}
	var err error
	if k.pseudonyms, err = daead.New(pseudonyms); err != nil {
		return nil, fmt.Errorf("privacy: keys: %w", err)
	}
	for i := pseudonyms.Len() - 1; i >= 0; i-- {
		one, err := withPrimary(pseudonyms, i)
		if err != nil {
			return nil, fmt.Errorf("privacy: keys: %w", err)
		}
		k.each = append(k.each, one)
	}
	set, err := prf.NewPRFSet(hashes)
	if err != nil {
		return nil, fmt.Errorf("privacy: keys: %w", err)
	}
	for i := hashes.Len() - 1; i >= 0; i-- {
		e, err := hashes.Entry(i)
		if err != nil || set.PRFs[e.KeyID()] == nil {
			return nil, errors.New("privacy: keys: a key that is not in use")
		}
		k.hashes = append(k.hashes, set.PRFs[e.KeyID()])
	}
	return k, nil
}

// withPrimary makes pseudonyms with the i-th key.
func withPrimary(h *keyset.Handle, i int) (tink.DeterministicAEAD, error) {
	e, err := h.Entry(i)
	if err != nil {
		return nil, err
	}
	m := keyset.NewManagerFromHandle(h)
	if err := m.SetPrimary(e.KeyID()); err != nil {
		return nil, err
	}
	if h, err = m.Handle(); err != nil {
		return nil, err
	}
	return daead.New(h)
}

// place is what a pseudonym or hash is bound to.
func place(use, scope, field string) []byte {
	b := make([]byte, 0, len(use)+len(scope)+len(field)+2)
	b = append(append(b, use...), 0)
	b = append(append(b, scope...), 0)
	return append(b, field...)
}

// appendValue is a scalar in bytes that are the same for values that are equal.
func appendValue(b []byte, v filter.Value) []byte {
	switch v.Kind() {
	case filter.KindBool:
		if v.AsBool() {
			return append(b, 'b', 1)
		}
		return append(b, 'b', 0)
	case filter.KindInt:
		return binary.BigEndian.AppendUint64(append(b, 'i'), uint64(v.AsInt()))
	case filter.KindFloat:
		f := v.AsFloat()
		if i := int64(f); f == math.Trunc(f) && math.Abs(f) < 1<<62 && float64(i) == f {
			return appendValue(b, filter.Int(i))
		}
		return binary.BigEndian.AppendUint64(append(b, 'f'), math.Float64bits(f))
	}
	return append(append(b, 's'), v.AsString()...)
}

func readValue(b []byte) (filter.Value, bool) {
	if len(b) == 0 {
		return filter.Value{}, false
	}
	kind, b := b[0], b[1:]
	switch {
	case kind == 's':
		return filter.String(string(b)), true
	case kind == 'b' && len(b) == 1:
		return filter.Bool(b[0] == 1), true
	case kind == 'i' && len(b) == 8:
		return filter.Int(int64(binary.BigEndian.Uint64(b))), true
	case kind == 'f' && len(b) == 8:
		return filter.Float(math.Float64frombits(binary.BigEndian.Uint64(b))), true
	}
	return filter.Value{}, false
}

const (
	usePseudonym = "chromad pseudonym v1"
	useHash      = "chromad hash v1"
	useCheck     = "chromad hash check v1"
)

// pseudonym is that of a scalar.
func (k *Keys) pseudonym(scope, field string, v filter.Value) (string, error) {
	return seal(k.pseudonyms, scope, field, v)
}

func seal(with tink.DeterministicAEAD, scope, field string, v filter.Value) (string, error) {
	b, err := with.EncryptDeterministically(pad(appendValue(nil, v)), place(usePseudonym, scope, field))
	if err != nil {
		return "", fmt.Errorf("privacy: pseudonym: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

// reveal turns a pseudonym back; ok: it is one of this field.
func (k *Keys) reveal(scope, field, pseudonym string) (v filter.Value, ok bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(pseudonym)
	if err != nil {
		return v, false
	}
	if b, err = k.pseudonyms.DecryptDeterministically(b, place(usePseudonym, scope, field)); err != nil {
		return v, false
	}
	return readValue(unpad(b))
}

const padding = 16

// pad makes b a multiple of 16 bytes, so that a pseudonym tells less of the
// length of its value, and of short ones nothing, nor which type they have.
func pad(b []byte) []byte {
	b = append(b, 0x80)
	for len(b)%padding != 0 {
		b = append(b, 0)
	}
	return b
}

// unpad takes away what pad has put there; nil: it has not.
func unpad(b []byte) []byte {
	b = bytes.TrimRight(b, "\x00")
	if len(b) == 0 || b[len(b)-1] != 0x80 {
		return nil
	}
	return b[:len(b)-1]
}

// hash is that of a scalar under the newest key.
func (k *Keys) hash(scope, field string, v filter.Value) (string, error) {
	return digest(k.hashes[0], scope, field, v)
}

func digest(with prf.PRF, scope, field string, v filter.Value) (string, error) {
	sum, err := with.ComputePRF(appendValue(append(place(useHash, scope, field), 0), v), digestBytes)
	if err != nil {
		return "", fmt.Errorf("privacy: hash: %w", err)
	}
	check, err := with.ComputePRF(append(append(place(useCheck, scope, field), 0), sum...), checkBytes)
	if err != nil {
		return "", fmt.Errorf("privacy: hash: %w", err)
	}
	return hex.EncodeToString(append(sum, check...)), nil
}

// hashed reports whether a text is a hash of this field.
func (k *Keys) hashed(scope, field, text string) bool {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != digestBytes+checkBytes {
		return false
	}
	for _, h := range k.hashes {
		check, err := h.ComputePRF(append(append(place(useCheck, scope, field), 0), b[:digestBytes]...), checkBytes)
		if err == nil && bytes.Equal(check, b[digestBytes:]) {
			return true
		}
	}
	return false
}

// every is what a value may look like in the store under a treatment, whichever
// key was in use: the newest first.
func (k *Keys) every(t Treatment, scope, field string, v filter.Value) (out []string, err error) {
	if t == Hash {
		for _, with := range k.hashes {
			text, err := digest(with, scope, field, v)
			if err != nil {
				return nil, err
			}
			out = append(out, text)
		}
		return out, nil
	}
	for _, with := range k.each {
		text, err := seal(with, scope, field, v)
		if err != nil {
			return nil, err
		}
		out = append(out, text)
	}
	return out, nil
}

// scalars are the elements of a list, or the scalar itself.
func scalars(v filter.Value) (out []filter.Value) {
	for _, x := range v.AsBools() {
		out = append(out, filter.Bool(x))
	}
	for _, x := range v.AsInts() {
		out = append(out, filter.Int(x))
	}
	for _, x := range v.AsFloats() {
		out = append(out, filter.Float(x))
	}
	for _, x := range v.AsStrings() {
		out = append(out, filter.String(x))
	}
	if !v.Kind().IsArray() {
		out = append(out, v)
	}
	return out
}

// replace is v, a list element by element, hashed or as a pseudonym. What is
// the store's own hash or pseudonym of this field already stays as it is when
// again is set.
func (k *Keys) replace(t Treatment, scope, field string, v filter.Value, again bool) (filter.Value, error) {
	texts := make([]string, 0, max(1, v.Len())) // as long as the value that is there
	for _, x := range scalars(v) {
		var text string
		var err error
		switch {
		case again && x.Kind() == filter.KindString && k.own(t, scope, field, x.AsString()):
			text = x.AsString()
		case t == Hash:
			text, err = k.hash(scope, field, x)
		default:
			text, err = k.pseudonym(scope, field, x)
		}
		if err != nil {
			return filter.Value{}, err
		}
		texts = append(texts, text)
	}
	if v.Kind().IsArray() {
		return filter.Strings(texts...), nil
	}
	return filter.String(texts[0]), nil
}

// own reports whether a text is what the treatment has made of something.
func (k *Keys) own(t Treatment, scope, field, text string) bool {
	if t == Hash {
		return k.hashed(scope, field, text)
	}
	_, ok := k.reveal(scope, field, text)
	return ok
}
