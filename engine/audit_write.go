package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/wal"
)

func (db *DB) auditWAL() wal.Options {
	return wal.Options{Store: db.store, Kind: seal.KindAuditLog, Keys: auditKeys{db}, Epoch: 1, NewID: newFileID, ReadOnly: db.opts.ReadOnly}
}

// write makes records durable, all or none; work is held.
func (a *auditLog) write(kind AuditKind, bodies ...[]byte) error {
	var payload []byte
	about, hash := a.open, a.hash
	r := auditRecord{kind: kind, seq: a.last, time: now()}
	for _, body := range bodies {
		r.seq, r.prev, r.body = r.seq+1, hash, body
		from := len(payload)
		payload = r.append(payload)
		hash = hashAudit(a.db.store, payload[from:])
		about.take(&r, hash)
	}
	_, err := a.log.Commit(context.Background(), payload)
	if errors.Is(err, ErrDiskFull) && a.log.Err() == nil && a.spendReserve() {
		_, err = a.log.Commit(context.Background(), payload)
	}
	if err != nil {
		return auditError(logError(err))
	}
	a.open, a.last, a.hash = about, r.seq, hash
	a.size += int64(len(payload))
	a.unsigned += uint64(len(bodies))
	return nil
}

// note writes a record of the engine's own.
func (a *auditLog) note(kind AuditKind, what any) error {
	body, err := json.Marshal(what)
	if err != nil {
		return err
	}
	return a.write(kind, body)
}

// sign writes a signature of all records, unless the last one is one; work is held.
func (a *auditLog) sign() error {
	if a.unsigned == 0 || a.db.ring == nil {
		return nil
	}
	sig, err := a.db.ring.Sign(auditMessage(a.db.store, a.last, a.hash))
	if err != nil {
		return fmt.Errorf("audit log: sign: %w", err)
	}
	if err := a.write(AuditSigned, sig); err != nil {
		return err
	}
	a.unsigned = 0
	return nil
}

// closeFile makes a closed file of the records that are in none; work is held.
// A log that was damaged since it was opened is opened again, which puts it
// aside and makes a closed file of what can be read. After an error there may be
// no log until the next start.
func (a *auditLog) closeFile() error {
	err := a.closeOpen()
	if !errors.Is(err, ErrCorrupt) {
		return err
	}
	a.db.report("audit", errors.Join(err, a.log.Close()), false)
	a.log = nil
	if err := a.start(); err != nil {
		return err
	}
	return a.closeOpen()
}

// closeOpen is closeFile of a log that is whole. A crash in between leaves
// records in both places, which start sees.
func (a *auditLog) closeOpen() error {
	if a.open.first == 0 {
		return nil
	}
	if err := a.sign(); err != nil {
		return err
	}
	about := a.open
	about.log = a.log.End().Seq
	f, err := a.db.putAudit(about, func(write func([]byte) error) error {
		for e, err := range wal.Salvage(auditFS{a.db.fs}, wal.Position{Seq: auditLogFrom(a.closed)}, a.db.auditWAL()) {
			if err == nil {
				err = write(e.Payload)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return auditError(err)
	}
	a.closed = append(a.closed, f)
	a.open, a.size, a.retry = auditSummary{}, 0, 0
	if err := a.log.Rotate(); err != nil {
		return auditError(logError(err))
	}
	return auditError(a.log.Release(a.log.End()))
}

// start opens the log and finds its end; work is held. What cannot be read is
// put aside, and a record says so: the store can go on, and nobody can say that
// nothing happened.
func (a *auditLog) start() error {
	if a.log != nil && a.log.Err() == nil {
		return nil
	}
	db := a.db
	if a.log != nil { // the disk failed: only reading it again tells what it holds
		db.report("audit", a.log.Close(), false)
		a.log = nil
	}
	if err := db.fs.Mkdir(auditDir); err != nil {
		return err
	}
	if err := db.fs.SyncDir("."); err != nil {
		return err
	}
	// Opening makes a file, also on a full disk.
	a.reserved = false
	if err := db.fs.Remove(auditReserve); err != nil && !isNotExist(err) {
		return err
	}
	found, err := db.findAuditEnd(a.last)
	if err != nil {
		return auditError(err)
	}
	log, err := a.reopen(found)
	if err != nil {
		return auditError(err)
	}
	a.log, a.closed, a.open, a.size = log, found.closed, found.open, int64(len(found.stored))
	a.last, a.hash, a.unsigned, a.gap = found.last, found.hash, found.unsigned, 0
	a.keepReserve()
	if found.damage != nil {
		db.report("audit", auditError(found.damage), false)
	}
	return nil
}

// reopen opens the log that was found, and puts aside one that is damaged.
func (a *auditLog) reopen(found *auditEnd) (*wal.Log, error) {
	if found.damage == nil {
		log, err := a.db.openAuditLog(found)
		if !errors.Is(err, ErrCorrupt) {
			return log, err
		}
		found.damage = err
	}
	if err := a.keepReadable(found); err != nil {
		return nil, err
	}
	if err := a.putAside(found); err != nil {
		return nil, err
	}
	return a.db.openAuditLog(found)
}

// openAuditLog makes the log ready to be added to.
func (db *DB) openAuditLog(f *auditEnd) (*wal.Log, error) {
	from := auditLogFrom(f.closed)
	if len(f.closed) == 0 { // all were removed, or there never was one
		from = max(1, f.begin)
	}
	o := db.auditWAL()
	o.New = f.damage != nil
	log, err := wal.Open(auditFS{db.fs}, wal.Position{Epoch: 1, Seq: from}, o)
	if err != nil {
		return nil, logError(err)
	}
	for _, err := range log.Replay() {
		if err != nil {
			return nil, errors.Join(logError(err), log.Close())
		}
	}
	return log, nil
}

// auditLogFrom is the position in audit/log behind what closed files hold.
func auditLogFrom(closed []auditFile) uint64 {
	if n := len(closed); n > 0 {
		return max(1, closed[n-1].about.log)
	}
	return 1
}

// auditEnd is what is on disk.
type auditEnd struct {
	closed   []auditFile
	open     auditSummary
	stored   []byte // the records in no closed file
	last     uint64
	hash     auditHash
	unsigned uint64
	there    bool   // a file of audit/log
	begin    uint64 // position of the first
	known    uint64 // the last record that is known to have been, by the catalog or by what was found
	damage   error
}

// findAuditEnd reads it. Records up to known were there.
func (db *DB) findAuditEnd(known uint64) (*auditEnd, error) {
	closed, err := db.auditFiles()
	if err != nil {
		return nil, err
	}
	f := &auditEnd{closed: closed, known: max(known, db.auditAnchor().Seq)}
	sure := true // hash is that of the last record
	for _, c := range closed {
		if sure = c.bad == nil; sure {
			f.last, f.hash = c.about.last, c.about.hash
			continue
		}
		if errors.Is(c.bad, ErrKey) {
			return nil, c.bad
		}
		f.last = c.first
	}
	o := db.auditWAL()
	for file, err := range wal.Files(auditFS{db.fs}, o) {
		if errors.Is(err, ErrKey) {
			return nil, err
		}
		if !f.there {
			f.begin = file.Begin.Seq
		}
		f.there = true
	}
	for e, err := range wal.Salvage(auditFS{db.fs}, wal.Position{Seq: auditLogFrom(closed)}, o) {
		if _, torn := errors.AsType[*wal.TornTail](err); torn {
			continue
		}
		if err == nil && f.damage == nil {
			err = f.take(db.store, e.Payload, &sure)
		}
		if errors.Is(err, ErrCorrupt) {
			f.damage = cmp.Or(f.damage, err)
		} else if err != nil {
			return nil, err
		}
		if f.damage != nil { // their numbers were given, and are not given again
			f.known = max(f.known, lastAudit(e.Payload))
		}
	}
	switch {
	case f.damage != nil:
	case !f.there && (len(closed) > 0 || f.known > 0):
		f.damage = &disk.CorruptError{File: auditLogDir, Err: errors.New("there is no file, but there was a log")}
	case f.last < f.known:
		f.damage = &disk.CorruptError{File: auditDir, Err: fmt.Errorf("it ends with record %d, the store knows of %d", f.last, f.known)}
	case !sure:
		f.damage = closed[len(closed)-1].bad
	}
	return f, nil
}

// take adds the records of an entry that are in no closed file.
func (f *auditEnd) take(store seal.ID, payload []byte, sure *bool) error {
	for len(payload) > 0 {
		r, stored, rest, err := cutAuditRecord(payload)
		if err != nil {
			return err
		}
		payload = rest
		if r.seq <= f.last && f.open.first == 0 {
			continue
		}
		leap := r.seq != f.last+1 && r.kind != AuditGap
		// Where the first one begins is for VerifyAudit: those before may have been removed.
		if *sure && f.last > 0 && (leap || r.seq <= f.last || r.prev != f.hash) {
			return fmt.Errorf("%w: record %d does not follow record %d", ErrCorrupt, r.seq, f.last)
		}
		*sure = true
		f.last, f.hash = r.seq, hashAudit(store, stored)
		f.open.take(&r, f.hash)
		f.stored = append(f.stored, stored...)
		if f.unsigned++; r.kind == AuditSigned {
			f.unsigned = 0
		}
	}
	return nil
}

// lastAudit is the number of the last record of an entry, 0 if there is none.
func lastAudit(payload []byte) (last uint64) {
	for len(payload) > 0 {
		r, _, rest, err := cutAuditRecord(payload)
		if err != nil {
			break
		}
		last, payload = r.seq, rest
	}
	return last
}

// keepReadable makes a closed file of what can be read of a damaged log and,
// behind it, the record that says what happened. It is durable before anything
// is moved: whenever the process ends, the gap is known, and so are the numbers
// that were given.
func (a *auditLog) keepReadable(f *auditEnd) error {
	if a.gap > 0 && a.gap == f.last && f.open.first == 0 { // an attempt before this one did, and failed afterwards
		return nil
	}
	body, err := json.Marshal(AuditLoss{After: f.last, Known: f.known, Reason: f.damage.Error()})
	if err != nil {
		return err
	}
	r := auditRecord{kind: AuditGap, seq: max(f.last, f.known) + 1, time: now(), prev: f.hash, body: body}
	at := len(f.stored)
	f.stored = r.append(f.stored)
	f.last, f.hash = r.seq, hashAudit(a.db.store, f.stored[at:])
	f.open.take(&r, f.hash)
	f.open.log = auditLogFrom(f.closed) // where the next one begins
	c, err := a.db.putAudit(f.open, func(write func([]byte) error) error { return write(f.stored) })
	if err != nil {
		return err
	}
	f.closed = append(slices.DeleteFunc(f.closed, func(o auditFile) bool { return o.first == c.first }), c)
	f.open, f.stored = auditSummary{}, nil
	f.unsigned++
	a.gap = f.last
	return nil
}

// putAside moves the files of a damaged log away, which may prove something.
func (a *auditLog) putAside(f *auditEnd) error {
	f.there, f.begin = false, 0
	infos, err := a.db.fs.List(auditLogDir)
	if err != nil && !isNotExist(err) {
		return err
	}
	names := make([]string, len(infos))
	for n, i := range infos {
		names[n] = i.Name
	}
	return a.db.moveAside(auditLogDir, names...)
}
