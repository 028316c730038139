package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/internal/mutant"
	"github.com/chromad/chromad/segment"
)

// A compaction merges segments into one. It drops the rows that were dead at
// the collection's last flush, not those that died since: the log after that
// flush will be replayed onto the result, and an entry that merges into a
// record must find it. Rows that die while the merge runs are looked up in
// the result by their order, which is unique.

// Compact flushes and merges every collection into at most one segment, and
// gives the space of dead rows and old files back. On a full disk it begins
// with what makes room. A context that ends does what it does to Flush.
func (db *DB) Compact(ctx context.Context) error {
	if err := db.enterWrite(ctx); err != nil {
		return err
	}
	return db.await(ctx, func() error {
		err := db.compactAll(ctx)
		for errors.Is(err, ErrDiskFull) && passes(err) {
			// What shrinks most is rewritten first: it may make room for the rest.
			db.spendReserve(forEntries)
			n, serr := db.compactSparse(ctx)
			if n == 0 || serr != nil {
				return errors.Join(err, serr)
			}
			err = db.compactAll(ctx)
		}
		return err
	})
}

func (db *DB) compactAll(ctx context.Context) error {
	damage := db.flushAll(ctx)
	if damage != nil && !errors.Is(damage, ErrCorrupt) {
		return damage
	}
	for _, c := range db.all() {
		if c.usable() != nil {
			continue
		}
		_, err := c.compact(ctx, pickAll)
		if errors.Is(err, ErrCorrupt) {
			damage = errors.Join(damage, err) // of one collection: the others go on
		} else if err != nil {
			return err
		}
	}
	return errors.Join(damage, db.writeCheckpoint(ctx))
}

// compactSparse rewrites one segment of each collection, and returns of how
// many collections there was one that has dead rows, and room for the others.
func (db *DB) compactSparse(ctx context.Context) (n int, err error) {
	for _, c := range db.all() {
		if c.usable() != nil {
			continue
		}
		did, err := c.compact(ctx, pickSparsest)
		if did {
			n++
		}
		if err != nil && !passes(err) && !errors.Is(err, ErrCorrupt) {
			return n, err
		}
	}
	return n, db.writeCheckpoint(ctx)
}

// pickSparsest picks the segment with the fewest live rows of those that have
// dead ones.
func pickSparsest(segments []segmentState) []int {
	best, least := -1, uint64(math.MaxUint64)
	for i, s := range segments {
		dead := s.dead.GetCardinality()
		if live := uint64(s.info.Rows) - dead; dead > 0 && live < least {
			best, least = i, live
		}
	}
	if best < 0 {
		return nil
	}
	return []int{best}
}

// picker chooses the segments to merge; none: there is nothing to do.
type picker func(segments []segmentState) []int

// pickAll merges everything into one segment without dead rows.
func pickAll(segments []segmentState) []int {
	if len(segments) == 1 && segments[0].dead.IsEmpty() {
		return nil
	}
	all := make([]int, len(segments))
	for i := range all {
		all[i] = i
	}
	return all
}

// compaction is one merge on its way.
type compaction struct {
	c       *Collection
	all     bool           // inputs were all segments of the collection
	inputs  []segmentState // with the deletions that the merge drops
	readers []*segment.Reader
	info    segment.Info // Rows 0: nothing is left
	out     *handle
	logged  bool // the edit is durable: the result is the collection's
}

// compact merges the segments that pick chooses; did is false when it chose none.
func (c *Collection) compact(ctx context.Context, pick picker) (did bool, err error) {
	if err := c.jobs.one.lock(ctx); err != nil {
		return false, err
	}
	defer c.jobs.one.Unlock()
	start := time.Now()
	m, v, err := c.manifestView(ctx)
	if err != nil {
		return false, ignoreDropped(err)
	}
	defer v.close()
	chosen := pick(m.segments)
	if len(chosen) == 0 {
		return false, nil
	}
	w := &compaction{c: c, all: len(chosen) == len(m.segments)}
	for _, i := range chosen {
		r, err := v.reader(i)
		if err != nil {
			return false, ignoreDropped(fmt.Errorf("compact collection %s: %w", c.id, err))
		}
		w.inputs, w.readers = append(w.inputs, m.segments[i]), append(w.readers, r)
		if mutant.On(mutant.MergeDropsLateDead) {
			w.inputs[len(w.inputs)-1].dead = v.dead[i].rows
		}
	}
	db := c.db
	number := db.newNumber()
	defer db.files.release(number)
	if err = w.merge(ctx, number, m.dimension); err == nil {
		err = w.install(ctx)
	}
	if c.dropped.Load() && errors.Is(err, ErrKey) {
		return false, nil
	}
	if err != nil {
		if !w.logged {
			db.discard(number)
		}
		return false, db.diskError(fmt.Errorf("compact collection %s: %w", c.id, err))
	}
	w.report(time.Since(start))
	return true, nil
}

func ignoreDropped(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// manifestView returns the manifest with a view of the same segments, and of
// nothing in memory.
func (c *Collection) manifestView(ctx context.Context) (*manifest, *view, error) {
	if err := c.db.catMu.lock(ctx); err != nil {
		return nil, nil, err
	}
	defer c.db.catMu.Unlock()
	for {
		if err := c.usable(); err != nil {
			return nil, nil, err
		}
		if s := c.state.Load(); s.version.acquire() {
			return c.manifest, &view{s, c.db.readers, make([]*segment.Reader, len(s.dead))}, nil
		}
	}
}

func (w *compaction) merge(ctx context.Context, number uint64, dim int) error {
	defer w.c.db.cores.work()()
	in := make([]segment.Input, len(w.inputs))
	for i := range in {
		in[i] = segment.Input{Reader: w.readers[i], Dead: w.inputs[i].dead}
	}
	var err error
	w.info, err = segment.Merge(ctx, w.c.db.fs, w.c.db.keys, w.c.buildSpec(number, dim), in)
	if errors.Is(err, segment.ErrEmpty) {
		return nil
	}
	if err = w.c.db.written(segment.Name(number), err); err == nil {
		w.out = w.c.newHandle(w.info, dim)
	}
	return err
}

// install logs the edit and puts the result in the place of the inputs.
func (w *compaction) install(ctx context.Context) error {
	c := w.c
	if err := c.maint.lock(ctx); err != nil { // so nothing is frozen, whose deletions are those of the old segments
		return err
	}
	defer c.maint.Unlock()
	if err := c.db.catMu.lock(ctx); err != nil {
		return err
	}
	defer c.db.catMu.Unlock()
	if c.dropped.Load() {
		return nil
	}
	var out *segment.Reader
	if w.out != nil {
		var err error
		if out, err = c.db.readers.acquire(w.out); err != nil {
			return err
		}
		defer c.db.readers.release(w.out)
	}
	// A flush may have been installed since: its deletions are durable now.
	old := c.manifest
	m := *old
	m.segments = nil
	dead := roaring.New()
	for _, s := range old.segments {
		i := w.input(s.info.Number)
		if i < 0 {
			m.segments = append(m.segments, s)
			continue
		}
		if err := w.carry(dead, i, s.dead, out); err != nil {
			return err
		}
	}
	if out != nil {
		m.segments = append(m.segments, segmentState{w.info, dead})
	}
	if err := c.commitEdit(&m); err != nil {
		return err
	}
	w.logged = true
	return w.publish(out)
}

// publish installs the result in the collection's state; maint and catMu are
// held, and the edit is durable.
func (w *compaction) publish(out *segment.Reader) error {
	c := w.c
	c.applyMu.Lock()
	defer c.applyMu.Unlock()
	s := *c.state.Load()
	var handles []*handle
	var deads []*deletions
	dead := roaring.New()
	for n, h := range s.version.segments {
		i := w.input(h.info.Number)
		if i < 0 {
			handles, deads = append(handles, h), append(deads, s.dead[n])
			continue
		}
		if err := w.carry(dead, i, s.dead[n].rows, out); err != nil {
			c.breakWith(err) // the state cannot be told from here on
			c.forsake(c.mem.bytes)
			return err
		}
	}
	if out != nil {
		handles, deads = append(handles, w.out), append(deads, newDeletions(dead))
	}
	s.dead = deads
	if w.all { // a segment may have come meanwhile, which nobody has searched
		c.jobs.rest.searched.Store(0)
	}
	c.install(&s, handles)
	return nil
}

func (w *compaction) input(number uint64) int {
	return slices.IndexFunc(w.inputs, func(s segmentState) bool { return s.info.Number == number })
}

// carry adds to dst the rows of the result that stand for the rows of input i
// in dead, leaving out those that the merge dropped.
func (w *compaction) carry(dst *roaring.Bitmap, i int, dead *roaring.Bitmap, out *segment.Reader) error {
	if mutant.On(mutant.MergeResurrects) {
		return nil
	}
	for it := roaring.AndNot(dead, w.inputs[i].dead).Iterator(); it.HasNext(); {
		order, err := w.readers[i].Order(it.Next())
		if err != nil {
			return err
		}
		row, found, err := out.FindOrder(order)
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("%w: segment %d has no row of order %d", ErrCorrupt, w.info.Number, order)
		}
		dst.Add(row)
	}
	return nil
}

func (w *compaction) report(took time.Duration) {
	j := &w.c.db.jobs
	bytes := int64(0)
	for _, s := range w.inputs {
		bytes += s.info.Length
	}
	j.waste(bytes)
	w.c.db.work.compactions.add(int64(w.info.Rows), w.info.Length)
	if f := w.c.db.opts.Events.Compacted; f != nil {
		f(CompactEvent{
			Collection: w.c.id, Segments: len(w.inputs), Rows: int(w.info.Rows),
			Bytes: w.info.Length, Duration: took,
		})
	}
}
