package keys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/keys/keytest"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

var (
	testStore = testID(0xa0)
	docs      = testID(0xc0)
	notes     = testID(0xd0)
)

// disks are both kinds of file system.
func disks(t *testing.T) map[string]vfs.FS {
	t.Helper()
	root, err := vfs.Make(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return map[string]vfs.FS{"memory": faultfs.New(1), "directory": root}
}

func mustCreate(t testing.TB, fsys vfs.FS, name string, ids ...seal.ID) *Ring {
	t.Helper()
	r, err := Create(context.Background(), fsys, testStore, keytest.New(name), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if err := r.NewCollection(id); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func mustOpen(t testing.TB, fsys vfs.FS, name string) *Ring {
	t.Helper()
	r, err := Open(context.Background(), fsys, testStore, keytest.New(name), false)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A letter is a block that was sealed, and what it takes to read it.
type letter struct {
	at     seal.Address
	key    uint32
	stored []byte
}

func addressIn(collection seal.ID, file byte) seal.Address {
	return seal.Address{Store: testStore, Collection: collection, File: testID(file), Kind: seal.KindSegment, Version: 1}
}

// write seals a block that tells where it is.
func write(k seal.Keys, at seal.Address) (letter, error) {
	s, err := k.Writer(at)
	if err != nil {
		return letter{}, err
	}
	stored, err := s.Seal(nil, fmt.Append(nil, at), at, nil)
	return letter{at, s.KeyID(), stored}, err
}

func mustWrite(t testing.TB, k seal.Keys, at seal.Address) letter {
	t.Helper()
	l, err := write(k, at)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// read opens it.
func (l letter) read(k seal.Keys) error {
	s, err := k.Reader(l.at, l.key)
	if err != nil {
		return err
	}
	plain, err := s.Open(nil, l.stored, l.at, nil)
	if err == nil && string(plain) != fmt.Sprint(l.at) {
		err = fmt.Errorf("%q instead of %v", plain, l.at)
	}
	return err
}

func mustRead(t testing.TB, k seal.Keys, letters ...letter) {
	t.Helper()
	for _, l := range letters {
		if err := l.read(k); err != nil {
			t.Errorf("collection %v, key %d: %v", l.at.Collection, l.key, err)
		}
	}
}

// names are the files in keys/, and what a crash left elsewhere.
func names(t testing.TB, fsys vfs.FS) (out []string) {
	t.Helper()
	infos, err := fsys.List(Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range infos {
		out = append(out, i.Name)
	}
	return out
}

func wantNames(t testing.TB, fsys vfs.FS, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := names(t, fsys); !slices.Equal(got, want) {
		t.Errorf("files %q\nwant  %q", got, want)
	}
}

// refused reports whether an error is one of those that say that keys or files
// are not the right ones.
func refused(err error) bool {
	return errors.Is(err, seal.ErrKey) || errors.Is(err, disk.ErrCorrupt) || errors.Is(err, disk.ErrFormat)
}
