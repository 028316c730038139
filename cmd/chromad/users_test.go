package main

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// users runs a command of chromad users, which is to work, and returns what it
// printed.
func users(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if status := command(t.Context(), append([]string{"users"}, args...), &stdout, &stderr); status != exitOK {
		t.Fatalf("users %q: status %d, %s", args, status, &stderr)
	}
	return strings.TrimSpace(stdout.String())
}

func usersRefused(t *testing.T, want string, args ...string) {
	t.Helper()
	var stderr bytes.Buffer
	if status := command(t.Context(), append([]string{"users"}, args...), io.Discard, &stderr); status == exitOK || !strings.Contains(stderr.String(), want) {
		t.Errorf("users %q: status %d, %s", args, status, &stderr)
	}
}

// statusWith asks with an API key.
func statusWith(t *testing.T, method, url, key, body string) int {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("X-Chroma-Token", key)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

// From an open store to one with users, by the commands of the help, while a
// server runs and while none does.
func TestUsers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s := start(t, "--path", path)
	collections := s.address + "/api/v2/tenants/default_tenant/databases/default_database/collections"
	want := func(status int, method, url, key, body string) {
		t.Helper()
		if got := statusWith(t, method, url, key, body); got != status {
			t.Errorf("%s %s: %d, want %d", method, url, got, status)
		}
	}
	want(200, "POST", collections, "", `{"name":"docs"}`)
	ada := users(t, "add", path, "ada", "--role", "admin", "--key")
	want(401, "GET", collections, "", "")
	want(200, "GET", collections, ada, "")
	want(200, "GET", s.address+"/api/v2/heartbeat", "", "")
	app := users(t, "add", path, "app", "--role", "reader", "--on", "default_tenant/default_database", "--key", "--expires", "90d")
	want(200, "GET", collections, app, "")
	want(403, "POST", collections, app, `{"name":"more"}`)
	users(t, "grant", path, "app", "--role", "editor", "--on", "default_tenant")
	want(200, "POST", collections, app, `{"name":"more"}`)
	users(t, "ungrant", path, "app", "--role", "editor", "--on", "default_tenant")
	want(403, "POST", collections, app, `{"name":"again"}`)
	id := app[len("chromad_"):][:8]
	turned := users(t, "rotate", path, id)
	want(401, "GET", collections, app, "")
	want(200, "GET", collections, turned, "")
	s.finish(t)

	users(t, "revoke", path, turned[len("chromad_"):][:8])
	second := users(t, "key", path, "app", "--name", "laptop")
	list := users(t, "list", path)
	for _, text := range []string{"ada", "admin", "everywhere", "reader", "default_tenant/default_database/*", "laptop", second[len("chromad_"):][:8]} {
		if !strings.Contains(list, text) {
			t.Errorf("the list does not show %q:\n%s", text, list)
		}
	}
	if strings.Contains(list, second) {
		t.Error("the list shows a secret")
	}
	exported := users(t, "export", path)
	file := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, []byte(exported), 0o600); err != nil {
		t.Fatal(err)
	}
	users(t, "remove", path, "app")
	s = start(t, "--path", path)
	collections = s.address + "/api/v2/tenants/default_tenant/databases/default_database/collections"
	want(401, "GET", collections, turned, "")
	want(401, "GET", collections, second, "")
	users(t, "import", path, file)
	want(200, "GET", collections, second, "")
	if again := users(t, "export", path); again != exported {
		t.Errorf("exported\n%s\nand after an import\n%s", exported, again)
	}
	users(t, "disable", path, "app")
	want(401, "GET", collections, second, "")
	users(t, "enable", path, "app")
	want(200, "GET", collections, second, "")
	s.finish(t)

	usersRefused(t, "last user", "remove", newStoreWithUser(t), "ada")
	usersRefused(t, "there already", "add", path, "ada", "--role", "reader")
	usersRefused(t, "no role", "add", path, "bob", "--role", "emperor")
	usersRefused(t, "what may the user do", "add", path, "bob")
	usersRefused(t, "no more", "add", path, "bob", "--role", "reader", "--on", "a/b/c/d")
	usersRefused(t, "write * for any", "add", path, "bob", "--role", "reader", "--on", "a//c")
	usersRefused(t, "NAME is missing", "key", path)
	usersRefused(t, "one argument too many", "list", path, "x")
	usersRefused(t, "no store in this directory", "list", t.TempDir())
	usersRefused(t, "2027-01-31", "key", path, "ada", "--expires", "tomorrow")
	if err := os.WriteFile(file, []byte("version: 1\nusers:\n- name: eve\n  admin: true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	usersRefused(t, "unknown field", "import", path, file)
}

func newStoreWithUser(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store")
	start(t, "--path", path).finish(t)
	users(t, "add", path, "ada", "--role", "admin")
	return path
}

// Whoever other machines can reach needs TLS and somebody who may come in.
func TestReachable(t *testing.T) {
	certs := devCertsIn(t)
	withUser := newStoreWithUser(t)
	empty := filepath.Join(t.TempDir(), "store")
	start(t, "--path", empty).finish(t)
	for _, c := range []struct {
		name, path string
		flags      []string
		want       string // "" starts
	}{
		{"in the clear", withUser, nil, "read on the way"},
		{"nobody", empty, serverFlags(certs), "has no users"},
		{"no store", filepath.Join(t.TempDir(), "none"), serverFlags(certs), "has no users"},
		{"TLS and users", withUser, serverFlags(certs), ""},
		{"certificates of clients", empty, serverFlags(certs, "--tls-client-ca", filepath.Join(certs, "ca.pem")), ""},
		{"insecure", empty, []string{"--insecure"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append([]string{"--path", c.path, "--host", "0.0.0.0"}, c.flags...)
			if c.want == "" {
				start(t, args...).finish(t)
				return
			}
			var stderr bytes.Buffer
			status := command(t.Context(), append([]string{"run", "--port", "0"}, args...), io.Discard, &stderr)
			if status != exitFailed || !strings.Contains(stderr.String(), c.want) {
				t.Errorf("status %d, %s", status, &stderr)
			}
			if c.name == "no store" {
				if _, err := os.Stat(c.path); err == nil {
					t.Error("a store was made")
				}
			}
		})
	}
}

// A certificate may be a user.
func TestCertificateUser(t *testing.T) {
	certs := devCertsIn(t, "--client", "ada's laptop", "--client", "bob")
	path := newStoreWithUser(t)
	users(t, "certificates", path, "ada", "--cn", "ada's laptop")
	s := start(t, append(serverFlags(certs, "--tls-client-ca", filepath.Join(certs, "ca.pem")), "--path", path)...)
	defer s.finish(t)
	for name, want := range map[string]int{"ada's laptop": 200, "bob": 401} {
		res, err := client(t, certs, name).Get(s.address + "/api/v2/auth/identity")
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != want || want == 200 && !strings.Contains(string(text), `"user_id":"ada"`) {
			t.Errorf("%s: %s %s", name, res.Status, text)
		}
	}
}

func TestLegacyAuth(t *testing.T) {
	t.Setenv("CHROMA_SERVER_AUTHN_CREDENTIALS", "admin:hash")
	var stderr bytes.Buffer
	path := filepath.Join(t.TempDir(), "store")
	if status := command(t.Context(), []string{"run", "--port", "0", "--path", path}, io.Discard, &stderr); status != exitFailed ||
		!strings.Contains(stderr.String(), "chromad users") || strings.Contains(stderr.String(), "hash") {
		t.Errorf("status %d, %s", status, &stderr)
	}
	t.Setenv("CHROMA_SERVER_AUTHN_CREDENTIALS", "")
	for _, line := range []string{"chroma_server_authn_provider: x", "chroma_server_authz_config: x", "CHROMA_SERVER_AUTH_PROVIDER: x"} {
		o := defaultOptions()
		if err := o.readYAML("f", []byte(line)); err == nil || !strings.Contains(err.Error(), "chromad users") {
			t.Errorf("%s: %v", line, err)
		}
	}
	if err := legacyAuth([]string{"CHROMA_HOST=x", "PATH=/bin", "CHROMA_SERVER_AUTHN_PROVIDER="}); err != nil {
		t.Error(err)
	}
}

func TestParseWhen(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{"": {}, "90d": now.AddDate(0, 0, 90), "12h": now.Add(12 * time.Hour),
		"2027-01-31": time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC), "2027-01-31T10:00:00Z": time.Date(2027, 1, 31, 10, 0, 0, 0, time.UTC)} {
		if got, err := parseWhen(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"0d", "-1d", "x", "-5h", "1", "99999999d"} {
		if got, err := parseWhen(text, now); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}
