package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/chromad/chromad/internal/strict"
	"github.com/chromad/chromad/server/limit"
)

// Policy is what an operator decided: users and roles. Its stored form is
// JSON; unknown fields are errors, since one that a reader does not know may
// be the one that forbids.
type Policy struct {
	Version int    `json:"version" yaml:"version"` // 1
	Users   []User `json:"users" yaml:"users"`
	Roles   []Role `json:"roles,omitempty" yaml:"roles,omitempty"` // beside the built-in ones
}

// User is a person or a program.
type User struct {
	Name     string    `json:"name" yaml:"name"`
	Roles    []Binding `json:"roles,omitempty" yaml:"roles,omitempty"`
	Keys     []Key     `json:"keys,omitempty" yaml:"keys,omitempty"`
	Password string    `json:"password,omitempty" yaml:"password,omitempty"` // its hash, see HashPassword
	// Certificates are the common names of client certificates that are this
	// user's.
	Certificates []string `json:"certificates,omitempty" yaml:"certificates,omitempty"`
	// Tenant and Database are what a client gets that names none: the answer
	// of /auth/identity. Empty: the default ones.
	Tenant   string `json:"tenant,omitempty" yaml:"tenant,omitempty"`
	Database string `json:"database,omitempty" yaml:"database,omitempty"`
	Disabled bool   `json:"disabled,omitempty" yaml:"disabled,omitempty"`
	// Attributes are what rules about records may ask about him, see Where.
	Attributes Attributes `json:"attributes,omitempty" yaml:"attributes,omitempty"`
	// Limits are how much he may ask for: instead of the server's own bounds,
	// and at most what his roles say.
	Limits *limit.Set `json:"limits,omitempty" yaml:"limits,omitempty"`
}

// Key is an API key, without what is secret of it.
type Key struct {
	ID      string    `json:"id" yaml:"id"`     // the part of the key that may be seen
	Hash    string    `json:"hash" yaml:"hash"` // SHA-256 of the whole, hex
	Name    string    `json:"name,omitempty" yaml:"name,omitempty"`
	Created time.Time `json:"created" yaml:"created"`
	Expires time.Time `json:"expires,omitzero" yaml:"expires,omitempty"` // zero: never
}

const (
	policyVersion = 1
	maxUsers      = 100_000
	maxRoles      = 1_000
	maxKeys       = 100 // of a user
	maxName       = 128
)

// Hidden stands for hashes of keys and passwords where a policy is shown. In
// one that is imported it is the hash that is there already.
const Hidden = "hidden"

// Decode reads a stored policy and checks it; nothing is an empty one.
func Decode(b []byte) (*Policy, error) {
	p, err := Read(b)
	if err == nil {
		err = p.Check()
	}
	return p, err
}

// Read is Decode for what is to be imported, of which hashes may be hidden and
// which is checked then.
func Read(b []byte) (*Policy, error) {
	p := &Policy{Version: policyVersion}
	if len(b) == 0 {
		return p, nil
	}
	if err := strict.Decode(b, p); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return p, nil
}

// clone is a copy that shares nothing.
func (p *Policy) clone() (*Policy, error) {
	b, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	return Read(b)
}

// Shown is the policy without hashes: nothing in it lets anybody in, or try
// passwords somewhere else.
func (p *Policy) Shown() *Policy {
	shown := *p
	shown.Users = slices.Clone(p.Users)
	for i := range shown.Users {
		shown.Users[i] = shown.Users[i].Shown()
	}
	return &shown
}

// Shown is the user without hashes.
func (u User) Shown() User {
	u.Keys = slices.Clone(u.Keys)
	for i := range u.Keys {
		u.Keys[i].Hash = Hidden
	}
	if u.Password != "" {
		u.Password = Hidden
	}
	return u
}

// restore puts the hashes of the policy that is there in the place of hidden ones.
func (p *Policy) restore(from *Policy) error {
	users := from.users()
	for i := range p.Users {
		u := &p.Users[i]
		was := users[u.Name]
		if u.Password == Hidden {
			if u.Password = was.Password; u.Password == "" {
				return fmt.Errorf("user %q: password: hidden, and there is none", u.Name)
			}
		}
		for j := range u.Keys {
			k := &u.Keys[j]
			if k.Hash != Hidden {
				continue
			}
			at := slices.IndexFunc(was.Keys, func(old Key) bool { return old.ID == k.ID })
			if at < 0 {
				return fmt.Errorf("user %q: keys[%d]: its hash is hidden, and the user has no key %q", u.Name, j, k.ID)
			}
			k.Hash = was.Keys[at].Hash
		}
	}
	return nil
}

// Encode is the stored form of a policy that Check allows.
func (p *Policy) Encode() ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	return json.Marshal(p)
}

// Check tells what is wrong with a policy: which user or role, and why.
func (p *Policy) Check() error {
	switch {
	case p.Version != policyVersion:
		return fmt.Errorf("policy: version %d, and this program knows %d", p.Version, policyVersion)
	case len(p.Users) > maxUsers:
		return fmt.Errorf("policy: %d users, at most %d", len(p.Users), maxUsers)
	case len(p.Roles) > maxRoles:
		return fmt.Errorf("policy: %d roles, at most %d", len(p.Roles), maxRoles)
	}
	roles := map[string]bool{}
	for _, r := range append(BuiltIn(), p.Roles...) {
		if err := r.check(); err != nil {
			return fmt.Errorf("policy: %w", err)
		}
		if roles[r.Name] {
			return fmt.Errorf("policy: role %q is there twice, or is built in", r.Name)
		}
		roles[r.Name] = true
	}
	seen := unique{}
	for _, u := range p.Users {
		if err := u.check(roles, seen); err != nil {
			return fmt.Errorf("policy: %w", err)
		}
	}
	return nil
}

// unique is what no two users may share, by kind and value.
type unique map[[2]string]string

func (s unique) take(kind, value, user string) error {
	if other, taken := s[[2]string{kind, value}]; taken {
		return fmt.Errorf("user %q: %s %q is that of user %q already", user, kind, value, other)
	}
	s[[2]string{kind, value}] = user
	return nil
}

func (u *User) check(roles map[string]bool, seen unique) error {
	if err := checkName("user", u.Name); err != nil {
		return err
	}
	if err := seen.take("name", u.Name, u.Name); err != nil {
		return err
	}
	if err := u.Limits.Check(knownPattern); err != nil {
		return fmt.Errorf("user %q: limits: %w", u.Name, err)
	}
	for i, b := range u.Roles {
		if !roles[b.Role] {
			return fmt.Errorf("user %q: roles[%d]: there is no role %q", u.Name, i, b.Role)
		}
		if err := b.On.check(); err != nil {
			return fmt.Errorf("user %q: roles[%d]: on: %w", u.Name, i, err)
		}
	}
	if err := u.Attributes.check(); err != nil {
		return fmt.Errorf("user %q: %w", u.Name, err)
	}
	if len(u.Keys) > maxKeys {
		return fmt.Errorf("user %q: %d keys, at most %d: revoke those that nobody uses", u.Name, len(u.Keys), maxKeys)
	}
	for i, k := range u.Keys {
		if err := k.check(); err != nil {
			return fmt.Errorf("user %q: keys[%d]: %w", u.Name, i, err)
		}
		if err := errors.Join(seen.take("key", k.ID, u.Name), seen.take("hash of the key", k.Hash, u.Name)); err != nil {
			return err
		}
	}
	if u.Password != "" {
		if _, err := parsePassword(u.Password); err != nil {
			return fmt.Errorf("user %q: password: %w", u.Name, err)
		}
	}
	for _, c := range u.Certificates {
		if c == "" || len(c) > maxName {
			return fmt.Errorf("user %q: the name in a certificate has 1 to %d bytes", u.Name, maxName)
		}
		if err := seen.take("certificate", c, u.Name); err != nil {
			return err
		}
	}
	return nil
}

// checkName allows what is plain in a log, a shell and a URL.
func checkName(kind, name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("%s %.80q: a name has 1 to %d bytes", kind, name, maxName)
	}
	for _, r := range name {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_' || r == '@') {
			return fmt.Errorf("%s %q: only letters, digits and . - _ @", kind, name)
		}
	}
	return nil
}

// User finds a user by name.
func (p *Policy) User(name string) *User {
	if i := slices.IndexFunc(p.Users, func(u User) bool { return u.Name == name }); i >= 0 {
		return &p.Users[i]
	}
	return nil
}
