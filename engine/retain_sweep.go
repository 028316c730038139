package engine

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
)

// defaultExpire is how often the background deletes what is over.
const defaultExpire = time.Minute

// What one entry deletes: so many records, so many bytes of their ids.
const (
	expireRecords = 1000
	expireBytes   = 1 << 20
)

// expiring is the background's deletion of what is over.
type expiring struct {
	wake  chan struct{} // a retention or a hold was changed
	total atomic.Int64  // records since the store was opened
	stop  context.CancelFunc
	ended chan struct{} // closed when the expirer has ended
}

func (e *expiring) wakeUp() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// startExpirer begins the background's deletion; it ends with the jobs, or
// before them when somebody says so.
func (j *jobs) startExpirer(db *DB) {
	ctx, stop := context.WithCancel(j.ctx)
	ended := make(chan struct{})
	db.expiry.stop, db.expiry.ended = stop, ended
	j.wg.Go(func() {
		defer close(ended)
		defer stop()
		db.expirer(ctx)
	})
}

// StopExpiring ends the deletion of what is over in the background, until the
// store is opened again. When it returns nil, all that was deleted so has been
// told of (Events.Expired): for who writes that down before he closes the store.
func (db *DB) StopExpiring(ctx context.Context) error {
	if db.opts.ReadOnly {
		return nil
	}
	if err := db.enter(ctx); err != nil {
		return err
	}
	defer db.leave()
	db.expiry.stop()
	select {
	case <-db.expiry.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// expirer deletes what is over, every Options.ExpireEvery. Where nothing expires
// it sleeps until that changes.
func (db *DB) expirer(ctx context.Context) {
	for ctx.Err() == nil {
		some := db.expireAll(ctx)
		var tick <-chan time.Time
		var timer *time.Timer
		if some && db.opts.ExpireEvery > 0 {
			timer = time.NewTimer(db.opts.ExpireEvery)
			tick = timer.C
		}
		select {
		case <-tick:
		case <-db.expiry.wake:
		case <-ctx.Done():
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

// expireAll deletes what is over in all collections, and tells whether there is one
// in which anything ever is.
func (db *DB) expireAll(ctx context.Context) (some bool) {
	if db.opts.mending || db.opts.convert {
		return false
	}
	for _, c := range db.all() {
		k := c.keep.Load()
		if !k.expires() || k.held {
			c.behind.Store(0)
			continue
		}
		some = true
		if db.opts.ExpireEvery < 0 {
			continue
		}
		began := now()
		n, err := c.expire(ctx)
		c.expired(n)
		switch {
		case err == nil || c.dropped.Load():
			c.behind.Store(0)
		case ctx.Err() == nil:
			c.behind.CompareAndSwap(0, began)
			db.report("expire", fmt.Errorf("expire records of collection %s: %w", c.id, err), db.failed() != nil)
		}
	}
	return some
}

// Expire deletes the records that are over now, as the background does from time
// to time, and returns how many there were. Under a hold there are none.
func (c *Collection) Expire(ctx context.Context) (int, error) {
	if err := c.db.enterWrite(ctx); err != nil {
		return 0, err
	}
	var told atomic.Int64 // what is deleted after the caller has left is told of all the same
	err := c.db.await(ctx, func() error {
		n, err := c.expire(ctx)
		told.Store(int64(n))
		c.expired(n)
		return err
	})
	return int(told.Load()), err
}

// expired counts records that were deleted because they were over.
func (c *Collection) expired(n int) {
	if n == 0 {
		return
	}
	c.db.expiry.total.Add(int64(n))
	if f := c.db.opts.Events.Expired; f != nil {
		f(ExpireEvent{Collection: c.id, Records: n})
	}
}

// expire deletes what is over, some at a time, so that writers come in between.
func (c *Collection) expire(ctx context.Context) (total int, err error) {
	for {
		k := c.keeping()
		if !k.expires() || k.held {
			return total, nil
		}
		e := &expireEntry{collection: c.id, key: k.key, at: k.clock()}
		if e.ids, err = c.overIDs(ctx, k, e.at); err != nil || len(e.ids) == 0 {
			return total, err
		}
		n, err := c.expireSome(ctx, k, e)
		if errors.Is(err, ErrDiskFull) {
			c.db.spendReserve(forEntries)
			n, err = c.expireSome(ctx, k, e)
		}
		if total += n; err != nil || n == 0 {
			return total, err
		}
	}
}

func (c *Collection) expireSome(ctx context.Context, k *keeping, e *expireEntry) (int, error) {
	t := &ticket{expire: e, done: make(chan struct{})}
	if err := c.writeMu.lock(ctx); err != nil {
		return 0, context.Cause(ctx)
	}
	err := error(nil)
	queued := c.keeping() == k // else a hold was placed, or the key is another
	if queued {
		var payload []byte
		if payload, _, err = c.sealEntry(e.append(c.db.entryBuffer(0))); err == nil {
			err = c.submit(t, payload, 0)
			c.db.dropEntry(payload)
		}
	}
	c.writeMu.Unlock()
	if err == nil && queued {
		// To its end, however ctx fares: what is deleted has to be told of.
		err = t.wait(context.WithoutCancel(ctx))
	}
	if err != nil {
		return 0, err
	}
	return t.deleted, nil
}

// overIDs are ids of records that are over at a time, as many as one entry takes.
func (c *Collection) overIDs(ctx context.Context, k *keeping, at int64) (ids []string, err error) {
	v, err := c.view()
	if err != nil {
		return nil, err
	}
	defer v.close()
	bytes := 0
	take := func(id string) bool {
		ids = append(ids, id)
		bytes += len(id)
		return len(ids) < expireRecords && bytes < expireBytes
	}
	for i, d := range v.dead {
		rows, _, err := v.overIn(ctx, i, k.key, at)
		if err != nil {
			return nil, err
		}
		rows = roaring.AndNot(rows, d.rows)
		if rows.IsEmpty() {
			continue
		}
		reader, err := v.reader(i)
		if err != nil {
			return nil, err
		}
		for it := rows.Iterator(); it.HasNext(); {
			id, err := reader.ID(it.Next())
			if err != nil {
				return nil, err
			}
			if !take(id) {
				return ids, nil
			}
		}
	}
	tables := []*table{v.mem}
	if v.frozen != nil {
		tables = append(tables, v.frozen.table)
	}
	for n, t := range tables {
		gone, _ := overOf(t, k.key, at)
		if n > 0 {
			gone.AndNot(v.fdead.rows)
		}
		for it := gone.Iterator(); it.HasNext(); {
			if !take(t.all()[it.Next()].id) {
				return ids, nil
			}
		}
	}
	return ids, nil
}

// RetentionState is what a retention means for the records that are there.
type RetentionState struct {
	Over    int // whose time is over and that are not deleted yet: under a hold, all that would be gone without it
	Unclear int // whose value under the key is no time, so that they stay
}

// RetentionState looks at the times of all records of the collection.
func (c *Collection) RetentionState(ctx context.Context) (s RetentionState, err error) {
	if err := c.db.enter(ctx); err != nil {
		return s, err
	}
	defer c.db.leave()
	k := c.keep.Load()
	if !k.expires() {
		return s, c.usable()
	}
	v, err := c.view()
	if err != nil {
		return s, err
	}
	defer v.close()
	at := max(0, now())
	for i, d := range v.dead {
		// With its own look at the segment: the one that is kept may be of a
		// clock that stands still.
		reader, err := v.reader(i)
		if err != nil {
			return s, err
		}
		e, err := readExpiries(ctx, reader, k.key, at)
		if err != nil {
			return s, err
		}
		s.Over += int(roaring.AndNot(e.over, d.rows).GetCardinality())
		s.Unclear += int(roaring.AndNot(e.unclear, d.rows).GetCardinality())
	}
	count := func(rows []*memRow, dead *roaring.Bitmap) {
		for i, r := range rows {
			value, there := r.metadata[k.key]
			if !there || dead != nil && dead.Contains(uint32(i)) {
				continue
			}
			if t, ok := expiryOf(value); !ok {
				s.Unclear++
			} else if t <= at {
				s.Over++
			}
		}
	}
	if v.frozen != nil {
		count(v.frozen.all(), v.fdead.rows)
	}
	count(v.mem.all(), nil)
	return s, nil
}

// expiryStats tells how many collections are under hold, and since when the
// background has not got what is over deleted.
func (db *DB) expiryStats(all []*Collection) (held int, behind time.Duration) {
	t := now()
	for _, c := range all {
		if k := c.keep.Load(); k != nil && k.held {
			held++
		} else if since := c.behind.Load(); since != 0 {
			behind = max(behind, time.Duration(t-since)*time.Second)
		}
	}
	return held, behind
}
