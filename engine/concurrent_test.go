package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/chromad/chromad/internal/race"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// busyOptions make flushes, compactions and checkpoints happen all the time.
var busyOptions = Options{MemtableRows: 24, SegmentMemory: 10_000, GraphMin: 8, LogLimit: 8 << 10, OpenSegments: 2, Workers: 1}

func busy(key OperatorKey) Options {
	o := busyOptions
	o.Keys = key
	return o
}

// rounds is how often a test of races is repeated.
func rounds(n int) int {
	if testing.Short() {
		return max(1, n/10)
	}
	return n
}

var heavy = race.Heavy

// Readers see batches whole, never a part, whatever is flushed or merged
// meanwhile; and a writer reads what it wrote.
func TestWholeBatches(t *testing.T) { bothWays(t, batchesAreWhole) }

func batchesAreWhole(t *testing.T, key OperatorKey) {
	const size, writers = 5, 3
	ctx := t.Context()
	db, _ := newDB(t, busy(key))
	c := newCollection(t, db, "c")
	var stop atomic.Bool
	var wg, readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for !stop.Load() {
				if err := wholeBatches(ctx, c, size); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	if key != nil {
		readers.Go(func() {
			for !stop.Load() {
				if err := db.RotateKeys(ctx, nil); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for w := range writers {
		wg.Go(func() {
			for round := range rounds(120) {
				batch := make([]Record, size)
				for i := range batch {
					batch[i] = rec(fmt.Sprintf("%d-%d", w, i), float32(round), float32(w))
				}
				if err := c.Upsert(ctx, batch...); err != nil {
					t.Error(err)
					return
				}
				found, err := c.Query(ctx, []float32{float32(round), float32(w)}, 1, &QueryOptions{Exact: true})
				if err != nil || len(found) != 1 || found[0].Distance != 0 {
					t.Errorf("writer %d reads %v, %v after round %d", w, found, err, round)
					return
				}
				if round%10 == 9 {
					if n, err := c.Delete(ctx, Selection{IDs: []string{batch[0].ID, batch[1].ID, batch[2].ID, batch[3].ID, batch[4].ID}}); n != size || err != nil {
						t.Errorf("writer %d deleted %d, %v", w, n, err)
					}
				}
			}
		})
	}
	wg.Wait()
	stop.Store(true)
	readers.Wait()
}

// wholeBatches wants each writer's records to be all there, and all of one round.
func wholeBatches(ctx context.Context, c *Collection, size int) error {
	seen := map[string][]float32{} // writer → round of each of its records
	for r, err := range c.Get(ctx, Selection{}, IncludeEmbedding) {
		if err != nil {
			return err
		}
		w, _, _ := strings.Cut(r.ID, "-")
		seen[w] = append(seen[w], r.Embedding[0])
	}
	for w, rounds := range seen {
		if len(rounds) != size || slices.Min(rounds) != slices.Max(rounds) {
			return fmt.Errorf("of writer %s there are records of rounds %v", w, rounds)
		}
	}
	return nil
}

// The first record fixes the dimension: of writers with different ones those
// of one dimension win, the others are told, and the store agrees after all.
func TestDimensionRace(t *testing.T) {
	const writers = 50
	ctx := t.Context()
	db, fs := newDB(t, Options{})
	for round := range rounds(60) {
		c := newCollection(t, db, fmt.Sprint("c", round))
		var won [6]atomic.Int64
		var wg sync.WaitGroup
		for w := range writers {
			dim := 1 + w%5
			wg.Go(func() {
				err := c.Add(ctx, rec(fmt.Sprint(w), make([]float32, dim)...))
				for n := 0; n < 20 && errors.Is(err, ErrDimension); n++ { // to be told so every time
					err = c.Add(ctx, rec(fmt.Sprint(w), make([]float32, dim)...))
				}
				if err == nil {
					won[dim].Add(1)
				} else if e, ok := errors.AsType[*DimensionError](err); !ok || e.Got != dim || e.Want == dim {
					t.Errorf("writer of %d dimensions: %v", dim, err)
				}
			})
		}
		wg.Wait()
		for dim := range won {
			if n := won[dim].Load(); n > 0 && (dim != c.Info().Dimension || n != writers/5) {
				t.Errorf("round %d: %d writers of %d dimensions in a collection of %d", round, n, dim, c.Info().Dimension)
			}
		}
	}
	check(t, db.Close())
	db = openOn(t, fs, Options{})
	for info, err := range db.Default().Collections(ctx) {
		check(t, err)
		if n, err := collection(t, db, info.Name).Count(ctx); n != writers/5 || err != nil {
			t.Errorf("%s: %d records, %v", info.Name, n, err)
		}
	}
	check(t, db.Close())
}

// Iterations that are given up half way hold nothing: neither segments nor Close.
func TestIterationAbandoned(t *testing.T) {
	ctx := t.Context()
	fs := faultfs.New(1)
	db := openOn(t, fs, Options{OpenSegments: 1})
	db.jobs.stop() // nobody merges, and holds segments for it
	c := newCollection(t, db, "c")
	for i := range 30 {
		check(t, c.Add(ctx, rec(fmt.Sprint(i), float32(i))))
		if i%10 == 9 {
			check(t, db.Flush(ctx))
		}
	}
	for i := range rounds(5000) {
		for range c.Get(ctx, Selection{Offset: i % 30}, IncludeAll) {
			break
		}
		next, stop := iter.Pull2(c.Get(ctx, Selection{}, IncludeAll))
		next()
		stop()
	}
	if refs := c.state.Load().version.refs.Load(); refs != 1 {
		t.Errorf("the version is held %d times", refs)
	}
	if n := db.readers.opened(); n > 1 {
		t.Errorf("%d segments are open, at most 1 is allowed", n)
	}
	check(t, db.Close())
	if n := fs.Handles(); n != 0 {
		t.Errorf("%d handles are open after Close", n)
	}
}

// Close while everything runs: each call ends, with ErrClosed at worst, the
// goroutines end, no handle stays open, and what was acknowledged is there.
func TestCloseUnderLoad(t *testing.T) {
	before := runtime.NumGoroutine()
	for round := range rounds(10) {
		ctx := t.Context()
		fs := faultfs.New(uint64(round))
		options := busy(keysOf(uint64(round), fs))
		db := openOn(t, fs, options)
		c := newCollection(t, db, "c")
		var done [4]int
		var wg sync.WaitGroup
		until := func(f func() error) {
			wg.Go(func() {
				for {
					if err := f(); errors.Is(err, ErrClosed) {
						return
					} else if err != nil && !errors.Is(err, ErrNotFound) {
						t.Error(err)
						return
					}
				}
			})
		}
		for w := range done {
			until(func() error {
				err := c.Add(ctx, rec(fmt.Sprintf("%d-%d", w, done[w]), float32(done[w])))
				if err == nil {
					done[w]++
				}
				return err
			})
		}
		until(func() error { _, err := c.Query(ctx, []float32{1}, 3, nil); return err })
		until(func() error {
			for _, err := range c.Get(ctx, Selection{}, IncludeAll) {
				if err != nil {
					return err
				}
			}
			return nil
		})
		until(func() error { return db.Flush(ctx) })
		until(func() error { return db.Compact(ctx) })
		if options.Keys != nil {
			until(func() error { return db.RotateKeys(ctx, nil) })
		}
		until(func() error {
			_, _, err := db.Default().GetOrCreate(ctx, "other", Spec{})
			return errors.Join(err, db.Default().Delete(ctx, "other"))
		})
		for c.state.Load().live < round*5 {
			runtime.Gosched()
		}
		check(t, db.Close())
		wg.Wait()
		if n := fs.Handles(); n != 0 {
			t.Fatalf("round %d: %d handles are open after Close", round, n)
		}
		db = openOn(t, fs, options)
		if n, err := collection(t, db, "c").Count(ctx); err != nil || n != done[0]+done[1]+done[2]+done[3] {
			t.Fatalf("round %d: %d records, %v; %v were acknowledged", round, n, err, done)
		}
		check(t, db.Close())
	}
	for i := 0; runtime.NumGoroutine() > before; i++ {
		if runtime.Gosched(); i == 1e6 { // those that are about to end do
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

// Collections, and whole stores, go away under those who use them.
func TestDropUnderLoad(t *testing.T) { bothWays(t, dropUnderLoad) }

func dropUnderLoad(t *testing.T, key OperatorKey) {
	ctx := t.Context()
	db, fs := newDB(t, busy(key))
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := range rounds(200) {
				name := fmt.Sprint("c", i%2)
				c, _, err := db.Default().GetOrCreate(ctx, name, Spec{})
				for j := 0; j < 30 && err == nil; j++ {
					err = c.Upsert(ctx, rec(fmt.Sprint(w, "-", j), float32(j)))
				}
				if err == nil {
					_, err = c.Query(ctx, []float32{1}, 5, nil)
				}
				switch {
				case i%17 == 0:
					err = errors.Join(err, db.Reset(ctx))
				case i%3 == w:
					err = errors.Join(err, db.Default().Delete(ctx, name))
				case i%5 == 0:
					err = errors.Join(err, db.Compact(ctx))
				case i%7 == 0:
					err = errors.Join(err, rotateIfKeyed(ctx, db))
				}
				for _, e := range []error{ErrCorrupt, ErrFailed, ErrUnknown, ErrKey} {
					if errors.Is(err, e) {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	check(t, db.Reset(ctx))
	check(t, db.Compact(ctx))
	if n := db.memBytes.Load(); n != 0 {
		t.Errorf("%d bytes of memtables are accounted for in an empty store", n)
	}
	db.jobs.stop() // a compaction of what is no more may be under way
	if len(db.files.refs) > 0 {
		t.Errorf("segments %v are held in an empty store", db.files.refs)
	}
	check(t, db.Compact(ctx))
	for _, f := range fs.Files() {
		if strings.HasSuffix(f, segmentSuffix) {
			t.Errorf("%s is there in an empty store", f)
		}
	}
}

// A segment that takes long to open holds up nobody who does not need it.
func TestSlowSegment(t *testing.T) {
	ctx := t.Context()
	db, fs := newDB(t, Options{})
	slow, quick := newCollection(t, db, "slow"), newCollection(t, db, "quick")
	for _, c := range []*Collection{slow, quick} {
		check(t, c.Add(ctx, rec("a", 1)))
		check(t, db.Flush(ctx))
	}
	name := fmt.Sprintf("%s/%016x%s", segmentDir, slow.manifest.segments[0].info.Number, segmentSuffix)
	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	fs.Hook(func(_ faultfs.Op, n string) {
		if n == name {
			once.Do(func() {
				close(reached)
				<-release
			})
		}
	})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if n, err := slow.Query(ctx, []float32{1}, 1, nil); len(n) != 1 || err != nil {
				t.Errorf("slow: %v, %v", n, err)
			}
		})
	}
	<-reached
	if n, err := quick.Query(ctx, []float32{1}, 1, nil); len(n) != 1 || err != nil {
		t.Errorf("quick: %v, %v", n, err)
	}
	close(release)
	wg.Wait()
	if n := db.readers.opened(); n != 2 {
		t.Errorf("%d segments are open, want 2", n)
	}
}

// A context that ends while a write waits for the disk ends the wait, not the
// write: it is done, or not, as a whole, and those behind it are not held up.
func TestCancelledWrite(t *testing.T) {
	db, fs := newDB(t, Options{})
	c := newCollection(t, db, "c")
	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	fs.Hook(func(op faultfs.Op, name string) {
		if op == faultfs.OpSync && strings.HasPrefix(name, "log/") {
			once.Do(func() {
				close(reached)
				<-release
			})
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	go func() { result <- c.Add(ctx, rec("a", 1)) }()
	<-reached
	cancel()
	if err := <-result; !errors.Is(err, ErrUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	// A delete by filter waits for what is in flight, as long as it may.
	if _, err := c.Delete(ctx, Selection{Limit: 1, IDs: []string{"a"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled delete: %v", err)
	}
	go close(release)
	check(t, c.Add(t.Context(), rec("b", 1)))
	if got := idsOf(getAll(t, c, Selection{}, 0)); got != "a b" {
		t.Errorf("%q, want both", got)
	}
}
