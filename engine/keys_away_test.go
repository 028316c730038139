package engine

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// TestKeyAwayOnce: the file of a collection's key cannot be read while the
// store is open once, after a merge that no checkpoint knows. The edit of the
// merge stays closed, so the segments before it and the log are all there is
// of the collection, and the checkpoint that is written meanwhile keeps both.
func TestKeyAwayOnce(t *testing.T) {
	ctx := t.Context()
	fs := faultfs.New(1)
	open := func() (*DB, *Collection) {
		t.Helper()
		db := openOn(t, fs, keyed(Options{GraphMin: 4, Workers: 1}))
		db.jobs.stop()
		return db, collection(t, db, "c")
	}
	crash := func(seed uint64) { t.Helper(); fs = fs.Crash(rand.New(rand.NewPCG(seed, 1))) }

	db := openOn(t, fs, keyed(Options{GraphMin: 4, Workers: 1}))
	db.jobs.stop()
	c := newCollection(t, db, "c")
	for i := range 3 {
		check(t, c.Add(ctx, rec(fmt.Sprint(i), float32(i))))
		check(t, db.Flush(ctx))
	}
	check(t, db.writeCheckpoint(ctx)) // names three segments
	check(t, c.Upsert(ctx, rec("1", 10), rec("3", 3)))
	check(t, db.Flush(ctx))
	if did, err := c.compact(ctx, pickAll); !did || err != nil {
		t.Fatal(did, err)
	}
	crash(1)
	open() // knows the merge, and tidies
	crash(2)
	in := fs.Inject(faultfs.Rule{Op: faultfs.OpMap, Path: keyFilesOf(fs, c.id)[0], Forever: true})
	db, c = open()
	if _, err := c.Count(ctx); err == nil || in.Fired() == 0 {
		t.Fatalf("counted without a key: %v, fired %d", err, in.Fired())
	}
	check(t, db.writeCheckpoint(ctx))
	check(t, db.Close())
	in.Remove()

	db, c = open()
	for i, want := range []float32{0, 10, 2, 3} {
		found, err := c.Query(ctx, []float32{want}, 1, &QueryOptions{Exact: true})
		if err != nil || len(found) != 1 || found[0].ID != fmt.Sprint(i) || found[0].Distance != 0 {
			t.Errorf("%d: %v, %v", i, found, err)
		}
	}
	if n, err := c.Count(ctx); n != 4 || err != nil {
		t.Errorf("%d records, %v", n, err)
	}
	if report, err := db.Verify(ctx); err != nil || !report.Clean() {
		t.Errorf("%v, %v", report, err)
	}
	check(t, db.Close())
}
