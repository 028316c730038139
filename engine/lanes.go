package engine

import (
	"math"
	"slices"
	"sync"

	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/segment"
)

// worker is the memory of a query, kept for the next one.
type worker struct {
	// Of the whole query: helpers have lanes only.
	view   view
	search search
	vector [1][]float32
	answer [1][]Match
	match  Match // that see is told

	lanes []*lane
	at    int         // of the first target's lane: 1 when rows in memory have one, else 0
	best  []candidate // the answer, nearest first
	rows  []uint32
	ids   []string
	some  []string // of them, those of one lane

	// The bound: what the lanes before turn have found. Every lane asks it
	// before it looks at exact distances, and waits for those before it, so it
	// does not matter who is faster.
	mu   sync.Mutex
	cond sync.Cond
	near []float32 // at most k distances, ascending, of the lanes before turn
	turn int
	done []bool
	k    int
}

// lane is what one source has found, nearest first.
type lane struct {
	hits   []hnsw.Neighbor // of rows in memory, Row is an index of search.rows
	next   int             // of hits, in merge
	order  uint64          // of the record at next, when known
	known  bool
	reader *segment.Reader // nil: rows in memory
	rows   []*memRow
	trace  segment.Trace
	bound  func() (float32, bool) // worker.wait for this lane, made once
}

// candidate is a row of the answer.
type candidate struct {
	lane int
	hit  hnsw.Neighbor
}

// keepHits is how many hits a worker keeps room for: a query that asks for a
// million is none that memory is kept for.
const keepHits = 4096

func (db *DB) worker() *worker {
	if w, ok := db.workers.Get().(*worker); ok {
		return w
	}
	w := &worker{}
	w.cond.L = &w.mu
	return w
}

// retire keeps w for the next query.
func (db *DB) retire(w *worker) {
	for _, l := range w.lanes[:cap(w.lanes)] {
		if l == nil {
			continue
		}
		l.reader, l.rows = nil, nil
		if cap(l.hits) > keepHits {
			l.hits = nil
		}
	}
	if cap(w.best) > keepHits {
		w.best, w.rows, w.ids, w.some, w.near = nil, nil, nil, nil, nil
	}
	clear(w.ids[:cap(w.ids)])
	clear(w.some[:cap(w.some)])
	w.vector[0], w.answer[0], w.match = nil, nil, Match{}
	w.search.forget()
	db.workers.Put(w)
}

// reset prepares w for a vector.
func (w *worker) reset(s *search) {
	w.at = 0
	if len(s.rows) > 0 {
		w.at = 1
	}
	n := w.at + len(s.targets)
	w.lanes = slices.Grow(w.lanes[:0], n)[:n]
	w.done = slices.Grow(w.done[:0], n)[:n]
	clear(w.done)
	for i, l := range w.lanes {
		if l == nil {
			l = &lane{}
			l.bound = func() (float32, bool) { return w.wait(i) }
			w.lanes[i] = l
		}
		l.hits, l.next, l.known, l.reader, l.rows = l.hits[:0], 0, false, nil, nil
		if i >= w.at {
			l.reader = s.targets[i-w.at].reader
		} else {
			l.rows = s.rows
		}
	}
	w.near, w.turn, w.k = w.near[:0], 0, s.k
}

// memory is the lane of the rows in memory, lane that of a target.
func (w *worker) memory() *lane { return w.lanes[0] }

func (w *worker) lane(target int) *lane { return w.lanes[w.at+target] }

// finish tells that the lane of a target (-1: of the rows in memory) has all
// the hits that it is going to have.
func (w *worker) finish(target int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done[w.at+target] = true
	for w.turn < len(w.done) && w.done[w.turn] {
		w.merge(w.lanes[w.turn].hits)
		w.turn++
	}
	w.cond.Broadcast()
}

// merge adds distances to near.
func (w *worker) merge(hits []hnsw.Neighbor) {
	n := len(w.near)
	for _, h := range hits {
		w.near = append(w.near, h.Distance)
	}
	if n > 0 {
		slices.Sort(w.near)
	}
	w.near = w.near[:min(len(w.near), w.k)]
}

// wait is the bound for lane i: no row from there on can be in the answer. At
// equal distances the older record counts, so those are below it.
//
// A lane waits only for lanes before it, which are searched by somebody, and
// whose segments come before its own in the order that every query has: so
// none waits for itself, however many queries hold segments while they wait.
func (w *worker) wait(i int) (float32, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.turn < i {
		w.cond.Wait()
	}
	if len(w.near) < w.k {
		return 0, false
	}
	return math.Nextafter32(w.near[w.k-1], float32(math.Inf(1))), true
}

// merge takes the nearest of all lanes. Orders are read where distances are
// equal, and nowhere else.
func (s *search) merge(w *worker) error {
	w.best = w.best[:0]
	if len(w.lanes) == 1 {
		hits := w.lanes[0].hits
		w.best = slices.Grow(w.best, len(hits))[:len(hits)]
		for i, best := 0, w.best; i < len(best); i++ {
			best[i] = candidate{0, hits[i]}
		}
		return nil
	}
	for len(w.best) < s.k {
		first := -1
		for i, l := range w.lanes {
			if l.next == len(l.hits) {
				continue
			}
			if first >= 0 {
				before, err := l.before(w.lanes[first])
				if err != nil {
					return err
				}
				if !before {
					continue
				}
			}
			first = i
		}
		if first < 0 {
			return nil
		}
		l := w.lanes[first]
		w.best = append(w.best, candidate{first, l.hits[l.next]})
		l.next++
		l.known = false
	}
	return nil
}

// before compares the records at which two lanes stand.
func (l *lane) before(other *lane) (bool, error) {
	a, b := l.hits[l.next].Distance, other.hits[other.next].Distance
	if a != b {
		return a < b, nil
	}
	mine, err := l.orderOf()
	if err != nil {
		return false, err
	}
	theirs, err := other.orderOf()
	return mine < theirs, err
}

func (l *lane) orderOf() (order uint64, err error) {
	if !l.known {
		row := l.hits[l.next].Row
		if l.reader == nil {
			l.order = l.rows[row].order
		} else if l.order, err = l.reader.Order(row); err != nil {
			return 0, err
		}
		l.known = true
	}
	return l.order, nil
}

// names reports whether what the only lane finds is the answer, and few enough for its
// search to leave the ids in w.
func (s *search) names(w *worker) bool {
	return len(w.lanes) == 1 && w.lanes[0].reader != nil && s.k <= keepHits
}

// idsOf is the ids of what the answer has from one place to before another, until they
// are asked for again.
func (s *search) idsOf(w *worker, from, to int) ([]string, error) {
	if s.names(w) {
		return w.ids[from:to], nil
	}
	best := w.best[from:to]
	w.ids = slices.Grow(w.ids[:0], len(best))[:len(best)]
	for i, l := range w.lanes {
		w.rows = w.rows[:0]
		for n, c := range best {
			if c.lane != i {
				continue
			}
			if l.reader == nil {
				w.ids[n] = l.rows[c.hit.Row].id
			} else {
				w.rows = append(w.rows, c.hit.Row)
			}
		}
		if len(w.rows) == 0 {
			continue
		}
		w.some = slices.Grow(w.some[:0], len(w.rows))[:len(w.rows)]
		if err := l.reader.IDs(w.rows, w.some); err != nil {
			return nil, err
		}
		next := w.some
		for n, c := range best {
			if c.lane == i {
				w.ids[n], next = next[0], next[1:]
			}
		}
	}
	return w.ids, nil
}

// load fills m, which is zero, with what has place n in the answer.
func (s *search) load(w *worker, n int, id string, m *Match) error {
	c := &w.best[n]
	m.ID, m.Distance = id, s.visible(c.hit.Distance)
	if s.include == 0 {
		return nil
	}
	l := w.lanes[c.lane]
	if l.reader == nil {
		loadMemRow(l.rows[c.hit.Row], s.include, &m.Record)
		return nil
	}
	return loadFields(l.reader, c.hit.Row, s.include, &m.Record)
}
