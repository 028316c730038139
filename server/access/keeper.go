package access

import (
	"context"
	"fmt"
	"sync"
)

// Settings is where a policy is kept; *engine.DB is one.
type Settings interface {
	Setting(ctx context.Context, name string) ([]byte, error)
	ChangeSetting(ctx context.Context, name string, change func(old []byte) ([]byte, error)) error
}

// setting is the name of the policy among the settings of a store. Where it is
// missing and settingLost is there, the policy was lost with a damaged disk
// and not left out by an operator.
const (
	setting     = "access"
	settingLost = "settings lost"
)

// lostUser keeps a store closed whose policy was lost: nobody can be him.
const lostUser = "lost-with-the-settings"

// Keeper is the policy of a store: kept there, and used from the moment it is
// changed. It is safe for concurrent use.
type Keeper struct {
	*Directory
	store Settings
	mu    sync.Mutex // the policy that is used last is the one that was stored last
}

// Open reads the policy of a store. One that cannot be read is an error and
// not an empty policy, with which everybody could do everything.
func Open(ctx context.Context, store Settings, outside Outside) (*Keeper, error) {
	k := &Keeper{store: store}
	p, err := k.Policy(ctx)
	if err != nil {
		return nil, err
	}
	k.Directory, err = NewDirectory(p, outside)
	return k, err
}

// Policy is the policy as it is stored.
func (k *Keeper) Policy(ctx context.Context) (*Policy, error) {
	b, err := k.store.Setting(ctx, setting)
	if err != nil {
		return nil, fmt.Errorf("who may do what: %w", err)
	}
	lost, err := k.store.Setting(ctx, settingLost)
	if err != nil {
		return nil, fmt.Errorf("who may do what: %w", err)
	}
	return stored(b, lost != nil)
}

// stored is the policy that is kept as b.
func stored(b []byte, lost bool) (*Policy, error) {
	p, err := Decode(b)
	if err == nil && lost && len(b) == 0 {
		p.Users = []User{{Name: lostUser, Disabled: true}}
	}
	return p, err
}

// Change replaces the policy by what do makes of it. When it returns nil, the
// new one is on disk and used by every request that begins.
func (k *Keeper) Change(ctx context.Context, do func(*Policy) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	lost, err := k.store.Setting(ctx, settingLost)
	if err != nil {
		return fmt.Errorf("who may do what: %w", err)
	}
	var next *Policy
	err = k.store.ChangeSetting(ctx, setting, func(old []byte) ([]byte, error) {
		p, err := stored(old, lost != nil)
		if err != nil {
			return nil, err
		}
		if err := do(p); err != nil {
			return nil, err
		}
		next = p
		return p.Encode()
	})
	if err != nil || next == nil {
		return err
	}
	return k.Use(next)
}
