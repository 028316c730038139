package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromad/chromad/server/audit"
)

// auditLines are what chromad audit search prints, each in short.
func auditLines(t *testing.T, args ...string) (out []string) {
	t.Helper()
	for line := range strings.Lines(works(t, append([]string{"audit", "search", "--json"}, args...)...)) {
		var l audit.Line
		must(t, json.Unmarshal([]byte(line), &l))
		if l.Kind != audit.System {
			out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s %s %s%s", l.Kind, l.Action, l.Outcome, l.Method, l.Subject, l.Collection)))
		}
	}
	return out
}

// What is done through the port, through the admin socket and without a server
// is in one log, which is whole over all of them, a kill and a change of keys.
func TestAuditEverywhere(t *testing.T) {
	key, path := keyFile(t), filepath.Join(t.TempDir(), "store")
	p := spawn(t, path, "--keys", key)
	secret := strings.TrimSpace(works(t, "users", "add", path, "ada", "--role", "admin", "--key"))
	if status := statusWith(t, "POST", p.address+collectionsPath, secret, `{"name":"docs"}`); status != 200 {
		t.Fatal(status)
	}
	if status := statusWith(t, "POST", p.address+collectionsPath, "", `{"name":"more"}`); status != 401 {
		t.Fatal(status)
	}
	works(t, "retention", "hold", path, "docs", "--reason", "case 7")
	works(t, "keys", "rotate", path)
	works(t, "compact", path)
	if out := works(t, "audit", "tail", path); !strings.Contains(out, "allowed keys:rotate  by socket") {
		t.Errorf("tail: %s", out)
	}
	p.kill()
	works(t, "retention", "release", path, "docs", "--keys", key)
	works(t, "users", "key", path, "ada", "--keys", key)
	works(t, "keys", "rotate", path, "--keys", key)
	refused(t, "there is no user", "users", "disable", path, "nobody", "--keys", key)
	want := []string{
		"admin access:add-user allowed socket ada", "admin access:add-key allowed socket ada",
		"authentication authenticate allowed key", "access db:create_collection allowed key docs", "authentication authenticate denied",
		"admin retention:hold allowed socket docs", "admin keys:rotate allowed socket", "admin store:compact allowed socket",
		"admin retention:release allowed command docs", "admin access:add-key allowed command ada", "admin keys:rotate allowed command",
		"admin access:disable-user failed command nobody",
	}
	if got := auditLines(t, path, "--keys", key); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, tc := range []struct {
		args []string
		want []string
	}{
		{[]string{"--action", "retention:*", "--since", "1h"}, []string{want[5], want[8]}},
		{[]string{"--outcome", "denied", "--kind", "authentication"}, []string{want[4]}},
		{[]string{"--principal", "ada", "--collection", "docs"}, []string{want[3]}},
		{[]string{"--until", "2020-01-01"}, nil},
		{[]string{"--after", "1000000"}, nil},
		{[]string{"--limit", "1", "--kind", "admin"}, want[:1]},
	} {
		if got := auditLines(t, append([]string{path, "--keys", key}, tc.args...)...); !slices.Equal(got, tc.want) {
			t.Errorf("%q: %q, want %q", tc.args, got, tc.want)
		}
	}
	out := works(t, "audit", "verify", path, "--keys", key)
	if !strings.Contains(out, "the audit log is whole") || !strings.Contains(out, "signed up to") {
		t.Error(out)
	}
	point := strings.TrimSpace(out[strings.LastIndex(out, "last ")+5:])
	works(t, "audit", "verify", path, "--keys", key, "--expect", point)
	public := filepath.Join(t.TempDir(), "public")
	works(t, "keys", "public", path, "--keys", key, "--out", public)
	works(t, "audit", "verify", path, "--keys", key, "--public-key", public)
	refused(t, "a number and a hash", "audit", "verify", path, "--keys", key, "--expect", "7")
	if status, out, _ := tool(t, "", "audit", "verify", path, "--keys", key, "--expect", "3:"+strings.Repeat("0", 64)); status != exitFailed || !strings.Contains(out, "is another") {
		t.Errorf("%d %s", status, out)
	}
	file := filepath.Join(t.TempDir(), "out")
	works(t, "audit", "export", path, "--keys", key, "--out", file)
	text, err := os.ReadFile(file)
	if must(t, err); strings.Count(string(text), "\n") < len(want) || strings.Contains(string(text), secret[18:]) {
		t.Errorf("%s", text)
	}
	tampered(t, path, key)
}

// tampered cuts the newest file of the log off.
func tampered(t *testing.T, path, key string) {
	t.Helper()
	dir := filepath.Join(path, "audit", "log")
	files, err := os.ReadDir(dir)
	must(t, err)
	for _, f := range files {
		must(t, os.Remove(filepath.Join(dir, f.Name())))
	}
	if status, out, _ := tool(t, "", "audit", "verify", path, "--keys", key); status != exitFailed || !strings.Contains(out, "there is no file, but there was a log") {
		t.Errorf("%d %s", status, out)
	}
	if status, out, _ := tool(t, "", "check", path, "--keys", key); status == exitOK || !strings.Contains(out, "audit log: ") {
		t.Errorf("check: %d %s", status, out)
	}
	p := spawn(t, path, "--keys", key) // it serves all the same, and says so
	if out := works(t, "audit", "search", path, "--action", "audit:gap"); strings.Count(out, "\n") != 1 {
		t.Error(out)
	}
	p.kill()
}
