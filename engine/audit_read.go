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
	Seq  uint64 // from 1; none is missing but where an AuditGap says so, where VerifyAudit tells it, or the oldest, which were removed
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
		if err := s.run(); err != nil {
			yield(AuditRecord{}, auditError(err))
		}
	}
}

// AuditEnd is the sequence number of the last record of the audit log, 0 when
// there is none. That the newest closed file cannot be read does not matter.
func (db *DB) AuditEnd(ctx context.Context) (last uint64, err error) {
	if err := db.enter(ctx); err != nil {
		return 0, err
	}
	defer db.leave()
	files, err := db.auditFiles()
	if err != nil {
		return 0, err
	}
	s := &auditScan{db: db, ctx: ctx, next: 1, yield: func(r AuditRecord, _ error) bool {
		last = r.Seq
		return true
	}}
	if n := len(files); n > 0 {
		newest := files[n-1]
		if s.lax = newest.bad != nil; s.lax {
			last = newest.first
		}
		s.next = max(newest.first, newest.about.last)
	}
	if err := s.run(); err != nil {
		return 0, auditError(err)
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
	lax     bool // the newest closed file may be one that cannot be read
	tries   int
	leapt   uint64 // the end of the closed files when records behind it were missing
}

func (s *auditScan) run() error {
	for again := true; again && !s.stopped; {
		var err error
		if again, err = s.pass(); err != nil {
			return err
		}
	}
	return nil
}

// pass reads closed files, then what is in none; again says that a file was
// closed meanwhile, in which the wanted record may be.
func (s *auditScan) pass() (again bool, err error) {
	files, err := s.db.auditFiles()
	if err != nil {
		return false, err
	}
	again, last, unread, err := s.closed(files)
	if again || err != nil || s.stopped {
		return again, err
	}
	return s.behind(files, last, unread)
}

// closed reads the closed files; last is the last record of them. Of one that
// cannot be read only the next one tells where it ends, and of the newest what
// follows: unread is why.
func (s *auditScan) closed(files []auditFile) (again bool, last uint64, unread, err error) {
	for i, f := range files {
		end := f.about.last
		if f.bad != nil && i+1 == len(files) {
			return false, last, f.bad, nil
		}
		if f.bad != nil {
			end = files[i+1].first - 1
		}
		if last = end; last < s.next {
			continue
		}
		if f.bad != nil {
			return false, last, nil, fmt.Errorf("records before %d cannot be read: %w", last+1, f.bad)
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
			return true, last, nil, nil
		}
		if errors.Is(err, ErrCorrupt) {
			err = fmt.Errorf("records before %d cannot be read: %w", last+1, err)
		}
		if err != nil || s.stopped {
			return false, last, nil, err
		}
	}
	return false, last, nil, nil
}

// behind reads what is in no closed file.
func (s *auditScan) behind(files []auditFile, last uint64, unread error) (again bool, err error) {
	end := last
	for e, err := range wal.Salvage(auditFS{s.db.fs}, wal.Position{Seq: auditLogFrom(files)}, s.db.auditWAL()) {
		if _, torn := errors.AsType[*wal.TornTail](err); torn { // or it is being written
			break
		}
		if (isNotExist(err) || errors.Is(err, ErrKey) || errors.Is(err, errKeyGone)) && s.tries < auditTries { // its records are in a closed file now, and its key is gone
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
		if unread != nil { // it ends before this record
			if r.seq > s.next && !s.lax {
				return false, fmt.Errorf("records before %d cannot be read: %w", r.seq, unread)
			}
			last, end, unread = r.seq-1, r.seq-1, nil
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
	if unread != nil && !s.lax {
		return false, unread
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
