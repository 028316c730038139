package engine

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/chromad/chromad/internal/vfs/faultfs"
)

var (
	cutSeeds = flag.Int("powercut.seeds", 150, "seeds of the power-cut tests")
	cutFirst = flag.Uint64("powercut.first", 1, "first seed of the power-cut tests")
)

// Power is cut at a random operation of the disk while a writer works and
// flushes, compactions, checkpoints and changes of keys go on, up to three
// times in a row; now and then the disk is full. Half of the stores are
// encrypted from the beginning, and of the others half become so.
// After each cut the store must be the model before or after the call that
// was under way, record by record.
func TestPowerCut(t *testing.T) { powerCuts(t, powerCutOne) }

// The same with eight writers that share collections' log and files, each
// with records of its own.
func TestPowerCutConcurrent(t *testing.T) { powerCuts(t, powerCutMany) }

func powerCuts(t *testing.T, run func(seed uint64) error) {
	t.Helper()
	seeds := *cutSeeds
	if testing.Short() {
		seeds = min(seeds, 40)
	}
	runSeeds(t, *cutFirst, seeds, run, func(seed uint64) string { return fmt.Sprintf("-powercut.first=%d -powercut.seeds=1", seed) })
}

// runSeeds spreads seeds, from the first on, over the cores; again tells the
// flags that run one of them again.
func runSeeds(t *testing.T, first uint64, seeds int, run func(seed uint64) error, again func(seed uint64) string) {
	t.Helper()
	enough := int64(5)
	if f := flag.Lookup("test.failfast"); f.Value.String() == "true" {
		enough = 1
	}
	var next, bad atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				n := next.Add(1) - 1
				if n >= int64(seeds) || bad.Load() >= enough {
					return
				}
				seed := first + uint64(n)
				if err := run(seed); err != nil {
					bad.Add(1)
					t.Errorf("seed %d (run with %s): %v", seed, again(seed), err)
				}
			}
		})
	}
	wg.Wait()
}

// cutOptions make everything happen early: tiny memtables, graphs and logs.
func cutOptions(seed uint64, r *rand.Rand, fs *faultfs.FS) *Options {
	return &Options{
		Keys:         keysOf(seed, fs),
		MemtableRows: 1 + r.IntN(30), GraphMin: 1 + r.IntN(12), LogLimit: int64(1000 + r.IntN(20000)),
		OpenSegments: 1 + r.IntN(4), Workers: 1, MemoryLimit: int64(2000 + r.IntN(40000)), fs: fs, reserve: 600,
		RestAfter: -1, // restNow, when the seed says so
	}
}

func powerCutOne(seed uint64) error {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(seed, 1))
	fs := faultfs.New(seed)
	ops := &opMaker{Rand: r, collections: 3, ids: 40, batch: 6, rules: true}
	m := model{}
	for cut := range 1 + r.IntN(3) {
		fs.CrashAt(fs.Ops() + r.IntN(250))
		before, after, trail := writeUntilCut(ctx, seed, r, fs, ops, m)
		fs = fs.Crash(r)
		db, err := Open("", cutOptions(seed, r, fs))
		if err != nil {
			return fmt.Errorf("cut %d: open: %w%s", cut, err, trail)
		}
		m, err = settleModel(ctx, db, "", before, after)
		if err == nil {
			err = findEverything(ctx, db, m)
		}
		if closeErr := db.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return fmt.Errorf("cut %d: %w%s", cut, err, trail)
		}
	}
	return nil
}

// writeUntilCut works until the disk stops, and returns the model before and
// after the call that the cut hit.
func writeUntilCut(ctx context.Context, seed uint64, r *rand.Rand, fs *faultfs.FS, ops *opMaker, m model) (before, after model, trail string) {
	var log strings.Builder
	if err := encryptSome(ctx, seed, r, fs); err != nil {
		return m, m, "\n  in encrypt: " + err.Error()
	}
	db, err := Open("", cutOptions(seed, r, fs))
	if err != nil {
		return m, m, "\n  in open: " + err.Error()
	}
	defer db.Close()
	fillNowAndThen(r, fs)
	for range 80 {
		op := ops.op(m)
		fmt.Fprintf(&log, "\n  %s", op.name)
		after := m.clone()
		op.model(after)
		if err := op.store(ctx, db); err != nil {
			fmt.Fprintf(&log, ": %v", err)
			if errors.Is(err, ErrDiskFull) && db.Err() == nil {
				continue // refused: not there, now or later
			}
			return m, after, log.String()
		}
		m = after
	}
	return m, m, log.String()
}

// fillNowAndThen makes the disk full for single writes in a third of the
// cases: entries are refused, and their place in the log goes to others.
func fillNowAndThen(r *rand.Rand, fs *faultfs.FS) {
	switch r.IntN(6) {
	case 0:
		fs.Inject(faultfs.Rule{Op: faultfs.OpWrite, Path: "tmp/*", Probability: 0.05, Fault: faultfs.Short, Forever: true})
		fallthrough
	case 1:
		fs.Inject(faultfs.Rule{Op: faultfs.OpWrite, Path: "log/*", Probability: 0.1, Fault: faultfs.Short, Forever: true})
	}
}

// settleModel returns the one of two models that the store agrees with.
func settleModel(ctx context.Context, db *DB, prefix string, before, after model) (model, error) {
	d1, err := before.diff(ctx, db, prefix)
	if err != nil {
		return nil, err
	}
	if d1 == "" {
		return before, nil
	}
	d2, err := after.diff(ctx, db, prefix)
	if err != nil {
		return nil, err
	}
	if d2 == "" {
		return after, nil
	}
	return nil, fmt.Errorf("the store is neither as before the last call (%s) nor as after it (%s)", d1, d2)
}

func findEverything(ctx context.Context, db *DB, m model) error {
	for name, want := range m {
		c, err := db.Default().Collection(ctx, name)
		if err != nil {
			return err
		}
		if err := want.findAll(ctx, c); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	report, err := db.Verify(ctx)
	if err != nil {
		return err
	}
	return report.Err()
}

func powerCutMany(seed uint64) error {
	const writers = 8
	ctx := context.Background()
	r := rand.New(rand.NewPCG(seed, 2))
	fs := faultfs.New(seed)
	models := make([]model, writers)
	for i := range models {
		models[i] = model{}
	}
	for cut := range 1 + r.IntN(3) {
		fs.CrashAt(fs.Ops() + 20 + r.IntN(400))
		before, after := make([]model, writers), make([]model, writers)
		if err := writeTogether(ctx, seed, r, fs, models, before, after); err != nil {
			return fmt.Errorf("cut %d: %w", cut, err)
		}
		fs = fs.Crash(r)
		db, err := Open("", cutOptions(seed, r, fs))
		if err != nil {
			return fmt.Errorf("cut %d: open: %w", cut, err)
		}
		for i := range models {
			if models[i], err = settleModel(ctx, db, prefixOf(i), before[i], after[i]); err == nil {
				err = findEverything(ctx, db, models[i])
			}
			if err != nil {
				db.Close()
				return fmt.Errorf("cut %d: writer %d: %w", cut, i, err)
			}
		}
		if err := db.Close(); err != nil {
			return fmt.Errorf("cut %d: close: %w", cut, err)
		}
	}
	return nil
}

func prefixOf(writer int) string { return fmt.Sprintf("w%d-", writer) }

func writeTogether(ctx context.Context, seed uint64, r *rand.Rand, fs *faultfs.FS, models, before, after []model) error {
	copy(before, models)
	copy(after, models)
	if err := encryptSome(ctx, seed, r, fs); err != nil && !fs.Crashed() {
		return fmt.Errorf("encrypt: %w", err)
	}
	db, err := Open("", cutOptions(seed, r, fs))
	if err != nil {
		if !fs.Crashed() {
			return fmt.Errorf("open before the cut: %w", err)
		}
		return nil
	}
	defer db.Close()
	fillNowAndThen(r, fs)
	var wg sync.WaitGroup
	for i := range models {
		ops := &opMaker{Rand: rand.New(rand.NewPCG(r.Uint64(), uint64(i))), prefix: prefixOf(i), collections: 1, ids: 12, batch: 3, rules: true}
		wg.Go(func() {
			m := models[i]
			for range 25 {
				op := ops.op(m)
				next := m.clone()
				op.model(next)
				before[i], after[i] = m, next
				if err := op.store(ctx, db); errors.Is(err, ErrDiskFull) && db.Err() == nil {
					before[i], after[i] = m, m
					continue
				} else if err != nil {
					return
				}
				m = next
				before[i], after[i] = m, m
			}
		})
	}
	wg.Wait()
	return nil
}
