package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Collections are made, come to rest, are written to and searched while they are merged,
// and are dropped; keys are changed, and what is deleted is erased. Merges at rest lose no
// record and bring none back, here and after a power cut. No check depends on the pauses.
func TestRestUnderLoad(t *testing.T) { bothWays(t, restUnderLoad) }

func restUnderLoad(t *testing.T, key OperatorKey) {
	ctx := t.Context()
	o := Options{Keys: key, GraphMin: 1000, Workers: 1, RestAfter: 1} // merges build graphs: they take long
	db, fs := newDB(t, o)
	var writers, others sync.WaitGroup
	var over atomic.Bool
	held := make([]map[string]float32, 3)
	for w := range held {
		held[w] = map[string]float32{}
		writers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 15))
			for range rounds(12) {
				if err := restAndWrite(ctx, r, db, fmt.Sprint("c", w), held[w]); err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
			}
		})
	}
	others.Go(func() {
		r := rand.New(rand.NewPCG(9, 15))
		for !over.Load() {
			if err := disturbRest(ctx, r, db); err != nil {
				t.Error(err)
				return
			}
		}
	})
	writers.Wait()
	over.Store(true)
	others.Wait()
	check(t, wantHeld(ctx, db, held))
	for w := range held {
		check(t, untilOne(ctx, collection(t, db, fmt.Sprint("c", w)), held[w]))
	}
	check(t, wantHeld(ctx, db, held))
	again := openOn(t, fs.Clone().Crash(rand.New(rand.NewPCG(1, 1))), o)
	check(t, wantHeld(ctx, again, held))
	check(t, again.Close())
}

// restAndWrite makes a collection anew, of segments that are worth a merge at rest, and
// changes records while that is under way.
func restAndWrite(ctx context.Context, r *rand.Rand, db *DB, name string, held map[string]float32) error {
	if err := db.Default().Delete(ctx, name); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	clear(held)
	c, err := db.Default().Create(ctx, name, Spec{})
	if err != nil {
		return err
	}
	for _, rows := range worthwhile {
		err = errors.Join(err, putSome(ctx, r, c, held, rows), db.Flush(ctx))
	}
	for range 1 + r.IntN(6) {
		if err != nil {
			return err
		}
		time.Sleep(time.Duration(r.IntN(2000)) * time.Microsecond)
		switch r.IntN(3) {
		case 0:
			err = putSome(ctx, r, c, held, 1+r.IntN(50))
		case 1:
			var gone []string
			for id := range held {
				if gone = append(gone, id); len(gone) == 50 {
					break
				}
			}
			var n int
			if n, err = c.Delete(ctx, Selection{IDs: gone}); n != len(gone) {
				err = errors.Join(err, fmt.Errorf("%d of %d deleted", n, len(gone)))
			}
			for _, id := range gone {
				delete(held, id)
			}
		default:
			for id, value := range held {
				found, qerr := c.Query(ctx, []float32{value, 1}, 1, &QueryOptions{Exact: true})
				if qerr != nil || len(found) != 1 || found[0].Distance != 0 {
					return fmt.Errorf("%s is not found: %v, %w", id, found, qerr)
				}
				break
			}
		}
	}
	return err
}

// restIDs are so many that hardly one is there twice, which would make segments due.
const restIDs = 1 << 20

// putSome upserts so many records of random ids.
func putSome(ctx context.Context, r *rand.Rand, c *Collection, held map[string]float32, n int) error {
	batch := make([]Record, 0, n)
	seen := map[string]bool{}
	for len(batch) < n {
		id := strconv.Itoa(r.IntN(restIDs))
		if seen[id] {
			continue
		}
		seen[id] = true
		held[id] = float32(r.IntN(1 << 20))
		batch = append(batch, rec(id, held[id], 1))
	}
	return c.Upsert(ctx, batch...)
}

// disturbRest does something for which merges at rest are given up, now and then.
func disturbRest(ctx context.Context, r *rand.Rand, db *DB) error {
	time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
	switch r.IntN(4) {
	case 0:
		return rotateIfKeyed(ctx, db)
	case 1:
		return db.EraseNow(ctx, nil)
	case 2:
		return db.Flush(ctx)
	}
	return nil
}

// untilOne adds what is worth a merge and searches until that was made.
func untilOne(ctx context.Context, c *Collection, held map[string]float32) error {
	batch := make([]Record, 2*mergeFew)
	for i := range batch {
		batch[i] = rec(fmt.Sprint("last-", i), float32(i), 1)
		held[batch[i].ID] = float32(i)
	}
	if err := errors.Join(c.Add(ctx, batch...), c.db.Flush(ctx)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for len(c.state.Load().version.segments) > 1 {
		if _, err := c.Query(ctx, []float32{1, 1}, 1, nil); err != nil {
			return fmt.Errorf("%d segments, and no merge at rest comes: %w", len(c.state.Load().version.segments), err)
		}
	}
	return nil
}

// wantHeld wants the collections to hold these records and no others.
func wantHeld(ctx context.Context, db *DB, held []map[string]float32) error {
	for w, want := range held {
		c, err := db.Default().Collection(ctx, fmt.Sprint("c", w))
		if err != nil {
			return err
		}
		n := 0
		for r, err := range c.Get(ctx, Selection{}, IncludeEmbedding) {
			if err != nil {
				return err
			}
			if value, there := want[r.ID]; !there || r.Embedding[0] != value {
				return fmt.Errorf("collection %d: %s is %v, want %v, %t", w, r.ID, r.Embedding, value, there)
			}
			n++
		}
		if n != len(want) {
			return fmt.Errorf("collection %d: %d records, want %d", w, n, len(want))
		}
	}
	return nil
}
