package engine

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// TestStats follows the figures through a store's life.
func TestStats(t *testing.T) {
	ctx := t.Context()
	fs := faultfs.New(1)
	db := openOn(t, fs, Options{})
	if s := db.Stats(); s.LogSeq != 0 || s.Checkpoint != 1 || s.Collections != 0 || s.Flushes != (Work{}) || s.Failed {
		t.Errorf("a new store: %+v", s)
	}
	c := newCollection(t, db, "c")
	newCollection(t, db, "d")
	var recs []Record
	for i := range 5 {
		recs = append(recs, rec(fmt.Sprint(i), float32(i)))
	}
	check(t, c.Add(ctx, recs...))
	s := db.Stats()
	if s.Collections != 2 || s.Records != 5 || s.MemtableRows != 5 || s.MemtableBytes < 5*256 || s.Segments != 0 || s.LogSeq != 3 || s.LogBytes == 0 {
		t.Errorf("rows in memory: %+v", s)
	}
	for i := range 3 { // the last one has a deletion and no rows
		check(t, db.Flush(ctx))
		if i == 0 {
			check(t, c.Add(ctx, rec("more", 1)))
		} else if _, err := c.Delete(ctx, Selection{IDs: []string{"0"}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Query(ctx, []float32{1}, 1, nil); err != nil {
		t.Fatal(err)
	}
	s = db.Stats()
	files := segmentBytes(fs, t)
	if s.Records != 5 || s.MemtableRows != 0 || s.Segments != 2 || s.SegmentBytes != files || s.OpenSegments != 2 ||
		s.Flushes != (Work{3, 6, files}) || s.Compactions != (Work{}) {
		t.Errorf("rows in segments of %d bytes: %+v", files, s)
	}
	check(t, db.Compact(ctx))
	s = db.Stats()
	files = segmentBytes(fs, t)
	if s.Segments != 1 || s.SegmentBytes != files || s.Compactions != (Work{1, 5, files}) || s.Checkpoints.Runs != 1 || s.Checkpoint != 2 || s.Checkpoints.Bytes == 0 {
		t.Errorf("merged into %d bytes: %+v", files, s)
	}
	check(t, db.Close())

	db = openOn(t, fs, Options{ReadOnly: true})
	if again := db.Stats(); again.Checkpoint != 3 || again.Records != 5 || again.LogSeq != s.LogSeq || again.SegmentBytes != files || again.Compactions != (Work{}) {
		t.Errorf("opened again: %+v", again)
	}
	check(t, db.Close())
}

func segmentBytes(fs *faultfs.FS, t *testing.T) (n int64) {
	t.Helper()
	for _, name := range fs.Files() {
		if strings.HasSuffix(name, segmentSuffix) {
			b, err := fs.Content(name)
			check(t, err)
			n += int64(len(b))
		}
	}
	return n
}

// A store whose disk has failed says so, and still answers.
func TestStatsFailed(t *testing.T) {
	db, fs := newDB(t, Options{})
	c := newCollection(t, db, "c")
	check(t, c.Add(t.Context(), rec("a", 1)))
	before := db.Stats()
	fs.CrashAt(fs.Ops())
	if err := c.Add(t.Context(), rec("b", 2)); !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrFailed) {
		t.Fatalf("a write on a disk that is gone: %v", err)
	}
	after := db.Stats()
	before.Failed = true
	if after != before {
		t.Errorf("%+v, was %+v", after, before)
	}
	db.Close()
}
