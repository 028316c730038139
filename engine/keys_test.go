package engine

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/keys"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// testOperator is an operator's key made from its name: AES-256-GCM.
type testOperator struct {
	uri  string
	aead cipher.AEAD
}

func operator(name string) *testOperator {
	key := sha256.Sum256([]byte(name))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return &testOperator{"test://" + name, aead}
}

func (o *testOperator) EncryptWithContext(_ context.Context, plain, associated []byte) ([]byte, error) {
	return o.aead.Seal(nil, nil, plain, associated), nil
}

func (o *testOperator) DecryptWithContext(_ context.Context, sealed, associated []byte) ([]byte, error) {
	return o.aead.Open(nil, nil, sealed, associated)
}

func (o *testOperator) URI() string { return o.uri }

// keysOf encrypts the stores of even seeds, and knows which others have been.
func keysOf(seed uint64, fs *faultfs.FS) OperatorKey {
	if present, err := keys.Present(fs); seed%2 == 0 || present && err == nil {
		return operator("a")
	}
	return nil
}

// encryptSome converts the store, if there is one, in half of the seeds that
// keysOf leaves plain, and half of the times it is called.
func encryptSome(ctx context.Context, seed uint64, r *rand.Rand, fs *faultfs.FS) error {
	if seed%4 != 1 || r.IntN(2) == 0 {
		return nil
	}
	o := cutOptions(seed, r, fs)
	o.Keys = operator("a")
	err := Encrypt(ctx, "", o, nil)
	if errors.Is(err, ErrNotFound) {
		err = nil // cut before the first checkpoint
	}
	return err
}

// keyed are options with an operator's key.
func keyed(o Options) Options {
	o.Keys = operator("a")
	return o
}

// What is written to an encrypted store is there when it is opened again, by
// way of the log, of segments and of a checkpoint.
func TestEncryptedStore(t *testing.T) {
	ctx := t.Context()
	fs := faultfs.New(1)
	db := openOn(t, fs, keyed(Options{GraphMin: 4}))
	m, _, err := tour(ctx, db)
	check(t, err)
	for range 2 {
		left := fs.Clone()
		db.Close()
		fs = left
		db = openOn(t, fs, keyed(Options{GraphMin: 4}))
		if d, err := m.diff(ctx, db, ""); d != "" || err != nil {
			t.Fatal(d, err)
		}
		check(t, findEverything(ctx, db, m))
		check(t, db.Compact(ctx))
	}
	before, err := db.KeyInfo(ctx)
	check(t, err)
	if before.OldFiles != 0 || len(before.Keyset) != 1 || len(before.Collections) != len(m) || before.URI != "test://a" || len(before.Store) != 1 {
		t.Errorf("%+v", before)
	}
	check(t, db.RotateKeys(ctx, nil))
	info, err := db.KeyInfo(ctx)
	check(t, err)
	if info.OldFiles != 0 || len(info.Keyset) != 1 || info.Keyset[0] == before.Keyset[0] || len(info.Store) != 1 || info.Store[0] != before.Store[0]+1 {
		t.Errorf("%+v, before %+v", info, before)
	}
	if d, err := m.diff(ctx, db, ""); d != "" || err != nil {
		t.Fatal(d, err)
	}
	check(t, db.Close())
	db = openOn(t, fs, keyed(Options{GraphMin: 4}))
	check(t, findEverything(ctx, db, m))
	check(t, db.Close())
}

// Who has not the right key gets ErrKey, which names it, and not a byte is
// written.
func TestWrongKey(t *testing.T) {
	encrypted, _ := aStore(t, operator("a"))
	plain, _ := aStore(t, nil)
	other, _ := aStore(t, operator("a"))
	noKeys := encrypted.Clone()
	foreign := encrypted.Clone()
	for _, name := range noKeys.Files() {
		if strings.HasPrefix(name, "keys/") {
			check(t, noKeys.Remove(name))
			check(t, foreign.Remove(name))
		}
	}
	for _, name := range other.Files() {
		if strings.HasPrefix(name, "keys/") {
			put(t, foreign, name, content(t, other, name))
		}
	}
	mixed := encrypted.Clone() // a plain checkpoint in the place of the newest
	newest := ""
	for _, name := range mixed.Files() {
		if strings.HasPrefix(name, checkpointDir) {
			newest = name
		}
	}
	b := content(t, mixed, newest)
	h, err := disk.DecodeHeader(b)
	check(t, err)
	check(t, mixed.Remove(newest))
	_, err = disk.WriteFile(mixed, newest, h, seal.Plain(), func(w *disk.Writer) error {
		return w.Section(checkpointSection, checkpointBlock)
	})
	check(t, err)
	for _, tc := range []struct {
		name string
		fs   *faultfs.FS
		key  OperatorKey
		says string
	}{
		{"no key", encrypted, nil, "test://a"},
		{"another key", encrypted, operator("b"), "test://a"},
		{"a plain store", plain, operator("a"), "chromad keys encrypt"},
		{"keys are gone", noKeys, operator("a"), "keys"},
		{"keys are gone, no key", noKeys, nil, "keys"},
		{"keys of another store", foreign, operator("a"), "test://a"},
		{"a plain checkpoint", mixed, operator("a"), "not encrypted"},
	} {
		for _, readOnly := range []bool{false, true} {
			before := contents(t, tc.fs)
			db, err := Open("", &Options{Keys: tc.key, ReadOnly: readOnly, fs: tc.fs})
			if err == nil {
				db.Close()
			}
			if !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%s: %v, want ErrKey that says %q", tc.name, err, tc.says)
			}
			if !maps.Equal(before, contents(t, tc.fs)) {
				t.Errorf("%s: something was written", tc.name)
			}
		}
	}
}

func content(t testing.TB, fs *faultfs.FS, name string) []byte {
	t.Helper()
	b, err := fs.Content(name)
	check(t, err)
	return b
}

func contents(t testing.TB, fs *faultfs.FS) map[string]string {
	out := map[string]string{}
	for _, name := range fs.Files() {
		out[name] = string(content(t, fs, name))
	}
	return out
}

func put(t testing.TB, fs *faultfs.FS, name string, b []byte) {
	t.Helper()
	f, err := fs.Create(name)
	check(t, err)
	_, err = f.Write(b)
	check(t, errors.Join(err, f.Sync(), f.Close()))
}

// keyFilesOf returns the names of the files of a collection's keys.
func keyFilesOf(fs *faultfs.FS, id ID) (names []string) {
	for _, name := range fs.Files() {
		if strings.HasPrefix(name, "keys/"+seal.ID(id).String()) {
			names = append(names, name)
		}
	}
	return names
}

// A collection's key goes with it: when a deletion returns it is gone from the
// disk for good, and many are gone with one sync.
func TestDeleteDestroysKeys(t *testing.T) {
	ctx := t.Context()
	for _, tc := range []struct {
		name string
		do   func(db *DB) error
	}{
		{"collection", func(db *DB) error {
			return errors.Join(db.Default().Delete(ctx, "a"), db.Default().Delete(ctx, "b"), db.Default().Delete(ctx, "c"))
		}},
		{"database", func(db *DB) error { return db.DeleteDatabase(ctx, DefaultTenant, DefaultDatabase) }},
		{"reset", func(db *DB) error { return db.Reset(ctx) }},
	} {
		fs := faultfs.New(1)
		db := openOn(t, fs, keyed(Options{}))
		_, err := db.CreateDatabase(ctx, DefaultTenant, "other")
		check(t, err)
		kept, err := db.Namespace(DefaultTenant, "other").Create(ctx, "kept", Spec{})
		check(t, err)
		var ids []ID
		for _, name := range []string{"a", "b", "c"} {
			c := newCollection(t, db, name)
			check(t, c.Add(ctx, rec("1", 1)))
			ids = append(ids, c.id)
		}
		check(t, db.Flush(ctx))
		for _, id := range ids {
			if len(keyFilesOf(fs, id)) != 1 {
				t.Fatalf("keys %v of collection %v", keyFilesOf(fs, id), id)
			}
		}
		fs.ClearTrace()
		check(t, tc.do(db))
		syncs := 0
		for _, line := range fs.Trace() {
			if line == "syncdir keys" {
				syncs++
			}
		}
		if want := map[string]int{"collection": 3, "database": 1, "reset": 1}[tc.name]; syncs != want {
			t.Errorf("%s: %d syncs of keys, want %d", tc.name, syncs, want)
		}
		// What a power cut leaves without anything that was not synced.
		left := fs.CrashWith(rand.New(rand.NewPCG(1, 1)), faultfs.Cut{Sector: 512})
		for _, id := range ids {
			if names := keyFilesOf(left, id); len(names) > 0 {
				t.Errorf("%s: %v are there", tc.name, names)
			}
		}
		if n := len(keyFilesOf(left, kept.id)); (n == 1) != (tc.name != "reset") {
			t.Errorf("%s: %d keys of the other collection", tc.name, n)
		}
		db.Close()
		db = openOn(t, left, keyed(Options{}))
		check(t, db.Close())
	}
}

// A power cut between the key and the entry that creates or deletes its
// collection leaves a key that nobody needs, and the next Open destroys it.
func TestOrphanKeys(t *testing.T) {
	ctx := t.Context()
	orphans := 0
	for k := range 200 {
		fs := faultfs.New(uint64(k))
		db := openOn(t, fs, keyed(Options{}))
		newCollection(t, db, "kept")
		fs.CrashAt(fs.Ops() + k)
		_, err := db.Default().Create(ctx, "c", Spec{})
		if err == nil {
			err = db.Default().Delete(ctx, "c")
		}
		db.Close()
		left := fs.CrashWith(rand.New(rand.NewPCG(uint64(k), 1)), faultfs.Cut{Sector: 512, Keep: 100})
		n := len(keyNames(left))
		db = openOn(t, left, keyed(Options{}))
		if names := keyNames(left); len(names) != 2+len(db.all())-1 {
			t.Fatalf("operation %d: %v for %d collections", k, names, len(db.all()))
		} else if len(names) < n {
			orphans++
		}
		check(t, db.Close())
		if err == nil {
			break
		}
	}
	if orphans == 0 {
		t.Error("no cut left a key without a collection")
	}
}

func keyNames(fs *faultfs.FS) (names []string) {
	for _, name := range fs.Files() {
		if strings.HasSuffix(name, ".key") {
			names = append(names, name)
		}
	}
	return names
}

// A collection whose key is missing, or is not the one, is of no use. The
// others work, nothing of its own is lost, and when the key comes back so does
// the collection.
func TestMissingKey(t *testing.T) {
	ctx := t.Context()
	for _, withEdits := range []bool{false, true} {
		for _, spoil := range []string{"missing", "of another", "damaged"} {
			fs, m := aStore(t, operator("a"))
			db := openOn(t, fs, keyed(Options{GraphMin: 4}))
			db.jobs.stop()
			bad, good := collection(t, db, "c1"), collection(t, db, "c0")
			if !withEdits {
				check(t, db.Flush(ctx))
				check(t, db.writeCheckpoint(ctx))
			}
			r := rec("more", 7)
			check(t, bad.Upsert(ctx, r))
			m["c1"].write(writeUpsert, []Record{r})
			fs = fs.Clone()
			db.Close()
			name := keyFilesOf(fs, bad.id)[0]
			kept := content(t, fs, name)
			check(t, fs.Remove(name))
			switch spoil {
			case "of another":
				put(t, fs, name, content(t, fs, keyFilesOf(fs, good.id)[0]))
			case "damaged":
				put(t, fs, name, append(slices.Clone(kept[:200]), 0))
			}
			for range 2 {
				db = openOn(t, fs, keyed(Options{GraphMin: 4}))
				bad, good = collection(t, db, "c1"), collection(t, db, "c0")
				if _, err := bad.Query(ctx, []float32{1}, 1, nil); !errors.Is(err, ErrKey) && !errors.Is(err, ErrCorrupt) || spoil == "missing" && !errors.Is(err, ErrKey) {
					t.Errorf("%s: query: %v", spoil, err)
				}
				if err := bad.Add(ctx, rec("b", 1)); !errors.Is(err, ErrKey) && !errors.Is(err, ErrCorrupt) {
					t.Errorf("%s: add: %v", spoil, err)
				}
				check(t, good.Upsert(ctx, rec("1", 1)))
				m["c0"].write(writeUpsert, []Record{rec("1", 1)})
				if err := db.Compact(ctx); err != nil && !errors.Is(err, ErrKey) && !errors.Is(err, ErrCorrupt) {
					t.Errorf("%s: %v", spoil, err)
				}
				check(t, m["c0"].findAll(ctx, good))
				check(t, db.Err())
				check(t, db.Close())
			}
			lost := fs.Clone()
			if spoil != "missing" {
				check(t, fs.Remove(name))
			}
			put(t, fs, name, kept)
			db = openOn(t, fs, keyed(Options{GraphMin: 4}))
			if d, err := m.diff(ctx, db, ""); d != "" || err != nil {
				t.Errorf("%s, edits %v: the key came back: %s %v", spoil, withEdits, d, err)
			}
			check(t, db.Close())

			db = openOn(t, lost, keyed(Options{GraphMin: 4})) // or it is given up
			check(t, db.Default().Delete(ctx, "c1"))
			check(t, db.RotateKeys(ctx, nil))
			check(t, db.Close())
			db = openOn(t, lost, keyed(Options{GraphMin: 4}))
			check(t, m["c0"].findAll(ctx, collection(t, db, "c0")))
			check(t, db.Close())
		}
	}
}

// A copy of the directory from before is refused by who knows better.
func TestMinGeneration(t *testing.T) {
	fs := faultfs.New(1)
	db := openOn(t, fs, Options{})
	newCollection(t, db, "c")
	check(t, db.Compact(t.Context()))
	old, first := fs.Clone(), db.Generation()
	check(t, db.Compact(t.Context()))
	second := db.Generation()
	db.Close()
	if first == 0 || second <= first {
		t.Fatalf("generation %d, then %d", first, second)
	}
	db = openOn(t, fs, Options{MinGeneration: second})
	check(t, db.Close())
	db = openOn(t, old.Clone(), Options{MinGeneration: first})
	check(t, db.Close())
	before := contents(t, old)
	if _, err := Open("", &Options{MinGeneration: second, fs: old}); !errors.Is(err, ErrRollback) {
		t.Errorf("an old copy: %v", err)
	}
	if !maps.Equal(before, contents(t, old)) {
		t.Error("something was written")
	}
}

// A change of the operator's key touches nothing but the keyset, and the old
// one opens nothing any more.
func TestRewrapKeys(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	db, err := Open(dir, &Options{Keys: operator("a")})
	check(t, err)
	check(t, newCollection(t, db, "c").Add(ctx, rec("a", 1)))
	if err := RewrapKeys(ctx, dir, operator("a"), operator("b")); !errors.Is(err, ErrLocked) {
		t.Errorf("while it is open: %v", err)
	}
	check(t, db.Close())
	if err := RewrapKeys(ctx, dir, operator("b"), operator("c")); !errors.Is(err, ErrKey) {
		t.Errorf("with the wrong key: %v", err)
	}
	check(t, RewrapKeys(ctx, dir, operator("a"), operator("b")))
	if _, err := Open(dir, &Options{Keys: operator("a")}); !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), "test://b") {
		t.Errorf("the old key: %v", err)
	}
	db, err = Open(dir, &Options{Keys: operator("b")})
	check(t, err)
	if n, err := collection(t, db, "c").Count(ctx); n != 1 || err != nil {
		t.Errorf("%d records, %v", n, err)
	}
	check(t, db.Close())
	if err := RewrapKeys(ctx, t.TempDir(), operator("a"), operator("b")); !errors.Is(err, ErrKey) {
		t.Errorf("no store: %v", err)
	}
}

// An older keyset that was put back is not made the newest by putting it under
// another operator's key.
func TestRewrapRolledBack(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	use := func() {
		db, err := Open(dir, &Options{Keys: operator("a")})
		check(t, err)
		check(t, db.Close())
	}
	use()
	first, second := filepath.Join(dir, disk.Name(keys.Dir, 1, ".keyset")), filepath.Join(dir, disk.Name(keys.Dir, 2, ".keyset"))
	kept, err := os.ReadFile(first)
	check(t, err)
	check(t, RewrapKeys(ctx, dir, operator("a"), operator("a")))
	use()
	newest, err := os.ReadFile(second)
	check(t, err)
	check(t, errors.Join(os.Remove(second), os.WriteFile(first, kept, 0o600)))
	if err := RewrapKeys(ctx, dir, operator("a"), operator("b")); !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), "rolled back") {
		t.Errorf("a keyset that was put back: %v", err)
	}
	check(t, os.WriteFile(second, newest, 0o600))
	check(t, RewrapKeys(ctx, dir, operator("a"), operator("b")))
}

// Encrypt and what needs keys say why they cannot.
func TestEncryptRefused(t *testing.T) {
	ctx := t.Context()
	db, fs := newDB(t, Options{})
	if err := db.RotateKeys(ctx, nil); !errors.Is(err, ErrKey) {
		t.Errorf("rotate: %v", err)
	}
	if _, err := db.KeyInfo(ctx); !errors.Is(err, ErrKey) {
		t.Errorf("info: %v", err)
	}
	if err := Encrypt(ctx, "", &Options{fs: fs}, nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("without a key: %v", err)
	}
	if err := Encrypt(ctx, "", &Options{fs: fs, Keys: operator("a")}, nil); !errors.Is(err, ErrLocked) {
		t.Errorf("while it is open: %v", err)
	}
	if err := Encrypt(ctx, "", &Options{fs: faultfs.New(1), Keys: operator("a")}, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("no store: %v", err)
	}
}

// Power fails while an encrypted store is made. Until it is there nobody makes
// a plain one in its place by leaving the key out.
func TestUnfinishedStore(t *testing.T) {
	refused := 0
	for k := 0; ; k++ {
		fs := faultfs.New(uint64(k))
		fs.CrashAt(k)
		o := keyed(Options{})
		o.fs, o.reserve = fs, testReserve
		db, err := Open("", &o)
		if err == nil {
			db.Close()
		}
		left := fs.CrashWith(rand.New(rand.NewPCG(uint64(k), 1)), faultfs.Cut{Sector: 512, Keep: 100})
		for _, name := range left.Files() {
			if !strings.HasSuffix(name, ".keyset") {
				continue
			}
			before := contents(t, left)
			if _, err := Open("", &Options{fs: left}); !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), "test://a") {
				t.Fatalf("operation %d: without the key: %v", k, err)
			}
			if !maps.Equal(before, contents(t, left)) {
				t.Errorf("operation %d: something was written", k)
			}
			refused++
		}
		db = openOn(t, left, keyed(Options{}))
		newCollection(t, db, "c")
		check(t, db.Close())
		if err == nil {
			break
		}
	}
	if refused < 5 {
		t.Errorf("%d states of an unfinished store", refused)
	}
}

// A directory that has keys of collections and nothing that they belong to is
// no new store: the keys are not touched.
func TestKeysWithoutStore(t *testing.T) {
	fs, _ := aStore(t, operator("a"))
	for _, name := range fs.Files() {
		if !strings.HasPrefix(name, "keys/") {
			check(t, fs.Remove(name))
		}
	}
	before := keyNames(fs)
	if _, err := Open("", &Options{Keys: operator("a"), fs: fs}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("keys alone: %v", err)
	}
	if !slices.Equal(before, keyNames(fs)) {
		t.Errorf("keys %v, they were %v", keyNames(fs), before)
	}
}

// Who reads a collection while it is deleted is told so.
func TestDeleteUnderReader(t *testing.T) {
	ctx := t.Context()
	db, _ := newDB(t, keyed(Options{OpenSegments: 1}))
	c := newCollection(t, db, "c")
	for i := range 3 {
		check(t, c.Add(ctx, rec(string(rune('a'+i)), float32(i))))
		check(t, db.Flush(ctx))
	}
	check(t, db.readers.close())
	var last error
	n := 0
	for _, err := range c.Get(ctx, Selection{}, IncludeEmbedding) {
		if n == 0 {
			check(t, err)
			check(t, db.Default().Delete(ctx, "c"))
		}
		n, last = n+1, err
	}
	if last != nil && !errors.Is(last, ErrNotFound) {
		t.Errorf("after %d records: %v", n, last)
	}
}

// A store with nothing in it has keys to change, too.
func TestRotateEmpty(t *testing.T) {
	ctx := t.Context()
	db, fs := newDB(t, keyed(Options{}))
	for n := range 3 {
		check(t, db.RotateKeys(ctx, nil))
		info, err := db.KeyInfo(ctx)
		check(t, err)
		if info.OldFiles > 0 || len(info.Store) != 1 || info.Store[0] != uint32(n+2) || len(info.Keyset) != 1 || len(underKeys(t, fs)) != 1 {
			t.Errorf("%+v, files %v", info, underKeys(t, fs))
		}
	}
}
