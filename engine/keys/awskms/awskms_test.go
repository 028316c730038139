package awskms

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromad/chromad/engine/keys"
	"github.com/chromad/chromad/engine/keys/internal/kmstest"
	"github.com/chromad/chromad/internal/outbound"
)

const secretText = kmstest.Text

func mustOpen(t *testing.T, id string) keys.Operator {
	t.Helper()
	op, err := open(t.Context(), Scheme+id, kmstest.Quick())
	if err != nil {
		t.Fatal(err)
	}
	return op
}

// wantError checks kind and words of an error, and that it holds no secret.
func wantError(t *testing.T, what string, err, kind error, words string) {
	t.Helper()
	if err := kmstest.Want(err, kind, words, secretKey, session); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

func TestProtocol(t *testing.T) {
	s := &service{}
	start(t, s)
	ctx := t.Context()
	one, two := mustOpen(t, arnOne), mustOpen(t, arnTwo)
	if one.URI() != Scheme+arnOne {
		t.Errorf("URI %s", one.URI())
	}
	sealed, err := one.EncryptWithContext(ctx, []byte(secretText), []byte("place\x00"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range s.seen {
		if len(c) != 1 || c["associatedData"] != "706c61636500" {
			t.Errorf("encryption context %v", c)
		}
	}
	if opened, err := mustOpen(t, arnOne).DecryptWithContext(ctx, sealed, []byte("place\x00")); err != nil || string(opened) != secretText {
		t.Errorf("%q, %v", opened, err)
	}
	for _, other := range []string{"", "place", "placex", "place\x00\x00"} {
		_, err := one.DecryptWithContext(ctx, sealed, []byte(other))
		wantError(t, "associated data "+other, err, keys.ErrWrongKey, "InvalidCiphertextException; check that it is the key")
	}
	bare, err := one.EncryptWithContext(ctx, []byte("text"), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = one.DecryptWithContext(ctx, bare, []byte("place"))
	wantError(t, "associated data where there was none", err, keys.ErrWrongKey, "")
	_, err = two.DecryptWithContext(ctx, sealed, []byte("place\x00"))
	wantError(t, "another key", err, keys.ErrWrongKey, "IncorrectKeyException")
	for _, c := range []string{"x", "garbage that is long enough for a nonce and a tag", string(sealed[:len(sealed)-1])} {
		_, err = one.DecryptWithContext(ctx, []byte(c), []byte("place\x00"))
		wantError(t, "ciphertext", err, keys.ErrWrongKey, "")
	}
	_, err = mustOpen(t, strings.Replace(arnOne, "key/0", "key/1", 1)).DecryptWithContext(ctx, sealed, nil)
	wantError(t, "no such key", err, keys.ErrNotFound, "region (eu-central-1)")
	if _, err := one.EncryptWithContext(ctx, make([]byte, maxPlaintext), nil); err != nil {
		t.Error("the largest plaintext:", err)
	}
	before := s.calls
	_, err = one.EncryptWithContext(ctx, make([]byte, maxPlaintext+1), nil)
	wantError(t, "too large", err, keys.ErrConfig, "4097 bytes")
	if s.calls != before {
		t.Error("the service was asked for what it does not do")
	}
}

func TestCredentials(t *testing.T) {
	s := &service{}
	start(t, s)
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wr0ng")
	_, err := mustOpen(t, arnOne).DecryptWithContext(t.Context(), []byte("x"), nil)
	wantError(t, "wrong secret", err, keys.ErrDenied, "InvalidSignatureException")
	if s.calls != 1 {
		t.Errorf("called %d times", s.calls)
	}
	credentials(t)
	_, err = mustOpen(t, arnOne).DecryptWithContext(t.Context(), []byte("x"), nil)
	wantError(t, "none", err, keys.ErrDenied, "no credentials for AWS can be had; check AWS_ACCESS_KEY_ID")
	if s.calls != 1 {
		t.Error("called without credentials")
	}
	credentials(t, "AWS_PROFILE", "n0ne", "AWS_CA_BUNDLE", t.TempDir()+"/none")
	_, err = open(t.Context(), Scheme+arnOne, kmstest.Quick())
	wantError(t, "settings", err, keys.ErrConfig, "check AWS_PROFILE, AWS_CA_BUNDLE")
}

// The SDK's clients connect to what the settings name, whatever else the
// environment points to; the watcher sees each of them.
func TestOutbound(t *testing.T) {
	server := start(t, &service{})
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/role" {
			t.Errorf("asked for %s", r.URL)
		}
		fmt.Fprintf(w, `{"AccessKeyId":%q,"SecretAccessKey":%q,"Token":%q,"Expiration":"2999-01-01T00:00:00Z"}`, accessKey, secretKey, session)
	}))
	defer other.Close()
	place := func(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }
	var seen []string
	ctx := outbound.With(t.Context(), outbound.New(func(a outbound.Attempt) { seen = append(seen, fmt.Sprint(a.Place, a.Refused)) }))
	decrypt := func(want ...string) error {
		t.Helper()
		seen = nil
		op, err := open(ctx, Scheme+arnOne, kmstest.Once())
		if err != nil {
			t.Fatal(err)
		}
		_, err = op.DecryptWithContext(ctx, []byte("x"), nil)
		if !slices.Equal(seen, want) {
			t.Errorf("connected to %q, want %q", seen, want)
		}
		return err
	}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy"} {
		t.Setenv(name, other.URL)
	}
	wantError(t, "not encrypted", decrypt(place(server)+"false"), keys.ErrWrongKey, "")
	// Credentials of a container.
	credentials(t, "AWS_ENDPOINT_URL_KMS", server.URL, "AWS_CONTAINER_CREDENTIALS_FULL_URI", other.URL+"/role")
	wantError(t, "not encrypted", decrypt(place(other)+"false", place(server)+"false"), keys.ErrWrongKey, "")
	// An endpoint of single sign-on that a profile names, and one that nothing names.
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte("[default]\nendpoint_url = "+server.URL+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	credentials(t, "AWS_ACCESS_KEY_ID", accessKey, "AWS_SECRET_ACCESS_KEY", secretKey, "AWS_SESSION_TOKEN", session, "AWS_CONFIG_FILE", file)
	wantError(t, "not encrypted", decrypt(place(server)+"false"), keys.ErrWrongKey, "")
	if got := places("aws-cn", "cn-north-1"); !slices.Contains(got, "kms.cn-north-1.amazonaws.com.cn:443") || slices.Contains(got, "kms.cn-north-1.amazonaws.com:443") {
		t.Errorf("China: %q", got)
	}
}

// The errors of the service by its reference, and answers that are not its own.
func TestBadAnswers(t *testing.T) {
	aws := func(status int, code, message string) func(http.ResponseWriter, []byte) {
		return func(w http.ResponseWriter, _ []byte) { refuse(w, status, code, message) }
	}
	text := func(status int, body string) func(http.ResponseWriter, []byte) {
		return func(w http.ResponseWriter, _ []byte) { w.WriteHeader(status); io.WriteString(w, body) }
	}
	// The SDK closes a request's body as soon as the answer begins. A transport that is
	// still looking for the body's end then ends the connection, within a long answer.
	slow := func(answer func(http.ResponseWriter, []byte)) func(http.ResponseWriter, []byte) {
		return func(w http.ResponseWriter, body []byte) { time.Sleep(20 * time.Millisecond); answer(w, body) }
	}
	denied := "User: arn:aws:iam::111122223333:user/a is not authorized to perform: kms:Decrypt on resource: " + arnOne
	for _, c := range []struct {
		name   string
		answer func(http.ResponseWriter, []byte)
		kind   error
		words  string
		calls  int
	}{
		{"no permission", aws(400, "AccessDeniedException", denied), keys.ErrDenied, denied + "; check the credentials", 1},
		{"expired", aws(400, "ExpiredTokenException", "The security token included in the request is expired"), keys.ErrDenied, "is expired", 1},
		{"unknown access key", aws(400, "UnrecognizedClientException", "The security token included in the request is invalid."), keys.ErrDenied, "", 1},
		{"no such key", aws(400, "NotFoundException", "Alias arn:x is not found."), keys.ErrNotFound, "account and region", 1},
		{"disabled", aws(400, "DisabledException", arnOne+" is disabled."), keys.ErrNotFound, "is disabled.; check", 1},
		{"to be deleted", aws(400, "KMSInvalidStateException", arnOne+" is pending deletion."), keys.ErrNotFound, "pending deletion", 1},
		{"asymmetric", aws(400, "InvalidKeyUsageException", ""), keys.ErrConfig, "symmetric", 1},
		{"unheard of", aws(400, "SomethingNewException", "new"), keys.ErrConfig, "SomethingNewException: new", 1},
		{"unheard of, at their end", aws(500, "SomethingNewException", "new"), keys.ErrUnavailable, "SomethingNewException: new", 3},
		{"throttled", aws(400, "ThrottlingException", "Rate exceeded"), keys.ErrUnavailable, "Rate exceeded", 3},
		{"internal", aws(500, "KMSInternalException", ""), keys.ErrUnavailable, "KMSInternalException", 3},
		{"dependency", aws(503, "DependencyTimeoutException", ""), keys.ErrUnavailable, "DependencyTimeoutException", 3},
		{"gateway", text(502, "<html>Bad Gateway</html>"), keys.ErrUnavailable, "502", 3},
		{"a page", text(200, "<html>welcome</html>"), keys.ErrUnavailable, "not the key service's", 3},
		{"empty", text(200, ""), keys.ErrUnavailable, "not the key service's", 3},
		{"too long", slow(text(200, `{"CiphertextBlob":"`+strings.Repeat("A", 2<<20)+`"}`)), keys.ErrUnavailable, "not the key service's", 3},
		{"no fields", text(200, "{}"), keys.ErrUnavailable, "not the key service's", 3},
		{"wrong types", text(200, `{"CiphertextBlob":5,"Plaintext":[]}`), keys.ErrUnavailable, "not the key service's", 3},
		{"not base64", text(200, `{"CiphertextBlob":"!","Plaintext":"!"}`), keys.ErrUnavailable, "not the key service's", 3},
		{"echo, 500", func(w http.ResponseWriter, body []byte) { w.WriteHeader(500); w.Write(body) }, keys.ErrUnavailable, "", 3},
		{"echo, 200", func(w http.ResponseWriter, body []byte) { w.Write([]byte(`{"CiphertextBlob":"` + string(body))) }, keys.ErrUnavailable, "", 3},
		{"echo, an error", func(w http.ResponseWriter, body []byte) { refuse(w, 400, "ValidationException", "bad: "+string(body)) }, keys.ErrConfig, "ValidationException", 1},
	} {
		s := &service{fail: func(_ int, _ string, body []byte, w http.ResponseWriter) bool { c.answer(w, body); return true }}
		start(t, s)
		_, err := mustOpen(t, arnOne).EncryptWithContext(t.Context(), []byte(secretText), []byte("place"))
		wantError(t, c.name, err, c.kind, c.words)
		if s.calls != c.calls {
			t.Errorf("%s: called %d times, want %d", c.name, s.calls, c.calls)
		}
		_, err = mustOpen(t, arnOne).DecryptWithContext(t.Context(), []byte("blob"), []byte("place"))
		wantError(t, c.name+", decrypting", err, c.kind, c.words)
	}
}

func TestMayNotDecrypt(t *testing.T) {
	start(t, &service{fail: func(_ int, target string, _ []byte, w http.ResponseWriter) bool {
		if target == "Decrypt" {
			refuse(w, 400, "AccessDeniedException", "not authorized to perform: kms:Decrypt")
		}
		return target == "Decrypt"
	}})
	_, err := mustOpen(t, arnOne).EncryptWithContext(t.Context(), []byte(secretText), nil)
	wantError(t, "encrypt only", err, keys.ErrDenied, "decrypting what was just encrypted")
}

func TestAwayForAMoment(t *testing.T) {
	s := &service{fail: func(call int, _ string, _ []byte, w http.ResponseWriter) bool {
		switch call {
		case 1:
			refuse(w, 400, "ThrottlingException", "Rate exceeded")
		case 2:
			panic(http.ErrAbortHandler)
		}
		return call < 3
	}}
	server := start(t, s)
	op := mustOpen(t, arnOne)
	if _, err := op.EncryptWithContext(t.Context(), []byte(secretText), nil); err != nil || s.calls != 4 {
		t.Errorf("%v after %d calls", err, s.calls)
	}
	server.Close()
	_, err := op.DecryptWithContext(t.Context(), []byte("x"), nil)
	wantError(t, "nobody listens", err, keys.ErrUnavailable, "check the address")
}

func TestNoAnswer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var stop atomic.Pointer[context.CancelFunc]
	stop.Store(&cancel)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		(*stop.Load())()
		<-r.Context().Done()
	}))
	defer server.Close()
	credentials(t, "AWS_ACCESS_KEY_ID", accessKey, "AWS_SECRET_ACCESS_KEY", secretKey, "AWS_ENDPOINT_URL_KMS", server.URL)
	_, err := mustOpen(t, arnOne).DecryptWithContext(ctx, []byte("x"), nil)
	wantError(t, "gave up", err, context.Canceled, "")
	nothing := context.CancelFunc(func() {})
	stop.Store(&nothing)
	short := kmstest.Quick()
	short.Each = 10 * time.Millisecond
	op, err := open(t.Context(), Scheme+arnOne, short)
	if err != nil {
		t.Fatal(err)
	}
	_, err = op.DecryptWithContext(t.Context(), []byte("x"), nil)
	wantError(t, "silent", err, keys.ErrUnavailable, "no answer in time")
}

func TestURIs(t *testing.T) {
	credentials(t)
	for _, uri := range []string{
		Scheme + arnOne, Scheme + arnTwo,
		Scheme + "arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-0123456789abcdef0123456789abcdef",
		Scheme + "arn:aws-cn:kms:cn-north-1:111122223333:alias/team/key_1",
	} {
		if op, err := open(t.Context(), uri, kmstest.Quick()); err != nil || op.URI() != uri {
			t.Errorf("%s: %v, %v", uri, op, err)
		}
	}
	for _, uri := range []string{
		arnOne, Scheme, Scheme + "01234567-89ab-cdef-0123-456789abcdef", Scheme + "alias/two", "gcp-kms://" + arnOne,
		Scheme + "arn:aws:s3:eu-central-1:111122223333:key/x", Scheme + "arn:aws:kms::111122223333:key/x",
		Scheme + "arn:aws:kms:eu-central-1:1:key/x", Scheme + arnOne + "?region=x", Scheme + arnOne + "\n",
	} {
		_, err := open(t.Context(), uri, kmstest.Quick())
		wantError(t, uri, err, keys.ErrConfig, "aws-kms://arn:aws:kms:REGION:ACCOUNT:key/ID")
	}
}
