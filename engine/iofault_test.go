package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

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

// crossing is a disk on which the first segment waits between its renaming and
// the sync for another's sync, which fails and takes its time to say so.
type crossing struct {
	*faultfs.FS
	met                    atomic.Bool
	renamed, failed, ended chan struct{}
}

func (d *crossing) Rename(from, to string) error {
	err := d.FS.Rename(from, to)
	if strings.HasPrefix(to, segmentDir) && d.met.CompareAndSwap(false, true) {
		close(d.renamed)
		<-d.failed
	}
	return err
}

func (d *crossing) SyncDir(dir string) error {
	err := d.FS.SyncDir(dir)
	if err != nil {
		close(d.failed)
		select {
		case <-d.ended:
		case <-time.After(100 * time.Millisecond): // the first waits for this
		}
	}
	return err
}

// A sync of a directory that fails drops what another flush has renamed there.
// That one's own sync has nothing left to write; it is not taken for a proof.
func TestSyncOfAnotherFails(t *testing.T) {
	ctx := context.Background()
	for seed := range uint64(rounds(8)) {
		mem := faultfs.New(seed)
		disk := &crossing{FS: mem, renamed: make(chan struct{}), failed: make(chan struct{}), ended: make(chan struct{})}
		o := tourOptions(mem, nil)
		o.fs = disk
		db, err := Open("", o)
		check(t, err)
		db.jobs.stop()
		var cs [2]*Collection
		for i := range cs {
			cs[i], err = db.Default().Create(ctx, fmt.Sprint(i), Spec{})
			check(t, err)
			check(t, cs[i].Add(ctx, rec("a", 1, 2), rec("b", 3, 4)))
		}
		in := mem.Inject(faultfs.Rule{Op: faultfs.OpSyncDir, Path: segmentDir})
		go func() {
			defer close(disk.ended)
			_ = db.flush(ctx, cs[0]) // an error, or all of it is there
		}()
		<-disk.renamed
		if db.flush(ctx, cs[1]) == nil {
			t.Fatal("a flush is over whose segment may be lost")
		}
		<-disk.ended
		in.Remove()
		_ = db.Close() // it has failed
		db = openOn(t, mem.Crash(rand.New(rand.NewPCG(seed, 5))), Options{GraphMin: 4})
		for i := range cs {
			c, err := db.Default().Collection(ctx, fmt.Sprint(i))
			check(t, err)
			if got := getAll(t, c, Selection{}, IncludeAll); len(got) != 2 {
				t.Errorf("seed %d: collection %d has %d records", seed, i, len(got))
			}
		}
		check(t, db.Close())
	}
}
