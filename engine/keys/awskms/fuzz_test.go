package awskms

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromad/chromad/engine/keys"
	"github.com/chromad/chromad/engine/keys/internal/remote"
)

type reply struct {
	status int
	text   []byte
}

// FuzzAnswers answers every call with the same bytes. The key says what is
// wrong in one of its ways and quotes no secret; of an answer that is taken
// nothing is made that it did not hold.
func FuzzAnswers(f *testing.F) {
	var said atomic.Pointer[reply]
	s := &service{fail: func(_ int, _ string, _ []byte, w http.ResponseWriter) bool {
		w.WriteHeader(said.Load().status)
		_, _ = w.Write(said.Load().text) // the client may have left
		return true
	}}
	start(f, s)
	once := remote.Policy{Attempts: 1, Each: time.Second, Total: time.Second}
	for _, s := range []string{
		`{"CiphertextBlob":"AAAA","KeyId":"` + arnOne + `","Plaintext":"AAAA"}`, `{"__type":"InvalidCiphertextException","message":"no"}`,
		`{"__type":"com.amazon#AccessDeniedException","Message":"User is not authorized"}`, `<html>`, ``, `{"Plaintext":"!"}`, `{"Plaintext":5}`,
	} {
		f.Add(uint16(200), []byte(s))
		f.Add(uint16(400), []byte(s))
	}
	f.Fuzz(func(t *testing.T, code uint16, answer []byte) {
		said.Store(&reply{200 + int(code)%400, answer})
		op, err := open(t.Context(), Scheme+arnOne, once)
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
	for _, s := range []string{secretText, "NWVjcmV0UGxhaW50ZXh0", secretKey, session} {
		if strings.Contains(fmt.Sprintf("%v %+v", err, err), s) && !strings.Contains(string(answer), s) {
			t.Errorf("the error holds a secret: %v", err)
		}
	}
}
