package engine

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// A store that was written by today's clock is opened by one that is a
// quarter of a century behind, which then jumps a century ahead while the
// store is open, and by today's again: the hour decides nothing. Recovery after
// a power cut and after Close, and background work, go by the log's positions.
func TestClockJumps(t *testing.T) {
	disk := faultfs.New(1)
	n := 0
	visit := func(t *testing.T, cut bool, between func()) {
		ctx, year := t.Context(), time.Now().Year()
		db := openOn(t, disk, busyOptions)
		c, _, err := db.Default().GetOrCreate(ctx, "c", Spec{})
		check(t, err)
		verify := func() {
			t.Helper()
			for i := range n {
				id, want := fmt.Sprint(i), float32(i)
				if i%5 == 0 {
					want++ // written twice
				}
				rs := getAll(t, c, Selection{IDs: []string{id}}, IncludeEmbedding)
				if gone := i%7 == 0; gone != (len(rs) == 0) || !gone && rs[0].Embedding[0] != want {
					t.Fatalf("in %d: %s is %v", time.Now().Year(), id, rs)
				}
			}
		}
		write := func() {
			for end := n + 100; n < end; n++ {
				id := fmt.Sprint(n)
				check(t, c.Add(ctx, rec(id, float32(n))))
				if n%5 == 0 {
					check(t, c.Upsert(ctx, rec(id, float32(n+1))))
				}
				if n%7 == 0 {
					_, err := c.Delete(ctx, Selection{IDs: []string{id}})
					check(t, err)
				}
			}
		}
		verify()
		write()
		between()
		verify()
		write()
		check(t, db.Compact(ctx))
		write()
		verify()
		if cut {
			live := disk
			disk = live.Clone() // as a crash leaves it
			check(t, db.Close())
		} else {
			check(t, db.Close())
		}
		t.Logf("opened in %d, left in %d", year, time.Now().Year())
	}
	for _, cut := range []bool{false, true} {
		visit(t, cut, func() {})
		synctest.Test(t, func(t *testing.T) { // its clock begins with the year 2000
			visit(t, cut, func() { time.Sleep(100 * 365 * 24 * time.Hour) })
		})
	}
	visit(t, false, func() {})
}
