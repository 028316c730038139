package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// The clock of these tests is synctest's: nobody waits.

// timedRecord is a record that says when it is over.
func timedRecord(id string, at Value) Record {
	return Record{ID: id, Embedding: []float32{1, 2}, Metadata: Metadata{DefaultRetentionKey: at}}
}

// in is so long from now, as a record says it.
func in(d time.Duration) Value { return filter.Int(time.Now().Add(d).Unix()) }

// sights are the ids that a collection shows, by each way of asking; they have
// to agree.
func sights(t testing.TB, c *Collection) string {
	t.Helper()
	ctx := t.Context()
	ids := idsOf(getAll(t, c, Selection{}, 0))
	want := strings.Fields(ids)
	slices.Sort(want)
	n, err := c.Count(ctx)
	check(t, err)
	if n != len(want) {
		t.Errorf("count says %d, get has %q", n, ids)
	}
	everything := filter.Ne("no such key", filter.Int(1))
	if got := idsOf(getAll(t, c, Selection{Where: everything}, 0)); got != ids {
		t.Errorf("get under a filter has %q, without %q", got, ids)
	}
	g, err := c.Under(everything)
	check(t, err)
	if n, err = g.Count(ctx); err != nil || n != len(want) {
		t.Errorf("count under a rule says %d, get has %q; %v", n, ids, err)
	}
	for _, o := range []*QueryOptions{nil, {Where: everything}, {Exact: true}} {
		found, err := c.Query(ctx, []float32{1, 2}, 1000, o)
		check(t, err)
		var got []string
		for _, m := range found {
			got = append(got, m.ID)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("query (%+v) finds %q, get has %q", o, got, ids)
		}
	}
	return ids
}

// A record is gone from every read at the second that it names, in memory, while
// it is flushed, and in segments; what is not over stays.
func TestExpiry(t *testing.T) {
	for _, where := range []string{"memory", "segment", "both", "opened again"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				fs := faultfs.New(1)
				o := Options{ExpireEvery: -1} // reads alone decide
				db := openOn(t, fs, o)
				c := newCollection(t, db, "c")
				check(t, c.SetRetention(ctx, &Retention{Default: time.Hour}))
				at := func(d time.Duration) time.Time { return time.Now().Add(d) }
				check(t, c.Add(ctx, rec("default", 1, 2), timedRecord("ten", in(10*time.Second)), timedRecord("float", filter.Float(float64(at(20*time.Second).Unix())-0.5)),
					timedRecord("text", filter.String(at(30*time.Second).UTC().Format(time.RFC3339)))))
				if where == "segment" || where == "both" {
					check(t, db.Flush(ctx))
				}
				check(t, c.Upsert(ctx, timedRecord("past", filter.Int(1)), timedRecord("later", in(2*time.Hour)), timedRecord("half", filter.String(at(40*time.Second-time.Millisecond).UTC().Format(time.RFC3339Nano)))))
				if where == "segment" {
					check(t, db.Flush(ctx))
				}
				if where == "opened again" {
					check(t, db.Close())
					db = openOn(t, fs, o)
					c = collection(t, db, "c")
				}
				for _, step := range []struct {
					wait time.Duration
					want string
				}{
					{0, "default ten float text later half"},
					{9 * time.Second, "default ten float text later half"},
					{time.Second, "default float text later half"},
					{9 * time.Second, "default float text later half"},
					{time.Second, "default text later half"},
					{10 * time.Second, "default later half"},
					{10 * time.Second, "default later"},
					{time.Hour, "later"},
					{time.Hour, ""},
				} {
					time.Sleep(step.wait)
					if got := sights(t, c); got != step.want {
						t.Errorf("%v later: %q, want %q", step.wait, got, step.want)
					}
				}
				if n := c.state.Load().live; n != 7 {
					t.Errorf("%d records are there, and nobody has deleted one", n)
				}
				s, err := c.RetentionState(ctx)
				if err != nil || s != (RetentionState{Over: 7}) {
					t.Errorf("%+v, %v", s, err)
				}
				if n, err := c.Expire(ctx); n != 7 || err != nil || c.state.Load().live != 0 {
					t.Errorf("%d deleted, %d left, %v", n, c.state.Load().live, err)
				}
				check(t, db.Close())
			})
		})
	}
}

// What says no time is refused once it would count, and stays where it was before.
func TestExpiryValues(t *testing.T) {
	ctx := t.Context()
	db, _ := newDB(t, Options{})
	c := newCollection(t, db, "c")
	bad := map[string]Value{
		"zero": filter.Int(0), "negative": filter.Int(-1), "milliseconds": filter.Int(1700000000000), "far": filter.Float(1e300), "bool": filter.Bool(true),
		"word": filter.String("tomorrow"), "date": filter.String("2027-01-31"), "empty": filter.String(""), "list": filter.Ints(4e9), "loose": filter.String("2027-01-31T9:00:00Z"),
	}
	for id, v := range bad {
		check(t, c.Add(ctx, timedRecord(id, v)))
	}
	check(t, c.SetRetention(ctx, &Retention{}))
	for round := range 2 {
		if n, err := c.Count(ctx); n != len(bad) || err != nil {
			t.Errorf("round %d: %d records, %v", round, n, err)
		}
		if s, err := c.RetentionState(ctx); err != nil || s != (RetentionState{Unclear: len(bad)}) {
			t.Errorf("round %d: %+v, %v", round, s, err)
		}
		check(t, db.Flush(ctx))
	}
	for id, v := range bad {
		for kind, write := range map[string]func(context.Context, ...Record) error{"add": c.Add, "upsert": c.Upsert, "update": c.Update} {
			err := write(ctx, rec("fine", 1, 2), timedRecord(id, v))
			e, ok := errors.AsType[*InvalidError](err)
			if !ok || e.Index != 1 || !strings.Contains(e.Reason, DefaultRetentionKey) || strings.Contains(e.Reason, "milliseconds") != (id == "milliseconds") {
				t.Errorf("%s of %s: %v", kind, id, err)
			}
		}
	}
	check(t, c.Update(ctx, timedRecord("word", filter.Null())))
	check(t, c.SetRetention(ctx, nil))
	check(t, c.Update(ctx, timedRecord("word", filter.String("tomorrow"))))
	for name, r := range map[string]Retention{
		"negative": {Default: -time.Second}, "parts": {Default: 1500 * time.Millisecond}, "long": {Default: 200 * 366 * 24 * time.Hour}, "reserved": {Key: "#document"}, "long key": {Key: strings.Repeat("k", 2000)},
	} {
		if err := c.SetRetention(ctx, &r); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The default is given to records that are new and have no time, once.
func TestExpiryDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		fs := faultfs.New(1)
		db := openOn(t, fs, Options{})
		c := newCollection(t, db, "c")
		check(t, c.Add(ctx, rec("before", 1, 2)))
		check(t, c.SetRetention(ctx, &Retention{Key: "until", Default: time.Hour}))
		first := time.Now().Unix()
		named := Record{ID: "named", Embedding: []float32{1, 2}, Metadata: Metadata{"until": filter.Int(first + 7), "a": filter.Int(1)}}
		nulled := Record{ID: "nulled", Embedding: []float32{1, 2}, Metadata: Metadata{"until": filter.Null()}}
		check(t, c.Add(ctx, rec("added", 1, 2), named, nulled))
		check(t, c.Upsert(ctx, rec("before", 1, 2), rec("upserted", 1, 2)))
		time.Sleep(5 * time.Second)
		check(t, c.Upsert(ctx, rec("added", 3, 4), rec("upserted", 3, 4)))
		check(t, c.Update(ctx, Record{ID: "named", Metadata: Metadata{"a": filter.Int(2)}}))
		want := map[string]int64{"added": first + 3600, "upserted": first + 3600, "named": first + 7, "nulled": first + 3600}
		for range 2 {
			got := map[string]int64{}
			for _, r := range getAll(t, c, Selection{}, IncludeMetadata) {
				if v, ok := r.Metadata["until"]; ok {
					got[r.ID] = v.AsInt()
				}
			}
			if !maps.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
			if !c.Info().Keys["until"].Has(filter.KindInt) {
				t.Error("the key is not known")
			}
			left := fs.Clone() // the replay is at another time
			_ = db.Close()
			time.Sleep(time.Second)
			fs, db = left, openOn(t, left, Options{})
			c = collection(t, db, "c")
		}
		time.Sleep(time.Hour)
		if got := sights(t, c); got != "before" {
			t.Errorf("an hour later: %q", got)
		}
		check(t, db.Close())
	})
}

// Records are deleted when they are over, and their bytes leave the disk within
// the time for that, with a receipt that the store has signed.
func TestExpiryErases(t *testing.T) {
	for _, op := range []OperatorKey{nil, operator("a")} {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			fs := faultfs.New(1)
			var told atomic.Int64
			events := &Events{Expired: func(e ExpireEvent) { told.Add(int64(e.Records)) }}
			db := openOn(t, fs, Options{Keys: op, EraseWithin: 4 * time.Hour, Events: events})
			defer func() { _ = db.Close() }()
			c := newCollection(t, db, "c")
			check(t, c.SetRetention(ctx, &Retention{}))
			gone, kept := canaries{}, canaries{}
			for i := range 40 {
				of, in48 := gone, time.Hour
				if i%3 > 0 {
					of, in48 = kept, 48*time.Hour
				}
				r := of.record(fmt.Sprint("record", i), float32(i+1))
				r.Metadata[DefaultRetentionKey] = in(in48)
				check(t, c.Add(ctx, r))
				if i == 20 {
					check(t, db.Flush(ctx))
				}
			}
			time.Sleep(time.Hour)
			if n, err := c.Count(ctx); n != 26 || err != nil {
				t.Errorf("%d records are to be seen, %v", n, err)
			}
			time.Sleep(defaultExpire)
			synctest.Wait()
			if n := c.state.Load().live; n != 26 {
				t.Errorf("%d records after a sweep", n)
			}
			if s := db.Stats(); s.Expired != 14 || told.Load() != 14 || s.ExpireOverdue != 0 {
				t.Errorf("%d expired, overdue %v", s.Expired, s.ExpireOverdue)
			}
			if len(gone.found(bytesOf(t, fs, op))) == 0 {
				t.Error("the canaries are not to be found where they must be")
			}
			time.Sleep(4 * time.Hour)
			synctest.Wait()
			read := bytesOf(t, fs, op)
			if f := gone.found(read); len(f) > 0 {
				t.Errorf("after the time: %v", f)
			}
			if f := kept.found(read); len(f) < len(kept) {
				t.Errorf("of what is kept %d of %d are there", len(f), len(kept))
			}
			if op != nil {
				public, err := db.PublicKey()
				check(t, err)
				n, rows := 0, uint64(0)
				for r, err := range db.Receipts(ctx) {
					check(t, err)
					check(t, r.Verify(public))
					for _, of := range r.Statement.Collections {
						if n++; of.ID != c.ID().String() || r.Statement.Kind != "records" {
							t.Errorf("a receipt of %+v", r.Statement)
						}
						rows += of.Rows
					}
				}
				if n != 1 || rows > 14 { // a merge in the background may have had some before
					t.Errorf("%d receipts, of %d rows", n, rows)
				}
			}
			check(t, db.Close())
		})
	}
}

// holdModel is what a collection with a retention shows, in plain maps.
type holdModel struct {
	records map[string]holdRecord
	order   []string
	on      bool
	grace   int64
	held    int64 // since when, 0: not
	// ghosts are over, and perhaps there still: a hold keeps them then.
	ghosts map[string]bool
}

type holdRecord struct {
	at      int64 // 0: never
	version float32
}

func (m *holdModel) clock() int64 {
	if m.held != 0 {
		return m.held
	}
	return time.Now().Unix()
}

func (m *holdModel) over(id string) bool {
	r := m.records[id]
	return m.on && r.at != 0 && r.at <= m.clock()
}

// see forgets what is over, unless a hold keeps it.
func (m *holdModel) see() string {
	var ids []string
	for _, id := range m.order {
		if !m.over(id) {
			ids = append(ids, fmt.Sprint(id, "=", m.records[id].version))
		} else if m.held == 0 {
			delete(m.records, id)
			m.ghosts[id] = true
		}
	}
	m.order = slices.DeleteFunc(m.order, func(id string) bool { _, there := m.records[id]; return !there })
	return strings.Join(ids, " ")
}

func shown(t testing.TB, c *Collection) string {
	t.Helper()
	sights(t, c)
	var ids []string
	for _, r := range getAll(t, c, Selection{}, IncludeEmbedding) {
		ids = append(ids, fmt.Sprint(r.ID, "=", r.Embedding[0]))
	}
	return strings.Join(ids, " ")
}

// Against a model: whatever is written, flushed, merged, held, released, opened
// again or lost in a crash, and whenever, a record is there until it is over and
// not a second longer, and nothing under hold is changed.
func TestRetentionModel(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) { retentionModel(t, seed) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func retentionModel(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 7))
	w := &retentionWalk{
		T: t, Rand: r, fs: faultfs.New(seed), m: &holdModel{records: map[string]holdRecord{}, ghosts: map[string]bool{}},
		o: Options{MemtableRows: 4 + r.IntN(20), GraphMin: 4, Workers: 1, OpenSegments: 2, ExpireEvery: []time.Duration{0, -1, 10 * time.Second}[r.IntN(3)]},
	}
	if seed%2 == 0 {
		w.o.Keys = operator("a")
	}
	w.db = openOn(t, w.fs, w.o)
	defer func() { _ = w.db.Close() }()
	w.c = newCollection(t, w.db, "c")
	for step := range 120 {
		w.id = fmt.Sprint("id", w.IntN(12))
		w.m.see()
		var what string
		var err error
		if n := w.IntN(16); n < 9 {
			what, err = w.write(n)
		} else {
			what, err = w.other(n)
		}
		if w.refused != errors.Is(err, ErrHeld) || !w.refused && err != nil {
			t.Fatalf("step %d: %s of %s under hold since %d: %v", step, what, w.id, w.m.held, err)
		}
		if got, want := shown(t, w.c), w.m.see(); got != want {
			t.Fatalf("step %d, %s of %s, retention %v, held %d, at %d:\n%s, want\n%s", step, what, w.id, w.m.on, w.m.held, time.Now().Unix(), got, want)
		}
		if what == "expire" && w.m.held == 0 && w.m.on && w.c.state.Load().live != len(w.m.records) {
			t.Fatalf("step %d: %d records are there, want %d", step, w.c.state.Load().live, len(w.m.records))
		}
	}
	check(t, w.db.Close())
}

// retentionWalk does the same to a store and to its model.
type retentionWalk struct {
	*testing.T
	*rand.Rand
	fs      *faultfs.FS
	o       Options
	db      *DB
	c       *Collection
	m       *holdModel
	version float32
	id      string
	refused bool // the step has to be refused by a hold
}

// record is a new version of the walk's id, with a time or without one (0).
func (w *retentionWalk) record() (r Record, at int64) {
	w.version++
	r = rec(w.id, w.version, 1)
	if w.IntN(3) > 0 {
		at = max(1, time.Now().Unix()+int64(w.IntN(60)-5))
		r.Metadata = Metadata{DefaultRetentionKey: []Value{filter.Int(at), filter.Float(float64(at)), filter.String(time.Unix(at, 0).UTC().Format(time.RFC3339))}[w.IntN(3)]}
	}
	return r, at
}

func (w *retentionWalk) write(n int) (what string, err error) {
	ctx, m, id := w.Context(), w.m, w.id
	record, at := w.record()
	_, there := m.records[id]
	ghost := func() bool {
		return m.held != 0 && (there && m.over(id) || m.ghosts[id] && errors.Is(err, ErrHeld))
	}
	fresh := func() {
		if at == 0 && m.on && m.grace > 0 {
			at = time.Now().Unix() + m.grace
		}
		m.records[id] = holdRecord{at, w.version}
		m.order = append(m.order, id)
		delete(m.ghosts, id)
	}
	merge := func() {
		if at == 0 {
			at = m.records[id].at
		}
		m.records[id] = holdRecord{at, w.version}
	}
	switch {
	case n < 3:
		what, err = "add", w.c.Add(ctx, record)
		if w.refused = ghost(); !w.refused && !there {
			fresh()
		}
	case n < 6:
		what, err = "upsert", w.c.Upsert(ctx, record)
		switch w.refused = m.held != 0 && there || ghost(); {
		case w.refused:
		case there:
			merge()
		default:
			fresh()
		}
	case n < 8:
		what, err = "update", w.c.Update(ctx, record)
		if w.refused = m.held != 0; !w.refused && there {
			merge()
		}
	default:
		what = "delete"
		var deleted int
		deleted, err = w.c.Delete(ctx, Selection{IDs: []string{id}})
		if w.refused = m.held != 0; !w.refused {
			if there != (deleted == 1) {
				w.Errorf("deleted %d of %s, which is there: %v", deleted, id, there)
			}
			delete(m.records, id)
			m.see()
		}
	}
	return what, err
}

func (w *retentionWalk) other(n int) (what string, err error) {
	ctx, m := w.Context(), w.m
	w.refused = false
	switch n {
	case 9:
		what = "time"
		time.Sleep(time.Duration(w.IntN(40)) * time.Second)
	case 10:
		what, err = "flush", w.db.Flush(ctx)
	case 11:
		what, err = "compact", w.db.Compact(ctx)
	case 12:
		what = "retention"
		on, grace := w.IntN(4) > 0, int64(w.IntN(2)*30)
		var to *Retention
		if on {
			to = &Retention{Default: time.Duration(grace) * time.Second}
		}
		err = w.c.SetRetention(ctx, to)
		if w.refused = m.held != 0; !w.refused {
			if m.on {
				clear(m.ghosts)
			}
			m.on, m.grace = on, grace
		}
	case 13:
		what = "hold or release"
		if m.held == 0 {
			err, m.held = w.c.PlaceHold(ctx, "a case"), time.Now().Unix()
		} else {
			err, m.held = w.c.ReleaseHold(ctx), 0
		}
	case 14:
		what = "crash"
		left := w.fs.Crash(w.Rand)
		_ = w.db.Close()
		w.fs, w.db = left, openOn(w, left, w.o)
		w.c = collection(w, w.db, "c")
	default:
		what = "expire"
		if _, err = w.c.Expire(ctx); m.on && m.held == 0 {
			clear(m.ghosts)
		}
	}
	return what, err
}
