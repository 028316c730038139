package keys

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/signature"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/keys/keytest"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

const (
	keysetOne = "keys/0000000000000001.keyset"
	keysetTwo = "keys/0000000000000002.keyset"
)

// secretsOf is every key that a ring has in memory.
func secretsOf(t *testing.T, r *Ring) (secrets [][]byte) {
	t.Helper()
	ks := r.keyset.Load()
	for _, h := range []*keyset.Handle{ks.wrapping, ks.signing} {
		for _, k := range insecurecleartextkeyset.KeysetMaterial(h).GetKey() {
			value := k.GetKeyData().GetValue()
			secrets = append(secrets, value[len(value)-keySize:]) // the last field of both kinds of key
		}
	}
	for _, all := range r.data {
		for _, k := range all {
			if k.secret != nil {
				secrets = append(secrets, k.secret[:])
			}
		}
	}
	return secrets
}

// noSecrets looks for keys in a text, in the forms in which a program prints
// bytes.
func noSecrets(t *testing.T, text string, secrets [][]byte) {
	t.Helper()
	for _, s := range secrets {
		for _, form := range []string{
			string(s[:8]), hex.EncodeToString(s[:8]), strings.ToUpper(hex.EncodeToString(s[:8])),
			base64.StdEncoding.EncodeToString(s[:6]), strings.Trim(fmt.Sprint(s[:8]), "[]"),
			strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", s[:8]), "[]byte{"), "}"),
		} {
			if strings.Contains(text, form) {
				t.Errorf("%q has key bytes in it", text)
			}
		}
	}
}

// wrong checks an error: of the right kind, nothing written, no key in it, and
// what it must say is there.
func wrong(t *testing.T, what string, fsys *faultfs.FS, ops int, secrets [][]byte, err error, says ...string) {
	t.Helper()
	if !refused(err) {
		t.Errorf("%s: %v", what, err)
		return
	}
	if fsys.Ops() != ops || fsys.Handles() != 0 {
		t.Errorf("%s: %d changes of the disk, %d handles", what, fsys.Ops()-ops, fsys.Handles())
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%s: %q does not say %s", what, err, s)
		}
	}
	noSecrets(t, err.Error(), secrets)
}

// TestWrongKeys: whatever is not the store's is refused when it is first
// needed.
func TestWrongKeys(t *testing.T) {
	ctx := context.Background()
	base := faultfs.New(1)
	r := mustCreate(t, base, "a", docs, notes)
	secrets := secretsOf(t, r)
	id := fmt.Sprint(r.Keyset().Primary)
	other := faultfs.New(2)
	otherRing, err := Create(ctx, other, testID(1), keytest.New("a"), false)
	if err != nil || otherRing.NewCollection(docs) != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		damage   func(fsys *faultfs.FS) error
		operator string
		store    seal.ID
		atOpen   bool
		says     []string
	}{
		{"another operator's key", nil, "b", testStore, true, []string{"test://a", "test://b", keysetOne}},
		{"no operator's key", nil, "", testStore, true, []string{"test://a", keysetOne}},
		{"another store", nil, "a", testID(1), true, []string{"test://a", keysetOne, testID(1).String()}},
		{"no keyset", func(fsys *faultfs.FS) error { return fsys.Remove(keysetOne) }, "a", testStore, true, []string{"keyset", "3 collections"}},
		{"no key of the store", func(fsys *faultfs.FS) error { return fsys.Remove("keys/" + ownKey) }, "a", testStore, true, []string{ownKey}},
		{"another store's keyset", func(fsys *faultfs.FS) error { return replaceFile(fsys, keysetOne, other, keysetOne) }, "a", testStore, true, []string{keysetOne, testID(1).String()}},
		{"another store's keyset, store unknown", func(fsys *faultfs.FS) error { return replaceFile(fsys, keysetOne, other, keysetOne) }, "a", seal.ID{}, true, []string{ownKey}},
		{"another store's key", func(fsys *faultfs.FS) error { return replaceFile(fsys, "keys/"+docsKey, other, "keys/"+docsKey) }, "a", testStore, false, []string{docsKey}},
		{"another store's key, forged", func(fsys *faultfs.FS) error {
			return forge(fsys, "keys/"+docsKey, other, "keys/"+docsKey, func(h *disk.Header) { h.Store = testStore })
		}, "a", testStore, false, []string{docsKey, "test://a", id, fmt.Sprint(otherRing.Keyset().Primary)}},
		{"another collection's key", func(fsys *faultfs.FS) error { return replaceFile(fsys, "keys/"+docsKey, base, "keys/"+notesKey) }, "a", testStore, false, []string{docsKey}},
		{"another collection's key, forged", func(fsys *faultfs.FS) error {
			return forge(fsys, "keys/"+docsKey, base, "keys/"+notesKey, func(h *disk.Header) { h.Collection = docs })
		}, "a", testStore, false, []string{docsKey, id}},
		{"a key under another number", func(fsys *faultfs.FS) error {
			return forge(fsys, "keys/"+docsKey2, base, "keys/"+docsKey, func(h *disk.Header) { h.Number = 2 })
		}, "a", testStore, false, []string{docsKey2, id}},
		{"a key with another file id", func(fsys *faultfs.FS) error {
			return forge(fsys, "keys/"+docsKey, base, "keys/"+docsKey, func(h *disk.Header) { h.File[0]++ })
		}, "a", testStore, false, []string{docsKey, id}},
		{"a keyset under another number", func(fsys *faultfs.FS) error {
			return forge(fsys, keysetTwo, base, keysetOne, func(h *disk.Header) { h.Number = 2 })
		}, "a", testStore, true, []string{"test://a", keysetTwo}},
		{"a keyset of the wrong kind", func(fsys *faultfs.FS) error {
			return forge(fsys, keysetTwo, base, keysetOne, func(h *disk.Header) { h.Kind, h.Number = seal.KindKey, 2 })
		}, "a", testStore, true, []string{keysetTwo, keysetOne}},
		{"a key that is a directory", func(fsys *faultfs.FS) error {
			return errors.Join(fsys.Remove("keys/"+docsKey), fsys.Mkdir("keys/"+docsKey))
		}, "a", testStore, false, []string{docsKey}},
	} {
		fsys := base.Clone()
		if c.damage != nil {
			if err := c.damage(fsys); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
		}
		var op Operator
		if c.operator != "" {
			op = keytest.New(c.operator)
		}
		ops := fsys.Ops()
		r, err := Open(ctx, fsys, c.store, op, false)
		if !c.atOpen && err == nil {
			ops = fsys.Ops()
			_, err = r.Writer(addressIn(docs, 1))
			if _, err := r.Writer(addressIn(notes, 1)); err != nil {
				t.Errorf("%s: the collection beside it: %v", c.name, err)
			}
		}
		wrong(t, c.name, fsys, ops, secrets, err, c.says...)
	}
}

// replaceFile puts another disk's file in the place of one.
func replaceFile(fsys *faultfs.FS, name string, from *faultfs.FS, source string) error {
	b, err := from.Content(source)
	if err != nil {
		return err
	}
	return fsys.Damage(name, func([]byte) []byte { return b })
}

// forge writes a file with all checksums right: the content of one under the
// header of another.
func forge(fsys *faultfs.FS, name string, from *faultfs.FS, source string, change func(h *disk.Header)) error {
	h, err := disk.ReadHeader(from, source)
	if err != nil {
		return err
	}
	body, err := readBody(from, source, h)
	if err != nil {
		return err
	}
	if change(&h); name == source {
		if err := fsys.Remove(name); err != nil {
			return err
		}
	} else if _, err := fsys.Stat(name); err == nil {
		if err := fsys.Remove(name); err != nil {
			return err
		}
	}
	return writeBody(fsys, name, h, body)
}

// TestEveryBit: each bit and each length of a keyset's and a key's file is
// watched over.
func TestEveryBit(t *testing.T) {
	base := faultfs.New(1)
	secrets := secretsOf(t, mustCreate(t, base, "a", docs))
	try := func(name, what string, damage func(b []byte) []byte) {
		fsys := base.Clone()
		if err := fsys.Damage(name, damage); err != nil {
			t.Fatal(err)
		}
		ops := fsys.Ops()
		r, err := Open(context.Background(), fsys, testStore, keytest.New("a"), false)
		if err == nil {
			ops = fsys.Ops()
			_, err = r.Writer(addressIn(docs, 1))
		}
		wrong(t, name+": "+what, fsys, ops, secrets, err, name)
	}
	for _, name := range []string{keysetOne, "keys/" + ownKey, "keys/" + docsKey} {
		whole, err := base.Content(name)
		if err != nil || len(whole) > 2000 {
			t.Fatalf("%s: %d bytes, %v", name, len(whole), err)
		}
		for bit := range len(whole) * 8 {
			try(name, fmt.Sprintf("bit %d", bit), func(b []byte) []byte { b[bit/8] ^= 1 << (bit % 8); return b })
		}
		for n := range whole {
			try(name, fmt.Sprintf("%d bytes", n), func(b []byte) []byte { return b[:n] })
		}
		try(name, "longer", func(b []byte) []byte { return append(b, 0) })
	}
}

// TestNoFallback: a newest keyset that is damaged is an error, whatever else is
// there, and it is not removed.
func TestNoFallback(t *testing.T) {
	fsys := faultfs.New(1)
	r := mustCreate(t, fsys, "a")
	older, err := fsys.Content(keysetOne)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.AddPrimary(context.Background()); err != nil {
		t.Fatal(err)
	}
	f, err := fsys.Create(keysetOne)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(older); err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	both := fsys.Clone()
	if err := fsys.Damage(keysetTwo, func(b []byte) []byte { return b[:200] }); err != nil {
		t.Fatal(err)
	}
	ops := fsys.Ops()
	_, err = Open(context.Background(), fsys, testStore, keytest.New("a"), false)
	wrong(t, "damaged", fsys, ops, nil, err, keysetOne, keysetTwo)
	if _, err := Inspect(fsys); !errors.Is(err, disk.ErrCorrupt) {
		t.Errorf("inspect: %v", err)
	}
	// Undamaged, the one that was replaced goes, unless nothing may be written.
	ops = both.Ops()
	if r, err := Open(context.Background(), both, testStore, keytest.New("a"), true); err != nil || r.Keyset().Number != 2 || both.Ops() != ops {
		t.Errorf("for reading only: %v, %d changes", err, both.Ops()-ops)
	}
	if mustOpen(t, both, "a").Keyset().Number != 2 {
		t.Error("not the newest")
	}
	wantNames(t, both, "0000000000000002.keyset", ownKey)
}

// sealSecrets writes a keyset whose secrets are given.
func sealSecrets(t *testing.T, fsys vfs.FS, number uint64, wrapping, signing *tinkpb.Keyset) {
	t.Helper()
	var w, s bytes.Buffer
	if err := errors.Join(keyset.NewBinaryWriter(&w).Write(wrapping), keyset.NewBinaryWriter(&s).Write(signing)); err != nil {
		t.Fatal(err)
	}
	sealPlain(t, fsys, number, appendBlob(appendBlob(nil, w.Bytes()), s.Bytes()))
}

func sealPlain(t *testing.T, fsys vfs.FS, number uint64, plain []byte) {
	t.Helper()
	op := keytest.New("a")
	k := sealedKeyset{store: testStore, number: number, uri: op.URI()}
	var err error
	if k.sealed, err = op.EncryptWithContext(context.Background(), plain, k.associated()); err != nil {
		t.Fatal(err)
	}
	if err := k.write(fsys); err != nil {
		t.Fatal(err)
	}
}

// TestUnusableKeysets: a keyset that opens and is not what it should be.
func TestUnusableKeysets(t *testing.T) {
	base := faultfs.New(1)
	r := mustCreate(t, base, "a")
	secrets := secretsOf(t, r)
	primary := fmt.Sprint(r.Keyset().Primary)
	material := func() (wrapping, signing *tinkpb.Keyset) {
		ks := r.keyset.Load()
		return insecurecleartextkeyset.KeysetMaterial(ks.wrapping), insecurecleartextkeyset.KeysetMaterial(ks.signing)
	}
	fresh := func(template *tinkpb.KeyTemplate) *tinkpb.Keyset {
		h, err := keyset.NewHandle(template)
		if err != nil {
			t.Fatal(err)
		}
		return insecurecleartextkeyset.KeysetMaterial(h)
	}
	raw := aead.AES256GCMNoPrefixKeyTemplate()
	for name, c := range map[string]struct {
		change func(w, s *tinkpb.Keyset) (*tinkpb.Keyset, *tinkpb.Keyset)
		says   []string
	}{
		"primary disabled": {func(w, s *tinkpb.Keyset) (*tinkpb.Keyset, *tinkpb.Keyset) {
			w.Key[0].Status = tinkpb.KeyStatusType_DISABLED
			return w, s
		}, []string{primary}},
		"no primary":       {func(w, s *tinkpb.Keyset) (*tinkpb.Keyset, *tinkpb.Keyset) { w.PrimaryKeyId++; return w, s }, []string{primary}},
		"no keys":          {func(w, s *tinkpb.Keyset) (*tinkpb.Keyset, *tinkpb.Keyset) { return &tinkpb.Keyset{}, s }, nil},
		"no signing keys":  {func(w, s *tinkpb.Keyset) (*tinkpb.Keyset, *tinkpb.Keyset) { return w, &tinkpb.Keyset{} }, []string{"signing"}},
		"the wrong way":    {func(w, s *tinkpb.Keyset) (*tinkpb.Keyset, *tinkpb.Keyset) { return s, w }, nil},
		"without a prefix": {func(_, s *tinkpb.Keyset) (*tinkpb.Keyset, *tinkpb.Keyset) { return fresh(raw), s }, []string{"AES256-GCM"}},
		"too short a key": {func(_, s *tinkpb.Keyset) (*tinkpb.Keyset, *tinkpb.Keyset) {
			return fresh(aead.AES128GCMKeyTemplate()), s
		}, []string{"AES256-GCM"}},
		"another signature": {func(w, _ *tinkpb.Keyset) (*tinkpb.Keyset, *tinkpb.Keyset) {
			return w, fresh(signature.ECDSAP256KeyTemplate())
		}, []string{"Ed25519"}},
		"another wrapping": {func(_, s *tinkpb.Keyset) (*tinkpb.Keyset, *tinkpb.Keyset) {
			return fresh(aead.AES256GCMKeyTemplate()), s
		}, []string{primary}},
		"the key cut in two": {func(w, s *tinkpb.Keyset) (*tinkpb.Keyset, *tinkpb.Keyset) {
			v := w.Key[0].KeyData
			v.Value = v.Value[:20]
			return w, s
		}, nil},
	} {
		fsys := base.Clone()
		w, s := material()
		w, s = c.change(w, s)
		sealSecrets(t, fsys, 2, w, s)
		ops := fsys.Ops()
		_, err := Open(context.Background(), fsys, testStore, keytest.New("a"), false)
		if name == "another wrapping" { // found at the store's own key
			wrong(t, name, fsys, ops, secrets, err, append(c.says, "test://a", ownKey)...)
			continue
		}
		wrong(t, name, fsys, ops, secrets, err, append(c.says, "test://a", keysetTwo)...)
		if !errors.Is(err, seal.ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	fsys := base.Clone()
	sealPlain(t, fsys, 2, []byte("this is not a keyset"))
	ops := fsys.Ops()
	_, err := Open(context.Background(), fsys, testStore, keytest.New("a"), false)
	wrong(t, "text", fsys, ops, secrets, err, "test://a", keysetTwo)
	if strings.Contains(err.Error(), "this is") {
		t.Errorf("%v shows what was decrypted", err)
	}
}

// TestFlagIsBound: who can write to the directory cannot make a store accept
// files that are not encrypted, nor name another key.
func TestFlagIsBound(t *testing.T) {
	base := faultfs.New(1)
	mustCreate(t, base, "a")
	for name, change := range map[string]func(s *sealedKeyset){
		"flag": func(s *sealedKeyset) { s.flags ^= flagConverting },
		"URI":  func(s *sealedKeyset) { s.uri = "test://c" },
	} {
		fsys := base.Clone()
		s, err := readKeyset(fsys, 1)
		if err != nil || fsys.Remove(keysetOne) != nil {
			t.Fatal(err)
		}
		if change(&s); s.write(fsys) != nil {
			t.Fatal("not written")
		}
		ops := fsys.Ops()
		_, err = Open(context.Background(), fsys, testStore, keytest.New("a"), false)
		wrong(t, name, fsys, ops, nil, err, keysetOne)
	}
	fsys := base.Clone()
	s, err := readKeyset(fsys, 1)
	if s.flags = 2; err != nil || fsys.Remove(keysetOne) != nil || s.write(fsys) != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(fsys); !errors.Is(err, disk.ErrFormat) {
		t.Errorf("a flag of a later version: %v", err)
	}
}

// halfKey is an operator's key that may not decrypt, or decrypts wrong.
type halfKey struct {
	*keytest.Operator
	lies bool
}

var errForbidden = errors.New("decrypt: not allowed")

func (h *halfKey) DecryptWithContext(ctx context.Context, c, ad []byte) ([]byte, error) {
	if !h.lies {
		return nil, errForbidden
	}
	p, err := h.Operator.DecryptWithContext(ctx, c, ad)
	if err == nil {
		p[len(p)-1]++
	}
	return p, err
}

// unavailable is the error of an operator's key that tells why it failed.
type unavailable struct{ error }

func (e unavailable) Unwrap() error  { return e.error }
func (e unavailable) WrongKey() bool { return false }

// TestOperatorTroubles: a key that seals and does not open is found before
// anything depends on it, and one that is away is no wrong key for ever.
func TestOperatorTroubles(t *testing.T) {
	ctx := context.Background()
	fsys := faultfs.New(1)
	op := keytest.New("a")
	r, err := Create(ctx, fsys, testStore, op, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, lies := range []bool{false, true} {
		ops := fsys.Ops()
		err := r.Rewrap(ctx, &halfKey{keytest.New("b"), lies})
		if errors.Is(err, seal.ErrKey) != lies || errors.Is(err, errForbidden) == lies || !strings.Contains(err.Error(), "test://b") || fsys.Ops() != ops {
			t.Errorf("rewrapped: %v", err)
		}
	}
	away := errors.New("connection refused")
	op.Fail(away)
	if err := r.AddPrimary(ctx); !errors.Is(err, away) || r.Keyset().Number != 1 {
		t.Errorf("a new primary: %v", err)
	}
	if _, err := Open(ctx, fsys, testStore, op, false); !errors.Is(err, away) || !errors.Is(err, seal.ErrKey) {
		t.Errorf("opens: %v", err)
	}
	op.Fail(unavailable{away})
	if _, err := Open(ctx, fsys, testStore, op, false); !errors.Is(err, away) || errors.Is(err, seal.ErrKey) {
		t.Errorf("opens with a key that says it is away: %v", err)
	}
	op.Fail(nil)
	if err := r.AddPrimary(ctx); err != nil || r.Keyset().Number != 2 {
		t.Errorf("once it is back: %v", err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := Open(gone, fsys, testStore, op, false); !errors.Is(err, context.Canceled) || errors.Is(err, seal.ErrKey) {
		t.Errorf("given up: %v", err)
	}
	if _, err := Open(ctx, fsys, testStore, op.Alias("other://name"), false); err != nil {
		t.Errorf("the same key under another name: %v", err)
	}
	if _, err := Open(ctx, fsys, testStore, op.Alias(strings.Repeat("u", maxURI+1)), false); err == nil {
		t.Error("a URI without end")
	}
	before := op.Calls()
	mustOpen(t, fsys, "a")
	if _, err := Open(ctx, fsys, testStore, op, false); err != nil || op.Calls() != before+1 {
		t.Errorf("opening asks the operator's key %d times", op.Calls()-before)
	}
}
