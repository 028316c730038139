package engine

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// cores counts what keeps the processors busy. A search takes more goroutines
// only for processors that nobody uses: on a busy machine they would wait for
// each other, and every search for all of its own. Background work leaves
// processors to queries while they come, since Go's scheduler knows no
// priorities and would let a query wait for it.
type cores struct {
	max   int32
	busy  atomic.Int32  // goroutines that search, and jobs of the background
	jobs  atomic.Int32  // of these, the jobs
	asked atomic.Uint64 // searches that began
}

func (c *cores) init() { c.max = int32(runtime.GOMAXPROCS(0)) }

// begin counts a search until its end.
func (c *cores) begin() {
	c.asked.Add(1)
	c.busy.Add(1)
}

func (c *cores) end() { c.busy.Add(-1) }

// work counts a job of the background until done is called.
func (c *cores) work() (done func()) {
	c.jobs.Add(1)
	c.busy.Add(1)
	return func() {
		c.busy.Add(-1)
		c.jobs.Add(-1)
	}
}

// take gives the caller at most n idle processors, each to be given back with
// end.
func (c *cores) take(n int) int {
	for {
		busy := c.busy.Load()
		got := min(int32(n), c.max-busy)
		if got <= 0 {
			return 0
		}
		if c.busy.CompareAndSwap(busy, busy+got) {
			return int(got)
		}
	}
}

// quiet is how long no query comes before background work takes the processor
// that it leaves to the next.
const quiet = 50 * time.Millisecond

// manners decide for one job how many processors it leaves to queries.
type manners struct {
	cores *cores
	mu    sync.Mutex
	seen  uint64
	until time.Time
}

func (c *cores) manners() *manners { return &manners{cores: c, seen: c.asked.Load()} }

// yield is hnsw.Params.Yield: true while queries come, until one processor was
// left to them, or as many as they are at work on.
func (m *manners) yield(left int) bool {
	searching := m.cores.busy.Load() - m.cores.jobs.Load()
	if left > 0 && int32(left) >= searching {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.cores.asked.Load()
	if n == m.seen {
		return time.Now().Before(m.until)
	}
	m.seen, m.until = n, time.Now().Add(quiet)
	return true
}
