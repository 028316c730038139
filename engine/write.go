package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/chromad/chromad/internal/mutant"
	"github.com/chromad/chromad/wal"
)

// A write goes: validate → queue for the log (in the collection's order) →
// durable, with whatever else the committer finds queued → apply, in the
// same order → acknowledged. Writers of one collection are applied by one
// goroutine at a time, those of different collections in parallel.

// ticket is one write on its way.
type ticket struct {
	write   *writeEntry  // or
	del     *deleteEntry // or
	expire  *expireEntry //
	seen    *terms       // of a deletion: what is over was not there for its caller
	seq     uint64
	err     error
	deleted int
	done    chan struct{}
}

// pendingWrites are a collection's entries between log and memtable.
type pendingWrites struct {
	mu       sync.Mutex
	ready    []*ticket // durable or failed, waiting to be applied
	applying bool
	lows     []uint64      // of each entry in flight: its sequence number is not smaller
	dim      int           // dimension that an entry in flight will fix, 0: none
	idle     chan struct{} // closed while nothing is in flight
}

func (p *pendingWrites) init() {
	p.idle = make(chan struct{})
	close(p.idle)
}

func (p *pendingWrites) begin(end uint64, dim int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.lows) == 0 {
		p.idle = make(chan struct{})
	}
	p.lows = append(p.lows, end)
	if dim != 0 && p.dim == 0 {
		p.dim = dim
	}
}

// end tells that the first n entries are applied, or will never be.
func (p *pendingWrites) end(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(0, n)
}

// cancel takes back the latest begin.
func (p *pendingWrites) cancel() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(len(p.lows)-1, len(p.lows))
}

func (p *pendingWrites) remove(from, to int) {
	if p.lows = slices.Delete(p.lows, from, to); len(p.lows) == 0 {
		p.dim = 0
		close(p.idle)
	}
}

// low is a lower bound of the sequence numbers in flight, 0: there are none.
// It moves on under a load that never pauses, or the log could not.
func (p *pendingWrites) low() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.lows) == 0 {
		return 0
	}
	return p.lows[0]
}

func (p *pendingWrites) dimension() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dim
}

func (p *pendingWrites) whenIdle() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.idle
}

func (c *Collection) write(ctx context.Context, kind writeKind, recs []Record) error {
	return c.writeUnder(ctx, nil, kind, recs)
}

// writeUnder is write for who may meet the records of g only; nil: all.
func (c *Collection) writeUnder(ctx context.Context, g *Guarded, kind writeKind, recs []Record) error {
	return c.writeOn(ctx, g, kind, recs, nil)
}

// writeOn is writeUnder with the terms that an entry had which is written again.
func (c *Collection) writeOn(ctx context.Context, g *Guarded, kind writeKind, recs []Record, was *terms) error {
	if err := c.db.enterWrite(ctx); err != nil {
		return err
	}
	defer c.db.leave()
	if err := c.usable(); err != nil {
		return err
	}
	dim, size, err := checkRecords(recs, kind, &c.db.opts.Limits)
	if err == nil && was == nil && c.metric() == Cosine {
		err = checkLengths(recs)
	}
	if err != nil {
		return err
	}
	if len(recs) == 0 {
		return nil
	}
	if mutant.On(mutant.BatchSplit) && len(recs) > 1 {
		return errors.Join(c.writeUnder(ctx, g, kind, recs[:1]), c.writeUnder(ctx, g, kind, recs[1:]))
	}
	e := &writeEntry{collection: c.id, kind: kind, terms: was, records: cloneRecords(recs)}
	if err := c.db.room(ctx, c); err != nil {
		return err
	}
	t := &ticket{write: e, done: make(chan struct{})}
	for err = errKeeping; err == errKeeping; {
		k := c.keeping()
		e.rule, e.terms = nil, was
		more, refused := c.admit(ctx, g, k, e)
		if refused != nil {
			return refused
		}
		err = c.enqueue(ctx, t, k, dim, size+more)
	}
	if err == nil {
		err = t.wait(ctx)
	}
	if errors.Is(err, ErrDiskFull) {
		c.db.jobs.starve()
	}
	return err
}

// admit checks what can be refused before an entry is logged, by the rule of g
// and by the collection's keeping, and gives the entry what it is judged by when
// it is applied: more bounds the size of that.
func (c *Collection) admit(ctx context.Context, g *Guarded, k *keeping, e *writeEntry) (more int, err error) {
	if k != nil {
		e.terms = k.terms()
	}
	if k.expires() {
		if err := checkExpiry(e.records, k.key); err != nil {
			return 0, err
		}
	}
	if g != nil && g.rule != nil {
		if err := g.admit(ctx, e.kind, e.records, e.terms); err != nil {
			return 0, err
		}
		if e.kind != writeAdd || e.terms != nil {
			e.rule = g.rule
			more = g.size + binary.MaxVarintLen64
		}
	}
	if k != nil && k.held && e.kind == writeUpdate {
		return 0, c.heldError()
	}
	return more + e.terms.size(), nil
}

// errKeeping says that the collection's keeping was changed meanwhile: what it
// has refused or allowed counts no more.
var errKeeping = errors.New("the retention or hold was changed")

// enqueue encodes a ticket's entry and queues it for the log.
func (c *Collection) enqueue(ctx context.Context, t *ticket, k *keeping, dim, size int) error {
	e := t.write
	payload, term, err := c.sealEntry(e.append(c.db.entryBuffer(size)))
	if err != nil {
		return err
	}
	if err := c.writeMu.lock(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrBusy, context.Cause(ctx)) // a delete that looks for its records
	}
	defer c.writeMu.Unlock()
	defer func() { c.db.dropEntry(payload) }()
	if c.keeping() != k {
		return errKeeping
	}
	if err := c.checkDimension(dim); err != nil {
		return err
	}
	late := k.expires() && e.terms.at != k.clock() // what has expired since is not there
	if late {
		e.terms = k.terms()
	}
	if refused := breachAlone(e); k != nil && refused >= 0 { // k is nil where a log is repaired
		return &RuleError{Index: refused}
	}
	if late || term != c.sealing.now() { // or the key was changed meanwhile
		c.db.dropEntry(payload)
		if payload, _, err = c.sealEntry(e.append(c.db.entryBuffer(size))); err != nil {
			return err
		}
	}
	return c.submit(t, payload, dim)
}

// checkDimension is called with writeMu held, so that of writers racing to
// write the first record one decides and the others are told.
func (c *Collection) checkDimension(dim int) error {
	if dim == 0 {
		return nil
	}
	// In this order: what is in flight no more has been published.
	want := c.pending.dimension()
	if want == 0 {
		want = c.state.Load().dimension
	}
	if want == 0 || want == dim {
		return nil
	}
	return &DimensionError{Want: want, Got: dim}
}

// submit queues a ticket's entry for the log; writeMu is held.
func (c *Collection) submit(t *ticket, payload []byte, dim int) error {
	if err := c.usable(); err != nil {
		return err
	}
	if t.write != nil && t.write.kind == writeUpdate {
		dim = 0 // an update inserts nothing and so fixes nothing
	}
	c.pending.begin(c.db.log.End().Seq, dim)
	err := c.db.log.Append(payload, func(p wal.Position, err error) { c.committed(t, p, err) })
	if err != nil {
		c.pending.cancel()
		return logError(err)
	}
	c.db.wrote(len(payload))
	return nil
}

// committed is called by the log's committer, in the order of the log.
func (c *Collection) committed(t *ticket, p wal.Position, err error) {
	t.seq, t.err = p.Seq, logError(err)
	q := &c.pending
	q.mu.Lock()
	q.ready = append(q.ready, t)
	start := !q.applying
	q.applying = true
	q.mu.Unlock()
	if start {
		go c.drain()
	}
}

// drain applies what is ready until nothing is.
func (c *Collection) drain() {
	q := &c.pending
	for {
		q.mu.Lock()
		batch := q.ready
		q.ready = nil
		if len(batch) == 0 {
			q.applying = false
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		for err := c.applyBatch(batch); err != nil; err = c.applyBatch(batch) {
			c.db.report("apply", err, false)
			if !c.db.jobs.pause() {
				c.breakWith(err)
			}
		}
		// What in-flight entries pinned is in the memtable now.
		q.end(len(batch))
		for _, t := range batch {
			close(t.done)
		}
		c.scheduleFlush()
	}
}

// applyBatch applies tickets in order and publishes the result once.
//
// An error passes, and nothing is applied: the entries are durable, so the
// caller has to try again. What does not pass is in the tickets.
func (c *Collection) applyBatch(batch []*ticket) error {
	c.applyMu.Lock()
	defer c.applyMu.Unlock()
	if err := c.usable(); err != nil {
		failTickets(batch, err)
		return nil
	}
	before := c.mem.bytes
	a := c.newApplier()
	defer a.close()
	if err := a.open(); passes(err) {
		return err
	}
	for _, t := range batch {
		if t.err != nil {
			c.db.failed() // latches the store when the log has failed
			continue
		}
		if err := a.apply(t); err != nil {
			c.breakWith(err)
			failTickets(batch, c.usable()) // nothing of the batch is published
			c.forsake(before)
			return nil
		}
	}
	a.publish()
	c.db.memBytes.Add(c.mem.bytes - before)
	c.jobs.size.Store(c.mem.bytes)
	return nil
}

func failTickets(batch []*ticket, err error) {
	for _, t := range batch {
		if t.err == nil {
			t.err = err
		}
	}
}

func (a *applier) apply(t *ticket) (err error) {
	switch {
	case t.expire != nil:
		t.deleted, err = a.expire(t.seq, t.expire)
		return err
	case t.del != nil:
		t.deleted, err = a.delete(t.seq, t.del, t.seen)
		return err
	}
	refused, err := a.judge(t.write)
	if err != nil {
		return err
	}
	kept := -1
	if refused < 0 {
		if kept, err = a.judgeHold(t.write); err != nil {
			return err
		}
	}
	switch {
	case refused >= 0:
		t.err = &RuleError{Index: refused}
	case kept >= 0:
		t.err = a.c.heldError()
		t.err.(*HeldError).Index = kept
	default:
		return a.write(t.seq, t.write)
	}
	a.c.mem.touch(t.seq) // it is done with, like those that change something
	return nil
}

// wait returns when the write is applied. A context that ends first does not
// take the write back.
func (t *ticket) wait(ctx context.Context) error {
	select {
	case <-t.done:
		return t.err
	case <-ctx.Done():
	}
	select {
	case <-t.done:
		return t.err // both had happened
	default:
		return fmt.Errorf("%w: %w", ErrUnknown, context.Cause(ctx))
	}
}

// Delete removes the records of sel and returns how many there were. A
// selection without ids and filter removes nothing; with Limit the oldest
// matches go first. ErrHeld: the collection is under legal hold.
func (c *Collection) Delete(ctx context.Context, sel Selection) (int, error) {
	if err := c.db.enterWrite(ctx); err != nil {
		return 0, err
	}
	defer c.db.leave()
	if err := c.usable(); err != nil {
		return 0, err
	}
	if err := sel.check(); err != nil {
		return 0, err
	}
	if sel.IDs == nil && sel.Where == nil {
		return 0, nil
	}
	for i, id := range sel.IDs {
		if err := checkID(id, i, &c.db.opts.Limits); err != nil {
			return 0, err
		}
	}
	n, err := c.delete(ctx, sel)
	if errors.Is(err, ErrDiskFull) {
		c.db.spendReserve(forEntries)
		n, err = c.delete(ctx, sel)
	}
	return n, err
}

func (c *Collection) delete(ctx context.Context, sel Selection) (int, error) {
	t := &ticket{done: make(chan struct{})}
	if err := c.submitDelete(ctx, t, sel); err != nil || t.del == nil {
		return 0, err
	}
	if err := t.wait(ctx); err != nil {
		return 0, err
	}
	return t.deleted, nil
}

// submitDelete leaves t.del nil when there is nothing to delete.
func (c *Collection) submitDelete(ctx context.Context, t *ticket, sel Selection) error {
	if err := c.writeMu.lock(ctx); err != nil {
		return context.Cause(ctx)
	}
	defer c.writeMu.Unlock()
	k := c.keeping()
	if k != nil && k.held {
		return c.heldError()
	}
	if k.expires() {
		t.seen = k.terms()
	}
	ids := slices.Clone(sel.IDs)
	if sel.Where != nil || sel.Limit > 0 || sel.Offset > 0 {
		// Nothing may come between what the filter sees and the entry.
		select {
		case <-c.pending.whenIdle():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		var err error
		if ids, err = c.selectIDs(ctx, sel); err != nil {
			return err
		}
	}
	if len(ids) == 0 {
		return nil
	}
	t.del = &deleteEntry{collection: c.id, ids: ids}
	payload, _, err := c.sealEntry(t.del.append(c.db.entryBuffer(0)))
	if err != nil {
		t.del = nil
		return err
	}
	return c.submit(t, payload, 0)
}

func (c *Collection) selectIDs(ctx context.Context, sel Selection) ([]string, error) {
	v, err := c.visible(ctx)
	if err != nil {
		return nil, err
	}
	defer v.close()
	var ids []string
	for r, err := range v.get(ctx, sel, 0) {
		if err != nil {
			return nil, err
		}
		ids = append(ids, r.ID)
	}
	return ids, nil
}

// cloneRecords copies what the caller may change after the call, many fields
// to a piece of memory: records of one call mostly live and go together.
func cloneRecords(recs []Record) []Record {
	floats, texts := 0, 0
	for i := range recs {
		r := &recs[i]
		floats += len(r.Embedding)
		if r.Document != nil {
			texts++
		}
		if r.URI != nil {
			texts++
		}
	}
	vectors := make([]float32, 0, floats)
	strings := make([]string, 0, texts)
	text := func(t *string) *string {
		if t == nil {
			return nil
		}
		strings = append(strings, *t)
		return &strings[len(strings)-1]
	}
	out := make([]Record, len(recs))
	for i := range recs {
		r, to := &recs[i], &out[i]
		to.ID = r.ID
		if r.Embedding != nil {
			n := len(vectors)
			vectors = append(vectors, r.Embedding...)
			to.Embedding = vectors[n:len(vectors):len(vectors)]
		}
		to.Metadata = maps.Clone(r.Metadata) // values are immutable
		to.Document, to.URI = text(r.Document), text(r.URI)
	}
	return out
}
