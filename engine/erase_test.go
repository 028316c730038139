package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/keys"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
	"github.com/chromad/chromad/segment"
	"github.com/chromad/chromad/wal"
)

// bytesOf is everything that can be read on a disk: the bytes of its files,
// what they hold when they are decrypted with every key that is there, and
// texts as they were before they were compressed.
func bytesOf(t testing.TB, fs *faultfs.FS, op OperatorKey) map[string][]byte {
	t.Helper()
	out := contents(t, fs)
	read := map[string][]byte{}
	for name, b := range out {
		read[name] = []byte(name + "\n" + b)
	}
	var in seal.Keys = seal.Plain()
	var ring *keys.Ring
	if op != nil {
		r, err := keys.Open(context.Background(), fs, seal.ID{}, op, true)
		check(t, err)
		in, ring = r, r
	}
	for name := range out {
		h, err := disk.ReadHeader(fs, name)
		if err != nil || h.Kind == seal.KindKey || h.Kind == seal.KindKeyset {
			continue
		}
		if _, err := in.Reader(h.Address(0), h.KeyID); errors.Is(err, ErrKey) {
			continue // shredded
		}
		switch h.Kind {
		case seal.KindLog:
			read[name] = append(read[name], logBytes(t, fs, in, ring, h)...)
		default:
			read[name] = append(read[name], fileBytes(t, fs, in, name, h)...)
		}
	}
	return read
}

func fileBytes(t testing.TB, fs *faultfs.FS, in seal.Keys, name string, h disk.Header) (out []byte) {
	f, err := disk.OpenFile(fs, name, h, disk.Info{}, in)
	if err != nil { // unfinished
		return nil
	}
	defer f.Close()
	for _, kind := range f.Kinds() {
		s, _ := f.Section(kind)
		b, err := s.Bytes(0, s.Len())
		if err != nil && strings.HasPrefix(name, disk.TmpDir+"/") { // torn before it had a name
			continue
		}
		check(t, err)
		out = append(out, b...)
	}
	if h.Kind != seal.KindSegment {
		return out
	}
	spec := segment.Spec{Store: h.Store, Collection: h.Collection, Number: h.Number, File: h.File}
	r, err := segment.Open(fs, in, spec, segment.Info{})
	if err != nil {
		return out
	}
	defer r.Close()
	for row := range uint32(r.Rows()) {
		doc, _, err := r.Document(row)
		check(t, err)
		m, err := r.Metadata(row)
		check(t, err)
		uri, _, err := r.URI(row)
		check(t, err)
		out = append(out, fmt.Sprint(doc, m, uri)...)
	}
	return out
}

func logBytes(t testing.TB, fs *faultfs.FS, in seal.Keys, ring *keys.Ring, h disk.Header) (out []byte) {
	db := &DB{store: h.Store, ring: ring}
	for f, err := range wal.Frames(fs, h.Number, wal.Options{Store: h.Store, Keys: in}) {
		if err != nil {
			return out
		}
		for e := range f.Entries() {
			out = append(out, e.Payload...)
			if plain, err := db.openEntry(nil, e.Payload); err == nil {
				out = append(out, plain...)
			}
		}
	}
	return out
}

// canaries are texts that are to be found, by what they are.
type canaries map[string][]byte

func (c canaries) text(what string) string {
	s := "CANARY-" + what + "-ZQX"
	c[what] = []byte(s)
	return s
}

func (c canaries) vector(what string, seed float32) []float32 {
	v := []float32{seed * 1.2345, -seed * 7.891, seed / 3.3, -seed / 7.7}
	for _, x := range v {
		c[what] = binary.LittleEndian.AppendUint32(c[what], math.Float32bits(x))
	}
	return v
}

// found returns where canaries are.
func (c canaries) found(read map[string][]byte) map[string][]string {
	out := map[string][]string{}
	for what, b := range c {
		for name, in := range read {
			if bytes.Contains(in, b) {
				out[what] = append(out[what], name)
			}
		}
	}
	return out
}

// doomed is a record all of whose parts are canaries.
func (c canaries) record(what string, seed float32) Record {
	return Record{
		ID: c.text(what + " id"), Embedding: c.vector(what+" vector", seed), Document: Optional(c.text(what + " document")), URI: Optional(c.text(what + " uri")),
		Metadata: Metadata{c.text(what + " key"): filter.String(c.text(what + " value")), "kept": filter.Int(1)},
	}
}

// aLife fills a store with what stays and what goes, by every way in which
// something can go, and returns canaries of both.
func aLife(t testing.TB, db *DB, fs *faultfs.FS) (gone, kept canaries) {
	t.Helper()
	ctx := context.Background()
	gone, kept = canaries{}, canaries{}
	_, err := db.CreateDatabase(ctx, DefaultTenant, gone.text("database name"))
	check(t, err)
	lost, err := db.Namespace(DefaultTenant, gone.text("database name")).Create(ctx, gone.text("collection in it"), Spec{})
	check(t, err)
	check(t, lost.Add(ctx, rec("1", 1)))
	c, err := db.Default().Create(ctx, gone.text("old name"), Spec{Metadata: Metadata{gone.text("spec key"): filter.String(gone.text("spec value"))}})
	check(t, err)
	db.jobs.ask(func() { c.jobs.damaged = true }) // so that merging is left to who erases
	named, err := db.Default().Create(ctx, gone.text("collection name"), Spec{Metadata: Metadata{"k": filter.String(gone.text("collection metadata"))}})
	check(t, err)
	check(t, db.SetTenantResource(ctx, "acme", gone.text("tenant resource")))
	check(t, set(db, "a", gone.text("setting")))
	check(t, set(db, "b", gone.text("removed setting")))
	fill := func(round string, seed float32) {
		for i := range 6 {
			check(t, c.Add(ctx, kept.record(fmt.Sprint("kept ", round, i), 100*seed+float32(i))))
		}
		for i, how := range []string{"deleted", "filtered", "updated", "upserted", "emptied"} {
			check(t, c.Add(ctx, gone.record(how+round, -50*seed-float32(i))))
		}
	}
	change := func(round string) {
		id := func(how string) string { return string(gone[how+round+" id"]) }
		_, err := c.Delete(ctx, Selection{IDs: []string{id("deleted")}})
		check(t, err)
		where, err := filter.ParseWhere([]byte(`{"` + string(gone["filtered"+round+" key"]) + `": "` + string(gone["filtered"+round+" value"]) + `"}`))
		check(t, err)
		n, err := c.Delete(ctx, Selection{Where: where})
		check(t, err)
		if n != 1 {
			t.Fatalf("%d records were filtered", n)
		}
		for _, how := range []string{"updated", "upserted"} {
			r := Record{ID: id(how), Embedding: []float32{1, 2, 3, 4}, Document: Optional("d"), URI: Optional("u"),
				Metadata: Metadata{string(gone[how+round+" key"]): filter.Null()}}
			if how == "updated" {
				check(t, c.Update(ctx, r))
			} else {
				check(t, c.Upsert(ctx, r))
			}
			delete(gone, how+round+" id") // it lives
		}
		_, err = c.Delete(ctx, Selection{IDs: []string{id("emptied")}})
		check(t, err)
	}
	check(t, named.Add(ctx, gone.record("of a deleted collection", 7)))
	fill("A", 1)
	check(t, db.Flush(ctx))
	check(t, db.writeCheckpoint(ctx))
	fill("B", 2)
	check(t, db.Flush(ctx))
	change("A")
	fill("C", 3)
	change("C") // in memory only
	change("B")
	check(t, c.Modify(ctx, Change{Name: Optional(kept.text("new name")), Metadata: &Metadata{"a": filter.Int(1)}}))
	check(t, db.SetTenantResource(ctx, "acme", "r"))
	check(t, set(db, "a", kept.text("kept setting")))
	check(t, set(db, "b", ""))
	check(t, db.Default().Delete(ctx, string(gone["collection name"])))
	check(t, db.DeleteDatabase(ctx, DefaultTenant, string(gone["database name"])))
	return gone, kept
}

// What was deleted before the call of EraseNow is in no file when it returns,
// in the clear or under any key that there is; what lives is all there, and
// the receipts say what happened, without a name.
func TestEraseNow(t *testing.T) {
	ctx := t.Context()
	for name, op := range map[string]OperatorKey{"plain": nil, "encrypted": operator("a")} {
		t.Run(name, func(t *testing.T) {
			fs := faultfs.New(1)
			o := Options{Keys: op, GraphMin: 4, OpenSegments: 2}
			db := openOn(t, fs, o)
			gone, kept := aLife(t, db, fs)
			before := gone.found(bytesOf(t, fs, op))
			for what := range gone {
				// Keys of metadata are in the checkpoint, under the store's key.
				shredded := op != nil && strings.Contains(what, "of a deleted collection") && !strings.HasSuffix(what, " key")
				if (before[what] == nil) != shredded {
					t.Errorf("%s: before, it is in %q: the test is blind", what, before[what])
				}
			}
			var last EraseProgress
			check(t, db.EraseNow(ctx, func(p EraseProgress) { last = p }))
			look := func(when string) {
				t.Helper()
				read := bytesOf(t, fs, op)
				if left := gone.found(read); len(left) > 0 {
					t.Errorf("%s: %v", when, left)
				}
				all := kept.found(read)
				for what := range kept {
					if all[what] == nil {
						t.Errorf("%s: %s is not found, and it is kept", when, what)
					}
				}
			}
			look("erased")
			if last.Segments == 0 || last.Bytes == 0 || last.Segments != last.SegmentsDone || last.Bytes != last.BytesDone {
				t.Errorf("progress: %+v", last)
			}
			c := collection(t, db, string(kept["new name"]))
			if n, err := c.Count(ctx); n != 3*(6+2) || err != nil {
				t.Errorf("%d records, %v", n, err)
			}
			for k := range c.Info().Keys {
				if !strings.Contains(k, "kept") {
					t.Errorf("key %q is still listed", k)
				}
			}
			check(t, db.Close())
			look("closed")
			o.fs = fs
			report, err := Check(ctx, "", &o, CheckOptions{})
			check(t, err)
			if len(report.Findings) > 0 {
				t.Error(report.Findings)
			}
			db = openOn(t, fs, o)
			look("opened")
			if since := db.erasure.unerased(); since != 0 {
				t.Errorf("something is said to be unerased since %d", since)
			}
			receiptsOf(t, db, op != nil)
			check(t, db.Close())
		})
	}
}

// receiptsOf judges the receipts of aLife.
func receiptsOf(t *testing.T, db *DB, encrypted bool) {
	t.Helper()
	var kinds []string
	for r, err := range db.Receipts(t.Context()) {
		if !encrypted && errors.Is(err, ErrKey) {
			return
		}
		check(t, err)
		public, err := db.PublicKey()
		check(t, err)
		check(t, r.Verify(public))
		s := r.Statement
		kinds = append(kinds, s.Kind)
		if s.Number != uint64(len(kinds)) || s.Store != db.store.String() || s.OperatorKey != "test://a" || s.RemovedAt == "" || s.DeletedFirst == "" {
			t.Errorf("%+v", s)
		}
		if s.Kind == "records" {
			if len(s.Keys) != 0 || len(s.Files) == 0 || len(s.Collections) != 1 || s.Collections[0].Rows == 0 {
				t.Errorf("%+v", s)
			}
			continue
		}
		if len(s.Keys) != 1 || s.DestroyedAt == "" || s.Collections[0].Rows != 1 || len(s.KeysetKeys) != 1 || len(s.Files) != 1 {
			t.Errorf("%+v", s)
		}
		want, err := NameHash(s.Store, "CANARY-collection name-ZQX")
		check(t, err)
		if (s.Collections[0].Name == want) != (s.Kind == "collection") {
			t.Errorf("%s: the name's hash is %s", s.Kind, s.Collections[0].Name)
		}
	}
	if !slices.Equal(kinds, []string{"collection", "database", "records"}) {
		t.Errorf("receipts of %v", kinds)
	}
}

// The bytes of the disk as a reader of old blocks has them are not ours to
// erase: only that nothing that is written from then on holds them.
func TestErasedIsNotWrittenAgain(t *testing.T) {
	ctx := t.Context()
	fs := faultfs.New(1)
	db := openOn(t, fs, Options{GraphMin: 4})
	gone, _ := aLife(t, db, fs)
	check(t, db.EraseNow(ctx, nil))
	read := map[string][]byte{}
	fs.Written(func(name string, p []byte) { read[name] = append(read[name], p...) })
	check(t, db.Compact(ctx))
	check(t, db.Close())
	db = openOn(t, fs, Options{GraphMin: 4})
	check(t, collection(t, db, "CANARY-new name-ZQX").Add(ctx, rec4("x")))
	check(t, db.Compact(ctx))
	check(t, db.Close())
	if left := gone.found(read); len(left) > 0 {
		t.Errorf("written again: %v", left)
	}
	if len(slices.Collect(maps.Keys(read))) < 4 {
		t.Errorf("the recorder saw %d files", len(read))
	}
}

func rec4(id string) Record { return Record{ID: id, Embedding: []float32{1, 2, 3, 4}} }

// Erasing, changes of keys, compactions, readers and writers at once: every
// round what was deleted before EraseNow was called is gone when it returns,
// and nothing that lives is.
func TestEraseUnderLoad(t *testing.T) {
	ctx := t.Context()
	fs := faultfs.New(1)
	o := keyed(Options{GraphMin: 4, MemtableRows: 16, OpenSegments: 2, Workers: 1})
	db := openOn(t, fs, o)
	c := newCollection(t, db, "c")
	var wg sync.WaitGroup
	stop := make(chan struct{})
	errs := make(chan error, 8)
	loop := func(f func(n int) error) {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := f(n); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	loop(func(n int) error { return c.Upsert(ctx, rec4(fmt.Sprint("busy", n%50))) })
	loop(func(int) error { return db.Compact(ctx) })
	loop(func(int) error { return db.RotateKeys(ctx, nil) })
	loop(func(int) error {
		for _, err := range c.Get(ctx, Selection{}, IncludeAll) {
			if err != nil {
				return err
			}
		}
		return nil
	})
	for round := range 6 {
		gone := canaries{}
		r := gone.record(fmt.Sprint("round ", round), float32(round+2))
		check(t, c.Add(ctx, r))
		other := newCollection(t, db, gone.text(fmt.Sprint("name ", round)))
		check(t, other.Add(ctx, r))
		if round%2 == 0 {
			check(t, db.Flush(ctx))
		}
		_, err := c.Delete(ctx, Selection{IDs: []string{r.ID}})
		check(t, err)
		check(t, db.Default().Delete(ctx, string(gone[fmt.Sprint("name ", round)])))
		check(t, db.EraseNow(ctx, nil))
		if left := gone.found(bytesOf(t, fs.Clone(), o.Keys)); len(left) > 0 {
			t.Errorf("round %d: %v", round, left)
		}
	}
	close(stop)
	wg.Wait()
	select {
	case err := <-errs:
		t.Fatal(err)
	default:
	}
	if n, err := c.Count(ctx); err != nil || n > 50 {
		t.Errorf("%d, %v", n, err)
	}
	check(t, db.Close())
	if left := (canaries{"a": []byte("CANARY-round"), "b": []byte("CANARY-name")}).found(bytesOf(t, fs, o.Keys)); len(left) > 0 {
		t.Errorf("in the end: %v", left)
	}
}
