package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// destructive are all ways to take something away from collection c of the
// default database, or to change it.
func destructive(db *DB, c *Collection) map[string]func(context.Context) error {
	everything := filter.Ne("no such key", filter.Int(1))
	under := func() *Guarded {
		g, err := c.Under(everything)
		if err != nil {
			panic(err)
		}
		return g
	}
	none := func(_ int, err error) error { return err }
	kept := rec("a", 9, 9)
	return map[string]func(context.Context) error{
		"delete by id":          func(ctx context.Context) error { return none(c.Delete(ctx, Selection{IDs: []string{"a"}})) },
		"delete of what is not": func(ctx context.Context) error { return none(c.Delete(ctx, Selection{IDs: []string{"nobody"}})) },
		"delete by filter":      func(ctx context.Context) error { return none(c.Delete(ctx, Selection{Where: everything})) },
		"delete of the oldest":  func(ctx context.Context) error { return none(c.Delete(ctx, Selection{Where: everything, Limit: 1})) },
		"delete under a rule":   func(ctx context.Context) error { return none(under().Delete(ctx, Selection{IDs: []string{"a"}})) },
		"update":                func(ctx context.Context) error { return c.Update(ctx, kept) },
		"update of metadata": func(ctx context.Context) error {
			return c.Update(ctx, Record{ID: "a", Metadata: Metadata{"k": filter.Null()}})
		},
		"update under a rule": func(ctx context.Context) error { return under().Update(ctx, kept) },
		"upsert": func(ctx context.Context) error {
			return c.Upsert(ctx, rec("new"+fmt.Sprint(time.Now().UnixNano()), 1, 2), kept)
		},
		"upsert under a rule":     func(ctx context.Context) error { return under().Upsert(ctx, kept) },
		"rename":                  func(ctx context.Context) error { return c.Modify(ctx, Change{Name: Optional("d")}) },
		"metadata":                func(ctx context.Context) error { return c.Modify(ctx, Change{Metadata: &Metadata{}}) },
		"parameters":              func(ctx context.Context) error { return c.Modify(ctx, Change{EFSearch: Optional(50)}) },
		"delete the collection":   func(ctx context.Context) error { return db.Default().Delete(ctx, "c") },
		"delete the database":     func(ctx context.Context) error { return db.DeleteDatabase(ctx, DefaultTenant, DefaultDatabase) },
		"reset":                   db.Reset,
		"expire by another key":   func(ctx context.Context) error { return c.SetRetention(ctx, &Retention{Key: "born"}) },
		"expire by the same key":  func(ctx context.Context) error { return c.SetRetention(ctx, &Retention{}) },
		"turning the expiry off":  func(ctx context.Context) error { return c.SetRetention(ctx, nil) },
		"hold for something else": func(ctx context.Context) error { return c.PlaceHold(ctx, "another case") },
	}
}

// holding is a store with a collection under hold: one record that is over by
// another key, one that is over by its own, one that will be, and one without.
func holding(t *testing.T, o Options) (*faultfs.FS, *DB, *Collection) {
	ctx := t.Context()
	fs := faultfs.New(1)
	db := openOn(t, fs, o)
	c, err := db.Default().Create(ctx, "c", Spec{Metadata: Metadata{"m": filter.Int(1)}})
	check(t, err)
	check(t, c.SetRetention(ctx, &Retention{}))
	synctest.Wait() // it has woken the background, which is not to come when something is over
	a := rec("a", 1, 2)
	a.Metadata = Metadata{"k": filter.Int(1), "born": filter.Int(1)}
	check(t, c.Add(ctx, a, timedRecord("soon", in(time.Hour))))
	check(t, db.Flush(ctx))
	check(t, c.Add(ctx, timedRecord("past", filter.Int(1)), rec("b", 1, 2)))
	check(t, c.PlaceHold(ctx, "Smith v. Acme"))
	return fs, db, c
}

// everythingIn is all that a collection has, seen or not.
func everythingIn(t testing.TB, c *Collection) string {
	t.Helper()
	v, err := c.view()
	check(t, err)
	defer v.close()
	var out []string
	for r, err := range v.get(t.Context(), Selection{}, IncludeAll) {
		check(t, err)
		out = append(out, fmt.Sprint(r.ID, r.Embedding, r.Metadata))
	}
	i := c.Info()
	return fmt.Sprint(i.Name, i.Spec.Metadata, i.Spec.EFSearch, out)
}

// Nothing takes anything away from a collection under hold, nor time, nor
// restarts, nor flushing, merging and erasing, nor new keys.
func TestHoldKeepsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		o := Options{Keys: operator("a"), ExpireEvery: time.Second}
		fs, db, c := holding(t, o)
		want := everythingIn(t, c)
		hold := *c.Hold()
		for _, round := range []string{"at once", "when records are over", "opened again", "after a crash", "merged and erased", "under new keys"} {
			for name, do := range destructive(db, c) {
				err := do(ctx)
				held := errors.Is(err, ErrHeld) || name == "hold for something else" && errors.Is(err, ErrExists)
				if !held || strings.Contains(err.Error(), "Smith") {
					t.Errorf("%s: %s: %v", round, name, err)
				}
				if e, ok := errors.AsType[*HeldError](err); ok && (e.Name != "c" || e.Collection != c.ID() || !e.Since.Equal(hold.Since) || (e.Index == 0) != (name == "upsert under a rule") && name != "upsert") {
					t.Errorf("%s: %s: %+v", round, name, e)
				}
			}
			if n, err := c.Expire(ctx); n != 0 || err != nil {
				t.Errorf("%s: expire: %d, %v", round, n, err)
			}
			if got := everythingIn(t, c); got != want {
				t.Fatalf("%s:\n%s, was\n%s", round, got, want)
			}
			if got := sights(t, c); got != "a soon b" {
				t.Errorf("%s: %q is to be seen", round, got)
			}
			if h := c.Hold(); h == nil || *h != hold || c.Retention() == nil {
				t.Errorf("%s: hold %+v, retention %+v", round, h, c.Retention())
			}
			switch round {
			case "at once":
				time.Sleep(10 * time.Hour)
			case "when records are over":
				check(t, db.Close())
				db = openOn(t, fs, o)
			case "opened again":
				left := fs.Clone()
				_ = db.Close()
				fs, db = left, openOn(t, left, o)
			case "after a crash":
				check(t, db.Compact(ctx))
				check(t, db.EraseNow(ctx, nil))
			case "merged and erased":
				check(t, db.RotateKeys(ctx, nil))
			}
			c = collection(t, db, "c")
		}
		check(t, c.Add(ctx, rec("a", 7, 7), rec("c", 1, 2)))
		check(t, c.Upsert(ctx, rec("d", 1, 2)))
		if err := c.Add(ctx, rec("past", 1, 2)); !errors.Is(err, ErrHeld) {
			t.Errorf("a record that is over, and kept, is written over: %v", err)
		}
		if s := db.Stats(); s.Held != 1 || s.Expired != 0 {
			t.Errorf("%+v", s)
		}
		check(t, c.ReleaseHold(ctx))
		if got := sights(t, c); got != "a b c d" {
			t.Errorf("released: %q", got)
		}
		synctest.Wait()
		if n := c.state.Load().live; n != 4 {
			t.Errorf("released: %d records are there", n)
		}
		if err := c.ReleaseHold(ctx); !errors.Is(err, ErrNotFound) {
			t.Errorf("released twice: %v", err)
		}
		check(t, db.Close())
	})
}

// What a hold was for, and the key of a retention, leave the files as what was
// deleted does.
func TestHoldReasonErased(t *testing.T) {
	for _, op := range []OperatorKey{nil, operator("a")} {
		ctx := t.Context()
		db, fs := newDB(t, Options{Keys: op})
		c := newCollection(t, db, "c")
		gone, kept := canaries{}, canaries{}
		check(t, c.PlaceHold(ctx, gone.text("first reason")))
		check(t, c.ReleaseHold(ctx))
		check(t, c.SetRetention(ctx, &Retention{Key: gone.text("first key")}))
		check(t, db.writeCheckpoint(ctx))
		check(t, c.SetRetention(ctx, &Retention{Key: kept.text("second key")}))
		check(t, c.PlaceHold(ctx, kept.text("second reason")))
		if f := gone.found(bytesOf(t, fs, op)); len(f) != 2 {
			t.Errorf("before: %v", f)
		}
		check(t, db.EraseNow(ctx, nil))
		read := bytesOf(t, fs, op)
		if f := gone.found(read); len(f) > 0 {
			t.Errorf("afterwards: %v", f)
		}
		if f := kept.found(read); len(f) != 2 {
			t.Errorf("of what holds: %v", f)
		}
	}
}

// From the moment that PlaceHold has returned nothing is lost, whatever was on
// its way; and what comes back is what was acknowledged, after a crash too.
func TestHoldRaces(t *testing.T) {
	ctx := t.Context()
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 3))
		fs := faultfs.New(seed)
		o := Options{MemtableRows: 20, ExpireEvery: time.Millisecond}
		db := openOn(t, fs, o)
		c := newCollection(t, db, "c")
		check(t, c.SetRetention(ctx, &Retention{}))
		for i := range 60 {
			check(t, c.Add(ctx, timedRecord(fmt.Sprint(i), filter.Int(time.Now().Unix()+int64(r.IntN(3))))))
			check(t, c.Upsert(ctx, rec(fmt.Sprint("x", i), float32(i), 1)))
		}
		stop, step := make(chan struct{}), make(chan struct{})
		steps := func(n int) {
			for range n {
				<-step
			}
		}
		var wg sync.WaitGroup
		for w := range uint64(6) {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(seed, w))
				for {
					select {
					case <-stop:
						return
					case step <- struct{}{}:
					default:
					}
					id := fmt.Sprint([]string{"", "x"}[r.IntN(2)], r.IntN(60))
					var err error
					switch r.IntN(5) {
					case 0:
						_, err = c.Delete(ctx, Selection{IDs: []string{id}})
					case 1:
						_, err = c.Delete(ctx, Selection{Where: filter.Lt(DefaultRetentionKey, filter.Int(time.Now().Unix()-1))})
					case 2:
						err = c.Upsert(ctx, rec(id, float32(r.IntN(1000)), 2))
					case 3:
						err = c.Update(ctx, rec(id, float32(r.IntN(1000)), 3))
					case 4:
						_, err = c.Expire(ctx)
					}
					if err != nil && !errors.Is(err, ErrHeld) {
						t.Errorf("seed %d: %v", seed, err)
					}
				}
			})
		}
		steps(r.IntN(100))
		check(t, c.PlaceHold(ctx, "a case"))
		before := contentOf(t, c)
		left := fs.Clone()
		steps(r.IntN(100))
		close(stop)
		wg.Wait()
		includes(t, seed, "later", contentOf(t, c), before)
		check(t, db.Close())
		db = openOn(t, left, o)
		includes(t, seed, "after a crash", contentOf(t, collection(t, db, "c")), before)
		check(t, db.Close())
	}
}

// contentOf is what a collection has, over or not.
func contentOf(t testing.TB, c *Collection) (out []string) {
	t.Helper()
	v, err := c.view()
	check(t, err)
	defer v.close()
	for r, err := range v.get(t.Context(), Selection{}, IncludeAll) {
		check(t, err)
		out = append(out, fmt.Sprint(r.ID, r.Embedding, r.Metadata))
	}
	slices.Sort(out)
	return out
}

func includes(t *testing.T, seed uint64, when string, has, wants []string) {
	t.Helper()
	for _, w := range wants {
		if _, ok := slices.BinarySearch(has, w); !ok {
			t.Fatalf("seed %d, %s: %s is gone", seed, when, w)
		}
	}
}
