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

// The first user may be made before the store: then it never is without users.
func TestUsersFlags(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	ada := users(t, "add", path, "ada", "--role", "admin", "--key", "--attribute", "team=red,blue", "--attribute", "office=Berlin",
		"--limit", "requests=100", "--limit", "bytes=50MiB", "--limit", "collection:query:concurrent=2", "--limit", "db:*:rows=-1")
	list := users(t, "list", path)
	for _, text := range []string{"team red, blue", "office Berlin", "requests=100", "bytes=52428800", "collection:query:concurrent=2", "db:*:rows=-1"} {
		if !strings.Contains(strings.Join(strings.Fields(list), " "), text) {
			t.Errorf("the list does not show %q:\n%s", text, list)
		}
	}
	s := start(t, "--path", path)
	defer s.finish(t)
	identity := s.address + "/api/v2/auth/identity"
	if got := statusWith(t, "GET", identity, "", ""); got != 401 {
		t.Errorf("without a key: %d", got)
	}
	if got := statusWith(t, "GET", identity, ada, ""); got != 200 {
		t.Errorf("with the key: %d", got)
	}
	usersRefused(t, "leave nobody", "disable", path, "ada")
	usersRefused(t, "leave nobody", "ungrant", path, "ada", "--role", "admin")
	users(t, "limits", path, "ada")
	users(t, "attributes", path, "ada", "--attribute", "team=green")
	if list := users(t, "list", path); strings.Contains(list, "limit") || strings.Contains(list, "office") || !strings.Contains(list, "green") {
		t.Errorf("after a change:\n%s", list)
	}
	users(t, "disable", path, "ada", "--force")
	for want, args := range map[string][]string{
		"write name=value":   {"--attribute", "team"},
		"no bound":           {"--limit", "speed=3"},
		"no number":          {"--limit", "requests=many"},
		"write bound=number": {"--limit", "requests"},
		"unknown action":     {"--limit", "collection:fly:requests=3"},
		"a number above 0":   {"--limit", "requests=-2"},
	} {
		usersRefused(t, want, append([]string{"add", path, "bob", "--role", "reader"}, args...)...)
	}
	elsewhere := t.TempDir()
	if err := os.WriteFile(filepath.Join(elsewhere, "chroma.sqlite3"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	usersRefused(t, "Chroma's own server", "add", elsewhere, "ada", "--role", "admin")
}

// What is over the API is what the command line does: an export of the one is
// taken by the other.
func TestUsersOverAPI(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	ada := users(t, "add", path, "ada", "--role", "admin", "--key")
	s := start(t, "--path", path)
	defer s.finish(t)
	if got := statusWith(t, "POST", s.address+"/api/v2/chromad/access", ada, `{"do":"add-user","user":"bob","roles":[{"role":"reader"}]}`); got != 200 {
		t.Fatalf("%d", got)
	}
	before := users(t, "export", path)
	req, err := http.NewRequest("GET", s.address+"/api/v2/chromad/access?format=yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Chroma-Token", ada)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 || !bytes.Contains(text, []byte("hash: hidden")) {
		t.Fatalf("%d %s, %v", res.StatusCode, text, err)
	}
	file := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	users(t, "import", path, file)
	if after := users(t, "export", path); after != before {
		t.Errorf("%s\nwas\n%s", after, before)
	}
}
