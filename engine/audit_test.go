package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// smallAudit closes files early.
func smallAudit(encrypted bool) Options {
	o := Options{AuditFile: 2000}
	if encrypted {
		o = keyed(o)
	}
	return o
}

// appendAudit adds records with these numbers as their text.
func appendAudit(t testing.TB, db *DB, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if _, err := db.AppendAudit(context.Background(), fmt.Appendf(nil, "event %d", i), true); err != nil {
			t.Fatal(err)
		}
	}
}

// events are the bodies of events.
func events(t testing.TB, db *DB) (out []string) {
	t.Helper()
	next := uint64(0)
	for r, err := range db.AuditRecords(context.Background(), 0) {
		check(t, err)
		if next != 0 && r.Seq != next && r.Kind != AuditGap {
			t.Fatalf("record %d where %d belongs", r.Seq, next)
		}
		next = r.Seq + 1
		if r.Kind == AuditEvent {
			out = append(out, string(r.Body))
		}
	}
	return out
}

func wantEvents(t testing.TB, db *DB, from, to int) {
	t.Helper()
	got := events(t, db)
	for i := from; i < to; i++ {
		if want := fmt.Sprintf("event %d", i); i-from >= len(got) || got[i-from] != want {
			t.Fatalf("%d events, at %d not %q: %.300q", len(got), i-from, want, got)
		}
	}
	if len(got) != to-from {
		t.Fatalf("%d events instead of %d: %q", len(got), to-from, got[to-from:])
	}
}

func verifyAudit(t testing.TB, db *DB, expect AuditExpect) *AuditReport {
	t.Helper()
	r, err := db.VerifyAudit(context.Background(), expect)
	check(t, err)
	return r
}

func wantClean(t testing.TB, db *DB) *AuditReport {
	t.Helper()
	r := verifyAudit(t, db, AuditExpect{})
	if len(r.Findings) > 0 {
		t.Fatalf("%+v", r.Findings)
	}
	return r
}

// What was appended is there, in order and in one chain, over closed files,
// Close, and a process that just ended; also for a reader.
func TestAuditStays(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		fs := faultfs.New(1)
		n := 0
		for range 4 {
			db := openOn(t, fs, smallAudit(encrypted))
			appendAudit(t, db, n, n+70)
			n += 70
			_, err := db.AppendAudit(t.Context(), fmt.Appendf(nil, "event %d", n), false)
			check(t, err)
			n++
			left := fs.Clone() // as if the process had ended here
			check(t, db.Close())
			if n%2 == 0 {
				db = openOn(t, left, smallAudit(encrypted))
				if got := len(events(t, db)); got != n && got != n-1 {
					t.Fatalf("%d events, %d were appended", got, n)
				}
				appendAudit(t, db, n, n+1)
				wantClean(t, db)
				check(t, db.Close())
			}
		}
		o := smallAudit(encrypted)
		o.ReadOnly = true
		db := openOn(t, fs, o)
		wantEvents(t, db, 0, n)
		r := wantClean(t, db)
		if r.Files < 5 || r.First != 1 || encrypted != (r.Signed == r.Last-1) || encrypted != r.Encrypted {
			t.Errorf("%+v", r)
		}
		if _, err := db.AppendAudit(t.Context(), nil, true); !errors.Is(err, ErrReadOnly) {
			t.Errorf("appended read-only: %v", err)
		}
		check(t, db.Close())
	}
}

// A store that nobody audits has no audit log.
func TestAuditAbsent(t *testing.T) {
	db, fs := newDB(t, Options{})
	_, err := db.TendAudit(t.Context(), AuditKeep{Now: time.Now()})
	check(t, err)
	wantEvents(t, db, 0, 0)
	wantClean(t, db)
	if slices.ContainsFunc(fs.Files(), func(n string) bool { return strings.HasPrefix(n, auditDir) }) {
		t.Error(fs.Files())
	}
}

// Many append while files are closed and others read and verify.
func TestAuditConcurrent(t *testing.T) {
	db, _ := newDB(t, smallAudit(true))
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 40 {
				seq, err := db.AppendAudit(t.Context(), fmt.Appendf(nil, "%d %d", w, i), i%2 == 0)
				if err != nil || i%2 == 0 && seq == 0 {
					t.Errorf("%d, %v", seq, err)
				}
			}
		})
	}
	for range 10 {
		events(t, db)
		wantClean(t, db)
	}
	wg.Wait()
	_, err := db.AppendAudit(t.Context(), []byte("last"), true)
	check(t, err)
	got := events(t, db)
	if len(got) != 8*40+1 || got[len(got)-1] != "last" {
		t.Errorf("%d events", len(got))
	}
	next := map[string]int{}
	for _, e := range got[:len(got)-1] {
		w, i, _ := strings.Cut(e, " ")
		if i != fmt.Sprint(next[w]) {
			t.Fatalf("%s of %s, want %d", i, w, next[w])
		}
		next[w]++
	}
}

// Power is cut at a random operation while records are appended, files are
// closed, signed, removed and put under new keys. What was acknowledged as
// durable is there, in order, and the chain is whole.
func TestAuditPowerCut(t *testing.T) {
	powerCuts(t, func(seed uint64) error {
		ctx := context.Background()
		r := rand.New(rand.NewPCG(seed, 7))
		fs := faultfs.New(seed)
		o := Options{AuditFile: int64(200 + r.IntN(1500)), Keys: keysOf(seed, fs), fs: fs, reserve: 600}
		next, durable, keep := 0, -1, int64(0)
		if r.IntN(4) == 0 {
			keep = 2000
		}
		for cut := range 1 + r.IntN(3) {
			fs.CrashAt(fs.Ops() + 20 + r.IntN(300))
			o.fs = fs
			if db, err := Open("", &o); err == nil {
				if r.IntN(3) == 0 {
					fs.Inject(faultfs.Rule{Op: faultfs.OpWrite, Path: []string{"audit/log/*", "tmp/*", "audit/*"}[r.IntN(3)], Probability: 0.1, Fault: faultfs.Short, Forever: true})
				}
				for range 60 {
					switch r.IntN(20) {
					case 0:
						_, _ = db.TendAudit(ctx, AuditKeep{Now: time.Unix(now(), 0).AddDate(0, 0, r.IntN(2)), Bytes: keep})
					case 1:
						if o.Keys != nil {
							_ = db.RotateKeys(ctx, nil)
						}
					default:
						wait := r.IntN(4) > 0
						_, err = db.AppendAudit(ctx, fmt.Appendf(nil, "%d", next), wait)
						if err == nil && wait {
							durable = next
						}
						next++
					}
					if fs.Crashed() {
						break
					}
				}
				_ = db.Close()
			}
			fs = fs.Crash(r)
			o.fs = fs
			if err := auditAfterCut(ctx, o, durable, keep > 0); err != nil {
				return fmt.Errorf("cut %d: %w", cut, err)
			}
		}
		return nil
	})
}

func auditAfterCut(ctx context.Context, o Options, durable int, removed bool) error {
	db, err := Open("", &o)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer db.Close()
	if _, err := db.AppendAudit(ctx, []byte("after"), true); err != nil {
		return err
	}
	report, err := db.VerifyAudit(ctx, AuditExpect{})
	if err != nil || len(report.Findings) > 0 {
		return fmt.Errorf("%+v, %w", report, err)
	}
	last, got := -1, -1
	for rec, err := range db.AuditRecords(ctx, 0) {
		if err != nil {
			return err
		}
		var n int
		if rec.Kind != AuditEvent || string(rec.Body) == "after" {
			continue
		}
		if _, err := fmt.Sscan(string(rec.Body), &n); err != nil || n <= last {
			return fmt.Errorf("%q behind %d", rec.Body, last)
		}
		last = n
		if n <= durable {
			got = n
		}
	}
	if got != durable && !(removed && got < 0) {
		return fmt.Errorf("durable was %d, there is %d", durable, got)
	}
	return nil
}

// Closed files are removed when they are old or too many, never the newest
// records; that is recorded, and what else is missing is told.
func TestAuditRetention(t *testing.T) {
	fs := faultfs.New(1)
	db := openOn(t, fs, smallAudit(true))
	appendAudit(t, db, 0, 200)
	before := wantClean(t, db)
	today := time.Unix(now(), 0)
	for _, keep := range []AuditKeep{{Now: today}, {Now: today, Age: time.Hour}, {Now: today, Bytes: 1 << 30}} {
		if r, err := db.TendAudit(t.Context(), keep); err != nil || r.Files != 0 {
			t.Fatalf("%+v: removed %+v, %v", keep, r, err)
		}
	}
	removed, err := db.TendAudit(t.Context(), AuditKeep{Now: today, Bytes: 10000})
	check(t, err)
	after := wantClean(t, db)
	if removed.Files == 0 || after.Files >= before.Files || after.First != removed.Through+1 || after.First == 1 {
		t.Errorf("%+v: %+v, before %+v", removed, after, before)
	}
	removed, err = db.TendAudit(t.Context(), AuditKeep{Now: today.AddDate(0, 0, 3), Age: 24 * time.Hour})
	check(t, err)
	after = wantClean(t, db)
	if after.Files != 0 || after.Last != after.First+1 { // what was removed, and a signature
		t.Errorf("%+v: %+v", removed, after)
	}
	check(t, db.Close())
	db = openOn(t, fs, smallAudit(true))
	appendAudit(t, db, 0, 1)
	wantEvents(t, db, 0, 1)
	wantClean(t, db)
	check(t, db.Close())
}

// A day that is over has its file closed.
func TestAuditDays(t *testing.T) {
	db, _ := newDB(t, keyed(Options{}))
	appendAudit(t, db, 0, 3)
	for days, want := range []int{0, 1, 1} {
		_, err := db.TendAudit(t.Context(), AuditKeep{Now: time.Unix(now(), 0).AddDate(0, 0, days)})
		check(t, err)
		if r := wantClean(t, db); r.Files != want || r.Signed == 0 {
			t.Errorf("after %d days: %+v", days, r)
		}
	}
}

// A full disk refuses records; who did not wait is counted, and from then on
// everybody waits, until there is room again. The chain is whole.
func TestAuditFullDisk(t *testing.T) {
	db, fs := newDB(t, smallAudit(true))
	appendAudit(t, db, 0, 5)
	full := fs.Inject(faultfs.Rule{Op: faultfs.OpWrite, Path: "audit/log/*", Fault: faultfs.Short, Forever: true})
	for range 3 {
		if _, err := db.AppendAudit(t.Context(), []byte("no"), true); !errors.Is(err, ErrDiskFull) {
			t.Fatal(err)
		}
	}
	if _, err := db.AppendAudit(t.Context(), []byte("no"), false); !errors.Is(err, ErrDiskFull) {
		t.Errorf("not waited for: %v", err)
	}
	if s := db.AuditStats(); s.Err == nil {
		t.Errorf("%+v", s)
	}
	full.Remove()
	appendAudit(t, db, 5, 100)
	wantEvents(t, db, 0, 100)
	wantClean(t, db)
	if s := db.AuditStats(); s.Err != nil || s.Last < 100 {
		t.Errorf("%+v", s)
	}
}

// After the disk has failed the log is read again, and goes on: what was in
// doubt is there or not, what was acknowledged is.
func TestAuditFailedSync(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		db, fs := newDB(t, smallAudit(encrypted))
		n := 0
		for range 5 {
			appendAudit(t, db, n, n+20)
			n += 20
			failing := fs.Inject(faultfs.Rule{Op: faultfs.OpSync, Path: "audit/log/*"})
			if _, err := db.AppendAudit(t.Context(), []byte("doubt"), true); !errors.Is(err, ErrUnknown) {
				t.Fatal(err)
			}
			failing.Remove()
		}
		appendAudit(t, db, n, n+1)
		got := slices.DeleteFunc(events(t, db), func(e string) bool { return e == "doubt" })
		if len(got) != n+1 || got[n] != fmt.Sprintf("event %d", n) {
			t.Errorf("%d events of %d", len(got), n+1)
		}
		wantClean(t, db)
		if err := db.Err(); err != nil {
			t.Errorf("the store has failed: %v", err)
		}
	}
}

// On a full disk there is room for records for a while: deleting has to be
// recorded, and is what makes room.
func TestAuditReserve(t *testing.T) {
	o := keyed(Options{})
	o.reserve = 4 << 10
	db, fs := newDB(t, o)
	appendAudit(t, db, 0, 3)
	fs.Budget(fs.Used())
	n := 3
	for ; n < 100; n++ {
		if _, err := db.AppendAudit(t.Context(), fmt.Appendf(nil, "event %d", n), true); err != nil {
			if !errors.Is(err, ErrDiskFull) {
				t.Fatal(err)
			}
			break
		}
	}
	if n < 10 || n == 100 {
		t.Errorf("%d records with 4 KiB kept for them", n)
	}
	fs.Budget(fs.Used() + 1<<20)
	appendAudit(t, db, n, n+3)
	_, err := db.TendAudit(t.Context(), AuditKeep{})
	check(t, err)
	if !slices.Contains(fs.Files(), auditReserve) {
		t.Error("nothing is kept again")
	}
	wantEvents(t, db, 0, n+3)
	wantClean(t, db)
}

// A change of keys puts the audit log under the new ones, and encrypting a
// plain store the log of before; a deleted collection takes nothing with it.
func TestAuditKeys(t *testing.T) {
	fs := faultfs.New(1)
	db := openOn(t, fs, Options{AuditFile: 2000})
	appendAudit(t, db, 0, 60)
	check(t, db.Close())
	check(t, encryptOn(t, fs))
	db = openOn(t, fs, smallAudit(true))
	wantEvents(t, db, 0, 60)
	appendAudit(t, db, 60, 100)
	canary := []byte("event 3")
	for round := range 2 {
		check(t, db.RotateKeys(t.Context(), nil))
		wantEvents(t, db, 0, 100)
		wantClean(t, db)
		for _, name := range fs.Files() {
			if !strings.HasPrefix(name, auditDir) || strings.HasSuffix(name, ".newest") || name == auditReserve {
				continue
			}
			h, err := disk.ReadHeader(fs, name)
			check(t, err)
			if want := db.newestKeys()[[16]byte{}]; h.KeyID != want {
				t.Errorf("round %d: %s is under key %d, not %d", round, name, h.KeyID, want)
			}
			b, err := fs.Content(name)
			check(t, err)
			if bytes.Contains(b, canary) {
				t.Errorf("%s: in the clear", name)
			}
		}
	}
	check(t, db.Reset(t.Context()))
	wantEvents(t, db, 0, 100)
	check(t, db.Close())
	db = openOn(t, fs, smallAudit(true))
	wantEvents(t, db, 0, 100)
	wantClean(t, db)
	check(t, db.Close())
}

func encryptOn(t *testing.T, fs *faultfs.FS) error {
	t.Helper()
	o := keyed(Options{})
	o.fs = fs
	return Encrypt(t.Context(), "", &o, nil)
}

// TestFormatExampleAudit keeps docs/format/audit.md true: what it shows is a real
// record and a real summary.
func TestFormatExampleAudit(t *testing.T) {
	r := auditRecord{kind: AuditEvent, seq: 2, time: 1893456000, prev: auditHash{0xaa, 0xbb}, body: []byte(`{"kind":"admin"}`)}
	d := &dissection{}
	d.begin("record", r.append(nil))
	d.field(1, "kind 1: event")
	d.field(8, "number 2")
	d.field(8, "time 2030-01-01T00:00:00Z")
	d.field(32, "hash of the record before")
	d.field(4, "length 16")
	d.field(16, "body")
	d.done(t)
	var s auditSummary
	s.take(&r, auditHash{0xcc})
	s.log = 4
	d.begin("summary", s.append(nil))
	d.field(8, "first record 2")
	d.field(8, "last record 2")
	d.field(8, "time of the first")
	d.field(8, "time of the last")
	d.field(8, "position 4 in audit/log")
	d.field(32, "hash of the record before the first")
	d.field(32, "hash of the last")
	d.done(t)
	compareExample(t, "../docs/format/audit.md", "audit", d.out.String())
}
