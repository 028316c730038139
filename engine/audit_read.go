package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/wal"
)

// AuditRecord is a record of the audit log.
type AuditRecord struct {
	Seq  uint64 // from 1; none is missing but where an AuditGap says so, or the oldest were removed
	Time time.Time
	Kind AuditKind
	Hash string // of this record and, through it, of all before: hexadecimal
	Body []byte // valid until the next step of the iteration
}

// AuditRecords yields the records of the audit log from a sequence number on,
// in order, also while the log is added to. An error is yielded once, last:
// ErrCorrupt, ErrKey. VerifyAudit says what is wrong with a damaged log.
func (db *DB) AuditRecords(ctx context.Context, from uint64) iter.Seq2[AuditRecord, error] {
	return func(yield func(AuditRecord, error) bool) {
		if err := db.enter(ctx); err != nil {
			yield(AuditRecord{}, err)
			return
		}
		defer db.leave()
		s := &auditScan{db: db, ctx: ctx, next: max(from, 1), yield: yield}
		for again := true; again && !s.stopped; {
			var err error
			if again, err = s.pass(); err != nil {
				yield(AuditRecord{}, auditError(err))
				return
			}
		}
	}
}

// AuditEnd is the sequence number of the last record of the audit log, 0 when
// there is none.
func (db *DB) AuditEnd(ctx context.Context) (last uint64, err error) {
	if err := db.enter(ctx); err != nil {
		return 0, err
	}
	files, err := db.auditFiles()
	db.leave()
	if err != nil {
		return 0, err
	}
	from := uint64(1)
	if n := len(files); n > 0 {
		from = max(1, files[n-1].about.last)
	}
	for r, err := range db.AuditRecords(ctx, from) {
		if err != nil {
			return 0, err
		}
		last = r.Seq
	}
	return last, nil
}

// auditScan reads the log from one end to the other.
type auditScan struct {
	db      *DB
	ctx     context.Context
	next    uint64 // sequence number of the record that is wanted
	yield   func(AuditRecord, error) bool
	stopped bool
	tries   int
	leapt   uint64 // the end of the closed files when records behind it were missing
}

// pass reads closed files, then what is in none; again says that a file was
// closed meanwhile, in which the wanted record may be.
func (s *auditScan) pass() (again bool, err error) {
	files, err := s.db.auditFiles()
	if err != nil {
		return false, err
	}
	last := uint64(0)
	for _, f := range files {
		if f.bad != nil {
			return false, f.bad
		}
		last = f.about.last
		if last < s.next || s.stopped {
			continue
		}
		err := s.db.readAudit(f, func(_ auditSummary, records *disk.Section) error {
			b, err := records.Bytes(0, records.Len())
			if err != nil {
				return err
			}
			_, err = s.records(b)
			return err
		})
		if isNotExist(err) { // removed, or under another key now
			return true, nil
		}
		if err != nil || s.stopped {
			return false, err
		}
	}
	end := last
	for e, err := range wal.Salvage(auditFS{s.db.fs}, wal.Position{Seq: auditLogFrom(files)}, s.db.auditWAL()) {
		if _, torn := errors.AsType[*wal.TornTail](err); torn { // or it is being written
			break
		}
		if (isNotExist(err) || errors.Is(err, ErrKey)) && s.tries < auditTries { // its records are in a closed file now, and its key is gone
			s.tries++
			return true, nil
		}
		if err != nil {
			return false, err
		}
		r, _, _, err := cutAuditRecord(e.Payload)
		if err != nil {
			return false, err
		}
		if r.seq > end+1 && r.kind != AuditGap { // in a file that was closed meanwhile, or nowhere
			if s.leapt != last+1 {
				s.leapt = last + 1
				return true, nil
			}
			if last > 0 {
				return false, fmt.Errorf("%w: records %d to %d are missing", ErrCorrupt, end+1, r.seq-1)
			}
		}
		if end, err = s.records(e.Payload); err != nil || s.stopped {
			return false, err
		}
	}
	files, err = s.db.auditFiles()
	if err != nil || len(files) == 0 {
		return false, err
	}
	newest := files[len(files)-1]
	return newest.bad == nil && newest.about.last > last && newest.about.last >= s.next, nil
}

// records yields those that are wanted, and returns the last of all.
func (s *auditScan) records(b []byte) (last uint64, err error) {
	for len(b) > 0 && !s.stopped {
		if s.ctx.Err() != nil {
			return last, context.Cause(s.ctx)
		}
		r, stored, rest, err := cutAuditRecord(b)
		if err != nil {
			return last, err
		}
		b, last = rest, r.seq
		if r.seq < s.next {
			continue
		}
		s.next = r.seq + 1
		s.stopped = !s.yield(AuditRecord{Seq: r.seq, Time: time.Unix(r.time, 0).UTC(), Kind: r.kind, Hash: hashAudit(s.db.store, stored).String(), Body: r.body}, nil)
	}
	return last, nil
}
