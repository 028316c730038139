package remote

import (
	"context"
	"time"
)

// Policy is how often and how long a call is tried. It is the only one: what
// the clients of the services have of their own is switched off.
type Policy struct {
	Attempts int           // calls in all
	Pause    time.Duration // before the second call; each further one waits twice as long
	Each     time.Duration // a call may take
	Total    time.Duration // all calls and pauses may take
}

// Standard waits for a service that is being restarted or throttles, and gives
// up while whoever started the server still looks.
func Standard() Policy {
	return Policy{Attempts: 5, Pause: 250 * time.Millisecond, Each: 10 * time.Second, Total: 30 * time.Second}
}

// try calls op until it succeeds, fails for good, or the policy or the context
// ends. It returns the last error of op that says more than that time was up.
func (p Policy) try(ctx context.Context, op func(context.Context) ([]byte, error), again func(error) bool) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, p.Total)
	defer cancel()
	var last error
	for n, pause := 1, p.Pause; ; n, pause = n+1, 2*pause {
		each, done := context.WithTimeout(ctx, p.Each)
		out, err := op(each)
		done()
		if err == nil {
			return out, nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		if n >= p.Attempts || ctx.Err() != nil || !again(err) {
			return nil, last
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, last
		}
	}
}
