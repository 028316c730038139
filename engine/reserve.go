package engine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
)

// Deleting needs room too: for its entry in the log, for the edits that merging
// makes of it, and for the checkpoint after which files may go. Two files of
// filler keep this room, one for entries, one for the checkpoint. When a full
// disk refuses such a write, its file is removed and the write is tried again;
// until both could be made again, nothing but what frees space may write. What
// is in them means nothing and is never read, so they need no sync, and a
// crash may leave them in any state.
type reserve struct {
	mu    sync.Mutex
	sizes [2]int64 // of the files, 0: there is none
	spent bool     // one was given up, and writers wait for it
}

// purpose says which file of the reserve.
type purpose int

const (
	forCheckpoint purpose = iota
	forEntries
)

var reserveNames = [...]string{forCheckpoint: "RESERVE.ckpt", forEntries: "RESERVE.log"}

const (
	reserveEntries    = 1 << 20
	reserveCheckpoint = 128 << 10 // or more than two checkpoints
	reserveChunk      = 256 << 10
)

var errReserve = fmt.Errorf("what is left is kept for deletions: %w", ErrDiskFull)

// reserveSize is how large a file of the reserve is to be. Sizes that double
// keep it from being made anew with every checkpoint.
func (db *DB) reserveSize(p purpose) int64 {
	switch {
	case db.opts.reserve > 0:
		return db.opts.reserve
	case p == forEntries:
		return reserveEntries
	}
	size := int64(reserveCheckpoint)
	for size < 2*db.checkpoint.size {
		size *= 2
	}
	return size
}

// keepReserve makes what is missing or too small; catMu is held. A full disk
// leaves the reserve spent, and it is tried again. Without one deletions need
// space like everybody else, so other errors stop nothing.
func (db *DB) keepReserve() {
	r := &db.reserve
	r.mu.Lock()
	defer r.mu.Unlock()
	spent := false
	for p := range purpose(len(r.sizes)) {
		err := db.keepFile(p, db.reserveSize(p))
		if errors.Is(err, ErrDiskFull) {
			spent = true
		} else if err != nil {
			db.report("reserve", err, false)
		}
	}
	if r.spent = spent; spent {
		db.jobs.retryPressure()
	}
}

func (db *DB) keepFile(p purpose, size int64) error {
	r := &db.reserve
	if r.sizes[p] >= size {
		return nil
	}
	if r.sizes[p] > 0 {
		if err := db.dropReserve(p); err != nil {
			return err
		}
	}
	err := db.fillReserve(reserveNames[p], size)
	if err == nil {
		r.sizes[p] = size
		return nil
	}
	return errors.Join(err, db.dropReserve(p)) // less than that is no reserve
}

func (db *DB) fillReserve(name string, size int64) error {
	f, err := db.fs.Create(name)
	if err != nil {
		return err
	}
	// File systems that compress, or leave out zeros, keep no room for those.
	noise := rand.NewChaCha8([32]byte{})
	b := make([]byte, min(size, reserveChunk))
	for err == nil && size > 0 {
		b = b[:min(size, reserveChunk)]
		noise.Read(b)
		_, err = f.Write(b)
		size -= int64(len(b))
	}
	return errors.Join(err, f.Close())
}

// dropReserve removes a file; mu is held.
func (db *DB) dropReserve(p purpose) error {
	if err := db.fs.Remove(reserveNames[p]); err != nil && !isNotExist(err) {
		return err
	}
	db.reserve.sizes[p] = 0
	return nil
}

// spendReserve gives a part of the reserve up for a write that frees space and
// that a full disk has refused. The caller tries again, whatever there was to
// give: somebody else may just have done it.
func (db *DB) spendReserve(p purpose) {
	r := &db.reserve
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sizes[p] == 0 {
		return
	}
	if err := db.dropReserve(p); err != nil {
		db.report("reserve", err, false)
		return
	}
	r.spent = true
	db.jobs.retryPressure() // what can be freed then is, and the reserve made again
}

// reserveSpent is why only deletions may write, nil: everybody may.
func (db *DB) reserveSpent() error {
	r := &db.reserve
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spent {
		return errReserve
	}
	return nil
}

// giveUpReserve makes room for opening the store on a full disk: that begins a
// new file of the log. What an earlier process has left is of unknown size.
func (db *DB) giveUpReserve() {
	r := &db.reserve
	r.mu.Lock()
	defer r.mu.Unlock()
	for p, name := range reserveNames {
		if _, err := db.fs.Stat(name); isNotExist(err) {
			continue
		}
		if err := db.dropReserve(purpose(p)); err != nil {
			db.report("reserve", err, false)
		}
	}
}

// frees tells the operations that lead to space being freed: deletions, and
// edits, which stand for what was merged and flushed.
func (o op) frees() bool {
	switch o {
	case opDelete, opExpire, opEdit, opDeleteCollection, opDeleteDatabase, opReset:
		return true
	}
	return false
}
