package main

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server/admin"
)

// retention runs a command of chromad retention and returns what it printed.
func retention(t *testing.T, want int, args ...string) string {
	t.Helper()
	status, out, errs := here(t.Context(), append([]string{"retention"}, args...)...)
	if status != want {
		t.Errorf("retention %q: status %d, %s%s", args, status, out, errs)
	}
	return out + errs
}

// By the commands of the help, while a server runs and while none does: what one
// says the other one holds to.
func TestRetentionCommands(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s := start(t, "--path", path)
	collections := s.address + "/api/v2/tenants/default_tenant/databases/default_database/collections"
	if got := statusWith(t, http.MethodPost, collections, "", `{"name":"docs"}`); got != 200 {
		t.Fatal(got)
	}
	has := func(text string, parts ...string) {
		t.Helper()
		for _, p := range parts {
			if !strings.Contains(text, p) {
				t.Errorf("no %q in %s", p, text)
			}
		}
	}
	refused := func() {
		t.Helper()
		if got := statusWith(t, http.MethodDelete, collections+"/docs", "", ""); got != http.StatusConflict {
			t.Errorf("a collection under hold was deleted: %d", got)
		}
	}
	has(retention(t, exitOK, "show", path), "no collection has a retention")
	has(retention(t, exitOK, "set", path, "docs", "--default", "30d"), "default_tenant/default_database/docs", "expires_at", "30d")
	has(retention(t, exitOK, "hold", path, "docs", "--reason", "Smith v. Acme"), `"Smith v. Acme"`)
	has(retention(t, exitFailed, "hold", path, "docs", "--reason", "again"), "already exists")
	has(retention(t, exitFailed, "set", path, "docs", "--key", "other"), "under legal hold")
	refused()
	var k admin.KeptCollection
	if err := json.Unmarshal([]byte(retention(t, exitOK, "show", path, "docs", "--json")), &k); err != nil || !k.Held || k.Default != 30*86400 || k.Key != engine.DefaultRetentionKey {
		t.Errorf("%+v, %v", k, err)
	}
	s.finish(t)
	for _, args := range [][]string{{"show", path}, {"show", path, "default_tenant/default_database/docs"}} {
		has(retention(t, exitOK, args...), "30d", "Smith v. Acme")
	}
	_, out, _ := here(t.Context(), "inspect", path, "collections")
	has(out, "HELD SINCE", "expires_at", "20")
	has(retention(t, exitOK, "release", path, "docs"), "expires_at")
	has(retention(t, exitFailed, "release", path, "docs"), "not found")
	has(retention(t, exitFailed, "hold", path, "nothing", "--reason", "x"), "not found")
	has(retention(t, exitOK, "off", path, "docs"), "-  ")
	has(retention(t, exitOK, "hold", path, "docs", "--reason", "closed store"), "closed store")
	s = start(t, "--path", path)
	collections = s.address + "/api/v2/tenants/default_tenant/databases/default_database/collections"
	refused()
	for _, args := range [][]string{{"hold", path, "docs"}, {"hold", path}, {"set", path, "docs", "--default", "x"}, {"set", path, "a/b"}, {"show", path, "docs", "docs"}, {"release", path, "a//b"}} {
		retention(t, exitUsage, args...)
	}
}

// Keys of a store with a collection under hold are not destroyed: that would
// destroy the collection.
func TestHoldKeepsKeys(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	key, path := filepath.Join(dir, "key"), filepath.Join(dir, "store")
	if status, _, errs := here(ctx, "keys", "create", "--out", key); status != exitOK {
		t.Fatal(errs)
	}
	op, err := openKey(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	db, err := engine.Open(path, &engine.Options{Keys: op})
	if err != nil {
		t.Fatal(err)
	}
	c, err := db.Default().Create(ctx, "docs", engine.Spec{})
	if err == nil {
		err = c.PlaceHold(ctx, "a case")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := engine.DestroyKeys(ctx, path, op); err == nil || !strings.Contains(err.Error(), "under legal hold") {
		t.Fatalf("keys of a store with a hold: %v", err)
	}
	if out := retention(t, exitOK, "release", path, "docs", "--keys", key); !strings.Contains(out, "docs") {
		t.Error(out)
	}
	if err := engine.DestroyKeys(ctx, path, op); err != nil {
		t.Error(err)
	}
}
