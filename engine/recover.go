package engine

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/chromad/chromad/internal/disk"
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
	db.work.checkpoint.Store(db.checkpoint.number)
	db.log, err = wal.Open(db.fs, db.checkpoint.from, wal.Options{
		Store: db.store, Keys: db.keys, ReadOnly: db.opts.ReadOnly,
		Epoch: db.checkpoint.from.Epoch, NewID: newFileID, MaxFile: db.opts.logFile(),
	})
	if err != nil {
		return err
	}
	if err := db.replay(db.replayCatalog); err != nil {
		return err
	}
	if err := db.replay(db.replayRecords); err != nil {
		return err
	}
	if db.opts.ReadOnly {
		return nil
	}
	return db.tidy()
}

// initStore writes the first checkpoint of a new store. Everything else needs
// one, so a directory with other files of ours and no checkpoint has lost it.
func (db *DB) initStore() error {
	if db.opts.ReadOnly {
		return fmt.Errorf("no store here: %w", ErrNotFound)
	}
	for _, dir := range []string{"log", segmentDir} {
		if infos, err := db.fs.List(dir); err == nil && len(infos) > 0 {
			return fmt.Errorf("%w: there are files in %s but no checkpoint", ErrCorrupt, dir)
		} else if err != nil && !isNotExist(err) {
			return err
		}
	}
	for _, dir := range []string{disk.TmpDir, checkpointDir, "log", segmentDir} {
		if err := db.fs.Mkdir(dir); err != nil {
			return err
		}
	}
	if err := db.fs.SyncDir("."); err != nil {
		return err
	}
	db.store = newFileID()
	db.catalog = newCatalog()
	first := wal.Position{Epoch: 1, Seq: 1}
	db.checkpoint = checkpointState{number: 1, position: wal.Position{Epoch: 1}, from: first}
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
	if o == opEdit {
		id, m, err := decodeEdit(payload)
		if err != nil {
			return fmt.Errorf("%w: edit: %w", ErrCorrupt, err)
		}
		if c := db.catalog.collections[id]; c != nil {
			c.load(m)
		}
		return nil
	}
	e, err := decodeCatalogEntry(payload)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return db.applyCatalog(e)
}

// replayRecords applies an entry to its collection. Damage that the entry
// meets in the collection's segments is the collection's alone: it is
// reported by whoever uses the collection, and the others open.
func (db *DB) replayRecords(seq uint64, o op, payload []byte) error {
	if !o.isData() {
		return nil
	}
	t := &ticket{seq: seq}
	var id ID
	var err error
	if o == opWrite {
		if t.write, err = decodeWriteEntry(payload); err == nil {
			id = t.write.collection
		}
	} else if t.del, err = decodeDeleteEntry(payload); err == nil {
		id = t.del.collection
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	c := db.catalog.collections[id]
	if c == nil || seq <= c.manifest.flushed {
		return nil
	}
	return c.applyBatch([]*ticket{t})
}

// tidy removes what a crash left behind: unfinished files, and files that
// were finished but whose edit or checkpoint was not.
func (db *DB) tidy() error {
	infos, err := db.fs.List(disk.TmpDir)
	if err != nil && !isNotExist(err) {
		return err
	}
	for _, i := range infos {
		if !i.Regular {
			continue
		}
		if err := db.fs.Remove(disk.TmpDir + "/" + i.Name); err != nil {
			return err
		}
	}
	segs, err := numberedFiles(db.fs, segmentDir, segmentSuffix)
	if err != nil {
		return err
	}
	last := uint64(0)
	for _, n := range segs {
		last = max(last, n)
		if !db.files.needed(n) {
			if err := db.fs.Remove(segment.Name(n)); err != nil {
				return err
			}
		}
	}
	for _, c := range db.catalog.collections {
		for _, s := range c.manifest.segments {
			last = max(last, s.info.Number)
		}
	}
	db.nextFile.Store(last)
	return nil
}
