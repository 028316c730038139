package engine

import (
	"errors"
)

// Deleting frees space, and is recorded: on a full disk records need room too.
// A file of filler keeps it, as for entries of the log (reserve.go). What is in
// it means nothing.
const (
	auditReserve     = auditDir + "/RESERVE"
	auditReserveSize = 1 << 20
)

// keepReserve makes the filler if it is not there; work is held. Without one
// records need space like everything else, so no error stops anything.
func (a *auditLog) keepReserve() {
	if a.reserved {
		return
	}
	fs := a.db.fs
	if _, err := fs.Stat(auditReserve); err == nil {
		a.reserved = true
		return
	}
	size := a.db.opts.reserve
	if size == 0 {
		size = auditReserveSize
	}
	if err := a.db.fillReserve(auditReserve, size); err != nil {
		if err = errors.Join(err, fs.Remove(auditReserve)); !passes(err) {
			a.db.report("reserve", err, false)
		}
		return
	}
	a.reserved = true
}

// spendReserve frees the room that is kept; false: there is none.
func (a *auditLog) spendReserve() bool {
	if !a.reserved {
		return false
	}
	a.reserved = false
	err := a.db.fs.Remove(auditReserve)
	return err == nil
}
