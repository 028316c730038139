package limit

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// Bounds are what somebody may ask for. A zero field says nothing, a negative
// one that there is no bound.
type Bounds struct {
	Requests   float64 `json:"requests,omitempty" yaml:"requests,omitempty"`     // a second
	Rows       float64 `json:"rows,omitempty" yaml:"rows,omitempty"`             // a second: records, ids and vectors of bodies, and records of answers
	Bytes      float64 `json:"bytes,omitempty" yaml:"bytes,omitempty"`           // a second, of bodies and answers
	Concurrent int     `json:"concurrent,omitempty" yaml:"concurrent,omitempty"` // requests at the same time
}

// Set is Bounds for all that somebody asks, and more of them for single
// actions: both hold. Names of actions may end in a star.
type Set struct {
	Bounds  `yaml:",inline"`
	Actions map[string]Bounds `json:"actions,omitempty" yaml:"actions,omitempty"`
}

const (
	maxBound   = 1e15
	maxActions = 100
)

// Check tells what is wrong with a set. known reports whether there are
// actions that a name stands for.
func (s *Set) Check(known func(pattern string) bool) error {
	if s == nil {
		return nil
	}
	if err := s.check(); err != nil {
		return err
	}
	if len(s.Actions) > maxActions {
		return fmt.Errorf("%d actions, at most %d", len(s.Actions), maxActions)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Actions)) {
		if !known(name) {
			return fmt.Errorf("unknown action %q; docs/security.md lists them", name)
		}
		b := s.Actions[name]
		if err := b.check(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (b *Bounds) check() error {
	for _, f := range []struct {
		name  string
		value float64
	}{{"requests", b.Requests}, {"rows", b.Rows}, {"bytes", b.Bytes}, {"concurrent", float64(b.Concurrent)}} {
		if math.IsNaN(f.value) || f.value > maxBound || f.value < 0 && f.value != -1 {
			return fmt.Errorf("%s: %v is no bound; a number above 0, or -1 for none", f.name, f.value)
		}
	}
	return nil
}

// Resolve is what holds for somebody. Field by field: of his roles the most
// generous counts, and in its place what is the default when no role says
// anything; his own bound counts instead of the default, and where roles say
// something too, the stricter of both. nil: nothing is bounded.
func Resolve(byDefault, own *Set, roles []*Set) *Set {
	if own == nil && len(roles) == 0 {
		return byDefault
	}
	out := &Set{}
	pick := func(of func(*Set) Bounds) Bounds {
		var most, mine, usual Bounds
		for _, r := range roles {
			most = most.merge(of(r), generous)
		}
		if own != nil {
			mine = of(own)
		}
		if byDefault != nil {
			usual = of(byDefault)
		}
		return most.merge(mine, strict).merge(usual, first)
	}
	out.Bounds = pick(func(s *Set) Bounds { return s.Bounds })
	for _, s := range append(slices.Clone(roles), own, byDefault) {
		if s == nil {
			continue
		}
		for name := range s.Actions {
			if out.Actions == nil {
				out.Actions = map[string]Bounds{}
			}
			out.Actions[name] = pick(func(s *Set) Bounds { return s.Actions[name] })
		}
	}
	return out
}

// merge combines two bounds field by field.
func (b Bounds) merge(o Bounds, by func(a, b float64) float64) Bounds {
	return Bounds{by(b.Requests, o.Requests), by(b.Rows, o.Rows), by(b.Bytes, o.Bytes), int(by(float64(b.Concurrent), float64(o.Concurrent)))}
}

func generous(a, b float64) float64 {
	if a < 0 || b < 0 {
		return -1
	}
	return max(a, b)
}

func strict(a, b float64) float64 {
	if a <= 0 || b <= 0 {
		if a == 0 || a < 0 && b != 0 {
			return b
		}
		return a
	}
	return min(a, b)
}

func first(a, b float64) float64 {
	if a != 0 {
		return a
	}
	return b
}

func (s *Set) equal(o *Set) bool {
	return s == o || s.Bounds == o.Bounds && maps.Equal(s.Actions, o.Actions)
}

// empty reports whether nothing is bounded.
func (s *Set) empty() bool {
	if s == nil {
		return true
	}
	free := func(b Bounds) bool { return b.Requests <= 0 && b.Rows <= 0 && b.Bytes <= 0 && b.Concurrent <= 0 }
	for _, b := range s.Actions {
		if !free(b) {
			return false
		}
	}
	return free(s.Bounds)
}

// stands reports whether an action is one that a name with or without a star is for.
func stands(name, action string) bool {
	if prefix, ok := strings.CutSuffix(name, "*"); ok {
		return strings.HasPrefix(action, prefix)
	}
	return name == action
}

// Refused is the error of what was asked too often or too soon.
type Refused struct {
	Limit string        // which one, for the client and the metrics: "requests", "rows", "bytes", "concurrent", "failures"
	Of    string        // the actions that it is about; empty: all
	After time.Duration // when asking again can succeed
}

func (r *Refused) Error() string {
	of := ""
	if r.Of != "" {
		of = " of " + r.Of
	}
	switch r.Limit {
	case "concurrent":
		return "too many requests" + of + " at the same time"
	case "failures":
		return "too many failed authentications"
	}
	return "too many " + r.Limit + of + " a second"
}
