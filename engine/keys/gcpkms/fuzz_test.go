package gcpkms

import (
	"net/http"
	"testing"

	"github.com/chromad/chromad/engine/keys/internal/kmstest"
)

// FuzzAnswers answers every call with the same bytes. The key says what is
// wrong in one of its ways and quotes no secret; of an answer that is taken
// nothing is made that it did not hold.
func FuzzAnswers(f *testing.F) {
	var said kmstest.Answer
	s := &service{fail: func(_ int, _ string, _ []byte, w http.ResponseWriter) bool {
		status, text := said.Said()
		w.WriteHeader(status)
		_, _ = w.Write(text) // the client may have left
		return true
	}}
	server := start(f, s)
	for _, s := range []string{
		`{"name":"` + nameOne + `","ciphertext":"AAAA","ciphertextCrc32c":"1","verifiedPlaintextCrc32c":true,"plaintext":"AAAA","plaintextCrc32c":"1"}`,
		`{"error":{"code":400,"message":"Decryption failed","status":"INVALID_ARGUMENT"}}`, `{"error":[]}`, `<html>`, ``, `{"plaintext":"!"}`,
	} {
		f.Add(uint16(200), []byte(s))
		f.Add(uint16(400), []byte(s))
	}
	f.Fuzz(func(t *testing.T, code uint16, answer []byte) {
		said.Say(code, answer)
		op, err := open(t.Context(), Scheme+nameOne, server.URL, server.Client().Transport, nil, kmstest.Once())
		if err != nil {
			t.Fatal(err)
		}
		if err := said.Judge(t.Context(), op, access); err != nil {
			t.Error(err)
		}
	})
}
