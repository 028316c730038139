package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"

	"github.com/chromad/chromad/internal/vfs/faultfs"
)

const goldenStore = "testdata/encrypted"

// golden is a small encrypted store as it is on the disk after a crash, made
// with the chance that the test has set.
func golden(t testing.TB) (*faultfs.FS, model) {
	t.Helper()
	ctx := t.Context()
	fs, m := faultfs.New(1), model{"c": {}}
	o := Options{Keys: operator("golden"), GraphMin: 4, Workers: 1, fs: fs, reserve: 64}
	db, err := Open("", &o)
	check(t, err)
	db.jobs.stop() // chance is given out in one order
	c := newCollection(t, db, "c")
	for i := range 7 {
		recs := []Record{{ID: fmt.Sprint("id-", i%6), Embedding: []float32{float32(i), 1}, Document: Optional(fmt.Sprint("text ", i)), Metadata: exampleMetadata()}}
		check(t, c.Upsert(ctx, recs...))
		m["c"].write(writeUpsert, recs)
		if i == 4 {
			check(t, db.Flush(ctx))
			check(t, db.writeCheckpoint(ctx))
		}
	}
	left := fs.Clone()
	db.Close()
	return left, m
}

// TestGoldenStore: with the same chance an encrypted store has the same bytes,
// and those are the ones that were reviewed. A new version of Go or Tink may
// draw its chance in another order, which -update writes down; every other
// change of them is a change of the format.
func TestGoldenStore(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	var fs *faultfs.FS
	synctest.Test(t, func(t *testing.T) { fs, _ = golden(t) }) // it is always the same time there
	if *update {
		check(t, os.RemoveAll(goldenStore))
	}
	seen := 0
	for _, name := range fs.Files() {
		file := filepath.Join(goldenStore, filepath.FromSlash(name))
		if *update {
			check(t, os.MkdirAll(filepath.Dir(file), 0o755))
			check(t, os.WriteFile(file, content(t, fs, name), 0o644))
		}
		want, err := os.ReadFile(file)
		if err != nil || string(want) != string(content(t, fs, name)) {
			t.Errorf("%s is not what %s has: %v", name, goldenStore, err)
		}
		seen++
	}
	if kept := len(goldenFiles(t)); kept != seen {
		t.Errorf("%d files, %s has %d", seen, goldenStore, kept)
	}
}

func goldenFiles(t testing.TB) (names []string) {
	t.Helper()
	check(t, filepath.WalkDir(goldenStore, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			rel, _ := filepath.Rel(goldenStore, path)
			names = append(names, filepath.ToSlash(rel))
		}
		return err
	}))
	return names
}

// TestGoldenStoreOpens: the bytes of once are read, whatever this version
// would write.
func TestGoldenStoreOpens(t *testing.T) {
	_, m := golden(t)
	fs := faultfs.New(1)
	for _, name := range goldenFiles(t) {
		b, err := os.ReadFile(filepath.Join(goldenStore, filepath.FromSlash(name)))
		check(t, err)
		if dir, _, ok := strings.Cut(name, "/"); ok {
			check(t, fs.Mkdir(dir))
		}
		put(t, fs, name, b)
	}
	db := openOn(t, fs, Options{Keys: operator("golden"), GraphMin: 4})
	if d, err := m.diff(t.Context(), db, ""); d != "" || err != nil {
		t.Error(d, err)
	}
	check(t, findEverything(t.Context(), db, m))
	check(t, db.Close())
	newThief(t, fs, operator("golden")).read()
}
