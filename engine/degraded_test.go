package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
	"github.com/chromad/chromad/segment"
)

// three is a store with three equal collections of one segment each.
func three(t *testing.T) *faultfs.FS {
	t.Helper()
	ctx := t.Context()
	fs := faultfs.New(1)
	db := openOn(t, fs, Options{GraphMin: 4})
	for _, name := range []string{"c0", "c1", "c2"} {
		c := newCollection(t, db, name)
		var recs []Record
		for i := range 40 {
			recs = append(recs, Record{
				ID: fmt.Sprintf("r%02d", i), Embedding: []float32{float32(i), 1}, Document: Optional(fmt.Sprintf("number %d", i)),
				URI: Optional("file:///x"), Metadata: Metadata{"n": filter.Int(int64(i))},
			})
		}
		check(t, c.Add(ctx, recs...))
	}
	check(t, db.Flush(ctx))
	check(t, db.Close())
	return fs
}

// used reads and writes a collection in every way; answers must be right.
func used(ctx context.Context, c *Collection) error {
	found, err := c.Query(ctx, []float32{7, 1}, 2, &QueryOptions{Where: filter.Gte("n", filter.Int(5)), Include: IncludeAll})
	if err != nil {
		return err
	}
	if len(found) != 2 || found[0].ID != "r07" || found[0].Distance != 0 {
		return fmt.Errorf("found %v", found)
	}
	n := 0
	for r, err := range c.Get(ctx, Selection{IDs: []string{"r03", "r09", "nobody"}}, IncludeAll) {
		if err != nil {
			return err
		}
		if r.Document == nil || r.Metadata == nil {
			return fmt.Errorf("record %v", r)
		}
		n++
	}
	if n != 2 {
		return fmt.Errorf("%d records of two", n)
	}
	return c.Upsert(ctx, Record{ID: "r00", Embedding: []float32{0, 1}, Document: Optional("changed")})
}

// Whichever section of one collection is damaged, the others serve: at open,
// when they are used, when everything is compacted. Damage in an index costs
// the collection itself nothing but time, is told once, and goes away.
func TestDamageOfEachSection(t *testing.T) {
	ctx := t.Context()
	fs := three(t)
	db := openOn(t, fs, Options{GraphMin: 4})
	name := segment.Name(collection(t, db, "c1").manifest.segments[0].info.Number)
	check(t, db.Close())
	parts := partsIn(t, fs, name)
	for _, p := range parts {
		kind := segment.SectionName(p.Kind)
		t.Run(kind, func(t *testing.T) {
			hit := fs.Clone()
			check(t, hit.Damage(name, func(b []byte) []byte {
				clear(b[p.Offset:p.End])
				b[p.Offset] ^= 0xff
				return b
			}))
			index := slices.Contains([]string{"graph", "filter index", "id table"}, kind)
			var told atomic.Int64
			made := make(chan CompactEvent, 10)
			db := openOn(t, hit, Options{GraphMin: 4, Events: &Events{
				Degraded:  func(DegradedEvent) { told.Add(1) },
				Compacted: func(e CompactEvent) { made <- e },
			}})
			for _, other := range []string{"c0", "c2"} {
				if err := used(ctx, collection(t, db, other)); err != nil {
					t.Errorf("%s: %v", other, err)
				}
			}
			err := used(ctx, collection(t, db, "c1"))
			switch {
			case index && err != nil, !index && !errors.Is(err, ErrCorrupt):
				t.Errorf("the collection itself: %v", err)
			case index:
				e := <-made
				if e.Segments != 1 || e.Collection != collection(t, db, "c1").ID() || told.Load() != 1 {
					t.Errorf("%+v, told %d times", e, told.Load())
				}
			}
			if err := db.Compact(ctx); index && err != nil || err != nil && !errors.Is(err, ErrCorrupt) {
				t.Errorf("compact: %v", err)
			}
			if s := db.Stats(); index && s.DegradedSegments != 0 {
				t.Errorf("%d segments are degraded", s.DegradedSegments)
			}
			for _, other := range []string{"c0", "c2"} {
				if err := used(ctx, collection(t, db, other)); err != nil || len(collection(t, db, other).manifest.segments) != 1 {
					t.Errorf("%s: %v, %d segments", other, err, len(collection(t, db, other).manifest.segments))
				}
			}
			check(t, db.Close())
			if r := checked(t, hit, nil); r.Clean() != index {
				t.Errorf("%+v", r.Findings)
			}
		})
	}
}

// While it is degraded, a segment is counted.
func TestDegradedIsCounted(t *testing.T) {
	fs := three(t)
	for _, p := range partsIn(t, fs, segment.Name(1)) {
		if segment.SectionName(p.Kind) == "filter index" {
			check(t, fs.Damage(segment.Name(1), func(b []byte) []byte {
				b[p.Offset] ^= 1
				return b
			}))
		}
	}
	db := openOn(t, fs, Options{GraphMin: 4, ReadOnly: true}) // which makes nothing anew
	for _, name := range []string{"c0", "c1", "c2"} {
		_, err := collection(t, db, name).Query(t.Context(), []float32{7, 1}, 2, &QueryOptions{Where: filter.Gte("n", filter.Int(5))})
		check(t, err)
	}
	if n := db.Stats().DegradedSegments; n != 1 {
		t.Errorf("%d segments are degraded", n)
	}
	check(t, db.Close())
}

func partsIn(t *testing.T, fs *faultfs.FS, name string) []disk.Part {
	t.Helper()
	h, err := disk.ReadHeader(fs, name)
	check(t, err)
	f, err := disk.OpenFile(fs, name, h, disk.Info{}, seal.Plain())
	check(t, err)
	defer f.Close()
	return f.Parts()
}
