package engine

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/chromad/chromad/internal/vfs/faultfs"
)

var newGolden = flag.Bool("receipt.new", false, "sign the example in testdata with a new key")

// exampleStatement has every field.
func exampleStatement() Statement {
	return Statement{
		Format: ReceiptFormat, Store: "57000000000000000000000000000001", Number: 2, Kind: "collection",
		Tenant: strings.Repeat("7e", 32), Database: "00000000-0000-0000-0000-0000000000db", DatabaseName: strings.Repeat("da", 32),
		Collections:  []ErasedCollection{{ID: "c1000000-0000-0000-0000-000000000000", Name: strings.Repeat("aa", 32), Rows: 12}},
		DeletedFirst: "2029-12-31T00:00:00Z", DeletedLast: "2029-12-31T00:00:00Z",
		Keys:        []ErasedKey{{Collection: "c1000000-0000-0000-0000-000000000000", Generation: 1, File: "f1000000000000000000000000000000", KeysetKey: 77}},
		DestroyedAt: "2029-12-31T00:00:01Z",
		Files:       []ErasedFile{{Name: "seg/0000000000000001.seg", File: "f2000000000000000000000000000000", Length: 12032, Root: "1122334455667788"}},
		RemovedAt:   "2029-12-31T00:01:00Z", LogFrom: 300, LogFile: 4, Checkpoint: 9,
		OperatorKey: "file:///etc/chromad/key?a=1&b=<2>", Keyset: 3, KeysetKeys: []uint32{77},
	}
}

// The bytes that are signed are those that docs/format/receipt.md shows, and a
// receipt that was signed by an earlier version is still good, by the public
// keyset alone.
func TestReceiptGolden(t *testing.T) {
	s := exampleStatement()
	b, err := s.Bytes()
	check(t, err)
	page, err := os.ReadFile("../docs/format/receipt.md")
	check(t, err)
	if !bytes.Contains(page, append([]byte("\n"), append(b, '\n')...)) {
		t.Errorf("docs/format/receipt.md does not show\n%s", b)
	}
	const receiptFile, publicFile = "testdata/receipt.json", "testdata/receipt.public.json"
	if *newGolden {
		db, _ := newDB(t, keyed(Options{}))
		sig, err := db.ring.Sign(b)
		check(t, err)
		text, err := (&Receipt{s, sig}).Bytes()
		check(t, err)
		public, err := db.PublicKey()
		check(t, err)
		check(t, errors.Join(os.WriteFile(receiptFile, text, 0o644), os.WriteFile(publicFile, public, 0o644)))
	}
	text, err := os.ReadFile(receiptFile)
	check(t, err)
	public, err := os.ReadFile(publicFile)
	check(t, err)
	r, err := ParseReceipt(text)
	check(t, err)
	check(t, r.Verify(public))
	if again, err := r.Statement.Bytes(); err != nil || !bytes.Equal(again, b) {
		t.Errorf("%v: the example was\n%s\nit is\n%s", err, again, b)
	}
}

// A receipt is refused when any of its bytes is another, when it was signed by
// another store, and when it is written in another way.
func TestReceiptTampered(t *testing.T) {
	text, err := os.ReadFile("testdata/receipt.json")
	check(t, err)
	public, err := os.ReadFile("testdata/receipt.public.json")
	check(t, err)
	good := func(b, public []byte) error {
		r, err := ParseReceipt(b)
		if err == nil {
			err = r.Verify(public)
		}
		return err
	}
	check(t, good(text, public))
	for i := range text {
		for _, x := range []byte{1, 0x20, 0x80} {
			b := bytes.Clone(text)
			b[i] ^= x
			if err := good(b, public); !errors.Is(err, ErrReceipt) {
				t.Fatalf("byte %d, %q in the place of %q: %v", i, b[i], text[i], err)
			}
		}
	}
	db, _ := newDB(t, keyed(Options{}))
	other, err := db.PublicKey()
	check(t, err)
	for name, err := range map[string]error{
		"another store's key": good(text, other),
		"cut":                 good(text[:len(text)-1], public),
		"more behind":         good(append(bytes.Clone(text), '\n'), public),
		"a field twice":       good(bytes.Replace(text, []byte(`"number":2,`), []byte(`"number":2,"number":2,`), 1), public),
		"a field more":        good(bytes.Replace(text, []byte(`"number":2,`), []byte(`"number":2,"x":2,`), 1), public),
		"another case":        good(bytes.Replace(text, []byte(`"number":`), []byte(`"Number":`), 1), public),
		"a space":             good(bytes.Replace(text, []byte(`"number":`), []byte(`"number": `), 1), public),
		"escaped":             good(bytes.Replace(text, []byte(`&`), []byte(`\u0026`), 1), public),
	} {
		if !errors.Is(err, ErrReceipt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := good(text, nil); err == nil {
		t.Error("good without a key")
	}
}

// A disk, and a copy of it from before a collection was deleted. Who has both
// and the operator's new key reads nothing of it, in any mixture of their
// files, when the keys were rotated before they were put under that key.
// Without a rotation the old copy's data key opens with the new disk's keyset.
func TestOldCopies(t *testing.T) {
	ctx := t.Context()
	for _, rotate := range []bool{true, false} {
		a, b := operator("a"), operator("b")
		fs := faultfs.New(1)
		o := Options{Keys: a, GraphMin: 4}
		db := openOn(t, fs, o)
		gone := canaries{}
		c := newCollection(t, db, "doomed")
		for i := range 8 {
			check(t, c.Add(ctx, gone.record("of "+string(rune('a'+i)), float32(i+1))))
			if i == 5 {
				check(t, db.Flush(ctx))
			}
		}
		copied := fs.Clone()
		if all := gone.found(bytesOf(t, copied, a)); len(all) != len(gone) {
			t.Fatalf("the copy has %d canaries of %d: the test is blind", len(all), len(gone))
		}
		check(t, db.Default().Delete(ctx, "doomed"))
		check(t, db.EraseNow(ctx, nil))
		s := lastStatement(t, db)
		if rotate {
			check(t, db.RotateKeys(ctx, nil))
		}
		check(t, db.Close())
		check(t, rewrapOn(ctx, fs, a, b))
		a = nil // destroyed

		mixed := fs.Clone()
		for name, content := range contents(t, copied) {
			if !slices.Contains(mixed.Files(), name) {
				put(t, mixed, name, []byte(content))
			}
		}
		for what, disk := range map[string]*faultfs.FS{"the disk": fs, "the copy": copied, "both": mixed} {
			read := map[string][]byte{}
			for name, content := range contents(t, disk) { // without any key
				read[name] = []byte(content)
			}
			left := gone.found(read)
			if what != "the copy" {
				left = gone.found(bytesOf(t, disk, b))
			} else if _, err := Open("", &Options{fs: disk, Keys: b, ReadOnly: true}); !errors.Is(err, ErrKey) {
				t.Errorf("the copy opens with the new key: %v", err)
			}
			if there := len(left) > 0; there != (what == "both" && !rotate) {
				t.Errorf("%s, rotated: %v: found %v", what, rotate, left)
			}
		}
		searchCopies(t, fs, copied, mixed, s)
	}
}

func lastStatement(t *testing.T, db *DB) (s *Statement) {
	t.Helper()
	for r, err := range db.Receipts(t.Context()) {
		check(t, err)
		s = &r.Statement
	}
	if s == nil {
		t.Fatal("no receipt")
	}
	return s
}

// searchCopies wants the search to tell what is in which copy.
func searchCopies(t *testing.T, fs, copied, mixed *faultfs.FS, s *Statement) {
	t.Helper()
	for _, tc := range []struct {
		name string
		fs   *faultfs.FS
		uri  string
		want []string
	}{
		{"the disk", fs, "test://b", nil},
		{"the copy", copied, "test://a", []string{"records", "key", "log", "checkpoint"}},
		{"both", mixed, "test://b", []string{"records", "key", "log", "checkpoint"}},
	} {
		found, err := findErased(context.Background(), tc.fs, s)
		check(t, err)
		if found.OperatorKey != tc.uri || found.Damaged != 0 || found.Files < 4 {
			t.Errorf("%s: %+v", tc.name, found)
		}
		for _, what := range tc.want {
			if !slices.ContainsFunc(found.Remnants, func(r Remnant) bool { return strings.HasPrefix(r.What, what) && r.Readable }) {
				t.Errorf("%s: no %s in %+v", tc.name, what, found.Remnants)
			}
		}
		if len(tc.want) == 0 && len(found.Remnants) > 0 {
			t.Errorf("%s: %+v", tc.name, found.Remnants)
		}
	}
	for _, name := range copied.Files() {
		if strings.HasSuffix(name, ".key") && !strings.HasPrefix(name, "keys/00000000000000000000000000000000") {
			check(t, copied.Remove(name))
		}
	}
	found, err := findErased(context.Background(), copied, s)
	check(t, err)
	for _, r := range found.Remnants {
		if strings.HasPrefix(r.What, "records") == r.Readable {
			t.Errorf("without the collection's key: %+v", r)
		}
	}
	if _, err := findErased(context.Background(), faultfs.New(1), s); !errors.Is(err, ErrNotFound) {
		t.Errorf("an empty directory: %v", err)
	}
}

// What a crash leaves between the deletion and its receipt, a receipt still
// comes of it, and it names keys and files as far as they are known.
func TestReceiptAfterCrash(t *testing.T) {
	ctx := t.Context()
	for _, when := range []string{"at once", "after a checkpoint", "closed"} {
		fs := faultfs.New(1)
		db := openOn(t, fs, keyed(Options{}))
		c := newCollection(t, db, "c")
		check(t, c.Add(ctx, rec("1", 1), rec("2", 2)))
		check(t, db.Flush(ctx))
		check(t, db.Default().Delete(ctx, "c"))
		left := fs
		switch when {
		case "after a checkpoint":
			check(t, db.writeCheckpoint(ctx))
			fallthrough
		case "at once":
			left = fs.Clone()
		}
		check(t, db.Close())
		db = openOn(t, left, keyed(Options{}))
		check(t, db.EraseNow(ctx, nil))
		s := lastStatement(t, db)
		if s.Kind != "collection" || s.Collections[0].ID != c.id.String() {
			t.Errorf("%s: %+v", when, s)
		}
		// The edit that names the files is unreadable, as everything is that was
		// under the key.
		known := len(s.Keys) == 1 && s.DestroyedAt != "" && s.Collections[0].Rows == 2 && len(s.Files) == 1
		if known != (when != "at once") {
			t.Errorf("%s: %+v", when, s)
		}
		n := 0
		for _, err := range db.Receipts(ctx) {
			check(t, err)
			n++
		}
		if n != 1 {
			t.Errorf("%s: %d receipts", when, n)
		}
		check(t, db.Close())
	}
}
