package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/vfs/faultfs"
	"github.com/chromad/chromad/segment"
)

// A record that is given more time between the look for what is over and the
// entry that deletes it stays, and so does one that is named by mistake.
func TestExpireSpares(t *testing.T) {
	ctx := t.Context()
	db, _ := newDB(t, Options{ExpireEvery: -1})
	c := newCollection(t, db, "c")
	check(t, c.SetRetention(ctx, &Retention{}))
	check(t, c.Add(ctx, timedRecord("over", filter.Int(1)), timedRecord("prolonged", filter.Int(4e9)), timedRecord("unclear", filter.Int(4e9)), rec("none", 1, 2)))
	check(t, db.Flush(ctx))
	k := c.keep.Load()
	e := &expireEntry{collection: c.id, key: k.key, at: k.clock(), ids: []string{"over", "prolonged", "unclear", "none", "nobody", "over"}}
	if n, err := c.expireSome(ctx, k, e); n != 1 || err != nil {
		t.Errorf("%d deleted, %v", n, err)
	}
	if got := idsOf(getAll(t, c, Selection{}, 0)); got != "prolonged unclear none" {
		t.Errorf("%q is left", got)
	}
	if n, err := c.expireSome(ctx, &keeping{}, &expireEntry{collection: c.id, key: k.key, at: 5e9, ids: []string{"prolonged"}}); n != 0 || err != nil {
		t.Errorf("on another retention: %d deleted, %v", n, err)
	}
}

// Many records that are over go in several entries, while writers come in between.
func TestExpireMany(t *testing.T) {
	ctx := t.Context()
	db, _ := newDB(t, Options{ExpireEvery: -1, MemtableRows: 1500})
	c := newCollection(t, db, "c")
	check(t, c.SetRetention(ctx, &Retention{}))
	var recs []Record
	for i := range 5 * expireRecords / 2 {
		recs = append(recs, timedRecord(fmt.Sprint(i), filter.Int(int64(1+i%2*4e9))))
	}
	for batch := range slices.Chunk(recs, 500) {
		check(t, c.Add(ctx, batch...))
	}
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			for n := range 50 {
				if err := c.Upsert(ctx, timedRecord(fmt.Sprint("w", i, "-", n), filter.Int(4e9))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	n, err := c.Expire(ctx)
	wg.Wait()
	if left, _ := c.Count(ctx); n != len(recs)/2 || err != nil || left != len(recs)/2+150 || c.state.Load().live != left {
		t.Errorf("%d of %d deleted, %d left; %v", n, len(recs), left, err)
	}
}

// Of two that delete what is over at once each has it all gone when it returns,
// though the other was faster with what it had found.
func TestExpireTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		db := openOn(t, faultfs.New(1), Options{ExpireEvery: -1})
		c := newCollection(t, db, "c")
		check(t, c.SetRetention(ctx, &Retention{}))
		var recs []Record
		for i := range 5 * expireRecords / 2 {
			recs = append(recs, timedRecord(fmt.Sprint(i), filter.Int(1)))
		}
		check(t, c.Add(ctx, recs...))
		check(t, c.writeMu.lock(ctx))
		var wg sync.WaitGroup
		var total atomic.Int64
		for range 2 {
			wg.Go(func() {
				n, err := c.Expire(ctx)
				left := c.state.Load().live
				if total.Add(int64(n)); err != nil || left != 0 {
					t.Errorf("%d deleted, and %d are left; %v", n, left, err)
				}
			})
		}
		synctest.Wait() // both have found the same
		c.writeMu.Unlock()
		wg.Wait()
		if int(total.Load()) != len(recs) {
			t.Errorf("%d of %d deleted", total.Load(), len(recs))
		}
		check(t, db.Close())
	})
}

// What comes over while a retention is about to end, or to go by another key, does
// not come back with that.
func TestExpireLast(t *testing.T) {
	for name, to := range map[string]*Retention{"off": nil, "another key": {Key: "other"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				told := 0
				db := openOn(t, faultfs.New(1), Options{ExpireEvery: -1, Events: &Events{Expired: func(e ExpireEvent) { told += e.Records }}})
				c := newCollection(t, db, "c")
				check(t, c.SetRetention(ctx, &Retention{}))
				check(t, c.Add(ctx, timedRecord("flushed", in(time.Minute)), timedRecord("later", in(time.Hour))))
				check(t, db.Flush(ctx))
				check(t, c.Add(ctx, timedRecord("minute", in(time.Minute)), rec("none", 1, 2)))
				check(t, db.catMu.lock(ctx))
				done := make(chan error)
				go func() { done <- c.SetRetention(ctx, to) }()
				synctest.Wait() // it has deleted what was over, which is nothing
				time.Sleep(time.Minute)
				db.catMu.Unlock()
				check(t, <-done)
				if got := sights(t, c); got != "later none" || told != 2 {
					t.Errorf("%q, and %d were told of", got, told)
				}
				check(t, db.Close())
			})
		})
	}
}

// A record that is over already when the next one of its id comes in the same
// upsert is not there for it: the second is stored alone, and judged so.
func TestExpiryTwiceUnderRule(t *testing.T) {
	ctx := t.Context()
	db, _ := newDB(t, Options{ExpireEvery: -1})
	c := newCollection(t, db, "c")
	check(t, c.SetRetention(ctx, &Retention{}))
	red := under(t, c, team("red"))
	first := of("red", "x", 1, 2)
	first.Metadata[DefaultRetentionKey] = filter.Int(1)
	bare := Record{ID: "x", Embedding: []float32{1, 2}, Metadata: Metadata{"note": filter.String("y")}}
	for name, recs := range map[string][]Record{
		"alone": {first, bare}, "after another": {of("red", "x", 1, 2), first, bare}, "the third": {first, first, bare}, "another team": {first, of("blue", "x", 1, 2)},
	} {
		err := red.Upsert(ctx, recs...)
		if wrong, is := errors.AsType[*RuleError](err); !is || wrong.Index != len(recs)-1 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := sights(t, c); got != "" {
		t.Errorf("refused, and there is %q", got)
	}
	check(t, red.Upsert(ctx, first, of("red", "x", 1, 2), bare)) // which is merged
	check(t, red.Add(ctx, of("red", "y", 1, 2)))
	if got := getAll(t, c, Selection{Where: team("red")}, 0); idsOf(got) != "x y" {
		t.Errorf("%q", idsOf(got))
	}
}

// Under a rule about records what is over is not there either, and a rule about
// the time is judged by the time that a new record gets.
func TestExpiryUnderRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		db := openOn(t, faultfs.New(1), Options{ExpireEvery: -1})
		c := newCollection(t, db, "c")
		check(t, c.SetRetention(ctx, &Retention{Default: time.Hour}))
		of := func(id, team string, at Value) Record {
			r := timedRecord(id, at)
			r.Metadata["team"] = filter.String(team)
			return r
		}
		check(t, c.Add(ctx, of("mine", "red", in(time.Minute)), of("theirs", "blue", in(time.Minute)), of("late", "red", in(time.Hour))))
		red, err := c.Under(filter.Eq("team", filter.String("red")))
		check(t, err)
		if err := red.Upsert(ctx, of("theirs", "red", in(time.Hour))); !errors.Is(err, ErrRule) {
			t.Errorf("another's record: %v", err)
		}
		time.Sleep(time.Minute)
		if n, err := red.Count(ctx); n != 1 || err != nil {
			t.Errorf("%d are to be seen, %v", n, err)
		}
		if n, err := red.Delete(ctx, Selection{IDs: []string{"mine", "theirs"}}); n != 0 || err != nil {
			t.Errorf("%d deleted, %v", n, err)
		}
		check(t, red.Update(ctx, of("theirs", "red", in(time.Hour))))
		check(t, red.Upsert(ctx, of("theirs", "red", in(time.Hour)))) // whose record is over: the id is free
		if got := sights(t, c); got != "late theirs" {
			t.Errorf("%q", got)
		}
		short, err := c.Under(filter.Lt(DefaultRetentionKey, in(90*time.Minute)))
		check(t, err)
		check(t, short.Add(ctx, rec("by default", 1, 2)))
		check(t, c.SetRetention(ctx, &Retention{Default: 2 * time.Hour}))
		for _, write := range []error{short.Add(ctx, rec("x", 1, 2)), short.Upsert(ctx, rec("x", 1, 2))} {
			if !errors.Is(write, ErrRule) {
				t.Errorf("a default beyond the rule: %v", write)
			}
		}
		check(t, db.Close())
	})
}

// A damaged index of metadata does not bring back what is over: the rows tell.
func TestExpiryWithoutIndex(t *testing.T) {
	ctx := t.Context()
	fs := faultfs.New(1)
	o := Options{ExpireEvery: -1}
	db := openOn(t, fs, o)
	c := newCollection(t, db, "c")
	for i := range 300 {
		check(t, c.Add(ctx, timedRecord(fmt.Sprint(i), []Value{filter.Int(1), filter.Int(4e9), filter.String("2000-01-01T00:00:00Z"), filter.Ints(1)}[i%4])))
	}
	check(t, c.SetRetention(ctx, &Retention{}))
	check(t, db.Flush(ctx))
	name := segment.Name(c.manifest.segments[0].info.Number)
	check(t, db.Close())
	for _, p := range partsIn(t, fs, name) {
		if segment.SectionName(p.Kind) == "filter index" {
			check(t, fs.Damage(name, func(b []byte) []byte {
				b[(p.Offset+p.End)/2] ^= 1
				return b
			}))
		}
	}
	db = openOn(t, fs, o)
	c = collection(t, db, "c")
	if n, err := c.Count(ctx); n != 150 || err != nil {
		t.Errorf("%d are to be seen, %v", n, err)
	}
	if s, err := c.RetentionState(ctx); err != nil || s != (RetentionState{Over: 150, Unclear: 75}) {
		t.Errorf("%+v, %v", s, err)
	}
	if n, err := c.Expire(ctx); n != 150 || err != nil {
		t.Errorf("%d deleted, %v", n, err)
	}
	check(t, db.Close())
}

// Repair keeps what holds, and what was written on its terms, by the terms that
// were; where no checkpoint tells of it, it says so.
func TestRepairRetention(t *testing.T) {
	for _, op := range []OperatorKey{nil, operator("a")} {
		ctx := t.Context()
		fs := faultfs.New(1)
		o := Options{Keys: op, ExpireEvery: -1}
		db := openOn(t, fs, o)
		c := newCollection(t, db, "c")
		check(t, c.SetRetention(ctx, &Retention{Default: time.Hour}))
		check(t, c.Add(ctx, timedRecord("over", filter.Int(1)), timedRecord("later", filter.Int(4e9)), rec("default", 1, 2), timedRecord("over and there", filter.Int(2))))
		check(t, db.Flush(ctx))
		check(t, db.writeCheckpoint(ctx))
		check(t, c.Add(ctx, timedRecord("over", filter.Int(4e9)))) // in the place of the one that is over
		check(t, c.Update(ctx, timedRecord("over and there", filter.Int(4e9))))
		check(t, c.Add(ctx, timedRecord("swept", filter.Int(1))))
		if n, err := c.Expire(ctx); n != 2 || err != nil {
			t.Errorf("%d deleted, %v", n, err)
		}
		check(t, c.PlaceHold(ctx, "a case"))
		check(t, c.Add(ctx, rec("under hold", 1, 2)))
		if err := c.Upsert(ctx, rec("later", 9, 9)); !errors.Is(err, ErrHeld) {
			t.Error(err)
		}
		want, retention, hold := contentOf(t, c), *c.Retention(), *c.Hold()
		left := fs.Clone()
		check(t, db.Close())
		out, r := repaired(t, left, op)
		if len(r.Lost) > 0 || len(r.Chosen) > 0 {
			t.Errorf("lost %+v, chosen %v", r.Lost, r.Chosen)
		}
		db = openOn(t, out, o)
		c = collection(t, db, "c")
		if got := contentOf(t, c); !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		if c.Retention() == nil || *c.Retention() != retention || c.Hold() == nil || *c.Hold() != hold {
			t.Errorf("retention %+v, hold %+v", c.Retention(), c.Hold())
		}
		check(t, db.Close())
		for _, n := range fs.Files() {
			if strings.HasPrefix(n, checkpointDir+"/") {
				check(t, fs.Damage(n, func(b []byte) []byte {
					clear(b[disk.HeaderSize : len(b)-40])
					return b
				}))
			}
		}
		if _, r = repaired(t, fs, op); !strings.Contains(fmt.Sprint(r.Chosen), "legal holds") {
			t.Errorf("without a checkpoint: %v", r.Chosen)
		}
	}
}

// The times of a segment are read an hour ahead: what is over at the end of the
// hour, and behind it, goes at its second.
func TestExpiryWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		db := openOn(t, faultfs.New(1), Options{ExpireEvery: -1})
		c := newCollection(t, db, "c")
		check(t, c.SetRetention(ctx, &Retention{}))
		steps := []int{1, expiryWindow - 1, expiryWindow, expiryWindow + 1, 2 * expiryWindow, 2*expiryWindow + 1, 2*expiryWindow + 2, 4*expiryWindow + 3}
		begin := time.Now()
		for _, s := range steps {
			check(t, c.Add(ctx, timedRecord(fmt.Sprint(s), in(time.Duration(s)*time.Second))))
		}
		check(t, db.Flush(ctx))
		for i, s := range steps {
			for _, at := range []int{s - 1, s} {
				time.Sleep(time.Until(begin.Add(time.Duration(at) * time.Second)))
				if n, err := c.Count(ctx); n != len(steps)-i-at+s-1 || err != nil {
					t.Errorf("after %d seconds there are %d records, %v", at, n, err)
				}
			}
		}
		check(t, db.Close())
	})
}
