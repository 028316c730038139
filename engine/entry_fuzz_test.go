package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"runtime"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/keys"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/segment"
)

// bounded runs a decoder and fails when it allocates more than a multiple of
// what it reads: factor bytes for each byte, and some for errors.
func bounded(t *testing.T, b []byte, factor uint64, decode func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	decode()
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > factor*uint64(len(b))+1<<20 {
		t.Errorf("%d bytes allocated for an entry of %d", used, len(b))
	}
}

// same compares an entry with what its meaning encodes to.
func same(t *testing.T, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("decodes, and encodes to other bytes:\n%x\nwas\n%x", got, want)
	}
}

// addDamaged adds an entry whole, cut short, with a byte too many, and with
// counts that promise more than follows.
func addDamaged(f *testing.F, b []byte) {
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Add(append(slices.Clone(b), 0))
	for _, at := range []int{1, 17, 18, 33} {
		if at < len(b) {
			f.Add(append(binary.AppendUvarint(slices.Clone(b[:at]), 1<<40), b[at:]...))
		}
	}
}

// exampleMetadata has a value of every kind.
func exampleMetadata() Metadata {
	return Metadata{
		"a": filter.Bool(true), "b": filter.Int(-7), "c": filter.Float(0.5), "d": filter.String("text"), "e": filter.Null(),
		"f": filter.Bools(true, false), "g": filter.Ints(1, -1), "h": filter.Floats(2), "i": filter.Strings("", "x"),
	}
}

func exampleSpec() Spec {
	return Spec{Metric: Cosine, M: 16, EFConstruction: 100, EFSearch: 300, Metadata: exampleMetadata(), Extension: []byte("{}")}
}

func exampleRule() *Filter {
	return filter.Or(filter.In("team", filter.String("a"), filter.String("b")), filter.And(filter.Ne("owner", filter.String("x")), filter.Gte("year", filter.Float(1.5))), filter.Or())
}

func exampleManifest() *manifest {
	many := roaring.New()
	many.AddRange(0, 5000)
	runs := many.Clone()
	runs.RunOptimize()
	part := func(number uint64, rows uint32, dead *roaring.Bitmap) segmentState {
		return segmentState{segment.Info{
			Number: number, File: seal.ID{0xf1}, Rows: rows, MinOrder: 1, MaxOrder: uint64(rows),
			Info: disk.Info{Length: 4096, Root: 0x0102030405060708},
		}, dead}
	}
	return &manifest{
		flushed: 300, nextOrder: 9000, dimension: 3, keys: map[string]KindSet{"k": 0b110, "year": 0b100},
		segments: []segmentState{part(1, 3, roaring.New()), part(2, 4, roaring.BitmapOf(1, 2)), part(3, 6000, many), part(4, 6000, runs)},
	}
}

func FuzzDecodeCatalogEntry(f *testing.F) {
	for _, k := range exampleKeepings() {
		addDamaged(f, (&catalogEntry{op: opKeep, id: ID{1}, keep: k}).append(nil))
	}
	for o := opCreateTenant; o <= opSet; o++ {
		addDamaged(f, (&catalogEntry{op: o, tenant: "t", database: "d", name: "n", resource: "r", id: ID{1}, spec: exampleSpec(), value: []byte("v")}).append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var e *catalogEntry
		var err error
		bounded(t, b, 200, func() { e, err = decodeCatalogEntry(b) })
		if err == nil {
			same(t, e.append(nil), b)
		}
	})
}

// exampleKeepings are nothing, a retention, a hold, and both.
func exampleKeepings() []*keeping {
	return []*keeping{nil, {key: "expires_at"}, {held: true, since: 1893456000, why: "a case"}, {key: "until", grace: 86400, held: true, since: 1, why: "x"}}
}

func FuzzDecodeWriteEntry(f *testing.F) {
	for _, t := range []*terms{{held: true}, {key: "expires_at", at: 1893456000}, {key: "until", at: 1893456000, stamp: 1893542400, held: true}} {
		for _, rule := range []*Filter{nil, exampleRule()} {
			addDamaged(f, (&writeEntry{collection: ID{1}, kind: writeUpsert, rule: rule, terms: t, records: []Record{{ID: "a", Embedding: []float32{1}}}}).append(nil))
		}
	}
	for kind := writeAdd; kind <= writeUpdate; kind++ {
		addDamaged(f, (&writeEntry{collection: ID{1}, kind: kind, records: []Record{
			{ID: "a", Embedding: []float32{1, -2.5, 0}, Metadata: exampleMetadata(), Document: Optional(""), URI: Optional("u")},
			{ID: "b"},
		}}).append(nil))
	}
	addDamaged(f, (&writeEntry{collection: ID{1}, kind: writeUpsert, rule: exampleRule(), records: []Record{{ID: "a", Embedding: []float32{1}}}}).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e *writeEntry
		var err error
		bounded(t, b, 200, func() { e, err = decodeWriteEntry(b) })
		if err == nil {
			same(t, e.append(nil), b)
		}
	})
}

func FuzzDecodeDeleteEntry(f *testing.F) {
	addDamaged(f, (&deleteEntry{collection: ID{1}, ids: []string{"a", "", "bc"}}).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e *deleteEntry
		var err error
		bounded(t, b, 50, func() { e, err = decodeDeleteEntry(b) })
		if err == nil {
			same(t, e.append(nil), b)
		}
	})
}

func FuzzDecodeExpireEntry(f *testing.F) {
	addDamaged(f, (&expireEntry{collection: ID{1}, key: "expires_at", at: 1893456000, ids: []string{"a", "", "bc"}}).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e *expireEntry
		var err error
		bounded(t, b, 50, func() { e, err = decodeExpireEntry(b) })
		if err == nil {
			same(t, e.append(nil), b)
		}
	})
}

func FuzzDecodeEdit(f *testing.F) {
	b, err := appendEdit(nil, ID{1}, exampleManifest())
	if err != nil {
		f.Fatal(err)
	}
	addDamaged(f, b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var id ID
		var m *manifest
		var err error
		bounded(t, b, 200, func() { id, m, err = decodeEdit(b) })
		if err != nil {
			return
		}
		again, err := appendEdit(nil, id, m)
		if err != nil {
			t.Fatal(err)
		}
		if m.deletions() == 0 {
			same(t, again, b)
			return
		}
		sameManifest(t, m, again)
	})
}

func (m *manifest) deletions() (n uint64) {
	for _, s := range m.segments {
		n += s.dead.GetCardinality()
	}
	return n
}

// sameManifest compares meanings: bitmaps that others wrote may hold the same
// rows in other bytes than ours do. What we write ourselves stays as it is.
func sameManifest(t *testing.T, m *manifest, edit []byte) {
	t.Helper()
	id, n, err := decodeEdit(edit)
	if err != nil {
		t.Fatalf("what was encoded does not decode: %v", err)
	}
	if m.flushed != n.flushed || m.nextOrder != n.nextOrder || m.dimension != n.dimension || !maps.Equal(m.keys, n.keys) ||
		!slices.EqualFunc(m.segments, n.segments, func(a, b segmentState) bool { return a.info == b.info && a.dead.Equals(b.dead) }) {
		t.Errorf("%+v became %+v", m, n)
	}
	again, err := appendEdit(nil, id, n)
	if err != nil {
		t.Fatal(err)
	}
	same(t, again, edit)
}

// emptyDB is what a checkpoint is decoded into.
func emptyDB() *DB {
	o, _ := (*Options)(nil).withDefaults()
	return &DB{opts: o, keys: seal.Plain(), files: liveFiles{refs: map[uint64]int{}}, catalog: newCatalog()}
}

func encodeState(db *DB) ([]byte, error) { return db.appendCheckpoint(nil, db.checkpoint) }

// exampleState is a store of two tenants with a collection.
func exampleState() (*DB, error) {
	db := emptyDB()
	db.checkpoint.position.Epoch, db.checkpoint.position.Seq = 1, 300
	db.checkpoint.from.Epoch, db.checkpoint.from.Seq = 1, 290
	db.checkpoint.keyset, db.checkpoint.written, db.checkpoint.since = 3, 1893456000, 1893369600
	db.erasure.gone = []*gone{{
		kind: goneCollections, at: 1893369600, tenant: nameHash{0x7e}, database: ID{0xdb}, databaseName: nameHash{0xda},
		collections: []goneCollection{{
			id: ID{0xc1}, name: nameHash{0xaa}, rows: 12, destroyed: 1893369601,
			keys:  []keys.KeyInfo{{Collection: seal.ID{0xc1}, Generation: 1, File: seal.ID{0xf1}, Wrapped: 77}},
			files: []segment.Info{{Number: 1, File: seal.ID{0xf2}, Rows: 12, MinOrder: 1, MaxOrder: 12}},
		}},
	}}
	err := errors.Join(
		db.applyCatalog(&catalogEntry{op: opSet, name: "limits", value: []byte{7}}),
		db.applyCatalog(&catalogEntry{op: opCreateTenant, tenant: "acme", resource: "r1"}),
		db.applyCatalog(&catalogEntry{op: opCreateDatabase, tenant: "acme", database: "main", id: ID{0xdb}}),
		db.applyCatalog(&catalogEntry{op: opCreateCollection, tenant: "acme", database: "main", name: "docs", id: ID{0xc0},
			spec: Spec{Metric: Cosine, M: 16, EFConstruction: 100, EFSearch: 100}}))
	return db, err
}

func FuzzDecodeCheckpoint(f *testing.F) {
	db, err := exampleState()
	if err != nil {
		f.Fatal(err)
	}
	for i, m := range []*manifest{{nextOrder: 1}, exampleManifest(), {nextOrder: 1}} {
		db.catalog.collections[ID{0xc0}].keep.Store(exampleKeepings()[i])
		db.catalog.collections[ID{0xc0}].load(m)
		b, err := encodeState(db)
		if err != nil {
			f.Fatal(err)
		}
		addDamaged(f, b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		db := emptyDB()
		var err error
		bounded(t, b, 500, func() { err = db.decodeCheckpoint(1, b) })
		if err != nil {
			return
		}
		again, err := encodeState(db)
		if err != nil {
			t.Fatal(err)
		}
		var dead uint64
		for _, c := range db.catalog.collections {
			dead += c.manifest.deletions()
		}
		if dead == 0 {
			same(t, again, b)
			return
		}
		// The bytes of a bitmap may change once, as in edits.
		db = emptyDB()
		if err := db.decodeCheckpoint(1, again); err != nil {
			t.Fatalf("what was encoded does not decode: %v", err)
		}
		third, err := encodeState(db)
		if err != nil {
			t.Fatal(err)
		}
		same(t, third, again)
	})
}

// What no encoder writes is refused, byte for byte in its place.
func TestEntriesRefused(t *testing.T) {
	write := (&writeEntry{collection: ID{1}, kind: writeAdd, records: []Record{{ID: "a", Metadata: Metadata{"k": filter.Int(1)}}}}).append(nil)
	edit := func(m *manifest) []byte {
		b, err := appendEdit(nil, ID{1}, m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	part := exampleManifest().segments
	with := func(b []byte, at int, v byte) []byte {
		b = slices.Clone(b)
		b[at] = v
		return b
	}
	zero := (&writeEntry{collection: ID{1}, kind: writeAdd, records: []Record{{ID: "a", Metadata: Metadata{"k": filter.Float(0)}}}}).append(nil)
	under := (&writeEntry{collection: ID{1}, kind: writeUpdate, rule: filter.Eq("k", filter.Int(1)), records: []Record{{ID: "a"}}}).append(nil)
	tryWrite := func(b []byte) error { _, err := decodeWriteEntry(b); return err }
	tryCatalog := func(b []byte) error { _, err := decodeCatalogEntry(b); return err }
	tryExpire := func(b []byte) error { _, err := decodeExpireEntry(b); return err }
	onTerms := (&writeEntry{collection: ID{1}, kind: writeAdd, terms: &terms{key: "k", at: 5, stamp: 6}, records: []Record{{ID: "a"}}}).append(nil)
	keep := (&catalogEntry{op: opKeep, keep: &keeping{key: "k", held: true, since: 9, why: "w"}}).append(nil)
	expire := (&expireEntry{key: "k", at: 5, ids: []string{"a"}}).append(nil)
	tryEdit := func(b []byte) error { _, _, err := decodeEdit(b); return err }
	keys := edit(&manifest{keys: map[string]KindSet{"a": 2, "b": 2}})
	for name, c := range map[string]struct {
		good bool
		err  error
	}{
		"write":                  {true, tryWrite(write)},
		"edit":                   {true, tryEdit(edit(exampleManifest()))},
		"keys":                   {true, tryEdit(keys)},
		"nothing":                {true, tryEdit(edit(&manifest{}))},
		"a segment":              {true, tryEdit(edit(&manifest{segments: part[:1]}))},
		"write as delete":        {false, tryWrite(with(write, 0, byte(opDelete)))},
		"write under a rule":     {true, tryWrite(under)},
		"rule without the op":    {false, tryWrite(with(under, 0, byte(opWrite)))},
		"rule of another op":     {false, tryWrite(with(under, 19, 10))},
		"rule beyond its blob":   {false, tryWrite(with(under, 18, 4))},
		"rule on a null":         {true, tryWrite(slices.Concat(under[:18], []byte{4}, under[19:22], []byte{0}, under[24:]))},
		"write of kind 4":        {false, tryWrite(with(write, 17, 4))},
		"record with flag 16":    {false, tryWrite(with(write, 19, 16))},
		"metadata without a key": {false, tryWrite(append(slices.Clone(write[:22]), 0))},
		"keys out of order":      {false, tryEdit(with(keys, 22, 'c'))},
		"a key twice":            {false, tryEdit(with(keys, 22, 'b'))},
		"a segment twice":        {false, tryEdit(edit(&manifest{segments: []segmentState{part[0], part[0]}}))},
		"a segment without rows": {false, tryEdit(edit(&manifest{segments: []segmentState{{segment.Info{Number: 1}, roaring.New()}}}))},
		"deletions beyond":       {false, tryEdit(edit(&manifest{segments: []segmentState{{part[0].info, roaring.BitmapOf(3)}}}))},
		"zero":                   {true, tryWrite(zero)},
		"negative zero":          {false, tryWrite(with(zero, len(zero)-1, 0x80))},
		"write on terms":         {true, tryWrite(onTerms)},
		"terms of nothing":       {false, tryWrite(with(onTerms, 18, 0))},
		"terms of a rule alone":  {false, tryWrite(with(onTerms, 18, 1))},
		"terms with flag 8":      {false, tryWrite(with(onTerms, 18, 10))},
		"terms without a key":    {false, tryWrite(slices.Concat(onTerms[:19], []byte{0}, onTerms[21:]))},
		"a time too long":        {false, tryWrite(slices.Concat(onTerms[:21], []byte{0x85, 0}, onTerms[22:]))},
		"retention and hold":     {true, tryCatalog(keep)},
		"retention, no key":      {false, tryCatalog(slices.Concat(keep[:22], []byte{0}, keep[24:]))},
		"retention with flag 4":  {false, tryCatalog(with(keep, 21, 7))},
		"no retention":           {true, tryCatalog(append(keep[:21:21], 0))},
		"no retention, and more": {false, tryCatalog(append(keep[:21:21], 0, 1))},
		"expire":                 {true, tryExpire(expire)},
		"expire, no key":         {false, tryExpire(slices.Concat(expire[:17], []byte{0}, expire[19:]))},
		"expire as delete":       {false, tryExpire(with(expire, 0, byte(opDelete)))},
		"data as catalog":        {false, func() error { _, err := decodeCatalogEntry(write); return err }()},
	} {
		if (c.err == nil) != c.good {
			t.Errorf("%s: %v", name, c.err)
		}
	}
}

// A size that could not be read back is refused before it is logged.
func TestSpecBounds(t *testing.T) {
	db, _ := newDB(t, Options{})
	_, err := db.Default().Create(t.Context(), "c", Spec{EFSearch: 1 << 31})
	if _, ok := errors.AsType[*InvalidError](err); !ok {
		t.Errorf("efSearch of 2^31: %v", err)
	}
	if _, err := db.Default().Create(t.Context(), "c", Spec{EFSearch: 1<<31 - 1}); err != nil {
		t.Error(err)
	}
}
