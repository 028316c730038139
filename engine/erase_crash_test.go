package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// afterALife is a store that has had aLife and was left without being closed.
func afterALife(t testing.TB, op OperatorKey) (fs *faultfs.FS, gone, kept canaries) {
	t.Helper()
	fs = faultfs.New(1)
	db := openOn(t, fs, Options{Keys: op, GraphMin: 4, Workers: 1})
	db.jobs.stop()
	gone, kept = aLife(t, db, fs)
	left := fs.Clone()
	db.Close()
	return left, gone, kept
}

// truthful judges the receipts that are on a disk, as it is found.
func truthful(ctx context.Context, fs *faultfs.FS, op OperatorKey) (kinds []string, err error) {
	db, err := Open("", &Options{fs: fs, Keys: op, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	public, err := db.PublicKey()
	if err != nil {
		return nil, err
	}
	for r, err := range db.Receipts(ctx) {
		if err == nil {
			err = r.Verify(public)
		}
		if err != nil {
			return nil, err
		}
		found, err := findErased(ctx, fs, &r.Statement)
		if err != nil {
			return nil, err
		}
		if len(found.Remnants) > 0 {
			return nil, fmt.Errorf("receipt %d of %s, and there is %v", r.Statement.Number, r.Statement.Kind, found.Remnants)
		}
		kinds = append(kinds, r.Statement.Kind)
	}
	return kinds, nil
}

// Power fails at every operation of an erasure: what lives is all there, what
// receipts say is so on the disk that is found, an erasure that had returned
// stays done, and one that had not is not forgotten.
func TestEraseCrash(t *testing.T) {
	for name, op := range map[string]OperatorKey{"plain": nil, "encrypted": operator("a")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			whole, gone, kept := afterALife(t, op)
			step := 1
			if testing.Short() {
				step = 11
			}
			for k := 0; ; k += step {
				cut, err := eraseCut(t, whole.Clone(), k, op, gone, kept)
				if err != nil {
					t.Fatalf("operation %d: %v", k, err)
				}
				if !cut {
					if k < 60 {
						t.Fatalf("only %d operations", k)
					}
					t.Logf("%d operations", k)
					return
				}
			}
		})
	}
}

func eraseCut(t *testing.T, fs *faultfs.FS, k int, op OperatorKey, gone, kept canaries) (cut bool, err error) {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(uint64(k), 23))
	o := Options{Keys: op, GraphMin: 4, Workers: 1, fs: fs, reserve: testReserve}
	fs.CrashAt(fs.Ops() + k)
	db, err := Open("", &o)
	done := false
	if err == nil {
		done = db.EraseNow(ctx, nil) == nil
		db.Close()
	}
	cut = fs.Crashed()
	fs = fs.CrashWith(r, faultfs.Cut{Sector: 512, Keep: []int{0, 50, 100}[k%3], Extend: k%2 == 0})
	o.fs = fs
	if op != nil {
		if _, err := truthful(ctx, fs, op); err != nil {
			return cut, fmt.Errorf("receipts after the cut: %w", err)
		}
	}
	if left := gone.found(bytesOf(t, fs, op)); done && len(left) > 0 {
		return cut, fmt.Errorf("it was done, and there is %v", left)
	}
	if db, err = Open("", &o); err != nil {
		return cut, err
	}
	if !done && db.erasure.unerased() == 0 {
		if left := gone.found(bytesOf(t, fs, op)); len(left) > 0 {
			return cut, fmt.Errorf("nobody knows that there is %v", left)
		}
	}
	err = db.EraseNow(ctx, nil)
	if err == nil {
		err = keptAll(ctx, db, kept)
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return cut, err
	}
	if left := gone.found(bytesOf(t, fs, op)); len(left) > 0 {
		return cut, fmt.Errorf("in the end there is %v", left)
	}
	if op == nil {
		return cut, nil
	}
	kinds, err := truthful(ctx, fs, op)
	for _, kind := range []string{"collection", "database", "records"} {
		if err == nil && !slices.Contains(kinds, kind) {
			err = fmt.Errorf("receipts of %v", kinds)
		}
	}
	return cut, err
}

// keptAll reads everything that aLife keeps.
func keptAll(ctx context.Context, db *DB, kept canaries) error {
	c, err := db.Default().Collection(ctx, string(kept["new name"]))
	if err != nil {
		return err
	}
	n := 0
	for r, err := range c.Get(ctx, Selection{}, IncludeAll) {
		if err != nil {
			return err
		}
		if n++; r.Document == nil {
			return fmt.Errorf("record %q has no document", r.ID)
		}
		if what, ok := strings.CutPrefix(*r.Document, "CANARY-"); ok {
			what, _ = strings.CutSuffix(what, " document-ZQX")
			if r.ID != string(kept[what+" id"]) || *r.URI != string(kept[what+" uri"]) || len(r.Metadata) != 2 {
				return fmt.Errorf("record %q is %v", r.ID, r)
			}
		}
	}
	if n != 3*(6+2) {
		return fmt.Errorf("%d records", n)
	}
	return nil
}

// A keyset that was put back by somebody who can write to the directory is
// refused, though its operator's key opens it and it opens everything: keys
// that were destroyed may be in it, or the word that plain files are accepted.
func TestKeysetRolledBack(t *testing.T) {
	ctx := t.Context()
	a, b := operator("a"), operator("b")
	for what, tc := range map[string]struct {
		begun  OperatorKey // nil: plain
		change func(fs *faultfs.FS) error
		now    OperatorKey
	}{
		"rotated": {a, func(fs *faultfs.FS) error {
			db := openOn(t, fs, keyed(Options{}))
			return errors.Join(db.RotateKeys(ctx, nil), db.Close())
		}, a},
		"wrapped again": {a, func(fs *faultfs.FS) error { return rewrapOn(ctx, fs, a, b) }, b},
		"encrypted": {nil, func(fs *faultfs.FS) error {
			return Encrypt(ctx, "", &Options{fs: fs, Keys: a, reserve: testReserve}, nil)
		}, a},
	} {
		fs, _ := aStore(t, tc.begun)
		old, name := "", ""
		keep := func(n string) {
			if strings.HasSuffix(n, ".keyset") && name == "" {
				old, name = string(content(t, fs, n)), n
			}
		}
		for _, n := range fs.Files() {
			keep(n)
		}
		fs.Hook(func(op faultfs.Op, n string) {
			if op == faultfs.OpRemove { // it was replaced
				keep(n)
			}
		})
		check(t, tc.change(fs))
		fs.Hook(nil)
		db := openOn(t, fs, Options{Keys: tc.now})
		check(t, db.recordKeyset(ctx)) // as the background does
		left := fs.Clone()             // as a crash leaves it
		check(t, db.Close())
		for _, fs := range []*faultfs.FS{fs, left} {
			for _, n := range fs.Files() {
				if strings.HasSuffix(n, ".keyset") {
					check(t, fs.Remove(n))
				}
			}
			put(t, fs, name, []byte(old))
			before := fmt.Sprint(contents(t, fs))
			db, err := Open("", &Options{fs: fs, Keys: a, reserve: testReserve})
			if err == nil {
				check(t, db.Close())
			}
			if !errors.Is(err, ErrKey) {
				t.Errorf("%s: opened with an older keyset: %v", what, err)
			}
			if fmt.Sprint(contents(t, fs)) != before {
				t.Errorf("%s: something was written", what)
			}
		}
	}
}

// Receipts go with a rotation of keys: they are under the newest one before
// the old one is destroyed, wherever power fails.
func TestReceiptsRotate(t *testing.T) {
	ctx := t.Context()
	op := operator("a")
	fs, _, _ := afterALife(t, op)
	db := openOn(t, fs, Options{Keys: op, GraphMin: 4, Workers: 1})
	check(t, db.EraseNow(ctx, nil))
	check(t, db.Close())
	for k := 0; ; k += 3 {
		fs := fs.Clone()
		fs.CrashAt(fs.Ops() + k)
		o := Options{Keys: op, GraphMin: 4, Workers: 1, fs: fs, reserve: testReserve}
		db, err := Open("", &o)
		if err == nil {
			err = errors.Join(db.RotateKeys(ctx, nil), db.Close())
		}
		cut := fs.Crashed()
		fs = fs.CrashWith(rand.New(rand.NewPCG(uint64(k), 1)), faultfs.Cut{Sector: 512, Keep: 50})
		if kinds, err := truthful(ctx, fs, op); err != nil || len(kinds) != 3 {
			t.Fatalf("operation %d: %v %v", k, kinds, err)
		}
		if !cut {
			check(t, err)
			files, err := receiptFiles(&DB{fs: fs})
			if len(files) != 3 || files[0].generation != 2 || err != nil {
				t.Fatalf("%v %v", files, err)
			}
			if h := newestOf(t, fs); h != 2 {
				t.Fatalf("generation %d", h)
			}
			return
		}
	}
}

func newestOf(t *testing.T, fs *faultfs.FS) (generation uint32) {
	for _, name := range fs.Files() {
		if strings.HasPrefix(name, "keys/"+seal.ID{}.String()) {
			generation++
			if !strings.Contains(name, "-00000002") {
				t.Errorf("%s is still there", name)
			}
		}
	}
	return generation + 1
}
