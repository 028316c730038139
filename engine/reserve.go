package engine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
)

// Deleting needs room too: for its entry in the log, and for the edit and the
// checkpoint after which files may go. The reserve is a file of filler that
// keeps this room. When a full disk refuses such a write, the file is removed
// and the write is tried again; until the file could be made again, nothing
// but what frees space may write. What is in it means nothing and is never
// read, so it needs no sync, and a crash may leave it in any state.
type reserve struct {
	mu    sync.Mutex
	size  int64 // of the file, 0: there is none
	spent bool  // it was given up, and writers wait for it
}

const (
	reserveName  = "RESERVE"
	reserveFrame = 1 << 20 // for entries; two checkpoints come on top
	reserveChunk = 256 << 10
)

var errReserve = fmt.Errorf("what is left is kept for deletions: %w", ErrDiskFull)

// reserveSize is how large the reserve is to be. Sizes that double keep it
// from being made anew with every checkpoint.
func (db *DB) reserveSize() int64 {
	if db.opts.reserve > 0 {
		return db.opts.reserve
	}
	size := int64(reserveFrame)
	for size < reserveFrame/2+2*db.checkpoint.size {
		size *= 2
	}
	return size
}

// keepReserve makes the reserve if it is missing or too small; catMu is held.
// A full disk leaves it spent, and it is tried again. Without it deletions
// need space like everybody else, so other errors stop nothing.
func (db *DB) keepReserve() {
	r := &db.reserve
	r.mu.Lock()
	defer r.mu.Unlock()
	want := db.reserveSize()
	if r.size >= want {
		return
	}
	var err error
	if r.size > 0 {
		err = db.dropReserve()
	}
	if err == nil {
		err = db.fillReserve(want)
	}
	r.spent = errors.Is(err, ErrDiskFull)
	switch {
	case err == nil:
		r.size = want
	case r.spent:
		// What there was room for is no reserve.
		if err := db.dropReserve(); err != nil {
			db.report("reserve", err, false)
		}
		db.jobs.retryPressure()
	default:
		db.report("reserve", err, false)
	}
}

func (db *DB) fillReserve(size int64) error {
	f, err := db.fs.Create(reserveName)
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

// dropReserve removes the file; mu is held, or nobody else is there yet.
func (db *DB) dropReserve() error {
	err := db.fs.Remove(reserveName)
	if err != nil && !isNotExist(err) {
		return err
	}
	db.reserve.size = 0
	return nil
}

// spendReserve gives the reserve up for a write that frees space and that a
// full disk has refused. The caller tries again, whatever there was to give:
// somebody else may just have done it.
func (db *DB) spendReserve() {
	r := &db.reserve
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.size == 0 {
		return
	}
	if err := db.dropReserve(); err != nil {
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

// frees tells the operations that lead to space being freed: deletions, and
// edits, which stand for what was merged and flushed.
func (o op) frees() bool {
	switch o {
	case opDelete, opEdit, opDeleteCollection, opDeleteDatabase, opReset:
		return true
	}
	return false
}
