package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/internal/vfs/faultfs"
	"github.com/chromad/chromad/segment"
	"github.com/chromad/chromad/wal"
)

// lived is a store with three collections that have segments, deletions in
// them, and records that are in the log only, left by a crash.
func lived(t testing.TB, op OperatorKey) (*faultfs.FS, model) {
	t.Helper()
	fs, m, _ := livedHistory(t, op)
	return fs, m
}

// livedHistory returns all records that the store ever had too, in words.
func livedHistory(t testing.TB, op OperatorKey) (*faultfs.FS, model, map[string]bool) {
	t.Helper()
	history := map[string]bool{}
	ctx := context.Background()
	fs := faultfs.New(1)
	db := openOn(t, fs, Options{GraphMin: 4, Workers: 1, LogLimit: 1 << 20, Keys: op})
	db.jobs.stop() // merges happen where they are asked for, and leave nothing half done
	ops := &opMaker{Rand: rand.New(rand.NewPCG(3, 3)), collections: 3, ids: 60, batch: 8, rules: true}
	m := model{}
	for i := range 90 {
		op := ops.op(m)
		op.model(m)
		check(t, op.store(ctx, db))
		for _, c := range m {
			for _, r := range c.records {
				history[inWords(r)] = true
			}
		}
		if i == 40 || i == 60 {
			check(t, db.Flush(ctx))
		}
		if i == 45 {
			check(t, db.Compact(ctx))
		}
		if i == 50 || i == 70 {
			check(t, db.writeCheckpoint(ctx))
		}
	}
	fs = fs.Clone()
	check(t, db.Close())
	return fs, m, history
}

func inWords(r Record) string {
	return fmt.Sprintf("%s %v %v %s %s", r.ID, r.Embedding, r.Metadata, show(r.Document), show(r.URI))
}

func checked(t testing.TB, fs *faultfs.FS, op OperatorKey) *Report {
	t.Helper()
	r, err := Check(context.Background(), "", &Options{fs: fs, Keys: op}, CheckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A store as a crash leaves it, and as Close leaves it, is clean.
func TestCheckClean(t *testing.T) {
	for _, op := range []OperatorKey{nil, operator("a")} {
		fs, m := lived(t, op)
		r := checked(t, fs, op)
		records := 0
		for _, c := range m {
			records += len(c.records)
		}
		if !r.Clean() || r.Collections != 3 || r.Records != int64(records) || r.Segments < 3 || r.Checkpoint < 3 || r.Err() != nil || r.Encrypted != (op != nil) {
			t.Errorf("%+v, want %d records", r, records)
		}
		db := openOn(t, fs, Options{Keys: op})
		if _, err := Check(t.Context(), "", &Options{fs: fs, Keys: op}, CheckOptions{}); !errors.Is(err, ErrLocked) {
			t.Errorf("an open store: %v", err)
		}
		v, err := db.Verify(t.Context())
		check(t, err)
		if !v.Clean() || v.Records != int64(records) {
			t.Errorf("verify: %+v", v)
		}
		check(t, db.Close())
		if r := checked(t, fs, op); !r.Clean() {
			t.Errorf("closed: %+v", r.Findings)
		}
	}
	if _, err := Check(t.Context(), "", &Options{fs: faultfs.New(1)}, CheckOptions{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("no store: %v", err)
	}
}

// Keys that are not the right ones are no damage; keys that are damaged are.
func TestCheckKeys(t *testing.T) {
	fs, _ := lived(t, operator("a"))
	for _, op := range []OperatorKey{nil, operator("b")} {
		if _, err := Check(t.Context(), "", &Options{fs: fs, Keys: op}, CheckOptions{}); !errors.Is(err, ErrKey) {
			t.Errorf("another key: %v", err)
		}
	}
	for _, name := range fs.Files() {
		if !strings.HasPrefix(name, "keys/") {
			continue
		}
		hit := fs.Clone()
		check(t, hit.Damage(name, func(b []byte) []byte {
			b[200] ^= 1
			return b
		}))
		r := checked(t, hit, operator("a"))
		if !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity == Damage && f.File == name }) {
			t.Errorf("%s: %+v", name, r.Findings)
		}
	}
}

// A byte of each section, of log and checkpoint: the finding names the place
// and the collection, and says whether something is lost.
func TestCheckNamesThePlace(t *testing.T) {
	heavy(t)
	fs, _ := lived(t, nil)
	before := fs.Ops()
	r := checked(t, fs, nil)
	if r.Bytes == 0 || fs.Ops() == before {
		t.Fatal("nothing was read")
	}
	seen := map[string]bool{}
	for _, name := range fs.Files() {
		for _, p := range partsOf(t, fs, name) {
			hit := fs.Clone()
			check(t, hit.Damage(name, func(b []byte) []byte {
				b[p.at] ^= 1
				return b
			}))
			r := checked(t, hit, nil)
			i := slices.IndexFunc(r.Findings, func(f Finding) bool {
				return f.File == name && f.Section == p.section && f.Severity == p.severity && (p.section == "" || f.Collection != "")
			})
			if i < 0 || r.Clean() {
				t.Errorf("%s, byte %d, %s %q: %+v", name, p.at, p.severity, p.section, r.Findings)
			}
			seen[p.section] = true
		}
	}
	if len(seen) < 15 {
		t.Errorf("only %v were damaged", seen)
	}
}

type placeOf struct {
	at       int64
	section  string
	severity Severity
}

// partsOf is where a file of a store can be damaged, and what that means.
func partsOf(t testing.TB, fs vfs.FS, name string) (out []placeOf) {
	t.Helper()
	if strings.HasSuffix(name, ".wal") {
		n, _ := disk.Number(name[len("log/"):], ".wal")
		for f, err := range wal.Frames(fs, n, wal.Options{Store: storeOf(t, fs)}) {
			check(t, err)
			out = append(out, placeOf{f.Offset + f.Bytes - 20, "", Damage})
		}
		if len(out) == 0 {
			return nil
		}
		return append(out[:len(out)-1], placeOf{20, "", Damage}) // the last frame may be a torn tail
	}
	h, err := disk.ReadHeader(fs, name)
	if err != nil {
		return nil // no file with parts
	}
	f, err := disk.OpenFile(fs, name, h, disk.Info{}, seal.Plain())
	check(t, err)
	defer f.Close()
	for _, p := range f.Parts() {
		section, severity := "", Damage
		if strings.HasPrefix(name, segmentDir) {
			section = segment.SectionName(p.Kind)
		}
		switch {
		case section == "properties":
			section = ""
		case slices.Contains([]string{"graph", "filter index", "id table", "norms"}, section):
			severity = Repairable
		}
		if p.Length > 0 {
			out = append(out, placeOf{p.Offset + p.Length/2, section, severity})
		}
	}
	return append(out, placeOf{5, "", Damage}, placeOf{f.Table() + 3, "", Damage}, placeOf{f.Info().Length - 3, "", Damage})
}

func storeOf(t testing.TB, fs vfs.FS) seal.ID {
	t.Helper()
	numbers, err := numberedFiles(fs, checkpointDir, checkpointSuffix)
	check(t, err)
	h, err := disk.ReadHeader(fs, checkpointName(numbers[len(numbers)-1]))
	check(t, err)
	return h.Store
}

// What checksums cannot tell: parts that are whole and do not fit together.
func TestCheckContradictions(t *testing.T) {
	ctx := t.Context()
	for name, tc := range map[string]struct {
		spoil func(c *Collection)
		want  string
	}{
		"a deletion forgotten": {func(c *Collection) { c.manifest.segments[0].dead.Clear() }, "has the id"},
		"an order given twice": {func(c *Collection) { c.manifest.nextOrder = 1 }, "next one to be given"},
		"a key forgotten":      {func(c *Collection) { clear(c.manifest.keys) }, "does not know"},
	} {
		fs := faultfs.New(1)
		db := openOn(t, fs, Options{})
		db.jobs.stop() // who merges looks at what is spoilt
		c := newCollection(t, db, "c")
		year := Metadata{"year": filter.Int(1843)}
		check(t, c.Add(ctx, Record{ID: "a", Embedding: []float32{1}, Metadata: year}, Record{ID: "b", Embedding: []float32{2}}))
		check(t, db.Flush(ctx))
		check(t, c.Upsert(ctx, Record{ID: "a", Embedding: []float32{3}}))
		check(t, db.Flush(ctx))
		tc.spoil(c)
		check(t, db.writeCheckpoint(ctx))
		check(t, db.Close())
		r := checked(t, fs, nil)
		if !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity == Damage && strings.Contains(f.Text, tc.want) }) {
			t.Errorf("%s: %+v", name, r.Findings)
		}
	}
}

// Files that nobody names are no damage, and are told.
func TestCheckNotes(t *testing.T) {
	fs, _ := lived(t, nil)
	for _, name := range []string{"notes.txt", "seg/00000000000000ff.seg", "seg/readme", "tmp/x", "log/0000000000000009.tmp"} {
		f, err := fs.Create(name)
		check(t, err)
		check(t, f.Close())
		r := checked(t, fs, nil)
		if !r.Clean() || !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity == Note && f.File == name }) {
			t.Errorf("%s: %+v", name, r.Findings)
		}
	}
	segs, err := numberedFiles(fs, segmentDir, segmentSuffix)
	check(t, err)
	check(t, fs.Remove(segment.Name(segs[0])))
	if r := checked(t, fs, nil); r.Clean() {
		t.Errorf("a missing segment: %+v", r.Findings)
	}
}
