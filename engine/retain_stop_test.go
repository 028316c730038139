package engine

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// After StopExpiring nothing is deleted, and what is over stays out of sight.
func TestStopExpiring(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		fs := faultfs.New(1)
		db := openOn(t, fs, Options{})
		c := newCollection(t, db, "c")
		check(t, c.SetRetention(ctx, &Retention{}))
		check(t, c.Add(ctx, timedRecord("a", in(time.Minute)), timedRecord("b", in(time.Hour)), rec("c", 1, 2)))
		time.Sleep(3 * time.Minute)
		if n := c.state.Load().live; n != 2 {
			t.Errorf("%d records", n)
		}
		for range 2 {
			check(t, db.StopExpiring(ctx))
		}
		time.Sleep(2 * time.Hour)
		check(t, c.SetRetention(ctx, &Retention{Default: time.Hour})) // which wakes the background, and deletes by itself what was over
		check(t, c.Add(ctx, timedRecord("d", filter.Int(1))))
		time.Sleep(time.Hour)
		if n := c.state.Load().live; n != 2 || sights(t, c) != "c" {
			t.Errorf("%d records, to be seen %q", n, sights(t, c))
		}
		check(t, db.Close())
		if err := db.StopExpiring(ctx); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		db = openOn(t, fs, Options{ReadOnly: true})
		check(t, db.StopExpiring(ctx))
		check(t, db.Close())
	})
}

// What is on its way to the disk when the background is stopped, when the store
// is closed, or when who asked has left, is deleted and told of.
func TestStopExpiringInFlight(t *testing.T) {
	for name, stop := range map[string]func(t *testing.T, db *DB, c *Collection, ctx context.Context) error{
		"stop":  func(_ *testing.T, db *DB, _ *Collection, ctx context.Context) error { return db.StopExpiring(ctx) },
		"close": func(_ *testing.T, db *DB, _ *Collection, _ context.Context) error { return db.Close() },
		"left": func(t *testing.T, _ *DB, c *Collection, ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			if _, err := c.Expire(ctx); !errors.Is(err, ErrUnknown) {
				t.Errorf("who has left gets %v", err)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				fs := faultfs.New(1)
				var told atomic.Int64
				o := Options{Events: &Events{Expired: func(e ExpireEvent) { told.Add(int64(e.Records)) }}}
				if name == "left" {
					o.ExpireEvery = -1
				}
				db := openOn(t, fs, o)
				c := newCollection(t, db, "c")
				check(t, c.SetRetention(ctx, &Retention{}))
				check(t, c.Add(ctx, timedRecord("a", in(10*time.Second)), timedRecord("b", in(10*time.Second))))
				var slow atomic.Bool
				fs.Hook(func(op faultfs.Op, name string) {
					if slow.Load() && op == faultfs.OpSync && strings.HasPrefix(name, "log/") {
						time.Sleep(10 * time.Minute)
					}
				})
				slow.Store(true)
				time.Sleep(5 * time.Minute) // the disk has begun
				check(t, stop(t, db, c, ctx))
				if name == "left" {
					time.Sleep(20 * time.Minute)
				}
				if n := told.Load(); n != 2 || c.state.Load().live != 0 {
					t.Errorf("%d were told of, %d are left", n, c.state.Load().live)
				}
				if name != "close" {
					check(t, db.Close())
				}
			})
		})
	}
}
