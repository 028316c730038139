package engine

import (
	"fmt"
	"testing"
)

// TestScansFlush: a memtable that is only read becomes a segment when queries
// have scanned it often enough; one that is smaller than a graph never does.
func TestScansFlush(t *testing.T) {
	for _, c := range []struct {
		rows int
		want bool
	}{{150, true}, {99, false}} {
		t.Run(fmt.Sprint(c.rows), func(t *testing.T) {
			flushed := make(chan FlushEvent, 10)
			db, err := Open(t.TempDir(), &Options{GraphMin: 100, Events: &Events{Flushed: func(e FlushEvent) { flushed <- e }}})
			check(t, err)
			defer db.Close()
			words := newCollection(t, db, "c")
			for i := range c.rows {
				check(t, words.Add(t.Context(), Record{ID: fmt.Sprint(i), Embedding: []float32{float32(i), 1}}))
			}
			ask := func(n int) {
				for range n {
					if _, err := words.Query(t.Context(), []float32{1, 1}, 1, nil); err != nil {
						t.Fatal(err)
					}
				}
			}
			ask(scansBeforeFlush - 1)
			db.jobs.mu.Lock()
			early := len(db.jobs.flush) > 0 || len(flushed) > 0
			db.jobs.mu.Unlock()
			if early {
				t.Error("flushed too early")
			}
			ask(1)
			if c.want {
				if e := <-flushed; e.Rows != c.rows {
					t.Errorf("%d rows flushed", e.Rows)
				}
				ask(scansBeforeFlush) // there is nothing left to scan
			}
			check(t, db.Close())
			if n := len(flushed); c.want && n != 0 || !c.want && n != 1 { // the one of Close
				t.Errorf("%d flushes more", n)
			}
		})
	}
}
