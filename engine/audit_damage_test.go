package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// wideAudit has closed files of several blocks.
func wideAudit(encrypted bool) Options {
	o := smallAudit(encrypted)
	o.AuditFile = 3*auditBlock + 50 // so that the last block is short, which is quickly given up
	return o
}

const (
	wideEvents = 600
	widePad    = 300 // bytes of an event, so that several lie in a block
)

// wide is a disk with closed files of several blocks each.
func wide(t testing.TB, encrypted bool) (fs *faultfs.FS, files []auditFile) {
	t.Helper()
	fs = faultfs.New(1)
	db := openOn(t, fs, wideAudit(encrypted))
	for i := range wideEvents {
		_, err := db.AppendAudit(context.Background(), fmt.Appendf(nil, "event %d %s", i, strings.Repeat("x", widePad)), true)
		check(t, err)
	}
	_, err := db.TendAudit(context.Background(), AuditKeep{})
	check(t, err)
	files, err = db.auditFiles()
	check(t, err)
	check(t, db.Close())
	if len(files) < 4 {
		t.Fatalf("%d closed files", len(files))
	}
	return fs, files
}

// lastBlock makes bytes of the last block of records others.
func lastBlock(t testing.TB, fs *faultfs.FS, o Options, f auditFile) {
	t.Helper()
	o.ReadOnly = true
	db := openOn(t, fs, o)
	var end int64
	check(t, db.readAudit(f, func(_ auditSummary, records *disk.Section) error {
		end = records.Part().End
		return nil
	}))
	check(t, db.Close())
	check(t, fs.Damage(f.name, func(b []byte) []byte {
		for i := end - 40; i < end-10; i++ {
			b[i] ^= byte(i | 1)
		}
		return b
	}))
}

// wideLeft are the numbers of the wide events that can be read, from a record on.
func wideLeft(ctx context.Context, db *DB, from uint64) (out []int, err error) {
	for r, err := range db.AuditRecords(ctx, from) {
		if err != nil {
			return out, err
		}
		var n int
		if _, err := fmt.Sscanf(string(r.Body), "event %d x", &n); r.Kind == AuditEvent && err == nil {
			out = append(out, n)
		}
	}
	return out, nil
}

// overwrite makes bytes of a file others.
func overwrite(name string, from, to int) func(t *testing.T, fs *faultfs.FS) {
	return func(t *testing.T, fs *faultfs.FS) {
		check(t, fs.Damage(name, func(b []byte) []byte {
			for i := from; i < min(to, len(b)); i++ {
				b[i] ^= byte(1 + i%200)
			}
			return b
		}))
	}
}

// renewKeys has the keys of a store changed; a plain one gets keys.
func renewKeys(ctx context.Context, o Options) error {
	if err := Encrypt(ctx, "", &o, nil); err != nil {
		return err
	}
	db, err := Open("", &o)
	if err != nil {
		return err
	}
	return errors.Join(db.RotateKeys(ctx, nil), db.Close())
}

// A damaged closed file does not survive a change of keys as something that
// nobody can read: what can be read of it is under the new key, in an encrypted
// store nothing stays in the clear, the log goes on, and verify tells what is
// lost for as long as the files behind it are there.
func TestAuditRotateDamaged(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		clean, files := wide(t, encrypted)
		second := files[1]
		for name, tc := range map[string]struct {
			harm  func(t *testing.T, fs *faultfs.FS)
			least int    // events that are left
			want  string // in the findings
		}{
			"a bit":      {flipByte(second.name, 20_000), wideEvents, ""},
			"summary":    {overwrite(second.name, 140, 150), wideEvents, ""},
			"a block":    {overwrite(second.name, 20_000, 20_040), wideEvents - 100, "are missing"},
			"its end":    {cutFile(second.name, 30_000), wideEvents - 200, "are missing"},
			"its header": {overwrite(second.name, 0, 128), wideEvents - 200, "are missing"},
			"the first":  {overwrite(files[0].name, 0, 128), wideEvents - 200, "are missing"},
			"the newest": {overwrite(files[len(files)-1].name, 140, 150), wideEvents - 200, ""},
		} {
			t.Run(fmt.Sprint(name, " ", encrypted), func(t *testing.T) {
				fs := clean.Clone()
				tc.harm(t, fs)
				o := wideAudit(true)
				o.fs, o.reserve = fs, testReserve
				for range 2 {
					check(t, renewKeys(t.Context(), o))
					db := openOn(t, fs, o)
					appendAudit(t, db, 0, 1)
					info, err := db.KeyInfo(t.Context())
					check(t, err)
					left, err := wideLeft(t.Context(), db, 0)
					check(t, err)
					r := verifyAudit(t, db, AuditExpect{})
					check(t, db.Close())
					if info.OldFiles > 0 || len(info.Store) != 1 || len(left) < tc.least || len(left) == wideEvents && tc.want != "" {
						t.Errorf("%+v, %d events", info, len(left))
					}
					if text := fmt.Sprintf("%+v", r.Findings); !strings.Contains(text, tc.want) || tc.least == wideEvents != (len(r.Findings) == 0) {
						t.Errorf("want %q: %s", tc.want, text)
					}
					noneClear(t, fs, "xxxxxxxx")
				}
			})
		}
	}
}

// noneClear looks for text in the files of the audit log.
func noneClear(t *testing.T, fs *faultfs.FS, text string) {
	t.Helper()
	for _, name := range fs.Files() {
		b, err := fs.Content(name)
		check(t, err)
		if strings.HasPrefix(name, auditDir) && bytes.Contains(b, []byte(text)) {
			t.Errorf("%s: in the clear", name)
		}
	}
}

// What was put aside of a plain store is under the store's key when it has one,
// byte for byte, through changes of it.
func TestAuditAside(t *testing.T) {
	fs, files := wide(t, false)
	overwrite(files[1].name, 20_000, 20_040)(t, fs)
	want, err := fs.Content(files[1].name)
	check(t, err)
	o := wideAudit(true)
	o.fs, o.reserve = fs, testReserve
	var told []string
	o.Events = &Events{Error: func(e ErrorEvent) { told = append(told, e.Err.Error()) }}
	for range 3 {
		check(t, renewKeys(t.Context(), o))
	}
	if len(told) != 1 || !strings.Contains(told[0], files[1].name) {
		t.Errorf("told %q", told)
	}
	db := openOn(t, fs, o)
	defer db.Close()
	infos, err := fs.List(auditDamagedDir)
	check(t, err)
	if len(infos) != 1 {
		t.Fatalf("%+v", infos)
	}
	number, name, generation := parseAsideName(infos[0].Name)
	if auditDir+"/"+name != files[1].name || generation != db.newestKeys()[[16]byte{}] {
		t.Errorf("%s: %q of generation %d", infos[0].Name, name, generation)
	}
	at := auditDamagedDir + "/" + infos[0].Name
	h, err := disk.ReadHeader(fs, at)
	check(t, err)
	h.Number = number
	got, _, err := disk.ReadSection(fs, at, h, db.keys, asideSection, 1<<20)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes instead of %d, %v", len(got), len(want), err)
	}
}

// Power is cut at a random operation of a change of keys that meets a damaged
// file. The next one ends it, the log goes on, and nothing is lost that was not.
func TestAuditRotateDamagedPowerCut(t *testing.T) {
	heavy(t)
	stores := map[bool]*faultfs.FS{}
	for _, encrypted := range []bool{false, true} {
		fs, files := wide(t, encrypted)
		lastBlock(t, fs, wideAudit(encrypted), files[1])
		stores[encrypted] = fs
	}
	powerCuts(t, func(seed uint64) error {
		ctx := context.Background()
		r := rand.New(rand.NewPCG(seed, 3))
		o := wideAudit(true)
		fs := stores[seed%2 == 0].Clone()
		o.fs, o.reserve = fs, testReserve
		for range 1 + r.IntN(2) {
			fs.CrashAt(fs.Ops() + r.IntN(290))
			_ = renewKeys(ctx, o)
			fs = fs.Crash(r)
			o.fs = fs
		}
		if err := renewKeys(ctx, o); err != nil {
			return err
		}
		db, err := Open("", &o)
		if err != nil {
			return err
		}
		defer db.Close()
		if _, err := db.AppendAudit(ctx, []byte("after"), true); err != nil {
			return err
		}
		left, err := wideLeft(ctx, db, 0)
		report, err2 := db.VerifyAudit(ctx, AuditExpect{})
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		aside, err := fs.List(auditDamagedDir)
		info, err2 := db.KeyInfo(ctx)
		if len(left) < wideEvents-100 || len(left) == wideEvents || len(aside) == 0 || len(info.Store) != 1 {
			return fmt.Errorf("%d events, put aside %v, %+v, %w", len(left), aside, info, errors.Join(err, err2))
		}
		if text := fmt.Sprintf("%+v", report.Findings); !strings.Contains(text, "are missing") || strings.Contains(text, "cannot be read") {
			return fmt.Errorf("found: %s", text)
		}
		return nil
	})
}

// A closed file under a key that was dropped is damage: the log goes on, and the
// next change of keys puts the file aside. One under a key that this store has
// not had yet is a wrong key, which nothing is written with.
func TestAuditKeyGone(t *testing.T) {
	old, _, report, files := audited(t, true)
	renewed := old.Clone()
	o := smallAudit(true)
	o.reserve, o.fs = testReserve, renewed
	for range 2 {
		check(t, renewKeys(t.Context(), o))
	}
	db := openOn(t, renewed, o)
	now, err := db.auditFiles()
	check(t, err)
	check(t, db.Close())
	content := func(fs *faultfs.FS, name string) []byte {
		b, err := fs.Content(name)
		check(t, err)
		return b
	}
	put := func(fs *faultfs.FS, gone, name string, b []byte) {
		check(t, fs.Remove(gone))
		f, err := fs.Create(name)
		check(t, err)
		_, err = f.Write(b)
		check(t, errors.Join(err, f.Sync(), f.Close()))
	}
	for _, n := range []int{1, 2} { // one in the middle, and the newest that is in both
		if n == 2 {
			n = len(files) - 1
		}
		fs := renewed.Clone()
		put(fs, now[n].name, files[n].name, content(old, files[n].name))
		db = openOn(t, fs, o)
		appendAudit(t, db, 0, 1)
		if r := verifyAudit(t, db, AuditExpect{}); !strings.Contains(fmt.Sprint(r.Findings), "its key was destroyed") {
			t.Errorf("%+v", r.Findings)
		}
		check(t, db.RotateKeys(t.Context(), nil))
		if r := verifyAudit(t, db, AuditExpect{}); !strings.Contains(fmt.Sprint(r.Findings), "are missing") || r.Last < report.Last {
			t.Errorf("%+v", r.Findings)
		}
		check(t, db.Close())

		fs = old.Clone()
		put(fs, files[n].name, now[n].name, content(renewed, now[n].name))
		db = openOn(t, fs, o)
		if _, err := db.AppendAudit(t.Context(), []byte("no"), true); !errors.Is(err, ErrKey) {
			t.Errorf("under a key of the future: %v", err)
		}
		if err := db.RotateKeys(t.Context(), nil); !errors.Is(err, ErrKey) {
			t.Errorf("its keys were changed: %v", err)
		}
		check(t, db.Close())
	}
}

// A closed file that cannot be read stops those who want its records, and not
// those who want what is behind it.
func TestAuditReadsBehindDamage(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		clean, _, report, files := audited(t, encrypted)
		for _, n := range []int{0, 1, len(files) - 1} {
			fs := clean.Clone()
			overwrite(files[n].name, 140, 150)(t, fs)
			o := smallAudit(encrypted)
			o.ReadOnly = true
			db := openOn(t, fs, o)
			if end, err := db.AuditEnd(t.Context()); err != nil || end < report.Last {
				t.Errorf("file %d: the end is %d, not %d, %v", n, end, report.Last, err)
			}
			next := files[n].about.last + 1
			for r, err := range db.AuditRecords(t.Context(), next) {
				check(t, err)
				if r.Seq != next {
					t.Fatalf("record %d instead of %d", r.Seq, next)
				}
				next++
			}
			if next <= report.Last {
				t.Errorf("file %d: it ends before %d of %d", n, next, report.Last)
			}
			var last error
			for _, err := range db.AuditRecords(t.Context(), files[n].about.last) {
				last = err
			}
			if !errors.Is(last, ErrCorrupt) || !strings.Contains(last.Error(), fmt.Sprint("records before ", files[n].about.last+1)) {
				t.Errorf("file %d: %v", n, last)
			}
			check(t, db.Close())
		}
	}
}

// harms are ways to damage audit/log.
func harms(t *testing.T, clean *faultfs.FS) map[string]func(t *testing.T, fs *faultfs.FS) {
	t.Helper()
	logs := slices.DeleteFunc(clean.Files(), func(n string) bool { return !strings.HasPrefix(n, auditLogDir) })
	return map[string]func(t *testing.T, fs *faultfs.FS){
		"a byte":     flipByte(lastWAL(logs), 260),
		"its header": overwrite(lastWAL(logs), 0, 100),
		"no file":    func(t *testing.T, fs *faultfs.FS) { check(t, fs.Remove(lastWAL(logs))) },
	}
}

// Power is cut while a damaged log is put aside. Whenever that is, the gap is
// in the log in the end, and numbers that are known to have been given are not
// given again.
func TestAuditGapPowerCut(t *testing.T) {
	type found struct {
		fs   *faultfs.FS
		last uint64 // that is known to have been
	}
	var stores []found
	for _, encrypted := range []bool{false, true} {
		grown, _, report, _ := audited(t, encrypted)
		young := faultfs.New(1) // no closed file, and the catalog knows of nothing
		db := openOn(t, young, smallAudit(encrypted))
		appendAudit(t, db, 0, 5)
		check(t, db.Close())
		for name, harm := range harms(t, grown) {
			fs := grown.Clone()
			harm(t, fs)
			last := report.Last
			if name != "a byte" { // what is behind the catalog's is not known
				last -= 4
			}
			stores = append(stores, found{fs, last})
		}
		for name, harm := range harms(t, young) {
			fs := young.Clone()
			harm(t, fs)
			last := uint64(0)
			if name == "a byte" {
				last = 5
			}
			stores = append(stores, found{fs, last})
		}
	}
	powerCuts(t, func(seed uint64) error {
		ctx := context.Background()
		r := rand.New(rand.NewPCG(seed, 5))
		from := stores[r.IntN(len(stores))]
		fs := from.fs.Clone()
		o := smallAudit(true)
		o.reserve = testReserve
		if o.Keys = keysOf(1, fs); o.Keys == nil {
			o = smallAudit(false)
		}
		for range 1 + r.IntN(2) {
			fs.CrashAt(fs.Ops() + 10 + r.IntN(50))
			o.fs = fs
			if db, err := Open("", &o); err == nil {
				_, _ = db.AppendAudit(ctx, []byte("first"), true)
				_ = db.Close()
			}
			fs = fs.Crash(r)
		}
		o.fs = fs
		db, err := Open("", &o)
		if err != nil {
			return err
		}
		defer db.Close()
		seq, err := db.AppendAudit(ctx, []byte("after"), true)
		if err != nil || seq <= from.last {
			return fmt.Errorf("record %d, %d were known, %w", seq, from.last, err)
		}
		report, err := db.VerifyAudit(ctx, AuditExpect{})
		if err != nil || !strings.Contains(fmt.Sprintf("%+v", report.Findings), "was damaged when it was opened") {
			return fmt.Errorf("%+v, %w", report, err)
		}
		return nil
	})
}

// A log whose files are gone begins anew: nothing of the new one is put aside
// or left open.
func TestAuditGoneLog(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		fs, _, _, _ := audited(t, encrypted)
		for _, n := range fs.Files() {
			if strings.HasPrefix(n, auditLogDir) {
				check(t, fs.Remove(n))
			}
		}
		db := openOn(t, fs, smallAudit(encrypted))
		appendAudit(t, db, 0, 1)
		if r := verifyAudit(t, db, AuditExpect{}); strings.Count(fmt.Sprint(r.Findings), "was damaged when") != 1 {
			t.Errorf("%+v", r.Findings)
		}
		check(t, db.Close())
		if slices.ContainsFunc(fs.Files(), func(n string) bool { return strings.HasPrefix(n, auditDamagedDir) }) || fs.Handles() > 0 {
			t.Errorf("%d open, %q", fs.Handles(), fs.Files())
		}
	}
}

// A start that fails after the gap was written does not write it again.
func TestAuditGapOnce(t *testing.T) {
	fs, _, _, _ := audited(t, true)
	var logs []string
	for _, n := range fs.Files() {
		if strings.HasPrefix(n, auditLogDir) {
			logs = append(logs, n)
		}
	}
	flipByte(lastWAL(logs), 260)(t, fs)
	db := openOn(t, fs, smallAudit(true))
	defer db.Close()
	stuck := fs.Inject(faultfs.Rule{Op: faultfs.OpRename, Path: "audit/log/*.wal", Err: errors.New("not allowed"), Forever: true})
	for range 3 {
		if _, err := db.AppendAudit(t.Context(), []byte("no"), true); err == nil {
			t.Fatal("appended")
		}
	}
	stuck.Remove()
	appendAudit(t, db, 0, 1)
	if r := verifyAudit(t, db, AuditExpect{}); strings.Count(fmt.Sprint(r.Findings), "was damaged when") != 1 {
		t.Errorf("%+v", r.Findings)
	}
}

// A log that is damaged while it is open keeps neither a change of keys from
// ending nor records from being written.
func TestAuditDamagedWhileOpen(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		o := smallAudit(encrypted)
		o.AuditFile = 0
		db, fs := newDB(t, o)
		appendAudit(t, db, 0, 20)
		flipByte(lastWAL(slices.DeleteFunc(fs.Files(), func(n string) bool { return !strings.HasPrefix(n, auditLogDir) })), 1000)(t, fs)
		if encrypted {
			check(t, db.RotateKeys(t.Context(), nil))
		} else {
			_, err := db.TendAudit(t.Context(), AuditKeep{Now: time.Unix(now(), 0).AddDate(0, 0, 1)})
			check(t, err)
		}
		seq, err := db.AppendAudit(t.Context(), []byte("after"), true)
		if err != nil || seq <= 20 {
			t.Errorf("record %d, %v", seq, err)
		}
		if r := verifyAudit(t, db, AuditExpect{}); strings.Count(fmt.Sprint(r.Findings), "was damaged when") != 1 || r.First != 1 {
			t.Errorf("%+v", r)
		}
	}
}
