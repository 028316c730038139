package limit

import "sync"

// Budget bounds the bytes of bodies and answers that are in memory. One who
// asks gets three quarters of it at most, so that others find some left. It is
// safe for concurrent use.
type Budget struct {
	mu   sync.Mutex
	most int64
	used int64
	by   map[string]int64 // of those who use some
}

// NewBudget makes a budget of so many bytes.
func NewBudget(most int64) *Budget { return &Budget{most: most, by: map[string]int64{}} }

// Hold takes n bytes for somebody, unless that is more than there are.
func (b *Budget) Hold(who string, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n > b.most || b.by[who]+n > b.Share() {
		return false
	}
	b.hold(who, n)
	return true
}

// Share is how many bytes one who asks can have.
func (b *Budget) Share() int64 { return b.most - b.most/4 }

// Force takes n bytes that are used already.
func (b *Budget) Force(who string, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hold(who, n)
}

func (b *Budget) hold(who string, n int64) {
	b.used += n
	if b.by[who] += n; b.by[who] <= 0 {
		delete(b.by, who)
	}
}

// Release gives n bytes back.
func (b *Budget) Release(who string, n int64) { b.Force(who, -n) }

// Used is what is taken.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}
