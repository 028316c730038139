package access

import (
	"slices"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/server/limit"
	"github.com/chromad/chromad/server/privacy"
)

// Principal is who a request comes from, and what he may do. It is immutable.
type Principal struct {
	Name             string     // of the user; empty: nobody in particular
	Method           string     // how he showed who he is: "key", "password", "certificate", "none"
	Key              string     // id of the API key, when it was one
	Tenant, Database string     // the answer of /auth/identity
	Limits           *limit.Set // how much he may ask for; nil: whatever he likes
	grants           []granted
	ruled            bool            // one of the grants is
	weak             map[Action]bool // what is refused because only one factor was used
	open             bool            // everything is allowed: there are no users
}

// granted is a grant of a role within the scope of its binding, made ready
// for being asked by every request.
type granted struct {
	actions  actionSet
	role, on Scope
	whole    bool         // both are the store
	ruled    bool         // only records that match rule
	rule     *filter.Expr // with his values in it
	fields   *privacy.Fields
}

// holds reports whether the grant is one of the action on the target, as far
// as its first known fields tell.
func (g *granted) holds(f facts, t Target, known int) bool {
	if g.actions&f.bit == 0 {
		return false
	}
	if g.whole {
		return true
	}
	return f.level > 0 && g.role.holds(t, known) && g.on.holds(t, known)
}

// May reports whether the principal may do the action to the target.
func (p *Principal) May(a Action, t Target) bool {
	f := known[a]
	return p.may(a, f, t, f.level)
}

// Might reports whether there can be a target that begins as t does, its
// empty fields standing for any, to which the principal may do the action. It
// is asked before a body is read or anything looked up: who may do nothing
// there learns nothing from what is answered, or from how long it takes.
func (p *Principal) Might(a Action, t Target) bool {
	f, told := known[a], 0
	for _, name := range [3]string{t.Tenant, t.Database, t.Collection} {
		if name == "" || told == f.level {
			break
		}
		told++
	}
	return p.may(a, f, t, told)
}

func (p *Principal) may(a Action, f facts, t Target, told int) bool {
	if p.open || a == Public {
		return true
	}
	if a == Identify || a == RotateOwn {
		return p.Name != ""
	}
	if p.weak[a] {
		return false
	}
	for i := range p.grants {
		if p.grants[i].holds(f, t, told) {
			return true
		}
	}
	return false
}

// Ruled reports whether there are records that the principal may not meet
// although he may do something to others: Rule has to be asked.
func (p *Principal) Ruled() bool { return p.ruled }

// Rule is what the records must match to which the principal may do the
// action; not ruled: he may do it to all. One whom May refuses gets a rule that
// nothing matches.
func (p *Principal) Rule(a Action, t Target) (rule *filter.Expr, ruled bool) {
	if p.open {
		return nil, false
	}
	f := known[a]
	var rules []*filter.Expr
	for i := range p.grants {
		g := &p.grants[i]
		if !g.holds(f, t, f.level) {
			continue
		}
		if !g.ruled {
			return nil, false
		}
		rules = append(rules, g.rule)
	}
	return filter.Or(rules...), true
}

// Confined reports whether there is something that the principal may do to
// some records of a collection and not to all: what is of the whole collection
// is not for him.
func (p *Principal) Confined(t Target) bool {
	if !p.ruled {
		return false
	}
	for _, a := range Actions() {
		if a.onRecords() && p.May(a, t) {
			if _, ruled := p.Rule(a, t); ruled {
				return true
			}
		}
	}
	return false
}

// MayAll is May for every collection of the database, so that nobody need
// know the name of the one that is meant.
func (p *Principal) MayAll(a Action, tenant, database string) bool {
	return p.May(a, Target{tenant, database, "\x00"}) // which no pattern but * stands for
}

// Weak reports whether the action is refused, whatever is granted, because it
// takes a token that says that several factors were used.
func (p *Principal) Weak(a Action) bool { return p.weak[a] }

// limitsOf is how much somebody may ask for who has these roles.
func limitsOf(byDefault, own *limit.Set, bindings []Binding, roles map[string]Role) *limit.Set {
	var of []*limit.Set
	for _, b := range bindings {
		if l := roles[b.Role].Limits; l != nil {
			of = append(of, l)
		}
	}
	return limit.Resolve(byDefault, own, of)
}

// grantsOf are what bindings come to for who has the values; those of roles
// that are not there, to nothing.
func grantsOf(bindings []Binding, roles map[string]Role, values func(reference string) []string) []granted {
	var out []granted
	for _, b := range bindings {
		for _, g := range roles[b.Role].Grants {
			to := granted{role: g.On, on: b.On, whole: g.On.whole() && b.On.whole(), ruled: g.Where != nil}
			if !g.Fields.Empty() {
				to.fields = &g.Fields
			}
			for _, pattern := range g.Actions {
				to.actions |= setOf(pattern)
			}
			if to.ruled {
				to.rule = g.Where.bind(values)
			}
			out = append(out, to)
		}
	}
	return out
}

func anyRuled(grants []granted) bool {
	return slices.ContainsFunc(grants, func(g granted) bool { return g.ruled })
}
