package vault

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
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
)

const secretText = kmstest.Text

// environment sets the variables that Vault's client reads, all others empty.
func environment(t testing.TB, pairs ...string) {
	t.Helper()
	for _, name := range strings.Fields("ADDR AGENT_ADDR TOKEN NAMESPACE CACERT CACERT_BYTES CAPATH CLIENT_CERT CLIENT_KEY SKIP_VERIFY HEADERS PROXY_ADDR HTTP_PROXY TLS_SERVER_NAME MAX_RETRIES") {
		t.Setenv("VAULT_"+name, "")
	}
	for i := 0; i < len(pairs); i += 2 {
		t.Setenv(pairs[i], pairs[i+1])
	}
}

func mustOpen(t *testing.T, uri string) keys.Operator {
	t.Helper()
	op, err := open(t.Context(), uri, kmstest.Quick())
	if err != nil {
		t.Fatal(err)
	}
	return op
}

// wantError checks kind and words of an error, and that it holds no secret.
func wantError(t *testing.T, what string, err, kind error, words string, secrets ...string) {
	t.Helper()
	if err := kmstest.Want(err, kind, words, secrets...); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

func TestProtocol(t *testing.T) { suite(t, startProtocol(t, &transit{})) }

// The same against a server that other people wrote.
func TestRealServer(t *testing.T) { suite(t, startReal(t)) }

func suite(t *testing.T, s server) {
	s.admin(t, "POST", "sys/mounts/transit", `{"type":"transit"}`)
	s.admin(t, "POST", "transit/keys/one", `{"type":"aes256-gcm96"}`)
	s.admin(t, "POST", "transit/keys/two", `{"type":"chacha20-poly1305"}`)
	s.admin(t, "POST", "transit/keys/derived", `{"type":"aes256-gcm96","derived":true}`)
	s.admin(t, "POST", "transit/keys/rsa", `{"type":"rsa-2048"}`)
	both := s.token(t, "both", "transit/encrypt/one", "transit/decrypt/one", "transit/encrypt/two", "transit/decrypt/two",
		"transit/encrypt/derived", "transit/encrypt/rsa")
	encryptOnly := s.token(t, "encrypt-only", "transit/encrypt/one")
	base := Scheme + strings.TrimPrefix(s.address, "http://")
	environment(t, "VAULT_ADDR", s.address, "VAULT_TOKEN", both)
	one, two := mustOpen(t, base+"/transit/keys/one"), mustOpen(t, base+"/transit/keys/two")
	ctx := t.Context()

	sealed, err := one.EncryptWithContext(ctx, []byte(secretText), []byte("place"))
	if err != nil {
		t.Fatal(err)
	}
	wantOpens := func(what string, op keys.Operator, sealed []byte) {
		t.Helper()
		if opened, err := op.DecryptWithContext(ctx, sealed, []byte("place")); err != nil || string(opened) != secretText {
			t.Errorf("%s: %q, %v", what, opened, err)
		}
	}
	wantOpens("same", one, sealed)
	wantOpens("without host", mustOpen(t, Scheme+"/transit/keys/one"), sealed)
	for _, other := range []string{"", "placex", "plac"} {
		_, err := one.DecryptWithContext(ctx, sealed, []byte(other))
		wantError(t, "associated data "+other, err, keys.ErrWrongKey, "check that it is the key", both)
	}
	for i, c := range []string{"garbage", "vault:v1:AAAA", "vault:v9:" + string(sealed[9:]), string(sealed[:len(sealed)-8])} {
		_, err := one.DecryptWithContext(ctx, []byte(c), []byte("place"))
		wantError(t, fmt.Sprint("ciphertext ", i), err, keys.ErrWrongKey, "")
	}
	_, err = two.DecryptWithContext(ctx, sealed, []byte("place"))
	wantError(t, "another key", err, keys.ErrWrongKey, "")
	if of2, err := two.EncryptWithContext(ctx, []byte(secretText), []byte("place")); err != nil {
		t.Error("chacha20-poly1305:", err)
	} else {
		wantOpens("chacha20-poly1305", two, of2)
	}
	_, err = mustOpen(t, base+"/transit/keys/derived").EncryptWithContext(ctx, []byte(secretText), []byte("place"))
	wantError(t, "derived key", err, keys.ErrConfig, "the key is derived", both)
	_, err = mustOpen(t, base+"/transit/keys/rsa").EncryptWithContext(ctx, []byte(secretText), []byte("place"))
	wantError(t, "RSA key", err, keys.ErrConfig, "aes256-gcm96", both)

	// The key's own versions.
	s.admin(t, "POST", "transit/keys/one/rotate", "")
	wantOpens("after rotation", one, sealed)
	young, err := one.EncryptWithContext(ctx, []byte(secretText), []byte("place"))
	if err != nil || !strings.HasPrefix(string(young), "vault:v2:") {
		t.Errorf("after rotation: %.12q, %v; want version 2", young, err)
	}
	s.admin(t, "POST", "transit/keys/one/config", `{"min_decryption_version":2}`)
	wantOpens("version 2", one, young)
	_, err = one.DecryptWithContext(ctx, sealed, []byte("place"))
	wantError(t, "version 1", err, keys.ErrNotFound, "min_decryption_version", both)

	// Who may. The token is read at each call.
	t.Setenv("VAULT_TOKEN", encryptOnly)
	_, err = one.EncryptWithContext(ctx, []byte(secretText), []byte("place"))
	wantError(t, "may not decrypt", err, keys.ErrDenied, "decrypting what was just encrypted", encryptOnly)
	t.Setenv("VAULT_TOKEN", "s.wr0ngwr0ngwr0ngwr0ngwr0ng")
	_, err = one.DecryptWithContext(ctx, young, []byte("place"))
	wantError(t, "wrong token", err, keys.ErrDenied, "check that the token is not expired", "wr0ng")
	t.Setenv("VAULT_TOKEN", "")
	_, err = one.DecryptWithContext(ctx, young, []byte("place"))
	wantError(t, "no token", err, keys.ErrDenied, "set VAULT_TOKEN")
	t.Setenv("VAULT_TOKEN", s.root)
	_, err = mustOpen(t, base+"/transit/keys/none").DecryptWithContext(ctx, young, []byte("place"))
	wantError(t, "no such key", err, keys.ErrNotFound, "check mount and name", s.root)
	_, err = mustOpen(t, base+"/elsewhere/keys/one").DecryptWithContext(ctx, young, []byte("place"))
	wantError(t, "no such mount", err, keys.ErrNotFound, "check mount and name", s.root)
}

// A server that leaves out what it does not know looks right until somebody
// asks for what must fail.
func TestAssociatedDataIgnored(t *testing.T) {
	s := startProtocol(t, &transit{careless: true})
	environment(t, "VAULT_ADDR", s.address, "VAULT_TOKEN", s.root)
	_, err := mustOpen(t, Scheme+"/transit/keys/one").EncryptWithContext(t.Context(), []byte(secretText), []byte("place"))
	wantError(t, "careless server", err, keys.ErrConfig, "does not bind associated data")
}

func TestNamespace(t *testing.T) {
	tr := &transit{}
	s := startProtocol(t, tr)
	environment(t, "VAULT_ADDR", s.address, "VAULT_TOKEN", s.root, "VAULT_NAMESPACE", "team/a")
	if _, err := mustOpen(t, Scheme+"/transit/keys/one").EncryptWithContext(t.Context(), []byte("text"), nil); err != nil {
		t.Fatal(err)
	}
	for _, h := range tr.headers {
		if h.Get("X-Vault-Namespace") != "team/a" || h.Get("X-Vault-Token") != s.root {
			t.Errorf("headers %v", h)
		}
	}
}

func TestTLS(t *testing.T) {
	inner := &transit{}
	plain := startProtocol(t, inner)
	s := httptest.NewUnstartedServer(inner)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // of handshakes that are to fail
	s.StartTLS()
	defer s.Close()
	uri := Scheme + strings.TrimPrefix(s.URL, "https://") + "/transit/keys/one"
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	environment(t, "VAULT_TOKEN", plain.root, "VAULT_CACERT", ca)
	if _, err := mustOpen(t, uri).EncryptWithContext(t.Context(), []byte("text"), []byte("place")); err != nil {
		t.Error("with the authority:", err)
	}
	t.Setenv("VAULT_CACERT", "")
	_, err := mustOpen(t, uri).DecryptWithContext(t.Context(), []byte("vault:v1:x"), nil)
	wantError(t, "unknown authority", err, keys.ErrConfig, "certificate of the service is not trusted")
	t.Setenv("VAULT_CACERT", filepath.Join(t.TempDir(), "none"))
	_, err = open(t.Context(), uri, kmstest.Quick())
	wantError(t, "no such authority", err, keys.ErrConfig, "VAULT_CACERT")

	t.Setenv("VAULT_CACERT", "")
	_, err = mustOpen(t, Scheme+strings.TrimPrefix(plain.address, "http://")+"/transit/keys/one").DecryptWithContext(t.Context(), []byte("vault:v1:x"), nil)
	wantError(t, "no TLS there", err, keys.ErrConfig, "does not speak TLS", plain.root)
}

func TestURIs(t *testing.T) {
	for _, c := range []struct{ uri, addr, want string }{
		{"hcvault://h:8200/transit/keys/a", "", "https://h:8200"},
		{"hcvault://h:8200/deep/mount/keys/a", "", "https://h:8200"},
		{"hcvault://h:8200/transit/keys/a", "http://h:8200", "http://h:8200"},
		{"hcvault://h:8200/transit/keys/a", "https://H:8200/", "https://H:8200"},
		{"hcvault:///transit/keys/a", "https://x:1", "https://x:1"},
		{"hcvault://h:8200/transit/keys/a", "https://other:8200", "!VAULT_ADDR names host other:8200"},
		{"hcvault://h:8200/transit/keys/a", "h:8200", "!VAULT_ADDR is not a URL"},
		{"hcvault:///transit/keys/a", "", "!names a host"},
		{"hcvault://h:8200/transit/a", "", "!not the path of a transit key"},
		{"hcvault://h:8200/keys/a", "", "!not the path of a transit key"},
		{"hcvault://h:8200/transit/keys/", "", "!not the path of a transit key"},
		{"hcvault://h:8200/transit/../sys/keys/a", "", "!not the path of a transit key"},
		{"hcvault://h:8200/transit/keys/a%2f..%2fb", "", "!not the path of a transit key"},
		{"hcvault://h:8200/transit/keys/a?x=1", "", "!not the path of a transit key"},
		{"hcvault://s3cr3t@h:8200/transit/keys/a", "", "!VAULT_TOKEN"},
		{"hcvault://u:s3cr3t@h:8200/transit/keys/a", "", "!VAULT_TOKEN"},
		{"hcvault://h:8200/transit/keys/a?token=s3cr3t", "", "!VAULT_TOKEN"},
		{"https://h:8200/transit/keys/a", "", "!not the path of a transit key"},
	} {
		environment(t, "VAULT_ADDR", c.addr)
		op, err := open(t.Context(), c.uri, kmstest.Quick())
		if want, bad := strings.CutPrefix(c.want, "!"); bad {
			wantError(t, c.uri, err, keys.ErrConfig, want, "s3cr3t")
			continue
		}
		if err != nil || op.URI() != c.uri {
			t.Errorf("%s: %v, %v", c.uri, op, err)
			continue
		}
		u, err := parse(c.uri)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := address(c.uri, u, ""); err != nil || got != c.want {
			t.Errorf("%s with VAULT_ADDR=%s: %s, %v; want %s", c.uri, c.addr, got, err, c.want)
		}
	}
	environment(t, "VAULT_AGENT_ADDR", "http://127.0.0.1:8100")
	u, err := parse("hcvault://h:8200/transit/keys/a")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := address("", u, os.Getenv("VAULT_AGENT_ADDR")); err != nil || got != "http://127.0.0.1:8100" {
		t.Errorf("with an agent: %s, %v", got, err)
	}
}

// What is not a proper answer is told without repeating it: it may hold what
// was sent.
func TestBadServers(t *testing.T) {
	token := "hvs.CAESIJ5ecretTokenOfTheTest"
	echo := func(status int, wrap string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			w.WriteHeader(status)
			fmt.Fprintf(w, wrap, strings.ReplaceAll(string(body), `"`, `'`)+" "+r.Header.Get("X-Vault-Token"))
		}
	}
	text := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status); io.WriteString(w, body) }
	}
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		kind    error
		words   string
		calls   int32
	}{
		{"empty answer", text(200, ""), keys.ErrUnavailable, "not the key service's", 3},
		{"no content", text(204, ""), keys.ErrUnavailable, "not the key service's", 3},
		{"a page", text(200, "<html>welcome</html>"), keys.ErrUnavailable, "not the key service's", 3},
		{"no data", text(200, `{"data":{}}`), keys.ErrUnavailable, "not the key service's", 3},
		{"wrong types", text(200, `{"data":{"ciphertext":5,"plaintext":[]}}`), keys.ErrUnavailable, "not the key service's", 3},
		{"not base64", text(200, `{"data":{"ciphertext":"","plaintext":"!5ecret"}}`), keys.ErrUnavailable, "not the key service's", 3},
		{"too long", text(200, `{"data":{"ciphertext":"`+strings.Repeat("A", 2<<20)+`"}}`), keys.ErrUnavailable, "not the key service's", 3},
		{"not found, empty", text(404, ""), keys.ErrNotFound, "check mount and name", 1},
		{"echoed page", echo(500, "<html>%s</html>"), keys.ErrUnavailable, "HTTP 500", 3},
		{"echoed error", echo(400, `{"errors":["bad request: %s"]}`), keys.ErrConfig, "HTTP 400", 1},
		{"sealed", text(503, `{"errors":["Vault is sealed"]}`), keys.ErrUnavailable, "Vault is sealed; check that the server is unsealed", 3},
		{"throttled", text(429, `{"errors":["request path \"x\": rate limit quota exceeded"]}`), keys.ErrUnavailable, "quota", 3},
	} {
		var calls atomic.Int32
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { calls.Add(1); c.handler(w, r) }))
		environment(t, "VAULT_ADDR", s.URL, "VAULT_TOKEN", token)
		op := mustOpen(t, Scheme+"/transit/keys/one")
		_, err := op.EncryptWithContext(t.Context(), []byte(secretText), []byte("place"))
		wantError(t, c.name, err, c.kind, c.words, token, "5ecret")
		if calls.Load() != c.calls {
			t.Errorf("%s: called %d times, want %d", c.name, calls.Load(), c.calls)
		}
		_, err = op.DecryptWithContext(t.Context(), []byte("vault:v1:AAAA"), []byte("place"))
		wantError(t, c.name+", decrypting", err, c.kind, c.words, token, "5ecret")
		s.Close()
	}
}

// A redirect would carry the plaintext and the token to somebody else.
func TestRedirect(t *testing.T) {
	var reached atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	defer other.Close()
	s := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer s.Close()
	environment(t, "VAULT_ADDR", s.URL, "VAULT_TOKEN", "s.t0ken")
	_, err := mustOpen(t, Scheme+"/transit/keys/one").EncryptWithContext(t.Context(), []byte(secretText), nil)
	wantError(t, "redirect", err, keys.ErrConfig, "redirects are not followed", "s.t0ken")
	if reached.Load() {
		t.Error("the redirect was followed")
	}
}

func TestAwayForAMoment(t *testing.T) {
	tr := &transit{}
	up := startProtocol(t, tr)
	var left atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch left.Add(-1) {
		case 1:
			refuse(w, 503, "Vault is sealed")
		case 0:
			panic(http.ErrAbortHandler) // the connection ends within the answer
		default:
			tr.ServeHTTP(w, r)
		}
	}))
	defer s.Close()
	environment(t, "VAULT_ADDR", s.URL, "VAULT_TOKEN", up.root)
	op := mustOpen(t, Scheme+"/transit/keys/one")
	left.Store(2)
	sealed, err := op.EncryptWithContext(t.Context(), []byte(secretText), []byte("place"))
	if err != nil {
		t.Fatal(err)
	}
	left.Store(2)
	if opened, err := op.DecryptWithContext(t.Context(), sealed, []byte("place")); err != nil || string(opened) != secretText {
		t.Errorf("%q, %v", opened, err)
	}
	s.Close()
	_, err = op.DecryptWithContext(t.Context(), sealed, []byte("place"))
	wantError(t, "nobody listens", err, keys.ErrUnavailable, "check the address")
}

// A server that takes the request and does not answer holds up nobody who
// gives up, nor anybody for longer than the policy says.
func TestNoAnswer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var stop atomic.Pointer[context.CancelFunc]
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // so that the end of the connection is noticed
		(*stop.Load())()
		<-r.Context().Done()
	}))
	defer s.Close()
	environment(t, "VAULT_ADDR", s.URL, "VAULT_TOKEN", "s.t0ken")
	stop.Store(&cancel)
	_, err := mustOpen(t, Scheme+"/transit/keys/one").DecryptWithContext(ctx, []byte("vault:v1:AAAA"), nil)
	wantError(t, "gave up", err, context.Canceled, "")

	nothing := context.CancelFunc(func() {})
	stop.Store(&nothing)
	short := kmstest.Quick()
	short.Each = 10 * time.Millisecond
	op, err := open(t.Context(), Scheme+"/transit/keys/one", short)
	if err != nil {
		t.Fatal(err)
	}
	_, err = op.DecryptWithContext(t.Context(), []byte("vault:v1:AAAA"), nil)
	wantError(t, "silent", err, keys.ErrUnavailable, "no answer in time")
}
