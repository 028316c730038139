package wal

import (
	"runtime"
	"time"
)

// The clock says here how long to wait for company, and nothing else.

// gatherMost is how often gather looks, some milliseconds in all.
const gatherMost = 20_000

func stopwatch() (took func() time.Duration) {
	begin := time.Now()
	return func() time.Duration { return time.Since(begin) }
}

// gather lets those who were just acknowledged, n of them, queue their next
// entries: else the first few would be written at once, and the others wait
// for the sync of a frame that could have held them. It ends when as many are
// queued, or after patience, which is part of what a sync costs: so little is
// lost when they do not come, and gatherMost bounds it where the disk has stood
// still for seconds. A single writer is never waited for.
func (l *Log) gather(n int, patience time.Duration) {
	if n < 2 {
		return
	}
	end := time.Now().Add(patience)
	for range gatherMost {
		l.mu.Lock()
		enough := len(l.queue.marks) >= n || l.closed || len(l.rotates) > 0
		l.mu.Unlock()
		if enough || !time.Now().Before(end) {
			return
		}
		runtime.Gosched()
	}
}
