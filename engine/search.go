package engine

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/segment"
)

// search is a query with everything evaluated that does not depend on the
// vector. It is read by all goroutines that answer it.
type search struct {
	db      *DB
	metric  Metric
	k, ef   int
	exact   bool
	include Include
	targets []searchTarget // segments with at least one allowed row, largest first
	rows    []*memRow      // allowed rows in memory
	explain *Explanation   // nil: nobody asks
	bounded bool           // what is loaded together is, see each
	room    atomic.Int64   // bytes of it that are left
}

type searchTarget struct {
	reader  *segment.Reader
	allowed *roaring.Bitmap // nil: all rows, or dense
	dense   []uint64        // the same as bits, where it is used more than once
	matches int             // bits of dense
	ready   *hnsw.Subset    // the same, where a condition has come before
	again   segment.Again   // what it is called where it has not
}

// prepare evaluates opts; many tells that there are several vectors.
func (s *search) prepare(ctx context.Context, c *Collection, v *view, opts *QueryOptions, k int, many bool) error {
	spec := c.spec.Load()
	ef := spec.EFSearch
	if opts.EF > 0 {
		ef = opts.EF
	}
	s.db, s.metric, s.k, s.ef = c.db, spec.Metric, k, max(min(ef, v.live), k)
	s.exact, s.include, s.targets = opts.Exact, opts.Include, s.targets[:0]
	for i, dead := range v.dead {
		var again segment.Again
		if opts.Where != nil && opts.IDs == nil {
			a, ready, err := v.again(i, opts.Where)
			if err != nil {
				return err
			}
			if ready != nil {
				if ready.Len() > 0 {
					s.targets = append(s.targets, searchTarget{reader: v.readers[i], ready: ready})
				}
				continue
			}
			again = a
		}
		rows, all, err := v.allowed(ctx, i, opts.IDs, opts.Where)
		if err != nil {
			return err
		}
		reader, err := v.reader(i)
		if err != nil {
			return err
		}
		t := searchTarget{reader: reader, allowed: rows, again: again}
		switch {
		case !all && rows.IsEmpty():
			continue
		case !all && opts.IDs == nil && opts.Where == nil:
			t.dense = dead.bits(reader.Rows())
		case !all && many:
			t.dense = denseBits(rows, reader.Rows())
		}
		if t.dense != nil {
			t.allowed, t.matches = nil, int(rows.GetCardinality())
		}
		s.targets = append(s.targets, t)
	}
	// The largest has most of the answer, and what is known of it saves work in
	// the others. The order is the same in every view: see worker.wait.
	slices.SortFunc(s.targets, func(a, b searchTarget) int {
		return cmp.Or(cmp.Compare(b.reader.Rows(), a.reader.Rows()), cmp.Compare(a.reader.Number(), b.reader.Number()))
	})
	sel := Selection{IDs: opts.IDs, Where: opts.Where}
	if v.frozen != nil {
		s.addTable(v.frozen.table, v.fdead.rows, sel)
	}
	s.addTable(v.mem, v.memDead(), sel)
	return nil
}

// forget keeps the memory and nothing else.
func (s *search) forget() {
	clear(s.targets)
	*s = search{targets: s.targets[:0]}
}

func (s *search) addTable(t *table, dead *roaring.Bitmap, sel Selection) {
	if t.len() == 0 { // most of the time, and a cursor takes as long as a tenth of a small search
		return
	}
	if sel.Where == nil && (dead == nil || dead.IsEmpty()) {
		rows := t.selected(sel.IDs)
		if s.rows == nil {
			s.rows = rows[:len(rows):len(rows)] // shared by all readers
		} else {
			s.rows = append(s.rows, rows...)
		}
		return
	}
	for cur := tableCursor(t, dead, sel); ; {
		more, _ := cur.next() // rows in memory do not fail
		if !more {
			return
		}
		s.rows = append(s.rows, cur.row())
	}
}

// all answers vectors, several at a time where processors are idle, one of them
// in the memory of own.
func (s *search) all(ctx context.Context, own *worker, vectors [][]float32, out [][]Match) error {
	if len(vectors) == 1 {
		var err error
		out[0], err = s.run(ctx, own, vectors[0])
		return err
	}
	helpers := s.db.cores.take(len(vectors) - 1)
	var next atomic.Int64
	var failed atomic.Bool
	work := func(w *worker) (err error) {
		for i := int(next.Add(1)) - 1; i < len(vectors) && !failed.Load(); i = int(next.Add(1)) - 1 {
			if out[i], err = s.run(ctx, w, vectors[i]); err != nil {
				failed.Store(true)
				return err
			}
		}
		return nil
	}
	errs := make([]error, helpers)
	var wg sync.WaitGroup
	for h := range helpers {
		wg.Go(func() {
			defer s.db.cores.end()
			w := s.db.worker()
			defer s.db.retire(w)
			errs[h] = work(w)
		})
	}
	err := work(own)
	wg.Wait()
	for _, e := range errs {
		err = cmp.Or(err, e)
	}
	return err
}

// run answers one vector.
func (s *search) run(ctx context.Context, w *worker, q []float32) ([]Match, error) {
	if err := s.find(ctx, w, q); err != nil {
		return nil, err
	}
	ids, err := s.idsOf(w, 0, len(w.best))
	if err != nil {
		return nil, err
	}
	out := make([]Match, len(w.best))
	for n := range out {
		if err := s.load(w, n, ids[n], &out[n]); err != nil {
			return nil, err
		}
		if err := s.loaded(&out[n].Record); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// find leaves the rows that are nearest to a vector in w.best.
func (s *search) find(ctx context.Context, w *worker, q []float32) error {
	w.reset(s)
	if s.metric == Cosine {
		q = direction(q)
	}
	if s.explain != nil {
		s.explain.Memory = len(s.rows)
	}
	if len(s.rows) > 0 {
		if err := s.searchMemory(ctx, w, q); err != nil {
			return err
		}
	}
	if err := s.searchSegments(ctx, w, q); err != nil {
		return err
	}
	return s.merge(w)
}

// searchSegments fills the lanes of the targets, on this goroutine and on as
// many others as processors are idle.
func (s *search) searchSegments(ctx context.Context, w *worker, q []float32) error {
	n := len(s.targets)
	helpers := 0
	if n > 1 && s.explain == nil {
		helpers = s.db.cores.take(n - 1)
	}
	if helpers > 0 {
		return s.searchParallel(ctx, w, q, helpers)
	}
	for i := range n {
		if err := s.searchOne(ctx, w, i, q); err != nil {
			return err
		}
	}
	return nil
}

// searchOne searches target i.
func (s *search) searchOne(ctx context.Context, w *worker, i int, q []float32) (err error) {
	t, lane := &s.targets[i], w.lane(i)
	query := segment.Query{Vector: q, K: s.k, EF: s.ef, Allowed: t.allowed, Dense: t.dense, Matches: t.matches, Ready: t.ready, Again: t.again, Exact: s.exact}
	if len(w.lanes) > 1 {
		query.Late = lane.bound
	}
	if s.names(w) {
		query.IDs = &w.ids
	}
	if s.explain != nil {
		query.Trace = &lane.trace
	}
	lane.hits, err = t.reader.Search(ctx, query, lane.hits[:0])
	for n := len(lane.hits) - 1; n >= 0 && lane.hits[n].Distance != lane.hits[n].Distance; n-- {
		lane.hits[n].Distance = orderable(lane.hits[n].Distance) // those are the last
	}
	if s.explain != nil {
		s.explain.add(t.reader, &lane.trace)
	}
	if len(w.lanes) > 1 {
		w.finish(i)
	}
	return err
}

// searchParallel is searchSegments on several goroutines. The answer is the
// same, because a segment waits for the bound of those before it. A goroutine
// that finds nothing left to do is not waited for: it may not have had a
// processor yet, idle as one was.
func (s *search) searchParallel(ctx context.Context, w *worker, q []float32, helpers int) error {
	p := &parallel{errs: make([]error, len(s.targets))}
	p.left.Add(len(s.targets))
	work := func() {
		// Whoever has a turn is waited for, and only he looks at s and w.
		for i := int(p.next.Add(1)) - 1; i < len(p.errs); i = int(p.next.Add(1)) - 1 {
			p.errs[i] = s.searchOne(ctx, w, i, q)
			p.left.Done()
		}
	}
	cores := &s.db.cores // s may be another query's by the time that a helper ends
	for range helpers {
		go func() {
			defer cores.end()
			work()
		}()
	}
	work()
	p.left.Wait()
	for _, err := range p.errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// parallel is the turns of one vector's targets.
type parallel struct {
	next atomic.Int64
	left sync.WaitGroup
	errs []error
}

// searchMemory fills the first lane: the rows in memory are few enough to be
// scanned, and so the write path has no graph to keep.
func (s *search) searchMemory(ctx context.Context, w *worker, q []float32) error {
	inv := float32(0)
	if s.metric == Cosine {
		inv = kernel.InvNorm(q)
	}
	lane := w.memory()
	best := lane.hits[:0]
	compare := func(a, b hnsw.Neighbor) int {
		return cmp.Or(cmp.Compare(a.Distance, b.Distance), cmp.Compare(s.rows[a.Row].order, s.rows[b.Row].order))
	}
	var worst hnsw.Neighbor
	full := false
	for i, r := range s.rows {
		if i%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		hit := hnsw.Neighbor{Row: uint32(i)}
		switch s.metric {
		case L2:
			hit.Distance = kernel.L2Squared(q, r.vector)
		case Cosine:
			hit.Distance = 1 - kernel.Dot(q, r.vector)*inv*r.invNorm
		default:
			hit.Distance = 1 - kernel.Dot(q, r.vector)
		}
		hit.Distance = orderable(hit.Distance)
		if full && compare(hit, worst) >= 0 {
			continue
		}
		// Keep up to 2k and cut back to k when that is reached: amortised
		// constant work a row without a heap.
		if best = append(best, hit); len(best) >= 2*s.k {
			slices.SortFunc(best, compare)
			best = best[:s.k]
			worst, full = best[s.k-1], true
		}
	}
	slices.SortFunc(best, compare)
	lane.hits = best[:min(len(best), s.k)]
	w.finish(-1)
	return nil
}

// orderable is d, or infinity where vectors are so long that d is no number: it
// has to have a place in the order.
func orderable(d float32) float32 {
	if d != d {
		return float32(math.Inf(1))
	}
	return d
}

// visible keeps a cosine distance within 0 to 2, where rounding may lead out of
// it, and others finite: JSON has no infinity.
func (s *search) visible(d float32) float32 {
	if s.metric == Cosine {
		return min(max(d, 0), 2)
	}
	return min(max(d, -math.MaxFloat32), math.MaxFloat32)
}
