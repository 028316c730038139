package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
)

// errKeyGone marks files under a key of the store's that was dropped.
var errKeyGone = errors.New("its key was destroyed")

// auditKeys are the store's keys, for the audit log. A file under a key that a
// change of keys has dropped, or under none when the store is encrypted since,
// is a damaged one: no operator's key ever opens it, so it must not keep the
// log from going on. Every other wrong key is ErrKey.
type auditKeys struct{ db *DB }

func (k auditKeys) Writer(at seal.Address) (seal.Sealer, error) { return k.db.keys.Writer(at) }

func (k auditKeys) Reader(at seal.Address, key uint32) (seal.Sealer, error) {
	s, err := k.db.keys.Reader(at, key)
	if errors.Is(err, ErrKey) && k.db.ring != nil && k.db.ring.Dropped(at.Collection, key) {
		err = fmt.Errorf("%w: %w: %v", ErrCorrupt, errKeyGone, err) // and no ErrKey
	}
	return s, err
}

// resealAudit puts the audit log under the store's newest key. Records are
// written between any two files.
func (db *DB) resealAudit(ctx context.Context) error {
	if _, err := db.fs.Stat(auditDir); err != nil {
		if isNotExist(err) {
			err = nil
		}
		return err
	}
	a := db.audit
	if err := a.holding(ctx, a.renew); err != nil {
		return err
	}
	newest := db.newestKeys()[seal.ID{}]
	files, err := db.auditFiles()
	if err != nil {
		return auditError(err)
	}
	for _, f := range files {
		if err := a.reseal(ctx, f, newest); err != nil {
			return err
		}
	}
	if err := a.resealAside(ctx, newest); err != nil {
		return auditError(err)
	}
	return a.holding(ctx, db.removeOldAudit)
}

// holding calls do as one who writes.
func (a *auditLog) holding(ctx context.Context, do func() error) error {
	if err := a.work.lock(ctx); err != nil {
		return err
	}
	defer a.work.Unlock()
	return do()
}

// renew has all that is in no closed file become one, and the log go on in a
// file under the newest key.
func (a *auditLog) renew() error {
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
	return a.db.fs.SyncDir(auditLogDir) // what opening it removed stays removed
}

// reseal puts a closed file under the newest key. Of a damaged one that is what
// can be read, and the file itself is put aside: nothing is left under a key
// that goes. The chain tells which records are missing. It is read without the
// lock, which may take long for one that is damaged.
func (a *auditLog) reseal(ctx context.Context, f auditFile, newest uint32) error {
	db := a.db
	h, err := disk.ReadHeader(db.fs, f.name)
	mine := f.name == auditName(f.first, newest)
	if isNotExist(err) || err == nil && h.KeyID == newest || errors.Is(err, ErrCorrupt) && mine {
		return nil // removed meanwhile, or under the newest, as far as can be told
	}
	if err := a.holding(ctx, func() error {
		if at := a.closedAt(f.first); at >= 0 && a.closed[at].bad == nil { // it was read before it was damaged
			f.about, f.bad = a.closed[at].about, nil
		}
		return nil
	}); err != nil {
		return err
	}
	var s salvaged
	switch {
	case err == nil && mine:
		err = &disk.CorruptError{File: f.name, Err: fmt.Errorf("it is under key %d, not the one in its name", h.KeyID)}
	case err == nil || errors.Is(err, ErrCorrupt):
		if err = s.whole(db, f); errors.Is(err, ErrCorrupt) {
			if e := s.parts(ctx, db, f); e != nil && !errors.Is(e, ErrCorrupt) {
				err = e
			}
		}
	}
	if isNotExist(err) {
		return nil
	}
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return auditError(err)
	}
	damage := err
	return a.holding(ctx, func() error { return a.replace(f, &s, damage) })
}

// closedAt is where a closed file is in the list of them, -1: nowhere.
func (a *auditLog) closedAt(first uint64) int {
	return slices.IndexFunc(a.closed, func(c auditFile) bool { return c.first == first })
}

// replace puts what was read of a closed file in its place, damage is why it
// could not be read as it is; work is held.
func (a *auditLog) replace(f auditFile, s *salvaged, damage error) error {
	db := a.db
	if _, err := db.fs.Stat(f.name); err != nil {
		if isNotExist(err) { // it was removed meanwhile, and does not come back
			err = nil
		}
		return err
	}
	var next auditFile
	if s.about.first > 0 {
		var err error
		if next, err = db.putAudit(s.about, func(write func([]byte) error) error { return write(s.records) }); err != nil {
			return auditError(err)
		}
	}
	if damage != nil {
		lost := "no record is lost"
		if !s.complete {
			lost = fmt.Sprintf("%d of its records could be read, it is put aside in %s", s.count, auditDamagedDir)
		}
		db.report("rotate keys", fmt.Errorf("%w: %s", auditError(damage), lost), false)
	}
	switch at := a.closedAt(f.first); {
	case at < 0:
	case next.first == 0:
		a.closed = slices.Delete(a.closed, at, at+1)
	default:
		a.closed[at] = next
	}
	if damage != nil && !s.complete {
		return auditError(db.moveAside(auditDir, f.name[len(auditDir)+1:]))
	}
	if err := db.fs.Remove(f.name); err != nil && !isNotExist(err) {
		return err
	}
	return nil
}

// salvaged is what can be read of a closed file.
type salvaged struct {
	about    auditSummary // first 0: not known
	records  []byte
	count    int  // of those
	complete bool // none is missing
	seen     auditSummary
}

// whole reads a closed file that is not damaged.
func (s *salvaged) whole(db *DB, f auditFile) error {
	return db.readAudit(f, func(about auditSummary, records *disk.Section) error {
		b, err := records.Bytes(0, records.Len())
		if err == nil {
			*s = salvaged{about: about, records: bytes.Clone(b), complete: true}
		}
		return err
	})
}

// parts reads what it can of a damaged one.
func (s *salvaged) parts(ctx context.Context, db *DB, f auditFile) error {
	*s = salvaged{about: f.about}
	fs, h, info, err := disk.Mend(db.fs, f.name, nil, disk.Info{})
	if err != nil {
		return err
	}
	want := disk.Header{Kind: seal.KindAudit, Version: disk.Version, Store: db.store, File: h.File, Number: f.first}
	file, err := disk.OpenFile(fs, f.name, want, info, auditKeys{db})
	if err != nil {
		return err
	}
	err = file.Faults(func() error {
		if _, err := file.MendBlocks(ctx); err != nil {
			return err
		}
		s.summary(file, f.first)
		return s.blocks(ctx, db.store, file)
	})
	if s.about.first == 0 && s.count > 0 { // what its records say
		s.about = s.seen
		s.about.first = f.first
	}
	return errors.Join(err, file.Close())
}

// summary reads what the file says of itself, if that is not known.
func (s *salvaged) summary(file *disk.File, first uint64) {
	section, ok := file.Section(auditAbout)
	if s.about.first > 0 || !ok || section.Len() != auditSummarySize {
		return
	}
	b, err := section.Bytes(0, auditSummarySize)
	if err != nil {
		return
	}
	if about, err := decodeAuditSummary(b); err == nil && about.first == first {
		s.about = about
	}
}

// blocks reads the runs of blocks that are good.
func (s *salvaged) blocks(ctx context.Context, store seal.ID, file *disk.File) error {
	section, ok := file.Section(auditRecords)
	if !ok || section.Len() > maxAuditFile {
		return fmt.Errorf("%w: it has no records", ErrCorrupt)
	}
	s.complete = true
	var run []byte
	begun := true // run begins with a record
	for off, size := 0, section.BlockSize(); off < section.Len(); off += size {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := section.Bytes(off, min(size, section.Len()-off))
		switch {
		case err == nil:
			run = append(run, b...)
		case errors.Is(err, ErrCorrupt):
			s.take(store, run, begun)
			run, begun, s.complete = nil, false, false
		default:
			return err
		}
	}
	s.take(store, run, begun)
	return nil
}

// take adds the records of a run. In one that begins within a record the next
// one is known by its hash, which the one behind it holds.
func (s *salvaged) take(store seal.ID, run []byte, begun bool) {
	for ; !begun && len(run) > 0; run = run[1:] {
		_, stored, rest, err := cutAuditRecord(run)
		if err != nil {
			continue
		}
		after, _, _, err := cutAuditRecord(rest)
		if begun = err == nil && after.prev == hashAudit(store, stored); begun {
			break
		}
	}
	for len(run) > 0 {
		r, stored, rest, err := cutAuditRecord(run)
		if err != nil {
			s.complete = false
			return
		}
		s.records = append(s.records, stored...)
		s.count++
		s.seen.take(&r, hashAudit(store, stored))
		run = rest
	}
}

// removeOldAudit removes what interrupted changes of keys have left: closed
// files that are there under a newer key too.
func (db *DB) removeOldAudit() error {
	infos, err := db.fs.List(auditDir)
	if err != nil {
		return err
	}
	for n, i := range infos { // by name, so the newer one follows
		first, ours := parseAuditName(i.Name)
		if !ours || n+1 == len(infos) {
			continue
		}
		if next, ours := parseAuditName(infos[n+1].Name); !ours || next != first {
			continue
		}
		f := auditFile{name: auditDir + "/" + i.Name, first: first}
		var s salvaged
		err := s.whole(db, f)
		switch {
		case errors.Is(err, ErrCorrupt): // what the newer one has of it is not all
			err = db.moveAside(auditDir, i.Name)
		case err == nil:
			err = db.fs.Remove(f.name)
		}
		if err != nil && !isNotExist(err) {
			return auditError(err)
		}
	}
	return db.fs.SyncDir(auditDir)
}
