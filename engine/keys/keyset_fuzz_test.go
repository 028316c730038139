package keys

import (
	"strings"
	"testing"
)

// FuzzKeyset holds that any text is a usable keyset or an error that does not
// quote it.
func FuzzKeyset(f *testing.F) {
	good, err := Generate()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte(`{"primaryKeyId":1,"key":[{"keyData":null}]}`))
	f.Add([]byte(`{"encryptedKeyset":"AAAA"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		kept := string(text)
		op, err := newLocal("file:///k", "check", "make", text)
		if err != nil {
			for n := 0; n+16 <= len(kept); n++ {
				if part := kept[n : n+16]; strings.Contains(err.Error(), part) && strings.ContainsAny(part, "0123456789") {
					t.Fatalf("the error quotes %q: %v", part, err)
				}
			}
			return
		}
		sealed, err := op.EncryptWithContext(t.Context(), []byte("text"), []byte("place"))
		if err != nil {
			t.Fatal(err)
		}
		opened, err := op.DecryptWithContext(t.Context(), sealed, []byte("place"))
		if err != nil || string(opened) != "text" {
			t.Fatalf("decrypted %q, %v", opened, err)
		}
	})
}
