package engine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestDestroyKeys(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	db, err := Open(dir, &Options{Keys: operator("a")})
	check(t, err)
	c := newCollection(t, db, "c")
	check(t, c.Upsert(ctx, rec("1", 1)))
	if err := DestroyKeys(ctx, dir, operator("a")); !errors.Is(err, ErrLocked) {
		t.Errorf("of an open store: %v", err)
	}
	check(t, db.Close())
	for _, op := range []OperatorKey{operator("b"), nil} {
		if err := DestroyKeys(ctx, dir, op); !errors.Is(err, ErrKey) {
			t.Errorf("with another key: %v", err)
		}
	}
	db, err = Open(dir, &Options{Keys: operator("a")})
	check(t, err) // nothing has happened yet
	check(t, db.Close())
	check(t, DestroyKeys(ctx, dir, operator("a")))
	if left, err := os.ReadDir(filepath.Join(dir, "keys")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	for _, op := range []OperatorKey{operator("a"), nil} {
		if _, err := Open(dir, &Options{Keys: op}); !errors.Is(err, ErrKey) {
			t.Errorf("opens afterwards: %v", err)
		}
	}
	if err := DestroyKeys(ctx, dir, operator("a")); !errors.Is(err, ErrKey) {
		t.Errorf("twice: %v", err)
	}
	missing := filepath.Join(dir, "missing")
	if err := DestroyKeys(ctx, missing, operator("a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("where nothing is: %v", err)
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("it made a directory")
	}
}

func TestCollectionByIDAnywhere(t *testing.T) {
	ctx := t.Context()
	db, _ := newDB(t, Options{})
	check(t, db.CreateTenant(ctx, "t"))
	_, err := db.CreateDatabase(ctx, "t", "d")
	check(t, err)
	made, err := db.Namespace("t", "d").Create(ctx, "c", Spec{})
	check(t, err)
	found, err := db.CollectionByID(ctx, made.ID())
	if err != nil || found.Info().Database != "d" || found.Info().Tenant != "t" {
		t.Errorf("%v, %v", found, err)
	}
	check(t, db.Namespace("t", "d").Delete(ctx, "c"))
	if _, err := db.CollectionByID(ctx, made.ID()); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
}

// Whoever watches a change of keys is told of it from where it is, whether he
// has begun it or not.
func TestWatchers(t *testing.T) {
	var w watchers
	told := map[string][]int{}
	see := func(who string) func(RotateProgress) {
		return func(p RotateProgress) { told[who] = append(told[who], p.SegmentsDone) }
	}
	leave := w.add(see("early"))
	w.add(nil)()
	w.tell(RotateProgress{SegmentsDone: 1})
	late := w.add(see("late"))
	w.tell(RotateProgress{SegmentsDone: 2})
	leave()
	w.tell(RotateProgress{SegmentsDone: 3})
	w.over()
	late()
	w.add(see("after"))
	for who, want := range map[string][]int{"early": {1, 2}, "late": {1, 2, 3}, "after": nil} {
		if !slices.Equal(told[who], want) {
			t.Errorf("%s was told %v, want %v", who, told[who], want)
		}
	}
}
