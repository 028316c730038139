package audit

import (
	"context"
	"time"
)

// flooding is what is counted together. Failed authentications are counted by
// address alone, since everything else in them is made up by who sends them.
type flooding struct{ kind, address, principal, action, reason string }

// counted is how often an event came since the one that was written.
type counted struct {
	second int64 // Unix time of that one
	more   int64
	last   Event
}

// maxFlood bounds how many are counted at a time; what is beyond is counted as one.
const maxFlood = 10_000

// flooded counts a refusal, and tells whether one like it was written in this
// second.
func (l *Log) flooded(e Event) bool {
	key := flooding{kind: string(e.Kind), address: e.Address}
	if e.Kind != Authentication {
		key.principal, key.action, key.reason = e.Principal, e.Action, e.Reason
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	second := l.now().Unix()
	c := l.flood[key]
	if c == nil && len(l.flood) >= maxFlood {
		key = flooding{kind: string(e.Kind)}
		e.Address, e.Principal, e.Key = "", "", ""
		c = l.flood[key]
	}
	if c == nil {
		l.flood[key] = &counted{second: second}
		return false
	}
	if c.second != second && c.more == 0 {
		c.second = second
		return false
	}
	c.more++
	c.last = e
	return true
}

// Tick writes what was counted in seconds that are over. It is called once a
// second.
func (l *Log) Tick(ctx context.Context) error { return l.writeCounted(ctx, false) }

// writeCounted writes what was counted, of the present second only if all is
// asked for. What cannot be written stays counted. Another second is over also
// when it is later: the clock was set back.
func (l *Log) writeCounted(ctx context.Context, all bool) error {
	due := map[flooding]counted{}
	l.mu.Lock()
	second := l.now().Unix()
	for key, c := range l.flood {
		switch {
		case c.second == second && !all:
		case c.more == 0:
			delete(l.flood, key)
		default:
			due[key] = *c
		}
	}
	l.mu.Unlock()
	for key, c := range due {
		e := c.last
		e.Time, e.Rows, e.Request = time.Time{}, c.more, "" // it is of when it is written
		if e.Kind == Authentication {
			e.Reason, e.Key, e.Principal, e.Method = "repeated", "", "", ""
		}
		if err := l.try(ctx, e, true); err != nil {
			return err // the others would fare no better
		}
		l.wrote(key, c.more)
	}
	return nil
}

// wrote forgets what was counted and is in the log. More may have come
// meanwhile.
func (l *Log) wrote(key flooding, n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.flood[key]; c != nil && c.more > n {
		c.more -= n
		return
	}
	delete(l.flood, key)
}

// Run calls Tick every second, and tend every minute and once at the
// beginning, until ctx ends. failed is told of errors.
func (l *Log) Run(ctx context.Context, tend func(ctx context.Context, now time.Time) error, failed func(error)) {
	every := time.NewTicker(time.Second)
	defer every.Stop()
	// Writing ends by itself: with ctx an event could be in the log, and its
	// error say that it is in doubt.
	write, well := context.WithoutCancel(ctx), true
	for n := 0; ; n++ {
		if n%60 == 0 {
			if err := tend(ctx, l.now()); err != nil && ctx.Err() == nil {
				failed(err)
			}
		}
		select {
		case <-ctx.Done():
			// Also of this second: there is no next one.
			if err := l.writeCounted(write, true); err != nil {
				failed(err)
			}
			return
		case <-every.C:
		}
		err := l.Tick(write)
		if err != nil && well { // it is tried again every second, and told once
			failed(err)
		}
		well = err == nil
	}
}
