package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/keys"
	"github.com/chromad/chromad/internal/mutant"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/segment"
)

// An encrypted store has a key for each collection, made before the
// collection and destroyed after it. The catalog decides which keys there are
// to be: at open, keys without a collection are destroyed.

// OperatorKey wraps the keys of a store. It is the one key that is not in the
// store: a key of a KMS, or of a file elsewhere. Package engine/keys makes them.
type OperatorKey = keys.Operator

// openKeys finds the keys of the store, and makes them for a new one. Nothing
// is written when the operator's key is not the right one.
func (db *DB) openKeys(dir string) error {
	h, found, err := db.newestHeader()
	if err != nil {
		return err
	}
	present, err := keys.Present(db.fs)
	if err != nil {
		return err
	}
	ctx := context.Background()
	op := db.opts.Keys
	switch {
	case present:
		if !found {
			if err := db.mayCreate(); err != nil {
				return err
			}
		}
		db.ring, err = keys.Open(ctx, db.fs, h.Store, op, db.opts.ReadOnly)
		if err == nil && !found {
			for range db.ring.Collections() {
				return fmt.Errorf("%w: there are keys of collections but no checkpoint", ErrCorrupt)
			}
		}
	case found && h.KeyID != 0:
		err = fmt.Errorf("the store is encrypted, and its directory %s is missing or has no key in it: %w", keys.Dir, ErrKey)
	case op == nil:
		return db.usePlain(found)
	case found && !db.opts.convert:
		err = fmt.Errorf("the store is not encrypted, and an operator's key %q is given; chromad keys encrypt %s encrypts it: %w", op.URI(), dir, ErrKey)
	default:
		err = db.createKeys(ctx, h.Store, found)
	}
	if err != nil {
		return err
	}
	db.store, db.keys = db.ring.Store(), db.ring
	db.readers.keys = db.keys
	return nil
}

func (db *DB) usePlain(found bool) error {
	db.readers.keys = db.keys
	if found {
		return nil
	}
	if left, err := keys.Inspect(db.fs); err == nil {
		return fmt.Errorf("the making of an encrypted store was interrupted here, and is finished with the operator's key %q: %w", left.URI, ErrKey)
	} else if !errors.Is(err, ErrKey) {
		return err
	}
	return db.mayCreate()
}

// createKeys makes the keys of a new store, or of a plain one that is to be
// converted. What an interrupted attempt left is completed.
func (db *DB) createKeys(ctx context.Context, store seal.ID, convert bool) error {
	if db.opts.ReadOnly {
		return ErrReadOnly
	}
	if !convert {
		if err := db.mayCreate(); err != nil {
			return err
		}
		store = newFileID()
		if left, err := keys.Inspect(db.fs); err == nil {
			store = left.Store
		} else if !errors.Is(err, ErrKey) {
			return err
		}
	}
	ring, err := keys.Create(ctx, db.fs, store, db.opts.Keys, convert)
	db.ring = ring
	return err
}

// newestHeader reads the header of the newest checkpoint, which says what
// store this is.
func (db *DB) newestHeader() (h disk.Header, found bool, err error) {
	numbers, err := numberedFiles(db.fs, checkpointDir, checkpointSuffix)
	if err != nil || len(numbers) == 0 {
		return h, false, err
	}
	h, err = disk.ReadHeader(db.fs, checkpointName(numbers[len(numbers)-1]))
	return h, err == nil, notOlder(numbers, err)
}

// converting tells that plain files are accepted: the store is being encrypted.
func (db *DB) converting() bool { return db.ring != nil && db.ring.Keyset().Converting }

// checkCollectionKeys is called when it is known which collections there are.
// One whose key is missing is of no use, and stops no other.
func (db *DB) checkCollectionKeys() error {
	if db.ring == nil {
		return nil
	}
	for _, c := range db.all() {
		id := seal.ID(c.id)
		switch {
		case c.unread != nil:
			c.breakWith(fmt.Errorf("collection %s: %w", c.id, c.unread))
		case db.ring.Has(id):
		case !db.converting():
			c.breakWith(fmt.Errorf("collection %s: %w", c.id, keys.ErrShredded))
		case !db.opts.ReadOnly:
			if err := db.ring.NewCollection(id); err != nil {
				return err
			}
		}
	}
	return nil
}

// destroyOrphans destroys the keys that have no collection: of one that was
// deleted, or never came to be, when the process ended.
func (db *DB) destroyOrphans() error {
	if db.ring == nil {
		return nil
	}
	var orphans []seal.ID
	for id := range db.ring.Collections() {
		if db.catalog.collections[ID(id)] == nil {
			orphans = append(orphans, id)
		}
	}
	if len(orphans) == 0 {
		return nil
	}
	gone, err := db.ring.Destroy(orphans...)
	db.destroyed(gone)
	return err
}

// createCollection makes the collection's key durable, then logs e; catMu is
// held.
func (db *DB) createCollection(e *catalogEntry) error {
	if db.ring == nil {
		return db.commitCatalog(e)
	}
	if err := db.reserveSpent(); err != nil {
		return err
	}
	if err := db.ring.NewCollection(seal.ID(e.id)); err != nil {
		return db.keyError(fmt.Errorf("create collection: %w", err))
	}
	err := db.commitCatalog(e)
	if err != nil && !errors.Is(err, ErrUnknown) && db.failed() == nil {
		if _, derr := db.ring.Destroy(seal.ID(e.id)); derr != nil { // the next Open will
			db.report("remove", db.keyError(derr), false)
		}
	}
	return err
}

// destroyKeys makes what was written to collections that are no more
// unreadable for good; catMu is held.
func (db *DB) destroyKeys(dropped []*Collection) error {
	if db.ring == nil || len(dropped) == 0 {
		return nil
	}
	ids := make([]seal.ID, len(dropped))
	for i, c := range dropped {
		ids[i] = seal.ID(c.id)
	}
	gone, err := db.ring.Destroy(ids...)
	db.destroyed(gone)
	for passes(err) && !errors.Is(err, keys.ErrFailed) && db.jobs.pause() {
		gone, err = db.ring.Destroy(ids...)
		db.destroyed(gone)
	}
	if err != nil {
		// Deleted they are; the keys go when the store is opened the next time.
		return fmt.Errorf("%w: destroy keys: %w", ErrUnknown, db.keyError(err))
	}
	return nil
}

// keyError judges an error of changing keys. A key service that does not answer
// is no failure of the disk.
func (db *DB) keyError(err error) error {
	switch {
	case errors.Is(err, keys.ErrFailed):
		return db.fail(err)
	case errors.Is(err, keys.ErrOperator):
		return err
	}
	return db.diskError(err)
}

// keepOpened bounds the memory that is kept to replay the next entry.
const keepOpened = 1 << 20

// refuse is told of an entry that its collection's key does not open. The log
// keeps the entry, for when the key comes back.
func (c *Collection) refuse(seq uint64, err error) {
	c.applyMu.Lock()
	defer c.applyMu.Unlock()
	c.mem.touch(seq)
	if c.usable() == nil {
		c.breakWith(fmt.Errorf("collection %s: %w", c.id, err))
		c.forsake(c.mem.bytes)
	}
}

// keepEntry keeps an entry in the log that the collection cannot take now.
func (c *Collection) keepEntry(seq uint64) {
	c.applyMu.Lock()
	defer c.applyMu.Unlock()
	if !mutant.On(mutant.RefusedForgotten) {
		c.mem.touch(seq)
	}
}

// unread tells that files which no manifest names may be a collection's all
// the same: an edit in the log could not be opened. The manifest before it and
// the log are the collection too, so with the next checkpoint, which the log's
// edits are not read beyond, they go.
func (db *DB) unread(number uint64) bool {
	if !slices.ContainsFunc(db.all(), func(c *Collection) bool { return c.unread != nil }) {
		return false
	}
	h, err := disk.ReadHeader(db.fs, segment.Name(number))
	if err != nil {
		return true
	}
	c := db.catalog.collections[ID(h.Collection)]
	return c != nil && c.unread != nil
}

// checkKeyset refuses a keyset that is older than the newest checkpoint knows:
// somebody has put it back, and with it keys that were destroyed.
func (db *DB) checkKeyset() error {
	if db.ring == nil {
		return nil
	}
	if set := db.ring.Keyset(); set.Number < db.checkpoint.keyset {
		return fmt.Errorf("the keyset is number %d, the store has had number %d: it was rolled back, bring the newest back: %w",
			set.Number, db.checkpoint.keyset, ErrKey)
	}
	return nil
}

// Generation is the number of the newest checkpoint. It grows for as long as
// the store lives; who keeps it elsewhere can tell an older copy by it
// (Options.MinGeneration). What was written after that checkpoint is not
// covered.
func (db *DB) Generation() uint64 { return db.work.checkpoint.Load() }

// RewrapKeys puts the keys of the store in dir, which nobody has open, under
// another operator's key. It writes one small file, whatever the store holds;
// from then on the store opens with next only. ErrKey: now is not its key, or
// the keyset is older than the store's newest checkpoint.
func RewrapKeys(ctx context.Context, dir string, now, next OperatorKey) error {
	in, err := prepare(dir, nil)
	if err == nil {
		err = errors.Join(in.db.rewrap(ctx, now, next), in.close())
	}
	if err != nil {
		return fmt.Errorf("rewrap keys: %w", err)
	}
	return nil
}

func (db *DB) rewrap(ctx context.Context, now, next OperatorKey) (err error) {
	if db.lock, err = db.fs.Lock("LOCK", "chromad keys"); err != nil {
		return err
	}
	h, _, err := db.newestHeader()
	if err != nil {
		return err
	}
	if db.ring, err = keys.Open(ctx, db.fs, h.Store, now, false); err != nil {
		return err
	}
	// A keyset that was rolled back would become the newest here.
	db.keys = db.ring
	if _, err := db.loadCheckpoint(); err != nil {
		return err
	}
	if err := db.checkKeyset(); err != nil {
		return err
	}
	return db.ring.Rewrap(ctx, next)
}
