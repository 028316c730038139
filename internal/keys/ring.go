package keys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/mutant"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

// Ring is the keys of one store. It implements seal.Keys and is safe for
// concurrent use.
type Ring struct {
	redacted
	fs       vfs.FS
	store    seal.ID
	readOnly bool

	keyset  atomic.Pointer[opened]
	cache   *sealerCache
	scratch sync.Pool // for the sealers

	// mu guards data: held for reading by whoever looks up a key, for writing
	// while the map changes, never over I/O. data is nil once closed.
	mu   sync.RWMutex
	data map[seal.ID][]*dataKey // generations ascend, the last is current

	// rekeying is held by whoever replaces the keyset, one at a time, and
	// before change: it is held while the operator's key is asked.
	rekeying sync.Mutex

	// change is held by whoever changes what is on disk, one at a time, never
	// while the operator's key is asked; the fields below are its.
	change sync.Mutex
	op     Operator
	older  []uint64 // keysets that the newest one replaced, still on disk
	failed error    // of the disk: nobody knows what is durable
}

var _ seal.Keys = (*Ring)(nil)

// listing is what the names in Dir say.
type listing struct {
	keysets []uint64             // ascending
	keys    map[seal.ID][]uint32 // generations ascending
}

func list(fsys vfs.FS) (*listing, error) {
	l := &listing{keys: map[seal.ID][]uint32{}}
	infos, err := fsys.List(Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, err
	}
	for _, i := range infos { // by name, so that numbers ascend
		if n, ours := disk.Number(i.Name, keysetSuffix); ours {
			l.keysets = append(l.keysets, n)
		} else if id, generation, ours := parseKeyName(i.Name); ours {
			l.keys[id] = append(l.keys[id], generation)
		}
	}
	return l, nil
}

// Present reports whether the store has keys: there is a data key. A keyset
// without any is what is left of a Create that was interrupted.
func Present(fsys vfs.FS) (bool, error) {
	l, err := list(fsys)
	return err == nil && len(l.keys) > 0, err
}

// KeysetInfo describes a keyset. Nothing in it is secret.
type KeysetInfo struct {
	Store      seal.ID
	Number     uint64
	URI        string   // of the operator's key that wraps it
	Converting bool     // files that are not encrypted are accepted
	Primary    uint32   // id of the key that wraps new data keys; known to a Ring only
	Keys       []uint32 // ids of all keys, oldest first; known to a Ring only
}

// Inspect says what the newest keyset shows without the operator's key, above
// all which one that is. ErrKey: there is none.
func Inspect(fsys vfs.FS) (KeysetInfo, error) {
	l, err := list(fsys)
	if err != nil {
		return KeysetInfo{}, err
	}
	s, err := newestKeyset(fsys, l)
	if err != nil {
		return KeysetInfo{}, err
	}
	return KeysetInfo{Store: s.store, Number: s.number, URI: s.uri, Converting: s.converting()}, nil
}

// Create makes the first keyset of a store and the data key of the store
// itself. Both are durable when it returns; what an interrupted Create left is
// completed. converting: files that are not encrypted are accepted, until
// Settle. A store with data keys of collections has been created already
// (fs.ErrExist).
func Create(ctx context.Context, fsys vfs.FS, store seal.ID, op Operator, converting bool) (*Ring, error) {
	if store == (seal.ID{}) || op == nil {
		return nil, errors.New("create keys: a store's id and an operator's key are needed")
	}
	l, err := list(fsys)
	if err != nil {
		return nil, err
	}
	if len(l.keys) > 1 || len(l.keys) == 1 && l.keys[seal.ID{}] == nil {
		if len(l.keysets) == 0 {
			_, err := newestKeyset(fsys, l)
			return nil, err
		}
		return nil, fmt.Errorf("create keys: %s has data keys already: %w", Dir, fs.ErrExist)
	}
	var r *Ring
	if len(l.keysets) > 0 || len(l.keys) > 0 {
		r, err = open(ctx, fsys, l, store, op, false)
	} else {
		r = newRing(fsys, store, op, false)
		err = r.first(ctx, converting)
	}
	if err != nil {
		return nil, err
	}
	if err := r.setConverting(ctx, converting); err != nil {
		return nil, err
	}
	r.change.Lock()
	defer r.change.Unlock()
	if !r.Has(seal.ID{}) {
		if _, err := r.grow(seal.ID{}, 1); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// first makes the first keyset.
func (r *Ring) first(ctx context.Context, converting bool) error {
	ks, err := newKeyset()
	if err != nil {
		return fmt.Errorf("create keys: %w", err)
	}
	ks.store = r.store
	if converting {
		ks.flags |= flagConverting
	}
	// A directory that an interrupted Create left may not be durable, and
	// nobody syncs one that is there.
	if err := r.fs.Mkdir(Dir); err != nil {
		return err
	}
	if err := r.fs.SyncDir("."); err != nil {
		return err
	}
	return r.rekey(ctx, nil, func(*opened) (*opened, error) { return ks, nil })
}

// Open reads the newest keyset with the operator's key. store is whose keys
// they must be, zero when the caller has that still to learn (Ring.Store).
// Nothing is written but what a crash left is tidied, and with readOnly not
// even that.
func Open(ctx context.Context, fsys vfs.FS, store seal.ID, op Operator, readOnly bool) (*Ring, error) {
	l, err := list(fsys)
	if err != nil {
		return nil, err
	}
	if len(l.keysets) > 0 && l.keys[seal.ID{}] == nil {
		return nil, fmt.Errorf("%s: the store's own key is missing: bring the file back; if making the keys of a new store was interrupted, make them again: %w",
			keyName(seal.ID{}, 1), seal.ErrKey)
	}
	return open(ctx, fsys, l, store, op, readOnly)
}

func open(ctx context.Context, fsys vfs.FS, l *listing, store seal.ID, op Operator, readOnly bool) (*Ring, error) {
	s, err := newestKeyset(fsys, l)
	if err != nil {
		return nil, err
	}
	if store != (seal.ID{}) && s.store != store {
		return nil, fmt.Errorf("%s: keyset of store %v under the operator's key %q, this is store %v: %w", s.name(), s.store, s.uri, store, seal.ErrKey)
	}
	ks, err := openKeyset(ctx, s, op)
	if err != nil {
		return nil, err
	}
	r := newRing(fsys, s.store, op, readOnly)
	r.keyset.Store(ks)
	r.older = l.keysets[:len(l.keysets)-1]
	for id, generations := range l.keys {
		for _, g := range generations {
			r.data[id] = append(r.data[id], &dataKey{store: s.store, collection: id, generation: g})
		}
	}
	// The store's own key is needed at once, and one that does not open says
	// that keyset and data keys are not of one store.
	if own := r.data[seal.ID{}]; own != nil {
		if err := own[len(own)-1].use(fsys, ks, func([]byte) error { return nil }); err != nil {
			return nil, err
		}
	}
	if readOnly {
		return r, nil
	}
	return r, r.settleNames()
}

// settleNames makes durable what was listed before anything relies on it: a
// process that died may have left names that no SyncDir covers. Then the
// keysets that were replaced go.
func (r *Ring) settleNames() error {
	r.change.Lock()
	defer r.change.Unlock()
	for _, dir := range []string{".", Dir} {
		if err := r.fs.SyncDir(dir); err != nil {
			return err
		}
	}
	return r.removeOlder()
}

func newRing(fsys vfs.FS, store seal.ID, op Operator, readOnly bool) *Ring {
	return &Ring{
		fs: fsys, store: store, op: op, readOnly: readOnly,
		cache: newSealerCache(cacheSize), data: map[seal.ID][]*dataKey{},
	}
}

// Store is the store whose keys these are.
func (r *Ring) Store() seal.ID { return r.store }

// Keyset describes the keyset.
func (r *Ring) Keyset() KeysetInfo {
	ks := r.keyset.Load()
	return KeysetInfo{
		Store: ks.store, Number: ks.number, URI: ks.uri, Converting: ks.converting(),
		Primary: ks.primary, Keys: slices.Clone(ks.ids),
	}
}

// Writer implements seal.Keys. Whoever writes keeps the sealer for the whole
// file: it counts the blocks that it sealed.
func (r *Ring) Writer(at seal.Address) (seal.Sealer, error) {
	k, err := r.find(at, 0)
	if err != nil {
		return nil, err
	}
	return r.sealer(at, k)
}

// Reader implements seal.Keys.
func (r *Ring) Reader(at seal.Address, key uint32) (seal.Sealer, error) {
	if key == 0 {
		if ks := r.keyset.Load(); !ks.converting() && !mutant.On(mutant.PlainAccepted) {
			return nil, fmt.Errorf("not encrypted, and the store is (%s): %w", ks.name(), seal.ErrKey)
		}
		return seal.Plain().Reader(at, 0)
	}
	k, err := r.find(at, key)
	if err != nil {
		return nil, err
	}
	return r.sealer(at, k)
}

// find returns a generation of a data key, 0 for the newest.
func (r *Ring) find(at seal.Address, generation uint32) (*dataKey, error) {
	if at.Store != r.store {
		return nil, fmt.Errorf("file of store %v, the keys are of %v: %w", at.Store, r.store, seal.ErrKey)
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.data == nil {
		return nil, ErrClosed
	}
	all := r.data[at.Collection]
	if len(all) == 0 {
		return nil, fmt.Errorf("collection %v: %w", at.Collection, ErrShredded)
	}
	if generation == 0 {
		return all[len(all)-1], nil
	}
	for _, k := range slices.Backward(all) {
		if k.generation == generation {
			return k, nil
		}
	}
	return nil, fmt.Errorf("collection %v: no generation %d of its key, the newest is %d: %s is missing: %w",
		at.Collection, generation, all[len(all)-1].generation, keyName(at.Collection, generation), seal.ErrKey)
}

func (r *Ring) sealer(at seal.Address, k *dataKey) (seal.Sealer, error) {
	at.Block = 0
	ck := cacheKey{at, k.generation}
	if s := r.cache.get(ck); s != nil {
		return s, nil
	}
	var s *fileSealer
	err := k.use(r.fs, r.keyset.Load(), func(secret []byte) (err error) {
		if s, err = newFileSealer(secret, at, k.generation, &r.scratch); err == nil {
			s = r.cache.put(ck, s) // while k cannot be dropped: dropping clears the cache afterwards
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Has reports whether a collection has a key.
func (r *Ring) Has(id seal.ID) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.data[id]) > 0
}

// Dropped reports whether a generation of a collection's key was there once and
// is no more, now that there are newer ones. 0 is what was written before the
// store had keys.
func (r *Ring) Dropped(id seal.ID, generation uint32) bool {
	if generation == 0 {
		return !r.keyset.Load().converting()
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := r.data[id]
	return len(all) > 0 && generation < all[len(all)-1].generation &&
		!slices.ContainsFunc(all, func(k *dataKey) bool { return k.generation == generation })
}

// Collections yields the collections that have keys, by id, with their
// generations, which ascend: what the names of the files say. The store's own
// key is not among them.
func (r *Ring) Collections() iter.Seq2[seal.ID, []uint32] {
	r.mu.RLock()
	all := make(map[seal.ID][]uint32, len(r.data))
	for id, ks := range r.data {
		for _, k := range ks {
			all[id] = append(all[id], k.generation)
		}
	}
	r.mu.RUnlock()
	delete(all, seal.ID{})
	ids := slices.SortedFunc(maps.Keys(all), func(a, b seal.ID) int { return bytes.Compare(a[:], b[:]) })
	return func(yield func(seal.ID, []uint32) bool) {
		for _, id := range ids {
			if !yield(id, all[id]) {
				return
			}
		}
	}
}

// Close wipes the data keys. The ring hands out nothing afterwards; sealers
// that it handed out still work.
func (r *Ring) Close() error {
	r.change.Lock()
	defer r.change.Unlock()
	r.mu.Lock()
	data := r.data
	r.data = nil
	r.mu.Unlock()
	for _, ks := range data {
		for _, k := range ks {
			k.drop()
		}
	}
	r.cache.drop(func(cacheKey) bool { return true })
	return nil
}
