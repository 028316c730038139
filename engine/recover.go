package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/mutant"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/segment"
	"github.com/chromad/chromad/wal"
)

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// recover makes the state what the newest checkpoint and the log after it say.
//
// The log is read twice. The first pass applies what changed the catalog and
// the files, so that afterwards each collection has its newest manifest. The
// second applies the records' entries that are in no segment yet. So no entry
// is applied to segments older or newer than those it met when it was written.
func (db *DB) recover() error {
	found, err := db.loadCheckpoint()
	if err != nil {
		return err
	}
	if !found {
		if err := db.initStore(); err != nil {
			return err
		}
	}
	if n := db.checkpoint.number; n < db.opts.MinGeneration {
		return fmt.Errorf("generation %d, it has to be %d or more: %w", n, db.opts.MinGeneration, ErrRollback)
	}
	if db.opts.MinGeneration > 0 && db.converting() && !db.opts.convert {
		// Anybody may have made a plain checkpoint, with any number, and put back
		// a keyset that accepts it.
		return fmt.Errorf("the store is being encrypted, until then its generation is no proof: finish that with chromad keys encrypt, or ask for no generation: %w", ErrRollback)
	}
	if err := db.checkKeyset(); err != nil {
		return err
	}
	checkpointed := db.named()
	db.erasure.restore(db.checkpoint.since)
	db.work.checkpoint.Store(db.checkpoint.number)
	db.log, err = wal.Open(db.fs, db.checkpoint.from, wal.Options{
		Store: db.store, Keys: db.keys, ReadOnly: db.opts.ReadOnly,
		Epoch: db.checkpoint.from.Epoch, NewID: newFileID, MaxFile: db.opts.logFile(),
		Existing: db.checkpoint.number > 1, // only the first is written before the log
		Last:     db.checkpoint.position.Seq,
	})
	if err != nil {
		return err
	}
	if !db.opts.ReadOnly {
		db.giveUpReserve()
	}
	if err := db.replay(db.replayCatalog); err != nil {
		return err
	}
	if err := db.findLastFile(); err != nil {
		return err
	}
	if err := db.checkCollectionKeys(); err != nil {
		return err
	}
	db.replaying = true
	if err := db.replay(db.replayRecords); err != nil {
		return err
	}
	db.replaying = false
	db.erasure.opening = false
	if db.opts.ReadOnly {
		return nil
	}
	db.tidy(checkpointed)
	db.keepReserve()
	return db.destroyOrphans()
}

// mayCreate tells whether there may be a new store. Everything else needs a
// checkpoint, so a directory with other files of ours and none has lost it.
func (db *DB) mayCreate() error {
	for _, dir := range []string{"log", segmentDir} {
		if infos, err := db.fs.List(dir); err == nil && len(infos) > 0 {
			return fmt.Errorf("%w: there are files in %s but no checkpoint", ErrCorrupt, dir)
		} else if err != nil && !isNotExist(err) {
			return err
		}
	}
	if db.opts.ReadOnly || db.opts.convert {
		return fmt.Errorf("no store here: %w", ErrNotFound)
	}
	return nil
}

// initStore writes the first checkpoint of a new store.
func (db *DB) initStore() error {
	for _, dir := range []string{disk.TmpDir, checkpointDir, "log", segmentDir} {
		if err := db.fs.Mkdir(dir); err != nil {
			return err
		}
	}
	if err := db.fs.SyncDir("."); err != nil {
		return err
	}
	if db.store == (seal.ID{}) { // else it was drawn with the keys
		db.store = newFileID()
	}
	db.catalog = newCatalog()
	first := wal.Position{Epoch: 1, Seq: 1}
	db.tried = 1
	db.checkpoint = checkpointState{number: 1, position: wal.Position{Epoch: 1}, from: first, written: now()}
	if db.ring != nil {
		db.checkpoint.keyset = db.ring.Keyset().Number
	}
	body, err := db.appendCheckpoint(nil, db.checkpoint)
	if err != nil {
		return err
	}
	return db.putCheckpoint(&db.checkpoint, body)
}

func (db *DB) replay(apply func(seq uint64, o op, payload []byte) error) error {
	for e, err := range db.log.Replay() {
		if err != nil {
			return err
		}
		if len(e.Payload) == 0 {
			return fmt.Errorf("log entry %s: %w: empty", e.Position, ErrCorrupt)
		}
		if err := apply(e.Position.Seq, op(e.Payload[0]), e.Payload); err != nil {
			return fmt.Errorf("log entry %s: %w", e.Position, err)
		}
	}
	return nil
}

func (db *DB) replayCatalog(seq uint64, o op, payload []byte) error {
	if o.isData() || seq <= db.checkpoint.position.Seq {
		return nil
	}
	if o.plain() == opEdit {
		return db.replayEdit(payload)
	}
	e, err := decodeCatalogEntry(payload)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return db.applyCatalog(e)
}

// replayEdit gives a collection the files that an edit names. One that cannot
// be opened for want of the collection's key is that collection's alone.
func (db *DB) replayEdit(payload []byte) error {
	id, err := entryCollection(payload)
	if err != nil {
		return err
	}
	c := db.catalog.collections[id]
	if c == nil {
		return nil // deleted, and the key with it
	}
	if payload, err = db.openEntry(nil, payload); err != nil {
		if _, refused := errors.AsType[*refusedError](err); refused {
			c.unread, err = err, nil
		}
		return err
	}
	_, m, err := decodeEdit(payload)
	if err != nil {
		return fmt.Errorf("%w: edit: %w", ErrCorrupt, err)
	}
	c.load(m)
	c.unread = nil
	// Among the entries that it stands for, which are not replayed, there may be
	// deletions.
	c.overwrote.Store(true)
	db.died()
	return nil
}

// replayRecords applies an entry to its collection. Damage that the entry
// meets in the collection's segments is the collection's alone: it is
// reported by whoever uses the collection, and the others open.
func (db *DB) replayRecords(seq uint64, o op, payload []byte) error {
	if !o.isData() {
		return nil
	}
	id, err := entryCollection(payload)
	if err != nil {
		return err
	}
	c := db.catalog.collections[id]
	if c == nil || seq <= c.manifest.flushed && !mutant.On(mutant.ReplayedTwice) {
		return nil
	}
	if c.usable() != nil {
		c.keepEntry(seq)
		return nil
	}
	if payload, err = db.openEntry(db.opened, payload); err != nil {
		if _, refused := errors.AsType[*refusedError](err); refused {
			c.refuse(seq, err)
			err = nil
		}
		return err
	}
	if o&opSealed != 0 && cap(payload) <= keepOpened {
		db.opened = payload
	}
	t := &ticket{seq: seq}
	switch {
	case o.isWrite():
		t.write, err = decodeWriteEntry(payload)
	case o.plain() == opExpire:
		t.expire, err = decodeExpireEntry(payload)
	default:
		t.del, err = decodeDeleteEntry(payload)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if err := c.applyBatch([]*ticket{t}); err != nil {
		return err
	}
	return db.relieveReplay()
}

// relieveReplay keeps the memory that a long log takes within its limit. The
// memtables are flushed as ever, but there is no log yet for the edits: until
// the next checkpoint the segments are nobody's, and a crash before it has the
// log replayed once more.
func (db *DB) relieveReplay() error {
	have := db.memBytes.Load()
	if have <= db.opts.MemoryLimit {
		return nil
	}
	if db.opts.ReadOnly {
		if have <= db.opts.memoryMax() {
			return nil
		}
		return fmt.Errorf("the log does not fit in Options.MemoryLimit, and a reader cannot flush it: %w", ErrTooLarge)
	}
	for _, c := range db.largestFirst() {
		if db.memBytes.Load() <= db.opts.MemoryLimit/2 { // room for more than the next entry
			break
		}
		if err := db.flush(context.Background(), c); err != nil {
			if passes(err) && have <= db.opts.memoryMax() {
				return nil // a full disk is no reason not to open, while there is memory
			}
			return err
		}
	}
	db.jobs.logged.Store(checkpointEvery) // a checkpoint is due at once
	return nil
}

// findLastFile finds the largest number that a segment has, wanted or not.
func (db *DB) findLastFile() error {
	segs, err := numberedFiles(db.fs, segmentDir, segmentSuffix)
	if err != nil {
		return err
	}
	for _, c := range db.catalog.collections {
		for _, s := range c.manifest.segments {
			segs = append(segs, s.info.Number)
		}
	}
	if len(segs) > 0 {
		db.nextFile.Store(slices.Max(segs))
	}
	return nil
}

// tidy removes what a crash left behind: unfinished files, and files that
// were finished but whose edit or checkpoint was not. What cannot be removed
// is in nobody's way; the segments among it go with a later checkpoint.
//
// So do the segments of an encrypted collection that the newest checkpoint
// names: were its key out of reach the next time, the edit that replaced them
// could not be opened, and they and the log would be the collection.
func (db *DB) tidy(checkpointed map[uint64]*Collection) {
	remove := func(name string) {
		if err := db.fs.Remove(name); err != nil && !isNotExist(err) {
			db.report("remove", err, false)
		}
	}
	infos, err := db.fs.List(disk.TmpDir)
	if err != nil && !isNotExist(err) {
		db.report("remove", err, false)
	}
	for _, i := range infos {
		if i.Regular {
			remove(disk.TmpDir + "/" + i.Name)
		}
	}
	segs, err := numberedFiles(db.fs, segmentDir, segmentSuffix)
	if err != nil {
		db.report("remove", err, false)
	}
	for _, n := range segs {
		if c := checkpointed[n]; c != nil && db.ring != nil && db.catalog.collections[c.id] != nil {
			continue
		}
		if !db.files.needed(n) && !db.unread(n) {
			remove(segment.Name(n))
		}
	}
}
