package hnsw

import (
	"context"
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
	return b.build()
}

// build makes the graph of a builder that is prepared.
func (b *builder) build() (*Graph, error) {
	b.begin()
	return b.finish(nil)
}

// begin makes a graph without links.
func (b *builder) begin() {
	levels := make([]uint8, b.v.Rows)
	b.drawLevels(b.rows, levels)
	b.g = newGraph(levels, b.p.M)
	b.g.uneven = b.uneven
}

// A builder is one run of Build or Join, or builds a tight group of one.
type builder struct {
	ctx     context.Context
	v       Vectors // without data in the builder of a group, which has a view
	view    *view   // how rows are seen; nil: as they are
	p       Params
	g       *Graph
	squares []float64 // |x|² of every row
	most    float64   // the greatest of them, for the inner product
	uneven  bool      // see drawLevels
	equal   equals
	rows    []uint32 // those with a place in the graph, that hang below no other
	points  *transform
	grid    *grid
	part    []uint8  // of each row, which part it has links from, from 1 on; 0: none
	linked  int      // rows that have links from a part
	depth   int      // of how many groups it builds the inside
	coarse  float32  // inverse step of the builder around it, if any
	heads   []uint32 // of the groups around
	ways    []uint8  // of each row's links, how many lead out of groups; nil: none
	workers []*worker
	done    int // rows' worth of work that was reported
}

// A worker is the memory of one goroutine of a build.
type worker struct {
	grid   *grid
	query  []int8   // the row that distances are measured from
	ones   []int8   // as many as sumsOf needed
	sums   [2]int32 // its results
	bias   int32    // of it
	point  []float32
	panel  panel
	octet  octet
	across []uint16 // see comparePairs
	sieve  sieve
	lists  [][]uint64
	seen   []uint8 // of each node of a level; all are 0
	keys   []uint64
	rows   []uint32
	dots   []int32
	list   []uint32
	chosen []uint32
	asking []int // members of a group
	pick   picker
	walk   walk
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
	return b, b.prepare()
}

// prepare makes points of the rows.
func (b *builder) prepare() error {
	// Equal rows never come into a group, only such of one direction.
	if b.depth == 0 || b.view.of.v.Metric == kernel.Cosine {
		if err := b.findEquals(); err != nil {
			return err
		}
	}
	b.listRows()
	b.findUneven()
	b.calibrate()
	return b.fillGrid()
}

// listRows lists the rows that hang below no other.
func (b *builder) listRows() {
	b.rows = b.rows[:0]
	for r := range uint32(b.v.Rows) {
		if !b.equal.is(r) {
			b.rows = append(b.rows, r)
		}
	}
}

// each calls f for 0 to n-1 from all workers. What f writes must depend on i
// alone. It returns early when the context is done.
func (b *builder) each(n int, f func(w *worker, i int)) error { return b.shares(n, 8, f) }

// shares is each, where workers take so many i at a time: as many as take a
// millisecond or two at most, for the context is looked at in between.
func (b *builder) shares(n, share int, f func(w *worker, i int)) error {
	return b.pieces(n, share, f, func(int) {})
}

// told is shares, and tells the progress: all of it is worth so many rows.
func (b *builder) told(n, share, worth int, f func(w *worker, i int)) error {
	done := b.done
	return b.pieces(n, share, f, func(end int) {
		b.tell(done + int(int64(worth)*int64(end)/int64(n)))
	})
}

// parts of a step is how often its progress is told, and a worker that has left
// comes back.
const parts = 16

// pieces does a step piece by piece.
func (b *builder) pieces(n, share int, f func(w *worker, i int), after func(end int)) error {
	piece := max(share*len(b.workers)*4, (n+parts-1)/parts)
	for from := 0; from < n; from += piece {
		end := min(from+piece, n)
		if err := b.piece(from, end, share, f); err != nil {
			return err
		}
		after(end)
	}
	return b.ctx.Err()
}

// piece has all workers work, but for those that leave to who wants their
// processors.
func (b *builder) piece(from, end, share int, f func(w *worker, i int)) error {
	var next, left atomic.Int64
	leaves := func(w *worker) bool {
		if w == b.workers[0] || b.p.Yield == nil {
			return false
		}
		n := left.Load()
		return b.p.Yield(int(n)) && left.CompareAndSwap(n, n+1)
	}
	run := func(w *worker) {
		for b.ctx.Err() == nil && !leaves(w) {
			at := from + int(next.Add(int64(share))) - share
			if at >= end {
				return
			}
			for i := at; i < min(at+share, end); i++ {
				f(w, i)
			}
		}
	}
	if helpers := min(len(b.workers), (end-from+share-1)/share); helpers > 1 {
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

// tell reports that done rows' worth of work is done.
func (b *builder) tell(done int) {
	if b.done = min(done, b.v.Rows); b.p.Progress != nil && done > 0 {
		b.p.Progress(b.done, b.v.Rows)
	}
}

// highest returns the first row of the highest level there is, one with a
// place if any has.
func (b *builder) highest() uint32 {
	best, level := uint32(0), 0
	if len(b.rows) > 0 {
		best = b.rows[0]
	}
	for s, r := range b.g.seatRow {
		if l := b.g.seatLevel(uint32(s)); l > level {
			best, level = r, l
		}
	}
	return best
}

// nodesOf returns the nodes of a level that have a place there.
func (b *builder) nodesOf(level int) []uint32 {
	if level == 0 {
		return b.rows
	}
	var nodes []uint32
	for s := range uint32(len(b.g.seatRow)) {
		if b.g.seatLevel(s) >= level {
			nodes = append(nodes, s)
		}
	}
	return nodes
}

// link links the nodes of all levels, all or those that ask at their level.
func (b *builder) link(asks func(level int, node uint32) bool) error {
	if b.v.Rows > 0 {
		b.g.setEntry(b.highest())
	}
	for level := b.g.top(); level >= 0 && len(b.rows) > 0; level-- {
		nodes := b.nodesOf(level)
		var asking []bool
		if asks != nil {
			asking = make([]bool, len(nodes))
			for i, n := range nodes {
				asking[i] = asks(level, n)
			}
		}
		if err := b.bulkLink(level, nodes, asking); err != nil {
			return err
		}
	}
	return nil
}

// finish links the nodes, all or those that ask at their level, then what that
// leaves apart, and encodes the rows for searches. Where there are tight groups
// it begins anew.
func (b *builder) finish(asks func(level int, node uint32) bool) (*Graph, error) {
	if err := b.link(asks); err != nil {
		return nil, err
	}
	if err := b.regroup(); err != nil {
		return nil, err
	}
	for _, group := range b.equal.groups {
		b.linkEquals(group)
	}
	for level := b.g.top(); level >= 0; level-- {
		if err := b.reach(level); err != nil {
			return nil, err
		}
	}
	b.dropGrid()
	b.squares = nil
	if b.depth == 0 {
		for _, w := range b.workers {
			*w = worker{} // codes need none of it, but memory
		}
	}
	if err := b.attach(); err != nil {
		return nil, err
	}
	if b.v.Rows > 0 {
		b.tell(b.v.Rows)
	}
	return b.g, b.ctx.Err()
}
