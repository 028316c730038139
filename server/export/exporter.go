package export

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chromad/chromad/server/audit"
)

// Sender brings messages to one target. Send is called by one goroutine, and
// again with the same messages after an error.
type Sender interface {
	Send(ctx context.Context, batch []Message) error
	Close() error
}

// Rejected is an error of Send that trying again does not change: the target has
// refused what these messages are.
type Rejected struct{ Err error }

func (r *Rejected) Error() string { return "rejected: " + r.Err.Error() }
func (r *Rejected) Unwrap() error { return r.Err }

// Partly is an error of Send: some messages were taken, and others never will be.
type Partly struct {
	Lost int
	Err  error
}

func (p *Partly) Error() string { return fmt.Sprintf("%d messages: %s", p.Lost, p.Err) }
func (p *Partly) Unwrap() error { return p.Err }

// Later is an error of Send with the time before which the target does not want
// to be asked again.
type Later struct {
	After time.Duration
	Err   error
}

func (l *Later) Error() string { return l.Err.Error() }
func (l *Later) Unwrap() error { return l.Err }

// Options says what an exporter sends, and how much it keeps. Zero fields take
// the defaults.
type Options struct {
	Name   string // of the target, in metrics and the log
	Sender Sender
	Events bool
	Kinds  []audit.Kind // of events; none: all
	Alerts bool
	Queue  int64         // bytes of messages that wait; 16 MiB
	Batch  int           // most messages of one Send; 500
	Linger time.Duration // how long the first message of a batch waits for others
	Log    *slog.Logger
}

const (
	defaultQueue = 16 << 20
	defaultBatch = 500
	firstPause   = time.Second
	longestPause = time.Minute
	longestLater = 5 * time.Minute
	closingPause = 250 * time.Millisecond
	sendTimeout  = 30 * time.Second
	tellEvery    = time.Minute
)

// item is a message as it waits: events are encoded by the exporter's goroutine,
// not by that of a request.
type item struct {
	event audit.Event
	alert *Message
}

// size estimates the memory of an item.
func (i *item) size() int64 {
	const fixed = 320
	if i.alert != nil {
		return fixed + int64(len(i.alert.JSON)) + int64(len(i.alert.Text))
	}
	e := &i.event
	return fixed + int64(len(e.Principal)+len(e.Address)+len(e.Tenant)+len(e.Database)+len(e.Collection)+len(e.Subject)+len(e.Request)+len(e.Reason)+len(e.Key))
}

// Exporter is the queue before a target. Its methods are safe for concurrent
// use and never wait.
type Exporter struct {
	o      Options
	ctx    context.Context // of every Send; ended by cancel
	cancel context.CancelFunc
	wake   chan struct{}
	close  chan struct{} // closed by Close
	done   chan struct{} // closed when the goroutine has ended

	mu     sync.Mutex
	queue  []item
	bytes  int64
	closed bool

	sent, dropped, failures atomic.Int64
	told                    time.Time // when a failure was logged last; of the goroutine
	toldDropped             int64
	down                    bool
	chance                  *rand.Rand
}

// Start starts an exporter. Close ends it.
func Start(o Options) *Exporter {
	if o.Queue <= 0 {
		o.Queue = defaultQueue
	}
	if o.Batch <= 0 {
		o.Batch = defaultBatch
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	seed := fnv.New64a()
	fmt.Fprint(seed, o.Name)
	ctx, cancel := context.WithCancel(context.Background())
	x := &Exporter{o: o, ctx: ctx, cancel: cancel, wake: make(chan struct{}, 1), close: make(chan struct{}), done: make(chan struct{}),
		chance: rand.New(rand.NewPCG(seed.Sum64(), uint64(time.Now().UnixNano())))}
	go x.run()
	return x
}

// Event takes an event. One that the target does not want, or has no room for,
// is not kept.
func (x *Exporter) Event(e audit.Event) {
	if x.o.Events && (len(x.o.Kinds) == 0 || slices.Contains(x.o.Kinds, e.Kind)) {
		x.put(item{event: e})
	}
}

// Alert takes an alert.
func (x *Exporter) Alert(m Message) {
	if x.o.Alerts {
		x.put(item{alert: &m})
	}
}

func (x *Exporter) put(i item) {
	n := i.size()
	x.mu.Lock()
	room := !x.closed && x.bytes+n <= x.o.Queue
	if room {
		x.queue = append(x.queue, i)
		x.bytes += n
	}
	x.mu.Unlock()
	if !room {
		x.dropped.Add(1)
		return
	}
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// take removes the next batch from the queue.
func (x *Exporter) take() []item {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := min(len(x.queue), x.o.Batch)
	batch := slices.Clone(x.queue[:n])
	x.queue = slices.Delete(x.queue, 0, n)
	for i := range batch {
		x.bytes -= batch[i].size()
	}
	return batch
}

// full reports whether a batch is complete, so that nothing need be waited for.
func (x *Exporter) full() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.queue) >= x.o.Batch
}

// closing reports whether Close was called.
func (x *Exporter) closing() bool {
	select {
	case <-x.close:
		return true
	default:
		return false
	}
}

func (x *Exporter) run() {
	defer close(x.done)
	for {
		select {
		case <-x.wake:
		case <-x.close:
		}
		x.linger()
		for {
			batch := x.take()
			if len(batch) == 0 || x.ctx.Err() != nil {
				x.dropped.Add(int64(len(batch)))
				break
			}
			x.deliver(encode(batch))
		}
		if x.closing() { // nothing comes after it, and the queue is empty
			return
		}
	}
}

// linger waits for the company of a first message.
func (x *Exporter) linger() {
	if x.o.Linger <= 0 {
		return
	}
	timer := time.NewTimer(x.o.Linger)
	defer timer.Stop()
	for !x.full() {
		select {
		case <-x.wake:
		case <-timer.C:
			return
		case <-x.close:
			return
		}
	}
}

func encode(batch []item) []Message {
	out := make([]Message, 0, len(batch)) // of a batch, which is bounded
	for _, i := range batch {
		if i.alert != nil {
			out = append(out, *i.alert)
		} else if m, err := FromEvent(i.event); err == nil { // it was encoded for the log before
			out = append(out, m)
		}
	}
	return out
}

// deliver sends a batch until it is taken, rejected, or the time that Close
// gives is over.
func (x *Exporter) deliver(batch []Message) {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		ctx, cancel := context.WithTimeout(x.ctx, sendTimeout)
		err := x.o.Sender.Send(ctx, batch)
		cancel()
		if err == nil {
			x.sent.Add(int64(len(batch)))
			x.recovered()
			return
		}
		x.failures.Add(1)
		if p, ok := errors.AsType[*Partly](err); ok {
			x.sent.Add(int64(len(batch) - p.Lost))
			x.dropped.Add(int64(p.Lost))
			x.failed(err)
			return
		}
		_, rejected := errors.AsType[*Rejected](err)
		x.failed(err)
		if rejected || !x.wait(err, pause) {
			x.dropped.Add(int64(len(batch)))
			return
		}
	}
}

// wait waits before the next attempt: longer each time, and never as long as
// others that failed at the same moment.
func (x *Exporter) wait(err error, pause time.Duration) (again bool) {
	pause = pause/2 + time.Duration(x.chance.Int64N(int64(pause/2)))
	if l, ok := errors.AsType[*Later](err); ok {
		pause = max(pause, min(l.After, longestLater))
	}
	closing := x.close
	if x.closing() {
		pause, closing = min(pause, closingPause), nil
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-closing:
	case <-x.ctx.Done():
	}
	return x.ctx.Err() == nil
}

// failed logs the first failure, and then one a minute.
func (x *Exporter) failed(err error) {
	now := time.Now()
	if x.down && now.Sub(x.told) < tellEvery {
		return
	}
	x.down, x.told = true, now
	dropped := x.dropped.Load()
	x.o.Log.Warn("export failed; it is tried again", "target", x.o.Name, "error", err.Error(), "dropped", dropped-x.toldDropped)
	x.toldDropped = dropped
}

func (x *Exporter) recovered() {
	if !x.down {
		return
	}
	x.down = false
	dropped := x.dropped.Load()
	x.o.Log.Info("export works again", "target", x.o.Name, "dropped", dropped-x.toldDropped)
	x.toldDropped = dropped
}

// Close takes nothing more, sends what waits, and gives up when ctx ends.
func (x *Exporter) Close(ctx context.Context) error {
	x.mu.Lock()
	again := x.closed
	x.closed = true
	x.mu.Unlock()
	if again {
		return nil
	}
	close(x.close)
	stop := context.AfterFunc(ctx, x.cancel)
	<-x.done
	stop()
	x.cancel()
	x.mu.Lock()
	left := len(x.queue)
	x.queue, x.bytes = nil, 0
	x.mu.Unlock()
	x.dropped.Add(int64(left))
	if lost := x.dropped.Load() - x.toldDropped; lost > 0 {
		x.o.Log.Warn("export ended before all was sent", "target", x.o.Name, "dropped", lost)
	}
	return x.o.Sender.Close()
}
