package limit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var usual = GateOptions{Places: 4, Ordinary: 64, Queue: 1024, Patience: 30 * time.Second}

// client asks again and again until the end, each request taking so long, and
// tells how long those took that were let in. It waits when it is told to.
func client(ctx context.Context, g *Gate, who string, takes time.Duration, told func(began time.Time, latency time.Duration, refused bool)) {
	for ctx.Err() == nil {
		began := time.Now()
		p, err := g.Enter(context.Background(), who)
		if b, ok := errors.AsType[*Busy](err); ok {
			told(began, 0, true)
			time.Sleep(b.After)
			continue
		}
		time.Sleep(takes)
		p.Leave()
		told(began, time.Since(began), false)
	}
}

// crowd runs clients for a while and returns what they were told.
func crowd(g *Gate, clients int, who func(i int) string, takes, forTime time.Duration) (slowest time.Duration, served, refused int) {
	ctx, cancel := context.WithTimeout(context.Background(), forTime)
	defer cancel()
	started := time.Now()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			client(ctx, g, who(i), takes, func(began time.Time, latency time.Duration, no bool) {
				mu.Lock()
				defer mu.Unlock()
				if no {
					refused++
					return
				}
				served++
				if began.Sub(started) > 2*standing { // until then nobody can know that it is more than a burst
					slowest = max(slowest, latency)
				}
			})
		})
	}
	wg.Wait()
	return slowest, served, refused
}

func same(int) string { return "a" }

// However many ask, who is let in is served within twice the time that it
// takes, and the places are used.
func TestGateOverload(t *testing.T) {
	for _, c := range []struct {
		name string
		who  func(i int) string
	}{{"one", same}, {"many", func(i int) string { return fmt.Sprint(i % 500) }}, {"all different", func(i int) string { return fmt.Sprint(i) }}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := NewGate(usual)
				const takes, whole = 10 * time.Millisecond, 5 * time.Second
				slowest, served, refused := crowd(g, 10_000, c.who, takes, whole)
				if slowest > 2*takes {
					t.Errorf("a request that was let in took %s, and %s by itself", slowest, takes)
				}
				if least := usual.Places * int(whole/takes) * 9 / 10; served < least {
					t.Errorf("%d were served, at least %d could be", served, least)
				}
				if refused == 0 {
					t.Error("nobody was refused")
				}
				if s := g.Stats(); s.Running != 0 || s.Waiting != 0 || len(g.shares) > maxQuiet+usual.Queue {
					t.Errorf("at the end: %+v, %d shares", s, len(g.shares))
				}
			})
		})
	}
}

// An ordinary number of clients is never refused, however slow their requests
// are and however long they go on; neither is a burst.
func TestGateOrdinary(t *testing.T) {
	for _, c := range []struct {
		name           string
		clients        int
		who            func(i int) string
		takes, forTime time.Duration
	}{
		{"threads of one", 32, same, time.Millisecond, time.Minute},
		{"slow requests", 64, same, time.Second, 5 * time.Minute},
		{"two of them", 64, func(i int) string { return fmt.Sprint(i % 2) }, 500 * time.Millisecond, 5 * time.Minute},
		{"burst", 500, same, 500 * time.Microsecond, time.Microsecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if _, served, refused := crowd(NewGate(usual), c.clients, c.who, c.takes, c.forTime); refused != 0 {
					t.Errorf("%d refused, %d served", refused, served)
				}
			})
		})
	}
}

// While somebody asks without end, others are served at once.
func TestGateFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(usual)
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		for range 2000 {
			wg.Go(func() { client(ctx, g, "flood", time.Second, func(time.Time, time.Duration, bool) {}) })
		}
		time.Sleep(2 * time.Second)
		refused := 0
		for range 100 {
			began := time.Now()
			p, err := g.Enter(ctx, "other")
			if err != nil {
				refused++
				continue
			}
			if waited := time.Since(began); waited > 0 {
				t.Errorf("waited %s, with a place for those who have none", waited)
			}
			time.Sleep(time.Millisecond)
			p.Leave()
		}
		if refused > 0 {
			t.Errorf("%d of 100 refused", refused)
		}
		slowest, served, refused := crowd(g, 32, func(int) string { return "other" }, 10*time.Millisecond, 10*time.Second)
		if refused > 0 {
			t.Errorf("32 threads beside a flood: %d refused, %d served, slowest %s", refused, served, slowest)
		}
		cancel()
		wg.Wait()
	})
}

// Who leaves while he waits gives up his wait, and nothing is left of him.
func TestGateLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(GateOptions{Places: 1, Ordinary: 8, Queue: 16, Patience: time.Minute})
		held, err := g.Enter(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := g.Enter(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a wait whose context ended: %v", err)
		}
		if _, err := g.Enter(t.Context(), "a"); !errors.As(err, new(*Busy)) {
			t.Errorf("a wait longer than patience: %v", err)
		}
		held.Leave()
		if s := g.Stats(); s.Running != 0 || s.Waiting != 0 || s.Left != 1 || s.Refused != 1 || len(g.shares) != 0 {
			t.Errorf("%+v, %d shares", s, len(g.shares))
		}
	})
}

// Nothing is left of those either who were put out of the queue for others, and
// of whom nobody hears again.
func TestGateEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(GateOptions{Places: 4, Ordinary: 8, Queue: 64, Patience: time.Minute})
		refused := 0
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 5 * time.Millisecond)
				p, err := g.Enter(t.Context(), fmt.Sprint(i))
				if err != nil {
					mu.Lock()
					refused++
					mu.Unlock()
					return
				}
				time.Sleep(time.Second)
				p.Leave()
			})
		}
		wg.Wait()
		if s := g.Stats(); refused == 0 || s.Running != 0 || s.Waiting != 0 || len(g.shares) != 0 {
			t.Errorf("%d refused, %+v, %d shares", refused, s, len(g.shares))
		}
	})
}

// When the crowd has gone the queue may be long again.
func TestGateRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(usual)
		crowd(g, 5000, same, 10*time.Millisecond, time.Second)
		if _, _, refused := crowd(g, 3000, same, 10*time.Millisecond, time.Millisecond); refused == 0 {
			t.Fatal("the crowd was let in")
		}
		time.Sleep(calm + 2*maxAfter)
		if g.Stats().Overloaded {
			t.Error("overloaded when nobody asks")
		}
		if _, _, refused := crowd(g, 64, same, 10*time.Millisecond, time.Minute); refused != 0 {
			t.Errorf("%d of an ordinary number are refused", refused)
		}
	})
}

// A queue that stands is cut though there is room in it.
func TestGateStanding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const takes = 10 * time.Millisecond
		if slowest, _, refused := crowd(NewGate(usual), 300, same, takes, 5*time.Second); slowest > 2*takes || refused == 0 {
			t.Errorf("%s, %d refused", slowest, refused)
		}
	})
}

// Of two that wait, the one with fewer places is next: four threads beside sixty
// get as many places as those.
func TestGateNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const takes = 10 * time.Millisecond
		g := NewGate(usual)
		var wg sync.WaitGroup
		wg.Go(func() { crowd(g, 60, same, takes, 5*time.Second) })
		slowest, served, refused := crowd(g, 4, func(int) string { return "other" }, takes, 4*time.Second)
		if slowest > 3*takes || refused > 0 || served < 700 {
			t.Errorf("slowest %s, %d served, %d refused", slowest, served, refused)
		}
		wg.Wait()
	})
}
