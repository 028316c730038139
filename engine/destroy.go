package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/chromad/chromad/internal/keys"
)

// DestroyKeys destroys all keys of the store in dir, which nobody has open:
// nothing in it can ever be read again. The files stay. op must be the
// operator's key of the store (else ErrKey, and nothing was changed), and no
// collection under legal hold (ErrHeld). One that
// was interrupted is repeated. Copies of the directory have wrapped keys of
// their own, for which op is enough.
func DestroyKeys(ctx context.Context, dir string, op OperatorKey) error {
	root, err := openRoot(dir, true)
	if err != nil {
		return fmt.Errorf("destroy keys: %w", err)
	}
	lock, err := root.Lock("LOCK", "chromad keys")
	if err == nil {
		if err = noHold(dir, op); err == nil {
			err = keys.Shred(ctx, root, op)
		}
		err = errors.Join(err, lock.Close())
	}
	if err = errors.Join(err, root.Close()); err != nil {
		return fmt.Errorf("destroy keys: %w", err)
	}
	return nil
}

// noHold refuses what would destroy a collection under legal hold. Of a store
// whose catalog cannot be read nobody knows; there the owner decides.
func noHold(dir string, op OperatorKey) error {
	in, err := glance(dir, &Options{Keys: op})
	if err != nil {
		return nil // Shred says what is wrong
	}
	if in.load() == nil {
		err = in.db.held(func(*Collection) bool { return true })
	}
	return errors.Join(err, in.close())
}

// CollectionByID looks a collection up, in whatever database it is.
func (db *DB) CollectionByID(ctx context.Context, id ID) (*Collection, error) {
	if err := db.enter(ctx); err != nil {
		return nil, err
	}
	defer db.leave()
	db.mu.RLock()
	defer db.mu.RUnlock()
	if c := db.catalog.collections[id]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("collection %s: %w", id, ErrNotFound)
}
