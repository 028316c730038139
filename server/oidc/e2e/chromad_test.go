package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// chromad is the binary over a store of its own, which trusts a provider.
type chromad struct {
	t   *testing.T
	url string
	log string
}

const settings = `
oidc:
- issuer: %s
  audience: chromad
  name_claim: email
  skew: 1s
  amr: [mfa]
  roles:
  - {claim: groups, value: authors, role: editor, on: default_tenant/default_database}
  - {claim: email, value: ada@example.org, role: admin}
require_mfa: ["system:reset"]
allow_reset: true
port: 0
`

var ready = regexp.MustCompile(`msg=ready address=(\S+)`)

func start(t *testing.T, issuer string) *chromad {
	t.Helper()
	dir := t.TempDir()
	binary, config, log := filepath.Join(dir, "chromad"), filepath.Join(dir, "chromad.yaml"), filepath.Join(dir, "log")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./cmd/chromad")
	build.Dir = filepath.Join("..", "..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.WriteFile(config, fmt.Appendf(nil, settings, issuer), 0o600); err != nil {
		t.Fatal(err)
	}
	to, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	run := exec.Command(binary, "run", config, "--path", filepath.Join(dir, "store"))
	run.Stderr = to
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		run.Process.Signal(syscall.SIGTERM)
		if err := run.Wait(); err != nil {
			t.Errorf("chromad: %v", err)
		}
	})
	for range 200 {
		if text, err := os.ReadFile(log); err == nil {
			if m := ready.FindSubmatch(text); m != nil {
				return &chromad{t, string(m[1]), log}
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	text, _ := os.ReadFile(log)
	t.Fatalf("chromad does not get ready:\n%s", text)
	return nil
}

func (c *chromad) ask(token, method, path, body string) (status int, answer string) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

func (c *chromad) want(want int, in, token, method, path, body string) {
	c.t.Helper()
	if status, answer := c.ask(token, method, path, body); status != want || !strings.Contains(answer, in) {
		c.t.Errorf("%s %s: %d %s, want %d %s", method, path, status, answer, want, in)
	}
}

// eventually asks until the status comes, for as long as a fetch of keys may be put off.
func (c *chromad) eventually(want int, token string) {
	c.t.Helper()
	var status int
	var answer string
	for range 150 {
		if status, answer = c.ask(token, "GET", identity, ""); status == want {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.t.Errorf("identity: %d %s after 15 s, want %d", status, answer, want)
}

const (
	identity    = "/api/v2/auth/identity"
	collections = "/api/v2/tenants/default_tenant/databases/default_database/collections"
)

// What tokens of a real provider let in, and what they do not.
func TestSignIn(t *testing.T) {
	p := newProvider(t, time.Hour)
	c := start(t, p.url)
	author, ada, eve := p.signIn("chromad", "one", ""), p.signIn("chromad", "one", "ada@example.org"), p.signIn("chromad", "one", "eve@example.org")

	c.want(401, "Unauthorized", "", "GET", identity, "")
	c.want(200, `"user_id":"kilgore@kilgore.trout"`, author, "GET", identity, "")
	c.want(200, `"user_id":"ada@example.org"`, ada, "GET", identity, "")

	// Groups and addresses decide about roles.
	c.want(200, `"name":"docs"`, author, "POST", collections, `{"name":"docs"}`)
	c.want(403, "db:create_database", author, "POST", "/api/v2/tenants/default_tenant/databases", `{"name":"more"}`)
	c.want(200, "", ada, "POST", "/api/v2/tenants/default_tenant/databases", `{"name":"more"}`)
	c.want(403, "", eve, "GET", collections, "")
	c.want(403, "several factors", ada, "POST", "/api/v2/reset", "")

	// A token for somebody else, or that was changed, or that only looks like one.
	c.want(401, "", p.signIn("another", "two", "ada@example.org"), "GET", identity, "")
	parts := strings.Split(eve, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	forged := base64.RawURLEncoding.EncodeToString(bytes.ReplaceAll(payload, []byte("eve@"), []byte("ada@")))
	c.eventually(401, parts[0]+"."+forged+"."+parts[2]) // once chromad has seen that there is no other key
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	c.want(401, "", none+"."+forged+".", "GET", identity, "")

	text, err := os.ReadFile(c.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{author, ada, eve} {
		if bytes.Contains(text, []byte(strings.Split(token, ".")[2])) {
			t.Error("a token is in the log")
		}
	}
}

// dex changes its keys while chromad runs: tokens of the new key count as soon
// as chromad may ask again, those of the old one until they end.
func TestRotationAndExpiry(t *testing.T) {
	p := newProvider(t, 12*time.Second)
	c := start(t, p.url)
	first := p.signIn("chromad", "one", "ada@example.org")
	c.want(200, "ada", first, "GET", identity, "")
	p.rotate()
	second := p.signIn("chromad", "one", "ada@example.org")
	if head := strings.Split(first, ".")[0]; strings.HasPrefix(second, head) {
		t.Fatal("dex has not changed its key")
	}
	c.eventually(200, second)
	c.eventually(401, first)
	c.eventually(401, second)
	c.want(200, "ada", p.signIn("chromad", "one", "ada@example.org"), "GET", identity, "")
}
