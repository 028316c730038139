package access

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/chromad/chromad/internal/strict"
	"github.com/chromad/chromad/server/limit"
)

// Command is one change of a policy, as it is sent to a running server. Do
// says which fields are looked at; others must be empty.
type Command struct {
	Do string `json:"do"`

	User  string    `json:"user,omitempty"`
	Roles []Binding `json:"roles,omitempty"` // add-user, bind, unbind
	// Attributes and limits: add-user, set-attributes, set-limits.
	Attributes   Attributes `json:"attributes,omitempty"`
	Limits       *limit.Set `json:"limits,omitempty"`
	KeyName      string     `json:"key_name,omitempty"`     // add-key
	Expires      time.Time  `json:"expires,omitzero"`       // add-key; zero: never. rotate-key: of the old one; zero: now
	Key          string     `json:"key,omitempty"`          // revoke-key, rotate-key: its id
	Password     string     `json:"password,omitempty"`     // set-password: its hash; empty: none
	NewPassword  string     `json:"new_password,omitempty"` // set-password: itself, instead of its hash
	Certificates []string   `json:"certificates,omitempty"` // set-certificates
	Role         *Role      `json:"role,omitempty"`         // set-role
	RoleName     string     `json:"role_name,omitempty"`    // remove-role
	Policy       *Policy    `json:"policy,omitempty"`       // import
	Force        bool       `json:"force,omitempty"`        // also when nobody is left who may do everything
}

// Result is what a command has to say.
type Result struct {
	KeyID  string `json:"key_id,omitempty"`
	Secret string `json:"secret,omitempty"` // the new API key, shown this once
}

// DecodeCommand reads a command as JSON.
func DecodeCommand(b []byte) (Command, error) {
	var c Command
	if err := strict.Decode(b, &c); err != nil {
		return c, fmt.Errorf("command: %w", err)
	}
	return c, nil
}

// commands are what can be done, by the word of Command.Do.
var commands = map[string]func(c *Command, p *Policy, now time.Time) (Result, error){
	"add-user":         addUser,
	"remove-user":      removeUser,
	"disable-user":     func(c *Command, p *Policy, _ time.Time) (Result, error) { return Result{}, disable(c, p, true) },
	"enable-user":      func(c *Command, p *Policy, _ time.Time) (Result, error) { return Result{}, disable(c, p, false) },
	"bind":             bind,
	"unbind":           unbind,
	"add-key":          addKey,
	"revoke-key":       revokeKey,
	"rotate-key":       rotateKey,
	"set-password":     setPassword,
	"set-certificates": setCertificates,
	"set-attributes":   setAttributes,
	"set-limits":       setLimits,
	"set-role":         setRole,
	"remove-role":      removeRole,
	"import":           importPolicy,
}

// of finds the user that the command is about.
func (c *Command) of(p *Policy) (*User, error) {
	if u := p.User(c.User); u != nil {
		return u, nil
	}
	return nil, fmt.Errorf("there is no user %q", c.User)
}

func addUser(c *Command, p *Policy, _ time.Time) (Result, error) {
	if p.User(c.User) != nil {
		return Result{}, fmt.Errorf("user %q is there already", c.User)
	}
	p.Users = append(p.Users, User{Name: c.User, Roles: c.Roles, Attributes: c.Attributes, Limits: c.Limits})
	return Result{}, nil
}

func removeUser(c *Command, p *Policy, _ time.Time) (Result, error) {
	if _, err := c.of(p); err != nil {
		return Result{}, err
	}
	if len(p.Users) == 1 {
		return Result{}, errors.New("this is the last user: without users everybody may do everything; add another one before")
	}
	p.Users = slices.DeleteFunc(p.Users, func(u User) bool { return u.Name == c.User })
	return Result{}, nil
}

func disable(c *Command, p *Policy, disabled bool) error {
	u, err := c.of(p)
	if err != nil {
		return err
	}
	u.Disabled = disabled
	return nil
}

func bind(c *Command, p *Policy, _ time.Time) (Result, error) {
	u, err := c.of(p)
	if err != nil {
		return Result{}, err
	}
	for _, b := range c.Roles {
		if !slices.Contains(u.Roles, b) {
			u.Roles = append(u.Roles, b)
		}
	}
	return Result{}, nil
}

func unbind(c *Command, p *Policy, _ time.Time) (Result, error) {
	u, err := c.of(p)
	if err != nil {
		return Result{}, err
	}
	for _, b := range c.Roles {
		if !slices.Contains(u.Roles, b) {
			return Result{}, fmt.Errorf("user %q does not have the role %q there", c.User, b.Role)
		}
		u.Roles = slices.DeleteFunc(u.Roles, func(x Binding) bool { return x == b })
	}
	return Result{}, nil
}

func addKey(c *Command, p *Policy, now time.Time) (Result, error) {
	u, err := c.of(p)
	if err != nil {
		return Result{}, err
	}
	if !c.Expires.IsZero() && !c.Expires.After(now) {
		return Result{}, fmt.Errorf("a key that expired on %s", c.Expires.Format(time.RFC3339))
	}
	k, secret, err := NewKey(c.KeyName, now, c.Expires)
	if err != nil {
		return Result{}, err
	}
	u.dropExpired(now)
	u.Keys = append(u.Keys, k)
	return Result{KeyID: k.ID, Secret: secret}, nil
}

// dropExpired forgets keys that let nobody in any more: a user has so many at
// most, and rotating with a time to keep the old one leaves one each time.
func (u *User) dropExpired(now time.Time) {
	u.Keys = slices.DeleteFunc(u.Keys, func(k Key) bool { return k.expired(now) })
}

func revokeKey(c *Command, p *Policy, _ time.Time) (Result, error) {
	for i := range p.Users {
		u := &p.Users[i]
		if c.User != "" && u.Name != c.User {
			continue
		}
		if at := slices.IndexFunc(u.Keys, func(k Key) bool { return k.ID == c.Key }); at >= 0 {
			u.Keys = slices.Delete(u.Keys, at, at+1)
			return Result{KeyID: c.Key}, nil
		}
	}
	return Result{}, fmt.Errorf("there is no key %q", c.Key)
}

// rotateKey makes a key like the old one, which ends at once, or when c says.
func rotateKey(c *Command, p *Policy, now time.Time) (Result, error) {
	for i := range p.Users {
		u := &p.Users[i]
		if !slices.ContainsFunc(u.Keys, func(k Key) bool { return k.ID == c.Key }) || c.User != "" && u.Name != c.User {
			continue
		}
		return u.rotate(c.Key, now, c.Expires, func(old Key) time.Time {
			if old.Expires.IsZero() {
				return old.Expires
			}
			return now.Add(old.Expires.Sub(old.Created)) // it lives as long again
		})
	}
	return Result{}, fmt.Errorf("there is no key %q", c.Key)
}

// rotate makes a key in the place of the user's key with the id, which ends at
// once, or at keep if that is later.
func (u *User) rotate(id string, now, keep time.Time, expires func(old Key) time.Time) (Result, error) {
	at := slices.IndexFunc(u.Keys, func(k Key) bool { return k.ID == id })
	old := &u.Keys[at]
	k, secret, err := NewKey(old.Name, now, expires(*old))
	if err != nil {
		return Result{}, err
	}
	if keep.After(now) {
		if old.Expires.IsZero() || keep.Before(old.Expires) {
			old.Expires = keep.UTC().Truncate(time.Second)
		}
		u.Keys = append(u.Keys, k)
	} else {
		*old = k
	}
	u.dropExpired(now)
	return Result{KeyID: k.ID, Secret: secret}, nil
}

func setPassword(c *Command, p *Policy, _ time.Time) (Result, error) {
	u, err := c.of(p)
	if err == nil {
		u.Password = c.Password
	}
	return Result{}, err
}

func setCertificates(c *Command, p *Policy, _ time.Time) (Result, error) {
	u, err := c.of(p)
	if err == nil {
		u.Certificates = c.Certificates
	}
	return Result{}, err
}

func setAttributes(c *Command, p *Policy, _ time.Time) (Result, error) {
	u, err := c.of(p)
	if err == nil {
		u.Attributes = c.Attributes
	}
	return Result{}, err
}

func setLimits(c *Command, p *Policy, _ time.Time) (Result, error) {
	u, err := c.of(p)
	if err == nil {
		u.Limits = c.Limits
	}
	return Result{}, err
}

func setRole(c *Command, p *Policy, _ time.Time) (Result, error) {
	if c.Role == nil {
		return Result{}, errors.New("which role?")
	}
	if i := slices.IndexFunc(p.Roles, func(r Role) bool { return r.Name == c.Role.Name }); i >= 0 {
		p.Roles[i] = *c.Role
	} else {
		p.Roles = append(p.Roles, *c.Role)
	}
	return Result{}, nil
}

func removeRole(c *Command, p *Policy, _ time.Time) (Result, error) {
	i := slices.IndexFunc(p.Roles, func(r Role) bool { return r.Name == c.RoleName })
	if i < 0 {
		return Result{}, fmt.Errorf("there is no role %q that could be removed", c.RoleName)
	}
	for _, u := range p.Users {
		if slices.ContainsFunc(u.Roles, func(b Binding) bool { return b.Role == c.RoleName }) {
			return Result{}, fmt.Errorf("user %q has the role %q: take it from him first", u.Name, c.RoleName)
		}
	}
	p.Roles = slices.Delete(p.Roles, i, i+1)
	return Result{}, nil
}

func importPolicy(c *Command, p *Policy, _ time.Time) (Result, error) {
	if c.Policy == nil || len(c.Policy.Users) == 0 {
		return Result{}, errors.New("a policy without users would let everybody do everything")
	}
	if err := c.Policy.restore(p); err != nil {
		return Result{}, err
	}
	*p = *c.Policy
	return Result{}, nil
}
