package gcpkms

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromad/chromad/engine/keys"
	"github.com/chromad/chromad/engine/keys/internal/kmstest"
	"github.com/chromad/chromad/internal/outbound"
)

const secretText = kmstest.Text

func mustOpen(t *testing.T, server *httptest.Server, name string) keys.Operator {
	t.Helper()
	// What the tests call is what the endpoint and the credentials name.
	way, err := outbound.New(nil).Way("test", strings.TrimPrefix(server.URL, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	base := server.Client().Transport.(*http.Transport).Clone()
	way.Guard(base)
	op, err := open(t.Context(), Scheme+name, server.URL, base, way, kmstest.Quick())
	if err != nil {
		t.Fatal(err)
	}
	return op
}

// wantError checks kind and words of an error, and that it holds no secret.
func wantError(t *testing.T, what string, err, kind error, words string) {
	t.Helper()
	if err := kmstest.Want(err, kind, words, access, "5ecret"); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

func TestProtocol(t *testing.T) {
	s := &service{}
	server := start(t, s)
	ctx := t.Context()
	for _, name := range []string{nameOne, nameTwo} {
		op := mustOpen(t, server, name)
		sealed, err := op.EncryptWithContext(ctx, []byte(secretText), []byte("place\xff"))
		if err != nil {
			t.Fatal(err)
		}
		if opened, err := mustOpen(t, server, name).DecryptWithContext(ctx, sealed, []byte("place\xff")); err != nil || string(opened) != secretText {
			t.Errorf("%q, %v", opened, err)
		}
		for _, other := range []string{"", "place", "place\xffx"} {
			_, err := op.DecryptWithContext(ctx, sealed, []byte(other))
			wantError(t, "associated data "+other, err, keys.ErrWrongKey, "Decryption failed")
		}
		for _, c := range []string{"x", "garbage that is long enough for a nonce and a tag", string(sealed[:len(sealed)-1])} {
			_, err = op.DecryptWithContext(ctx, []byte(c), []byte("place\xff"))
			wantError(t, "ciphertext", err, keys.ErrWrongKey, "check that it is the key")
		}
	}
	one, two := mustOpen(t, server, nameOne), mustOpen(t, server, nameTwo)
	sealed, err := one.EncryptWithContext(ctx, []byte(secretText), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = two.DecryptWithContext(ctx, sealed, nil)
	wantError(t, "another key", err, keys.ErrWrongKey, "")
	_, err = mustOpen(t, server, nameOne+"x").DecryptWithContext(ctx, sealed, nil)
	wantError(t, "no such key", err, keys.ErrNotFound, "check project, location, ring and key")

	// Versions of the key.
	s.keys[nameOne] = append(s.keys[nameOne], newAEAD(t))
	young, err := one.EncryptWithContext(ctx, []byte(secretText), nil)
	if err != nil || young[0] != 2 {
		t.Errorf("after rotation: version %d, %v", young[0], err)
	}
	if opened, err := one.DecryptWithContext(ctx, sealed, nil); err != nil || string(opened) != secretText {
		t.Errorf("version 1 after rotation: %q, %v", opened, err)
	}
	s.keys[nameOne][0] = nil
	_, err = one.DecryptWithContext(ctx, sealed, nil)
	wantError(t, "disabled version", err, keys.ErrNotFound, "current state is: DISABLED")
	if one.URI() != Scheme+nameOne {
		t.Errorf("URI %s", one.URI())
	}
}

// A damaged request or answer is told by its checksums.
func TestChecksums(t *testing.T) {
	for what, mangle := range map[string]func(map[string]any){
		"plaintext not verified":       func(a map[string]any) { delete(a, "verifiedPlaintextCrc32c") },
		"associated data not verified": func(a map[string]any) { a["verifiedAdditionalAuthenticatedDataCrc32c"] = false },
		"no checksum":                  func(a map[string]any) { delete(a, "ciphertextCrc32c"); delete(a, "plaintextCrc32c") },
		"other checksum":               func(a map[string]any) { a["ciphertextCrc32c"], a["plaintextCrc32c"] = "7", "7" },
		"checksum is no number":        func(a map[string]any) { a["ciphertextCrc32c"], a["plaintextCrc32c"] = "x", 7 },
		"other ciphertext":             func(a map[string]any) { a["ciphertext"], a["plaintext"] = "AAAA", "AAAA" },
		"another key":                  func(a map[string]any) { a["name"] = nameTwo + "/cryptoKeyVersions/1"; delete(a, "plaintext") },
		"no name":                      func(a map[string]any) { delete(a, "name"); delete(a, "plaintext") },
	} {
		s := &service{}
		server := start(t, s)
		op := mustOpen(t, server, nameOne)
		sealed, err := op.EncryptWithContext(t.Context(), []byte(secretText), []byte("place"))
		if err != nil {
			t.Fatal(err)
		}
		s.mangle, s.calls = mangle, 0
		_, err = op.EncryptWithContext(t.Context(), []byte(secretText), []byte("place"))
		wantError(t, what, err, keys.ErrUnavailable, "not the key service's")
		if s.calls != 3 {
			t.Errorf("%s: called %d times", what, s.calls)
		}
		if strings.Contains(what, "verified") { // only in answers to encrypt
			continue
		}
		_, err = op.DecryptWithContext(t.Context(), sealed, []byte("place"))
		wantError(t, what+", decrypting", err, keys.ErrUnavailable, "not the key service's")
	}
}

func TestCredentials(t *testing.T) {
	server := start(t, &service{})
	op := mustOpen(t, server, nameOne)
	decrypt := func() error {
		_, err := op.DecryptWithContext(t.Context(), []byte("\x01x"), nil)
		return err
	}
	account := os.Getenv("GOOGLE_APPLICATION_CREDENTIALS")

	another, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	other := start(t, &service{signer: another}) // which leaves the credentials of another account
	text, err := os.ReadFile(os.Getenv("GOOGLE_APPLICATION_CREDENTIALS"))
	if err != nil {
		t.Fatal(err)
	}
	mine := &service{}
	server = start(t, mine)
	op = mustOpen(t, server, nameOne)
	forged := filepath.Join(t.TempDir(), "forged.json")
	text = []byte(strings.ReplaceAll(string(text), other.URL, server.URL))
	if err := os.WriteFile(forged, text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", forged)
	wantError(t, "key of another account", decrypt(), keys.ErrDenied, "no access token: invalid_grant; check GOOGLE_APPLICATION_CREDENTIALS")

	for what, file := range map[string]string{"no file": filepath.Join(t.TempDir(), "none"), "not JSON": account + ".x", "directory": t.TempDir()} {
		if what == "not JSON" {
			if err := os.WriteFile(file, []byte("5ecret"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
		wantError(t, what, decrypt(), keys.ErrDenied, "no credentials for Google Cloud can be had")
	}
	if mine.calls != 0 {
		t.Errorf("the service was called %d times without a token", mine.calls)
	}

	// Token servers that are not what they should be.
	for _, c := range []struct {
		status int
		body   string
		kind   error
	}{
		{403, `{"error":"access_denied","error_description":"5ecret"}`, keys.ErrDenied},
		{500, "<html>5ecret</html>", keys.ErrUnavailable},
		{503, "", keys.ErrUnavailable},
		{200, "<html>5ecret</html>", keys.ErrDenied},
		{200, `{"token":"5ecret"}`, keys.ErrDenied},
		{307, "", keys.ErrConfig},
	} {
		s := &service{token: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Location", "https://127.0.0.1:1/")
			w.WriteHeader(c.status)
			io.WriteString(w, c.body)
		}}
		op = mustOpen(t, start(t, s), nameOne)
		wantError(t, fmt.Sprintf("token server says %d %s", c.status, c.body), decrypt(), c.kind, "")
		if s.calls != 0 {
			t.Error("the service was called without a token")
		}
	}
}

// The service account of a machine, whose tokens come from its metadata server.
func TestMetadata(t *testing.T) {
	server := start(t, &service{})
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Metadata-Flavor", "Google")
		if r.Header.Get("Metadata-Flavor") != "Google" || !strings.HasSuffix(r.URL.Path, "/instance/service-accounts/default/token") {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintf(w, `{"access_token":%q,"expires_in":3600,"token_type":"Bearer"}`, access)
	}))
	defer metadata.Close()
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
	t.Setenv("HOME", t.TempDir()) // where gcloud leaves credentials
	t.Setenv("APPDATA", t.TempDir())
	t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(metadata.URL, "http://"))
	if _, err := mustOpen(t, server, nameOne).EncryptWithContext(t.Context(), []byte(secretText), []byte("place")); err != nil {
		t.Error(err)
	}
}

// The errors of the service by its reference, and answers that are not its own.
func TestBadAnswers(t *testing.T) {
	google := func(status int, code, message string) func(http.ResponseWriter, []byte) {
		return func(w http.ResponseWriter, _ []byte) { refuse(w, status, code, message) }
	}
	text := func(status int, body string) func(http.ResponseWriter, []byte) {
		return func(w http.ResponseWriter, _ []byte) { w.WriteHeader(status); io.WriteString(w, body) }
	}
	denied := "Permission 'cloudkms.cryptoKeyVersions.useToEncrypt' denied on resource '" + nameOne + "' (or it may not exist)."
	for _, c := range []struct {
		name   string
		answer func(http.ResponseWriter, []byte)
		kind   error
		words  string
		calls  int
	}{
		{"no permission", google(403, "PERMISSION_DENIED", denied), keys.ErrDenied, denied + "; check that the credentials have roles/", 1},
		{"not authenticated", google(401, "UNAUTHENTICATED", "Request had invalid authentication credentials."), keys.ErrDenied, "roles/", 1},
		{"no such key", google(404, "NOT_FOUND", "CryptoKey x not found."), keys.ErrNotFound, "check project", 1},
		{"disabled", google(400, "FAILED_PRECONDITION", nameOne+"/cryptoKeyVersions/1 is not enabled, current state is: DESTROYED."), keys.ErrNotFound, "DESTROYED", 1},
		{"throttled", google(429, "RESOURCE_EXHAUSTED", "Quota exceeded"), keys.ErrUnavailable, "quotas", 3},
		{"away", google(503, "UNAVAILABLE", "The service is currently unavailable."), keys.ErrUnavailable, "UNAVAILABLE", 3},
		{"internal", google(500, "INTERNAL", ""), keys.ErrUnavailable, "INTERNAL", 3},
		{"gateway", text(502, "<html>5ecret</html>"), keys.ErrUnavailable, "HTTP 502: Bad Gateway", 3},
		{"page, 404", text(404, "<html>5ecret</html>"), keys.ErrNotFound, "HTTP 404: Not Found", 1},
		{"a page", text(200, "<html>5ecret</html>"), keys.ErrUnavailable, "not the key service's", 3},
		{"empty", text(200, ""), keys.ErrUnavailable, "not the key service's", 3},
		{"no fields", text(200, "{}"), keys.ErrUnavailable, "not the key service's", 3},
		{"too long", text(200, `{"ciphertext":"`+strings.Repeat("A", 2<<20)+`"}`), keys.ErrUnavailable, "not the key service's", 3},
		{"other 2xx", text(204, ""), keys.ErrConfig, "HTTP 204", 1},
		{"echo", func(w http.ResponseWriter, body []byte) { w.Write(body) }, keys.ErrUnavailable, "", 3},
		{"echo, an error", func(w http.ResponseWriter, body []byte) { refuse(w, 409, "ABORTED", "bad: "+string(body)) }, keys.ErrConfig, "ABORTED", 1},
	} {
		s := &service{fail: func(_ int, _ string, body []byte, w http.ResponseWriter) bool { c.answer(w, body); return true }}
		op := mustOpen(t, start(t, s), nameOne)
		_, err := op.EncryptWithContext(t.Context(), []byte(secretText), []byte("place"))
		wantError(t, c.name, err, c.kind, c.words)
		if s.calls != c.calls {
			t.Errorf("%s: called %d times, want %d", c.name, s.calls, c.calls)
		}
		_, err = op.DecryptWithContext(t.Context(), []byte("blob"), []byte("place"))
		wantError(t, c.name+", decrypting", err, c.kind, c.words)
	}
}

// A redirect would carry the plaintext to somebody else.
func TestRedirect(t *testing.T) {
	var reached atomic.Bool
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	defer elsewhere.Close()
	server := start(t, &service{fail: func(_ int, _ string, _ []byte, w http.ResponseWriter) bool {
		w.Header().Set("Location", elsewhere.URL)
		w.WriteHeader(http.StatusTemporaryRedirect)
		return true
	}})
	_, err := mustOpen(t, server, nameOne).EncryptWithContext(t.Context(), []byte(secretText), nil)
	wantError(t, "redirect", err, keys.ErrConfig, "redirects are not followed")
	if reached.Load() {
		t.Error("the redirect was followed")
	}
}

func TestAwayForAMoment(t *testing.T) {
	s := &service{fail: func(call int, _ string, _ []byte, w http.ResponseWriter) bool {
		switch call {
		case 1:
			refuse(w, 503, "UNAVAILABLE", "")
		case 2:
			panic(http.ErrAbortHandler)
		}
		return call < 3
	}}
	server := start(t, s)
	op := mustOpen(t, server, nameOne)
	if _, err := op.EncryptWithContext(t.Context(), []byte(secretText), nil); err != nil || s.calls != 4 {
		t.Errorf("%v after %d calls", err, s.calls)
	}
	server.Close()
	_, err := op.DecryptWithContext(t.Context(), []byte("x"), nil)
	wantError(t, "nobody listens", err, keys.ErrUnavailable, "check the address")
}

// Neither a token server nor the service holds up whoever gives up.
func TestNoAnswer(t *testing.T) {
	var stop atomic.Pointer[context.CancelFunc]
	nothing := context.CancelFunc(func() {})
	hang := func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		(*stop.Load())()
		<-r.Context().Done()
	}
	for what, s := range map[string]*service{"token server": {token: hang}, "service": {}} {
		server := start(t, s)
		front := server
		if s.token == nil {
			front = httptest.NewTLSServer(http.HandlerFunc(hang))
			defer front.Close()
		}
		ctx, cancel := context.WithCancel(t.Context())
		stop.Store(&cancel)
		_, err := mustOpen(t, front, nameOne).DecryptWithContext(ctx, []byte("x"), nil)
		wantError(t, what+", gave up", err, context.Canceled, "")
		stop.Store(&nothing)
		short := kmstest.Quick()
		short.Each = 10 * time.Millisecond
		op, err := open(t.Context(), Scheme+nameOne, front.URL, front.Client().Transport, nil, short)
		if err != nil {
			t.Fatal(err)
		}
		_, err = op.DecryptWithContext(t.Context(), []byte("x"), nil)
		wantError(t, what+", silent", err, keys.ErrUnavailable, "no answer in time")
	}
}

func TestURIs(t *testing.T) {
	for _, uri := range []string{Scheme + nameOne, Scheme + nameTwo} {
		if op, err := Open(t.Context(), uri); err != nil || op.URI() != uri {
			t.Errorf("%s: %v, %v", uri, op, err)
		}
	}
	for _, uri := range []string{
		nameOne, Scheme, Scheme + "projects/p/locations/l/keyRings/r", Scheme + nameOne + "/", Scheme + nameOne + "?x", Scheme + nameOne + "\n",
		Scheme + "projects/../locations/l/keyRings/r/cryptoKeys/k/k", Scheme + nameOne + ":decrypt", "aws-kms://" + nameOne,
	} {
		_, err := Open(t.Context(), uri)
		wantError(t, uri, err, keys.ErrConfig, "not the name of a key")
	}
	_, err := Open(t.Context(), Scheme+nameOne+"/cryptoKeyVersions/1")
	wantError(t, "version", err, keys.ErrConfig, "names a version of a key")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Open(ended, Scheme+nameOne)
	wantError(t, "ended", err, context.Canceled, "")
}

// The checksum is CRC-32C as Google's guide has it: of RFC 3720, appendix B.4.
func TestSum(t *testing.T) {
	ff, err := base64.StdEncoding.DecodeString(strings.Repeat("/", 42) + "8=")
	if err != nil {
		t.Fatal(err)
	}
	for want, b := range map[int64][]byte{0x8a9136aa: make([]byte, 32), 0x62a8ab43: ff} {
		if got := sum(b); got != want {
			t.Errorf("sum of %x is %x, want %x", b, got, want)
		}
	}
}
