package engine

import (
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
	return wal.Options{Store: db.store, Kind: seal.KindAuditLog, Keys: db.keys, Epoch: 1, NewID: newFileID, ReadOnly: db.opts.ReadOnly}
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
// A crash in between leaves them in both places, which start sees.
func (a *auditLog) closeFile() error {
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
	if err := db.fs.Remove(auditReserve); err != nil && !isNotExist(err) {
		return err
	}
	found, err := db.findAuditEnd()
	if err != nil {
		return auditError(err)
	}
	log, err := db.openAuditLog(found)
	if errors.Is(err, ErrCorrupt) && found.damage == nil {
		found.damage = err
	}
	if found.damage != nil {
		if err := a.putAside(found); err != nil {
			return auditError(err)
		}
		log, err = db.openAuditLog(found)
	}
	if err != nil {
		return auditError(err)
	}
	a.log, a.closed, a.open, a.size = log, found.closed, found.open, int64(len(found.stored))
	a.last, a.hash, a.unsigned = found.last, found.hash, found.unsigned
	a.keepReserve()
	if found.damage == nil {
		return nil
	}
	db.report("audit", found.damage, false)
	a.last = max(a.last, found.known)
	if err := a.note(AuditGap, AuditLoss{After: found.last, Known: found.known, Reason: found.damage.Error()}); err != nil {
		err = errors.Join(err, a.log.Close())
		a.log = nil
		return err
	}
	return nil
}

// openAuditLog makes the log ready to be added to.
func (db *DB) openAuditLog(f *auditEnd) (*wal.Log, error) {
	if f.damage != nil && f.there {
		return nil, f.damage
	}
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
	known    uint64 // the last record that the catalog knows of
	damage   error
}

func (db *DB) findAuditEnd() (*auditEnd, error) {
	closed, err := db.auditFiles()
	if err != nil {
		return nil, err
	}
	f := &auditEnd{closed: closed, known: db.auditAnchor().Seq}
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
		if err == nil {
			err = f.take(db.store, e.Payload, &sure)
		}
		if errors.Is(err, ErrCorrupt) {
			f.damage = err
			break
		}
		if err != nil {
			return nil, err
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

// putAside makes a closed file of what can be read of a damaged log, and moves
// the files away, which may prove something.
func (a *auditLog) putAside(f *auditEnd) error {
	db := a.db
	if f.open.first > 0 {
		f.open.log = auditLogFrom(f.closed) // where the next one begins
		c, err := db.putAudit(f.open, func(write func([]byte) error) error { return write(f.stored) })
		if err != nil {
			return err
		}
		f.closed = append(f.closed, c)
		f.open, f.stored = auditSummary{}, nil
	}
	f.there, f.begin = false, 0
	infos, err := db.fs.List(auditLogDir)
	if err != nil || len(infos) == 0 {
		if isNotExist(err) {
			err = nil
		}
		return err
	}
	if err := db.fs.Mkdir(auditDamagedDir); err != nil {
		return err
	}
	if err := db.fs.SyncDir(auditDir); err != nil {
		return err
	}
	there, err := db.fs.List(auditDamagedDir)
	if err != nil {
		return err
	}
	for n, i := range infos {
		to := fmt.Sprintf("%s/%06d-%s", auditDamagedDir, len(there)+n, i.Name)
		if err := db.fs.Rename(auditLogDir+"/"+i.Name, to); err != nil {
			return err
		}
	}
	return errors.Join(db.fs.SyncDir(auditDamagedDir), db.fs.SyncDir(auditLogDir))
}

// resealAudit puts the audit log under the store's newest key.
func (db *DB) resealAudit(ctx context.Context) error {
	a := db.audit
	if err := a.work.lock(ctx); err != nil {
		return err
	}
	defer a.work.Unlock()
	if _, err := db.fs.Stat(auditDir); err != nil {
		if isNotExist(err) {
			err = nil
		}
		return err
	}
	if err := a.start(); err != nil {
		return err
	}
	if err := a.closeFile(); err != nil {
		return err
	}
	if err := a.log.Rotate(); err != nil { // one without an entry has a key too
		return auditError(logError(err))
	}
	if err := a.log.Release(a.log.End()); err != nil {
		return auditError(err)
	}
	if err := db.fs.SyncDir(auditLogDir); err != nil { // what opening it removed stays removed
		return err
	}
	newest := db.newestKeys()[seal.ID{}]
	for i := range a.closed {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := a.reseal(&a.closed[i], newest); err != nil {
			return err
		}
	}
	return db.removeOldAudit(a.closed)
}

func (a *auditLog) reseal(f *auditFile, newest uint32) error {
	h, err := disk.ReadHeader(a.db.fs, f.name)
	if err == nil && h.KeyID == newest {
		return nil
	}
	var next auditFile
	if err == nil {
		err = a.db.readAudit(*f, func(about auditSummary, records *disk.Section) error {
			b, err := records.Bytes(0, records.Len())
			if err != nil {
				return err
			}
			next, err = a.db.putAudit(about, func(write func([]byte) error) error { return write(b) })
			return err
		})
	}
	if err != nil && !contained(err) {
		return auditError(err)
	}
	if err != nil { // a damaged one stays as it is, under a key that goes
		a.db.report("rotate keys", auditError(err), false)
		return nil
	}
	*f = next
	return nil
}

// removeOldAudit removes the closed files that are there under a newer key too.
func (db *DB) removeOldAudit(keep []auditFile) error {
	infos, err := db.fs.List(auditDir)
	if err != nil {
		return err
	}
	for _, i := range infos {
		name := auditDir + "/" + i.Name
		first, ours := parseAuditName(i.Name)
		at := slices.IndexFunc(keep, func(f auditFile) bool { return f.first == first })
		if !ours || at < 0 || keep[at].name == name {
			continue
		}
		if err := db.fs.Remove(name); err != nil && !isNotExist(err) {
			return err
		}
	}
	return db.fs.SyncDir(auditDir)
}
