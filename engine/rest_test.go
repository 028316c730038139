package engine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// restOptions leave what is merged to the policy alone: no graphs, which take
// long to build, and memtables that only Flush makes segments of.
var restOptions = Options{GraphMin: 1 << 20, Workers: 1}

// Sizes that due leaves as they are, of which the first are worth a merge at
// rest and the second are not.
var (
	worthwhile = []int{2000, 600}
	lopsided   = []int{2600, 300}
)

// parted makes a collection of segments of so many rows.
func parted(t *testing.T, db *DB, name string, rows ...int) *Collection {
	t.Helper()
	c := newCollection(t, db, name)
	n := 0
	for _, rows := range rows {
		addRows(t, c, n, rows)
		n += rows
		check(t, db.Flush(t.Context()))
	}
	return c
}

func addRows(t *testing.T, c *Collection, first, n int) {
	t.Helper()
	recs := make([]Record, n)
	for i := range recs {
		recs[i] = rec(fmt.Sprint(first+i), float32(first+i), 1)
	}
	check(t, c.Add(t.Context(), recs...))
}

// wantSegments lets the background do what it has to do by now, and counts.
func wantSegments(t *testing.T, c *Collection, want int, when string) {
	t.Helper()
	synctest.Wait()
	if got := len(c.state.Load().version.segments); got != want {
		t.Errorf("%s: %d segments, want %d", when, got, want)
	}
}

// wantAll wants n records in their order, each the nearest to itself.
func wantAll(t *testing.T, c *Collection, n int) {
	t.Helper()
	for i, r := range getAll(t, c, Selection{}, 0) {
		if r.ID != fmt.Sprint(i) {
			t.Fatalf("record %d is %s", i, r.ID)
		}
	}
	vectors := make([][]float32, n)
	for i := range vectors {
		vectors[i] = []float32{float32(i), 1}
	}
	found, err := c.QueryMany(t.Context(), vectors, 1, nil)
	check(t, err)
	for i, m := range found {
		if len(m) != 1 || m[0].ID != fmt.Sprint(i) || m[0].Distance != 0 {
			t.Fatalf("nearest to record %d: %v", i, m)
		}
	}
}

// A collection that is not written to becomes one segment, after as long as
// the option says and no earlier; every write begins the time anew.
func TestRestMerges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, fs := newDB(t, restOptions)
		c := parted(t, db, "c", worthwhile...)
		wantSegments(t, c, 2, "written")
		time.Sleep(defaultRest - time.Second)
		wantSegments(t, c, 2, "a second before")
		addRows(t, c, 2600, 1)
		time.Sleep(defaultRest - time.Second)
		wantSegments(t, c, 2, "a second before, after a write")
		wantAll(t, c, 2601)
		time.Sleep(time.Second)
		wantSegments(t, c, 1, "at rest")
		wantAll(t, c, 2601)
		fs.ClearTrace()
		time.Sleep(100 * defaultRest)
		synctest.Wait()
		if ops := fs.Trace(); len(ops) > 0 {
			t.Errorf("after that, %d operations of the disk: %s", len(ops), ops[0])
		}
		check(t, db.Close())
	})
}

// A store that is opened waits as long for what it finds, however long opening
// takes, and what is never to be merged is not.
func TestRestAfterOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := faultfs.New(1)
		o := restOptions
		o.RestAfter = -1
		db := openOn(t, fs, o)
		parted(t, db, "c", worthwhile...)
		time.Sleep(100 * defaultRest)
		c := collection(t, db, "c")
		wantAll(t, c, 2600)
		wantAll(t, c, 2600)
		time.Sleep(100 * defaultRest)
		wantSegments(t, c, 2, "never")
		check(t, db.Close())

		o.RestAfter = time.Minute
		var slow sync.Once
		fs.Hook(func(faultfs.Op, string) { slow.Do(func() { time.Sleep(time.Hour) }) })
		db = openOn(t, fs, o)
		fs.Hook(nil)
		c = collection(t, db, "c")
		time.Sleep(59 * time.Second)
		wantSegments(t, c, 2, "before")
		time.Sleep(time.Second)
		wantSegments(t, c, 1, "after")
		wantAll(t, c, 2600)
		check(t, db.Close())
	})
}

// What is not worth a merge is merged once queries have looked into the second
// segment as often as there are rows. Queries that compare all rows would gain
// nothing by it, and a segment that is new has cost nothing yet.
func TestRestPaidByQueries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, _ := newDB(t, restOptions)
		c := parted(t, db, "c", lopsided...)
		ask := func(n int, o *QueryOptions) {
			t.Helper()
			vectors := make([][]float32, n)
			for i := range vectors {
				vectors[i] = []float32{float32(i), 1}
			}
			_, err := c.QueryMany(t.Context(), vectors, 3, o)
			check(t, err)
		}
		later := func(want int, when string) {
			t.Helper()
			time.Sleep(10 * defaultRest)
			wantSegments(t, c, want, when)
		}
		later(2, "no queries")
		ask(4000, &QueryOptions{Exact: true})
		later(2, "exact queries")
		ask(2899, nil)
		later(2, "one too few")
		addRows(t, c, 2900, 1)
		check(t, db.Flush(t.Context()))
		later(3, "a new segment")
		ask(1, nil)
		later(3, "one too few again: there is a row more")
		ask(1, nil)
		later(1, "enough, with those before the segment of one row")
		wantAll(t, c, 2901)
		check(t, db.Close())
	})
}

// Rows in memory that queries would soon make a segment of are in the one too.
func TestRestFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := restOptions
		o.GraphMin = 100
		db, _ := newDB(t, o)
		c := parted(t, db, "c", worthwhile...)
		addRows(t, c, 2600, 150)
		time.Sleep(2 * defaultRest)
		wantSegments(t, c, 1, "at rest")
		if s := c.state.Load(); s.rows != 0 {
			t.Errorf("%d rows are in memory", s.rows)
		}
		addRows(t, c, 2750, 150)
		time.Sleep(10 * defaultRest)
		if s := c.state.Load(); s.rows != 150 {
			t.Errorf("%d rows are in memory, where nothing was to be merged", s.rows)
		}
		wantAll(t, c, 2900)
		check(t, db.Close())
	})
}

// What queries have paid is not forgotten when rows in memory are flushed first.
func TestRestFlushesPaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := restOptions
		o.GraphMin = 100
		db, _ := newDB(t, o)
		c := parted(t, db, "c", 3700, 300)
		for range 4500 {
			_, err := c.Query(t.Context(), []float32{1, 1}, 3, nil)
			check(t, err)
		}
		addRows(t, c, 4000, 101)
		time.Sleep(3 * defaultRest)
		wantSegments(t, c, 1, "at rest")
		check(t, db.Close())
	})
}

// What queries have paid is spent with the merge, when a segment comes meanwhile too.
func TestRestPaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, fs := newDB(t, restOptions)
		c := parted(t, db, "c", 6000, 800)
		for range 7200 {
			_, err := c.Query(t.Context(), []float32{1, 1}, 3, nil)
			check(t, err)
		}
		reached, release := stallMerge(fs)
		<-reached
		addRows(t, c, 6800, 260) // for which nothing is due
		go func() {
			time.Sleep(time.Second)
			release()
		}()
		check(t, db.Flush(t.Context()))
		time.Sleep(10 * defaultRest)
		wantSegments(t, c, 2, "nobody has paid for another merge")
		check(t, db.Close())
	})
}

// stallMerge holds the next merge at its beginning until release is called, or
// whatever is written next; others go on.
func stallMerge(fs *faultfs.FS) (reached chan struct{}, release func()) {
	reached, hold := make(chan struct{}), make(chan struct{})
	first := make(chan struct{}, 1)
	fs.Hook(func(op faultfs.Op, name string) {
		if op != faultfs.OpCreate || !strings.HasPrefix(name, "tmp/") {
			return
		}
		select {
		case first <- struct{}{}:
			close(reached)
			<-hold
		default:
		}
	})
	return reached, func() { close(hold) }
}

// A merge that is due does not wait for one at rest, which is given up for it,
// leaves nothing behind, and is done after another rest.
func TestRestYields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := restOptions
		o.Events = &Events{Error: func(e ErrorEvent) { t.Errorf("%s: %v", e.Op, e.Err) }}
		db, fs := newDB(t, o)
		c := parted(t, db, "c", worthwhile...)
		reached, release := stallMerge(fs)
		<-reached
		parted(t, db, "small", 400)
		wantSegments(t, c, 2, "while it runs")
		other := parted(t, db, "other", 500, 400)
		wantSegments(t, other, 1, "what is due")
		release()
		synctest.Wait()
		wantSegments(t, c, 2, "given up")
		for _, name := range fs.Files() {
			if strings.HasPrefix(name, "tmp/") {
				t.Errorf("left behind: %s", name)
			}
		}
		fs.ClearTrace()
		time.Sleep(defaultRest - time.Millisecond)
		synctest.Wait()
		if ops := fs.Trace(); len(ops) > 0 {
			t.Errorf("before the next rest, %d operations of the disk: %s", len(ops), ops[0])
		}
		time.Sleep(time.Millisecond)
		wantSegments(t, c, 1, "after the next rest")
		wantAll(t, c, 2600)
		check(t, db.Close())
	})
}

// What is due is merged by somebody else while the compacter waits for its turn: what
// is left of it is not forgotten.
func TestRestAfterErase(t *testing.T) {
	for range 40 { // collections are erased from in the order of their ids, which are random
		if restAfterErase(t) {
			return
		}
	}
	t.Fatal("the erasing never came to the collection first")
}

func restAfterErase(t *testing.T) (met bool) {
	synctest.Test(t, func(t *testing.T) {
		db, fs := newDB(t, restOptions)
		c, busy := parted(t, db, "c", 1200, 280), parted(t, db, "busy", 200)
		stalls := map[int64]chan struct{}{2: make(chan struct{}), 3: make(chan struct{})}
		var created atomic.Int64
		fs.Hook(func(op faultfs.Op, name string) {
			if op == faultfs.OpCreate && strings.HasPrefix(name, "tmp/") {
				if stall := stalls[created.Add(1)]; stall != nil {
					<-stall
				}
			}
		})
		// The compacter is busy with another collection: that is the second file.
		addRows(t, busy, 200, 150)
		check(t, db.Flush(t.Context()))
		synctest.Wait()
		ids := make([]string, 310)
		for i := range ids {
			ids[i] = fmt.Sprint(i)
		}
		_, err := c.Delete(t.Context(), Selection{IDs: ids})
		check(t, err)
		erased := make(chan error, 1)
		go func() { erased <- db.EraseNow(t.Context(), nil) }()
		synctest.Wait()
		met = created.Load() == 3
		close(stalls[2])
		synctest.Wait() // it sees what is due, and waits for the erasing
		close(stalls[3])
		check(t, <-erased)
		time.Sleep(3 * defaultRest)
		wantSegments(t, c, 1, "at rest")
		check(t, db.Close())
	})
	return met
}

// A flush after which nothing is due, or little, gives nothing up.
func TestRestGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, fs := newDB(t, restOptions)
		c := parted(t, db, "c", worthwhile...)
		reached, release := stallMerge(fs)
		<-reached
		parted(t, db, "other", 500)
		wantSegments(t, parted(t, db, "small", 170, 150), 1, "what is due, and small")
		addRows(t, c, 2600, 10)
		synctest.Wait()
		release()
		wantSegments(t, c, 1, "merged")
		wantAll(t, c, 2610)
		check(t, db.Close())
	})
}

// On a full disk a merge at rest is tried ever more seldom, and done when there
// is room.
func TestRestOnFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Int64
		o := restOptions
		o.Events = &Events{Error: func(e ErrorEvent) {
			if e.Op == "compact" && errors.Is(e.Err, ErrDiskFull) {
				full.Add(1)
			} else {
				t.Errorf("%s: %v", e.Op, e.Err)
			}
		}}
		db, fs := newDB(t, o)
		c := parted(t, db, "c", worthwhile...)
		check(t, db.writeCheckpoint(t.Context()))
		fs.Budget(fs.Used() + 2000)
		time.Sleep(defaultRest)
		synctest.Wait()
		if n := full.Load(); n != 1 {
			t.Errorf("tried %d times after the first rest", n)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := full.Load(); n < 5 || n > 15 {
			t.Errorf("tried %d times in an hour", n)
		}
		wantSegments(t, c, 2, "full")
		fs.Budget(-1)
		time.Sleep(2 * defaultRest << maxPutOff)
		wantSegments(t, c, 1, "room")
		wantAll(t, c, 2600)
		check(t, db.Close())
	})
}

// Closing the store ends a merge at rest where it stands.
func TestRestClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, fs := newDB(t, restOptions)
		parted(t, db, "c", worthwhile...)
		reached, release := stallMerge(fs)
		<-reached
		closed := make(chan error)
		go func() { closed <- db.Close() }()
		synctest.Wait()
		release()
		check(t, <-closed)
		fs = fs.Crash(rand.New(rand.NewPCG(1, 1)))
		db = openOn(t, fs, restOptions)
		c := collection(t, db, "c")
		wantSegments(t, c, 2, "opened again")
		wantAll(t, c, 2600)
		time.Sleep(defaultRest)
		wantSegments(t, c, 1, "at rest")
		check(t, db.Close())
	})
}

// A collection that is deleted is forgotten, and a merge of it ends.
func TestRestForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var merged atomic.Int64
		o := restOptions
		o.Events = &Events{Compacted: func(CompactEvent) { merged.Add(1) }}
		db, fs := newDB(t, o)
		parted(t, db, "a", worthwhile...)
		time.Sleep(time.Second)
		parted(t, db, "b", worthwhile...)
		synctest.Wait()
		reached, release := stallMerge(fs)
		<-reached
		check(t, db.Default().Delete(t.Context(), "b"))
		check(t, db.Default().Delete(t.Context(), "a"))
		synctest.Wait()
		release()
		synctest.Wait()
		db.jobs.mu.Lock()
		r := &db.jobs.rest
		if len(r.queue) != 0 || r.merged != nil {
			t.Errorf("%d wait, merged is %v", len(r.queue), r.merged)
		}
		db.jobs.mu.Unlock()
		time.Sleep(100 * defaultRest)
		synctest.Wait()
		if n := merged.Load(); n != 0 {
			t.Errorf("%d merges", n)
		}
		check(t, db.Close())
	})
}

// Damage that a merge at rest meets is told once, and left alone as after any
// merge.
func TestRestDamaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := faultfs.New(1)
		db := openOn(t, fs, restOptions)
		c := parted(t, db, "c", worthwhile...)
		number := c.manifest.segments[0].info.Number
		check(t, db.Close())
		check(t, fs.Damage(fmt.Sprintf("seg/%016x.seg", number), func(b []byte) []byte {
			for i := range b {
				b[i] ^= 0x10
			}
			return b
		}))
		var told atomic.Int64
		o := restOptions
		o.Events = &Events{Error: func(e ErrorEvent) {
			if told.Add(1); !errors.Is(e.Err, ErrCorrupt) {
				t.Errorf("%s: %v", e.Op, e.Err)
			}
		}}
		db = openOn(t, fs, o)
		time.Sleep(100 * defaultRest << maxPutOff)
		wantSegments(t, collection(t, db, "c"), 2, "damaged")
		if n := told.Load(); n != 1 {
			t.Errorf("told %d times", n)
		}
		check(t, db.Close())
	})
}

// Collections are merged in the order in which their rest is over, and those
// that are written to meanwhile wait.
func TestRestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &resting{after: time.Minute, timer: time.NewTimer(time.Hour)}
		r.init()
		cs := make([]*Collection, 5)
		for i := range cs {
			cs[i] = &Collection{db: &DB{}}
			cs[i].jobs.rest.wrote.Store(int64([]time.Duration{3, 1, 2, 1, 0}[i] * time.Second))
			r.settle(cs[i], i != 4)
		}
		r.settle(cs[2], false)
		r.settle(cs[2], true)
		cs[1].jobs.rest.wrote.Store(int64(10 * time.Second))
		cs[0].jobs.rest.notYet = time.Hour // only counts when it is looked at again
		var got []int
		for range 75 {
			time.Sleep(time.Second)
			for c := r.next(); c != nil; c = r.next() {
				for i := range cs {
					if cs[i] == c {
						got = append(got, i, int(r.now()/time.Second))
					}
				}
			}
		}
		if want := "[3 61 2 62 1 70]"; fmt.Sprint(got) != want {
			t.Errorf("collections and seconds %v, want %s", got, want)
		}
		if len(r.queue) != 1 || r.queue[0] != cs[0] {
			t.Errorf("%d wait", len(r.queue))
		}
	})
}
