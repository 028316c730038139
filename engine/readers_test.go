package engine

import (
	"fmt"
	"sync"
	"testing"
)

// Segments that were read since the last one was closed are spared, as long as there
// are others.
func TestSegmentsSpared(t *testing.T) {
	ctx := t.Context()
	db, _ := newDB(t, Options{OpenSegments: 3})
	db.jobs.stop() // nobody else opens any
	var all []*Collection
	for i := range 5 {
		c := newCollection(t, db, fmt.Sprint(i))
		check(t, c.Add(ctx, rec("a", 1)))
		check(t, db.Flush(ctx))
		all = append(all, c)
	}
	check(t, db.readers.close())
	for _, step := range []struct {
		read int
		open string
	}{
		{0, "0"}, {1, "01"}, {2, "012"}, {1, "012"},
		{3, "123"},             // all were touched: the one that was opened first
		{1, "123"}, {4, "134"}, // 2 was not touched again
		{4, "134"}, {0, "034"}, // 1 was not, since
	} {
		if n, err := all[step.read].Query(ctx, []float32{1}, 1, nil); len(n) != 1 || err != nil {
			t.Fatalf("collection %d: %v, %v", step.read, n, err)
		}
		open := ""
		for i, c := range all {
			if c.state.Load().version.segments[0].users.Load() > 0 {
				open += fmt.Sprint(i)
			}
		}
		if open != step.open {
			t.Errorf("after reading %d, %q are open, want %q", step.read, open, step.open)
		}
	}
}

// Who takes segments, gives them back and closes them at the same time leaves as many
// open as may be, and none in use.
func TestSegmentsTakenTogether(t *testing.T) {
	ctx := t.Context()
	db, fs := newDB(t, Options{OpenSegments: 2})
	db.jobs.stop()
	var all []*Collection
	for i := range 5 {
		c := newCollection(t, db, fmt.Sprint(i))
		check(t, c.Add(ctx, rec(fmt.Sprint(i), 1)))
		check(t, db.Flush(ctx))
		all = append(all, c)
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range rounds(2000) {
				want := (i*(g+1) + g) % len(all)
				n, err := all[want].Query(ctx, []float32{1}, 1, nil)
				if err != nil || len(n) != 1 || n[0].ID != fmt.Sprint(want) {
					t.Errorf("collection %d: %v, %v", want, n, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := db.readers.opened(); n != 2 {
		t.Errorf("%d segments are open, want 2", n)
	}
	for i, c := range all {
		if n := c.state.Load().version.segments[0].users.Load(); n > 1 {
			t.Errorf("segment %d has %d users", i, n-1)
		}
	}
	check(t, db.Close())
	if n := fs.Handles(); n != 0 {
		t.Errorf("%d handles are open after Close", n)
	}
}
