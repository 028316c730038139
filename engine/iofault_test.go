package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// The k-th read of each kind fails, is short, or has a bit flipped, while a
// store is opened, read and merged: an error or what is right, never anything
// else, and the next Open finds all of it.
func TestReadFaults(t *testing.T) {
	heavy(t)
	bothWays(t, readFaults)
}

func readFaults(t *testing.T, key OperatorKey) {
	ctx := t.Context()
	whole, _, m := spoilt(t, key)
	for _, rule := range []faultfs.Rule{
		{Op: faultfs.OpRead}, {Op: faultfs.OpRead, Fault: faultfs.Short}, {Op: faultfs.OpRead, Fault: faultfs.Flip},
		{Op: faultfs.OpMap}, {Op: faultfs.OpMap, Fault: faultfs.Flip}, {Op: faultfs.OpMap, Err: vfs.ErrNoHandle},
		{Op: faultfs.OpOpen}, {Op: faultfs.OpOpen, Err: vfs.ErrNoHandle}, {Op: faultfs.OpList}, {Op: faultfs.OpStat},
	} {
		for _, forever := range []bool{false, true} {
			if forever && rule.Fault == faultfs.Flip {
				continue // a device that lies each time it is asked is believed
			}
			for k := 0; ; k += 1 + k {
				fs := whole.Clone()
				rule.Nth, rule.Forever = k, forever
				in := fs.Inject(rule)
				if err := readAndMerge(ctx, fs, key, m); err != nil {
					t.Fatalf("%v %d, fault %d, for ever %v: %v", rule.Op, k, rule.Fault, forever, err)
				}
				fired := in.Fired() > 0
				in.Remove()
				if err := reopened(fs, key, m, m); err != nil {
					t.Fatalf("%v %d, fault %d, for ever %v: afterwards: %v", rule.Op, k, rule.Fault, forever, err)
				}
				if n := fs.Handles(); n != 0 {
					t.Fatalf("%v %d: %d handles are open", rule.Op, k, n)
				}
				if !fired {
					break
				}
				if testing.Short() {
					k += 5
				}
			}
		}
	}
}

// readAndMerge uses a store whose disk has a fault; errors are no matter, what
// is read is.
func readAndMerge(ctx context.Context, fs *faultfs.FS, key OperatorKey, m model) error {
	o := tourOptions(fs, key)
	db, err := Open("", o)
	if err != nil {
		return nil
	}
	db.jobs.stop()
	defer db.Close()
	for range 2 {
		for name, want := range m {
			c, err := db.Default().Collection(ctx, name)
			if err != nil {
				return err // the catalog is in memory
			}
			if d, err := want.diff(ctx, c); d != "" && err == nil {
				return fmt.Errorf("%s: %s", name, d)
			}
			if len(want.records) == 0 {
				continue
			}
			q := want.records[0].Embedding
			if found, err := c.Query(ctx, q, 10, &QueryOptions{Exact: true}); err == nil {
				if err := want.nearest(q, want.records, found, true); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
		}
		_ = db.Compact(ctx) // may meet the fault
	}
	return nil
}

// The k-th close of a file fails: somebody is told, by the call, by Close or
// by an event, and all is there.
func TestCloseFails(t *testing.T) {
	ctx := context.Background()
	for _, forever := range []bool{false, true} {
		for k := 0; ; k++ {
			fs := faultfs.New(uint64(k))
			in := fs.Inject(faultfs.Rule{Op: faultfs.OpClose, Nth: k, Forever: forever})
			o := tourOptions(fs, nil)
			told := false
			o.Events = &Events{Error: func(ErrorEvent) { told = true }}
			before, after := model{}, model{}
			db, err := Open("", o)
			if err == nil {
				db.jobs.stop()
				before, after, err = tour(ctx, db)
				err = errors.Join(err, db.Close())
			}
			fired := in.Fired() > 0
			in.Remove()
			if fired && err == nil && !told {
				t.Errorf("close %d failed, and nobody was told", k)
			}
			if n := fs.Handles(); n != 0 {
				t.Errorf("close %d: %d handles are open", k, n)
			}
			if err := reopened(fs.Crash(rand.New(rand.NewPCG(uint64(k), 5))), nil, before, after); err != nil {
				t.Fatalf("close %d fails (for ever: %v): %v", k, forever, err)
			}
			if !fired {
				break
			}
		}
	}
}

// One write, sync or sync of a directory fails, once or for ever, at any
// point of writing, flushing, merging and deleting beside each other; the
// calls are concurrent, so which one meets it is up to the seed.
func TestFaultsBesideWriters(t *testing.T) {
	for seed := range uint64(rounds(40)) {
		r := rand.New(rand.NewPCG(seed, 21))
		fs := faultfs.New(seed)
		rule := faultfs.Rule{
			Op:  []faultfs.Op{faultfs.OpWrite, faultfs.OpSync, faultfs.OpSyncDir, faultfs.OpRename, faultfs.OpCreate}[r.IntN(5)],
			Nth: r.IntN(120), Forever: r.IntN(2) == 0,
		}
		in := fs.Inject(rule)
		models, before, after := make([]model, 8), make([]model, 8), make([]model, 8)
		for i := range models {
			models[i] = model{}
		}
		err := writeTogether(context.Background(), seed, r, fs, models, before, after)
		in.Remove()
		left := fs.Crash(r)
		db, oerr := Open("", cutOptions(seed, r, left))
		if oerr != nil {
			t.Fatalf("seed %d: %v", seed, errors.Join(err, oerr))
		}
		for i := range models {
			m, err := settleModel(context.Background(), db, prefixOf(i), before[i], after[i])
			if err == nil {
				err = findEverything(context.Background(), db, m)
			}
			if err != nil {
				t.Errorf("seed %d: writer %d: %v", seed, i, err)
			}
		}
		check(t, db.Close())
	}
}
