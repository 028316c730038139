package main

import (
	"slices"
	"testing"
	"time"

	"github.com/chromad/chromad/server"
	"github.com/chromad/chromad/server/audit"
)

// BenchmarkAudit measures what recording every read costs: the same queries to
// servers over one store, one without an audit log, one that records nothing of
// reads, one whose events follow the answers to the disk, and one that waits
// for them, in turn.
//
//	go test ./bench -run '^$' -bench Audit -benchtime 20x -http.rows 2000
func BenchmarkAudit(b *testing.B) {
	s, err := readSet(*httpData)
	if err != nil {
		b.Fatal(err)
	}
	db := openFresh(b)
	names := []string{"none", "off", "acts", "all"}
	var wires []*wire
	for _, name := range names {
		c := audit.Defaults()
		c.Reads, c.Wait = name == "acts" || name == "all", name == "all"
		var log *audit.Log
		if name != "none" {
			log = audit.New(db, c)
			seen := make(chan audit.Event, 1000) // as rules for alerts take events
			log.Watch(func(e audit.Event) {
				select {
				case seen <- e:
				default:
				}
			})
		}
		wires = append(wires, &wire{address: serveOver(b, db, server.Config{Audit: log}), set: s})
	}
	path := wires[0].fill(b, *httpRows)
	requests := wires[0].queries(path, `"include":["distances"]`)
	const n, clients = 500, 4
	took := make([][]float64, len(names))
	for round := 0; b.Loop(); round++ {
		for i := range names {
			w := (i + round) % len(names)
			began := time.Now()
			wires[w].ask(b, requests, n, clients)
			took[w] = append(took[w], time.Since(began).Seconds())
		}
	}
	for i, name := range names {
		slices.Sort(took[i])
		b.ReportMetric(n/took[i][len(took[i])/2], name+"-q/s")
		if i > 0 {
			b.ReportMetric(took[0][len(took[0])/2]/took[i][len(took[i])/2], name+"-ratio")
		}
	}
}
