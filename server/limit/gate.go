package limit

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"time"
)

// Gate lets so many requests be worked on at a time. Others wait, and when
// there are too many of them are refused at once, so that who is let in is
// served in good time whatever is asked. It is safe for concurrent use.
//
// Next is who has the fewest places already, so that somebody who asks a lot
// does not keep others out; who has none finds a place that is kept for that,
// even while all others are taken.
type Gate struct {
	mu       sync.Mutex
	options  GateOptions
	short    int // waiting ones that are left in a queue that is kept short
	spare    int // places for those who have none
	running  int
	shares   map[string]*share
	waiting  []*waiter // the oldest first
	watch    watch
	typical  time.Duration // moving mean of how long a place is held
	lately   int           // refused in the second that began at second
	before   int           // and in the one before
	second   time.Time
	counters GateStats
}

// GateOptions say how large a gate is.
type GateOptions struct {
	Places   int           // requests at a time
	Ordinary int           // that may wait as long as patience lasts, of one who asks
	Queue    int           // that may wait while the queue falls low regularly
	Patience time.Duration // the longest wait
}

// GateStats are figures of a gate.
type GateStats struct {
	Running, Waiting int
	Overloaded       bool          // queues are kept short
	Admitted         int64         // that got a place
	Refused          int64         // that found the queue too long, or waited too long in it
	Left             int64         // whose client went away while they waited
	Waited           time.Duration // sum of those that were admitted
}

// Busy is the error of who is refused; After is when to ask again.
type Busy struct{ After time.Duration }

func (b *Busy) Error() string { return "the server is busy" }

// share is somebody who has places or waits for one.
type share struct {
	who              string
	running, waiting int
	watch            watch
}

type waiter struct {
	of    *share
	since time.Time
	ready chan error // nil: it has a place
	out   bool       // of the queue
}

// Place is a place in a gate. Leave must be called once.
type Place struct {
	gate  *Gate
	share *share
	began time.Time
}

// NewGate makes a gate.
func NewGate(o GateOptions) *Gate {
	return &Gate{options: o, short: max(1, o.Places/2), spare: max(1, o.Places/4), shares: map[string]*share{}, watch: watch{low: time.Now()}}
}

// Enter gets a place for somebody. The error is a *Busy, or the context's.
func (g *Gate) Enter(ctx context.Context, who string) (Place, error) {
	g.mu.Lock()
	now := time.Now()
	s := g.share(who, now)
	if g.fits(s) {
		p := g.take(s, now)
		g.mu.Unlock()
		return p, nil
	}
	w, patience := g.enqueue(s, now)
	g.mu.Unlock()
	if w == nil {
		return Place{}, g.busy()
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	var err error
	select {
	case err = <-w.ready:
	case <-timer.C:
		err = g.giveUp(w, nil)
	case <-ctx.Done():
		err = g.giveUp(w, ctx.Err())
	}
	if err == nil {
		return Place{g, s, time.Now()}, nil
	}
	if errors.Is(err, errFull) {
		g.mu.Lock()
		g.forget(s, time.Now()) // also of one that was evicted, who may never come again
		g.mu.Unlock()
		return Place{}, g.busy()
	}
	return Place{}, err
}

var errFull = errors.New("the queue is too long")

// Full refuses, by a *Busy, who would be refused now: before work is put into
// reading what he sends.
func (g *Gate) Full(who string) error {
	g.mu.Lock()
	now := time.Now()
	s := g.share(who, now)
	full := !g.fits(s) && !g.room(s, now)
	if full {
		g.refuse(s, now)
	}
	g.forget(s, now)
	g.mu.Unlock()
	if full {
		return g.busy()
	}
	return nil
}

// Leave gives the place to the next.
func (p Place) Leave() {
	g := p.gate
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	g.typical += (now.Sub(p.began) - g.typical) / 16
	g.running--
	p.share.running--
	for g.grant(now) {
	}
	g.forget(p.share, now)
	g.watch.see(len(g.waiting), g.ordinary(), g.options.Queue, now)
}

// ordinary is how many may wait in all when nobody asks too much.
func (g *Gate) ordinary() int { return 2 * g.options.Ordinary }

func (g *Gate) share(who string, now time.Time) *share {
	s := g.shares[who]
	if s == nil {
		s = &share{who: who, watch: watch{low: now}}
		g.shares[who] = s
	}
	return s
}

// maxQuiet bounds the shares of those who have neither place nor wait, and
// are remembered because they asked too much.
const maxQuiet = 1024

func (g *Gate) forget(s *share, now time.Time) {
	if s.running+s.waiting > 0 || g.shares[s.who] != s { // forgotten before, and there is a new one
		return
	}
	if !s.watch.over || len(g.shares) > maxQuiet+g.options.Queue || now.After(s.watch.until) {
		delete(g.shares, s.who)
	}
}

// fits reports whether there is a place for one of s.
func (g *Gate) fits(s *share) bool {
	return g.running < g.options.Places || s.running == 0 && g.running < g.options.Places+g.spare
}

func (g *Gate) take(s *share, now time.Time) Place {
	g.running++
	s.running++
	g.counters.Admitted++
	return Place{g, s, now}
}

// enqueue makes somebody wait, or returns nil.
func (g *Gate) enqueue(s *share, now time.Time) (*waiter, time.Duration) {
	if !g.room(s, now) {
		g.refuse(s, now)
		g.forget(s, now)
		return nil, 0
	}
	if g.crowded() {
		g.evict(g.heaviest(), now)
	}
	w := &waiter{of: s, since: now, ready: make(chan error, 1)}
	g.waiting = append(g.waiting, w)
	s.waiting++
	if s.watch.over || g.watch.over {
		return w, min(max(g.typical, time.Millisecond), g.options.Patience)
	}
	return w, g.options.Patience
}

// room reports whether one more of s may wait: it looks at both queues, his
// own and that of all, and cuts those that have become standing ones.
func (g *Gate) room(s *share, now time.Time) bool {
	if s.watch.see(s.waiting, g.options.Ordinary, g.options.Queue/2, now) {
		for s.waiting > g.short {
			g.evict(s, now)
		}
	}
	if g.watch.see(len(g.waiting), g.ordinary(), g.options.Queue, now) {
		for len(g.waiting) > g.short {
			g.evict(g.heaviest(), now)
		}
	}
	if s.watch.over && s.waiting >= g.short {
		return false
	}
	return !g.crowded() || s.waiting+1 < g.heaviest().waiting
}

// crowded reports whether the queue of all is as long as it may be.
func (g *Gate) crowded() bool {
	if g.watch.over {
		return len(g.waiting) >= g.short
	}
	return len(g.waiting) >= g.options.Queue
}

// heaviest is who has most in the queue.
func (g *Gate) heaviest() *share {
	var most *share
	for _, w := range g.waiting {
		if most == nil || w.of.waiting > most.waiting {
			most = w.of
		}
	}
	return most
}

// evict refuses the one of s that has waited longest: it would be the slowest
// to be served anyway.
func (g *Gate) evict(s *share, now time.Time) {
	for _, w := range g.waiting {
		if w.of == s {
			g.remove(w)
			g.refuse(s, now)
			w.ready <- errFull
			return
		}
	}
}

func (g *Gate) remove(w *waiter) {
	i := slices.Index(g.waiting, w)
	g.waiting = slices.Delete(g.waiting, i, i+1)
	w.out = true
	w.of.waiting--
}

// grant gives one who waits a place: of those with the fewest places the one
// who came first, or in a queue that is kept short the one who came last,
// who has not waited long yet.
func (g *Gate) grant(now time.Time) bool {
	var next *waiter
	for _, w := range g.waiting {
		switch {
		case !g.fits(w.of):
		case next == nil, w.of.running < next.of.running, w.of.running == next.of.running && g.watch.over,
			w.of == next.of && w.of.watch.over:
			next = w
		}
	}
	if next == nil {
		return false
	}
	g.remove(next)
	g.take(next.of, now)
	g.counters.Waited += now.Sub(next.since)
	next.ready <- nil
	return true
}

// giveUp ends a wait. It returns nil when a place was given meanwhile and
// nothing speaks against taking it.
func (g *Gate) giveUp(w *waiter, cause error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if w.out {
		err := <-w.ready
		if err == nil && cause != nil {
			g.running--
			w.of.running--
			for g.grant(now) {
			}
			g.forget(w.of, now)
			return cause
		}
		return err
	}
	g.remove(w)
	defer g.forget(w.of, now)
	if cause != nil {
		g.counters.Left++
		return cause
	}
	g.refuse(w.of, now)
	return errFull
}

// refuse counts somebody who is refused.
func (g *Gate) refuse(s *share, now time.Time) {
	g.counters.Refused++
	if d := now.Sub(g.second); d >= time.Second {
		g.before = 0
		if d < 2*time.Second {
			g.before = g.lately
		}
		g.lately, g.second = 0, now
	}
	g.lately++
	until := now.Add(calm + 2*g.after())
	s.watch.until, g.watch.until = until, until
}

const maxAfter = 30 * time.Second

// after is how long it takes to serve as many as were refused within a second,
// since they all come again.
func (g *Gate) after() time.Duration {
	after := time.Duration(max(g.lately, g.before)) * g.typical / time.Duration(g.options.Places)
	return min(max(after, time.Second), maxAfter)
}

// busy says when to come again: not before after, and spread over as much
// again, so that those who were refused together do not come together. Steps
// of the golden ratio are spread evenly however many they are.
func (g *Gate) busy() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, part := math.Modf(float64(g.counters.Refused) * math.Phi)
	return &Busy{g.after() + time.Duration(part*float64(g.after()))}
}

// Stats tells how it is now, and what was counted since the start.
func (g *Gate) Stats() GateStats {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := g.counters
	out.Running, out.Waiting = g.running, len(g.waiting)
	out.Overloaded = g.watch.over && time.Now().Before(g.watch.until)
	return out
}
