package vault

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/chromad/chromad/engine/keys/internal/kmstest"
)

const token = "hvs.CAESIJ5ecretTokenOfTheTest"

// FuzzAnswers answers every call with the same bytes. The key says what is
// wrong in one of its ways and quotes no secret; of an answer that is taken
// nothing is made that it did not hold.
func FuzzAnswers(f *testing.F) {
	var said kmstest.Answer
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		status, text := said.Said()
		w.WriteHeader(status)
		_, _ = w.Write(text) // the client may have left
	}))
	f.Cleanup(s.Close)
	environment(f, "VAULT_ADDR", s.URL, "VAULT_TOKEN", token)
	for _, s := range []string{
		`{"data":{"ciphertext":"vault:v1:AAAA","plaintext":"NWVjcmV0UGxhaW50ZXh0LW9mLXRoZS10ZXN0"}}`, `{"data":{"ciphertext":5,"plaintext":[]}}`,
		`{"errors":["cipher: message authentication failed"]}`, `{"errors":["encryption key not found"]}`, `<html>`, ``, `{"data":{"plaintext":"!"}}`,
	} {
		f.Add(uint16(200), []byte(s))
		f.Add(uint16(400), []byte(s))
	}
	f.Fuzz(func(t *testing.T, code uint16, answer []byte) {
		said.Say(code, answer)
		op, err := open(t.Context(), Scheme+"/transit/keys/one", kmstest.Once())
		if err != nil {
			t.Fatal(err)
		}
		if err := said.Judge(t.Context(), op, token); err != nil {
			t.Error(err)
		}
	})
}
