package access

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// ErrBeyond is the error of who would change what reaches further than he does.
var ErrBeyond = errors.New("further than your own roles reach")

// Mistake is the error of a command that cannot be done as it was asked.
type Mistake struct{ error }

// Unwrap is what is wrong.
func (m *Mistake) Unwrap() error { return m.error }

// Run makes the change that c asks for, as whoever owns the store.
func (k *Keeper) Run(ctx context.Context, c Command) (Result, error) { return k.run(ctx, nil, c) }

// RunAs makes the change for somebody who may write to the policy. He gives
// and takes what he holds himself: an error that is ErrBeyond says that a user
// or role he would change has, or would have, more than that. Else one who
// manages users could make himself everything, or take the key of who is.
func (k *Keeper) RunAs(ctx context.Context, who *Principal, c Command) (Result, error) {
	return k.run(ctx, who, c)
}

func (k *Keeper) run(ctx context.Context, who *Principal, c Command) (r Result, err error) {
	do := commands[c.Do]
	if do == nil {
		return r, &Mistake{fmt.Errorf("unknown command %q", c.Do)}
	}
	if c.NewPassword != "" { // before anybody waits for it
		if c.Password != "" {
			return r, &Mistake{errors.New("password and new_password: one of them")}
		}
		if c.Password, err = k.hash(c.NewPassword); err != nil {
			return r, err
		}
	}
	err = k.Change(ctx, func(p *Policy) (err error) {
		before, err := p.clone()
		if err != nil {
			return err
		}
		if r, err = do(&c, p, k.now()); err == nil {
			err = p.Check()
		}
		if err != nil {
			return &Mistake{err}
		}
		if before.hasAdmin() && !p.hasAdmin() && !c.Force {
			return &Mistake{errors.New("this would leave nobody who may do everything, who alone can undo it over the network: give another user the role admin first, or force it")}
		}
		return who.mayChange(before, p)
	})
	if err != nil {
		return Result{}, err
	}
	return r, nil
}

// hash hashes a password when there is room for it.
func (k *Keeper) hash(text string) (string, error) {
	select {
	case k.hashing <- struct{}{}:
	default:
		return "", ErrBusy
	}
	defer func() { <-k.hashing }()
	hash, err := HashPassword(text)
	if err != nil {
		return "", &Mistake{err}
	}
	return hash, nil
}

// RotateOwn makes a key in the place of one of the principal's own, of the one
// that he shows where id is "". Everybody may: the new one ends when the old
// one would have, or the one that is shown if that is earlier, so that nobody
// stays longer than he was let in for. The old one ends at once, or at keep if
// that is later.
func (k *Keeper) RotateOwn(ctx context.Context, who *Principal, id string, keep time.Time) (r Result, err error) {
	if id == "" {
		id = who.Key
	}
	if who.Method == "token" || id == "" { // a token's user may be named as one of the policy
		return r, &Mistake{errors.New("which key? show the one that is to be rotated, or name its id")}
	}
	err = k.Change(ctx, func(p *Policy) (err error) {
		u := p.User(who.Name)
		if u == nil || u.Disabled {
			return &Mistake{fmt.Errorf("you have no key %q", id)}
		}
		now := k.now()
		ends, err := u.keyEnds(id, now)
		if err == nil && who.Key != "" {
			var shown time.Time
			if shown, err = u.keyEnds(who.Key, now); ends.IsZero() || !shown.IsZero() && shown.Before(ends) {
				ends = shown
			}
		}
		if err != nil {
			return err
		}
		if r, err = u.rotate(id, now, keep, func(Key) time.Time { return ends }); err != nil {
			return err
		}
		if err := p.Check(); err != nil {
			return &Mistake{err}
		}
		return nil
	})
	if err != nil {
		return Result{}, err
	}
	return r, nil
}

// keyEnds is when a key ends that lets the user in now; zero: never.
func (u *User) keyEnds(id string, now time.Time) (time.Time, error) {
	at := slices.IndexFunc(u.Keys, func(k Key) bool { return k.ID == id })
	if at < 0 || u.Keys[at].expired(now) {
		return time.Time{}, &Mistake{fmt.Errorf("you have no key %q", id)}
	}
	return u.Keys[at].Expires, nil
}

// mayChange tells what keeps the principal from turning before into after:
// whatever changes must be within what he holds, before and after. nil: the
// owner, whom nothing keeps.
func (p *Principal) mayChange(before, after *Policy) error {
	if p == nil {
		return nil
	}
	was, is := before.roles(), after.roles()
	for name := range union(was, is) {
		if same(was[name], is[name]) {
			continue
		}
		for _, r := range []Role{was[name], is[name]} {
			if err := p.covers(grantsOf([]Binding{{Role: name}}, map[string]Role{name: r}, noValues)); err != nil {
				return fmt.Errorf("role %q: %w", name, err)
			}
		}
	}
	had, has := before.users(), after.users()
	for name := range union(had, has) {
		if same(had[name], has[name]) {
			continue
		}
		if err := errors.Join(p.covers(grantsOf(had[name].Roles, was, noValues)), p.covers(grantsOf(has[name].Roles, is, noValues))); err != nil {
			return fmt.Errorf("user %q: %w", name, err)
		}
	}
	return nil
}

// covers reports, as ErrBeyond, the grants that reach further than the
// principal's own. A grant with a rule about records covers nothing: which of
// two rules is the wider one is not decided here. Rules about fields narrow
// each other, so of who has one no grant covers an action on records.
func (p *Principal) covers(grants []granted) error {
	if p.open {
		return nil
	}
	fielded := p.Fielded()
	for _, g := range grants {
		left := g.actions
		for _, own := range p.grants {
			if !own.ruled && own.role.contains(g.role, g.on) && own.on.contains(g.role, g.on) {
				left &^= own.actions
			}
		}
		for _, a := range Actions() {
			bit := known[a].bit
			if left&bit != 0 || fielded && g.actions&bit != 0 && a.onRecords() {
				return fmt.Errorf("%s: %w", a, ErrBeyond)
			}
		}
	}
	return nil
}

// contains reports whether the scope holds all that is in both of the others;
// false where that is not plain to see.
func (s Scope) contains(a, b Scope) bool {
	for _, p := range [3][3]string{{s.Tenant, a.Tenant, b.Tenant}, {s.Database, a.Database, b.Database}, {s.Collection, a.Collection, b.Collection}} {
		// A star of the narrower pattern is a character that only a star of the
		// wider one stands for.
		if !all(p[0]) && !(p[1] != "" && wild(p[0], p[1])) && !(p[2] != "" && wild(p[0], p[2])) {
			return false
		}
	}
	return true
}

// hasAdmin reports whether there is a user who may do everything.
func (p *Policy) hasAdmin() bool {
	roles := p.roles()
	return slices.ContainsFunc(p.Users, func(u User) bool {
		return !u.Disabled && (&Principal{grants: grantsOf(u.Roles, roles, noValues)}).covers([]granted{{actions: setOf("*"), whole: true}}) == nil
	})
}

// same compares what would be stored.
func same[T any](a, b T) bool {
	x, err := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err == nil && err2 == nil && bytes.Equal(x, y)
}

func noValues(string) []string { return nil }

// roles are all roles by name, the built-in ones too.
func (p *Policy) roles() map[string]Role {
	out := map[string]Role{}
	for _, r := range append(BuiltIn(), p.Roles...) {
		out[r.Name] = r
	}
	return out
}

func (p *Policy) users() map[string]User {
	out := make(map[string]User, len(p.Users))
	for _, u := range p.Users {
		out[u.Name] = u
	}
	return out
}

func union[V any](a, b map[string]V) map[string]bool {
	out := map[string]bool{}
	for _, m := range []map[string]V{a, b} {
		for name := range maps.Keys(m) {
			out[name] = true
		}
	}
	return out
}
