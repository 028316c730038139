package limit

import (
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Table holds the buckets of everybody who asks. It is safe for concurrent use.
type Table struct {
	mu      sync.Mutex
	entries map[string]*entry // by name, each with the others of that name behind it
	count   int               // of all
	most    int
	per     time.Duration // what bounds are for
	swept   time.Time
}

// overflow is the key that all share for whom there is no room.
const overflow = "\x00overflow"

// NewTable makes a table for at most so many names. Those who are idle make
// room for others; who comes when all are busy shares buckets with others of
// that kind, so that making up names gains nothing.
func NewTable(most int) *Table { return newTable(most, time.Second) }

func newTable(most int, per time.Duration) *Table {
	return &Table{entries: map[string]*entry{}, most: most, per: per}
}

// entry are the buckets of somebody under a set. Of one name there may be tokens
// that come with different sets; each has its own buckets, or the one would fill
// those of the other again.
type entry struct {
	set   *Set
	parts []part
	next  *entry
}

// part is one Bounds at work; a nil bucket is no bound.
type part struct {
	of                   string // actions; empty: all
	requests, rows, size *rate.Limiter
	concurrent, running  int
}

// Pass is a request that was let in. A nil Pass is one that nothing bounds.
type Pass struct {
	t     *Table
	parts []*part
}

// Enter lets in a request of somebody for an action, with a body of so many
// bytes as far as that is known, or says by a *Refused why not. Done must be
// called after it.
//
// A bucket that is not empty lets in one request of any size, which may leave
// it in debt; then nobody passes until the debt is paid.
func (t *Table) Enter(who string, set *Set, action string, size int64) (*Pass, error) {
	if set.empty() {
		return nil, nil
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entry(who, set, now)
	p := &Pass{t: t}
	var refused *Refused
	for i := range e.parts {
		x := &e.parts[i]
		if x.of != "" && !stands(x.of, action) {
			continue
		}
		refused = later(refused, x.refuse(now))
		p.parts = append(p.parts, x)
	}
	if refused != nil {
		return nil, refused
	}
	for _, x := range p.parts {
		x.running++
		take(x.requests, now, 1)
		take(x.size, now, size)
	}
	return p, nil
}

// refuse says what keeps a request out.
func (x *part) refuse(now time.Time) (r *Refused) {
	if x.concurrent > 0 && x.running >= x.concurrent {
		r = &Refused{Limit: "concurrent", Of: x.of, After: time.Second}
	}
	r = later(r, lacking(x.requests, now, "requests", x.of))
	r = later(r, lacking(x.rows, now, "rows", x.of))
	return later(r, lacking(x.size, now, "bytes", x.of))
}

func later(a, b *Refused) *Refused {
	if a == nil || b != nil && b.After > a.After {
		return b
	}
	return a
}

// lacking is nil while a bucket holds something.
func lacking(l *rate.Limiter, now time.Time, limit, of string) *Refused {
	if l == nil {
		return nil
	}
	short := 1 - l.TokensAt(now)
	if short < 1e-6 { // what rounding takes of a bucket that has been waited for
		return nil
	}
	seconds := short / float64(l.Limit())
	return &Refused{limit, of, time.Duration(min(seconds, 1e8) * float64(time.Second))}
}

// take takes from a bucket more than it may hold, if need be.
func take(l *rate.Limiter, now time.Time, n int64) {
	if l == nil || n <= 0 {
		return
	}
	burst, k := l.Burst(), int(min(n, math.MaxInt32))
	if k > burst {
		l.SetBurstAt(now, k)
		defer l.SetBurstAt(now, burst)
	}
	l.ReserveN(now, k)
}

// Charge takes rows and bytes of a request that have become known. It refuses
// when others have emptied the bucket meanwhile; nothing is taken then.
func (p *Pass) Charge(rows, size int64) error {
	if p == nil {
		return nil
	}
	now := time.Now()
	p.t.mu.Lock()
	defer p.t.mu.Unlock()
	var refused *Refused
	for _, x := range p.parts {
		if rows > 0 {
			refused = later(refused, lacking(x.rows, now, "rows", x.of))
		}
		if size > 0 {
			refused = later(refused, lacking(x.size, now, "bytes", x.of))
		}
	}
	if refused != nil {
		return refused
	}
	p.owe(now, rows, size)
	return nil
}

// Owe takes rows and bytes of an answer, which nobody can refuse any more.
func (p *Pass) Owe(rows, size int64) {
	if p == nil {
		return
	}
	p.t.mu.Lock()
	defer p.t.mu.Unlock()
	p.owe(time.Now(), rows, size)
}

func (p *Pass) owe(now time.Time, rows, size int64) {
	for _, x := range p.parts {
		take(x.rows, now, rows)
		take(x.size, now, size)
	}
}

// Done ends a request.
func (p *Pass) Done() {
	if p == nil {
		return
	}
	p.t.mu.Lock()
	defer p.t.mu.Unlock()
	for _, x := range p.parts {
		x.running--
	}
	p.parts = nil
}

// Len is the number of those who have buckets.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count
}

func (t *Table) entry(who string, set *Set, now time.Time) *entry {
	for e := t.entries[who]; e != nil; e = e.next {
		if e.set.equal(set) {
			return e
		}
	}
	t.prune(who, now) // sets that are not in use any more
	if t.count >= t.most {
		t.sweep(now)
		if t.count >= t.most {
			if e := t.entries[overflow]; e != nil {
				return e // whatever its set: changing it would fill the buckets again
			}
			who = overflow
		}
	}
	e := t.newEntry(set)
	e.next, t.entries[who] = t.entries[who], e
	t.count++
	return e
}

// sweep forgets who is idle: one with full buckets is as good as one who was
// never there. It looks at everybody, so once a second is enough.
func (t *Table) sweep(now time.Time) {
	if now.Sub(t.swept) < time.Second {
		return
	}
	t.swept = now
	for who := range t.entries {
		t.prune(who, now)
	}
}

// prune forgets what is idle of somebody.
func (t *Table) prune(who string, now time.Time) {
	var left *entry
	for e := t.entries[who]; e != nil; {
		next := e.next
		if e.idle(now) {
			t.count--
		} else {
			e.next, left = left, e
		}
		e = next
	}
	if left == nil {
		delete(t.entries, who)
	} else {
		t.entries[who] = left
	}
}

func (t *Table) newEntry(set *Set) *entry {
	e := &entry{set: set, parts: []part{t.newPart("", set.Bounds)}}
	for name, b := range set.Actions {
		e.parts = append(e.parts, t.newPart(name, b))
	}
	return e
}

func (t *Table) newPart(of string, b Bounds) part {
	return part{of: of, requests: t.bucket(b.Requests), rows: t.bucket(b.Rows), size: t.bucket(b.Bytes), concurrent: b.Concurrent}
}

// bucket holds what one second brings, and at least one.
func (t *Table) bucket(n float64) *rate.Limiter {
	if n <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(n/t.per.Seconds()), int(min(math.Ceil(n), math.MaxInt32)))
}

func (e *entry) idle(now time.Time) bool {
	for i := range e.parts {
		x := &e.parts[i]
		if x.running > 0 || !full(x.requests, now) || !full(x.rows, now) || !full(x.size, now) {
			return false
		}
	}
	return true
}

func full(l *rate.Limiter, now time.Time) bool {
	return l == nil || l.TokensAt(now) >= float64(l.Burst())
}
