package keys

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/mutant"
	"github.com/chromad/chromad/internal/seal"
)

// NewCollection makes the data key of a collection, durable when it returns.
// One that is there is kept.
func (r *Ring) NewCollection(id seal.ID) error {
	if err := r.begin(); err != nil {
		return err
	}
	defer r.change.Unlock()
	if r.Has(id) {
		return nil
	}
	_, err := r.grow(id, 1)
	return err
}

// Destroy removes all generations of the keys of collections: what was written
// under them is unreadable from then on, whoever has a copy of it. That is
// durable when it returns without an error. What was removed is returned, also
// beside an error, which a repeated call may clear; collections without a key
// are passed over. Sealers that were handed out before work until they are
// dropped.
func (r *Ring) Destroy(ids ...seal.ID) ([]KeyInfo, error) {
	if slices.Contains(ids, seal.ID{}) {
		return nil, errors.New("destroy keys: the store's own is not a collection's")
	}
	if err := r.begin(); err != nil {
		return nil, err
	}
	defer r.change.Unlock()
	var doomed []*dataKey
	seen := map[seal.ID]bool{}
	r.mu.RLock()
	for _, id := range ids {
		if !seen[id] {
			doomed = append(doomed, r.data[id]...)
		}
		seen[id] = true
	}
	r.mu.RUnlock()
	return r.remove(doomed)
}

// Drop removes a generation of a data key that no file needs any more. The
// newest is refused; one that is not there is no error.
func (r *Ring) Drop(id seal.ID, generation uint32) error {
	if err := r.begin(); err != nil {
		return err
	}
	defer r.change.Unlock()
	r.mu.RLock()
	all := slices.Clone(r.data[id])
	r.mu.RUnlock()
	i := slices.IndexFunc(all, func(k *dataKey) bool { return k.generation == generation })
	switch {
	case i < 0:
		return nil
	case i == len(all)-1:
		return fmt.Errorf("%s: the newest generation is in use", keyName(id, generation))
	}
	_, err := r.remove(all[i : i+1])
	return err
}

// begin starts a change: the caller gives r.change back unless there is an
// error.
func (r *Ring) begin() error {
	if r.readOnly {
		return ErrReadOnly
	}
	r.change.Lock()
	err := r.usable()
	if err == nil {
		err = r.removeOlder()
	}
	if err != nil {
		r.change.Unlock()
	}
	return err
}

func (r *Ring) usable() error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	switch {
	case r.data == nil:
		return ErrClosed
	case r.failed != nil:
		return fmt.Errorf("%w: %w", ErrFailed, r.failed)
	}
	return nil
}

// grow makes a generation of a data key under the primary. The caller holds
// r.change.
func (r *Ring) grow(id seal.ID, generation uint32) (*dataKey, error) {
	k, err := newDataKey(r.keyset.Load(), id, generation)
	if err != nil {
		return nil, err
	}
	if err := r.wrote(k.name(), k.write(r.fs)); err != nil {
		k.drop()
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// A new slice: lookups hold the old one.
	r.data[id] = append(slices.Clone(r.data[id]), k)
	return k, nil
}

// wrote judges the error of writing a file. If the file is there all the same,
// only the next start knows whether it stays.
func (r *Ring) wrote(name string, err error) error {
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	if _, statErr := r.fs.Stat(name); !errors.Is(statErr, fs.ErrNotExist) {
		r.failed = err
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	return err
}

// remove takes away the files of data keys, makes that durable, and forgets
// the keys. The caller holds r.change.
func (r *Ring) remove(doomed []*dataKey) (gone []KeyInfo, err error) {
	if len(doomed) == 0 {
		return nil, nil
	}
	removed := map[*dataKey]bool{}
	for _, k := range doomed {
		info, _ := k.describe(r.fs) // a damaged key is destroyed like any other
		var e error
		if !mutant.On(mutant.KeyNotDestroyed) {
			e = r.fs.Remove(k.name())
		}
		if e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("remove: %w", e))
			continue
		}
		gone, removed[k] = append(gone, info), true
	}
	r.forget(removed)
	return gone, errors.Join(err, r.syncRemoved())
}

// syncRemoved makes removals durable.
func (r *Ring) syncRemoved() error {
	if mutant.On(mutant.KeyRemovalNotSynced) {
		return nil
	}
	if err := r.fs.SyncDir(Dir); err != nil {
		r.failed = err
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	return nil
}

// forget wipes keys that have no file any more.
func (r *Ring) forget(removed map[*dataKey]bool) {
	type generation struct {
		collection seal.ID
		number     uint32
	}
	dead := map[generation]bool{}
	r.mu.Lock()
	for k := range removed {
		dead[generation{k.collection, k.generation}] = true
		left := slices.DeleteFunc(slices.Clone(r.data[k.collection]), func(o *dataKey) bool { return o == k })
		if r.data[k.collection] = left; len(left) == 0 {
			delete(r.data, k.collection)
		}
	}
	r.mu.Unlock()
	for k := range maps.Keys(removed) {
		k.drop()
	}
	r.cache.drop(func(k cacheKey) bool { return dead[generation{k.file.Collection, k.key}] })
}

// install makes ks, which op wraps, the newest keyset: it is durable before
// the one that it replaces goes. The caller holds r.rekeying and r.change.
func (r *Ring) install(ks *opened, op Operator) error {
	if err := r.wrote(ks.name(), ks.write(r.fs)); err != nil {
		return err
	}
	if ks.number > 1 {
		r.older = append(slices.Clone(r.older), ks.number-1)
	}
	r.keyset.Store(ks)
	r.op = op
	return r.removeOlder()
}

// removeOlder removes the keysets that were replaced; what it does not get to,
// the next change or the next start does. The caller holds r.change.
func (r *Ring) removeOlder() error {
	if len(r.older) == 0 {
		return nil
	}
	for _, n := range r.older {
		if err := r.fs.Remove(disk.Name(Dir, n, keysetSuffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the keyset that was replaced: %w", err)
		}
	}
	if err := r.syncRemoved(); err != nil {
		return err
	}
	r.older = nil
	return nil
}
