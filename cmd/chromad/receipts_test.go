package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/engine/keys"
)

// said runs a command and returns its exit status and all that it printed.
func said(t *testing.T, args ...string) (int, string) {
	t.Helper()
	var out bytes.Buffer
	status := command(context.Background(), args, &out, &out)
	return status, out.String()
}

// expect wants a status and texts.
func expect(t *testing.T, status int, texts []string, args ...string) {
	t.Helper()
	got, out := said(t, args...)
	if got != status {
		t.Errorf("%q: status %d, want %d: %s", args, got, status, out)
	}
	for _, text := range texts {
		if !strings.Contains(out, text) {
			t.Errorf("%q does not say %q: %s", args, text, out)
		}
	}
}

// visit opens the store, does something, and closes it.
func visit(t *testing.T, path, key string, do func(db *engine.DB) error) {
	t.Helper()
	op, err := keys.OpenFile(key)
	if err != nil {
		t.Fatal(err)
	}
	db, err := engine.Open(path, &engine.Options{Keys: op})
	if err != nil {
		t.Fatal(err)
	}
	if err := do(db); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// A collection is deleted and erased; its receipt is handed out and checked
// with the public key alone; the store is clean and an old copy is not.
func TestErasureIsVerified(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	store, key := at("store"), at("key")
	expect(t, exitOK, nil, "keys", "create", "--out", key)
	visit(t, store, key, func(db *engine.DB) error {
		c, err := db.Default().Create(ctx, "customers", engine.Spec{})
		if err != nil {
			return err
		}
		return c.Add(ctx, engine.Record{ID: "1", Embedding: []float32{1}}, engine.Record{ID: "2", Embedding: []float32{2}})
	})
	if err := os.CopyFS(at("copy"), os.DirFS(store)); err != nil {
		t.Fatal(err)
	}
	expect(t, exitOK, []string{"no receipts"}, "receipts", store, "--keys", key)
	visit(t, store, key, func(db *engine.DB) error { return db.Default().Delete(ctx, "customers") })
	expect(t, exitOK, []string{"no file in", "snapshots, copies and backups may"}, "compact", store, "--keys", key, "--erase-now")
	expect(t, exitOK, []string{"collection", "2 rows"}, "receipts", store, "--keys", key, "--out", at("out"))
	expect(t, exitOK, nil, "receipts", store, "--keys", key, "--out", at("out"))
	expect(t, exitOK, nil, "keys", "public", store, "--keys", key, "--out", at("public"))
	receipt := filepath.Join(at("out"), "0000000000000001.json")
	verify := []string{"verify-erasure", receipt, "--public-key", at("public")}
	expect(t, exitOK, []string{"the signature is good", "none of what was erased", "the receipt names it"},
		append(verify, "--path", store, "--name", "customers")...)
	expect(t, exitFailed, []string{"the receipt does not name it"}, append(verify, "--name", "customer")...)
	expect(t, exitFailed, []string{"records of collection", "key of collection", "readable with the operator's key file://", "keys rotate"},
		append(verify, "--path", store, "--path", at("copy"))...)
	expect(t, exitFailed, []string{"no file of store"}, append(verify, "--path", at("out"))...)

	text, err := os.ReadFile(receipt)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at("forged"), bytes.Replace(text, []byte(`"rows":2`), []byte(`"rows":3`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, exitFailed, []string{"signature of receipt 1"}, "verify-erasure", at("forged"), "--public-key", at("public"))
	expect(t, exitFailed, nil, "verify-erasure", receipt, "--public-key", receipt)
	expect(t, exitUsage, []string{"--public-key is missing"}, "verify-erasure", receipt)
	expect(t, exitUsage, []string{"one receipt"}, "verify-erasure", "--public-key", at("public"))
	if err := os.WriteFile(receipt, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, exitFailed, []string{"left as it is"}, "receipts", store, "--keys", key, "--out", at("out"))
}

func TestEraseWithin(t *testing.T) {
	for text, want := range map[string]string{"24h": "24h0m0s", "off": "off", "90m": "1h30m0s"} {
		o, err := parseOptions([]string{"--erase-within", text})
		if err != nil || o.eraseWithin.String() != want {
			t.Errorf("%s: %v, %v", text, o, err)
		}
	}
	for _, text := range []string{"0", "-1h", "1s", "soon", ""} {
		if _, err := parseOptions([]string{"--erase-within", text}); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("erase_within: off\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if o, err := parseOptions([]string{file}); err != nil || o.eraseWithin.Duration >= 0 {
		t.Errorf("%v, %v", o, err)
	}
}
