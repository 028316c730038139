package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// testReserve is enough for the entries and checkpoints of small stores.
const testReserve = 4 << 10

// openOn opens a store on fs, which is to work.
func openOn(t testing.TB, fs *faultfs.FS, o Options) *DB {
	t.Helper()
	o.fs = fs
	if o.reserve == 0 {
		o.reserve = testReserve
	}
	db, err := Open("", &o)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// newDB opens a store on a disk of its own and closes it after the test.
func newDB(t testing.TB, o Options) (*DB, *faultfs.FS) {
	t.Helper()
	fs := faultfs.New(1)
	db := openOn(t, fs, o)
	t.Cleanup(func() {
		if err := db.Close(); err != nil && !errors.Is(err, ErrClosed) {
			t.Errorf("close: %v", err)
		}
	})
	return db, fs
}

func newCollection(t testing.TB, db *DB, name string) *Collection {
	t.Helper()
	c, err := db.Default().Create(t.Context(), name, Spec{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func collection(t testing.TB, db *DB, name string) *Collection {
	t.Helper()
	c, err := db.Default().Collection(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// rec is a record with the embedding that v names.
func rec(id string, v ...float32) Record { return Record{ID: id, Embedding: v} }

func getAll(t testing.TB, c *Collection, sel Selection, inc Include) []Record {
	t.Helper()
	var out []Record
	for r, err := range c.Get(t.Context(), sel, inc) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func idsOf(rs []Record) string {
	var ids []string
	for _, r := range rs {
		ids = append(ids, r.ID)
	}
	return strings.Join(ids, " ")
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Every error that callers are to tell apart is told by errors.Is.
func TestErrors(t *testing.T) {
	ctx := t.Context()
	cancelled, cancel := context.WithCancelCause(ctx)
	reason := errors.New("reason")
	cancel(reason)
	db, fs := newDB(t, Options{Limits: Limits{IDBytes: 10, Dimension: 4, MetadataKeys: 2, MetadataBytes: 200, DocumentBytes: 20, BatchRecords: 3, BatchBytes: 2000}})
	c := newCollection(t, db, "c")
	check(t, c.Add(ctx, rec("a", 1, 2)))
	gone := newCollection(t, db, "gone")
	check(t, db.Default().Delete(ctx, "gone"))
	closed := openOn(t, faultfs.New(1), Options{})
	inClosed := newCollection(t, closed, "c")
	check(t, closed.Close())
	n := db.Default()
	one := func(_ any, err error) error { return err }
	first := func(c *Collection, sel Selection) (err error) {
		for _, err = range c.Get(ctx, sel, 0) {
		}
		return err
	}
	for _, tc := range []struct {
		name string
		got  error
		want error
	}{
		{"collection twice", one(n.Create(ctx, "c", Spec{})), ErrExists},
		{"tenant twice", db.CreateTenant(ctx, DefaultTenant), ErrExists},
		{"database twice", one(db.CreateDatabase(ctx, DefaultTenant, DefaultDatabase)), ErrExists},
		{"rename onto itself", c.Modify(ctx, Change{Name: Optional("c")}), nil},
		{"rename onto another", newCollection(t, db, "d").Modify(ctx, Change{Name: Optional("c")}), ErrExists},
		{"no collection", one(n.Collection(ctx, "x")), ErrNotFound},
		{"no collection by id", one(n.CollectionByID(ctx, ID{1})), ErrNotFound},
		{"collection of another tenant", one(db.Namespace("x", DefaultDatabase).CollectionByID(ctx, c.ID())), ErrNotFound},
		{"create in no database", one(db.Namespace("x", "y").Create(ctx, "c", Spec{})), ErrNotFound},
		{"delete no collection", n.Delete(ctx, "x"), ErrNotFound},
		{"no tenant", one(db.Tenant(ctx, "x")), ErrNotFound},
		{"no database", one(db.Database(ctx, DefaultTenant, "x")), ErrNotFound},
		{"delete no database", db.DeleteDatabase(ctx, DefaultTenant, "x"), ErrNotFound},
		{"add to deleted", gone.Add(ctx, rec("a", 1)), ErrNotFound},
		{"get from deleted", first(gone, Selection{}), ErrNotFound},
		{"query deleted", one(gone.Query(ctx, []float32{1}, 1, nil)), ErrNotFound},
		{"count deleted", one(gone.Count(ctx)), ErrNotFound},
		{"modify deleted", gone.Modify(ctx, Change{Name: Optional("z")}), ErrNotFound},
		{"add when closed", inClosed.Add(ctx, rec("a", 1)), ErrClosed},
		{"get when closed", first(inClosed, Selection{}), ErrClosed},
		{"create when closed", one(closed.Default().Create(ctx, "d", Spec{})), ErrClosed},
		{"close when closed", closed.Close(), ErrClosed},
		{"flush when closed", closed.Flush(ctx), ErrClosed},
		{"open twice", one(Open("", &Options{fs: fs})), ErrLocked},
		{"read-only, nothing there", one(Open("", &Options{fs: faultfs.New(1), ReadOnly: true})), ErrNotFound},
		{"bits that no code has", one(Open("", &Options{fs: faultfs.New(1), IndexBits: 3})), ErrInvalid},
		{"option below zero", one(Open("", &Options{fs: faultfs.New(1), MemtableRows: -1})), ErrInvalid},
		{"dimension", c.Add(ctx, rec("b", 1, 2, 3)), ErrDimension},
		{"dimension of an update", c.Update(ctx, rec("a", 1)), ErrDimension},
		{"dimension of a query", one(c.Query(ctx, []float32{1}, 1, nil)), ErrDimension},
		{"long id", c.Add(ctx, rec(strings.Repeat("x", 11), 1, 2)), ErrTooLarge},
		{"many records", c.Add(ctx, make([]Record, 4)...), ErrTooLarge},
		{"long document", c.Add(ctx, Record{ID: "d", Embedding: []float32{1, 2}, Document: Optional(strings.Repeat("x", 21))}), ErrTooLarge},
		{"many keys", c.Add(ctx, Record{ID: "d", Embedding: []float32{1, 2}, Metadata: Metadata{"a": filter.Int(1), "b": filter.Int(1), "c": filter.Int(1)}}), ErrTooLarge},
		{"large metadata", c.Add(ctx, Record{ID: "d", Embedding: []float32{1, 2}, Metadata: Metadata{"a": filter.String(strings.Repeat("x", 300))}}), ErrTooLarge},
		{"negative k", one(c.Query(ctx, []float32{1, 2}, -1, nil)), ErrInvalid},
		{"negative limit", first(c, Selection{Limit: -1}), ErrInvalid},
		{"negative offset of a delete", one(c.Delete(ctx, Selection{IDs: []string{"a"}, Offset: -1})), ErrInvalid},
		{"graph parameter", one(n.Create(ctx, "m", Spec{M: 512})), ErrInvalid},
		{"changed graph parameter", c.Modify(ctx, Change{M: Optional(1)}), ErrInvalid},
		{"metric", one(n.Create(ctx, "m", Spec{Metric: 9})), ErrInvalid},
		{"empty name", one(n.Create(ctx, "", Spec{})), ErrInvalid},
		{"empty new name", c.Modify(ctx, Change{Name: Optional("")}), ErrInvalid},
		{"no UUID", one(ParseID("x")), ErrInvalid},
		{"cancelled add", c.Add(cancelled, rec("b", 1, 2)), reason},
		{"cancelled query", one(c.Query(cancelled, []float32{1, 2}, 1, nil)), reason},
	} {
		if !errors.Is(tc.got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, tc.got, tc.want)
		}
	}
	if got := idsOf(getAll(t, c, Selection{}, 0)); got != "a" {
		t.Errorf("refused writes left %q", got)
	}
}

// An invalid input is named by field and position, and nothing of its call is written.
func TestInvalid(t *testing.T) {
	ctx := t.Context()
	db, fs := newDB(t, Options{})
	c := newCollection(t, db, "c")
	check(t, c.Add(ctx, rec("a", 1, 2)))
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	meta := func(k string, v Value) Record {
		return Record{ID: "x", Embedding: []float32{1, 2}, Metadata: Metadata{k: v}}
	}
	ops := fs.Ops()
	for _, tc := range []struct {
		bad   Record
		field string
	}{
		{rec("", 1, 2), "id"},
		{rec("\xff", 1, 2), "id"},
		{Record{ID: "x"}, "embedding"},
		{Record{ID: "x", Embedding: []float32{}}, "embedding"},
		{rec("x", nan, 1), "embedding"},
		{rec("x", 1, inf), "embedding"},
		{rec("x", 1, 2, 3), "embedding"}, // beside one of two dimensions
		{meta("", filter.Int(1)), "metadata"},
		{meta("$and", filter.Int(1)), "metadata"},
		{meta("#document", filter.Int(1)), "metadata"},
		{meta("\xff", filter.Int(1)), "metadata"},
		{Record{ID: "x", Embedding: []float32{1, 2}, Document: Optional("\xff")}, "document"},
		{Record{ID: "x", Embedding: []float32{1, 2}, URI: Optional("\xff")}, "uri"},
	} {
		for name, write := range map[string]func(context.Context, ...Record) error{"add": c.Add, "upsert": c.Upsert} {
			err := write(ctx, rec("good", 1, 2), tc.bad)
			e, ok := errors.AsType[*InvalidError](err)
			if !ok || e.Field != tc.field || e.Index != 1 {
				t.Errorf("%s %+v: %v, want an InvalidError of %s of record 1", name, tc.bad, err, tc.field)
			}
		}
	}
	if fs.Ops() != ops {
		t.Error("a refused call wrote to the disk")
	}
	err := c.Add(ctx, rec("x", 1, 2, 3))
	if want := "embedding of 3 dimensions in a collection of 2"; err == nil || err.Error() != want {
		t.Errorf("dimension: %v, want %q", err, want)
	}
}

// Numbers at the edge of float32 come back as they were.
func TestExactFloats(t *testing.T) {
	db, fs := newDB(t, Options{})
	c := newCollection(t, db, "c")
	v := []float32{math.MaxFloat32, -math.MaxFloat32, math.SmallestNonzeroFloat32, float32(math.Copysign(0, -1)), 1e-40}
	check(t, c.Add(t.Context(), rec("a", v...)))
	for _, where := range []string{"memory", "segment", "reopened"} {
		got := getAll(t, c, Selection{}, IncludeEmbedding)[0].Embedding
		for i := range v {
			if math.Float32bits(v[i]) != math.Float32bits(got[i]) {
				t.Errorf("%s: %v became %v", where, v[i], got[i])
			}
		}
		check(t, db.Flush(t.Context()))
		if where == "segment" {
			check(t, db.Close())
			db = openOn(t, fs, Options{})
			c = collection(t, db, "c")
		}
	}
	check(t, db.Close())
}

// What each kind of write does with ids that are known, unknown, and there
// twice; on rows in the memtable and in a segment.
func TestWriteSemantics(t *testing.T) {
	full := func(id string, v float32) Record {
		return Record{ID: id, Embedding: []float32{v}, Metadata: Metadata{"a": filter.Float(float64(v)), "b": filter.Int(1)}, Document: Optional(fmt.Sprint("doc", v)), URI: Optional("u")}
	}
	show := func(rs []Record) string {
		var b strings.Builder
		for _, r := range rs {
			fmt.Fprintf(&b, "%s%v", r.ID, r.Embedding)
			for _, k := range slices.Sorted(maps.Keys(r.Metadata)) {
				fmt.Fprintf(&b, " %s=%v", k, r.Metadata[k])
			}
			if r.Document != nil {
				fmt.Fprintf(&b, " %s", *r.Document)
			}
			b.WriteString("; ")
		}
		return b.String()
	}
	for _, tc := range []struct {
		name string
		do   func(context.Context, *Collection) error
		want string
	}{
		{"add known", func(ctx context.Context, c *Collection) error { return c.Add(ctx, full("x", 9), rec("z", 3)) },
			"x[1] a=1.0 b=1 doc1; y[2] a=2.0 b=1 doc2; z[3]; "},
		{"add twice in one call", func(ctx context.Context, c *Collection) error { return c.Add(ctx, rec("z", 3), rec("z", 4)) },
			"x[1] a=1.0 b=1 doc1; y[2] a=2.0 b=1 doc2; z[3]; "},
		{"upsert merges and keeps the place", func(ctx context.Context, c *Collection) error {
			return c.Upsert(ctx, Record{ID: "x", Embedding: []float32{5}, Metadata: Metadata{"a": filter.Null(), "c": filter.Bool(true)}}, rec("z", 3))
		}, "x[5] b=1 c=true doc1; y[2] a=2.0 b=1 doc2; z[3]; "},
		{"upsert twice in one call", func(ctx context.Context, c *Collection) error {
			return c.Upsert(ctx, Record{ID: "z", Embedding: []float32{3}, Document: Optional("d")}, rec("z", 4))
		}, "x[1] a=1.0 b=1 doc1; y[2] a=2.0 b=1 doc2; z[4] d; "},
		{"update known and unknown", func(ctx context.Context, c *Collection) error {
			return c.Update(ctx, Record{ID: "y", Document: Optional("")}, rec("z", 3))
		}, "x[1] a=1.0 b=1 doc1; y[2] a=2.0 b=1 ; "},
		{"update twice in one call", func(ctx context.Context, c *Collection) error { return c.Update(ctx, rec("y", 7), rec("y", 8)) },
			"x[1] a=1.0 b=1 doc1; y[8] a=2.0 b=1 doc2; "},
		{"null removes the last key", func(ctx context.Context, c *Collection) error {
			return c.Update(ctx, Record{ID: "x", Metadata: Metadata{"a": filter.Null(), "b": filter.Null()}})
		}, "x[1] doc1; y[2] a=2.0 b=1 doc2; "},
		{"deleted and added again comes last", func(ctx context.Context, c *Collection) error {
			n, err := c.Delete(ctx, Selection{IDs: []string{"x", "x", "unknown"}})
			if n != 1 {
				return fmt.Errorf("%d deleted", n)
			}
			return errors.Join(err, c.Add(ctx, rec("x", 6)))
		}, "y[2] a=2.0 b=1 doc2; x[6]; "},
		{"nothing", func(ctx context.Context, c *Collection) error {
			n, err := c.Delete(ctx, Selection{})
			m, err2 := c.Delete(ctx, Selection{IDs: []string{}})
			if n+m != 0 {
				return fmt.Errorf("%d deleted", n+m)
			}
			return errors.Join(err, err2, c.Add(ctx), c.Update(ctx), c.Upsert(ctx))
		}, "x[1] a=1.0 b=1 doc1; y[2] a=2.0 b=1 doc2; "},
	} {
		for _, place := range []string{"memory", "segment"} {
			t.Run(tc.name+" "+place, func(t *testing.T) {
				db, fs := newDB(t, Options{})
				c := newCollection(t, db, "c")
				check(t, c.Add(t.Context(), full("x", 1), full("y", 2)))
				if place == "segment" {
					check(t, db.Flush(t.Context()))
				}
				check(t, tc.do(t.Context(), c))
				for _, when := range []string{"written", "reopened"} {
					if got := show(getAll(t, c, Selection{}, IncludeAll)); got != tc.want {
						t.Errorf("%s: %s\nwant %s", when, got, tc.want)
					}
					check(t, db.Close())
					db = openOn(t, fs, Options{})
					c = collection(t, db, "c")
				}
				check(t, db.Close())
			})
		}
	}
}

// What a selection means, over records in two segments and in memory, some of
// them deleted or moved to memory by an update.
func TestSelections(t *testing.T) {
	ctx := t.Context()
	db, _ := newDB(t, Options{})
	c := newCollection(t, db, "c")
	for i := range 9 {
		r := rec(fmt.Sprint(i), float32(i))
		r.Metadata = Metadata{"even": filter.Bool(i%2 == 0)}
		check(t, c.Add(ctx, r))
		if i == 2 || i == 5 {
			check(t, db.Flush(ctx))
		}
	}
	check(t, c.Update(ctx, Record{ID: "1", Document: Optional("moved")}))
	_, err := c.Delete(ctx, Selection{IDs: []string{"4"}})
	check(t, err)
	even := filter.Eq("even", filter.Bool(true))
	for _, tc := range []struct {
		sel  Selection
		want string
	}{
		{Selection{}, "0 1 2 3 5 6 7 8"},
		{Selection{IDs: []string{"7", "1", "4", "1", "no"}}, "1 7"},
		{Selection{IDs: []string{}}, ""},
		{Selection{Where: even}, "0 2 6 8"},
		{Selection{Where: even, IDs: []string{"8", "1", "2"}}, "2 8"},
		{Selection{Where: filter.DocumentContains("ove")}, "1"},
		{Selection{Limit: 3}, "0 1 2"},
		{Selection{Offset: 6}, "7 8"},
		{Selection{Offset: 2, Limit: 2, Where: even}, "6 8"},
		{Selection{Offset: 8}, ""},
		{Selection{Offset: math.MaxInt, Limit: math.MaxInt}, ""},
		{Selection{Limit: math.MaxInt, Offset: 7}, "8"},
	} {
		if got := idsOf(getAll(t, c, tc.sel, 0)); got != tc.want {
			t.Errorf("%+v: %q, want %q", tc.sel, got, tc.want)
		}
		if tc.sel.Offset > 0 || tc.sel.Limit > 0 {
			continue
		}
		found, err := c.Query(ctx, []float32{-1}, math.MaxInt, &QueryOptions{IDs: tc.sel.IDs, Where: tc.sel.Where})
		check(t, err)
		var rs []Record
		for _, m := range found {
			rs = append(rs, m.Record)
		}
		if got := idsOf(rs); got != tc.want { // order of insertion is that of distance here
			t.Errorf("query of %+v: %q, want %q", tc.sel, got, tc.want)
		}
	}
	n, err := c.Delete(ctx, Selection{Where: even, Offset: 1, Limit: 2})
	if got := idsOf(getAll(t, c, Selection{}, 0)); err != nil || n != 2 || got != "0 1 3 5 7 8" {
		t.Errorf("delete with offset and limit: %d, %v, left %q", n, err, got)
	}
}

// Only the fields that are asked for are there, from memory and from segments.
func TestIncludes(t *testing.T) {
	db, _ := newDB(t, Options{})
	c := newCollection(t, db, "c")
	check(t, c.Add(t.Context(), Record{ID: "a", Embedding: []float32{1}, Metadata: Metadata{"k": filter.Int(1)}, Document: Optional(""), URI: Optional("u")}))
	for _, place := range []string{"memory", "segment"} {
		for inc := range IncludeAll + 1 {
			r := getAll(t, c, Selection{}, inc)[0]
			found, err := c.Query(t.Context(), []float32{1}, 1, &QueryOptions{Include: inc})
			check(t, err)
			for _, r := range []Record{r, found[0].Record} {
				got := Include(0)
				for i, there := range []bool{r.Embedding != nil, r.Metadata != nil, r.Document != nil, r.URI != nil} {
					if there {
						got |= 1 << i
					}
				}
				if got != inc || r.ID != "a" {
					t.Errorf("%s: asked for %04b, got %04b", place, inc, got)
				}
			}
		}
		check(t, db.Flush(t.Context()))
	}
}

// What a caller gets or gave is the caller's to change.
func TestNothingShared(t *testing.T) {
	ctx := t.Context()
	db, _ := newDB(t, Options{})
	given := Metadata{"k": filter.Int(1)}
	c, err := db.Default().Create(ctx, "c", Spec{Metadata: given, Extension: []byte("x")})
	check(t, err)
	r := Record{ID: "a", Embedding: []float32{1}, Metadata: Metadata{"k": filter.Int(1)}, Document: Optional("d")}
	check(t, c.Add(ctx, r))
	spoil := func(r Record) { r.Embedding[0], r.Metadata["k"], *r.Document = 9, filter.Int(9), "spoilt" }
	spoil(r)
	given["k"] = filter.Int(9)
	for range 2 {
		got := getAll(t, c, Selection{}, IncludeAll)[0]
		if d := diffRecord(Record{ID: "a", Embedding: []float32{1}, Metadata: Metadata{"k": filter.Int(1)}, Document: Optional("d")}, got); d != "" {
			t.Error(d)
		}
		spoil(got)
		info := c.Info()
		if !info.Spec.Metadata.Equal(Metadata{"k": filter.Int(1)}) || string(info.Spec.Extension) != "x" || !info.Keys["k"].Has(filter.KindInt) {
			t.Errorf("info %+v", info)
		}
		info.Spec.Metadata["k"], info.Spec.Extension[0] = filter.Int(9), 'y'
		delete(info.Keys, "k")
	}
}
