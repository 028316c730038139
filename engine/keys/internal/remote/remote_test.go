package remote

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/chromad/chromad/engine/keys"
)

// A service is a key in memory whose calls can be made to fail, wait or lie.
type service struct {
	aead  tink.AEAD
	fail  func(ctx context.Context, call int) error // nil: works
	lie   func(opened []byte) []byte
	bind  bool // whether associated data counts
	calls []time.Time
}

func newService(t *testing.T) *service {
	t.Helper()
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	a, err := aead.New(h)
	if err != nil {
		t.Fatal(err)
	}
	return &service{aead: a, bind: true}
}

var (
	errBusy  = errors.New("busy")
	errWrong = errors.New("wrong")
)

func (s *service) enter(ctx context.Context, associated []byte) ([]byte, error) {
	s.calls = append(s.calls, time.Now())
	if !s.bind {
		associated = nil
	}
	if s.fail != nil {
		return associated, s.fail(ctx, len(s.calls))
	}
	return associated, nil
}

func (s *service) Encrypt(ctx context.Context, plaintext, associated []byte) ([]byte, error) {
	associated, err := s.enter(ctx, associated)
	if err != nil {
		return nil, err
	}
	return s.aead.Encrypt(plaintext, associated)
}

func (s *service) Decrypt(ctx context.Context, ciphertext, associated []byte) ([]byte, error) {
	associated, err := s.enter(ctx, associated)
	if err != nil {
		return nil, err
	}
	opened, err := s.aead.Decrypt(ciphertext, associated)
	if err != nil {
		return nil, errWrong
	}
	if s.lie != nil {
		opened = s.lie(opened)
	}
	return opened, nil
}

func (s *service) Explain(_ string, err error) Failure {
	switch {
	case errors.Is(err, errBusy):
		return Failure{Kind: keys.ErrUnavailable, Code: "BusyException", Detail: "later", Check: "wait"}
	case errors.Is(err, errWrong):
		return Failure{Kind: keys.ErrWrongKey}
	}
	return Failure{Kind: keys.ErrDenied, Detail: err.Error()}
}

func options() Options { return Options{Policy: Standard(), MaxPlaintext: 100, Probe: true} }

func TestEncryptIsChecked(t *testing.T) {
	s := newService(t)
	op := New("x://k", s, options())
	sealed, err := op.EncryptWithContext(t.Context(), []byte("text"), []byte("place"))
	if err != nil || len(s.calls) != 3 {
		t.Fatalf("%v after %d calls, want 3: encrypt, decrypt, probe", err, len(s.calls))
	}
	if opened, err := op.DecryptWithContext(t.Context(), sealed, []byte("place")); err != nil || string(opened) != "text" {
		t.Errorf("%q, %v", opened, err)
	}
	for _, c := range []struct {
		name   string
		change func(*service)
		text   string
		kind   error
		words  string
	}{
		{"another plaintext", func(s *service) { s.lie = func([]byte) []byte { return []byte("tex7") } }, "text", keys.ErrConfig, "not what was encrypted"},
		{"no plaintext", func(s *service) { s.lie = func([]byte) []byte { return nil } }, "text", keys.ErrUnavailable, "decrypting what was just encrypted"},
		{"not bound", func(s *service) { s.bind = false }, "text", keys.ErrConfig, "does not bind"},
		{"may not decrypt", func(s *service) {
			s.fail = func(_ context.Context, call int) error {
				if call == 2 {
					return errors.New("no")
				}
				return nil
			}
		}, "text", keys.ErrDenied, "decrypting what was just encrypted"},
		{"probe refused for another reason", func(s *service) {
			s.fail = func(_ context.Context, call int) error {
				if call == 3 {
					return errors.New("no")
				}
				return nil
			}
		}, "text", keys.ErrDenied, "checking that associated data is bound"},
		{"too long", func(*service) {}, strings.Repeat("x", 101), keys.ErrConfig, "takes 1 to 100"},
		{"nothing", func(*service) {}, "", keys.ErrConfig, "takes 1 to 100"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newService(t)
			c.change(s)
			sealed, err := New("x://k", s, options()).EncryptWithContext(t.Context(), []byte(c.text), []byte("place"))
			if sealed != nil && err == nil || !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%s: %v, want %v with %q", c.name, err, c.kind, c.words)
			}
		})
	}
	if _, err := op.DecryptWithContext(t.Context(), nil, nil); !errors.Is(err, keys.ErrWrongKey) {
		t.Errorf("empty ciphertext: %v", err)
	}
}

// The pauses of the policy, on a clock of the test's own.
func TestPolicy(t *testing.T) {
	for _, c := range []struct {
		name string
		fail func(ctx context.Context, call int) error
		at   []time.Duration // of the calls
		kind error
	}{
		{"away for three calls", func(_ context.Context, call int) error {
			if call <= 3 {
				return errBusy
			}
			return nil
		}, []time.Duration{0, 250e6, 750e6, 1750e6}, nil},
		{"away", func(context.Context, int) error { return errBusy }, []time.Duration{0, 250e6, 750e6, 1750e6, 3750e6}, keys.ErrUnavailable},
		{"denied", func(context.Context, int) error { return errors.New("no") }, []time.Duration{0}, keys.ErrDenied},
		{"silent", func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() },
			[]time.Duration{0, 10250e6, 20750e6}, keys.ErrUnavailable},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newService(t)
			sealed, err := s.aead.Encrypt([]byte("text"), nil)
			if err != nil {
				t.Fatal(err)
			}
			s.fail = c.fail
			start := time.Now()
			_, err = New("x://k", s, options()).DecryptWithContext(t.Context(), sealed, nil)
			if !errors.Is(err, c.kind) {
				t.Errorf("%s: %v, want %v", c.name, err, c.kind)
			}
			var at []time.Duration
			for _, call := range s.calls {
				at = append(at, call.Sub(start))
			}
			if fmt.Sprint(at) != fmt.Sprint(c.at) {
				t.Errorf("%s: called at %v, want %v", c.name, at, c.at)
			}
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("%s: took %v", c.name, took)
			}
		})
	}
}

// Whoever gives up is not held by a pause, and is told that, not the service's trouble.
func TestGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t)
		s.fail = func(context.Context, int) error { return errBusy }
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := New("x://k", s, options()).DecryptWithContext(ctx, []byte("x"), nil)
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, keys.ErrUnavailable) || time.Since(start) != 300*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestTextOfErrors(t *testing.T) {
	token := "hvs.CAESIHJ5ZWFoLXRoaXMtaXMtYS10b2tlbg"
	arn := "arn:aws:kms:eu-central-1:111122223333:key/01234567-89ab-cdef-0123-456789abcdef"
	for _, c := range []struct {
		f    Failure
		want string
	}{
		{Failure{Code: "AccessDeniedException", Detail: "User: arn:aws:iam::1:user/a is not authorized to perform: kms:Decrypt on " + arn},
			"AccessDeniedException: User: arn:aws:iam::1:user/a is not authorized to perform: kms:Decrypt on " + arn},
		{Failure{Code: "KMSInvalidStateException"}, "KMSInvalidStateException"},
		{Failure{Detail: "Permission 'cloudkms.cryptoKeyVersions.useToDecrypt' denied on resource 'projects/p/locations/global/keyRings/r/cryptoKeys/k'"},
			"Permission 'cloudkms.cryptoKeyVersions.useToDecrypt' denied on resource 'projects/p/locations/global/keyRings/r/cryptoKeys/k'"},
		{Failure{Detail: "token " + token + " expired"}, "token hvs.[…] expired"},
		{Failure{Detail: "got " + base64.StdEncoding.EncodeToString([]byte("a secret that is long enough"))}, "got […]"},
		{Failure{Detail: "two\nlines\x1b[31m\u202e and  more\x00"}, "two lines [31m and more"},
		{Failure{Detail: strings.Repeat("é ", 400)}, strings.TrimSuffix(strings.Repeat("é ", 150), "") + "…"},
	} {
		if got := c.f.text(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestRedacted(t *testing.T) {
	s := newService(t)
	op := New("x://k", s, options())
	encoded, err := json.Marshal(op)
	if err != nil || string(encoded) != `"key x://k (redacted)"` {
		t.Errorf("JSON is %s, %v", encoded, err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if got := fmt.Sprintf(verb, op); got != "key x://k (redacted)" {
			t.Errorf("%s prints %q", verb, got)
		}
	}
}
