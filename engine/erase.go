package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/keys"
	"github.com/chromad/chromad/internal/mutant"
	"github.com/chromad/chromad/segment"
	"github.com/chromad/chromad/wal"
)

// Erasing takes the bytes of what was deleted out of the files:
//
//	memtables are flushed, so that all deletions are known to the manifests
//	segments with dead rows are written again without them
//	the log goes on in a new file, and a checkpoint covers what is before it
//	what the checkpoint does not need is removed, also what was still read
//	the directories are synced: a power cut brings nothing back
//	receipts are written
//
// What is deleted while this goes on is left to the next time.

// EraseProgress tells how far erasing is. Segments with dead rows are written
// again one by one, which is most of the work.
type EraseProgress struct {
	Segments, SegmentsDone int
	Bytes, BytesDone       int64 // of those segments' files, as they were
}

// EraseNow takes what was deleted, updated and overwritten before the call out
// of the files. When it returns nil, no file of the store holds a byte of it,
// and of an encrypted store there are receipts that say so. Free blocks of the
// disk, snapshots, copies and backups are beyond its reach. It waits for
// reads that began before. An error leaves the store as usable as it was, and
// the next call begins again; ErrCorrupt and ErrKey are of collections that
// are damaged, whose bytes stay until they are repaired or deleted. progress
// (nil: nobody) is called between segments.
func (db *DB) EraseNow(ctx context.Context, progress func(EraseProgress)) error {
	if err := db.enterWrite(ctx); err != nil {
		return err
	}
	return db.await(ctx, func() error {
		if err := db.erase(ctx, progress); err != nil {
			return fmt.Errorf("erase: %w", err)
		}
		return nil
	})
}

// erasing is one run.
type erasing struct {
	db      *DB
	report  func(EraseProgress)
	done    EraseProgress
	gone    []*gone // in the catalog, whose files this run covers
	began   int64   // seconds since 1970
	since   int64   // of the oldest deletion
	unsure  bool
	litter  []string // files that were there, unfinished, when it began
	cut     uint64   // sequence number: what is erased is before it in the log
	limit   uint64   // number of the newest segment then
	records []erasedRecords
	hurt    []error // of damaged collections; the others go on
	told    bool    // receipts are written

	log        wal.FileInfo // the oldest file of the log that is left
	checkpoint uint64       // and the number of the checkpoint
}

// erasedRecords is what was taken out of one collection.
type erasedRecords struct {
	c     *Collection
	rows  uint64
	files []segment.Info
}

func (db *DB) erase(ctx context.Context, progress func(EraseProgress)) error {
	if err := db.erasure.run.lock(ctx); err != nil {
		return err
	}
	defer db.erasure.run.Unlock()
	r := db.beginErasing(progress)
	err := r.steps(ctx)
	if err == nil {
		err = errors.Join(r.hurt...)
	}
	db.endErasing(r, err == nil)
	if err != nil {
		return err
	}
	// So that a crash does not have it all done again. What is durable is so
	// without.
	if err := db.writeCheckpoint(ctx); err != nil && db.failed() == nil {
		db.report("checkpoint", err, false)
	}
	return nil
}

func (db *DB) beginErasing(progress func(EraseProgress)) *erasing {
	e := &db.erasure
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running, e.later = true, 0
	return &erasing{db: db, report: progress, began: now(), since: e.since, unsure: e.unsure, gone: slices.Clone(e.gone)}
}

func (db *DB) endErasing(r *erasing, done bool) {
	e := &db.erasure
	e.mu.Lock()
	defer e.mu.Unlock()
	if r.told {
		e.gone = slices.Delete(e.gone, 0, len(r.gone))
	} else {
		for _, x := range r.records {
			x.c.overwrote.Store(true)
		}
	}
	if done {
		e.since, e.unsure = e.later, false
	}
	e.running, e.later = false, 0
}

func (r *erasing) steps(ctx context.Context) error {
	if err := r.wait(ctx); err != nil {
		return err
	}
	if err := r.collections(ctx); err != nil {
		return err
	}
	if err := r.rotate(ctx); err != nil {
		return err
	}
	if err := r.cover(ctx); err != nil {
		return err
	}
	if err := r.sweep(ctx); err != nil {
		return err
	}
	if err := r.settle(); err != nil {
		return err
	}
	return r.receipts(ctx)
}

// wait waits until nobody writes a file of a collection that was deleted.
func (r *erasing) wait(ctx context.Context) error {
	for _, g := range r.gone {
		if err := idle(ctx, g.busy...); err != nil {
			return err
		}
	}
	// While nobody writes the audit log: what it writes later is not litter.
	if err := r.db.audit.work.lock(ctx); err != nil {
		return err
	}
	defer r.db.audit.work.Unlock()
	return r.unfinished(func(name string) { r.litter = append(r.litter, name) })
}

// idle waits until none of the locks is held.
func idle(ctx context.Context, locks ...waitLock) error {
	for _, l := range locks {
		if err := l.lock(ctx); err != nil {
			return err
		}
		l.Unlock()
	}
	return nil
}

// unfinished yields the files that have not got their names yet.
func (r *erasing) unfinished(yield func(name string)) error {
	for _, dir := range []string{disk.TmpDir, "log"} {
		infos, err := r.db.fs.List(dir)
		if err != nil && !isNotExist(err) {
			return err
		}
		for _, i := range infos {
			if i.Regular && (dir == disk.TmpDir || strings.HasSuffix(i.Name, ".tmp")) {
				yield(dir + "/" + i.Name)
			}
		}
	}
	return nil
}

func (r *erasing) collections(ctx context.Context) error {
	if err := r.db.flushAll(ctx); err != nil && !contained(err) {
		return err
	}
	if err := r.count(ctx); err != nil {
		return err
	}
	for _, c := range r.db.all() {
		err := c.usable()
		if err == nil {
			err = r.collection(ctx, c)
		}
		switch {
		case err == nil, c.dropped.Load(): // which the next run covers
		case contained(err):
			r.hurt = append(r.hurt, err)
			// What it still writes is not litter.
			if err := idle(ctx, c.jobs.one, c.maint); err != nil {
				return err
			}
		default:
			return err
		}
	}
	r.done.SegmentsDone, r.done.BytesDone = r.done.Segments, r.done.Bytes // some by others
	r.step()
	return nil
}

// count learns how much there is to do; more may come.
func (r *erasing) count(ctx context.Context) error {
	if err := r.db.catMu.lock(ctx); err != nil {
		return err
	}
	for _, c := range r.db.all() {
		for _, s := range c.manifest.segments {
			if !s.dead.IsEmpty() {
				r.done.Segments++
				r.done.Bytes += s.info.Length
			}
		}
	}
	r.db.catMu.Unlock()
	r.step()
	return nil
}

func (r *erasing) step() {
	if r.report != nil {
		r.report(r.done)
	}
}

// collection writes the segments with dead rows again, and the list of
// metadata keys without those that only dead rows had.
func (r *erasing) collection(ctx context.Context, c *Collection) error {
	overwrote := c.overwrote.Swap(false) || r.unsure
	x := erasedRecords{c: c}
	err := r.db.flush(ctx, c)
	if err == nil {
		err = r.rewrite(ctx, &x)
	}
	if err == nil && overwrote {
		err = c.forgetKeys(ctx)
	}
	switch {
	case err != nil && overwrote:
		c.overwrote.Store(true)
	case err == nil && (overwrote || x.rows > 0):
		r.records = append(r.records, x)
	}
	return err
}

// rewrite writes each segment that has dead rows now once more. Holding
// jobs.one for each, so one that somebody else merges meanwhile is merged
// without those rows too.
func (r *erasing) rewrite(ctx context.Context, x *erasedRecords) error {
	var todo map[uint64]bool
	for {
		var picked segmentState
		r.db.jobs.interrupt(x.c)
		did, err := x.c.compact(ctx, func(segments []segmentState) []int {
			if todo == nil {
				todo = map[uint64]bool{}
				for _, s := range segments {
					todo[s.info.Number] = !s.dead.IsEmpty() && !mutant.On(mutant.EraseKeepsRows)
				}
			}
			for i, s := range segments {
				if todo[s.info.Number] {
					picked = s
					return []int{i}
				}
			}
			return nil
		})
		if err != nil || !did {
			return err
		}
		x.rows += picked.dead.GetCardinality()
		x.files = append(x.files, picked.info)
		r.done.SegmentsDone++
		r.done.BytesDone += picked.info.Length
		r.done.Segments, r.done.Bytes = max(r.done.Segments, r.done.SegmentsDone), max(r.done.Bytes, r.done.BytesDone)
		r.step()
	}
}

// rotate has the log go on in a new file.
func (r *erasing) rotate(ctx context.Context) error {
	db := r.db
	if err := db.catMu.lock(ctx); err != nil {
		return err
	}
	// An entry that changes nothing, since the log rotates only behind one.
	db.mu.RLock()
	e := &catalogEntry{op: opSetTenant, tenant: DefaultTenant, resource: db.catalog.tenants[DefaultTenant]}
	db.mu.RUnlock()
	err := db.commitLocked(e.append(nil))
	db.catMu.Unlock()
	if err == nil {
		err = logError(db.log.Rotate())
	}
	r.cut, r.limit = db.log.End().Seq, db.nextFile.Load()
	return err
}

// cover writes checkpoints until recovery needs nothing before the cut.
func (r *erasing) cover(ctx context.Context) error {
	db := r.db
	for wait := retryAfter / 100; ; wait = min(2*wait, retryAfter) {
		if err := db.flushAll(ctx); err != nil && !contained(err) {
			return err
		}
		if err := db.writeCheckpoint(ctx); err != nil {
			return err
		}
		if err := db.catMu.lock(ctx); err != nil {
			return err
		}
		covered := db.checkpoint.from.Seq >= r.cut
		db.catMu.Unlock()
		if covered {
			return nil
		}
		for _, c := range db.all() {
			if first := c.firstUnflushed(); first != 0 && first < r.cut && c.usable() != nil && !c.dropped.Load() {
				return fmt.Errorf("the log is still needed: %w", c.usable())
			}
		}
		if !pauseFor(ctx, wait) { // an entry is on its way into a memtable
			return context.Cause(ctx)
		}
	}
}

// sweep removes what the checkpoint does not need, until nothing of it is left.
func (r *erasing) sweep(ctx context.Context) error {
	for wait := retryAfter / 100; ; wait = min(2*wait, retryAfter) {
		left, err := r.sweepOnce(ctx)
		if err != nil || left == "" {
			return err
		}
		if !pauseFor(ctx, wait) {
			return fmt.Errorf("%s is still read: %w", left, context.Cause(ctx))
		}
	}
}

// sweepOnce returns the name of a file that has to go and is still read.
func (r *erasing) sweepOnce(ctx context.Context) (left string, err error) {
	db := r.db
	if err := db.catMu.lock(ctx); err != nil {
		return "", err
	}
	defer db.catMu.Unlock()
	if _, err := db.sweep(ctx); err != nil {
		return "", cmp.Or(db.failed(), err)
	}
	named := db.named()
	segs, err := numberedFiles(db.fs, segmentDir, segmentSuffix)
	if err != nil {
		return "", err
	}
	for _, n := range segs {
		if n <= r.limit && named[n] == nil {
			return segment.Name(n), nil
		}
	}
	return "", r.remains()
}

// remains does not trust that everything else is gone: it looks. catMu is held.
func (r *erasing) remains() error {
	db := r.db
	numbers, err := numberedFiles(db.fs, checkpointDir, checkpointSuffix)
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if n != db.checkpoint.number {
			return fmt.Errorf("%s is still there", checkpointName(n))
		}
	}
	var before wal.FileInfo
	for f, err := range wal.Files(db.fs, wal.Options{Store: db.store, Keys: db.keys}) {
		if err != nil {
			return err
		}
		if before.Name != "" && f.Begin.Seq <= r.cut {
			return fmt.Errorf("%s is still there", before.Name)
		}
		if before.Name == "" {
			r.log = f
		}
		before = f
	}
	r.checkpoint = db.checkpoint.number
	return nil
}

// settle removes what was unfinished when the run began, and makes all
// removals durable: after a failed sync nobody knows what they are.
func (r *erasing) settle() error {
	db := r.db
	there := map[string]bool{}
	if err := r.unfinished(func(name string) { there[name] = true }); err != nil {
		return err
	}
	for _, name := range r.litter {
		if there[name] {
			if err := db.fs.Remove(name); err != nil && !isNotExist(err) {
				return err
			}
		}
	}
	dirs := []string{disk.TmpDir, segmentDir, checkpointDir, "log"}
	if db.ring != nil {
		dirs = append(dirs, keys.Dir)
	}
	if mutant.On(mutant.EraseNotDurable) {
		return nil
	}
	for _, dir := range dirs {
		if err := db.fs.SyncDir(dir); err != nil {
			return db.fail(err)
		}
	}
	return nil
}
