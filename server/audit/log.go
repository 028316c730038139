package audit

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Store keeps the bytes of events; *engine.DB is one.
type Store interface {
	AppendAudit(ctx context.Context, record []byte, durable bool) (seq uint64, err error)
}

// Log writes events. It is safe for concurrent use; a nil *Log writes nothing.
type Log struct {
	store  Store
	config Config
	now    func() time.Time

	records, failures, lost atomic.Int64
	failing                 atomic.Bool // the last event could not be written

	mu    sync.Mutex
	seen  map[Login]*entry // who has authenticated
	flood map[flooding]*counted

	listening sync.RWMutex
	told      []func(Event)
	watching  []func(Event)
}

const (
	loginEvery = time.Hour
	maxSeen    = 10_000
)

// New makes a log.
func New(store Store, config Config) *Log {
	return &Log{store: store, config: config, now: time.Now, seen: map[Login]*entry{}, flood: map[flooding]*counted{}}
}

// Subscribe has listen called with every event after it was stored. It must
// not block.
func (l *Log) Subscribe(listen func(Event)) {
	l.listening.Lock()
	defer l.listening.Unlock()
	l.told = append(l.told, listen)
}

// Watch is Subscribe for who wants to know of everything as it happens: also of
// acts that the configuration has leave no event, of what could not be written,
// and of each refusal where one line counts many. Such lines he does not get.
func (l *Log) Watch(see func(Event)) {
	l.listening.Lock()
	defer l.listening.Unlock()
	l.watching = append(l.watching, see)
}

// tell calls those who listen to a kind of news with an event.
func (l *Log) tell(to *[]func(Event), e Event) {
	l.listening.RLock()
	defer l.listening.RUnlock()
	for _, f := range *to {
		f(e)
	}
}

// show gives the event its time, and tells those who watch.
func (l *Log) show(e *Event) {
	if e.Time.IsZero() {
		e.Time = l.now().UTC()
	}
	l.tell(&l.watching, *e)
}

// Record writes an event, which is on disk when it returns nil. An error: the
// act must not be answered as done.
func (l *Log) Record(ctx context.Context, e Event) error {
	if l == nil {
		return nil
	}
	l.show(&e)
	return l.write(ctx, e, true)
}

// Try is Record for who comes again with what could not be written, so that
// it is not counted as lost.
func (l *Log) Try(ctx context.Context, e Event) error {
	if l == nil {
		return nil
	}
	l.show(&e)
	return l.try(ctx, e, true)
}

// write is try for what nobody comes again with.
func (l *Log) write(ctx context.Context, e Event, durable bool) error {
	err := l.try(ctx, e, durable)
	if err != nil {
		l.lost.Add(1)
	}
	return err
}

func (l *Log) try(ctx context.Context, e Event, durable bool) error {
	if e.Time.IsZero() {
		e.Time = l.now().UTC()
	}
	b, err := e.AppendJSON(nil)
	if err == nil {
		_, err = l.store.AppendAudit(ctx, b, durable)
	}
	if err != nil {
		l.failures.Add(1)
		l.failing.Store(true)
		return fmt.Errorf("audit log: %w", err)
	}
	l.failing.Store(false)
	l.records.Add(1)
	l.tell(&l.told, e)
	return nil
}

// Ready is asked before an act that leaves an event: nil when it can be
// written, as far as anybody can tell.
func (l *Log) Ready(ctx context.Context, class Class) error {
	if l == nil || !l.failing.Load() || !l.config.keeps(class) || class == Read && l.config.ReadsGoOn {
		return nil
	}
	return l.Try(ctx, Event{Kind: System, Action: "audit:resume", Outcome: Allowed})
}

// GoesOn tells whether acts of a class are done while no event can be written.
func (l *Log) GoesOn(class Class) bool {
	return class == Nothing || class == Read && l.config.ReadsGoOn
}

// Done writes what became of an act, if its class leaves an event.
func (l *Log) Done(ctx context.Context, class Class, e Event) error {
	if l == nil || class == Nothing {
		return nil
	}
	if e.Kind = Access; class == Act {
		e.Kind = Admin
	}
	l.show(&e)
	if !l.config.keeps(class) {
		return nil
	}
	absent := e.Outcome == Failed && e.Status == 404 // see Hidden
	err := l.write(ctx, e, l.config.durable(class) && !absent)
	if class == Read && l.config.ReadsGoOn {
		return nil
	}
	return err
}

// Hidden is why somebody was refused who is told that there is nothing. Such
// an answer does not wait for the disk, and neither does that about what is not
// there: else the time that they take would tell them apart.
const Hidden = "hidden"

// Refused writes that somebody may not do something, or one line a second of
// it when he does not stop.
func (l *Log) Refused(ctx context.Context, e Event) error {
	if l == nil {
		return nil
	}
	if e.Outcome = Denied; e.Kind == "" {
		e.Kind = Decision
	}
	l.show(&e)
	if l.flooded(e) {
		return nil
	}
	return l.write(ctx, e, e.Reason != Hidden)
}

// Login is a way in.
type Login struct{ Method, Principal, Key, Address string }

// entry is that somebody came in.
type entry struct {
	until   time.Time     // and needs no further event
	decided chan struct{} // closed when the event is on disk, or is known not to be
	err     error         // why it is not
}

// wait returns when the event of who came first is on disk.
func (e *entry) wait(ctx context.Context) error {
	select {
	case <-e.decided:
		return e.err
	case <-ctx.Done():
		return fmt.Errorf("audit log: %w", context.Cause(ctx))
	}
}

// Knows tells whether Entered has written of a login in the last hour.
func (l *Log) Knows(who Login) bool {
	now := l.now()
	l.mu.Lock()
	s := l.seen[who]
	l.mu.Unlock()
	if s == nil || !now.Before(s.until) {
		return false
	}
	select {
	case <-s.decided:
		return s.err == nil
	default:
		return false // Entered waits
	}
}

// Entered writes that somebody has shown who he is: the first time in an hour
// with this method from this address. Who comes while that is being written
// waits for it, and gets its error.
func (l *Log) Entered(ctx context.Context, e Event) error {
	if l == nil {
		return nil
	}
	e.Kind, e.Outcome = Authentication, Allowed
	who := Login{e.Method, e.Principal, e.Key, e.Address}
	now := l.now()
	l.mu.Lock()
	s := l.seen[who]
	first := s == nil || !now.Before(s.until)
	if first {
		if len(l.seen) >= maxSeen {
			clear(l.seen)
		}
		s = &entry{until: now.Add(loginEvery), decided: make(chan struct{})}
		l.seen[who] = s
	}
	l.mu.Unlock()
	if !first {
		return s.wait(ctx)
	}
	l.show(&e)
	s.err = l.write(ctx, e, true)
	if s.err != nil { // the next time it is the first
		l.mu.Lock()
		if l.seen[who] == s {
			delete(l.seen, who)
		}
		l.mu.Unlock()
	}
	close(s.decided)
	return s.err
}

// Stats are figures since the start.
type Stats struct {
	Records  int64 // events that were written
	Failures int64 // that could not be
	Lost     int64 // of these, those that nobody comes again with
	Failing  bool  // the last one could not be
}

// Stats tells how the log fares.
func (l *Log) Stats() Stats {
	if l == nil {
		return Stats{}
	}
	return Stats{l.records.Load(), l.failures.Load(), l.lost.Load(), l.failing.Load()}
}
