package engine

import (
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/cryptotest"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/keys"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
	"github.com/chromad/chromad/segment"
)

var update = flag.Bool("update", false, "rewrite the examples in docs/format/entry.md and checkpoint.md")

// TestFormatExample keeps the pages about our formats true: their examples
// are real bytes, taken apart field by field.
func TestFormatExample(t *testing.T) {
	files := &manifest{
		flushed: 7, nextOrder: 3, dimension: 2, keys: map[string]KindSet{"year": KindSet(0).with(filter.KindInt)},
		segments: []segmentState{{segment.Info{
			Number: 1, File: seal.ID{0xf1, 0x1e}, Rows: 2, MinOrder: 1, MaxOrder: 2,
			Info: disk.Info{Length: 12032, Root: 0x1122334455667788},
		}, roaring.BitmapOf(1)}},
	}
	t.Run("entry", func(t *testing.T) {
		compareExample(t, "../docs/format/entry.md", "entries", entryExample(t, files))
	})
	t.Run("checkpoint", func(t *testing.T) {
		compareExample(t, "../docs/format/checkpoint.md", "checkpoint", checkpointExample(t, files))
	})
}

func compareExample(t *testing.T, page, name, example string) {
	t.Helper()
	begin := "<!-- begin " + name + ": go test ./engine -run TestFormatExample -update -->\n"
	end := "<!-- end " + name + " -->"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s: the markers are gone", page)
	}
	want := head + begin + "```\n" + strings.TrimLeft(example, "\n") + "```\n" + end + tail
	if want == string(text) {
		return
	}
	if !*update {
		t.Fatalf("%s does not show the format as it is; see -update\n%s", page, example)
	}
	if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func entryExample(t *testing.T, files *manifest) string {
	docs := ID{0xc0, 0x11}
	edit, err := appendEdit(nil, docs, files)
	if err != nil {
		t.Fatal(err)
	}
	d := &dissection{}
	d.begin("create collection", (&catalogEntry{
		op: opCreateCollection, tenant: DefaultTenant, database: DefaultDatabase, name: "docs", id: docs,
		spec: Spec{Metric: Cosine, M: 16, EFConstruction: 100, EFSearch: 100, Extension: []byte("{}")},
	}).append(nil))
	d.field(1, "op 5: create collection")
	for _, what := range []string{"tenant", "database", "name", "resource"} {
		d.text(what)
	}
	d.field(16, "id")
	d.spec()
	d.done(t)

	d.begin("retention and hold", (&catalogEntry{op: opKeep, id: docs, keep: exampleKeepings()[3]}).append(nil))
	d.field(1, "op 10: retention")
	for _, what := range []string{"tenant", "database", "name", "resource"} {
		d.text(what)
	}
	d.field(16, "id")
	d.keeping()
	d.done(t)

	d.begin("write", (&writeEntry{collection: docs, kind: writeAdd, records: []Record{
		{ID: "a", Embedding: []float32{1, -0.5}, Metadata: Metadata{"year": filter.Int(2016)}},
		{ID: "b", Embedding: []float32{0, 1}, Document: Optional("hello")},
	}}).append(nil))
	d.field(1, "op 16: write")
	d.field(16, "collection")
	d.field(1, "kind 1: add")
	d.number("records")
	for _, fields := range []byte{hasEmbedding | hasMetadata, hasEmbedding | hasDocument} {
		d.field(1, "flags: %s", map[bool]string{true: "embedding, metadata", false: "embedding, document"}[fields&hasMetadata != 0])
		d.text("id")
		for range d.number("dimensions") {
			d.field(4, "f32")
		}
		if fields&hasMetadata != 0 {
			d.blob("metadata: year = 2016")
		} else {
			d.text("document")
		}
	}
	d.done(t)

	d.begin("write under a rule", (&writeEntry{collection: docs, kind: writeUpdate, rule: filter.In("team", filter.String("red")), records: []Record{{ID: "a", Document: Optional("hi")}}}).append(nil))
	d.field(1, "op 18: write under a rule")
	d.field(16, "collection")
	d.field(1, "kind 3: update")
	d.blob("rule: team $in red")
	d.number("records")
	d.field(1, "flags: document")
	d.text("id")
	d.text("document")
	d.done(t)

	d.retention(t, docs)

	d.begin("delete", (&deleteEntry{collection: docs, ids: []string{"b"}}).append(nil))
	d.field(1, "op 17: delete")
	d.field(16, "collection")
	for range d.number("ids") {
		d.text("id")
	}
	d.done(t)

	d.begin("edit", edit)
	d.field(1, "op 32: edit")
	d.field(16, "collection")
	d.manifest()
	d.done(t)

	d.begin("the delete in its envelope", sealedExample(t, docs))
	d.field(1, "op 128 + 17")
	d.field(16, "collection")
	d.field(4, "generation 1")
	d.field(16, "session")
	d.field(12, "nonce")
	d.field(3, "ids, encrypted")
	d.field(16, "tag")
	d.done(t)
	return d.out.String()
}

// retention is the entries of a collection whose records expire.
func (d *dissection) retention(t *testing.T, docs ID) {
	d.begin("write on terms", (&writeEntry{
		collection: docs, kind: writeAdd, terms: &terms{key: "expires_at", at: 1893456000, stamp: 1893542400, held: true}, records: []Record{{ID: "c", Embedding: []float32{0, 0}}},
	}).append(nil))
	d.field(1, "op 19: write on terms")
	d.field(16, "collection")
	d.field(1, "kind 1: add")
	d.field(1, "flags: expiry, hold")
	d.text("key")
	d.number("at")
	d.number("stamp")
	d.number("records")
	d.field(1, "flags: embedding")
	d.text("id")
	for range d.number("dimensions") {
		d.field(4, "f32")
	}
	d.done(t)

	d.begin("expire", (&expireEntry{collection: docs, key: "expires_at", at: 1893542400, ids: []string{"c"}}).append(nil))
	d.field(1, "op 20: expire")
	d.field(16, "collection")
	d.text("key")
	d.number("at")
	for range d.number("ids") {
		d.text("id")
	}
	d.done(t)
}

// sealedExample is an envelope with what chance decides decided.
func sealedExample(t *testing.T, id ID) (payload []byte) {
	t.Run("envelope", func(t *testing.T) {
		cryptotest.SetGlobalRandom(t, 1)
		ring, err := keys.Create(t.Context(), faultfs.New(1), seal.ID{0x57}, operator("a"), false)
		check(t, err)
		check(t, ring.NewCollection(seal.ID(id)))
		c := &Collection{db: &DB{ring: ring, store: ring.Store()}, id: id}
		payload, _, err = c.sealEntry((&deleteEntry{collection: id, ids: []string{"b"}}).append(c.db.entryBuffer(0)))
		check(t, err)
		plain, err := c.db.openEntry(nil, payload)
		if err != nil || string(plain[entryHead:]) != "\x01\x01b" {
			t.Fatalf("opens to %x, %v", plain, err)
		}
		check(t, ring.Close())
	})
	return payload
}

func checkpointExample(t *testing.T, files *manifest) string {
	db, err := exampleState()
	if err != nil {
		t.Fatal(err)
	}
	db.catalog.collections[ID{0xc0}].load(files)
	db.catalog.collections[ID{0xc0}].keep.Store(exampleKeepings()[3])
	b, err := encodeState(db)
	if err != nil {
		t.Fatal(err)
	}
	d := &dissection{}
	d.begin("positions", b)
	d.field(8, "position: epoch 1")
	d.field(8, "sequence 300")
	d.field(8, "from: epoch 1")
	d.field(8, "sequence 290")
	d.title("keys and deletions")
	d.field(8, "keyset 3")
	d.field(8, "written 2030-01-01T00:00:00Z")
	d.field(8, "unerased since 2029-12-31T00:00:00Z")
	for range d.number("deletions") {
		d.field(1, "kind 1: collection")
		d.field(8, "deleted 2029-12-31T00:00:00Z")
		d.field(32, "hash of the tenant's name")
		d.field(16, "database")
		d.field(32, "hash of the database's name")
		for range d.number("collections") {
			d.field(16, "id")
			d.field(32, "hash of the name")
			d.number("rows")
			d.field(8, "keys destroyed 2029-12-31T00:00:01Z")
			for range d.number("keys") {
				d.field(4, "generation 1")
				d.field(16, "file id")
				d.field(4, "wrapped by key 77 of the keyset")
			}
			for range d.number("segments") {
				d.field(infoSize, "info")
			}
		}
	}
	d.title("catalog")
	for range d.number("settings") {
		d.text("setting")
		d.blob("value")
	}
	for range d.number("tenants") {
		d.text("tenant")
		d.text("resource")
	}
	for range d.number("databases") {
		d.text("database of tenant")
		d.text("name")
		d.field(16, "id")
		for range d.number("collections") {
			d.field(16, "id")
			d.text("name")
			d.spec()
			d.manifest()
		}
	}
	for range d.number("retentions") {
		d.field(16, "id")
		d.keeping()
	}
	d.done(t)
	return d.out.String()
}

// dissection prints bytes front to back; one that no line explains is an error.
type dissection struct {
	b   []byte
	at  int
	out strings.Builder
}

func (d *dissection) begin(what string, b []byte) {
	d.b, d.at = b, 0
	d.title(what)
}

func (d *dissection) title(s string) { fmt.Fprintf(&d.out, "\n      -- %s\n", s) }

func (d *dissection) done(t *testing.T) {
	t.Helper()
	if d.at != len(d.b) {
		t.Fatalf("%d bytes of %d are explained", d.at, len(d.b))
	}
}

// field prints the next n bytes, sixteen a line.
func (d *dissection) field(n int, what string, args ...any) {
	what = fmt.Sprintf(what, args...)
	for end := d.at + n; d.at < end; {
		k := min(16, end-d.at)
		fmt.Fprintf(&d.out, "%s\n", strings.TrimRight(fmt.Sprintf("%4d  %-32x  %s", d.at, d.b[d.at:d.at+k], what), " "))
		d.at += k
		what = ""
	}
}

func (d *dissection) number(what string) uint64 {
	v, n := binary.Uvarint(d.b[d.at:])
	d.field(n, "%s %d", what, v)
	return v
}

// text prints a length and its bytes in one field.
func (d *dissection) text(what string) {
	v, n := binary.Uvarint(d.b[d.at:])
	d.field(n+int(v), "%s %q", what, d.b[d.at+n:d.at+n+int(v)])
}

func (d *dissection) blob(what string) {
	v, n := binary.Uvarint(d.b[d.at:])
	d.field(n, "%d bytes", v)
	d.field(int(v), "%s", what)
}

func (d *dissection) spec() {
	d.field(1, "metric 1: cosine")
	d.number("M")
	d.number("efConstruction")
	d.number("efSearch")
	d.text("metadata")
	d.text("extension")
}

func (d *dissection) keeping() {
	d.field(1, "flags: retention, hold")
	d.text("key")
	d.number("default")
	d.number("since")
	d.text("reason")
}

func (d *dissection) manifest() {
	d.number("flushed")
	d.number("next order")
	d.number("dimension")
	for range d.number("keys") {
		d.text("key")
		d.number("kinds")
	}
	for range d.number("segments") {
		d.field(8, "number %d", binary.LittleEndian.Uint64(d.b[d.at:]))
		d.field(16, "file id")
		d.field(4, "rows %d", binary.LittleEndian.Uint32(d.b[d.at:]))
		for _, what := range []string{"min order", "max order", "length"} {
			d.field(8, "%s %d", what, binary.LittleEndian.Uint64(d.b[d.at:]))
		}
		d.field(8, "root")
		d.blob("deletions: row 1")
	}
}
