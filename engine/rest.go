package engine

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"
)

// A collection that nobody writes to comes to rest: what due leaves of it is
// merged into one segment, when that is worth it (see worthOne). Nothing depends
// on such a merge, so it is given up for one that is due and not small beside it,
// for whoever erases or puts the collection under new keys, and begun again
// after another rest, from the second time on after longer ones: a large collection
// beside one that is always written to would otherwise be read and thrown away for ever,
// and on a full disk every attempt takes the room of others.

// defaultRest is how long a collection has not been written to when it rests.
const defaultRest = 10 * time.Second

// maxPutOff bounds how often the rest is doubled after merges that came to nothing.
const maxPutOff = 6

// longestRest keeps times within what a number holds.
const longestRest = 10000 * time.Hour

// resting is the part of jobs that merges what rests. Times are since began, by
// a clock that nobody sets. All but the first two are guarded by jobs.mu.
type resting struct {
	began time.Time
	after time.Duration // 0: nothing is merged because it rests

	queue  []*Collection // worth a merge, in the order in which their rest is over
	timer  *time.Timer   // wakes the compacter for the first of them
	merged *Collection   // one at a time; nil: none
	stop   context.CancelFunc
}

// collectionRest is what is known of one collection.
type collectionRest struct {
	wrote    atomic.Int64 // when its records or segments changed last
	searched atomic.Int64 // segments beyond one that queries have looked into since all were merged

	// Guarded by jobs.mu.
	queued bool
	at     time.Duration // when its rest is over, unless it is written to
	notYet time.Duration // not before that time, after a merge that came to nothing
	putOff int           // so many of them, one after another
}

func (r *resting) init() { r.began = time.Now() }

func (r *resting) now() time.Duration { return time.Since(r.began) }

func (r *resting) start(db *DB) {
	if db.opts.RestAfter > 0 && !db.opts.mending && !db.opts.convert {
		r.after = min(db.opts.RestAfter, longestRest)
	}
	r.timer = time.AfterFunc(time.Hour, func() { db.jobs.ask(func() {}) })
	r.timer.Stop()
}

// wrote is told of every change of the collection's records and segments.
func (c *Collection) wrote() { c.jobs.rest.wrote.Store(int64(c.db.jobs.rest.now())) }

// searched counts the segments beyond one that a search looks into. Each time
// that they have cost what a merge does, the compacter looks at the collection.
func (c *Collection) searched(s *search, queries, live int) {
	if len(s.targets) < 2 || s.exact || live == 0 || c.db.jobs.rest.after == 0 {
		return
	}
	n := int64(0)
	for _, t := range s.targets[1:] { // they descend
		if t.reader.Rows() < mergeFew {
			break
		}
		n += int64(queries)
	}
	if n == 0 {
		return
	}
	if sum := c.jobs.rest.searched.Add(n); sum/int64(live) > (sum-n)/int64(live) {
		c.scheduleCompact()
	}
}

// over is when the collection's rest is over, as far as can be told by now.
func (r *resting) over(c *Collection) time.Duration {
	return max(time.Duration(c.jobs.rest.wrote.Load())+r.after, c.jobs.rest.notYet)
}

// settle queues a collection that is worth a merge when it rests, or takes it
// out of the queue; jobs.mu is held.
func (r *resting) settle(c *Collection, worth bool) {
	r.forget(c)
	if !worth || r.after == 0 || c.jobs.damaged || c.dropped.Load() {
		return
	}
	c.jobs.rest.queued, c.jobs.rest.at = true, r.over(c)
	i, _ := slices.BinarySearchFunc(r.queue, c.jobs.rest.at, func(c *Collection, at time.Duration) int {
		if c.jobs.rest.at <= at {
			return -1 // behind those of the same time
		}
		return 1
	})
	r.queue = slices.Insert(r.queue, i, c)
}

// forget takes a collection out of the queue; jobs.mu is held.
func (r *resting) forget(c *Collection) {
	if !c.jobs.rest.queued {
		return
	}
	c.jobs.rest.queued = false
	i := slices.Index(r.queue, c)
	r.queue = slices.Delete(r.queue, i, i+1)
}

// next takes the collection out of the queue whose rest is over. When there is
// none, or one is being merged, it is nil, and the timer is set for the first.
// jobs.mu is held.
func (r *resting) next() *Collection {
	for len(r.queue) > 0 && r.merged == nil {
		c, now := r.queue[0], r.now()
		if c.jobs.rest.at > now {
			r.timer.Reset(c.jobs.rest.at - now)
			return nil
		}
		if r.over(c) <= now {
			r.forget(c)
			return c
		}
		r.settle(c, true) // it was written to
	}
	return nil
}

// begin merges c on a goroutine of its own, so that the compacter sees what
// becomes due; jobs.mu is held.
func (r *resting) begin(db *DB, c *Collection) {
	ctx, cancel := context.WithCancel(db.jobs.ctx)
	r.merged, r.stop = c, cancel
	db.jobs.wg.Go(func() {
		defer cancel()
		db.jobs.rested(db, c, c.rest(ctx))
	})
}

// smallBeside: a merge that is due goes on beside one at rest that has so many times
// its rows.
const smallBeside = 8

// makeWay ends the merge of a collection that rests for one of c that is due and has
// so many rows, unless that is small.
func (j *jobs) makeWay(c *Collection, rows int) {
	j.mu.Lock()
	of := j.rest.merged
	j.mu.Unlock()
	if of == nil {
		return
	}
	all := 0
	for _, h := range of.state.Load().version.segments {
		all += int(h.info.Rows)
	}
	if of == c || rows > all/smallBeside {
		j.interrupt(of)
	}
}

// interrupt ends the merge of c, if it is merged because it rests.
func (j *jobs) interrupt(c *Collection) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.rest.interrupt(c)
}

// interrupt is that of jobs where jobs.mu is held.
func (r *resting) interrupt(c *Collection) {
	if r.merged == c {
		r.stop()
	}
}

// left is told of a collection that was deleted.
func (j *jobs) left(c *Collection) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.rest.forget(c)
	j.rest.interrupt(c)
}

// rest merges what rests into one segment. Rows in memory that queries would
// make a segment of are one before that, which is a change: the rest begins anew.
func (c *Collection) rest(ctx context.Context) error {
	if c.state.Load().rows >= c.db.opts.GraphMin {
		return c.db.flush(ctx, c)
	}
	_, err := c.compact(ctx, c.pickRest)
	return err
}

// rested is told how the merge of c has ended, or the flush before it. What is
// left to do is for after another rest.
func (j *jobs) rested(db *DB, c *Collection, err error) {
	if errors.Is(err, ErrCorrupt) {
		j.damage(c)
	}
	j.ask(func() {
		of := &c.jobs.rest
		j.rest.merged, j.rest.stop = nil, nil
		if err == nil {
			of.putOff = 0
		}
		of.notYet = j.rest.now() + j.rest.after<<of.putOff
		if err != nil {
			of.putOff = min(of.putOff+1, maxPutOff)
		}
	})
	if !errors.Is(err, context.Canceled) {
		j.finish(db, "compact", err, func() {})
	}
	c.scheduleCompact()
}

// pickRest is what is merged of a collection that rests.
func (c *Collection) pickRest(segments []segmentState) []int {
	if !worthOne(sizesOf(segments), c.jobs.rest.searched.Load()) {
		return nil
	}
	return pickAll(segments)
}
