package engine

import (
	"sync/atomic"

	"github.com/chromad/chromad/segment"
)

// degraded watches a segment for damage in what can be made again: graph,
// filter index, id table, vectors in bytes. Package segment answers without them, and knows of
// the damage when somebody has met it.
type degraded struct {
	c      *Collection
	number uint64
	told   atomic.Bool
}

// look is called by everybody who has used the segment: the first who finds
// it degraded tells, and has it made anew.
func (d *degraded) look(r *segment.Reader) {
	if d.c == nil || d.told.Load() {
		return
	}
	err := r.Degraded()
	if err == nil || !d.told.CompareAndSwap(false, true) {
		return
	}
	if f := d.c.db.opts.Events.Degraded; f != nil {
		f(DegradedEvent{Collection: d.c.id, Segment: d.number, Err: err})
	}
	d.c.db.jobs.ask(func() {
		if d.c.jobs.degraded == nil {
			d.c.jobs.degraded = map[uint64]bool{}
		}
		d.c.jobs.degraded[d.number] = true
	})
	d.c.scheduleCompact()
}

// pickNext is what the background compacts next: a degraded segment alone,
// which makes its indexes anew, or what pickDue says. When that meets damage
// among the rows, the collection is left alone.
func (c *Collection) pickNext(segments []segmentState) []int {
	j := &c.db.jobs
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, s := range segments {
		if c.jobs.degraded[s.info.Number] {
			return []int{i}
		}
	}
	return pickDue(segments)
}
