package engine

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// AuditKeep says how long audit records are kept. Only closed files are
// removed, the oldest first and each whole.
type AuditKeep struct {
	Now   time.Time
	Age   time.Duration // of the newest record in a file; 0: for ever
	Bytes int64         // of all closed files together; 0: as many as there are
}

// TendAudit does what time asks for: it signs what is not signed yet, closes
// the file of a day that is over (UTC), remembers in the catalog how far the
// log goes, and removes what need not be kept. That is recorded before it is
// done, and returned. A store without an audit log is left alone.
func (db *DB) TendAudit(ctx context.Context, keep AuditKeep) (AuditRemoval, error) {
	if db.opts.ReadOnly {
		return AuditRemoval{}, ErrReadOnly
	}
	if err := db.enter(ctx); err != nil {
		return AuditRemoval{}, err
	}
	defer db.leave()
	if _, err := db.fs.Stat(auditDir); err != nil {
		if isNotExist(err) {
			err = nil
		}
		return AuditRemoval{}, err
	}
	a := db.audit
	if err := a.work.lock(ctx); err != nil {
		return AuditRemoval{}, err
	}
	removed, err := a.tend(keep)
	at, moved := auditPoint{a.last, a.hash.String()}, a.last != a.anchored
	a.work.Unlock()
	if !moved {
		return removed, err
	}
	// Also when something failed: what is durable is known from then on.
	told := db.ChangeSetting(ctx, auditSetting, func([]byte) ([]byte, error) { return json.Marshal(at) })
	if told == nil {
		a.work.Lock()
		a.anchored = at.Seq
		a.work.Unlock()
	}
	return removed, errors.Join(err, told)
}

// tend does as much as it can: one step that fails does not keep the others
// from being done.
func (a *auditLog) tend(keep AuditKeep) (removed AuditRemoval, err error) {
	if err := a.start(); err != nil {
		return removed, err
	}
	removed, err = a.expire(keep) // first: it makes room for the rest
	if a.open.first == 0 || day(a.open.from) >= day(keep.Now.Unix()) {
		err = errors.Join(err, a.sign())
	} else if e := a.closeFile(); e != nil {
		err = errors.Join(err, e)
	} else { // what was closed may be over, too
		more, e := a.expire(keep)
		if more.Files > 0 {
			more.Files, more.Bytes = more.Files+removed.Files, more.Bytes+removed.Bytes
			removed = more
		}
		err = errors.Join(err, e)
	}
	a.keepReserve()
	return removed, err
}

// expire removes the closed files that need not be kept.
func (a *auditLog) expire(keep AuditKeep) (removed AuditRemoval, err error) {
	n := a.due(keep)
	if n == 0 {
		return removed, nil
	}
	for _, f := range a.closed[:n] {
		removed.Files++
		removed.Bytes += f.size
		removed.Through, removed.Hash = f.about.last, f.about.hash.String()
	}
	if err := a.note(AuditRemoved, removed); err != nil {
		return AuditRemoval{}, err
	}
	unsigned := a.sign()
	if unsigned != nil && !errors.Is(unsigned, ErrDiskFull) { // which removing is to help against
		return AuditRemoval{}, unsigned
	}
	for range n { // the oldest first, so that what is left is the end of the chain
		if err := a.db.removeAudit(a.closed[0].first); err != nil {
			return removed, errors.Join(unsigned, err)
		}
		a.closed = a.closed[1:]
	}
	return removed, errors.Join(unsigned, a.db.fs.SyncDir(auditDir))
}

// due is how many of the oldest closed files need not be kept. A damaged one
// proves something and stays, with those after it, until somebody takes it away.
func (a *auditLog) due(keep AuditKeep) (n int) {
	bytes := int64(0)
	for _, f := range a.closed {
		bytes += f.size
	}
	for n < len(a.closed) {
		f := a.closed[n]
		old := keep.Age > 0 && keep.Now.Sub(time.Unix(f.about.to, 0)) > keep.Age
		many := keep.Bytes > 0 && bytes > keep.Bytes
		if f.bad != nil || !old && !many {
			break
		}
		bytes -= f.size
		n++
	}
	return n
}

func day(seconds int64) int64 { return seconds / (24 * 60 * 60) }

// auditSetting is the setting in which the catalog keeps how far the audit log
// went, so that one that was cut off, signatures and all, is seen to be.
const auditSetting = "chromad audit"

type auditPoint struct {
	Seq  uint64 `json:"seq"`
	Hash string `json:"hash"`
}

// auditAnchor is how far the audit log went when the catalog was told last.
func (db *DB) auditAnchor() (p auditPoint) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	if db.catalog != nil && json.Unmarshal(db.catalog.settings[auditSetting], &p) != nil {
		return auditPoint{}
	}
	return p
}
