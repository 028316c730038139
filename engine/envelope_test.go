package engine

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"testing"

	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// sealedEntries are the envelopes of an entry of each kind.
func sealedEntries(t testing.TB, c *Collection) (plain, sealed [][]byte) {
	t.Helper()
	db := c.db
	edit, err := appendEdit(db.entryBuffer(0), c.id, exampleManifest())
	check(t, err)
	for _, b := range [][]byte{
		(&writeEntry{collection: c.id, kind: writeAdd, records: []Record{{ID: "a", Embedding: []float32{1}, Document: Optional("canary")}}}).append(db.entryBuffer(100)),
		(&deleteEntry{collection: c.id, ids: []string{"canary"}}).append(db.entryBuffer(0)),
		edit,
	} {
		plain = append(plain, slices.Clone(b[envelopeMore:]))
		e, _, err := c.sealEntry(b)
		check(t, err)
		sealed = append(sealed, e)
	}
	return plain, sealed
}

// An envelope opens to the entry that was sealed, shows nothing of it but its
// operation and its collection, and is refused with any bit changed.
func TestEnvelope(t *testing.T) {
	db, _ := newDB(t, keyed(Options{}))
	c, other := newCollection(t, db, "c"), newCollection(t, db, "other")
	plain, sealed := sealedEntries(t, c)
	for i, e := range sealed {
		got, err := db.openEntry(nil, e)
		if err != nil || !bytes.Equal(got, plain[i]) {
			t.Fatalf("entry %d: %x, %v, want %x", i, got, err, plain[i])
		}
		if op(e[0]).plain() != op(plain[i][0]) || len(e) != len(plain[i])+envelopeMore+envelopeSealed || bytes.Contains(e, []byte("canary")) {
			t.Errorf("entry %d: %x of %x", i, e, plain[i])
		}
		for bit := range 8 * len(e) {
			b := slices.Clone(e)
			b[bit/8] ^= 1 << (bit % 8)
			if got, err := db.openEntry(nil, b); err == nil {
				t.Fatalf("entry %d, bit %d: opens to %x", i, bit, got)
			}
		}
		for n := 1; n < len(e); n++ {
			if _, err := db.openEntry(nil, e[:n]); err == nil {
				t.Fatalf("entry %d opens with %d bytes", i, n)
			}
		}
		moved := slices.Clone(e)
		copy(moved[1:], other.id[:])
		if _, err := db.openEntry(nil, moved); !errors.Is(err, ErrKey) {
			t.Errorf("entry %d opens in another collection: %v", i, err)
		}
	}
	for i, b := range plain {
		if _, err := db.openEntry(nil, b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("entry %d that is not encrypted: %v", i, err)
		}
	}
	check(t, db.Default().Delete(t.Context(), "c"))
	if _, err := db.openEntry(nil, sealed[0]); !errors.Is(err, ErrKey) {
		t.Errorf("of a collection that was deleted: %v", err)
	}
	db, _ = newDB(t, Options{})
	if _, err := db.openEntry(nil, sealed[0]); !errors.Is(err, ErrKey) {
		t.Errorf("in a plain store: %v", err)
	}
}

// A session ends after so many entries, and no two have the same id.
func TestSessions(t *testing.T) {
	db, _ := newDB(t, keyed(Options{}))
	c := newCollection(t, db, "c")
	seen := map[seal.ID]bool{}
	for range 3 {
		_, at, term, err := c.sealing.next(c)
		check(t, err)
		if seen[at.File] || term != 0 {
			t.Errorf("session %v, term %d, once more", at.File, term)
		}
		seen[at.File] = true
		_, again, _, err := c.sealing.next(c)
		check(t, err)
		if again.File != at.File || c.sealing.left != sessionEntries-2 {
			t.Errorf("%d entries are left of %d", c.sealing.left, sessionEntries)
		}
		c.sealing.left = 0
	}
}

// A collection that is deleted before a write comes to sealing its entry is not
// found, as it is for all later ones: its key has not gone astray.
func TestSealedTooLate(t *testing.T) {
	db, _ := newDB(t, keyed(Options{}))
	c := newCollection(t, db, "c")
	check(t, db.Default().Delete(t.Context(), "c"))
	_, _, err := c.sealEntry((&deleteEntry{collection: c.id, ids: []string{"a"}}).append(db.entryBuffer(0)))
	if !errors.Is(err, ErrNotFound) || errors.Is(err, ErrKey) {
		t.Errorf("sealed for a collection that was deleted: %v", err)
	}
}

// The key changes between the sealing of an entry and its place in the log:
// it is sealed once more, or it would be lost with the old key.
func TestSealedAgain(t *testing.T) {
	ctx := t.Context()
	fs := faultfs.New(1)
	db := openOn(t, fs, keyed(Options{}))
	c := newCollection(t, db, "c")
	c.writeMu.Lock()
	done := make(chan error)
	go func() { done <- c.Add(ctx, rec("a", 1)) }()
	for sealed := false; !sealed; {
		c.sealing.mu.Lock()
		sealed = c.sealing.left == sessionEntries-1
		c.sealing.mu.Unlock()
		runtime.Gosched()
	}
	check(t, db.ring.AddPrimary(ctx))
	_, err := db.ring.Renew(seal.ID(c.id))
	check(t, err)
	c.sealing.renew()
	check(t, db.ring.Drop(seal.ID(c.id), 1))
	c.writeMu.Unlock()
	check(t, <-done)
	left := fs.Clone()
	db.Close()
	db = openOn(t, left, keyed(Options{}))
	if got := idsOf(getAll(t, collection(t, db, "c"), Selection{}, 0)); got != "a" {
		t.Errorf("the collection holds %q", got)
	}
	check(t, db.Close())
}

func FuzzOpenEntry(f *testing.F) {
	db := openOn(f, faultfs.New(1), keyed(Options{}))
	f.Cleanup(func() { db.Close() })
	c := newCollection(f, db, "c")
	plain, sealed := sealedEntries(f, c)
	for i := range sealed {
		addDamaged(f, sealed[i])
		addDamaged(f, plain[i])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return // replay has seen to that
		}
		bounded(t, b, 20, func() {
			got, err := db.openEntry(nil, b)
			if err == nil && !slices.ContainsFunc(sealed, func(e []byte) bool { return bytes.Equal(e, b) }) {
				t.Errorf("what nobody sealed opens to %x", got)
			}
		})
	})
}
