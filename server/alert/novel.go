package alert

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/chromad/chromad/server/audit"
)

// What rules about new things remember: names, and of each key some addresses.
const (
	maxNames     = 50_000
	maxKeys      = 10_000
	maxAddresses = 16
)

// outside looks for acts at unusual hours.
type outside struct{ *bell }

func (o outside) see(e *audit.Event, now time.Time) {
	if e.Outcome != audit.Allowed || !matches(o.rule.Actions, e.Action) || o.rule.Hours.Contains(e.Time) {
		return
	}
	subject, _ := subjectOf(ByPrincipal, e)
	o.count(subject, 1)
	o.hit(subject, 1, e, now)
}

func (outside) learn(*audit.Event) {}

// known reports whether an event's principal and key are who they say: a failed
// authentication proves nothing.
func known(e *audit.Event) bool { return e.Kind != audit.Authentication || e.Outcome == audit.Allowed }

// principals looks for people and programs that have not been seen.
type principals struct {
	*bell
	seen *recent[struct{}]
}

// makesUsers reports whether an act has made a user, or any number of them.
func makesUsers(e *audit.Event) bool {
	return e.Kind == audit.Admin && e.Outcome == audit.Allowed && (e.Action == "access:add-user" || e.Action == "access:import")
}

func (p principals) see(e *audit.Event, now time.Time) {
	if makesUsers(e) {
		subject := cmp.Or(e.Subject, "users and roles")
		p.seen.get(subject) // who was made is not told again when he comes
		p.count(subject, 1)
		p.hit(subject, 1, e, now)
	}
	if p.remember(e) {
		subject := e.Principal
		p.count(subject, 1)
		p.hit(subject, 1, e, now)
	}
}

func (p principals) learn(e *audit.Event) { p.remember(e) }

// remember notes the principal, and reports whether he is new.
func (p principals) remember(e *audit.Event) bool {
	if e.Principal == "" || !known(e) {
		return false
	}
	_, found := p.seen.get(e.Principal)
	return !found
}

// retired looks for API keys that are shown after their end.
type retired struct {
	*bell
	worked *recent[struct{}]
}

func (r retired) see(e *audit.Event, now time.Time) {
	r.learn(e)
	if e.Key == "" || e.Kind != audit.Authentication || e.Outcome != audit.Denied {
		return
	}
	// An id that nobody has ever had is a guess, not a key that leaked.
	if ended := strings.Contains(e.Reason, "expired"); ended || strings.Contains(e.Reason, "unknown") && r.worked.has(e.Key) {
		r.count(e.Key, max(e.Rows, 1))
		r.hit(e.Key, max(e.Rows, 1), e, now)
	}
}

func (r retired) learn(e *audit.Event) {
	if e.Key != "" && known(e) {
		r.worked.get(e.Key)
	}
}

// addresses looks for keys that come from somewhere else.
type addresses struct {
	*bell
	of *recent[[]string] // the latest last
}

func (a addresses) see(e *audit.Event, now time.Time) {
	if a.remember(e) {
		a.count(e.Key, 1)
		a.hit(e.Key, 1, e, now)
	}
}

func (a addresses) learn(e *audit.Event) { a.remember(e) }

// remember notes the key's address, and reports whether it is a further one.
func (a addresses) remember(e *audit.Event) bool {
	if e.Key == "" || e.Address == "" || !known(e) {
		return false
	}
	at := network(e.Address)
	list, found := a.of.get(e.Key)
	if slices.Contains(*list, at) {
		return false
	}
	if len(*list) >= maxAddresses {
		*list = slices.Delete(*list, 0, 1)
	}
	*list = append(*list, strings.Clone(at))
	return found
}
