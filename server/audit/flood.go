package audit

import (
	"context"
	"errors"
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
	second := l.now().Unix()
	l.mu.Lock()
	defer l.mu.Unlock()
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
func (l *Log) Tick(ctx context.Context) error { return l.writeCounted(ctx, l.now().Unix()) }

// writeCounted writes what was counted before a second.
func (l *Log) writeCounted(ctx context.Context, second int64) (err error) {
	var due []Event
	l.mu.Lock()
	for key, c := range l.flood {
		if c.second >= second {
			continue
		}
		if c.more > 0 {
			e := c.last
			e.Time, e.Rows, e.Request = time.Time{}, c.more, "" // it is of when it is written
			if e.Kind == Authentication {
				e.Reason, e.Key, e.Principal, e.Method = "repeated", "", "", ""
			}
			due = append(due, e)
		}
		delete(l.flood, key)
	}
	l.mu.Unlock()
	for _, e := range due {
		err = errors.Join(err, l.write(ctx, e, true))
	}
	return err
}

// Run calls Tick every second, and tend every minute and once at the
// beginning, until ctx ends. failed is told of errors.
func (l *Log) Run(ctx context.Context, tend func(ctx context.Context, now time.Time) error, failed func(error)) {
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for n := 0; ; n++ {
		if n%60 == 0 {
			if err := tend(ctx, l.now()); err != nil && ctx.Err() == nil {
				failed(err)
			}
		}
		select {
		case <-ctx.Done():
			// Also of this second: there is no next one.
			if err := l.writeCounted(context.WithoutCancel(ctx), l.now().Unix()+1); err != nil {
				failed(err)
			}
			return
		case <-every.C:
		}
		if err := l.Tick(ctx); err != nil {
			failed(err)
		}
	}
}
