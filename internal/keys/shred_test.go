package keys

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/keys/keytest"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// halfway is a store in the middle of a rotation, with a file of a keyset that
// was never finished.
func halfway(t *testing.T) *faultfs.FS {
	t.Helper()
	fsys := faultfs.New(1)
	made(addPrimary, renewAll)(t, fsys)
	if err := fsys.Mkdir(disk.TmpDir); err != nil {
		t.Fatal(err)
	}
	f, err := fsys.Create(disk.TmpDir + "/1")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return fsys.Clone()
}

// keyFilesIn counts the files of keys, those that are not finished too.
func keyFilesIn(fsys *faultfs.FS) (keysets, all int) {
	for _, name := range fsys.Files() {
		if strings.HasPrefix(name, Dir+"/") || strings.HasPrefix(name, disk.TmpDir+"/") {
			all++
		}
		if strings.HasSuffix(name, keysetSuffix) {
			keysets++
		}
	}
	return keysets, all
}

func shred(fsys vfs.FS, name string) error {
	return Shred(context.Background(), fsys, keytest.New(name))
}

// TestShredPowerCut: whenever the power is cut while a store is shredded,
// shredding it again completes it, and what was completed stays so.
func TestShredPowerCut(t *testing.T) {
	base := halfway(t)
	partly := 0
	for op, done := 0, false; !done; op++ {
		fsys := base.Clone()
		fsys.CrashAt(op)
		err := shred(fsys, "a")
		if done = err == nil; !done && !errors.Is(err, faultfs.ErrCrashed) {
			t.Fatalf("op %d: %v", op, err)
		}
		for seed := range uint64(20) {
			found := fsys.Crash(rand.New(rand.NewPCG(seed, uint64(op))))
			keysets, all := keyFilesIn(found)
			switch {
			case done && all > 0:
				t.Fatalf("op %d, seed %d: %q are back", op, seed, found.Files())
			case keysets == 0 && all > 0:
				t.Fatalf("op %d, seed %d: no keyset is left to go on with, but %q", op, seed, found.Files())
			case all > 0:
				partly++
				if err := shred(found, "a"); err != nil {
					t.Fatalf("op %d, seed %d: again: %v", op, seed, err)
				}
			}
			if err := shred(found, "a"); !errors.Is(err, seal.ErrKey) {
				t.Fatalf("op %d, seed %d: when nothing is left: %v", op, seed, err)
			}
		}
	}
	if partly == 0 {
		t.Error("no cut fell between two keys")
	}
}

// TestShredKill: a process that dies leaves removals that are seen and not
// durable. Whoever is told that nothing is left can rely on it.
func TestShredKill(t *testing.T) {
	base := halfway(t)
	for op := 0; ; op++ {
		fsys := base.Clone()
		died := shred(&mortal{fsys, op}, "a")
		if died != nil && !errors.Is(died, errKilled) {
			t.Fatalf("op %d: %v", op, died)
		}
		if err := shred(fsys, "a"); err != nil && !errors.Is(err, seal.ErrKey) {
			t.Fatalf("op %d: again: %v", op, err)
		}
		// Everything that is not durable comes back.
		found := fsys.CrashWith(rand.New(rand.NewPCG(1, 1)), faultfs.Cut{})
		if _, all := keyFilesIn(found); all > 0 {
			t.Fatalf("op %d: %q are back", op, found.Files())
		}
		if died == nil {
			return
		}
	}
}

// TestShredRefused: nothing goes without the operator's key of the store, and
// data keys that cannot be read go like others.
func TestShredRefused(t *testing.T) {
	fsys := halfway(t)
	before := len(fsys.Files())
	for _, op := range []Operator{keytest.New("b"), nil} {
		if err := Shred(context.Background(), fsys, op); !errors.Is(err, seal.ErrKey) || len(fsys.Files()) != before {
			t.Errorf("under %v: %v, and %d of %d files", op, err, len(fsys.Files()), before)
		}
	}
	for _, name := range fsys.Files() {
		if strings.HasSuffix(name, ".key") {
			if err := fsys.Damage(name, func(b []byte) []byte { return b[:len(b)/2] }); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := shred(fsys, "a"); err != nil {
		t.Error(err)
	}
	if _, all := keyFilesIn(fsys); all > 0 {
		t.Errorf("left: %q", fsys.Files())
	}
}
