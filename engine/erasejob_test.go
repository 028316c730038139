package engine

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/vfs/faultfs"
	"github.com/chromad/chromad/segment"
)

// The clock of these tests is synctest's: nobody waits.

// deadline is a store with one deletion, made when the test began, whose bytes
// stay until somebody erases them: too few to be worth a merge.
type deadline struct {
	t    *testing.T
	fs   *faultfs.FS
	db   *DB
	o    Options
	gone canaries
	at   time.Time
}

func newDeadline(t *testing.T, o Options) *deadline {
	d := &deadline{t: t, fs: faultfs.New(1), o: o, gone: canaries{}}
	d.open()
	c := newCollection(t, d.db, "c")
	for i := range 20 {
		r := rec4(string(rune('a' + i)))
		check(t, c.Add(t.Context(), r))
	}
	check(t, c.Add(t.Context(), d.gone.record("gone", 3)))
	check(t, d.db.Flush(t.Context()))
	check(t, d.db.writeCheckpoint(t.Context()))
	d.at = time.Now()
	_, err := c.Delete(t.Context(), Selection{IDs: []string{string(d.gone["gone id"])}})
	check(t, err)
	return d
}

func (d *deadline) open() { d.db = openOn(d.t, d.fs, d.o) }

func (d *deadline) crash() {
	left := d.fs.Clone()
	_ = d.db.Close()
	d.fs = left
}

// when goes on to so long after the deletion and tells whether it is still there.
func (d *deadline) when(after time.Duration) bool {
	d.t.Helper()
	time.Sleep(time.Until(d.at.Add(after)))
	synctest.Wait()
	return len(d.gone.found(bytesOf(d.t, d.fs, d.o.Keys))) > 0
}

func (d *deadline) wants(after time.Duration, there bool) {
	d.t.Helper()
	if got := d.when(after); got != there {
		d.t.Errorf("%v after the deletion it is there: %v, want %v; unerased since %d", after, got, there, d.db.erasure.unerased())
	}
}

// What was deleted is erased within the time, however often the store was
// opened, crashed and closed meanwhile, and soon when it was closed over that.
func TestEraseDeadline(t *testing.T) {
	const h = time.Hour
	day := Options{Keys: operator("a")}
	for _, tc := range []struct {
		name string
		o    Options
		run  func(d *deadline)
	}{
		{"in time, not at once", day, func(d *deadline) {
			d.wants(17*h, true)
			d.wants(24*h, false)
		}},
		{"another time", Options{EraseWithin: 4 * h}, func(d *deadline) {
			d.wants(2*h, true)
			d.wants(4*h, false)
		}},
		{"off", Options{EraseWithin: -1}, func(d *deadline) {
			d.wants(1000*h, true)
			if s := d.db.Stats(); s.Unerased < 1000*h || s.EraseOverdue != 0 {
				d.t.Errorf("%v, overdue %v", s.Unerased, s.EraseOverdue)
			}
		}},
		{"closed and opened", day, func(d *deadline) {
			for range 5 {
				d.wants(time.Since(d.at)+3*h, true)
				check(d.t, d.db.Close())
				d.open()
			}
			d.wants(24*h, false)
		}},
		{"crashed", day, func(d *deadline) {
			for range 5 {
				d.wants(time.Since(d.at)+3*h, true)
				d.crash()
				d.open()
			}
			d.wants(24*h, false)
		}},
		{"flushed and crashed", day, func(d *deadline) {
			d.wants(10*h, true)
			check(d.t, d.db.Flush(d.t.Context()))
			d.crash()
			d.open()
			d.wants(16*h, true)
			d.wants(24*h, false)
		}},
		{"closed for long", day, func(d *deadline) {
			d.wants(h, true)
			check(d.t, d.db.Close())
			d.wants(100*h, true)
			d.open()
			d.wants(100*h+time.Minute, false)
		}},
		{"crashed for long", day, func(d *deadline) {
			d.crash()
			d.wants(100*h, true)
			d.open()
			d.wants(100*h+time.Minute, false)
		}},
		{"more is deleted", day, func(d *deadline) {
			c := collection(d.t, d.db, "c")
			for range 40 { // the oldest counts
				d.when(time.Since(d.at) + h/2)
				check(d.t, c.Upsert(d.t.Context(), rec4("a")))
			}
			d.wants(24*h, false)
			if d.db.erasure.unerased() == 0 {
				d.t.Error("what was overwritten after that is forgotten")
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDeadline(t, tc.o)
				tc.run(d)
				check(t, d.db.Close())
			})
		})
	}
}

// An erasure that fails is reported, told by Stats when it is overdue, and
// tried again until it succeeds.
func TestEraseFails(t *testing.T) {
	const h = time.Hour
	synctest.Test(t, func(t *testing.T) {
		var errs []error
		o := Options{Events: &Events{Error: func(e ErrorEvent) {
			if e.Op == "erase" {
				errs = append(errs, e.Err)
			}
		}}}
		d := newDeadline(t, o)
		full := d.fs.Inject(faultfs.Rule{Op: faultfs.OpWrite, Path: "tmp/*", Fault: faultfs.Short, Forever: true})
		d.wants(26*h, true)
		s := d.db.Stats()
		if s.EraseOverdue < 2*h || s.EraseOverdue > 2*h+time.Minute || s.Unerased < 26*h {
			t.Errorf("overdue by %v", s.EraseOverdue)
		}
		if len(errs) < 5 || len(errs) > 40 || !errors.Is(errs[0], ErrDiskFull) || d.db.Err() != nil {
			t.Errorf("%d reports: %v; %v", len(errs), errs, d.db.Err())
		}
		full.Remove()
		d.wants(28*h, false)
		if s := d.db.Stats(); s.EraseOverdue != 0 || s.Unerased != 0 {
			t.Errorf("%+v", s)
		}
		check(t, d.db.Close())
	})
}

// The files of a deleted collection go soon, also when nothing else happens;
// a reader who has them open is waited for, by EraseNow too.
func TestDeletedFilesGoSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		fs := faultfs.New(1)
		db := openOn(t, fs, Options{})
		c := newCollection(t, db, "c")
		newCollection(t, db, "later")
		check(t, c.Add(ctx, rec("1", 1), rec("2", 2)))
		check(t, db.Flush(ctx))
		segments := func() int {
			return len(slices.DeleteFunc(fs.Files(), func(n string) bool { return !strings.HasPrefix(n, segmentDir) }))
		}
		reading, release, read := make(chan struct{}), make(chan struct{}), make(chan error)
		go func() {
			var err error
			for _, e := range c.Get(ctx, Selection{}, IncludeAll) {
				if err = e; err != nil {
					break
				}
				if reading != nil {
					close(reading)
					reading = nil
					<-release
				}
			}
			read <- err
		}()
		synctest.Wait()
		check(t, db.Default().Delete(ctx, "c"))
		time.Sleep(2 * time.Minute)
		if segments() != 1 {
			t.Error("the file went under a reader")
		}
		erased := make(chan error)
		go func() { erased <- db.EraseNow(ctx, nil) }()
		time.Sleep(time.Hour)
		check(t, db.Default().Delete(ctx, "later"))
		select {
		case err := <-erased:
			t.Error("done under a reader", err)
			close(erased)
		default:
		}
		close(release)
		check(t, <-read)
		check(t, <-erased)
		if segments() != 0 {
			t.Error("the file is still there")
		}
		if db.erasure.unerased() == 0 {
			t.Error("what was deleted meanwhile is forgotten")
		}
		check(t, newCollection(t, db, "c").Add(ctx, rec("1", 1)))
		check(t, db.Flush(ctx))
		check(t, db.Default().Delete(ctx, "c"))
		time.Sleep(2 * time.Minute)
		if segments() != 0 {
			t.Error("the file is still there, and nobody reads it")
		}
		check(t, db.Close())
	})
}

// A segment that is being written while its collection is deleted holds up an
// erasure, which would miss it.
func TestEraseWaitsForWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		fs := faultfs.New(1)
		db := openOn(t, fs, Options{})
		gone := canaries{}
		c := newCollection(t, db, gone.text("name"))
		check(t, c.Add(ctx, gone.record("of it", 2)))
		hang, flushed, erased := make(chan struct{}), make(chan error), make(chan error)
		var renamed atomic.Int32
		fs.Hook(func(op faultfs.Op, name string) {
			if op == faultfs.OpRename && renamed.Add(1) == 1 {
				<-hang
			}
		})
		go func() { flushed <- db.Flush(ctx) }()
		synctest.Wait()
		check(t, db.Default().Delete(ctx, string(gone["name"])))
		go func() { erased <- db.EraseNow(ctx, nil) }()
		time.Sleep(time.Second)
		close(hang)
		check(t, <-flushed)
		check(t, <-erased)
		fs.Hook(nil)
		if left := gone.found(bytesOf(t, fs, nil)); len(left) > 0 {
			t.Error(left)
		}
		check(t, db.Close())
	})
}

// A damaged collection keeps its bytes, and says so; what was deleted in the
// others goes. When it is deleted too, all is done.
func TestEraseDamaged(t *testing.T) {
	ctx := t.Context()
	fs := faultfs.New(1)
	o := keyed(Options{GraphMin: 4})
	db := openOn(t, fs, o)
	gone := canaries{}
	for _, name := range []string{"well", "ill"} {
		c := newCollection(t, db, name)
		r := gone.record(name, float32(len(name)))
		check(t, c.Add(ctx, r, rec4("a"), rec4("b"), rec4("c"), rec4("d"), rec4("e")))
		check(t, db.Flush(ctx))
		_, err := c.Delete(ctx, Selection{IDs: []string{r.ID}})
		check(t, err)
	}
	name := segment.Name(collection(t, db, "ill").manifest.segments[0].info.Number)
	check(t, db.Close())
	check(t, fs.Damage(name, func(b []byte) []byte {
		for i := disk.HeaderSize; i < len(b)*3/4; i += 64 {
			b[i] ^= 1
		}
		return b
	}))
	db = openOn(t, fs, o)
	if err := db.EraseNow(ctx, nil); !errors.Is(err, ErrCorrupt) || db.Err() != nil {
		t.Fatal(err, db.Err())
	}
	if db.erasure.unerased() == 0 {
		t.Error("nobody remembers what could not be erased")
	}
	for r, err := range db.Receipts(ctx) {
		check(t, err)
		if len(r.Statement.Collections) != 1 || r.Statement.Collections[0].ID != collection(t, db, "well").id.String() {
			t.Errorf("%+v", r.Statement)
		}
	}
	check(t, db.Default().Delete(ctx, "ill"))
	check(t, db.EraseNow(ctx, nil))
	if left := gone.found(bytesOf(t, fs, o.Keys)); len(left) > 0 || db.erasure.unerased() != 0 {
		t.Error(left, db.erasure.unerased())
	}
	check(t, db.Close())
}

// A deletion is noted while a checkpoint is written, which it must not look at.
func TestDiedBesideCheckpoint(t *testing.T) {
	db, _ := newDB(t, Options{EraseWithin: -1})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 200 {
			db.erasure.mu.Lock()
			db.erasure.since = 0
			db.erasure.mu.Unlock()
			db.died()
		}
	}()
	for range 20 {
		check(t, db.writeCheckpoint(t.Context()))
	}
	<-done
	if db.erasure.unerased() == 0 {
		t.Error("nothing was noted")
	}
}
