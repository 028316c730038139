package keys

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/chromad/chromad/internal/seal"
)

// Rotation is what a rotation has still to do, as the files say.
type Rotation struct {
	Primary uint32    // the key of the keyset that is to wrap everything
	Renew   []seal.ID // whose newest generation another key wraps; the zero id is the store
	Stale   []KeyInfo // generations that are not the newest
	Retire  []uint32  // keys of the keyset, the primary apart, that wrap nothing
}

// Done reports whether nothing is left to do.
func (r Rotation) Done() bool { return len(r.Renew)+len(r.Stale)+len(r.Retire) == 0 }

// Rotation reads the file of every data key, once, and says what is left of a
// rotation.
func (r *Ring) Rotation() (Rotation, error) {
	ks := r.keyset.Load()
	left := Rotation{Primary: ks.primary}
	wrapping := map[uint32]bool{ks.primary: true}
	r.mu.RLock()
	data := maps.Clone(r.data)
	r.mu.RUnlock()
	for _, id := range slices.SortedFunc(maps.Keys(data), func(a, b seal.ID) int { return bytes.Compare(a[:], b[:]) }) {
		for i, k := range data[id] {
			info, err := k.describe(r.fs)
			if err != nil {
				return Rotation{}, err
			}
			wrapping[info.Wrapped] = true
			if i < len(data[id])-1 {
				left.Stale = append(left.Stale, info)
			} else if info.Wrapped != ks.primary {
				left.Renew = append(left.Renew, id)
			}
		}
	}
	for _, id := range ks.ids {
		if !wrapping[id] {
			left.Retire = append(left.Retire, id)
		}
	}
	return left, nil
}

// Stale describes the generations of a collection's key that are not the
// newest, oldest first. The zero id is the store.
func (r *Ring) Stale(id seal.ID) ([]KeyInfo, error) {
	r.mu.RLock()
	all := slices.Clone(r.data[id])
	r.mu.RUnlock()
	var stale []KeyInfo
	for _, k := range all[:max(len(all)-1, 0)] {
		info, err := k.describe(r.fs)
		if err != nil {
			return nil, err
		}
		stale = append(stale, info)
	}
	return stale, nil
}

// AddPrimary puts a new key into the keyset, which wraps data keys from now
// on. While there are data keys to be renewed under the primary that is there,
// it does nothing: that rotation is finished first.
func (r *Ring) AddPrimary(ctx context.Context) error {
	return r.rekey(ctx, nil, func(now *opened) (*opened, error) {
		left, err := r.Rotation()
		if err != nil || len(left.Renew) > 0 {
			return nil, err
		}
		return now.addPrimary()
	})
}

// Renew makes a new generation of a collection's key under the primary and
// returns its number; the zero id is the store. If the primary wraps the
// newest generation, that is the one.
func (r *Ring) Renew(id seal.ID) (uint32, error) {
	if err := r.begin(); err != nil {
		return 0, err
	}
	defer r.change.Unlock()
	newest, err := r.find(seal.Address{Store: r.store, Collection: id}, 0)
	if err != nil {
		return 0, err
	}
	info, err := newest.describe(r.fs)
	if err != nil {
		return 0, err
	}
	if info.Wrapped == r.keyset.Load().primary {
		return info.Generation, nil
	}
	if info.Generation == 1<<32-1 {
		return 0, errors.New(newest.name() + ": generations are used up")
	}
	k, err := r.grow(id, info.Generation+1)
	if err != nil {
		return 0, err
	}
	return k.generation, nil
}

// Retire destroys the keys of the keyset that wrap no data key any more, the
// primary apart, and returns their ids. A data key that cannot be read is an
// error: nobody knows what wraps it.
func (r *Ring) Retire(ctx context.Context) (retired []uint32, err error) {
	err = r.rekey(ctx, nil, func(now *opened) (*opened, error) {
		left, err := r.Rotation()
		if err != nil || len(left.Retire) == 0 {
			return nil, err
		}
		// They stay without data keys: new ones go under the primary.
		retired = left.Retire
		return now.without(retired)
	})
	if err != nil {
		return nil, err
	}
	return retired, nil
}

// Rewrap puts the keyset under another operator's key. From then on the store
// opens with that one only.
func (r *Ring) Rewrap(ctx context.Context, op Operator) error {
	if op == nil {
		return errors.New("rewrap keys: an operator's key is needed")
	}
	return r.rekey(ctx, op, func(now *opened) (*opened, error) { return now, nil })
}

// Settle ends a conversion: files that are not encrypted are refused.
func (r *Ring) Settle(ctx context.Context) error { return r.setConverting(ctx, false) }

func (r *Ring) setConverting(ctx context.Context, on bool) error {
	return r.rekey(ctx, nil, func(now *opened) (*opened, error) {
		if now.converting() == on {
			return nil, nil
		}
		next := *now
		next.flags ^= flagConverting
		return &next, nil
	})
}

// rekey replaces the keyset by what next makes of it, wrapped by op (nil: as
// before); with nothing from next it stays. next is called with r.change held.
// The operator's key is asked without it: that may be a service that is slow,
// and collections are made and destroyed meanwhile.
func (r *Ring) rekey(ctx context.Context, op Operator, next func(now *opened) (*opened, error)) error {
	r.rekeying.Lock() // so that the keyset is still now when the new one is installed
	defer r.rekeying.Unlock()
	if err := r.begin(); err != nil {
		return err
	}
	now, number := r.keyset.Load(), uint64(1)
	if now != nil {
		number = now.number + 1
	}
	if op == nil {
		op = r.op
	}
	ks, err := next(now)
	r.change.Unlock()
	if err != nil || ks == nil {
		return err
	}
	if ks, err = ks.seal(ctx, number, op); err != nil {
		return err
	}
	if err := r.begin(); err != nil {
		return err
	}
	defer r.change.Unlock()
	return r.install(ks, op)
}
