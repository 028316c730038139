package engine

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// Ten thousand small collections live in one store: made by several writers,
// read after a reopen, with few files open at a time.
func TestManyCollections(t *testing.T) {
	const open = 50
	ctx := t.Context()
	collections := 10000
	if testing.Short() {
		collections = 500
	}
	options := Options{OpenSegments: open}
	fs := faultfs.New(1)
	db := openOn(t, fs, options)
	start := time.Now()
	lap := func(what string) {
		t.Logf("%s: %v", what, time.Since(start).Round(time.Millisecond))
		start = time.Now()
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := w; i < collections; i += 4 {
				c, err := db.Default().Create(ctx, fmt.Sprint("c", i), Spec{})
				if err == nil {
					err = c.Add(ctx, rec(fmt.Sprint(i), float32(i), 1))
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	lap("created")
	read := func(what string) {
		for i := range collections {
			c := collection(t, db, fmt.Sprint("c", i))
			found, err := c.Query(ctx, []float32{float32(i), 1}, 2, nil)
			if err != nil || len(found) != 1 || found[0].ID != fmt.Sprint(i) || found[0].Distance != 0 {
				t.Fatalf("%s: collection %d: %v, %v", what, i, found, err)
			}
			if n := db.readers.opened(); n > open {
				t.Fatalf("%s: %d segments are open, at most %d are allowed", what, n, open)
			}
		}
		lap("read " + what)
	}
	read("from memory")
	check(t, db.Close())
	lap("closed")
	db = openOn(t, fs, options)
	lap("reopened")
	read("from segments")
	check(t, db.Close())
	if n := fs.Handles(); n != 0 {
		t.Errorf("%d handles are open after Close", n)
	}
}

// The log gets shorter while one collection idles and another is written to
// by writers that never pause; a power cut loses nothing of either.
func TestIdleCollectionFreesLog(t *testing.T) {
	const limit = 64 << 10
	ctx := t.Context()
	fs := faultfs.New(1)
	db := openOn(t, fs, Options{LogLimit: limit})
	idle, busy := newCollection(t, db, "idle"), newCollection(t, db, "busy")
	check(t, idle.Add(ctx, rec("a", 1)))
	const writers, each = 8, 150
	text := strings.Repeat("x", 1000)
	most := make([]int64, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				r := rec(fmt.Sprint(w, "-", i), float32(i))
				r.Document = &text
				if err := busy.Add(ctx, r); err != nil {
					t.Error(err)
					return
				}
				most[w] = max(most[w], db.log.Size())
				for n := 0; db.log.Size() > 3*limit; n++ { // the flusher is behind, and must get there
					if n == 1e6 {
						t.Errorf("the log stays at %d bytes", db.log.Size())
						return
					}
					db.jobs.ask(func() { db.jobs.pressure = true })
					runtime.Gosched()
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d bytes were logged, the log had at most %v", writers*each*1000, most)
	fs = fs.Crash(rand.New(rand.NewPCG(1, 1)))
	db.Close()
	db = openOn(t, fs, Options{})
	if got := idsOf(getAll(t, collection(t, db, "idle"), Selection{}, 0)); got != "a" {
		t.Errorf("the idle collection holds %q", got)
	}
	if n, err := collection(t, db, "busy").Count(ctx); n != writers*each || err != nil {
		t.Errorf("%d records, %v", n, err)
	}
	check(t, db.Close())
}

// While an entry is always on its way, the oldest in flight moves on.
func TestInFlightMovesOn(t *testing.T) {
	var p pendingWrites
	p.init()
	p.begin(5, 0)
	for seq := uint64(6); seq < 100; seq++ {
		p.begin(seq, 3)
		if low := p.low(); low != seq-1 {
			t.Fatalf("the oldest in flight is %d, want %d", low, seq-1)
		}
		p.end(1)
	}
	p.begin(100, 0)
	p.cancel()
	if p.low() != 99 || p.dimension() != 3 {
		t.Errorf("after a refusal: oldest %d, dimension %d", p.low(), p.dimension())
	}
	p.end(1)
	<-p.whenIdle()
	if p.low() != 0 || p.dimension() != 0 {
		t.Errorf("idle: oldest %d, dimension %d", p.low(), p.dimension())
	}
}

// A compaction gives back the space of deleted and replaced rows, and of the
// files that it replaces, once no reader needs them.
func TestCompactionGivesSpaceBack(t *testing.T) {
	ctx := t.Context()
	db, fs := newDB(t, Options{})
	db.jobs.stop() // nothing happens beside what is asked for
	c := newCollection(t, db, "c")
	text := strings.Repeat("0123456789abcdef", 20)
	size := func() (n int) {
		for _, f := range fs.Files() {
			if strings.HasSuffix(f, segmentSuffix) {
				b, err := fs.Content(f)
				check(t, err)
				n += len(b)
			}
		}
		return n
	}
	for round := range 3 {
		for i := range 100 {
			r := rec(fmt.Sprint(i), make([]float32, 64)...)
			r.Embedding[0], r.Document = float32(round), &text
			check(t, c.Upsert(ctx, r))
		}
		check(t, db.Flush(ctx))
	}
	full := size()
	var ids []string
	for i := range 90 {
		ids = append(ids, fmt.Sprint(i))
	}
	n, err := c.Delete(ctx, Selection{IDs: ids})
	if n != 90 || err != nil {
		t.Fatalf("%d deleted, %v", n, err)
	}
	for range c.Get(ctx, Selection{}, IncludeAll) {
		check(t, db.Compact(ctx)) // under a reader, which goes on
		if got := size(); got < full {
			t.Errorf("%d of %d bytes are left under a reader's feet", got, full)
		}
	}
	check(t, db.Compact(ctx))
	if got := size(); got > full/10 {
		t.Errorf("%d bytes of segments, %d before: a tenth of a third of the rows is left", got, full)
	}
	_, err = c.Delete(ctx, Selection{Limit: 100, IDs: append(ids, "90", "91", "92", "93", "94", "95", "96", "97", "98", "99")})
	check(t, err)
	check(t, db.Compact(ctx))
	if got := size(); got != 0 {
		t.Errorf("%d bytes of segments of an empty collection", got)
	}
}
