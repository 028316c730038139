package engine

import (
	"context"
	"time"
)

const (
	// defaultErase is within how long what was deleted is erased.
	defaultErase = 24 * time.Hour
	// eraseLook is how often the background looks at the clock at least, since
	// clocks are set and machines sleep.
	eraseLook = time.Hour
	// sweepSoon is when the files of a collection that was deleted go.
	sweepSoon = time.Minute
)

// eraser erases in the background before Options.EraseWithin is over.
func (j *jobs) eraser(db *DB) {
	if db.ring != nil {
		err := db.recordKeyset(j.ctx)
		j.finish(db, "checkpoint", err, func() {})
	}
	var sweepAt time.Time
	for failures := 0; j.ctx.Err() == nil; {
		wait := db.eraseWait()
		if db.unswept() {
			if sweepAt.IsZero() {
				sweepAt = time.Now().Add(sweepSoon)
			}
			wait = min(wait, time.Until(sweepAt))
		} else {
			sweepAt = time.Time{}
		}
		if !j.eraseSleep(db, wait) {
			return
		}
		if !sweepAt.IsZero() && time.Until(sweepAt) <= 0 {
			sweepAt = time.Time{}
			db.erasure.setSwept()
			j.finish(db, "erase", db.writeCheckpoint(j.ctx), func() {})
		}
		if db.eraseWait() > 0 {
			continue
		}
		if err := j.eraseDue(db); err != nil {
			failures++
		} else {
			failures = 0
		}
		if failures > 0 && (db.failed() != nil || !pauseFor(j.ctx, eraseRetry(failures))) {
			return // of a store that has failed it is done when it is open again
		}
	}
}

// eraseSleep returns after a while, or when there is something new; false: the
// store is being closed.
func (j *jobs) eraseSleep(db *DB, wait time.Duration) bool {
	if wait <= 0 {
		return j.ctx.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-db.erasure.wake:
	case <-j.ctx.Done():
		return false
	}
	return true
}

// eraseDue erases, and gives up when somebody reads on and on, to say so.
func (j *jobs) eraseDue(db *DB) error {
	ctx, cancel := context.WithTimeout(j.ctx, max(time.Minute, db.opts.EraseWithin/8))
	defer cancel()
	err := db.erase(ctx, nil)
	if err != nil && j.ctx.Err() == nil {
		db.report("erase", err, db.failed() != nil)
	}
	return err
}

// eraseRetry is how long to wait after so many failures: from a second to an
// hour, since a damaged collection does not mend itself.
func eraseRetry(failures int) time.Duration {
	return min(retryAfter<<min(failures-1, 12), eraseLook)
}

// eraseWait is how long erasing may still wait: work begins when three
// quarters of the time are over.
func (db *DB) eraseWait() time.Duration {
	since := db.erasure.unerased()
	if since == 0 || db.opts.EraseWithin < 0 {
		return eraseLook
	}
	within := db.opts.EraseWithin
	return min(eraseLook, within-within/4-eraseAge(since))
}

// eraseAge is how old a deletion is. One of the future was made before the
// clock was set back, nobody knows when: it is erased at once.
func eraseAge(since int64) time.Duration {
	age := time.Since(time.Unix(since, 0))
	if age < -time.Minute {
		return 1 << 62
	}
	return max(0, age)
}

// erasureStats tells the age of the oldest deletion that is not erased, and by
// how much it is older than it may be.
func (db *DB) erasureStats() (age, overdue time.Duration) {
	since := db.erasure.unerased()
	if since == 0 {
		return 0, 0
	}
	age = eraseAge(since)
	if db.opts.EraseWithin >= 0 {
		overdue = max(0, age-db.opts.EraseWithin)
	}
	return age, overdue
}

// unswept tells that collections were deleted and no checkpoint has set their
// files free since.
func (db *DB) unswept() bool {
	e := &db.erasure
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.gone) > 0 && !e.swept
}

func (e *erasure) setSwept() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.swept = true
}

// recordKeyset writes a checkpoint that names the newest keyset, when the last
// one names an older: from then on no older keyset is accepted.
func (db *DB) recordKeyset(ctx context.Context) error {
	if err := db.catMu.lock(ctx); err != nil {
		return err
	}
	known := db.checkpoint.keyset
	db.catMu.Unlock()
	if db.ring.Keyset().Number <= known {
		return nil
	}
	return db.writeCheckpoint(ctx)
}
