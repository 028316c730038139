package alert

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/chromad/chromad/server/export"
)

// Kind is what a rule looks for.
type Kind string

// The kinds.
const (
	DeniedBurst  Kind = "denied_burst"              // Count refusals of one subject within Within
	FailedBurst  Kind = "failed_authentication"     // Count credentials that did not count, of one subject, within Within
	MassExport   Kind = "mass_export"               // more than Rows records read by one subject within Within
	OutsideHours Kind = "destructive_outside_hours" // one of Actions was done outside of Hours
	NewPrincipal Kind = "new_principal"             // somebody came who has not been seen, or a user was made
	RetiredKey   Kind = "retired_key"               // an API key was shown that has ended, or has worked before and is there no more
	NewAddress   Kind = "new_address"               // an API key came from an address from which it has not come before
)

// Kinds are all of them.
func Kinds() []Kind {
	return []Kind{DeniedBurst, FailedBurst, MassExport, OutsideHours, NewPrincipal, RetiredKey, NewAddress}
}

// By says whose events are counted together.
type By string

// The subjects.
const (
	ByPrincipal By = "principal"
	ByAddress   By = "address" // of IPv6 the first 64 bits: a household has so many
	ByAll       By = "all"
	byKey       By = "key"
)

// Rule is one thing to look for. Fields that its kind does not name are not
// used, and must be zero. Zero fields take the kind's defaults.
type Rule struct {
	Kind     Kind
	Name     string // in metrics and alerts; the kind's when empty
	Severity export.Severity
	CoolDown time.Duration // after an alert about a subject further events are counted
	By       By
	Count    int
	Rows     int64
	Within   time.Duration
	Actions  []string // "collection:delete", or "db:*" for all of a group
	Hours    *Hours   // when Actions are usual
}

// The bounds of rules: what a rule remembers is in memory.
const (
	maxCount    = 1000
	maxWithin   = 24 * time.Hour
	minWithin   = time.Second
	maxCoolDown = 7 * 24 * time.Hour
	maxRules    = 64
)

var ruleName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)

// destructive is what is gone for good when it was done.
var destructive = []string{"system:reset", "db:delete_database", "collection:delete_collection", "collection:delete", "retention:release"}

// reading is what hands records out.
var reading = []string{"collection:get", "collection:query", "collection:search"}

// Defaults are the rules when the configuration has none.
func Defaults() []Rule {
	return []Rule{
		{Kind: DeniedBurst}, {Kind: FailedBurst}, {Kind: FailedBurst, Name: "failed_authentication_everywhere", By: ByAll, Count: 200},
		{Kind: MassExport}, {Kind: NewPrincipal}, {Kind: RetiredKey},
	}
}

// subjects are those of rules that are about one sort.
var subjects = map[Kind]By{OutsideHours: ByPrincipal, NewPrincipal: ByPrincipal, RetiredKey: byKey, NewAddress: byKey}

// withDefaults fills in what is empty and says what is wrong.
func (r Rule) withDefaults() (Rule, error) {
	if !slices.Contains(Kinds(), r.Kind) {
		return r, fmt.Errorf("rule %q: one of %s", r.Kind, words(Kinds()))
	}
	if r.Name == "" {
		r.Name = string(r.Kind)
	}
	if !ruleName.MatchString(r.Name) {
		return r, fmt.Errorf("name %q: up to 32 small letters, digits and underscores", r.Name)
	}
	burst := r.Kind == DeniedBurst || r.Kind == FailedBurst
	counts := burst || r.Kind == MassExport
	switch {
	case !burst && r.Count != 0:
		return r, fmt.Errorf("%s: count means nothing to this rule", r.Name)
	case r.Kind != MassExport && r.Rows != 0:
		return r, fmt.Errorf("%s: rows means nothing to this rule", r.Name)
	case !counts && (r.Within != 0 || r.By != "" && r.By != subjects[r.Kind]):
		return r, fmt.Errorf("%s: within and by mean nothing to this rule", r.Name)
	case r.Kind != MassExport && r.Kind != OutsideHours && len(r.Actions) > 0:
		return r, fmt.Errorf("%s: actions mean nothing to this rule", r.Name)
	case (r.Kind == OutsideHours) != (r.Hours != nil):
		return r, fmt.Errorf("%s: hours and time_zone belong to %s, which needs them", r.Name, OutsideHours)
	}
	r.fill()
	return r, r.check()
}

// fill sets the kind's defaults.
func (r *Rule) fill() {
	set := func(s export.Severity, by By, count int, rows int64, within time.Duration, actions []string) {
		if r.Severity == 0 {
			r.Severity = s
		}
		if r.By == "" {
			r.By = by
		}
		if r.Count == 0 {
			r.Count = count
		}
		if r.Rows == 0 {
			r.Rows = rows
		}
		if r.Within == 0 {
			r.Within = within
		}
		if len(r.Actions) == 0 {
			r.Actions = actions
		}
	}
	switch r.Kind {
	case DeniedBurst:
		set(export.Warning, ByPrincipal, 20, 0, time.Minute, nil)
	case FailedBurst:
		set(export.Warning, ByAddress, 20, 0, time.Minute, nil)
	case MassExport:
		set(export.Warning, ByPrincipal, 0, 1_000_000, 10*time.Minute, reading)
	case OutsideHours:
		set(export.Warning, subjects[r.Kind], 0, 0, 0, destructive)
	case NewPrincipal:
		set(export.Notice, subjects[r.Kind], 0, 0, 0, nil)
	case RetiredKey:
		set(export.Critical, subjects[r.Kind], 0, 0, 0, nil)
	case NewAddress:
		set(export.Notice, subjects[r.Kind], 0, 0, 0, nil)
	}
	if r.CoolDown == 0 {
		r.CoolDown = 10 * time.Minute
	}
}

// check holds the rule to the bounds.
func (r *Rule) check() error {
	counts := r.Kind == DeniedBurst || r.Kind == FailedBurst || r.Kind == MassExport
	switch {
	case r.Count < 0 || r.Count > maxCount:
		return fmt.Errorf("%s: count is 1 to %d", r.Name, maxCount)
	case r.Rows < 0:
		return fmt.Errorf("%s: rows is not negative", r.Name)
	case counts && (r.Within < minWithin || r.Within > maxWithin):
		return fmt.Errorf("%s: within is %s to %s", r.Name, minWithin, maxWithin)
	case r.CoolDown < time.Second || r.CoolDown > maxCoolDown:
		return fmt.Errorf("%s: cool_down is 1s to %s", r.Name, maxCoolDown)
	case counts && !slices.Contains([]By{ByPrincipal, ByAddress, ByAll}, r.By):
		return fmt.Errorf("%s: by %q: principal, address or all", r.Name, r.By)
	}
	for _, a := range r.Actions {
		if group, name, ok := strings.Cut(a, ":"); a != "*" && (!ok || group == "" || name == "" || strings.ContainsAny(a, " ,")) {
			return fmt.Errorf(`%s: action %q: as "collection:delete", "db:*" or "*"`, r.Name, a)
		}
	}
	return nil
}

// matches reports whether one of the patterns stands for the action.
func matches(patterns []string, action string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		group, all := strings.CutSuffix(p, "*")
		return p == action || all && strings.HasPrefix(action, group)
	})
}

// Check fills in the defaults of rules and says what is wrong with them.
func Check(rules []Rule) ([]Rule, error) {
	if len(rules) > maxRules {
		return nil, fmt.Errorf("%d rules, at most %d", len(rules), maxRules)
	}
	out := make([]Rule, 0, len(rules)) // bounded in the line above
	for _, r := range rules {
		r, err := r.withDefaults()
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(out, func(o Rule) bool { return o.Name == r.Name }) {
			return nil, errors.New(r.Name + " is there twice: give one of them another name")
		}
		out = append(out, r)
	}
	return out, nil
}

func words[T ~string](list []T) string {
	var out []string
	for _, w := range list {
		out = append(out, string(w))
	}
	return strings.Join(out, ", ")
}
