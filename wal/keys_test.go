package wal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// generations are keys that are renewed: the largest writes.
type generations map[uint32]generation

type generation struct {
	sealed
	number uint32
}

func (g generation) KeyID() uint32 { return g.number }

func (g generations) add(number uint32) {
	s := newSealed()
	block, err := aes.NewCipher(slices.Repeat([]byte{byte(number)}, 16))
	if err == nil {
		s.aead, err = cipher.NewGCM(block)
	}
	if err != nil {
		panic(err)
	}
	g[number] = generation{s, number}
}

func (g generations) Writer(seal.Address) (seal.Sealer, error) {
	newest := uint32(0)
	for n := range g {
		newest = max(newest, n)
	}
	return g[newest], nil
}

func (g generations) Reader(_ seal.Address, key uint32) (seal.Sealer, error) {
	s, ok := g[key]
	if !ok {
		return nil, seal.ErrKey
	}
	return s, nil
}

// keysUsed lists the key of each file.
func keysUsed(t *testing.T, fs *faultfs.FS, o Options) (ids []uint32) {
	t.Helper()
	for f, err := range Files(fs, o) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, f.KeyID)
	}
	return ids
}

// TestKeysChange renews the key between files, before the first entry of one
// and after; old files stay readable, and one whose key is gone is named.
func TestKeysChange(t *testing.T) {
	keys := generations{}
	keys.add(1)
	o := Options{Store: seal.ID{1}, Keys: keys}
	fs := faultfs.New(1)
	l, err := Open(fs, Position{}, o)
	if err != nil {
		t.Fatal(err)
	}
	replayAll(t, l)
	var want []string
	commit := func() {
		p := fmt.Sprintf("entry %d", len(want)+1)
		at, err := l.Commit(context.Background(), []byte(p))
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprintf("%v %s", at, p))
	}
	rotate := func() {
		if err := l.Rotate(); err != nil {
			t.Fatal(err)
		}
	}
	rotate() // nothing to do
	keys.add(2)
	rotate() // the file has no entry, and the key of before
	commit()
	commit()
	rotate()
	rotate() // nothing to do
	commit()
	keys.add(3)
	commit()
	rotate()
	keys.add(4)
	rotate()
	commit()
	if got := keysUsed(t, fs, o); !slices.Equal(got, []uint32{1, 2, 2, 3, 4}) {
		t.Errorf("keys of the files: %v", got)
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		keys.add(7)
		if l, err = Open(fs, Position{}, o); err != nil {
			t.Fatal(err)
		}
		if got := replayAll(t, l); !slices.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := keysUsed(t, fs, o); !slices.Equal(got, []uint32{1, 2, 2, 7}) {
		t.Errorf("keys of the files: %v", got)
	}
	delete(keys, 2)
	o.ReadOnly = true
	l, err = Open(fs, Position{}, o)
	if !errors.Is(err, seal.ErrKey) || !strings.Contains(err.Error(), fileName(3)+": key 2") {
		t.Errorf("a key is missing: %v", err)
	}
	if l, err = Open(fs, Position{Seq: 5}, o); err != nil {
		t.Fatalf("a key of released entries is missing: %v", err)
	}
	if got := replayAll(t, l); !slices.Equal(got, want[4:]) {
		t.Errorf("%v, want %v", got, want[4:])
	}
}

// TestNothingStays: after a rotation and a release of all there is no file
// left with anything that was written before, under whatever key.
func TestNothingStays(t *testing.T) {
	for _, entries := range []int{0, 1, 5} {
		keys := generations{}
		keys.add(1)
		o := Options{Store: seal.ID{1}, Keys: keys, MaxFile: 300}
		fs := faultfs.New(1)
		for round := range 3 { // a file that recovery has made holds a frame from the beginning
			l, err := Open(fs, Position{}, o)
			if round > 0 {
				l, err = Open(fs, Position{Seq: uint64(entries*round + 1)}, o)
			}
			if err != nil {
				t.Fatal(err)
			}
			replayAll(t, l)
			for range entries {
				if _, err := l.Commit(context.Background(), make([]byte, 100)); err != nil {
					t.Fatal(err)
				}
			}
			before := fs.Files()
			keys.add(uint32(round + 2))
			if err := l.Rotate(); err != nil {
				t.Fatal(err)
			}
			if err := l.Release(l.End()); err != nil {
				t.Fatal(err)
			}
			after := fs.Files()
			if stays := slices.DeleteFunc(slices.Clone(after), func(n string) bool { return !slices.Contains(before, n) }); len(stays) > 0 || len(after) != 2 {
				t.Errorf("%d entries, round %d: %v, of %v", entries, round, after, before)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if fs = fs.CrashWith(rand.New(rand.NewPCG(1, 1)), faultfs.Cut{}); !slices.Equal(fs.Files(), after) {
				t.Errorf("%d entries, round %d: after a cut %v", entries, round, fs.Files())
			}
		}
	}
}

// TestManyFrames starts a new file before a file's key has sealed too much.
func TestManyFrames(t *testing.T) {
	w := newWorld(0)
	if _, err := w.open(); err != nil {
		t.Fatal(err)
	}
	w.log.o.MaxFile = 1 << 40
	w.group(1)
	w.log.tail.index = maxFrames // as if it held so many
	w.group(1)
	if n := len(walFiles(w.disk)); n != 2 || len(w.durable) != 2 {
		t.Fatalf("%d files, %d entries", n, len(w.durable))
	}
	if err := w.log.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.settle(cuts[0]); err != nil {
		t.Fatal(err)
	}
}
