package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// stall makes the disk stand still at the first call of op on a name with
// that prefix, until release is called.
func stall(disk *faultfs.FS, op faultfs.Op, prefix string) (reached chan struct{}, release func()) {
	reached = make(chan struct{})
	hold := make(chan struct{})
	var once sync.Once
	disk.Hook(func(o faultfs.Op, name string) {
		if o == op && strings.HasPrefix(name, prefix) {
			once.Do(func() { close(reached) })
			<-hold
		}
	})
	return reached, func() {
		disk.Hook(nil)
		close(hold)
	}
}

// waitingCalls are those that may have to wait for the disk or for each other.
func waitingCalls(db *DB, c *Collection) map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"add":    func(ctx context.Context) error { return c.Add(ctx, rec("new", 1)) },
		"delete": func(ctx context.Context) error { _, err := c.Delete(ctx, Selection{IDs: []string{"1"}}); return err },
		"delete where": func(ctx context.Context) error {
			_, err := c.Delete(ctx, Selection{Where: filter.DocumentContains("x")})
			return err
		},
		"flush":   db.Flush,
		"compact": db.Compact,
		"create":  func(ctx context.Context) error { _, err := db.Default().Create(ctx, "new", Spec{}); return err },
		"drop":    func(ctx context.Context) error { return db.Default().Delete(ctx, "other") },
		"modify":  func(ctx context.Context) error { return c.Modify(ctx, Change{EFSearch: Optional(50)}) },
		"tenant":  func(ctx context.Context) error { return db.CreateTenant(ctx, "t") },
	}
}

// The disk stands still for half a minute, in each kind of work. Whoever has
// a context leaves when it ends, reads go on, and afterwards all is well. The
// clock is the bubble's, so a call that waits for the disk is seen to.
func TestSlowDisk(t *testing.T) {
	for _, place := range []struct {
		name   string
		op     faultfs.Op
		prefix string
		work   func(db *DB, c *Collection) error
	}{
		{"log", faultfs.OpSync, "log/", func(db *DB, c *Collection) error { return c.Add(context.Background(), rec("slow", 1)) }},
		{"catalog", faultfs.OpSync, "log/", func(db *DB, c *Collection) error {
			return db.Default().Delete(context.Background(), "third")
		}},
		{"segment", faultfs.OpWrite, "tmp/", func(db *DB, c *Collection) error { return db.Flush(context.Background()) }},
		{"segment's name", faultfs.OpRename, "tmp/", func(db *DB, c *Collection) error { return db.Flush(context.Background()) }},
		{"merging", faultfs.OpSyncDir, "seg", func(db *DB, c *Collection) error {
			_, err := c.compact(context.Background(), pickAll)
			return err
		}},
		{"checkpoint", faultfs.OpSyncDir, "checkpoint", func(db *DB, c *Collection) error { return db.writeCheckpoint(context.Background()) }},
	} {
		t.Run(place.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := faultfs.New(1)
				db := openOn(t, disk, Options{})
				c := newCollection(t, db, "c")
				db.jobs.ask(func() { c.jobs.damaged = true }) // so that nobody else merges it
				newCollection(t, db, "other")
				newCollection(t, db, "third")
				for i := range 4 {
					check(t, c.Add(t.Context(), rec(fmt.Sprint(i), float32(i))))
					if i < 3 {
						check(t, db.Flush(t.Context()))
					}
				}
				synctest.Wait()
				reached, release := stall(disk, place.op, place.prefix)
				done := make(chan error, 1)
				go func() { done <- place.work(db, c) }()
				<-reached
				for name, call := range waitingCalls(db, c) {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					start := time.Now()
					err := call(ctx)
					if took := time.Since(start); took > time.Second {
						t.Errorf("%s took %v", name, took)
					}
					if err != nil && !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("%s: %v", name, err)
					}
					cancel()
				}
				if n, err := c.Query(t.Context(), []float32{1}, 2, nil); len(n) != 2 || err != nil {
					t.Errorf("query: %v, %v", n, err)
				}
				time.Sleep(30 * time.Second)
				release()
				check(t, <-done)
				synctest.Wait()
				check(t, db.Err())
				if _, err := db.Default().Create(t.Context(), "again", Spec{}); err != nil {
					t.Error(err)
				}
				check(t, db.Close())
			})
		})
	}
}

// Close waits for a slow disk, and ends when it is done.
func TestCloseOnSlowDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := faultfs.New(1)
		db := openOn(t, disk, Options{})
		c := newCollection(t, db, "c")
		reached, release := stall(disk, faultfs.OpSync, "log/")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Add(ctx, rec("a", 1)); !errors.Is(err, ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("add: %v", err)
		}
		<-reached
		time.AfterFunc(30*time.Second, release)
		start := time.Now()
		check(t, db.Close())
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("Close took %v", took)
		}
		db = openOn(t, disk, Options{})
		if got := idsOf(getAll(t, collection(t, db, "c"), Selection{}, 0)); got != "a" {
			t.Errorf("the collection holds %q: what was under way is lost", got)
		}
		check(t, db.Close())
	})
}

// polled is a context that ends at the n-th time somebody looks at it.
type polled struct {
	context.Context
	mu   sync.Mutex
	left int
	done chan struct{}
}

func newPolled(ctx context.Context, n int) *polled {
	return &polled{Context: ctx, left: n, done: make(chan struct{})}
}

func (p *polled) look() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left--; p.left == 0 {
		close(p.done)
	}
	if p.left <= 0 {
		return context.Canceled
	}
	return nil
}

func (p *polled) Err() error            { return p.look() }
func (p *polled) Done() <-chan struct{} { p.look(); return p.done }

// A context that ends at any of the points where it is looked at leaves a
// store that holds what it held, or all of what was asked for, and works.
func TestCancelledEverywhere(t *testing.T) {
	ctx := context.Background()
	setup := func() (*DB, *faultfs.FS, *Collection) {
		disk := faultfs.New(1)
		db := openOn(t, disk, Options{GraphMin: 500, Workers: 1})
		db.jobs.stop()
		c := newCollection(t, db, "c")
		for part := range 3 {
			recs := make([]Record, 600)
			for i := range recs {
				recs[i] = rec(fmt.Sprint(part, "-", i), float32(i), float32(part))
				recs[i].Metadata = Metadata{"part": filter.Int(int64(part))}
			}
			check(t, c.Add(ctx, recs...))
			if part < 2 {
				check(t, db.Flush(ctx))
			}
		}
		_, err := c.Delete(ctx, Selection{IDs: []string{"0-1", "1-1"}})
		check(t, err)
		return db, disk, c
	}
	where := filter.Eq("part", filter.Int(1))
	many := make([]string, 700)
	for i := range many {
		many[i] = fmt.Sprint("1-", i)
	}
	for _, tc := range []struct {
		name   string
		points int // at least
		left   []int
		call   func(ctx context.Context, db *DB, c *Collection) error
	}{
		{"add", 2, []int{1798, 1799}, func(ctx context.Context, db *DB, c *Collection) error { return c.Add(ctx, rec("new", 1, 2)) }},
		{"delete where", 3, []int{1798, 1199}, func(ctx context.Context, db *DB, c *Collection) error {
			_, err := c.Delete(ctx, Selection{Where: where})
			return err
		}},
		{"get", 4, []int{1798}, func(ctx context.Context, db *DB, c *Collection) error {
			return drain(c.Get(ctx, Selection{}, IncludeAll))
		}},
		{"get many ids", 4, []int{1798}, func(ctx context.Context, db *DB, c *Collection) error {
			return drain(c.Get(ctx, Selection{IDs: many, Where: where}, 0))
		}},
		{"query", 2, []int{1798}, func(ctx context.Context, db *DB, c *Collection) error {
			_, err := c.Query(ctx, []float32{1, 1}, 10, &QueryOptions{Where: where})
			return err
		}},
		{"exact query", 2, []int{1798}, func(ctx context.Context, db *DB, c *Collection) error {
			_, err := c.Query(ctx, []float32{1, 1}, 10, &QueryOptions{Exact: true})
			return err
		}},
		{"flush", 3, []int{1798}, func(ctx context.Context, db *DB, c *Collection) error { return db.Flush(ctx) }},
		{"compact", 6, []int{1798}, func(ctx context.Context, db *DB, c *Collection) error { return db.Compact(ctx) }},
		{"create", 2, []int{1798}, func(ctx context.Context, db *DB, c *Collection) error {
			_, _, err := db.Default().GetOrCreate(ctx, "new", Spec{})
			return err
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for n := 1; ; n += 1 + n/3 { // every one of the first, then ever fewer: graphs look often
				db, disk, c := setup()
				p := newPolled(ctx, n)
				err := tc.call(p, db, c)
				if err != nil && !errors.Is(err, context.Canceled) {
					t.Fatalf("point %d: %v", n, err)
				}
				check(t, db.Err())
				check(t, db.Close()) // waits for what was left to itself
				if h := disk.Handles(); h != 0 {
					t.Fatalf("point %d: %d handles are open", n, h)
				}
				db = openOn(t, disk, Options{})
				c = collection(t, db, "c")
				got, cerr := c.Count(ctx)
				check(t, cerr)
				if got != tc.left[0] && got != tc.left[len(tc.left)-1] {
					t.Fatalf("point %d: %d records, want one of %v", n, got, tc.left)
				}
				check(t, c.Add(ctx, rec("after", 1, 2)))
				check(t, db.Close())
				if p.left > 0 { // it never ended
					if looks := n - p.left; err != nil || looks < tc.points {
						t.Fatalf("looked at %d times only, %v", looks, err)
					}
					return
				}
			}
		})
	}
}

// The edit of a flush or of a compaction is installed when it is durable, not
// before: until then readers, the next edit and checkpoints see the old files.
func TestEditIsDurableFirst(t *testing.T) {
	for _, tc := range []struct {
		name string
		work func(ctx context.Context, db *DB, c *Collection) error
	}{
		{"flush", func(ctx context.Context, db *DB, c *Collection) error { return db.flush(ctx, c) }},
		{"compaction", func(ctx context.Context, db *DB, c *Collection) error { _, err := c.compact(ctx, pickAll); return err }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := faultfs.New(1)
				db := openOn(t, disk, Options{})
				db.jobs.stop()
				ctx := context.Background()
				c := newCollection(t, db, "c")
				for i := range 3 {
					check(t, c.Add(ctx, rec(fmt.Sprint(i), float32(i))))
					if i < 2 {
						check(t, db.Flush(ctx))
					}
				}
				old, state := c.manifest, c.state.Load()
				reached, release := stall(disk, faultfs.OpSync, "log/")
				done := make(chan error, 1)
				go func() { done <- tc.work(ctx, db, c) }()
				<-reached
				ck := make(chan error, 1)
				go func() { ck <- db.writeCheckpoint(ctx) }()
				synctest.Wait()
				if c.manifest != old || c.state.Load().version != state.version {
					t.Error("the edit is installed before it is durable")
				}
				select {
				case err := <-ck:
					t.Errorf("a checkpoint was written beside an edit that is on its way: %v", err)
					ck <- err
				default:
				}
				// Of two edits queued behind such a checkpoint, a power cut could
				// keep the first alone, whose files the checkpoint had let go.
				left := disk.CrashWith(rand.New(rand.NewPCG(1, 1)), faultfs.Cut{Sector: 512})
				release()
				<-done
				<-ck
				db.Close()
				db = openOn(t, left, Options{})
				if got := idsOf(getAll(t, collection(t, db, "c"), Selection{}, 0)); got != "0 1 2" {
					t.Errorf("the collection holds %q", got)
				}
				check(t, db.Close())
			})
		})
	}
}

// Merging looks at no memtable: nobody takes the snapshot of one that writers
// would then have to copy from.
func TestCompactionLeavesMemtable(t *testing.T) {
	ctx := t.Context()
	db, _ := newDB(t, Options{})
	db.jobs.stop()
	c := newCollection(t, db, "c")
	for i := range 3 {
		check(t, c.Add(ctx, rec(fmt.Sprint(i), 1)))
		if i < 2 {
			check(t, db.Flush(ctx))
		}
	}
	did, err := c.compact(ctx, pickAll)
	if !did || err != nil {
		t.Fatal(did, err)
	}
	if s := c.state.Load(); s.mem != nil || c.observed.Load() {
		t.Error("a snapshot of the memtable was taken")
	}
}

// Whoever waits for a lock leaves it when the context ends, whatever is held.
func TestLocksAreLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openOn(t, faultfs.New(1), Options{})
		db.jobs.stop()
		c := newCollection(t, db, "c")
		for i := range 3 {
			check(t, c.Add(t.Context(), rec(fmt.Sprint(i), 1)))
			if i < 2 {
				check(t, db.Flush(t.Context()))
			}
		}
		compact := func(ctx context.Context) error { _, err := c.compact(ctx, pickAll); return err }
		for _, tc := range []struct {
			name  string
			lock  waitLock
			calls map[string]func(ctx context.Context) error
		}{
			{"maint", c.maint, map[string]func(ctx context.Context) error{
				"flush": func(ctx context.Context) error { return db.flush(ctx, c) }, "compact": compact,
			}},
			{"one", c.jobs.one, map[string]func(ctx context.Context) error{"compact": compact}},
			{"catMu", db.catMu, map[string]func(ctx context.Context) error{
				"flush": func(ctx context.Context) error { return db.flush(ctx, c) }, "compact": compact,
				"checkpoint": db.writeCheckpoint, "relieve": db.relieve, "shorten": db.shortenLog,
			}},
			{"writeMu", c.writeMu, map[string]func(ctx context.Context) error{
				"add":    func(ctx context.Context) error { return c.Add(ctx, rec("new", 1)) },
				"delete": func(ctx context.Context) error { _, err := c.Delete(ctx, Selection{IDs: []string{"0"}}); return err },
			}},
		} {
			tc.lock.Lock()
			for name, call := range tc.calls {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				start := time.Now()
				if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
					t.Errorf("%s, while %s is held: %v after %v", name, tc.name, err, time.Since(start))
				}
				cancel()
			}
			tc.lock.Unlock()
		}
		check(t, db.Err())
		check(t, db.Compact(t.Context()))
		if got := idsOf(getAll(t, c, Selection{}, 0)); got != "0 1 2" {
			t.Errorf("the collection holds %q", got)
		}
		check(t, db.Close())
	})
}
