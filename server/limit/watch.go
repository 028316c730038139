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
	low     time.Time // when the queue was last as short as ordinary use makes it
	refused time.Time // when somebody was last refused
	over    bool      // the queue is kept short
}

const (
	standing = 100 * time.Millisecond // a queue that has not been low for so long is a standing one
	calm     = time.Second            // without refusing anybody, and the queue may be long again
)

// see looks at a queue of n and reports whether it must be cut now.
func (w *watch) see(n, ordinary, most int, now time.Time) (cut bool) {
	switch {
	case w.over && now.Sub(w.refused) > calm:
		w.over, w.low = false, now
	case w.over:
	case n <= ordinary:
		w.low = now
	case n >= most || now.Sub(w.low) > standing:
		w.over, w.refused = true, now
		return true
	}
	return false
}
