package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/keys"
	"github.com/chromad/chromad/internal/mutant"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/segment"
)

// A change of keys is a state that the store converges to, read off what is on
// disk, so it can be interrupted anywhere and goes on where it was:
//
//	every data key has a newest generation under the keyset's primary key
//	the log begins with entries under those
//	segments and checkpoint are under those
//	older generations, which nothing needs any more, are dropped
//	keys of the keyset that wrap nothing any more are destroyed
//
// A plain store that is being encrypted is the same with a generation 0.

// RotateProgress tells how far a change of keys is. Segments of collections
// are written again one by one; everything else is quick.
type RotateProgress struct {
	Segments, SegmentsDone int
	Bytes, BytesDone       int64 // of those segments' files
}

// RotateKeys puts everything under new keys and destroys the old ones: those
// of the keyset, and those of every collection. Reads and writes go on
// meanwhile. One that was interrupted is finished, in the background since the
// store was opened, and then no further one is begun: progress tells of that
// one. progress (nil: nobody) is called between segments, from any goroutine,
// and must not call the store. An error, a context that ends included, leaves
// a store that is as usable as before; the next call goes on. That a file which
// was replaced cannot be removed is such an error. ErrCorrupt, ErrKey: of a
// damaged collection, whose old keys stay. Of a damaged file of the audit log
// what can be read is kept, and the rest put aside: Events.Error names the file.
func (db *DB) RotateKeys(ctx context.Context, progress func(RotateProgress)) error {
	if err := db.enterWrite(ctx); err != nil {
		return err
	}
	if db.ring == nil {
		db.leave()
		return fmt.Errorf("rotate keys: the store is not encrypted: %w", ErrKey)
	}
	return db.await(ctx, func() error {
		err := db.rotate(ctx, progress)
		if err != nil {
			return fmt.Errorf("rotate keys: %w", err)
		}
		return nil
	})
}

func (db *DB) rotate(ctx context.Context, progress func(RotateProgress)) error {
	settled, err := db.settled()
	if err != nil {
		return err
	}
	defer db.watchers.add(progress)()
	if err := db.rotation.lock(ctx); err != nil {
		return err
	}
	defer db.rotation.Unlock()
	if settled {
		if err := db.ring.AddPrimary(ctx); err != nil {
			return db.keyError(err)
		}
	}
	return db.converge(ctx)
}

// Encrypt makes the plain store in dir, which nobody has open, an encrypted
// one: everything is written again under keys of opts.Keys. It needs room for
// the largest segment. A conversion that was interrupted is finished by the
// next call, and the background of whoever opens the store with opts.Keys
// meanwhile. An encrypted store is left as it is.
func Encrypt(ctx context.Context, dir string, opts *Options, progress func(RotateProgress)) error {
	o := Options{}
	if opts != nil {
		o = *opts
	}
	if o.ReadOnly {
		return fmt.Errorf("encrypt store: %w", ErrReadOnly)
	}
	if o.Keys == nil {
		return &InvalidError{Field: "Options.Keys", Index: -1, Reason: "an operator's key is needed to encrypt a store"}
	}
	o.convert = true
	db, err := Open(dir, &o)
	if err != nil {
		return err
	}
	defer db.watchers.add(progress)()
	err = db.rotation.lock(ctx)
	if err == nil {
		err = db.converge(ctx)
		db.rotation.Unlock()
	}
	if err != nil {
		err = fmt.Errorf("encrypt store: %w", err)
	}
	return errors.Join(err, db.Close())
}

// rotater finishes in the background what was begun before the store was opened.
func (j *jobs) rotater(db *DB) {
	for {
		settled, err := db.settled()
		if err == nil && !settled {
			if db.rotation.lock(j.ctx) != nil {
				return
			}
			err = db.converge(j.ctx)
			db.rotation.Unlock()
		}
		if err == nil || j.ctx.Err() != nil {
			return
		}
		db.report("rotate keys", err, db.failed() != nil)
		if !passes(err) || !pauseFor(j.ctx, retryAfter) {
			return
		}
	}
}

// pauseFor waits; false: ctx has ended.
func pauseFor(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// settled tells that everything is under the newest keys.
func (db *DB) settled() (bool, error) {
	if db.converting() {
		return false, nil
	}
	left, err := db.ring.Rotation()
	return err == nil && left.Done(), err
}

// convergence is one run towards that state.
type convergence struct {
	db      *DB
	cut     uint64 // sequence number: entries from here on are under the newest keys
	done    RotateProgress
	counted bool         // done says how much there is
	stale   bool         // the checkpoint is older than what was done
	hurt    map[ID]error // damaged collections
	stuck   error        // why the newest sweep left something
	sweeps  int          // in a row that did
}

// patience is how many sweeps in a row may fail to remove something before a
// change of keys gives up: waiting is for readers, who end, and not for a
// directory that nobody may write to.
const patience = 4

// watchers are told how far a change of keys is, whoever has begun it.
type watchers struct {
	mu      sync.Mutex
	last    RotateProgress
	running bool
	next    int
	see     map[int]func(RotateProgress)
}

// add has see (nil: nobody) told from now on, until remove is called.
func (w *watchers) add(see func(RotateProgress)) (remove func()) {
	if see == nil {
		return func() {}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.see == nil {
		w.see = map[int]func(RotateProgress){}
	}
	id := w.next
	w.next++
	w.see[id] = see
	if w.running {
		see(w.last)
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.see, id)
	}
}

func (w *watchers) tell(p RotateProgress) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last, w.running = p, true
	for _, see := range w.see {
		see(p)
	}
}

func (w *watchers) over() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = false
}

// converge is called with DB.rotation held.
func (db *DB) converge(ctx context.Context) error {
	if settled, err := db.settled(); settled || err != nil {
		return err
	}
	v := &convergence{db: db, hurt: map[ID]error{}}
	defer db.watchers.over()
	if err := v.renew(ctx); err != nil {
		return err
	}
	if err := v.begin(ctx); err != nil {
		return err
	}
	for wait := retryAfter / 100; ; wait = min(2*wait, retryAfter) {
		if err := v.rewrite(ctx); err != nil {
			return err
		}
		left, err := v.drop(ctx)
		if err != nil || !left {
			return errors.Join(err, v.damage())
		}
		if v.sweeps >= patience {
			return errors.Join(v.stays(), v.damage())
		}
		// Somebody still reads files that were replaced, or an entry of before
		// is on its way into a memtable.
		if !pauseFor(ctx, wait) {
			return context.Cause(ctx)
		}
	}
}

// renew makes the new generations.
func (v *convergence) renew(ctx context.Context) error {
	left, err := v.db.ring.Rotation()
	if err != nil {
		return err
	}
	for _, id := range left.Renew {
		if err := ctx.Err(); err != nil {
			return err
		}
		// One that was deleted meanwhile has no key.
		if _, err := v.db.ring.Renew(id); err != nil && !errors.Is(err, keys.ErrShredded) {
			return v.db.keyError(err)
		}
	}
	return nil
}

// begin has entries sealed under the newest keys from now on, and the log go
// on in a file of its own.
func (v *convergence) begin(ctx context.Context) error {
	db := v.db
	if err := db.catMu.lock(ctx); err != nil {
		return err
	}
	for _, c := range db.all() {
		c.writeMu.Lock()
		c.sealing.renew()
		c.writeMu.Unlock()
	}
	db.catMu.Unlock()
	// Entries that were sealed before are queued, and so in front of the new file.
	if err := db.log.Rotate(); err != nil {
		return logError(err)
	}
	v.cut, v.stale = db.log.End().Seq, true
	return nil
}

// rewrite brings every file under the newest keys.
func (v *convergence) rewrite(ctx context.Context) error {
	db := v.db
	if err := db.resealReceipts(ctx); err != nil {
		return err
	}
	if err := db.resealAudit(ctx); err != nil {
		return err
	}
	covered, err := v.covered(ctx)
	if err != nil {
		return err
	}
	if !covered || v.stale { // this waits for flushes that began under the old keys, too
		if err := db.flushAll(ctx); err != nil && !contained(err) {
			return err
		}
	}
	if err := v.count(); err != nil {
		return err
	}
	for _, c := range db.all() {
		err := c.usable()
		if err == nil {
			err = v.collection(ctx, c)
		}
		switch {
		case err == nil:
			delete(v.hurt, c.id)
		case c.dropped.Load():
		case contained(err):
			v.hurt[c.id] = err
		default:
			return err
		}
	}
	if !covered || v.stale {
		v.stale = false
		return db.writeCheckpoint(ctx)
	}
	if err := db.catMu.lock(ctx); err != nil {
		return err
	}
	defer db.catMu.Unlock()
	if _, v.stuck = db.sweep(ctx); v.stuck == nil {
		v.sweeps = 0
		return db.failed()
	}
	v.sweeps++
	db.report("remove", v.stuck, false)
	return db.failed()
}

// stays tells what a change of keys leaves behind that cannot remove what it
// has replaced.
func (v *convergence) stays() error {
	files, err := v.db.keyFiles()
	newest := v.db.newestKeys()
	files = slices.DeleteFunc(files, func(f keyFile) bool { return !f.old(newest) })
	return errors.Join(err, fmt.Errorf("%d files under old keys are still there, and so are those keys: see to it that the files can be removed, and ask again, which goes on from here: %w",
		len(files), v.stuck))
}

// covered tells that recovery needs nothing of the log that is under old keys.
func (v *convergence) covered(ctx context.Context) (bool, error) {
	if err := v.db.catMu.lock(ctx); err != nil {
		return false, err
	}
	defer v.db.catMu.Unlock()
	return v.db.checkpoint.from.Seq >= v.cut, nil
}

// contained tells the errors that concern one collection alone.
func contained(err error) bool {
	return (errors.Is(err, ErrCorrupt) || errors.Is(err, ErrKey)) && !errors.Is(err, ErrFailed)
}

func (v *convergence) damage() error {
	var errs []error
	for _, err := range v.hurt {
		errs = append(errs, fmt.Errorf("its old keys stay: %w", err))
	}
	return errors.Join(errs...)
}

// count learns how much there is to do.
func (v *convergence) count() error {
	if v.counted {
		return nil
	}
	v.counted = true
	files, err := v.db.keyFiles()
	if err != nil {
		return err
	}
	newest := v.db.newestKeys()
	for _, f := range files {
		if f.kind == seal.KindSegment && f.old(newest) {
			v.done.Segments++
			v.done.Bytes += f.size
		}
	}
	v.db.watchers.tell(v.done)
	return nil
}

// collection writes the collection's segments again that are under old keys.
func (v *convergence) collection(ctx context.Context, c *Collection) error {
	v.db.jobs.interrupt(c)
	if err := c.jobs.one.lock(ctx); err != nil {
		return err
	}
	defer c.jobs.one.Unlock()
	m, view, err := c.manifestView(ctx)
	if err != nil {
		return ignoreDropped(err)
	}
	defer view.close()
	newest := v.db.newestKeys()[seal.ID(c.id)]
	for i, s := range m.segments {
		h, err := disk.ReadHeader(v.db.fs, segment.Name(s.info.Number))
		if isNotExist(err) {
			err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if err == nil && h.KeyID != newest {
			v.stale = true
			if err = c.reseal(ctx, view, i, m.dimension); err == nil {
				v.step(s.info.Length)
			}
		}
		if err != nil {
			return fmt.Errorf("collection %s: %w", c.id, err)
		}
	}
	return nil
}

func (v *convergence) step(bytes int64) {
	v.done.SegmentsDone++
	v.done.BytesDone += bytes
	v.db.watchers.tell(v.done)
}

// reseal replaces segment i of the view with a copy under the newest key;
// jobs.one is held.
func (c *Collection) reseal(ctx context.Context, v *view, i, dim int) error {
	db := c.db
	old := v.version.segments[i].info
	r, err := v.reader(i)
	if err != nil {
		return err
	}
	number := db.newNumber()
	defer db.files.release(number)
	info, err := segment.Copy(ctx, db.fs, db.keys, c.segmentSpec(number, newFileID(), dim), r)
	if err = db.written(segment.Name(number), err); err == nil {
		err = c.replace(ctx, old, info, dim)
	}
	if c.dropped.Load() {
		return nil
	}
	if err != nil {
		db.discard(number)
		return db.diskError(err)
	}
	db.jobs.waste(old.Length)
	return nil
}

// replace logs the edit and puts a copy with the same rows in the place of a
// segment.
func (c *Collection) replace(ctx context.Context, old, info segment.Info, dim int) error {
	if err := c.maint.lock(ctx); err != nil {
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
	m := *c.manifest
	m.segments = slices.Clone(m.segments)
	for i := range m.segments {
		if m.segments[i].info.Number == old.Number {
			m.segments[i].info = info
		}
	}
	if err := c.commitEdit(&m); err != nil {
		return err
	}
	c.applyMu.Lock()
	defer c.applyMu.Unlock()
	s := *c.state.Load()
	handles := slices.Clone(s.version.segments)
	for i, h := range handles {
		if h.info.Number == old.Number {
			handles[i] = c.newHandle(info, dim)
		}
	}
	c.install(&s, handles)
	return nil
}

// drop destroys the keys that nothing needs any more; left tells that some
// still are, but not for long.
func (v *convergence) drop(ctx context.Context) (left bool, err error) {
	db := v.db
	if err := db.catMu.lock(ctx); err != nil {
		return false, err
	}
	from := db.checkpoint.from.Seq
	db.catMu.Unlock()
	// What was removed stays so before its keys go.
	for _, dir := range []string{segmentDir, checkpointDir} {
		if err := db.fs.SyncDir(dir); err != nil {
			return false, db.fail(err)
		}
	}
	files, err := db.keyFiles()
	if err != nil {
		return false, err
	}
	newest := db.newestKeys()
	needed := map[seal.ID]bool{} // old generations of this collection
	for _, f := range files {
		if f.old(newest) {
			needed[f.collection] = true
		}
	}
	needed[seal.ID{}] = needed[seal.ID{}] || from < v.cut
	todo, err := db.ring.Rotation()
	if err != nil {
		return false, err
	}
	for _, k := range todo.Stale {
		if (needed[k.Collection] || v.inLog(k.Collection)) && !mutant.On(mutant.KeyDroppedEarly) {
			needed[k.Collection] = true
			continue
		}
		if err := db.ring.Drop(k.Collection, k.Generation); err != nil {
			return false, db.keyError(err)
		}
	}
	if left = v.waits(needed); left || len(v.hurt) > 0 {
		return left, nil
	}
	if _, err := db.ring.Retire(ctx); err != nil {
		return false, db.keyError(err)
	}
	if err := db.ring.Settle(ctx); err != nil {
		return false, db.keyError(err)
	}
	return false, db.recordKeyset(ctx)
}

// inLog tells that the log may hold entries of the collection under old keys
// that recovery needs.
func (v *convergence) inLog(id seal.ID) bool {
	v.db.mu.RLock()
	c := v.db.catalog.collections[ID(id)]
	v.db.mu.RUnlock()
	if c == nil {
		return false
	}
	if v.hurt[c.id] != nil || c.usable() != nil {
		return true
	}
	first := c.firstUnflushed()
	return first != 0 && first < v.cut
}

// waits tells whether it is worth waiting for the old keys of these
// collections: damaged ones do not end by themselves, and keep the store's.
func (v *convergence) waits(needed map[seal.ID]bool) bool {
	for id, is := range needed {
		if is && v.hurt[ID(id)] == nil && (id != seal.ID{} || len(v.hurt) == 0) {
			return true
		}
	}
	return false
}
