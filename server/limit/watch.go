package limit

import "time"

// A queue takes up bursts when it is empty again and again. One that never
// falls low is no buffer any more: everybody waits as long as it is, and the
// same number is served. So long waits are for queues that fall low
// regularly, and others are kept short (Nichols and Jacobson, "Controlling
// Queue Delay", ACM Queue 2012, section "A Clean-Slate Approach"; with a
// length in the place of their waiting time, as requests of an ordinary
// number of clients may wait whatever it takes).
type watch struct {
	low   time.Time // when the queue was last as short as ordinary use makes it
	until time.Time // when all that were refused should have come again, and found a place
	over  bool      // the queue is kept short
}

const (
	standing = 100 * time.Millisecond // a queue that has not been low for so long is a standing one
	calm     = time.Second            // longer than who was refused was told to wait, without refusing anybody, and the queue may be long again
)

// see looks at a queue of n and reports whether it must be cut now.
func (w *watch) see(n, ordinary, most int, now time.Time) (cut bool) {
	switch {
	case w.over && now.After(w.until):
		w.over, w.low = false, now
	case w.over:
	case n <= ordinary:
		w.low = now
	case n >= most || now.Sub(w.low) > standing:
		w.over, w.until = true, now.Add(calm)
		return true
	}
	return false
}
