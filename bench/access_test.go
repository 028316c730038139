package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server"
	"github.com/chromad/chromad/server/access"
	"github.com/chromad/chromad/server/audit"
)

// BenchmarkAccess measures what an API key costs: the same queries to two
// servers over one store, without users and with a thousand, in turn, and the
// ratio of their throughput; beside it the ratio of the processor time of both
// sides, which other work on the machine moves less. Failures are counted and
// the audit log is on, as chromad run has it.
//
//	go test ./bench -run '^$' -bench Access -benchtime 60x
//	go test ./bench -run '^$' -bench Access -benchtime 60x -http.rows 2000   # queries that cost little beside
func BenchmarkAccess(b *testing.B) {
	s, err := readSet(*httpData)
	if err != nil {
		b.Fatal(err)
	}
	policy, key := manyUsers(b, 1000)
	who, err := access.NewDirectory(policy, access.Outside{Failures: 10})
	if err != nil {
		b.Fatal(err)
	}
	db := openFresh(b)
	open := &wire{address: serveOver(b, db, server.Config{Audit: audit.New(db, audit.Defaults())}), set: s}
	closed := &wire{address: serveOver(b, db, server.Config{Access: who, Audit: audit.New(db, audit.Defaults())}), set: s}
	path := open.fill(b, *httpRows)
	requests := open.queries(path, `"include":["distances"]`)
	with := make([][]byte, len(requests))
	for i, r := range requests {
		with[i] = bytes.Replace(r, []byte("\r\nHost: "), []byte("\r\nX-Chroma-Token: "+key+"\r\nHost: "), 1)
	}
	const n = 1000
	var took, worked [2][]float64
	var ratios, busy []float64
	ask := func(which int) {
		began, before := time.Now(), processor()
		if which == 0 {
			open.ask(b, requests, n, 1)
		} else {
			closed.ask(b, with, n, 1)
		}
		took[which] = append(took[which], time.Since(began).Seconds())
		worked[which] = append(worked[which], (processor() - before).Seconds())
	}
	for round := 0; b.Loop(); round++ {
		ask(round % 2)
		ask(1 - round%2)
		ratios = append(ratios, took[0][round]/took[1][round])
		busy = append(busy, worked[0][round]/max(worked[1][round], 1e-9))
	}
	slices.Sort(ratios)
	slices.Sort(busy)
	for i, name := range []string{"open-q/s", "key-q/s"} {
		slices.Sort(took[i])
		b.ReportMetric(n/took[i][len(took[i])/2], name)
	}
	b.ReportMetric(ratios[len(ratios)/2], "ratio")
	b.ReportMetric(busy[len(busy)/2], "processor-ratio")
}

// manyUsers is a policy of so many users with a key each, and the key of one in the middle.
func manyUsers(b *testing.B, n int) (p *access.Policy, key string) {
	b.Helper()
	p = &access.Policy{Version: 1}
	for i := range n {
		k, secret, err := access.NewKey("bench", time.Now(), time.Time{})
		if err != nil {
			b.Fatal(err)
		}
		on := access.Scope{Tenant: "default_tenant", Database: "default_database", Collection: "wire-*"}
		p.Users = append(p.Users, access.User{Name: fmt.Sprint("user", i), Keys: []access.Key{k}, Roles: []access.Binding{{Role: "editor", On: on}}})
		if i == n/2 {
			key = secret
		}
	}
	return p, key
}

// openFresh opens a new store until the benchmark ends.
func openFresh(b *testing.B) *engine.DB {
	b.Helper()
	db, err := engine.Open(b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	return db
}

// serveOver starts a server over a store until the benchmark ends.
func serveOver(b *testing.B, db *engine.DB, c server.Config) string {
	b.Helper()
	c.Store, c.Log = server.EngineStore(db), slog.New(slog.NewTextHandler(io.Discard, nil))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- server.New(c).Serve(ctx, l) }()
	b.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return l.Addr().String()
}
