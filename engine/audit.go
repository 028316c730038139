package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/chromad/chromad/wal"
)

// The audit log is a chain of records beside the data: each holds the hash of
// the one before, and an encrypted store signs the chain now and then, so that
// nobody changes, removes or reorders a record unseen. The engine does not look
// into what the records say. It is there from the first AppendAudit on.
//
// New records go to a log of their own, made by package wal as the store's is,
// with one sync for all that wait. From time to time what it holds becomes a
// closed file, which is never changed and, when it is old, removed whole.

// maxAuditQueue is how many bytes of records may wait that nobody waits for.
const maxAuditQueue = 1 << 20

// signEvery is after how many records the chain is signed, at the latest.
const signEvery = 1000

// auditLog is the audit log of an open store.
type auditLog struct {
	db *DB

	// work is held by whoever writes. The fields up to mu are his.
	work     waitLock
	log      *wal.Log     // nil: not opened yet
	last     uint64       // sequence number of the last record
	hash     auditHash    // of that one
	open     auditSummary // of the records in no closed file; first 0: there are none
	size     int64        // of these, in bytes
	unsigned uint64       // how many came after the last signature
	anchored uint64       // last record that the catalog knows of
	retry    int64        // size from which on closing a file is tried again
	reserved bool         // the file of filler is there
	gap      uint64       // number of the record of a gap, written by a start that then failed
	closed   []auditFile

	mu      sync.Mutex
	queue   []*auditEntry
	queued  int           // bytes of those
	wake    chan struct{} // there is something in the queue
	urgent  chan struct{} // and somebody waits for it
	done    chan struct{} // closed when the committer has ended; nil: it was never started
	stopped bool
	failure error // of the last attempt to write
	lost    uint64
}

// auditEntry is a record that waits to be written.
type auditEntry struct {
	body   []byte
	result chan auditResult // nil: nobody waits
}

type auditResult struct {
	seq uint64
	err error
}

func newAuditLog(db *DB) *auditLog {
	return &auditLog{db: db, work: newWaitLock(), wake: make(chan struct{}, 1), urgent: make(chan struct{}, 1)}
}

// AppendAudit adds a record to the audit log: at most 64 KiB, which the engine
// does not look into. durable: it is on disk when this returns, under the
// sequence number seq. Else it is on its way there (seq 0), and is lost if the
// process ends in the milliseconds before; but while the disk refuses records
// every call waits, so that nothing goes unrecorded for long. An error: the
// record is not there, or with ErrUnknown may be.
func (db *DB) AppendAudit(ctx context.Context, record []byte, durable bool) (seq uint64, err error) {
	if db.opts.ReadOnly {
		return 0, ErrReadOnly
	}
	if len(record) > maxAuditBody {
		return 0, fmt.Errorf("audit record of %d bytes, %d are the most: %w", len(record), maxAuditBody, ErrTooLarge)
	}
	if err := db.enter(ctx); err != nil {
		return 0, err
	}
	defer db.leave()
	e := &auditEntry{body: bytes.Clone(record)}
	if !db.audit.enqueue(e, durable) {
		return 0, nil
	}
	select {
	case r := <-e.result:
		return r.seq, r.err
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: %w", ErrUnknown, ctx.Err())
	}
}

// enqueue tells whether the result has to be waited for.
func (a *auditLog) enqueue(e *auditEntry, durable bool) (wait bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	wait = durable || a.failure != nil || a.queued > maxAuditQueue
	if wait {
		e.result = make(chan auditResult, 1)
	}
	if a.done == nil {
		a.done = make(chan struct{})
		go a.run()
	}
	a.queue = append(a.queue, e)
	a.queued += len(e.body)
	a.signal(wait || a.queued > maxAuditQueue/2)
	return wait
}

func (a *auditLog) signal(urgent bool) {
	select {
	case a.wake <- struct{}{}:
	default:
	}
	if !urgent {
		return
	}
	select {
	case a.urgent <- struct{}{}:
	default:
	}
}

// linger is how long records gather that nobody waits for.
const linger = 5 * time.Millisecond

// run is the committer: while one batch is on its way to the disk, the next
// one gathers.
func (a *auditLog) run() {
	defer close(a.done)
	for range a.wake {
		select {
		case <-a.urgent:
		case <-time.After(linger):
		}
		a.mu.Lock()
		batch, stopped := a.queue, a.stopped
		a.queue, a.queued = nil, 0
		a.mu.Unlock()
		for len(batch) > 0 {
			n, size := 0, 0
			for n < len(batch) && (n == 0 || size+len(batch[n].body) <= maxAuditQueue) {
				size += len(batch[n].body)
				n++
			}
			a.commit(batch[:n])
			batch = batch[n:]
		}
		if stopped {
			return
		}
	}
}

// commit makes a batch durable and tells those who wait.
func (a *auditLog) commit(batch []*auditEntry) {
	a.work.Lock()
	defer a.work.Unlock()
	bodies := make([][]byte, len(batch))
	for i, e := range batch {
		bodies[i] = e.body
	}
	first := a.last + 1
	err := a.start()
	if err == nil {
		first = a.last + 1
		err = a.write(AuditEvent, bodies...)
	}
	a.mu.Lock()
	a.failure = err
	for _, e := range batch {
		if err != nil && e.result == nil {
			a.lost++
		}
	}
	a.mu.Unlock()
	for i, e := range batch {
		switch {
		case e.result == nil:
		case err != nil:
			e.result <- auditResult{err: err}
		default:
			e.result <- auditResult{seq: first + uint64(i)}
		}
	}
	if err != nil {
		a.db.report("audit", err, false)
		return
	}
	a.maintain()
}

// maintain signs and closes what is due. Records are durable without, so an
// error is told and tried again later.
func (a *auditLog) maintain() {
	var err error
	if a.unsigned >= signEvery {
		err = a.sign()
	}
	if limit := a.db.opts.AuditFile; err == nil && a.size >= max(limit, a.retry) {
		if err = a.closeFile(); err != nil {
			a.retry = a.size + limit/8
		}
	}
	if err != nil {
		a.db.report("audit", err, false)
	}
}

// AuditStats are figures of the audit log since the store was opened.
type AuditStats struct {
	Last uint64 // sequence number of the last record that was written, 0: nothing was yet
	Lost uint64 // records that nobody waited for and that could not be written
	Err  error  // of the last attempt to write
}

// AuditStats tells how the audit log fares.
func (db *DB) AuditStats() AuditStats {
	a := db.audit
	a.work.Lock()
	last := a.last
	a.work.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	return AuditStats{Last: last, Lost: a.lost, Err: a.failure}
}

// close writes what is queued, signs it, and gives the files free.
func (a *auditLog) close() error {
	a.mu.Lock()
	running := a.done
	a.stopped = true
	a.mu.Unlock()
	if running != nil {
		a.signal(true)
		<-running
	}
	a.work.Lock()
	defer a.work.Unlock()
	if a.log == nil {
		return nil
	}
	err := a.sign()
	if errors.Is(err, ErrDiskFull) { // the records are there, and are signed the next time
		err = nil
	}
	err = errors.Join(err, auditError(a.log.Close()))
	a.log = nil
	return err
}
