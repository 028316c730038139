package access

import (
	"fmt"
	"slices"

	"github.com/chromad/chromad/server/privacy"
)

// Fielded reports whether there are records of which the principal does not
// see all: Sight has to be asked.
func (p *Principal) Fielded() bool {
	for i := range p.grants {
		if p.grants[i].fields != nil {
			return true
		}
	}
	return false
}

// reading are the actions that answer with what records hold.
var reading = []Action{Get, Query, Search}

// Sight is what the principal sees of the records of a collection when he does
// the action; nil: everything. What he writes, and what he says to delete, is
// held to what he sees when he reads, too: else he could put what is shown in
// the place of what is stored, or find out by deleting.
func (p *Principal) Sight(a Action, t Target) *privacy.Sight {
	if p.open {
		return nil
	}
	s := p.sight(a, t)
	if !slices.Contains(reading, a) {
		s = s.With(p.SightOfAll(t))
	}
	return s
}

// SightOfAll is what he sees in all ways of reading.
func (p *Principal) SightOfAll(t Target) (s *privacy.Sight) {
	if p.open {
		return nil
	}
	for _, a := range reading {
		s = s.With(p.sight(a, t))
	}
	return s
}

func (p *Principal) sight(a Action, t Target) *privacy.Sight {
	f := known[a]
	var anywhere, some []*privacy.Fields
	for i := range p.grants {
		g := &p.grants[i]
		switch {
		case !g.holds(f, t, f.level):
		case g.ruled:
			some = append(some, g.fields)
		default:
			anywhere = append(anywhere, g.fields)
		}
	}
	return privacy.See(anywhere, some)
}

// checkFields tells what is wrong with the rules about fields of a grant.
func (g *Grant) checkFields() error {
	if g.Fields.Empty() {
		return nil
	}
	about := slices.ContainsFunc(Actions(), func(a Action) bool {
		return a.onRecords() && slices.ContainsFunc(g.Actions, a.matches)
	})
	if !about {
		return fmt.Errorf("fields beside %v, none of which reads or writes records", g.Actions)
	}
	return g.Fields.Check()
}
