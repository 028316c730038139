package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/keys"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/segment"
	"github.com/chromad/chromad/wal"
)

// DB is an open store. It is safe for concurrent use.
type DB struct {
	opts    Options
	fs      vfs.FS
	root    io.Closer // of fs, if we opened it
	keys    seal.Keys
	ring    *keys.Ring // the same, nil when the store is plain
	lock    io.Closer
	store   seal.ID
	log     *wal.Log
	readers *readerCache
	texts   *segment.Cache
	memory  *disk.Budget // of segments, see Options.SegmentMemory
	cores   cores
	workers sync.Pool // of *worker
	files   liveFiles
	jobs    jobs
	work    workDone

	gate     gate
	failure  atomic.Pointer[error] // set once: no more writes
	memBytes atomic.Int64          // of all memtables, frozen ones too

	catMu      waitLock
	checkpoint checkpointState // guarded by catMu
	tried      uint64          // newest number ever given to a checkpoint; guarded by catMu
	reserve    reserve
	erasure    erasure
	expiry     expiring
	replaying  bool      // the log cannot be added to yet
	opened     []byte    // memory for entries that are replayed
	entries    sync.Pool // of *[]byte, for entries on their way to the log

	nextFile atomic.Uint64 // number of the last file made
	rotation waitLock      // held by whoever changes keys; before all other locks
	watchers watchers      // of that
	audit    *auditLog

	mu      sync.RWMutex
	catalog *catalog
}

// Open opens the store in dir and recovers it; a directory that is missing or
// has no store in it becomes a new one unless opts says ReadOnly (then it is
// ErrNotFound, or the system's error). Files of others in it are left alone.
// nil opts are the defaults. ErrLocked: another process, or another DB of this
// one, has it open; the error says who. ErrCorrupt and ErrFormat are of
// checkpoint and log: damage in a segment is found by whoever reads it.
// Close must be called.
func Open(dir string, opts *Options) (*DB, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	db := &DB{opts: o, fs: o.fs, keys: seal.Plain(), files: liveFiles{refs: map[uint64]int{}}, catMu: newWaitLock(), rotation: newWaitLock()}
	db.gate.init()
	db.audit = newAuditLog(db)
	db.erasure.run, db.erasure.wake = newWaitLock(), make(chan struct{}, 1)
	db.expiry.wake = make(chan struct{}, 1)
	db.jobs.rest.init()
	if db.fs == nil {
		root, err := openRoot(dir, o.ReadOnly)
		if err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
		db.fs, db.root = root, root
	}
	db.fs = vfs.InTurn(db.fs)
	db.texts = segment.NewCache(o.TextCache)
	db.memory = disk.NewBudget(o.SegmentMemory)
	db.cores.init()
	db.readers = newReaderCache(db.fs, o.OpenSegments)
	if err := db.open(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("open store: %w", err), db.closeFiles())
	}
	return db, nil
}

func openRoot(dir string, readOnly bool) (*vfs.Root, error) {
	if readOnly {
		return vfs.Open(dir)
	}
	return vfs.Make(dir)
}

func (db *DB) open(dir string) error {
	if err := db.takeLock(); err != nil {
		return err
	}
	if err := db.openKeys(dir); err != nil {
		return err
	}
	if err := db.recover(); err != nil {
		return err
	}
	if !db.opts.ReadOnly {
		db.jobs.start(db)
	}
	return nil
}

// takeLock keeps others away: everybody, or as a reader those who write. A
// store that has no lock file, or one that may not be read, cannot be locked
// by a reader, who must not make one.
func (db *DB) takeLock() (err error) {
	const name = "LOCK"
	if !db.opts.ReadOnly {
		db.lock, err = db.fs.Lock(name, "chromad store")
		return err
	}
	lock, err := db.fs.LockShared(name)
	if isNotExist(err) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err == nil {
		db.lock = lock
	}
	return err
}

// Close waits for calls that are running, flushes, writes a checkpoint and
// gives the directory free. A second Close returns ErrClosed.
func (db *DB) Close() error {
	if !db.gate.close() {
		return ErrClosed
	}
	var err error
	if !db.opts.ReadOnly {
		db.jobs.stop()
		// Calls that gave up waiting may have left entries on their way.
		db.settle()
		if err = db.failed(); err == nil {
			err = db.flushFor(closeFlush)
		}
		if err == nil {
			err = db.writeCheckpoint(context.Background())
		}
	}
	return errors.Join(err, db.audit.close(), db.closeFiles())
}

// closeFlush is how long Close flushes, the largest memtables first. What is
// left is in the log, and the next Open reads it there.
const closeFlush = 10 * time.Second

func (db *DB) flushFor(d time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	err := db.flushAll(ctx)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrCorrupt) {
		return nil
	}
	return err
}

func (db *DB) closeFiles() error {
	var errs []error
	if db.log != nil {
		errs = append(errs, db.log.Close())
	}
	errs = append(errs, db.readers.close())
	db.texts.Close()
	if db.ring != nil {
		errs = append(errs, db.ring.Close())
	}
	for _, c := range []io.Closer{db.lock, db.root} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// settle waits until every entry that was logged is applied.
func (db *DB) settle() {
	for _, c := range db.all() {
		<-c.pending.whenIdle()
	}
}

// all returns the collections there are.
func (db *DB) all() []*Collection {
	db.mu.RLock()
	defer db.mu.RUnlock()
	out := make([]*Collection, 0, len(db.catalog.collections))
	for _, c := range db.catalog.collections {
		out = append(out, c)
	}
	return out
}

// enter begins a call; leave ends it.
func (db *DB) enter(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !db.gate.enter() {
		return ErrClosed
	}
	return nil
}

func (db *DB) leave() { db.gate.leave() }

// enterWrite begins a call that changes something.
func (db *DB) enterWrite(ctx context.Context) error {
	if db.opts.ReadOnly {
		return ErrReadOnly
	}
	if err := db.enter(ctx); err != nil {
		return err
	}
	if err := db.failed(); err != nil {
		db.leave()
		return err
	}
	return nil
}

// failed returns ErrFailed with its cause once the disk has failed.
func (db *DB) failed() error {
	if p := db.failure.Load(); p != nil {
		return *p
	}
	if err := db.log.Err(); err != nil {
		return db.fail(err)
	}
	return nil
}

// Err returns why the store accepts no more writes; nil while it does.
func (db *DB) Err() error {
	if db.opts.ReadOnly {
		return nil
	}
	return db.failed()
}

// fail latches the store: after a failed sync nothing is known about what the
// disk holds, and only reading it again will tell.
func (db *DB) fail(cause error) error {
	err := cause
	if !errors.Is(err, ErrFailed) {
		err = fmt.Errorf("%w: %w", ErrFailed, cause)
	}
	if db.failure.CompareAndSwap(nil, &err) {
		db.report("write", err, true)
		db.jobs.notifyFreed() // nobody will flush for those who wait
	}
	return *db.failure.Load()
}

func (db *DB) report(op string, err error, failed bool) {
	if f := db.opts.Events.Error; f != nil {
		f(ErrorEvent{Op: op, Err: err, Failed: failed})
	}
}

// commitLocked logs an entry that changes catalog or files, and waits; catMu
// is held, so such entries are applied in the order of the log.
func (db *DB) commitLocked(payload []byte) error {
	frees := op(payload[0]).plain().frees()
	if !frees {
		if err := db.reserveSpent(); err != nil {
			return err
		}
	}
	_, err := db.log.Commit(context.Background(), payload)
	if frees && errors.Is(err, ErrDiskFull) {
		db.spendReserve(forEntries)
		_, err = db.log.Commit(context.Background(), payload)
	}
	db.wrote(len(payload))
	return logError(err)
}

// newNumber allocates the number of a new file and keeps the file, which is
// in nobody's manifest yet, from being swept. The caller releases it.
func (db *DB) newNumber() uint64 {
	n := db.nextFile.Add(1)
	db.files.retain(n)
	return n
}

// gate counts running calls, so that Close can wait for them.
type gate struct {
	n    atomic.Int64 // negative once closed
	idle chan struct{}
}

func (g *gate) init() { g.idle = make(chan struct{}, 1) }

func (g *gate) enter() bool {
	if g.n.Add(1) > 0 {
		return true
	}
	g.leave()
	return false
}

func (g *gate) leave() {
	if g.n.Add(-1) == math.MinInt64 {
		select {
		case g.idle <- struct{}{}:
		default:
		}
	}
}

// close shuts the gate and waits for those inside; false: it was shut.
func (g *gate) close() bool {
	for {
		n := g.n.Load()
		if n < 0 {
			return false
		}
		if g.n.CompareAndSwap(n, n+math.MinInt64) {
			if n > 0 {
				<-g.idle
			}
			return true
		}
	}
}
