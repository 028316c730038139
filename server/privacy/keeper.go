package privacy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// Settings is where rules and keys are kept; *engine.DB is one.
type Settings interface {
	Setting(ctx context.Context, name string) ([]byte, error)
	ChangeSetting(ctx context.Context, name string, change func(old []byte) ([]byte, error)) error
}

// Names of the settings of a store. Where there are no rules and settingLost is
// there, they may have been lost with a damaged disk (engine.SettingsLost).
const (
	rulesSetting = "privacy"
	keysSetting  = "privacy keys"
	settingLost  = "settings lost"
)

// ErrLost says that nobody knows what may be stored: rules have to be set.
var ErrLost = errors.New("the rules about what may be stored may have been lost with a damaged disk: " +
	"nothing is stored until chromad privacy set says them again, or that there are none (rules: [])")

// Keeper is rules and keys of a store: kept there, and used from the moment
// they are changed. It is safe for concurrent use. A nil Keeper has neither.
type Keeper struct {
	store   Settings
	mu      sync.Mutex // what is used last is what was stored last
	current atomic.Pointer[plans]
	keys    atomic.Pointer[Keys]
}

// plans are those of the rules of the moment.
type plans struct {
	rules *Rules
	mu    sync.Mutex
	known map[[3]string]*Plan // by tenant, database, collection
	lost  bool                // rules may be missing
}

const maxPlans = 4096

// Open reads the rules of a store. Rules that cannot be read are an error, not
// none.
func Open(ctx context.Context, store Settings) (*Keeper, error) {
	k := &Keeper{store: store}
	r, err := k.Rules(ctx)
	if err != nil {
		return nil, err
	}
	rules, err := store.Setting(ctx, rulesSetting)
	if err != nil {
		return nil, err
	}
	lost, err := store.Setting(ctx, settingLost)
	if err != nil {
		return nil, err
	}
	k.use(r, lost != nil && len(rules) == 0)
	return k, nil
}

func (k *Keeper) use(r *Rules, lost bool) {
	k.current.Store(&plans{rules: r, known: map[[3]string]*Plan{}, lost: lost})
}

// Rules are the rules as they are stored.
func (k *Keeper) Rules(ctx context.Context) (*Rules, error) {
	b, err := k.store.Setting(ctx, rulesSetting)
	if err != nil {
		return nil, fmt.Errorf("what may be stored: %w", err)
	}
	return Decode(b)
}

// SetRules replaces the rules. When it returns nil, the new ones are on disk and
// hold for every write that begins. What is stored stays as it is.
func (k *Keeper) SetRules(ctx context.Context, r *Rules) error {
	b, err := r.Encode()
	if err != nil {
		return err
	}
	// The caller may change his.
	if r, err = Decode(b); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.store.ChangeSetting(ctx, rulesSetting, func([]byte) ([]byte, error) { return b, nil }); err != nil {
		return err
	}
	k.use(r, false)
	return nil
}

// Plan is what holds for a collection; nil: nothing.
func (k *Keeper) Plan(tenant, database, collection string) *Plan {
	if k == nil {
		return nil
	}
	at := k.current.Load()
	if len(at.rules.Rules) == 0 {
		return nil
	}
	key := [3]string{tenant, database, collection}
	at.mu.Lock()
	defer at.mu.Unlock()
	p, known := at.known[key]
	if !known {
		if len(at.known) >= maxPlans {
			clear(at.known)
		}
		p = at.rules.For(tenant, database, collection)
		at.known[key] = p
	}
	return p
}

// Any reports whether there are rules about any collection. ErrLost: it is not
// known, and nothing must be stored.
func (k *Keeper) Any() (bool, error) {
	if k == nil {
		return false, nil
	}
	at := k.current.Load()
	if at.lost {
		return true, ErrLost
	}
	return len(at.rules.Rules) > 0, nil
}

// Keys are the keys of the store, made when they are asked for first.
func (k *Keeper) Keys(ctx context.Context) (*Keys, error) {
	if k == nil {
		return nil, errors.New("privacy: there is no place for keys")
	}
	if keys := k.keys.Load(); keys != nil {
		return keys, nil
	}
	return k.change(ctx, func(there *Keys) (*Keys, error) {
		if there != nil {
			return there, nil
		}
		return NewKeys()
	})
}

// Made are the keys of the store, nil where nobody has asked for any yet.
func (k *Keeper) Made(ctx context.Context) (*Keys, error) {
	if k == nil {
		return nil, nil
	}
	if keys := k.keys.Load(); keys != nil {
		return keys, nil
	}
	// Without the lock: who is asking has nothing to wait for.
	b, err := k.store.Setting(ctx, keysSetting)
	if err != nil {
		return nil, fmt.Errorf("privacy: keys: %w", err)
	}
	if len(b) == 0 {
		return nil, nil
	}
	return k.change(ctx, func(there *Keys) (*Keys, error) { return there, nil })
}

// SameRules reports whether the rules come to the same for two collections of a
// database.
func (k *Keeper) SameRules(tenant, database, one, other string) bool {
	if k == nil {
		return true
	}
	rules := k.current.Load().rules
	a, b := rules.For(tenant, database, one), rules.For(tenant, database, other)
	return a == nil && b == nil || a != nil && b != nil && slices.Equal(a.rules, b.rules)
}

// Rotate makes new keys for the pseudonyms and hashes to come. Those of before
// are still understood.
func (k *Keeper) Rotate(ctx context.Context) (*Keys, error) {
	return k.change(ctx, func(there *Keys) (*Keys, error) {
		if there == nil {
			return NewKeys()
		}
		return there.Rotated()
	})
}

// Revealed is what a pseudonym stands for.
type Revealed struct {
	Known bool   `json:"known"` // it is a pseudonym of the field
	Value string `json:"value"` // as JSON
}

// Reveal turns pseudonyms of a field (a metadata key, #document or #uri) of a
// collection back, in their order. It is for who answers for the store: roles
// have no way to it.
func (k *Keeper) Reveal(ctx context.Context, collection, field string, pseudonyms []string) ([]Revealed, error) {
	keys, err := k.Keys(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Revealed, 0, len(pseudonyms))
	for _, p := range pseudonyms {
		v, known := keys.reveal(collection, field, p)
		r := Revealed{Known: known}
		if known {
			r.Value = v.String()
		}
		out = append(out, r)
	}
	return out, nil
}

// change replaces the keys (nil: there are none) by what do makes of them.
func (k *Keeper) change(ctx context.Context, do func(there *Keys) (*Keys, error)) (*Keys, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	// Keys that are there are read and no more, so that a store which cannot be
	// written to can be read.
	old, err := k.store.Setting(ctx, keysSetting)
	if err != nil {
		return nil, fmt.Errorf("privacy: keys: %w", err)
	}
	var there *Keys
	if len(old) > 0 {
		if there, err = DecodeKeys(old); err != nil {
			return nil, err
		}
	}
	next, err := do(there)
	if err != nil {
		return nil, err
	}
	if next != there {
		b, err := next.Encode()
		if err != nil {
			return nil, err
		}
		if err := k.store.ChangeSetting(ctx, keysSetting, func([]byte) ([]byte, error) { return b, nil }); err != nil {
			return nil, fmt.Errorf("privacy: keys: %w", err)
		}
	}
	k.keys.Store(next)
	return next, nil
}
