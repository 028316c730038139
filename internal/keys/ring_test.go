package keys

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/keys/keytest"
	"github.com/chromad/chromad/internal/seal"
)

const (
	ownKey   = "00000000000000000000000000000000-00000001.key"
	ownKey2  = "00000000000000000000000000000000-00000002.key"
	docsKey  = "c0c1c2c3c4c5c6c7c8c9cacbcccdcecf-00000001.key"
	docsKey2 = "c0c1c2c3c4c5c6c7c8c9cacbcccdcecf-00000002.key"
	notesKey = "d0d1d2d3d4d5d6d7d8d9dadbdcdddedf-00000001.key"
)

// TestLifecycle: a store's keys from the first to the last, on both kinds of
// disk.
func TestLifecycle(t *testing.T) {
	ctx := context.Background()
	for name, fsys := range disks(t) {
		t.Run(name, func(t *testing.T) {
			if there, err := Present(fsys); there || err != nil {
				t.Fatalf("keys of an empty store: %v, %v", there, err)
			}
			r := mustCreate(t, fsys, "a", docs, notes)
			if there, err := Present(fsys); !there || err != nil {
				t.Fatalf("no keys: %v", err)
			}
			wantNames(t, fsys, "0000000000000001.keyset", ownKey, docsKey, notesKey)
			old := []letter{mustWrite(t, r, addressIn(seal.ID{}, 1)), mustWrite(t, r, addressIn(docs, 2)), mustWrite(t, r, addressIn(notes, 3))}
			mustRead(t, r, old...)
			r = mustOpen(t, fsys, "a")
			mustRead(t, r, old...)
			if got := maps.Collect(r.Collections()); len(got) != 2 || !slices.Equal(got[docs], []uint32{1}) || !slices.Equal(got[notes], []uint32{1}) {
				t.Errorf("collections %v", got)
			}
			if r.Store() != testStore || !r.Has(docs) || r.Has(testID(1)) {
				t.Error("store or Has")
			}
			if r.Dropped(docs, 1) || r.Dropped(seal.ID{}, 2) || !r.Dropped(seal.ID{}, 0) {
				t.Error("dropped, before anything was")
			}
			rotateAll(t, r, old)
			if !r.Dropped(docs, 1) || !r.Dropped(seal.ID{}, 1) || r.Dropped(docs, 2) || r.Dropped(docs, 3) || r.Dropped(testID(1), 1) {
				t.Error("dropped, and not told")
			}
			wantNames(t, fsys, "0000000000000003.keyset", ownKey2, docsKey2, strings.Replace(notesKey, "1.key", "2.key", 1))
			r = mustOpen(t, fsys, "a")
			renewed := mustWrite(t, r, addressIn(docs, 4))
			for _, l := range old {
				if err := l.read(r); !errors.Is(err, seal.ErrKey) {
					t.Errorf("generation 1 after it was dropped: %v", err)
				}
			}
			gone, err := r.Destroy(notes, testID(9), notes)
			if err != nil || len(gone) != 1 || gone[0].Collection != notes || gone[0].Generation != 2 ||
				gone[0].Wrapped != r.Keyset().Primary || gone[0].File == (seal.ID{}) {
				t.Errorf("destroyed %+v, %v", gone, err)
			}
			for range 2 { // in memory, and from the disk
				if _, err := r.Writer(addressIn(notes, 5)); !errors.Is(err, ErrShredded) || !errors.Is(err, seal.ErrKey) {
					t.Errorf("writes under a destroyed key: %v", err)
				}
				if _, err := r.Reader(addressIn(notes, 3), 2); !errors.Is(err, ErrShredded) {
					t.Errorf("reads under a destroyed key: %v", err)
				}
				mustRead(t, r, renewed)
				r = mustOpen(t, fsys, "a")
			}
			if err := r.Rewrap(ctx, keytest.New("b")); err != nil {
				t.Fatal(err)
			}
			wantNames(t, fsys, "0000000000000004.keyset", ownKey2, docsKey2)
			if _, err := Open(ctx, fsys, testStore, keytest.New("a"), false); !errors.Is(err, seal.ErrKey) {
				t.Errorf("opens with the operator's key of before: %v", err)
			}
			if err := r.AddPrimary(ctx); err != nil { // under the new operator's key
				t.Fatal(err)
			}
			mustRead(t, mustOpen(t, fsys, "b"), renewed)
		})
	}
}

// rotateAll goes through a rotation as the engine does; old is what is written
// under the generations before.
func rotateAll(t *testing.T, r *Ring, old []letter) {
	t.Helper()
	ctx := context.Background()
	before := r.Keyset()
	if left, err := r.Rotation(); err != nil || !left.Done() {
		t.Fatalf("before: %+v, %v", left, err)
	}
	for range 2 { // again is nothing
		if err := r.AddPrimary(ctx); err != nil {
			t.Fatal(err)
		}
	}
	after := r.Keyset()
	if after.Number != before.Number+1 || after.Primary == before.Primary || len(after.Keys) != 2 {
		t.Fatalf("keyset %+v after %+v", after, before)
	}
	left, err := r.Rotation()
	if err != nil || len(left.Renew) != 3 || left.Renew[0] != (seal.ID{}) || len(left.Stale)+len(left.Retire) != 0 {
		t.Fatalf("after AddPrimary: %+v, %v", left, err)
	}
	if ids, err := r.Retire(ctx); err != nil || ids != nil {
		t.Fatalf("retired %v, %v while data keys need it", ids, err)
	}
	for _, id := range left.Renew {
		for range 2 {
			if g, err := r.Renew(id); err != nil || g != 2 {
				t.Fatalf("generation %d, %v", g, err)
			}
		}
		stale, err := r.Stale(id)
		if err != nil || len(stale) != 1 || stale[0].Generation != 1 || stale[0].Wrapped != before.Primary {
			t.Fatalf("stale %+v, %v", stale, err)
		}
		if l := mustWrite(t, r, addressIn(id, 0x40)); l.key != 2 {
			t.Errorf("written under generation %d", l.key)
		}
		if err := r.Drop(id, 2); err == nil {
			t.Error("the newest generation is dropped")
		}
	}
	mustRead(t, r, old...)
	if ids, err := r.Retire(ctx); err != nil || ids != nil {
		t.Fatalf("retired %v, %v while generations are under it", ids, err)
	}
	for _, id := range left.Renew {
		for range 2 {
			if err := r.Drop(id, 1); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, want := range [][]uint32{{before.Primary}, nil} {
		if ids, err := r.Retire(ctx); err != nil || !slices.Equal(ids, want) {
			t.Fatalf("Retire %d: %v, %v", i, ids, err)
		}
	}
	if ks := r.Keyset(); !slices.Equal(ks.Keys, []uint32{after.Primary}) || ks.Primary != after.Primary || ks.Number != before.Number+2 {
		t.Errorf("keyset %+v", ks)
	}
	if left, err := r.Rotation(); err != nil || !left.Done() {
		t.Errorf("at the end: %+v, %v", left, err)
	}
}

// TestPlainFiles: a file without a key is refused, but for a store that is
// being converted.
func TestPlainFiles(t *testing.T) {
	ctx := context.Background()
	for name, fsys := range disks(t) {
		t.Run(name, func(t *testing.T) {
			r, err := Create(ctx, fsys, testStore, keytest.New("a"), true)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				s, err := r.Reader(addressIn(seal.ID{}, 1), 0)
				if err != nil || s.Overhead() != 0 || r.Dropped(seal.ID{}, 0) {
					t.Fatalf("a plain file: %v", err)
				}
				if s, err := r.Writer(addressIn(seal.ID{}, 1)); err != nil || s.KeyID() != 1 {
					t.Fatalf("a new file: %v", err)
				}
				r = mustOpen(t, fsys, "a")
			}
			if info, err := Inspect(fsys); err != nil || !info.Converting || !r.Keyset().Converting {
				t.Errorf("%+v, %v", info, err)
			}
			for range 2 {
				if err := r.Settle(ctx); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if _, err := r.Reader(addressIn(seal.ID{}, 1), 0); !errors.Is(err, seal.ErrKey) {
					t.Errorf("a plain file in an encrypted store: %v", err)
				}
				r = mustOpen(t, fsys, "a")
			}
			wantNames(t, fsys, "0000000000000002.keyset", ownKey)
		})
	}
}

// TestFilesThroughRing: whole files, written and read under a ring.
func TestFilesThroughRing(t *testing.T) {
	for name, fsys := range disks(t) {
		t.Run(name, func(t *testing.T) {
			r := mustCreate(t, fsys, "a", docs)
			h := disk.Header{Kind: seal.KindSegment, Version: disk.Version, Store: testStore, Collection: docs, File: testID(1), Number: 1}
			text := strings.Repeat("some words ", 1000)
			info, err := disk.WriteFile(fsys, "seg/1", h, r, func(w *disk.Writer) error {
				if err := w.Section(1, 4096); err != nil {
					return err
				}
				_, err := w.Write([]byte(text))
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			f, err := disk.OpenFile(fsys, "seg/1", h, info, mustOpen(t, fsys, "a"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			s, _ := f.Section(1)
			if b, err := s.Bytes(0, s.Len()); err != nil || string(b) != text || f.Header().KeyID != 1 {
				t.Errorf("key %d, %v", f.Header().KeyID, err)
			}
			if _, err := disk.OpenFile(fsys, "seg/1", h, info, seal.Plain()); !errors.Is(err, seal.ErrKey) {
				t.Errorf("without keys: %v", err)
			}
		})
	}
}

// TestCreateAgain: what is there is completed or refused, never replaced.
func TestCreateAgain(t *testing.T) {
	ctx := context.Background()
	for name, fsys := range disks(t) {
		t.Run(name, func(t *testing.T) {
			l := mustWrite(t, mustCreate(t, fsys, "a"), addressIn(seal.ID{}, 1))
			mustRead(t, mustCreate(t, fsys, "a"), l)
			if _, err := Create(ctx, fsys, testStore, keytest.New("b"), false); !errors.Is(err, seal.ErrKey) {
				t.Errorf("over another operator's: %v", err)
			}
			if _, err := Create(ctx, fsys, testID(1), keytest.New("a"), false); !errors.Is(err, seal.ErrKey) {
				t.Errorf("over another store's: %v", err)
			}
			if _, err := Create(ctx, fsys, seal.ID{}, keytest.New("a"), false); err == nil {
				t.Error("for no store")
			}
			if _, err := Create(ctx, fsys, testStore, nil, false); err == nil {
				t.Error("without an operator's key")
			}
			r := mustCreate(t, fsys, "a", docs)
			if _, err := Create(ctx, fsys, testStore, keytest.New("a"), false); !errors.Is(err, fs.ErrExist) {
				t.Errorf("over a store with collections: %v", err)
			}
			mustRead(t, r, l)
			wantNames(t, fsys, "0000000000000001.keyset", ownKey, docsKey)
		})
	}
}

// TestReadOnly: nothing changes, and everything reads.
func TestReadOnly(t *testing.T) {
	ctx := context.Background()
	for name, fsys := range disks(t) {
		t.Run(name, func(t *testing.T) {
			l := mustWrite(t, mustCreate(t, fsys, "a", docs), addressIn(docs, 1))
			if err := writeBody(fsys, "keys/0000000000000000.keyset", disk.Header{Kind: seal.KindKeyset, Version: 1, File: testID(2)}, nil); err != nil {
				t.Fatal(err) // a name that is not ours: no file has number 0
			}
			before := names(t, fsys)
			r, err := Open(ctx, fsys, seal.ID{}, keytest.New("a"), true)
			if err != nil || r.Store() != testStore {
				t.Fatal(err)
			}
			mustRead(t, r, l)
			_, destroyErr := r.Destroy(docs)
			_, renewErr := r.Renew(docs)
			_, retireErr := r.Retire(ctx)
			for i, err := range []error{destroyErr, renewErr, retireErr, r.NewCollection(notes), r.Drop(docs, 1),
				r.AddPrimary(ctx), r.Rewrap(ctx, keytest.New("b")), r.Settle(ctx)} {
				if !errors.Is(err, ErrReadOnly) {
					t.Errorf("change %d: %v", i, err)
				}
			}
			if after := names(t, fsys); !slices.Equal(before, after) {
				t.Errorf("%q became %q", before, after)
			}
		})
	}
}

// TestClose: nothing is handed out afterwards, and the keys are wiped.
func TestClose(t *testing.T) {
	fsys := disks(t)["memory"]
	r := mustCreate(t, fsys, "a", docs)
	l := mustWrite(t, r, addressIn(docs, 1))
	secret := r.data[docs][0].secret
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if *secret != [keySize]byte{} {
		t.Error("the key is still in memory")
	}
	if err := l.read(r); !errors.Is(err, ErrClosed) {
		t.Errorf("reads: %v", err)
	}
	if err := r.NewCollection(notes); !errors.Is(err, ErrClosed) {
		t.Errorf("changes: %v", err)
	}
	if len(r.cache.at) != 0 || r.Close() != nil {
		t.Error("the cache, or closing again")
	}
}

// TestSign: what a store signs anybody with its public keyset can check, and
// rotation and other operators' keys do not change that.
func TestSign(t *testing.T) {
	ctx := context.Background()
	fsys := disks(t)["memory"]
	r := mustCreate(t, fsys, "a")
	msg := []byte("these keys were destroyed")
	public, err := r.Public()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.AddPrimary(ctx); err != nil {
		t.Fatal(err)
	}
	if err := r.Rewrap(ctx, keytest.New("b")); err != nil {
		t.Fatal(err)
	}
	r = mustOpen(t, fsys, "b")
	sig, err := r.Sign(msg)
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(public, msg, sig); err != nil {
		t.Error(err)
	}
	if again, err := r.Public(); err != nil || string(again) != string(public) || strings.Contains(string(public), " ") {
		t.Errorf("%s\nbecame %s, %v", public, again, err)
	}
	if Verify(public, append(msg, '!'), sig) == nil || Verify(public, msg, sig[:len(sig)-1]) == nil {
		t.Error("a forged message or signature is accepted")
	}
	other, err := mustCreate(t, disks(t)["memory"], "a").Public()
	if err != nil || Verify(other, msg, sig) == nil || Verify([]byte("{}"), msg, sig) == nil {
		t.Errorf("another store's keyset is accepted, or none: %v", err)
	}
}

// TestRotationIsBounded: a keyset cannot outgrow what a KMS takes.
func TestRotationIsBounded(t *testing.T) {
	ctx := context.Background()
	fsys := disks(t)["memory"]
	r := mustCreate(t, fsys, "a")
	for range maxKeysetKeys - 1 {
		if err := r.AddPrimary(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Renew(seal.ID{}); err != nil {
			t.Fatal(err)
		}
	}
	plain, err := r.keyset.Load().appendSecrets()
	if err != nil || len(plain) > 4096 || len(r.Keyset().Keys) != maxKeysetKeys {
		t.Errorf("%d keys, %d bytes, %v", len(r.Keyset().Keys), len(plain), err)
	}
	if err := r.AddPrimary(ctx); err == nil || !strings.Contains(err.Error(), "finish the rotation") {
		t.Errorf("one more: %v", err)
	}
	for g := range uint32(maxKeysetKeys - 1) {
		if err := r.Drop(seal.ID{}, g+1); err != nil {
			t.Fatal(err)
		}
	}
	if ids, err := r.Retire(ctx); err != nil || len(ids) != maxKeysetKeys-1 {
		t.Errorf("retired %d, %v", len(ids), err)
	}
	if err := r.AddPrimary(ctx); err != nil {
		t.Error(err)
	}
}
