package engine

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/segment"
)

// A record that is over is deleted in the background, but no read has it from
// the second on at which it is: readers of a collection with a retention take a
// state in which what is over counts as dead. That is made once for as long as
// no time is reached and nothing is written, so a query pays for it next to nothing.

// timed is a state without what is over.
type timed struct {
	of          *state
	keep        *keeping
	from, until int64 // it holds from the one second to before the other
	to          *state
}

// visible is view without the records that are over.
func (c *Collection) visible(ctx context.Context) (*view, error) {
	v, err := c.view()
	if err != nil {
		return nil, err
	}
	if err := c.narrow(ctx, v); err != nil {
		v.close()
		return nil, err
	}
	return v, nil
}

// narrow takes the records out of v that are over.
func (c *Collection) narrow(ctx context.Context, v *view) error {
	k := c.keeping()
	if !k.expires() {
		return nil
	}
	at := k.clock()
	t := c.timed.Load()
	if t == nil || t.of != v.state || t.keep != k || at < t.from || at >= t.until {
		var err error
		if t, err = v.asOf(ctx, k, at, t); err != nil {
			return err
		}
		c.timed.Store(t)
	}
	v.state = t.to
	return nil
}

// asOf makes the state of v without what is over at a time. last is the one that was
// made before, or nil.
func (v *view) asOf(ctx context.Context, k *keeping, at int64, last *timed) (*timed, error) {
	t := &timed{of: v.state, keep: k, from: at, until: math.MaxInt64, to: v.state}
	to := *v.state
	to.dead = slices.Clone(to.dead)
	gone := 0
	for i, d := range to.dead {
		rows, next, err := v.overIn(ctx, i, k.key, at)
		if err != nil {
			return nil, err
		}
		t.until = min(t.until, next)
		if n := int(rows.GetCardinality() - rows.AndCardinality(d.rows)); n > 0 {
			to.dead[i] = last.same(d, roaring.Or(d.rows, rows))
			gone += n
		}
	}
	if to.frozen != nil {
		rows, next := overOf(to.frozen.table, k.key, at)
		t.until = min(t.until, next)
		if n := int(rows.GetCardinality() - rows.AndCardinality(to.fdead.rows)); n > 0 {
			to.fdead = newDeletions(roaring.Or(to.fdead.rows, rows))
			gone += n
		}
	}
	rows, next := overOf(to.mem, k.key, at)
	t.until = min(t.until, next)
	if n := int(rows.GetCardinality()); n > 0 {
		to.over = newDeletions(rows)
		gone += n
	}
	if gone > 0 {
		to.live -= gone
		t.to = &to
	}
	return t, nil
}

// same is the deletions that t made of the same ones before, if their rows are these:
// what others know of them stays true.
func (t *timed) same(of *deletions, rows *roaring.Bitmap) *deletions {
	if t != nil {
		if i := slices.Index(t.of.dead, of); i >= 0 && t.to.dead[i].rows.Equals(rows) {
			return t.to.dead[i]
		}
	}
	return newDeletions(rows)
}

// memDead are the rows of the memtable that are not to be seen; nil: none.
func (s *state) memDead() *roaring.Bitmap {
	if s.over == nil {
		return nil
	}
	return s.over.rows
}

// earliest is the first time of rows in memory, or a time before it: most states
// are taken at one at which nothing of them is over, and need not look.
type earliest struct {
	key string // it is of; empty: nobody has asked yet
	at  int64
}

func (e *earliest) saw(r *memRow) {
	if e.key == "" {
		return
	}
	if v, there := r.metadata[e.key]; there {
		if at, ok := expiryOf(v); ok {
			e.at = min(e.at, at)
		}
	}
}

// retime finds the earliest time under a key among the rows that are there.
func (m *memtable) retime(key string) {
	m.earliest = earliest{key, math.MaxInt64}
	if key == "" {
		return
	}
	m.rows.Scan(func(_ uint64, r *memRow) bool {
		m.saw(r)
		return true
	})
}

// timeMemtable has the memtable know the times by which readers will ask; applyMu is held.
func (c *Collection) timeMemtable() {
	key := ""
	if k := c.keep.Load(); k != nil {
		key = k.key
	}
	if c.mem.earliest.key != key {
		c.mem.retime(key)
	}
}

// overOf are the positions of the rows in memory that are over at a time, and when
// the next one will be.
func overOf(t *table, key string, at int64) (gone *roaring.Bitmap, next int64) {
	gone, next = roaring.New(), math.MaxInt64
	if t.earliest.key == key && at < t.earliest.at {
		return gone, t.earliest.at
	}
	for i, r := range t.all() {
		v, there := r.metadata[key]
		if !there {
			continue
		}
		switch t, ok := expiryOf(v); {
		case !ok:
		case t <= at:
			gone.Add(uint32(i))
		default:
			next = min(next, t)
		}
	}
	return gone, next
}

// expiries are the times of a segment's rows under a key, as far as they are
// needed soon: all rows of a segment may have one, and most are far off.
type expiries struct {
	key         string
	from, until int64           // what it tells of
	over        *roaring.Bitmap // rows that are over at from
	soon        []expiry        // those that will be by until, ascending
	unclear     *roaring.Bitmap // whose value is no time
}

type expiry struct {
	at  int64
	row uint32
}

// expiryWindow is how many seconds ahead the times of rows are kept.
const expiryWindow = 3600

// expiryCache is what a segment's handle keeps of them.
type expiryCache struct {
	mu sync.Mutex
	e  *expiries
}

// overIn are the rows of segment i, dead or not, that are over at a time, and when
// that changes. The bitmap is not the caller's.
func (v *view) overIn(ctx context.Context, i int, key string, at int64) (rows *roaring.Bitmap, next int64, err error) {
	e, err := v.expiriesOf(ctx, i, key, at)
	if err != nil {
		return nil, 0, err
	}
	n, _ := slices.BinarySearchFunc(e.soon, at+1, func(x expiry, at int64) int { return cmp.Compare(x.at, at) })
	next = e.until + 1
	if n < len(e.soon) {
		next = e.soon[n].at
	}
	rows = e.over
	if n > 0 {
		rows = rows.Clone()
		for _, x := range e.soon[:n] {
			rows.Add(x.row)
		}
	}
	return rows, next, nil
}

func (v *view) expiriesOf(ctx context.Context, i int, key string, at int64) (*expiries, error) {
	c := &v.version.segments[i].times
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.e; e != nil && e.key == key && e.from <= at && at <= e.until {
		return e, nil
	}
	reader, err := v.reader(i)
	if err != nil {
		return nil, err
	}
	e, err := readExpiries(ctx, reader, key, at)
	if err == nil {
		c.e = e
	}
	return e, err
}

func readExpiries(ctx context.Context, reader *segment.Reader, key string, at int64) (*expiries, error) {
	e := &expiries{key: key, from: at, until: at + expiryWindow}
	begin := func() { e.over, e.soon, e.unclear = roaring.New(), nil, roaring.New() }
	err := reader.Values(ctx, key, begin, func(kind filter.Kind, value filter.Value, rows []uint32) error {
		t, ok := expiryOf(value)
		switch {
		case kind.IsArray() || !ok:
			e.unclear.AddMany(rows)
		case t <= at:
			e.over.AddMany(rows)
		case t <= e.until:
			for _, row := range rows {
				e.soon = append(e.soon, expiry{t, row})
			}
		}
		return nil
	})
	slices.SortFunc(e.soon, func(a, b expiry) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.row, b.row)) })
	return e, err
}
