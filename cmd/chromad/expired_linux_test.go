package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/filter"
)

// What the background deletes because its time is over is in the audit log,
// although nobody asked for it, and what is deleted while the store is being
// opened, before there is a log to write to, is so too.
func TestExpiredAudited(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "store")
	db, err := engine.Open(path, nil)
	must(t, err)
	c, err := db.Default().Create(ctx, "docs", engine.Spec{})
	must(t, err)
	must(t, c.SetRetention(ctx, &engine.Retention{}))
	over := time.Now().Unix() + 2
	for i := range 3 {
		must(t, c.Add(ctx, engine.Record{ID: fmt.Sprint(i), Embedding: []float32{1}, Metadata: engine.Metadata{engine.DefaultRetentionKey: filter.Int(over)}}))
	}
	must(t, db.Close())
	time.Sleep(time.Until(time.Unix(over, 0)))
	s := start(t, "--path", path)
	for end := time.Now().Add(20 * time.Second); !strings.Contains(ask(t, "GET", s.address+"/metrics", ""), "chromad_expired_records_total 3"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the background deletes nothing")
		}
	}
	s.finish(t)
	if got, want := recordedExpiries(t, path), []string{"system allowed default_tenant/default_database/docs 3"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
