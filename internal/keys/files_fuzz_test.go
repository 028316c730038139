package keys

import (
	"bytes"
	"context"
	"runtime"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/keys/keytest"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// How deep FuzzFiles puts its bytes.
const (
	asFile    = iota // they are the file
	asBody           // they are what the file holds, its checksums are right
	asSecrets        // they are what is sealed in it
	depths
)

// FuzzFiles puts bytes into a file of keys/: the keyset, the store's own key or
// a collection's. Whatever they are, the keys are refused or they are keys: what
// was sealed before reads as what it was or not at all, what is sealed now can
// be read, and nothing is written by looking.
func FuzzFiles(f *testing.F) {
	base := faultfs.New(1)
	ring := mustCreate(f, base, "a", docs)
	letters := []letter{mustWrite(f, ring, addressIn(seal.ID{}, 1)), mustWrite(f, ring, addressIn(docs, 2))}
	plain, err := ring.keyset.Load().appendSecrets()
	if err != nil {
		f.Fatal(err)
	}
	names := []string{keysetOne, "keys/" + ownKey, "keys/" + docsKey}
	for i, name := range names {
		whole, err := base.Content(name)
		if err != nil {
			f.Fatal(err)
		}
		h, err := headerOf(base, name)
		if err != nil {
			f.Fatal(err)
		}
		body, err := readBody(base, name, h)
		if err != nil {
			f.Fatal(err)
		}
		for depth, b := range [][]byte{whole, body, plain} {
			f.Add(byte(i), byte(depth), b)
			f.Add(byte(i), byte(depth), b[:len(b)/2])
		}
		f.Add(byte(i), byte(asSecrets), make([]byte, keySize))
	}
	f.Fuzz(func(t *testing.T, file, depth byte, b []byte) {
		fsys := base.Clone()
		name := names[int(file)%len(names)]
		bury(t, fsys, ring, name, int(depth)%depths, b)
		ops := fsys.Ops()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		opened := lookAt(t, fsys, letters)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 100*uint64(len(b))+1<<20 {
			t.Errorf("%d bytes allocated for %d", used, len(b))
		}
		if fsys.Ops() != ops {
			t.Error("looking has written")
		}
		if whole, _ := base.Content(name); int(depth)%depths == asFile && bytes.Equal(whole, b) && !opened {
			t.Error("the right keys are refused")
		}
	})
}

// bury puts bytes into a file at a depth.
func bury(t *testing.T, fsys *faultfs.FS, ring *Ring, name string, depth int, b []byte) {
	t.Helper()
	h, err := headerOf(fsys, name)
	if err != nil {
		t.Fatal(err)
	}
	if depth == asSecrets && name == keysetOne {
		k := sealedKeyset{store: testStore, number: 1, uri: "test://a"}
		if k.sealed, err = keytest.New("a").EncryptWithContext(t.Context(), b, k.associated()); err != nil {
			t.Fatal(err)
		}
		b = k.appendBody(nil)
	} else if depth == asSecrets {
		k := &dataKey{store: testStore, collection: h.Collection, generation: 1, file: h.File}
		if b, err = ring.keyset.Load().wrap.Encrypt(b, k.associated()); err != nil {
			t.Fatal(err)
		}
	}
	if depth != asFile {
		made := faultfs.New(1)
		if _, err := disk.WriteFile(made, name, h, seal.Plain(), func(w *disk.Writer) error {
			if err := w.Section(section, blockSize); err != nil {
				return err
			}
			_, err := w.Write(b)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if b, err = made.Content(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := fsys.Damage(name, func([]byte) []byte { return bytes.Clone(b) }); err != nil {
		t.Fatal(err)
	}
}

// lookAt uses the keys, if they are any.
func lookAt(t *testing.T, fsys *faultfs.FS, letters []letter) (opened bool) {
	t.Helper()
	_, err := Inspect(fsys)
	if err != nil && !refused(err) {
		t.Errorf("inspect: %v", err)
	}
	r, err := Open(context.Background(), fsys, testStore, keytest.New("a"), true)
	if err != nil {
		if !refused(err) {
			t.Errorf("open: %v", err)
		}
		return false
	}
	opened = true
	for _, l := range letters {
		opened = l.read(r) == nil && opened
		now, err := write(r, l.at)
		if err != nil {
			if !refused(err) {
				t.Errorf("seal: %v", err)
			}
		} else if err := now.read(r); err != nil {
			t.Errorf("what was sealed now: %v", err)
		}
	}
	if _, err := r.Sign([]byte("text")); err != nil {
		t.Errorf("sign: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	return opened
}
