package hnsw

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/chromad/chromad/internal/kernel"
)

// Build makes the graph of v. It returns ctx's error soon after ctx is done.
func Build(ctx context.Context, v Vectors, p Params) (*Graph, error) {
	b, err := newBuilder(ctx, v, p)
	if err != nil {
		return nil, err
	}
	levels := make([]uint8, v.Rows)
	var order []uint32
	for r := range uint32(v.Rows) {
		if b.equal.is(r) {
			continue
		}
		levels[r] = levelOf(b.p.Seed, r, b.p.M)
		order = append(order, r)
	}
	b.g = newGraph(levels, b.p.M)
	b.sort(order, levels)
	if err := b.insert(order); err != nil {
		return nil, err
	}
	return b.finish()
}

// A builder is one run of Build or Extend.
type builder struct {
	ctx     context.Context
	v       Vectors
	p       Params
	g       *Graph
	lift    []float32 // see scorer
	equal   equals
	workers []*worker
	placed  int // rows that are in the graph
	batch   batch
	edges   edges
}

// A worker is the memory of one goroutine of a build.
type worker struct {
	s    floatWalk
	near scorer   // aimed at a neighbour already chosen
	cand []uint64 // candidates that are still alive
	lost []uint64 // candidates that were passed over
	list []uint32
	dist []float32

	point []float32 // see attach
}

func newBuilder(ctx context.Context, v Vectors, p Params) (*builder, error) {
	p, err := p.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := v.check(); err != nil {
		return nil, err
	}
	b := &builder{ctx: ctx, v: v, p: p}
	for range p.Workers {
		b.workers = append(b.workers, new(worker))
	}
	if v.Metric == kernel.IP {
		if b.lift, err = lifts(&b.v, b.each); err != nil {
			return nil, err
		}
	}
	for _, w := range b.workers {
		w.s.scorer = scorer{v: &b.v, lift: b.lift, building: true}
		w.near = w.s.scorer
	}
	b.equal, err = findEquals(&b.v, b.each)
	return b, err
}

// each calls f for 0 to n-1 from all workers. What f writes must depend on i
// alone. It returns early when the context is done.
func (b *builder) each(n int, f func(w *worker, i int)) error {
	const share = 8 // at most a millisecond or two of work between looks at the context
	var next atomic.Int64
	run := func(w *worker) {
		for b.ctx.Err() == nil && (w == b.workers[0] || b.p.Yield == nil || !b.p.Yield()) {
			from := int(next.Add(share)) - share
			if from >= n {
				return
			}
			for i := from; i < min(from+share, n); i++ {
				f(w, i)
			}
		}
	}
	if helpers := min(len(b.workers), (n+share-1)/share); helpers > 1 {
		var wg sync.WaitGroup
		for _, w := range b.workers[:helpers] {
			wg.Go(func() {
				if b.p.Guard != nil {
					b.p.Guard(func() { run(w) })
					return
				}
				run(w)
			})
		}
		wg.Wait()
	} else {
		run(b.workers[0])
	}
	return b.ctx.Err()
}

// mix is the finalizer of SplitMix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// levelOf draws a level: at least l with probability 1/m^l. It works on
// integers, so that it is the same on every machine.
func levelOf(seed uint64, row uint32, m int) uint8 {
	h := mix(mix(seed) ^ uint64(row))
	level := 0
	for ; level < maxLevel && h%uint64(m) == 0; level++ {
		h /= uint64(m)
	}
	return uint8(level)
}

// sort puts rows into the order of insertion: high levels first, so that the
// upper levels are complete before most rows need them, and random within a
// level, so that rows that arrived together do not meet an empty
// neighbourhood together.
func (b *builder) sort(rows []uint32, levels []uint8) {
	keys := make([]uint64, len(rows))
	for i, r := range rows {
		random := mix(mix(b.p.Seed+1)^uint64(r)) >> 36
		keys[i] = uint64(maxLevel-levels[r])<<60 | random<<32 | uint64(r)
	}
	slices.Sort(keys)
	for i, key := range keys {
		rows[i] = uint32(key)
	}
}

// insert places rows in batches. A batch is searched against the graph as it
// was before it, so all its rows can be searched at once and the outcome does
// not depend on who does it (ParlayANN, arXiv 2305.04359, section 3). Batches
// grow with the graph: against a small one, rows of the same batch would be
// each other's neighbours.
func (b *builder) insert(rows []uint32) error {
	if b.placed == 0 && len(rows) > 0 {
		b.g.setEntry(rows[0])
		b.placed, rows = 1, rows[1:]
	}
	most := max(256, b.v.Rows/50)
	for len(rows) > 0 {
		n := min(len(rows), most, max(1, b.placed/16))
		if err := b.insertBatch(rows[:n]); err != nil {
			return err
		}
		b.placed += n
		rows = rows[n:]
		if b.p.Progress != nil {
			b.p.Progress(b.placed, b.v.Rows)
		}
	}
	return nil
}

// finish links what insertion leaves apart.
func (b *builder) finish() (*Graph, error) {
	for _, group := range b.equal.groups {
		b.linkEquals(group)
	}
	for level := b.g.top(); level >= 0; level-- {
		if err := b.reach(level, nil); err != nil {
			return nil, err
		}
	}
	if err := b.attach(); err != nil {
		return nil, err
	}
	if b.p.Progress != nil && b.v.Rows > 0 {
		b.p.Progress(b.v.Rows, b.v.Rows)
	}
	return b.g, nil
}
