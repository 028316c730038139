package engine

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// audited is a disk with an audit log of closed files, the newest signed, and
// records behind them.
func audited(t *testing.T, encrypted bool) (fs *faultfs.FS, store seal.ID, report *AuditReport, files []auditFile) {
	t.Helper()
	fs = faultfs.New(1)
	db := openOn(t, fs, smallAudit(encrypted))
	appendAudit(t, db, 0, 150)
	_, err := db.TendAudit(t.Context(), AuditKeep{}) // so the store knows how far it goes
	check(t, err)
	appendAudit(t, db, 150, 154)
	report = wantClean(t, db)
	files, err = db.auditFiles()
	check(t, err)
	check(t, db.Close())
	if len(files) < 4 {
		t.Fatalf("%d closed files", len(files))
	}
	return fs, db.store, report, files
}

// forge writes a closed file anew as somebody would who has the keys: with all
// checksums right, and a summary to go with it.
func forge(t *testing.T, fs *faultfs.FS, encrypted bool, f auditFile, change func(rs [][]byte) [][]byte) {
	t.Helper()
	db := openOn(t, fs, smallAudit(encrypted))
	var rs [][]byte
	check(t, db.readAudit(f, func(_ auditSummary, records *disk.Section) error {
		b, err := records.Bytes(0, records.Len())
		for b = bytes.Clone(b); len(b) > 0 && err == nil; {
			var stored []byte
			if _, stored, b, err = cutAuditRecord(b); err == nil {
				rs = append(rs, stored)
			}
		}
		return err
	}))
	rs = change(rs)
	about := auditSummary{}
	for _, stored := range rs {
		r, _, _, err := cutAuditRecord(stored)
		check(t, err)
		about.take(&r, hashAudit(db.store, stored))
	}
	about.first, about.last, about.log = f.about.first, max(about.last, about.first), f.about.log
	_, err := db.putAudit(about, func(write func([]byte) error) error { return write(bytes.Join(rs, nil)) })
	check(t, err)
	check(t, db.Close())
}

// rechain makes the hashes right again behind a record that was changed.
func rechain(store seal.ID, rs [][]byte) [][]byte {
	var out [][]byte
	prev := auditHash{}
	for i, stored := range rs {
		r, _, _, _ := cutAuditRecord(stored)
		if i > 0 {
			r.prev = prev
		}
		b := r.append(nil)
		prev = hashAudit(store, b)
		out = append(out, b)
	}
	return out
}

// What somebody does to the files of an audit log is told by VerifyAudit, and
// where. The last column says what only a signature tells, or what the store
// remembers.
func TestAuditTampered(t *testing.T) {
	alter := func(rs [][]byte) [][]byte {
		rs[5] = bytes.Replace(rs[5], []byte("event"), []byte("EVENT"), 1)
		return rs
	}
	for _, encrypted := range []bool{false, true} {
		clean, store, report, files := audited(t, encrypted)
		second, newest := files[1], files[len(files)-1]
		remove := func(names ...string) func(t *testing.T, fs *faultfs.FS) {
			return func(t *testing.T, fs *faultfs.FS) {
				for _, n := range names {
					check(t, fs.Remove(n))
				}
			}
		}
		forged := func(f auditFile, change func(rs [][]byte) [][]byte) func(t *testing.T, fs *faultfs.FS) {
			return func(t *testing.T, fs *faultfs.FS) { forge(t, fs, encrypted, f, change) }
		}
		var logs []string
		for _, n := range clean.Files() {
			if strings.HasPrefix(n, "audit/log/") {
				logs = append(logs, n)
			}
		}
		for name, tc := range map[string]struct {
			do   func(t *testing.T, fs *faultfs.FS)
			want string
		}{
			"nothing":                      {func(*testing.T, *faultfs.FS) {}, ""},
			"a record altered":             {forged(second, alter), "altered"},
			"a record taken out":           {forged(second, func(rs [][]byte) [][]byte { return slices.Delete(rs, 5, 6) }), "are missing"},
			"two records swapped":          {forged(second, func(rs [][]byte) [][]byte { rs[4], rs[5] = rs[5], rs[4]; return rs }), "comes behind"},
			"a file cut at its end":        {forged(second, func(rs [][]byte) [][]byte { return rs[:len(rs)-3] }), "are missing"},
			"the newest file cut":          {forged(newest, func(rs [][]byte) [][]byte { return rs[:len(rs)-3] }), "are missing"},
			"altered, and hashes made":     {forged(second, func(rs [][]byte) [][]byte { return rechain(store, alter(rs)) }), "altered"},
			"the same, before a signature": {forged(newest, func(rs [][]byte) [][]byte { return rechain(store, alter(rs)) }), map[bool]string{true: "the signature of record", false: "altered"}[encrypted]},
			"the first file gone":          {remove(files[0].name), "others are missing"},
			"one file gone":                {remove(second.name), "are missing"},
			"the newest file gone":         {remove(newest.name), "missing"},
			"the log gone":                 {remove(logs...), "there is no file, but there was a log"},
			"its mark gone, too":           {remove(append(slices.Clone(logs), newest.name)...), "the store knows"},
			"everything gone": {func(t *testing.T, fs *faultfs.FS) {
				for _, n := range fs.Files() {
					if strings.HasPrefix(n, "audit/") {
						check(t, fs.Remove(n))
					}
				}
			}, "the store knows"},
			"two files exchanged": {func(t *testing.T, fs *faultfs.FS) {
				check(t, fs.Rename(second.name, "audit/x"))
				check(t, fs.Rename(files[2].name, second.name))
				check(t, fs.Rename("audit/x", files[2].name))
			}, "cannot be read"},
			"a byte of a file":  {flipByte(second.name, 700), "cannot be read"},
			"a byte of the log": {flipByte(lastWAL(logs), 260), "cannot be read"},
			"a file cut short":  {cutFile(second.name, 900), "cannot be read"},
			"the log cut short": {cutFile(lastWAL(logs), 300), "missing from the end"},
		} {
			t.Run(fmt.Sprint(name, " ", encrypted), func(t *testing.T) {
				fs := clean.Clone()
				tc.do(t, fs)
				o := smallAudit(encrypted)
				o.ReadOnly = true
				db := openOn(t, fs, o)
				defer db.Close()
				r := verifyAudit(t, db, AuditExpect{Seq: report.Last, Hash: report.Hash})
				text := fmt.Sprintf("%+v", r.Findings)
				if (tc.want == "") != (len(r.Findings) == 0) || !strings.Contains(text, tc.want) {
					t.Errorf("want %q: %s", tc.want, text)
				}
			})
		}
	}
}

func lastWAL(names []string) string {
	names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !strings.HasSuffix(n, ".wal") })
	return names[len(names)-1]
}

func flipByte(name string, at int) func(t *testing.T, fs *faultfs.FS) {
	return func(t *testing.T, fs *faultfs.FS) {
		check(t, fs.Damage(name, func(b []byte) []byte { b[at] ^= 4; return b }))
	}
}

func cutFile(name string, to int) func(t *testing.T, fs *faultfs.FS) {
	return func(t *testing.T, fs *faultfs.FS) {
		check(t, fs.Damage(name, func(b []byte) []byte { return b[:to] }))
	}
}

// A log that cannot be read is put aside when it is written to again: what can
// be read of it is kept, a record says what happened, and nobody forgets it.
func TestAuditDamagedGoesOn(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		clean, _, _, files := audited(t, encrypted)
		var last string
		for _, n := range clean.Files() {
			if strings.HasSuffix(n, ".wal") && strings.HasPrefix(n, "audit/") {
				last = n
			}
		}
		for name, harm := range map[string]func(t *testing.T, fs *faultfs.FS){
			"a byte":         flipByte(last, 260),
			"no log":         func(t *testing.T, fs *faultfs.FS) { check(t, fs.Remove(last)) },
			"no newest file": func(t *testing.T, fs *faultfs.FS) { check(t, fs.Remove(files[len(files)-1].name)) },
			"a damaged file": flipByte(files[len(files)-1].name, 200),
			"all files": func(t *testing.T, fs *faultfs.FS) {
				check(t, fs.Remove(last))
				check(t, fs.Remove(files[len(files)-1].name))
			},
		} {
			fs := clean.Clone()
			harm(t, fs)
			for round := range 2 {
				db := openOn(t, fs, smallAudit(encrypted))
				appendAudit(t, db, 1000+round, 1001+round)
				r := verifyAudit(t, db, AuditExpect{})
				if text := fmt.Sprintf("%+v", r.Findings); !strings.Contains(text, "was damaged when it was opened") && name != "a damaged file" || len(r.Findings) == 0 || strings.Count(text, "was damaged when") > 1 {
					t.Errorf("%s, %v, round %d: %s", name, encrypted, round, text)
				}
				check(t, db.Close())
			}
		}
	}
}

// FuzzAuditRecord: whatever bytes are, they are refused or are a record that
// is written in the same way.
func FuzzAuditRecord(f *testing.F) {
	r := auditRecord{kind: AuditEvent, seq: 1, body: []byte("x")}
	f.Add(r.append(nil))
	r = auditRecord{kind: AuditGap, seq: 7, time: -1, prev: auditHash{1}}
	f.Add(append(r.append(nil), 0))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, stored, rest, err := cutAuditRecord(b)
		if err != nil {
			return
		}
		if again := r.append(nil); !bytes.Equal(again, stored) || len(stored)+len(rest) != len(b) {
			t.Errorf("%x became %x", b, again)
		}
	})
}

// FuzzAuditSummary is the same for summaries.
func FuzzAuditSummary(f *testing.F) {
	s := auditSummary{first: 1, last: 2, from: 3, to: 4, log: 5, prev: auditHash{6}, hash: auditHash{7}}
	f.Add(s.append(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeAuditSummary(b)
		if err == nil && !bytes.Equal(s.append(nil), b) {
			t.Errorf("%x became %+v", b, s)
		}
	})
}

// FuzzAuditNotes decodes what bodies of the engine's own records hold.
func FuzzAuditNotes(f *testing.F) {
	f.Add([]byte(`{"through":4,"hash":"00","files":1,"bytes":2}`))
	f.Add([]byte(`{"after":1,"known":2,"reason":"x"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r AuditRemoval
		var l AuditLoss
		_, _ = decodeAuditNote(b, &r), decodeAuditNote(b, &l)
	})
}

// Check reads the audit log, and a repair takes it over.
func TestAuditCheckedAndRepaired(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		fs, _, report, files := audited(t, encrypted)
		o := smallAudit(encrypted)
		o.fs = fs
		r, err := Check(t.Context(), "", &o, CheckOptions{})
		check(t, err)
		if len(r.Findings) > 0 {
			t.Errorf("%+v", r.Findings)
		}
		out := faultfs.New(1)
		_, err = Repair(t.Context(), "", "out", &o, RepairOptions{out: out})
		check(t, err)
		db := openOn(t, out, smallAudit(encrypted))
		if again := wantClean(t, db); again.Last < report.Last {
			t.Errorf("%+v, before %+v", again, report)
		}
		check(t, db.Close())
		check(t, fs.Damage(files[1].name, func(b []byte) []byte { b[700] ^= 1; return b }))
		r, err = Check(t.Context(), "", &o, CheckOptions{})
		check(t, err)
		if !strings.Contains(fmt.Sprint(r.Err()), "audit log: records from") || r.Findings[0].File != files[1].name {
			t.Errorf("%+v", r.Findings)
		}
	}
}
