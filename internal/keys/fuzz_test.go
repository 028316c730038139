package keys

import (
	"bytes"
	"errors"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
)

// FuzzKeysetBody: what is accepted is written back byte for byte, so that
// nothing in a keyset's file goes unread, and what is not is damage or of a
// later version.
func FuzzKeysetBody(f *testing.F) {
	s := sealedKeyset{flags: flagConverting, uri: "test://a", sealed: []byte("sealed")}
	f.Add(s.appendBody(nil))
	f.Add(s.appendBody(nil)[:9])
	f.Add([]byte{2, 0, 0, 0, 1, 'u', 0})
	f.Add([]byte{0, 0, 0, 0, 0x80, 0, 0})
	f.Add([]byte{0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		var s sealedKeyset
		err := s.decodeBody(b)
		if err != nil {
			if !errors.Is(err, disk.ErrCorrupt) && !errors.Is(err, disk.ErrFormat) {
				t.Errorf("%v", err)
			}
			return
		}
		if again := s.appendBody(nil); !bytes.Equal(again, b) {
			t.Errorf("%x became %x", b, again)
		}
		if len(s.uri) == 0 || len(s.uri) > maxURI {
			t.Errorf("a URI of %d bytes", len(s.uri))
		}
	})
}

// FuzzSecrets: what comes out of the operator's key is decoded without a
// panic, and what is accepted can wrap a key, and be sealed and opened again.
func FuzzSecrets(f *testing.F) {
	ks, err := newKeyset()
	if err != nil {
		f.Fatal(err)
	}
	plain, err := ks.appendSecrets()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Add(plain[:len(plain)/2])
	f.Add([]byte{0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := decodeSecrets(b)
		if err != nil {
			return
		}
		again, err := o.appendSecrets()
		if err != nil {
			t.Fatal(err)
		}
		p, err := decodeSecrets(again)
		if err != nil || p.primary != o.primary || len(p.ids) != len(o.ids) {
			t.Fatalf("keys %d became %v, %v", o.ids, p, err)
		}
		k, err := newDataKey(o, docs, 1)
		if err != nil {
			t.Fatal(err)
		}
		secret := *k.secret
		k.secret = nil
		if err := k.open(nil, p); err != nil || *k.secret != secret {
			t.Errorf("a key that was wrapped does not open: %v", err)
		}
	})
}

// FuzzKeyName: a name is ours in one spelling only.
func FuzzKeyName(f *testing.F) {
	for _, s := range []string{ownKey, docsKey, "c0c1c2c3c4c5c6c7c8c9cacbcccdcecf-00000000.key", "C0" + docsKey[2:], docsKey[:40] + "+.key", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, base string) {
		id, generation, ours := parseKeyName(base)
		if ours && (keyName(id, generation) != Dir+"/"+base || generation == 0) {
			t.Errorf("%q is %q", base, keyName(id, generation))
		}
		if !ours && base == docsKey {
			t.Errorf("%q is not ours", base)
		}
	})
}

// TestKeyNames: what is ours, and what is not.
func TestKeyNames(t *testing.T) {
	if id, g, ours := parseKeyName(docsKey2); id != docs || g != 2 || !ours {
		t.Errorf("%v %d %v", id, g, ours)
	}
	if keyName(seal.ID{}, 1<<32-1) != "keys/00000000000000000000000000000000-ffffffff.key" {
		t.Error(keyName(seal.ID{}, 1<<32-1))
	}
	for _, base := range []string{"", ".key", "C" + docsKey[1:], docsKey + "x", docsKey[1:], docsKey[:33] + "00000000.key",
		docsKey[:32] + "_00000001.key", "x" + docsKey[1:], docsKey[:33] + "+0000001.key", docsKey[:33] + "0x000001.key"} {
		if _, _, ours := parseKeyName(base); ours {
			t.Errorf("%q is ours", base)
		}
	}
}
