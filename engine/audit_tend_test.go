package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromad/chromad/internal/vfs/faultfs"
)

func wantAnchored(t *testing.T, db *DB) {
	t.Helper()
	if at, last := db.auditAnchor().Seq, db.AuditStats().Last; at != last {
		t.Errorf("the store knows of record %d, the last is %d", at, last)
	}
}

// Whatever fails in tending, the catalog learns how far the log goes.
func TestAuditTendAnchors(t *testing.T) {
	tomorrow := AuditKeep{Now: time.Unix(now(), 0).AddDate(0, 0, 1), Bytes: 4000}
	for _, tc := range []struct {
		op   faultfs.Op
		path string
	}{
		{faultfs.OpWrite, "tmp/*"},
		{faultfs.OpRemove, "audit/*.audit"},
		{faultfs.OpCreate, "tmp/*"},
	} {
		db, fs := newDB(t, smallAudit(true))
		appendAudit(t, db, 0, 50)
		failing := fs.Inject(faultfs.Rule{Op: tc.op, Path: tc.path, Err: errors.New("no"), Forever: true})
		for range 2 {
			if _, err := db.TendAudit(t.Context(), tomorrow); err == nil || failing.Fired() == 0 {
				t.Errorf("%v %s: %v", tc.op, tc.path, err)
			}
			wantAnchored(t, db)
		}
		failing.Remove()
		_, err := db.TendAudit(t.Context(), tomorrow)
		check(t, err)
		wantAnchored(t, db)
		wantClean(t, db)
	}
}

// On a full disk what is over is removed, though there is no room to close a
// file; that makes the room.
func TestAuditTendFullDisk(t *testing.T) {
	o := keyed(Options{AuditFile: 20_000})
	o.reserve = 2 << 10
	db, fs := newDB(t, o)
	appendAudit(t, db, 0, 1500)
	fs.Budget(fs.Used())
	removed, err := db.TendAudit(t.Context(), AuditKeep{Now: time.Unix(now(), 0).AddDate(0, 0, 1), Bytes: 30_000})
	if err != nil || removed.Files == 0 {
		t.Errorf("%+v, %v", removed, err)
	}
	wantAnchored(t, db)
	if r := wantClean(t, db); r.First != removed.Through+1 {
		t.Errorf("%+v, removed %+v", r, removed)
	}
}

// The reserve is made anew when the log was read again.
func TestAuditReserveAnew(t *testing.T) {
	db, fs := newDB(t, smallAudit(true))
	appendAudit(t, db, 0, 3)
	failing := fs.Inject(faultfs.Rule{Op: faultfs.OpSync, Path: "audit/log/*"})
	if _, err := db.AppendAudit(t.Context(), []byte("doubt"), true); !errors.Is(err, ErrUnknown) {
		t.Fatal(err)
	}
	failing.Remove()
	appendAudit(t, db, 3, 4)
	if !slices.Contains(fs.Files(), auditReserve) {
		t.Error("nothing is kept")
	}
}

// A log in which a key has signed nothing is not verified with it.
func TestAuditPublicKey(t *testing.T) {
	other, _ := newDB(t, keyed(Options{}))
	foreign, err := other.PublicKey()
	check(t, err)
	for _, encrypted := range []bool{false, true} {
		db, _ := newDB(t, smallAudit(encrypted))
		public := foreign
		if encrypted {
			public, err = db.PublicKey()
			check(t, err)
		}
		told := func(key []byte) bool {
			return strings.Contains(fmt.Sprint(verifyAudit(t, db, AuditExpect{Public: key}).Findings), "nothing is signed")
		}
		if !told(public) {
			t.Error("of an empty log nothing is told")
		}
		appendAudit(t, db, 0, 3)
		if !told(public) || !told(foreign) {
			t.Error("nothing is told")
		}
		wantClean(t, db)
		_, err = db.TendAudit(t.Context(), AuditKeep{})
		check(t, err)
		if told(public) == encrypted || !told(foreign) {
			t.Error("signed, and wrongly told")
		}
	}
}

// Records are written while a change of keys goes through the closed files.
func TestAuditGoesOnWhileKeysChange(t *testing.T) {
	db, fs := newDB(t, smallAudit(true))
	appendAudit(t, db, 0, 300)
	var wg sync.WaitGroup
	var once sync.Once
	var written atomic.Bool
	before, after := 0, 0
	renewing := atomic.Bool{}
	fs.Hook(func(op faultfs.Op, name string) {
		if op != faultfs.OpRemove || !strings.HasSuffix(name, ".audit") || !renewing.Load() {
			return
		}
		once.Do(func() {
			wg.Go(func() {
				if _, err := db.AppendAudit(t.Context(), []byte("event 300"), true); err != nil {
					t.Error(err)
				}
				written.Store(true)
			})
		})
		time.Sleep(5 * time.Millisecond) // for it to wait for the lock
		if written.Load() {
			after++
		} else {
			before++
		}
	})
	renewing.Store(true)
	check(t, db.RotateKeys(t.Context(), nil))
	wg.Wait()
	fs.Hook(nil)
	if after == 0 || before == 0 {
		t.Errorf("written after %d files, %d came later", before, after)
	}
	wantEvents(t, db, 0, 301)
	wantClean(t, db)
}

// Erasing leaves the file alone that the audit log is writing.
func TestEraseLeavesAuditFile(t *testing.T) {
	db, fs := newDB(t, smallAudit(true))
	c := newCollection(t, db, "c")
	check(t, c.Add(t.Context(), rec("a", 1, 2)))
	_, err := c.Delete(t.Context(), Selection{IDs: []string{"a"}})
	check(t, err)
	appendAudit(t, db, 0, 5)
	begun, erased := make(chan struct{}), make(chan struct{})
	var blocked atomic.Bool
	fs.Hook(func(op faultfs.Op, name string) {
		if op != faultfs.OpWrite || !strings.HasPrefix(name, "tmp/") || !blocked.CompareAndSwap(false, true) {
			return
		}
		close(begun)
		select {
		case <-erased:
		case <-time.After(300 * time.Millisecond): // it waits for us
		}
	})
	tended := make(chan error, 1)
	go func() {
		_, err := db.TendAudit(t.Context(), AuditKeep{Now: time.Unix(now(), 0).AddDate(0, 0, 1)})
		tended <- err
	}()
	<-begun
	check(t, db.EraseNow(t.Context(), nil))
	close(erased)
	check(t, <-tended)
	if r := wantClean(t, db); r.Files != 1 {
		t.Errorf("%+v", r)
	}
}
