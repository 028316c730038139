package keys

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/cryptotest"

	"github.com/chromad/chromad/internal/keys/keytest"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// TestRedacted: nothing that reaches a key prints one, however it is printed.
func TestRedacted(t *testing.T) {
	r := mustCreate(t, faultfs.New(1), "a", docs)
	s, err := r.Writer(addressIn(docs, 1))
	if err != nil {
		t.Fatal(err)
	}
	secrets := secretsOf(t, r)
	if len(secrets) != 4 { // wrapping, signing, two data keys
		t.Fatalf("%d keys in memory", len(secrets))
	}
	data, err := fileKey(r.data[docs][0].secret[:], addressIn(docs, 1))
	if err != nil {
		t.Fatal(err)
	}
	secrets = append(secrets, data)
	for name, v := range map[string]any{
		"ring": r, "sealer": s, "in a struct": struct{ Keys any }{r}, "in an interface": []seal.Keys{r},
		"keyset": r.keyset.Load(), "data key": r.data[docs][0], "data keys": r.data,
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
			text := fmt.Sprintf(verb, v)
			if !strings.Contains(text, redaction) {
				t.Errorf("%s as %s: %q", name, verb, text)
			}
			noSecrets(t, text, secrets)
		}
		if name == "data keys" {
			continue // a map with such ids is no JSON
		}
		b, err := json.Marshal(v)
		if err != nil || !strings.Contains(string(b), redaction) {
			t.Errorf("%s as JSON: %s, %v", name, b, err)
		}
		noSecrets(t, string(b), secrets)
	}
	if text := fmt.Sprint(fmt.Errorf("wrapped: %v", r), r.String(), r.GoString()); strings.Count(text, redaction) != 3 {
		t.Errorf("%q", text)
	}
	// What may be printed says what it is, and holds no key either.
	left, err := r.Rotation()
	if err != nil {
		t.Fatal(err)
	}
	noSecrets(t, fmt.Sprintf("%+v %+v", r.Keyset(), left), secrets)
}

// TestNothingInTheClear: no key reaches the disk as it is.
func TestNothingInTheClear(t *testing.T) {
	ctx := context.Background()
	fsys := faultfs.New(1)
	var all strings.Builder
	fsys.Written(func(_ string, p []byte) { all.Write(p) })
	r := mustCreate(t, fsys, "a", docs)
	secrets := secretsOf(t, r)
	if err := r.AddPrimary(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Renew(docs); err != nil {
		t.Fatal(err)
	}
	if err := r.Rewrap(ctx, keytest.New("b")); err != nil {
		t.Fatal(err)
	}
	noSecrets(t, all.String(), append(secrets, secretsOf(t, r)...))
}

// TestWiped: keys that are destroyed or dropped are gone from memory, and so
// are the sealers that were made of them.
func TestWiped(t *testing.T) {
	ctx := context.Background()
	r := mustCreate(t, faultfs.New(1), "a", docs, notes)
	for _, id := range []seal.ID{docs, notes} {
		mustWrite(t, r, addressIn(id, 1))
		mustWrite(t, r, addressIn(id, 2))
	}
	if err := r.AddPrimary(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Renew(notes); err != nil {
		t.Fatal(err)
	}
	kept := mustWrite(t, r, addressIn(notes, 1))
	destroyed, dropped := r.data[docs][0].secret, r.data[notes][0].secret
	if _, err := r.Destroy(docs); err != nil {
		t.Fatal(err)
	}
	if err := r.Drop(notes, 1); err != nil {
		t.Fatal(err)
	}
	if *destroyed != [keySize]byte{} || *dropped != [keySize]byte{} {
		t.Error("a key is still in memory")
	}
	if len(r.cache.at) != 1 || len(r.cache.slots) != 1 {
		t.Errorf("%d sealers are kept", len(r.cache.at))
	}
	mustRead(t, r, kept)
}

// TestWiper: the buffer in which Tink hands out a keyset is wiped.
func TestWiper(t *testing.T) {
	var w wiper
	b := []byte("secret")
	if n, err := io.Writer(&w).Write(b); n != 6 || err != nil || string(w.b) != "secret" || string(b) == "secret" {
		t.Errorf("%q, %q", w.b, b)
	}
}

// TestDeterministic: with the same chance the same bytes, Tink's included, so
// that examples of the format can be shown.
func TestDeterministic(t *testing.T) {
	content := func(seed uint64) (all string) {
		cryptotest.SetGlobalRandom(t, seed)
		fsys := faultfs.New(1)
		mustCreate(t, fsys, "a", docs)
		for _, name := range fsys.Files() {
			b, err := fsys.Content(name)
			if err != nil {
				t.Fatal(err)
			}
			all += name + string(b)
		}
		return all
	}
	first := content(1)
	if content(1) != first {
		t.Error("the same chance, other bytes")
	}
	if content(2) == first {
		t.Error("chance has no part in it")
	}
}
