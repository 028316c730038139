package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chromad/chromad/internal/keys"
)

// jobs is the background work of a store: one goroutine flushes memtables
// and writes checkpoints, one compacts. Both take what is most urgent next.
type jobs struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	logged atomic.Int64 // bytes logged since the last checkpoint
	asked  atomic.Int64 // bytes logged since pressure was last looked at
	kept   atomic.Int64 // length that damaged collections have kept the log at

	mu       sync.Mutex
	wake     *sync.Cond
	flush    []*Collection
	compact  []*Collection
	pressure bool
	garbage  int64         // bytes of segments that a checkpoint would set free
	freed    chan struct{} // closed when a flush has given memory back
	full     error         // why flushing does not get on; nil: it does
	starved  bool          // a write was refused for want of space
	retrying bool          // pressure will be looked at again in a while
	stopped  bool
	rest     resting
}

// collectionJobs is what is queued of a collection, guarded by jobs.mu.
type collectionJobs struct {
	flushing, compacting bool
	damaged              bool            // compaction met damage: leave it alone
	degraded             map[uint64]bool // segments that are to be made anew

	one  waitLock     // held while the collection is compacted
	size atomic.Int64 // bytes of the memtable, as published
	read atomic.Int64 // rows of it that queries have scanned
	rest collectionRest
}

// pressureEvery is how many bytes are logged between two looks at memory and
// log, where the log may not be shorter itself.
func (o *Options) pressureEvery() int64 { return min(1<<20, o.LogLimit/4) }

// logFile is the size of a file of the log, which gives space back by whole
// files: several of them fit the limit.
func (o *Options) logFile() int64 { return max(1, min(16<<20, o.LogLimit/4)) }

// garbageMin is how many bytes of replaced segments may wait for a checkpoint;
// more may when the checkpoint itself is large.
const garbageMin = 1 << 20

func (j *jobs) start(db *DB) {
	j.ctx, j.cancel = context.WithCancel(context.Background())
	j.mu.Lock()
	j.wake = sync.NewCond(&j.mu)
	j.freed = make(chan struct{})
	j.pressure = j.logged.Load() > 0 || db.reserveSpent() != nil // recovery left work
	j.rest.start(db)
	j.mu.Unlock()
	j.wg.Go(func() { j.flusher(db) })
	j.wg.Go(func() { j.compacter(db) })
	j.wg.Go(func() { j.eraser(db) })
	j.startExpirer(db)
	if db.ring != nil && !db.opts.convert {
		j.wg.Go(func() { j.rotater(db) })
	}
	for _, c := range db.all() {
		c.wrote() // or a recovery that takes long would be a rest
		c.scheduleFlush()
		c.scheduleCompact()
	}
}

func (j *jobs) stop() {
	j.mu.Lock()
	j.stopped = true
	j.rest.timer.Stop()
	j.mu.Unlock()
	j.cancel()
	j.wake.Broadcast()
	j.wg.Wait()
}

// ask queues work that change describes; it does nothing before start.
func (j *jobs) ask(change func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.wake == nil || j.stopped {
		return
	}
	change()
	j.wake.Broadcast()
}

// scheduleFlush queues a flush when the memtable is full.
func (c *Collection) scheduleFlush() {
	o := &c.db.opts
	if c.jobs.size.Load() < o.MemtableBytes && c.state.Load().rows < o.MemtableRows {
		return
	}
	c.queueFlush()
}

// scansBeforeFlush is how many scans of a memtable cost about what a segment
// of its rows does, once and for all.
const scansBeforeFlush = 2000

// scanned counts rows in memory that queries scan, one after another. A memtable that
// no write fills is flushed when its scans have cost what the flush will: so
// the two together are never more than twice the better of them. Below the
// size of a graph a segment would be scanned too.
func (c *Collection) scanned(rows, queries int) {
	if rows == 0 || rows < c.db.opts.GraphMin {
		return
	}
	if c.jobs.read.Add(int64(rows)*int64(queries)) < scansBeforeFlush*int64(c.state.Load().rows) {
		return
	}
	c.jobs.read.Store(0)
	c.queueFlush()
}

func (c *Collection) queueFlush() {
	j := &c.db.jobs
	j.ask(func() {
		if !c.jobs.flushing {
			c.jobs.flushing = true
			j.flush = append(j.flush, c)
		}
	})
}

// scheduleCompact queues a compaction when the segments call for one.
func (c *Collection) scheduleCompact() {
	j := &c.db.jobs
	j.ask(func() {
		if !c.jobs.compacting && !c.jobs.damaged {
			c.jobs.compacting = true
			j.compact = append(j.compact, c)
		}
	})
}

// wrote is told of every entry that was logged.
func (db *DB) wrote(n int) {
	j := &db.jobs
	j.logged.Add(int64(n))
	if j.asked.Add(int64(n)) < db.opts.pressureEvery() && db.memBytes.Load() <= db.opts.MemoryLimit {
		return
	}
	j.asked.Store(0)
	j.ask(func() { j.pressure = true })
}

// flusher flushes what is queued, and relieves pressure on memory and log.
func (j *jobs) flusher(db *DB) {
	for {
		j.mu.Lock()
		for !j.stopped && len(j.flush) == 0 && !j.pressure {
			j.wake.Wait()
		}
		if j.stopped {
			j.mu.Unlock()
			return
		}
		var c *Collection
		if len(j.flush) > 0 {
			c = j.flush[0]
			j.flush = j.flush[1:]
			c.jobs.flushing = false
		}
		j.pressure = false
		j.mu.Unlock()
		var err error
		if c != nil {
			err = db.flush(j.ctx, c)
			j.finish(db, "flush", err, later(c.queueFlush))
		}
		relieved := db.relieve(j.ctx)
		j.finish(db, "relieve pressure", relieved, j.retryPressure)
		j.told(cmp.Or(err, relieved))
	}
}

// told lets the writers that wait for room know that flushing does not get on.
func (j *jobs) told(err error) {
	j.mu.Lock()
	j.full = nil
	if passes(err) {
		j.full = err
	}
	j.mu.Unlock()
	if err != nil {
		j.notifyFreed()
	}
}

// retryAfter is how long work waits for what passes.
const retryAfter = time.Second

// pause waits for what passes; false: the store is being closed.
func (j *jobs) pause() bool {
	select {
	case <-time.After(retryAfter / 10):
		return true
	case <-j.ctx.Done():
		return false
	}
}

// finish judges a job's error: what passes is tried again, anything else that
// is not damage in one collection has latched the store already.
func (j *jobs) finish(db *DB, op string, err error, retry func()) {
	if err == nil || j.ctx.Err() != nil {
		return // or ended by Close
	}
	db.report(op, err, db.failed() != nil)
	if passes(err) {
		retry()
	}
}

// later runs retry when what passes may have passed.
func later(retry func()) func() { return func() { time.AfterFunc(retryAfter, retry) } }

// retryPressure has the flusher look at memory, log and reserve in a while.
func (j *jobs) retryPressure() {
	j.ask(func() {
		if j.retrying {
			return // or each failure would add one more to look again for ever
		}
		j.retrying = true
		time.AfterFunc(retryAfter, func() { j.ask(func() { j.retrying, j.pressure = false, true }) })
	})
}

// compacter merges what is due, and has what rests merged while nothing is.
func (j *jobs) compacter(db *DB) {
	for {
		c := j.nextCompact(db)
		if c == nil {
			return
		}
		due, worth, err := c.look(j.ctx)
		if err != nil {
			return // the store is being closed
		}
		j.ask(func() { j.rest.settle(c, worth) })
		if due == 0 {
			continue
		}
		j.makeWay(c, due)
		_, err = c.compact(j.ctx, c.pickNext)
		if errors.Is(err, ErrCorrupt) {
			j.damage(c)
		}
		j.finish(db, "compact", err, later(c.scheduleCompact))
		if err == nil { // when somebody else has merged meanwhile, too: what is left may be worth one merge at rest
			c.scheduleCompact()
		}
	}
}

// nextCompact waits for a collection that is queued, and begins the merge of
// one that rests when there is none; nil: the store is being closed.
func (j *jobs) nextCompact(db *DB) *Collection {
	j.mu.Lock()
	defer j.mu.Unlock()
	for !j.stopped && len(j.compact) == 0 {
		if c := j.rest.next(); c != nil {
			j.rest.begin(db, c)
		}
		j.wake.Wait()
	}
	if j.stopped {
		return nil
	}
	i := mostUrgent(j.compact)
	c := j.compact[i]
	j.compact = slices.Delete(j.compact, i, i+1)
	c.jobs.compacting = false
	return c
}

// look tells how many rows the merge has that is due, 0 when there is none, and
// whether one will be worth it at rest.
func (c *Collection) look(ctx context.Context) (due int, worth bool, err error) {
	if err := c.db.catMu.lock(ctx); err != nil {
		return 0, false, err
	}
	segments := c.manifest.segments
	c.db.catMu.Unlock()
	if c.usable() != nil || c.db.failed() != nil {
		return 0, false, nil
	}
	for _, i := range c.pickNext(segments) {
		due += int(segments[i].info.Rows)
	}
	return due, due == 0 && len(c.pickRest(segments)) > 0, nil
}

// damage leaves a collection alone of which a merge has met damage.
func (j *jobs) damage(c *Collection) {
	j.mu.Lock()
	defer j.mu.Unlock()
	c.jobs.damaged = true
	j.rest.forget(c)
}

// relieve flushes the largest memtables while all together are over the
// memory limit, flushes those that keep the oldest half of a log that is too
// long, and writes a checkpoint when enough was logged or set free.
func (db *DB) relieve(ctx context.Context) error {
	for _, c := range db.largestFirst() {
		if db.memBytes.Load() <= db.opts.MemoryLimit {
			break
		}
		if err := db.flush(ctx, c); err != nil {
			return err
		}
	}
	j := &db.jobs
	// A log that damage keeps long is not worth the work every time.
	if log := db.log.Size(); log > db.opts.LogLimit && log-j.kept.Load() > db.opts.LogLimit/8 {
		return db.shortenLog(ctx)
	}
	if db.reserveSpent() != nil {
		return db.regain(ctx)
	}
	if err := db.catMu.lock(ctx); err != nil {
		return err
	}
	size := db.checkpoint.size
	db.catMu.Unlock()
	j.mu.Lock()
	due := j.logged.Load() >= max(checkpointEvery, 4*size) || j.garbage >= max(garbageMin, 4*size) ||
		(j.full != nil || j.starved) && j.garbage > 0 // every byte counts
	j.starved = false
	j.mu.Unlock()
	if !due {
		return nil
	}
	return db.writeCheckpoint(ctx)
}

// regain makes deletions that needed the reserve give space back, as far as
// that takes no merging, and tries to make the reserve again.
func (db *DB) regain(ctx context.Context) error {
	if logged, garbage := db.jobs.waiting(); logged == 0 && garbage == 0 {
		if err := db.catMu.lock(ctx); err != nil {
			return err
		}
		defer db.catMu.Unlock()
		db.keepReserve()
		return nil
	}
	err := db.flushAll(ctx)
	if err != nil && !passes(err) && !errors.Is(err, ErrCorrupt) {
		return err
	}
	return errors.Join(err, db.writeCheckpoint(ctx))
}

// starve is told of a write that a full disk has refused: what a checkpoint
// would set free is wanted now.
func (j *jobs) starve() { j.ask(func() { j.starved, j.pressure = true, true }) }

// waiting is what a checkpoint that begins now covers and sets free, in bytes.
func (j *jobs) waiting() (logged, garbage int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.logged.Load(), j.garbage
}

// waste is told of the length of files that nobody needs any more.
func (j *jobs) waste(bytes int64) {
	j.ask(func() {
		if j.garbage += bytes; j.garbage >= garbageMin {
			j.pressure = true
		}
	})
}

// checkpointed is told when it is done.
func (j *jobs) checkpointed(logged, garbage int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.logged.Add(-logged)
	j.garbage -= garbage
}

// shortenLog brings the log below its limit: the collections that hold the
// older half of it are flushed, and if that is not enough, all are. Only what
// cannot be flushed can keep it longer.
func (db *DB) shortenLog(ctx context.Context) error {
	for _, part := range []uint64{2, 1} {
		if err := db.flushOldest(ctx, part); err != nil {
			return err
		}
		if err := db.writeCheckpoint(ctx); err != nil {
			return err
		}
		if db.log.Size() <= db.opts.LogLimit {
			break
		}
	}
	kept := int64(0)
	for _, c := range db.all() {
		if c.usable() != nil && c.firstUnflushed() != 0 {
			kept = db.log.Size()
		}
	}
	db.jobs.kept.Store(kept)
	return nil
}

// largestFirst returns the usable collections by the size of their memtables.
func (db *DB) largestFirst() []*Collection {
	type sized struct {
		c *Collection
		n int64
	}
	var by []sized
	for _, c := range db.all() {
		if c.usable() == nil { // a damaged one keeps its entries in the log
			by = append(by, sized{c, c.jobs.size.Load()})
		}
	}
	slices.SortFunc(by, func(a, b sized) int { return cmp.Compare(b.n, a.n) })
	out := make([]*Collection, len(by))
	for i, s := range by {
		out[i] = s.c
	}
	return out
}

// flushOldest flushes the collections whose oldest entry is in the first part
// of the log: 2 is its older half, 1 the whole.
func (db *DB) flushOldest(ctx context.Context, part uint64) error {
	if err := db.catMu.lock(ctx); err != nil {
		return err
	}
	from := db.checkpoint.from.Seq
	db.catMu.Unlock()
	last := from + (db.log.End().Seq-from)/part
	for _, c := range db.all() {
		if first := c.firstUnflushed(); first == 0 || first > last || c.usable() != nil {
			continue
		}
		if err := db.flush(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// room waits while the collection's memtable, or all together, have no room:
// writes arrive faster than they are flushed.
func (db *DB) room(ctx context.Context, c *Collection) error {
	for {
		j := &db.jobs
		j.mu.Lock()
		freed, full := j.freed, j.full
		j.mu.Unlock()
		if err := cmp.Or(db.failed(), c.usable(), db.reserveSpent()); err != nil {
			return err
		}
		if !db.crowded(c) {
			return nil
		}
		if full != nil {
			return full
		}
		c.scheduleFlush()
		j.ask(func() { j.pressure = true })
		select {
		case <-freed:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrBusy, context.Cause(ctx))
		}
	}
}

// memoryMax is the memory that memtables reach when flushing cannot keep up;
// what is on its way by then comes on top.
func (o *Options) memoryMax() int64 { return o.MemoryLimit + o.MemoryLimit/8 }

func (db *DB) crowded(c *Collection) bool {
	o := &db.opts
	return c.jobs.size.Load() >= 2*o.MemtableBytes || c.state.Load().rows >= 2*o.MemtableRows ||
		db.memBytes.Load() >= o.memoryMax()
}

// notifyFreed wakes the writers that wait for room.
func (j *jobs) notifyFreed() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.freed != nil {
		close(j.freed)
		j.freed = make(chan struct{})
	}
}

// passes tells the errors that left everything as it was and end by
// themselves: a full disk, too many open files.
func passes(err error) bool {
	return (errors.Is(err, ErrDiskFull) || errors.Is(err, ErrNoHandle)) && !errors.Is(err, ErrFailed)
}

// diskError judges an error of background writing. What passes is waited
// for, damage and a cancelled context change nothing; after anything else the
// state of the disk is unknown and the store accepts no more writes.
func (db *DB) diskError(err error) error {
	switch {
	case err == nil, passes(err), errors.Is(err, ErrCorrupt), errors.Is(err, ErrKey) && !errors.Is(err, keys.ErrFailed), errors.Is(err, ErrFailed),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return db.fail(err)
}
