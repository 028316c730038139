package vault

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromad/chromad/engine/keys"
	"github.com/chromad/chromad/engine/keys/internal/remote"
)

const token = "hvs.CAESIJ5ecretTokenOfTheTest"

type reply struct {
	status int
	text   []byte
}

// FuzzAnswers answers every call with the same bytes. The key says what is
// wrong in one of its ways and quotes no secret; of an answer that is taken
// nothing is made that it did not hold.
func FuzzAnswers(f *testing.F) {
	var said atomic.Pointer[reply]
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(said.Load().status)
		_, _ = w.Write(said.Load().text) // the client may have left
	}))
	f.Cleanup(s.Close)
	environment(f, "VAULT_ADDR", s.URL, "VAULT_TOKEN", token)
	once := remote.Policy{Attempts: 1, Each: time.Second, Total: time.Second}
	for _, s := range []string{
		`{"data":{"ciphertext":"vault:v1:AAAA","plaintext":"NWVjcmV0UGxhaW50ZXh0LW9mLXRoZS10ZXN0"}}`, `{"data":{"ciphertext":5,"plaintext":[]}}`,
		`{"errors":["cipher: message authentication failed"]}`, `{"errors":["encryption key not found"]}`, `<html>`, ``, `{"data":{"plaintext":"!"}}`,
	} {
		f.Add(uint16(200), []byte(s))
		f.Add(uint16(400), []byte(s))
	}
	f.Fuzz(func(t *testing.T, code uint16, answer []byte) {
		said.Store(&reply{200 + int(code)%400, answer})
		op, err := open(t.Context(), Scheme+"/transit/keys/one", once)
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := op.EncryptWithContext(t.Context(), []byte(secretText), []byte("place"))
		judge(t, answer, sealed, err)
		plain, err := op.DecryptWithContext(t.Context(), []byte("vault:v1:AAAA"), []byte("place"))
		judge(t, answer, plain, err)
	})
}

func judge(t *testing.T, answer, got []byte, err error) {
	t.Helper()
	if err == nil {
		if len(got) > len(answer) {
			t.Errorf("%q became %q", answer, got)
		}
		return
	}
	kinds := []error{keys.ErrConfig, keys.ErrDenied, keys.ErrNotFound, keys.ErrUnavailable, keys.ErrWrongKey}
	if !slices.ContainsFunc(kinds, func(kind error) bool { return errors.Is(err, kind) }) {
		t.Errorf("an error of no kind: %v", err)
	}
	for _, s := range []string{secretText, "NWVjcmV0UGxhaW50ZXh0", token} {
		if strings.Contains(fmt.Sprintf("%v %+v", err, err), s) && !strings.Contains(string(answer), s) {
			t.Errorf("the error holds a secret: %v", err)
		}
	}
}
