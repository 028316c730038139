package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/vfs/faultfs"
	"github.com/chromad/chromad/segment"
	"github.com/chromad/chromad/wal"
)

// idsIn are the ids of a collection in the order of insertion, "-" when it is
// not there.
func idsIn(t testing.TB, db *DB, name string) string {
	t.Helper()
	c, err := db.Default().Collection(t.Context(), name)
	if err != nil {
		return "-"
	}
	return idsOf(getAll(t, c, Selection{}, 0))
}

// damageFrame makes the frame that holds the entry unreadable.
func damageFrame(t testing.TB, fs *faultfs.FS, seq uint64) {
	t.Helper()
	o := wal.Options{Store: storeOf(t, fs)}
	for f, err := range wal.Files(fs, o) {
		check(t, err)
		for frame, err := range wal.Frames(fs, f.Number, o) {
			check(t, err)
			if frame.First.Seq <= seq && seq < frame.First.Seq+uint64(frame.Count) {
				check(t, fs.Damage(f.Name, func(b []byte) []byte {
					for i := range 40 {
						b[frame.Offset+int64(i)] ^= 0x77
					}
					return b
				}))
				return
			}
		}
	}
	t.Fatalf("no frame of entry %d", seq)
}

// Behind a gap in the log a collection gets no entries, unless the gap cannot
// concern it: it was made later, or its segments hold everything up to there.
func TestRepairGap(t *testing.T) {
	ctx := t.Context()
	fs := faultfs.New(1)
	db := openOn(t, fs, Options{})
	cut, flushed := newCollection(t, db, "cut"), newCollection(t, db, "flushed")
	check(t, cut.Add(ctx, rec("a", 1)))
	check(t, flushed.Add(ctx, rec("a", 1)))
	check(t, cut.Add(ctx, rec("b", 1)))
	gap := db.log.End().Seq - 1
	check(t, flushed.Add(ctx, rec("b", 1)))
	check(t, db.flush(ctx, flushed))
	check(t, cut.Add(ctx, rec("c", 1)))
	check(t, flushed.Add(ctx, rec("c", 1)))
	later := newCollection(t, db, "later")
	check(t, later.Add(ctx, rec("a", 1)))
	fs = fs.Clone()
	check(t, db.Close())
	damageFrame(t, fs, gap)

	out, r := repaired(t, fs, nil)
	db = openOn(t, out, Options{})
	defer db.Close()
	for name, want := range map[string]string{"cut": "a", "flushed": "a b c", "later": "a"} {
		if got := idsIn(t, db, name); strings.Join(strings.Fields(strings.ReplaceAll(got, ",", " ")), " ") != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if !slices.ContainsFunc(r.Lost, func(l Loss) bool { return l.First == gap && l.Last == gap && l.Name == "" }) {
		t.Errorf("the gap at %d is not told: %+v", gap, r.Lost)
	}
	if !slices.ContainsFunc(r.Lost, func(l Loss) bool { return l.Name == "cut" && l.First == gap+3 }) {
		t.Errorf("the entry behind it is not told: %+v", r.Lost)
	}
}

// Without a checkpoint, records come back under names that the log still
// knows, or under new ones.
func TestRepairWithoutCheckpoint(t *testing.T) {
	ctx := t.Context()
	fs := faultfs.New(1)
	db := openOn(t, fs, Options{GraphMin: 4})
	fill := func(name string, flushes int) {
		c, _, err := db.Default().GetOrCreate(ctx, name, Spec{Metric: Cosine})
		check(t, err)
		check(t, c.Add(ctx, rec("a", 1, 2), rec("b", 3, 4)))
		check(t, db.Flush(ctx))
		check(t, c.Upsert(ctx, Record{ID: "a", Embedding: []float32{5, 6}, Metadata: Metadata{"k": filter.Int(1)}}))
		if flushes > 1 {
			check(t, db.Flush(ctx))
		}
	}
	fill("old", 2)
	check(t, db.ChangeSetting(ctx, "access", func([]byte) ([]byte, error) { return []byte("who gets in"), nil }))
	for range 2 { // the log forgets it: only its two segments speak of it
		check(t, db.Close())
		db = openOn(t, fs, Options{GraphMin: 4})
		fill("scratch", 2)
	}
	check(t, db.Default().Delete(ctx, "scratch"))
	fill("new", 1)
	fs = fs.Clone()
	check(t, db.Close())
	numbers, err := numberedFiles(fs, checkpointDir, checkpointSuffix)
	check(t, err)
	for _, n := range numbers {
		check(t, fs.Damage(checkpointName(n), func(b []byte) []byte {
			clear(b[disk.HeaderSize : len(b)-40])
			return b
		}))
	}
	withoutLog(t, fs.Clone())
	out, r := repaired(t, fs, nil)
	if !strings.Contains(r.Basis, "headers") || len(r.Chosen) == 0 {
		t.Errorf("%q, %v", r.Basis, r.Chosen)
	}
	db = openOn(t, out, Options{})
	n := 0
	for info, err := range db.Default().Collections(ctx) {
		check(t, err)
		n++
		c := collection(t, db, info.Name)
		recs := getAll(t, c, Selection{}, IncludeAll)
		if len(recs) != 2 || recs[0].ID != "a" || recs[0].Embedding[0] != 5 || info.Spec.Metric != Cosine {
			t.Errorf("%s: %+v, %v", info.Name, recs, info.Spec.Metric)
		}
	}
	if n != 2 || idsIn(t, db, "new") == "-" {
		t.Errorf("%d collections, new: %s", n, idsIn(t, db, "new"))
	}
	told := slices.ContainsFunc(r.Lost, func(l Loss) bool { return strings.Contains(l.Text, "settings are lost") })
	access, err := db.Setting(ctx, "access")
	check(t, err)
	lost, err := db.Setting(ctx, SettingsLost)
	if err != nil || lost == nil || !told {
		t.Errorf("that settings are lost is told: %t, and in the store: %q, %v; access: %q", told, lost, err, access)
	}
	check(t, db.Close())
}

// withoutLog takes the log away too: the newest version of each record is all
// that segments tell.
func withoutLog(t *testing.T, fs *faultfs.FS) {
	t.Helper()
	for _, name := range fs.Files() {
		if strings.HasPrefix(name, "log/") {
			check(t, fs.Remove(name))
		}
	}
	out, _ := repaired(t, fs, nil) // which passes its check: no id is there twice
	db := openOn(t, out, Options{})
	defer db.Close()
	newest := 0
	for info, err := range db.Default().Collections(t.Context()) {
		check(t, err)
		for _, r := range getAll(t, collection(t, db, info.Name), Selection{IDs: []string{"a"}}, IncludeEmbedding) {
			if r.Embedding[0] == 5 {
				newest++
			}
		}
	}
	if newest == 0 {
		t.Error("no collection has its newest records")
	}
}

// The newest checkpoint cannot be read, and the older one has not been removed
// yet, as a crash leaves them: nothing is lost.
func TestRepairOlderCheckpoint(t *testing.T) {
	fs, m := lived(t, nil)
	numbers, err := numberedFiles(fs, checkpointDir, checkpointSuffix)
	check(t, err)
	f, err := fs.Create(checkpointName(numbers[len(numbers)-1] + 1))
	check(t, err)
	_, err = f.Write(make([]byte, 3000))
	check(t, err)
	check(t, f.Close())
	out, r := repaired(t, fs, nil)
	if !strings.HasPrefix(r.Basis, "checkpoint ") || len(r.Lost) != 1 || len(r.Chosen) != 1 {
		t.Errorf("%q, %+v, %v", r.Basis, r.Lost, r.Chosen)
	}
	db := openOn(t, out, Options{})
	if d, err := m.diff(t.Context(), db, ""); d != "" || err != nil {
		t.Error(d, err)
	}
	check(t, db.Close())
}

// Records whose place in the order is lost are kept: the place follows from
// their neighbours, or they come last.
func TestRepairOrders(t *testing.T) {
	heavy(t)
	ctx := t.Context()
	for _, gaps := range []bool{false, true} {
		fs := faultfs.New(1)
		db := openOn(t, fs, Options{})
		c := newCollection(t, db, "c")
		for i := range 2000 {
			check(t, c.Add(ctx, rec(fmt.Sprintf("r%04d", i), float32(i))))
		}
		if gaps { // so that the orders of the others cannot be told
			_, err := c.Delete(ctx, Selection{IDs: []string{"r0600"}})
			check(t, err)
		}
		check(t, db.Flush(ctx))
		info := c.manifest.segments[0].info
		check(t, db.Close())
		for _, p := range partsIn(t, fs, segment.Name(info.Number)) {
			if segment.SectionName(p.Kind) == "orders" {
				check(t, fs.Damage(segment.Name(info.Number), func(b []byte) []byte {
					for i := range 4096 { // the second of its blocks: 512 rows
						b[p.Offset+4096+int64(i)] ^= 0x3c
					}
					return b
				}))
			}
		}
		out, r := repaired(t, fs, nil)
		db = openOn(t, out, Options{})
		recs := getAll(t, collection(t, db, "c"), Selection{}, IncludeEmbedding)
		sorted := slices.IsSortedFunc(recs, func(a, b Record) int { return strings.Compare(a.ID, b.ID) })
		switch {
		case !gaps && (len(r.Lost) != 0 || len(recs) != 2000 || !sorted):
			t.Errorf("%d lost, %d records, in order: %v", len(r.Lost), len(recs), sorted)
		case gaps && (len(r.Lost) != 512 || len(recs) != 1999 || sorted || recs[1999-512].ID != "r0512"):
			t.Errorf("%d lost, %d records, in order: %v, %s", len(r.Lost), len(recs), sorted, recs[1999-512].ID)
		}
		check(t, db.Close())
	}
}

// The same random damage to an encrypted store. Damaged keys end the repair;
// what they protect is gone.
func TestRepairRandomEncrypted(t *testing.T) {
	heavy(t)
	op := operator("a")
	fs, m, history := livedHistory(t, op)
	before := checked(t, fs, op).Findings
	for seed := range uint64(*repairSeeds) / 4 {
		rng := rand.New(rand.NewPCG(seed, 78))
		hit := fs.Clone()
		what, harmless := hurt(t, rng, hit)
		if r, err := Check(t.Context(), "", &Options{fs: hit, Keys: op}, CheckOptions{}); err == nil && fmt.Sprint(r.Findings) == fmt.Sprint(before) && !harmless {
			t.Errorf("seed %d: %s: not found", seed, what)
		}
		if strings.HasPrefix(what, "keys/") {
			continue
		}
		out := faultfs.New(2)
		report, err := Repair(context.Background(), "", "out", &Options{fs: hit, Keys: op, GraphMin: 4, Workers: 1}, RepairOptions{out: out})
		if err != nil {
			t.Errorf("seed %d: %s: %v\n%+v", seed, what, err, report)
			continue
		}
		db := openOn(t, out, Options{Keys: op})
		if err := compareRepaired(t.Context(), db, m, history, report); err != nil {
			t.Errorf("seed %d: %s: %v", seed, what, err)
		}
		check(t, db.Close())
	}
}

// An addition in the log that met a record which is lost now was ignored then.
func TestRepairAddition(t *testing.T) {
	ctx := t.Context()
	fs := faultfs.New(1)
	db := openOn(t, fs, Options{})
	c := newCollection(t, db, "c")
	check(t, c.Add(ctx, rec("a", 1), rec("b", 2)))
	check(t, db.Flush(ctx))
	number := c.manifest.segments[0].info.Number
	check(t, c.Add(ctx, rec("a", 7), rec("new", 3)))
	check(t, c.Upsert(ctx, rec("b", 4)))
	check(t, c.Update(ctx, rec("a", 8)))
	fs = fs.Clone()
	check(t, db.Close())
	check(t, fs.Damage(segment.Name(number), func(b []byte) []byte {
		for i := range 8 {
			b[disk.HeaderSize+i] ^= 0x3c // vectors
		}
		return b
	}))
	out, r := repaired(t, fs, nil)
	db = openOn(t, out, Options{})
	defer db.Close()
	recs := getAll(t, collection(t, db, "c"), Selection{}, IncludeEmbedding)
	if len(recs) != 2 || recs[0].ID != "new" || recs[1].ID != "b" || recs[1].Embedding[0] != 4 {
		t.Errorf("%v", recs)
	}
	if len(r.Lost) != 4 { // two rows, what b had before, the update of a
		t.Errorf("%+v", r.Lost)
	}
}

// What was written under a rule about a record that is lost is lost with it:
// whether the rule allowed it cannot be told any more. The rest is written
// under its rule again.
func TestRepairUnderRule(t *testing.T) {
	ctx := t.Context()
	fs := faultfs.New(1)
	db := openOn(t, fs, Options{})
	c := newCollection(t, db, "c")
	check(t, c.Add(ctx, of("a", "a", 1), of("b", "b", 2)))
	check(t, db.Flush(ctx))
	number := c.manifest.segments[0].info.Number
	g := under(t, c, team("a"))
	check(t, g.Upsert(ctx, of("a", "new", 3)))
	check(t, g.Upsert(ctx, of("a", "other", 4), of("a", "a", 4)))
	check(t, c.Update(ctx, of("b", "new")))
	check(t, g.Update(ctx, of("a", "new", 9), of("b", "none")))
	fs = fs.Clone()
	check(t, db.Close())
	whole, r := repaired(t, fs, nil)
	if len(r.Lost) > 0 {
		t.Errorf("%+v", r.Lost)
	}
	db = openOn(t, whole, Options{})
	if ids := idsIn(t, db, "c"); ids != "a b new other" {
		t.Errorf("of a whole store: %s", ids)
	}
	check(t, db.Close())
	check(t, fs.Damage(segment.Name(number), func(b []byte) []byte {
		for i := range 8 {
			b[disk.HeaderSize+i] ^= 0x3c // vectors
		}
		return b
	}))
	out, r := repaired(t, fs, nil)
	db = openOn(t, out, Options{})
	defer db.Close()
	recs := getAll(t, collection(t, db, "c"), Selection{}, IncludeAll)
	if got, want := showAll(recs), `new [3] {"team":"b"} none; `; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if len(r.Lost) != 3 { // two rows, and the entry that names one of them
		t.Errorf("%+v", r.Lost)
	}
}
