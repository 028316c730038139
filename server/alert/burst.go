package alert

import (
	"container/list"
	"net/netip"
	"time"

	"github.com/chromad/chromad/server/audit"
)

// maxSubjects is how many principals or addresses a rule that counts remembers.
const maxSubjects = 10_000

// slots is how many parts of its time a sum of rows is kept in: what is counted
// as within the time may be a sixtieth older.
const slots = 60

// part is what came at a time.
type part struct {
	at time.Time
	n  int64
}

// window is what came within the last time. It has as many parts as events that
// make an alert at most, or as slots.
type window struct {
	parts []part
	sum   int64
}

// add counts n at a time and returns the sum of what is within.
func (w *window) add(at time.Time, n int64, within, slot time.Duration) int64 {
	old := at.Add(-within - slot)
	gone := 0
	for gone < len(w.parts) && !w.parts[gone].at.After(old) {
		w.sum -= w.parts[gone].n
		gone++
	}
	w.parts = append(w.parts[:0], w.parts[gone:]...)
	w.sum += n
	if last := len(w.parts) - 1; last >= 0 && (slot > 0 && at.Sub(w.parts[last].at) < slot || at.Equal(w.parts[last].at)) {
		w.parts[last].n += n
	} else {
		w.parts = append(w.parts, part{at, n})
	}
	return w.sum
}

func (w *window) clear() { w.parts, w.sum = w.parts[:0], 0 }

// burst counts events, or rows, of each subject.
type burst struct {
	*bell
	enough int64 // for an alert
	slot   time.Duration
	counts *recent[window]
}

func newBurst(r Rule, ring func(Alert)) *burst {
	b := &burst{bell: newBell(r, ring), enough: int64(r.Count), counts: newRecent[window](maxSubjects)}
	if r.Kind == MassExport {
		b.enough, b.slot = r.Rows+1, r.Within/slots
	} else {
		// Windows of many events are long: 32 MiB of them are enough.
		b.counts.most = min(maxSubjects, (32<<20)/(40*max(r.Count, 1)))
	}
	return b
}

// see counts an event if it is one of the rule's.
func (b *burst) see(e *audit.Event, now time.Time) {
	n := b.weight(e)
	subject, ok := subjectOf(b.rule.By, e)
	if n <= 0 || !ok {
		return
	}
	b.count(subject, n)
	w, _ := b.counts.get(subject)
	if sum := w.add(now, n, b.rule.Within, b.slot); sum >= b.enough {
		w.clear()
		b.hit(subject, sum, e, now)
	}
}

// weight is how much an event counts; 0: it is none of the rule's.
func (b *burst) weight(e *audit.Event) int64 {
	switch b.rule.Kind {
	case DeniedBurst:
		// Who asks too much is not who asks for what he may not have.
		if e.Outcome == audit.Denied && e.Kind != audit.Authentication && e.Status != 429 && e.Status != 503 {
			return max(e.Rows, 1) // a counted line
		}
	case FailedBurst:
		// Busy is the server, or the provider whose keys it needs.
		if e.Outcome == audit.Denied && e.Kind == audit.Authentication && e.Reason != "busy" {
			return max(e.Rows, 1)
		}
	case MassExport:
		if e.Outcome == audit.Allowed && matches(b.rule.Actions, e.Action) {
			return e.Rows
		}
	}
	return 0
}

// learn is see for events of before: a burst of before is none.
func (b *burst) learn(*audit.Event) {}

// subjectOf is whose event it is. Without users everybody is his address.
func subjectOf(by By, e *audit.Event) (subject string, ok bool) {
	switch by {
	case ByPrincipal:
		if e.Principal != "" {
			return e.Principal, true
		}
		return "address " + network(e.Address), e.Address != ""
	case ByAddress:
		return network(e.Address), e.Address != ""
	case byKey:
		return e.Key, e.Key != ""
	}
	return "", true
}

// network is an address, of IPv6 its first 64 bits.
func network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address // of a unix socket
	}
	ip = ip.Unmap()
	if ip.Is4() {
		return ip.String()
	}
	return netip.PrefixFrom(ip.WithZone(""), 64).Masked().String()
}

// recent is a map that forgets whom it was not asked for longest.
type recent[V any] struct {
	most  int
	byKey map[string]*list.Element
	order *list.List // of *named[V], the latest first
}

type named[V any] struct {
	key   string
	value V
}

func newRecent[V any](most int) *recent[V] {
	return &recent[V]{most: most, byKey: map[string]*list.Element{}, order: list.New()}
}

// get is the value of a key, made when there is none.
func (r *recent[V]) get(key string) (v *V, found bool) {
	if at := r.byKey[key]; at != nil {
		r.order.MoveToFront(at)
		return &at.Value.(*named[V]).value, true
	}
	if len(r.byKey) >= r.most {
		last := r.order.Back()
		delete(r.byKey, last.Value.(*named[V]).key)
		r.order.Remove(last)
	}
	n := &named[V]{key: key}
	r.byKey[key] = r.order.PushFront(n)
	return &n.value, false
}

// has reports whether there is a value of the key.
func (r *recent[V]) has(key string) bool { return r.byKey[key] != nil }
