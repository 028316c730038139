package access

import (
	"fmt"
	"strings"

	"github.com/chromad/chromad/server/limit"
	"github.com/chromad/chromad/server/privacy"
)

// Scope is where something holds. Each field is a pattern in which * stands
// for any text; an empty one is *.
type Scope struct {
	Tenant     string `json:"tenant,omitempty" yaml:"tenant,omitempty"`
	Database   string `json:"database,omitempty" yaml:"database,omitempty"`
	Collection string `json:"collection,omitempty" yaml:"collection,omitempty"`
}

// Grant is actions, and where they may be done. Actions are names or groups
// of them: "collection:get", "collection:*", "*".
type Grant struct {
	Actions []string `json:"actions" yaml:"actions"`
	On      Scope    `json:"on,omitzero" yaml:"on,omitempty"`
	// Where confines actions on records to those that match; nil: all. Of
	// several grants each adds what it lets through.
	Where Where `json:"where,omitempty" yaml:"where,omitempty"`
	// Fields are what is seen of those records; empty: everything.
	Fields privacy.Fields `json:"fields,omitzero" yaml:"fields,omitempty"`
}

// Role is a set of grants with a name.
type Role struct {
	Name   string  `json:"name" yaml:"name"`
	Grants []Grant `json:"grants" yaml:"grants"`
	// Limits are how much who has the role may ask for, instead of the server's
	// own bounds. Of several roles the most generous one counts.
	Limits *limit.Set `json:"limits,omitempty" yaml:"limits,omitempty"`
}

// Binding gives a role, everywhere or where On says.
type Binding struct {
	Role string `json:"role" yaml:"role"`
	On   Scope  `json:"on,omitzero" yaml:"on,omitempty"`
}

// BuiltIn are the roles that every policy has.
func BuiltIn() []Role {
	read := []string{string(GetTenant), string(GetDatabase), string(ListDatabases), string(ListCollections), string(CountCollections),
		string(GetCollection), string(Get), string(Query), string(Count), string(Search)}
	write := []string{string(CreateCollection), string(UpdateCollection), string(DeleteCollection), string(ForkCollection),
		string(Add), string(Upsert), string(Update), string(Delete), string(Functions)}
	return []Role{
		{Name: "admin", Grants: []Grant{{Actions: []string{"*"}}}},
		{Name: "editor", Grants: []Grant{{Actions: append(write, read...)}}},
		{Name: "reader", Grants: []Grant{{Actions: read}}},
		{Name: "auditor", Grants: []Grant{{Actions: []string{string(Metrics), string(ReadAccess), string(ReadPrivacy), string(ReadRetention), string(ReadAudit)}}}},
	}
}

// Target is what an action is done to; fields that it does not look at are empty.
type Target struct{ Tenant, Database, Collection string }

// holds reports whether a target is inside of the scope, as far as its first
// told fields tell.
func (s *Scope) holds(t Target, told int) bool {
	return (told < 1 || stands(s.Tenant, t.Tenant)) && (told < 2 || stands(s.Database, t.Database)) && (told < 3 || stands(s.Collection, t.Collection))
}

func stands(pattern, name string) bool { return all(pattern) || pattern == name || wild(pattern, name) }

// whole reports whether the scope is the store: what is of no tenant is in no
// smaller one.
func (s Scope) whole() bool { return all(s.Tenant) && all(s.Database) && all(s.Collection) }

func all(pattern string) bool { return pattern == "" || pattern == "*" }

// wild reports whether name is what pattern stands for. It takes the time of
// their product at most.
func wild(pattern, name string) bool {
	p, n, star, after := 0, 0, -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, after = p, n
			p++
		case p < len(pattern) && pattern[p] == name[n]:
			p, n = p+1, n+1
		case star >= 0:
			after++
			p, n = star+1, after
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

const maxPattern = 1024

func (s Scope) check() error {
	for _, p := range []string{s.Tenant, s.Database, s.Collection} {
		if len(p) > maxPattern {
			return fmt.Errorf("a pattern of %d bytes, at most %d", len(p), maxPattern)
		}
	}
	return nil
}

func (r Role) check() error {
	if err := checkName("role", r.Name); err != nil {
		return err
	}
	if err := r.Limits.Check(knownPattern); err != nil {
		return fmt.Errorf("role %q: limits: %w", r.Name, err)
	}
	if len(r.Grants) == 0 {
		return fmt.Errorf("role %q: grants nothing", r.Name)
	}
	for i, g := range r.Grants {
		if len(g.Actions) == 0 {
			return fmt.Errorf("role %q: grants[%d]: no actions", r.Name, i)
		}
		if g.Where != nil {
			if err := g.Where.check(); err != nil {
				return fmt.Errorf("role %q: grants[%d]: %w", r.Name, i, err)
			}
		}
		for _, a := range g.Actions {
			if g.Where != nil && !Action(a).onRecords() {
				return fmt.Errorf("role %q: grants[%d]: %q beside a where, which is about records: name the actions on records, and grant others without it", r.Name, i, a)
			}
			if !knownPattern(a) {
				return fmt.Errorf("role %q: grants[%d]: unknown action %q; docs/security.md lists them", r.Name, i, a)
			}
		}
		if err := g.On.check(); err != nil {
			return fmt.Errorf("role %q: grants[%d]: on: %w", r.Name, i, err)
		}
		if err := g.checkFields(); err != nil {
			return fmt.Errorf("role %q: grants[%d]: %w", r.Name, i, err)
		}
	}
	return nil
}
