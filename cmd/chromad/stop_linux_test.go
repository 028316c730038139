package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server/audit"
)

// anchored wants the store to know how far its audit log goes.
func anchored(t *testing.T, path, key string) {
	t.Helper()
	ctx := t.Context()
	op, err := openKey(ctx, key)
	must(t, err)
	db, err := engine.Open(path, &engine.Options{Keys: op, ReadOnly: true})
	must(t, err)
	defer db.Close()
	b, err := db.Setting(ctx, "chromad audit")
	must(t, err)
	var at struct{ Seq uint64 }
	if len(b) > 0 {
		must(t, json.Unmarshal(b, &at))
	}
	if end, err := db.AuditEnd(ctx); err != nil || end == 0 || at.Seq != end {
		t.Errorf("the log ends with record %d, the store knows of %d; %v", end, at.Seq, err)
	}
}

// After a clean stop, and after a command on a stopped store, the end of the
// audit log cannot be cut off unseen.
func TestAuditAnchored(t *testing.T) {
	for _, key := range []string{"", keyFile(t)} {
		path, before := filepath.Join(t.TempDir(), "store"), filepath.Join(t.TempDir(), "before")
		works(t, "users", "add", path, "ada", "--role", "admin", "--keys="+key)
		anchored(t, path, key)
		must(t, os.CopyFS(before, os.DirFS(filepath.Join(path, "audit"))))
		s := start(t, "--path", path, "--keys="+key)
		s.finish(t)
		anchored(t, path, key)
		works(t, "users", "add", path, "bob", "--role", "reader", "--keys="+key)
		anchored(t, path, key)
		must(t, os.RemoveAll(filepath.Join(path, "audit")))
		must(t, os.CopyFS(filepath.Join(path, "audit"), os.DirFS(before)))
		if status, out, _ := tool(t, "", "audit", "verify", path, "--keys="+key); status != exitFailed {
			t.Errorf("cut off unseen: %s", out)
		}
	}
}

// While a server stops nothing expires that no event tells of, and what could
// not be written before is counted.
func TestStopRecordsAll(t *testing.T) {
	ctx := t.Context()
	var over expiries
	path := filepath.Join(t.TempDir(), "store")
	db, err := engine.Open(path, &engine.Options{ExpireEvery: time.Millisecond, Events: &engine.Events{Expired: func(e engine.ExpireEvent) { over.add(e.Collection, e.Records) }}})
	must(t, err)
	c, err := db.Default().Create(ctx, "docs", engine.Spec{})
	must(t, err)
	must(t, c.SetRetention(ctx, &engine.Retention{}))
	log := slog.New(slog.DiscardHandler)
	rec, err := defaultOptions().record(ctx, db, &over, log)
	must(t, err)
	must(t, c.Add(ctx, expired("a"), expired("b")))
	for end := time.Now().Add(20 * time.Second); db.Stats().Expired < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the background deletes nothing")
		}
	}
	rec.log.Subscribe(func(e audit.Event) {
		if e.Action == "server:stop" { // the last event: what goes from here on is in none
			must(t, c.Add(ctx, expired("c")))
			time.Sleep(200 * time.Millisecond)
		}
	})
	left, leave := context.WithCancel(ctx)
	leave()
	if rec.log.Record(left, audit.Event{Kind: audit.Admin, Action: "a", Outcome: audit.Allowed}) == nil {
		t.Error("who has left is recorded")
	}
	rec.close(log)
	if n := over.take(); len(n) > 0 || db.Stats().Expired != 2 {
		t.Errorf("%v are in no event, %d have expired", n, db.Stats().Expired)
	}
	must(t, db.Close())
	if got, want := recordedExpiries(t, path), []string{"system allowed default_tenant/default_database/docs 2"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if out := works(t, "audit", "search", path, "--action", "audit:lost"); !strings.Contains(out, "1 rows") {
		t.Errorf("of the one that was lost: %q", out)
	}
}

// What expires in a store that is opened by a server that then does not serve is
// in the audit log.
func TestExpiredUnserved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	overdue(t, path, nil)
	o := defaultOptions()
	o.path = path
	var over expiries
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	db, err := o.openStore(path, nil, planMemory(0), events(log, func() {}, &over))
	must(t, err)
	for end := time.Now().Add(20 * time.Second); db.Stats().Expired < 3; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the background deletes nothing")
		}
	}
	o.recordLast(db, &over, log)
	must(t, db.Close())
	if got, want := recordedExpiries(t, path), []string{"system allowed default_tenant/default_database/docs 3"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q; %s", got, want, &said)
	}
	anchored(t, path, "")
}
