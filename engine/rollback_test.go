package engine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// classOf sorts the files of a store by what an attacker would put back
// together.
func classOf(name string) string {
	switch {
	case strings.HasSuffix(name, ".keyset"):
		return "keyset"
	case strings.HasSuffix(name, ".key"):
		return "data keys"
	case strings.Contains(name, "/"):
		return name[:strings.Index(name, "/")]
	}
	return "other"
}

var classes = []string{"keyset", "data keys", "log", checkpointDir, segmentDir}

// reading is what a disk gives to who has the key.
func reading(ctx context.Context, fs *faultfs.FS, o Options, models map[string]model) string {
	o.Keys, o.ReadOnly, o.fs = operator("a"), true, fs
	db, err := Open("", &o)
	if err != nil {
		if refusal(err) || errors.Is(err, ErrRollback) {
			return "refused"
		}
		return err.Error()
	}
	defer db.Close()
	if db.converting() {
		return "converting"
	}
	refused := false
	for _, name := range sortedKeys(models) {
		d, err := models[name].diff(ctx, db, "")
		if err == nil && d == "" {
			err = findEverything(ctx, db, models[name])
		}
		if err == nil && d == "" {
			return name
		}
		refused = refused || refusal(err)
	}
	if refused {
		return "refused"
	}
	return "something else"
}

// epochs are ways from an old disk to a new one.
func epochs(t *testing.T) map[string]func(db *DB) error {
	ctx := t.Context()
	change := func(db *DB) error {
		return collection(t, db, "c0").Upsert(ctx, Record{ID: "0", Embedding: []float32{99}, Document: Optional("new")})
	}
	return map[string]func(db *DB) error{
		"flushed":   func(db *DB) error { return errors.Join(change(db), db.Flush(ctx)) },
		"merged":    func(db *DB) error { return errors.Join(change(db), db.Compact(ctx)) },
		"rotated":   func(db *DB) error { return errors.Join(change(db), db.RotateKeys(ctx, nil)) },
		"a new log": func(db *DB) error { return errors.Join(change(db), db.log.Rotate()) },
		"many": func(db *DB) error {
			return errors.Join(db.RotateKeys(ctx, nil), change(db), db.Compact(ctx), db.RotateKeys(ctx, nil), db.writeCheckpoint(ctx))
		},
	}
}

// TestPutBack puts parts of a store back as they were: all files of some
// kinds, and each file by itself. Either what is there now is read, or
// nothing. Only where log and checkpoints are both put back is it the old store, which
// who knows the generation refuses.
func TestPutBack(t *testing.T) {
	heavy(t)
	ctx := t.Context()
	for how, work := range epochs(t) {
		fs, was := aStore(t, operator("a"))
		o := Options{GraphMin: 4, Workers: 1}
		db := openOn(t, fs, keyed(o))
		db.jobs.stop()
		check(t, db.Flush(ctx))
		check(t, db.writeCheckpoint(ctx))
		old := fs.Clone()
		check(t, work(db))
		check(t, db.writeCheckpoint(ctx))
		o.MinGeneration = db.Generation()
		now := fs.Clone()
		db.Close()
		is := was.clone()
		is["c0"].write(writeUpsert, []Record{{ID: "0", Embedding: []float32{99}, Document: Optional("new")}})
		models := map[string]model{"now": is, "old": was}
		if got := reading(ctx, now, o, models) + reading(ctx, old, Options{}, models); got != "nowold" {
			t.Fatalf("%s: untouched they are %s", how, got)
		}
		for _, back := range subsets(classes) {
			mixed := now.Clone()
			putBack(t, mixed, old, func(name string) bool { return slices.Contains(back, classOf(name)) })
			rolled := slices.Contains(back, "log") && slices.Contains(back, checkpointDir)
			for _, o := range []Options{{}, o} {
				got := reading(ctx, mixed, o, models)
				if got != "refused" && got != "now" && (got != "old" || !rolled || o.MinGeneration > 0) {
					t.Errorf("%s, %q put back, generation %d wanted: it is %s", how, back, o.MinGeneration, got)
				}
			}
		}
		for _, name := range slices.Concat(old.Files(), now.Files()) {
			for _, what := range []string{"put back", "removed"} {
				mixed := now.Clone()
				if what == "removed" {
					if mixed.Remove(name) != nil {
						continue
					}
				} else {
					putBack(t, mixed, old, func(n string) bool { return n == name })
				}
				if got := reading(ctx, mixed, Options{}, models); got != "refused" && got != "now" {
					t.Errorf("%s, %s %s: it is %s", how, name, what, got)
				}
			}
		}
	}
}

// putBack makes the files that match what they were: those that were not
// there are removed.
func putBack(t testing.TB, fs, old *faultfs.FS, match func(name string) bool) {
	t.Helper()
	for _, name := range fs.Files() {
		if match(name) {
			check(t, fs.Remove(name))
		}
	}
	for _, name := range old.Files() {
		if match(name) {
			put(t, fs, name, content(t, old, name))
		}
	}
}

// subsets are those that have a member.
func subsets(of []string) (out [][]string) {
	for mask := 1; mask < 1<<len(of); mask++ {
		var s []string
		for i, name := range of {
			if mask>>i&1 != 0 {
				s = append(s, name)
			}
		}
		out = append(out, s)
	}
	return out
}

// halfEncrypted is a copy of a store whose encryption was begun and given up. When merges in the
// background were quicker than it there is nothing left to give up: that is done again.
func halfEncrypted(t *testing.T, plain *faultfs.FS) *faultfs.FS {
	t.Helper()
	for range 100 {
		fs := plain.Clone()
		begun, cancel := context.WithCancel(t.Context())
		o := Options{Keys: operator("a"), reserve: testReserve}
		o.fs = fs
		err := Encrypt(begun, "", &o, func(RotateProgress) { cancel() })
		cancel()
		if errors.Is(err, context.Canceled) {
			return fs
		}
		check(t, err)
	}
	t.Fatal("it was never given up")
	return nil
}

// TestConversionPutBack: a store that was plain once is not made to accept plain
// files again by its old files of keys, unless the checkpoint is put back with
// them, and then not by who asks for a generation: the number of a file that
// is not encrypted proves nothing.
func TestConversionPutBack(t *testing.T) {
	ctx := t.Context()
	plain, m := aStore(t, nil)
	fs := halfEncrypted(t, plain)
	o := Options{Keys: operator("a"), reserve: testReserve}
	o.fs = fs
	during := fs.Clone()
	check(t, Encrypt(ctx, "", &o, nil))
	models := map[string]model{"now": m}
	for _, old := range []*faultfs.FS{plain, during} {
		for _, back := range subsets(classes) {
			mixed := fs.Clone()
			putBack(t, mixed, old, func(name string) bool { return slices.Contains(back, classOf(name)) })
			got := reading(ctx, mixed, Options{}, models)
			both := slices.Contains(back, checkpointDir) && slices.Contains(back, "keyset")
			if got != "refused" && got != "now" && !(got == "converting" && both) {
				t.Errorf("put back %q (plain: %v): it is %s", back, old == plain, got)
			}
			if got := reading(ctx, mixed, Options{MinGeneration: 1}, models); got != "refused" && got != "now" {
				t.Errorf("put back %q (plain: %v), a generation wanted: it is %s", back, old == plain, got)
			}
		}
	}
	// The plain store under the old keyset, with any generation that he likes.
	mixed := plain.Clone()
	check(t, mixed.Mkdir("keys"))
	putBack(t, mixed, during, func(name string) bool { return strings.HasPrefix(name, "keys/") })
	if got := reading(ctx, mixed, Options{}, models); got != "converting" {
		t.Errorf("the plain store with keys is %s", got)
	}
	for g := range uint64(3) {
		got := reading(ctx, mixed, Options{MinGeneration: g}, models)
		if want := map[bool]string{true: "refused", false: "converting"}[g > 0]; got != want {
			t.Errorf("generation %d wanted: it is %s, want %s", g, got, want)
		}
	}
}
