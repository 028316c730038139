package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chromad/chromad/server/access"
	"github.com/chromad/chromad/server/limit"
)

// Admission says how much is done at a time. Zero fields take the defaults.
type Admission struct {
	Reads  int   // requests that read: three for two processors
	Writes int   // requests that write, which wait for the disk together: 32, or eight for a processor
	Memory int64 // bytes of bodies and answers of all requests under way: 1 GiB, four bodies at least
}

// smallBody is what is read before it is known whether the request finds a
// place: the connection can be kept then, which is cheaper than a new one.
const smallBody = 64 << 10

// Of what may wait: as many of one client as ordinary programs have threads
// never meet a refusal, and a queue that empties again takes bursts.
const (
	ordinaryQueue = 64
	longestQueue  = 1024
	maxLimited    = 10_000 // principals with buckets
)

// load is what keeps a server on its feet.
type load struct {
	reads, writes *limit.Gate
	memory        *limit.Budget
	rates         *limit.Table
}

func newLoad(a Admission, l Limits, t Timeouts) load {
	processors := runtime.GOMAXPROCS(0)
	setDefault(&a.Reads, usualReads(processors))
	setDefault(&a.Writes, max(32, 8*processors))
	setDefault(&a.Memory, 1<<30)
	gate := func(places int) *limit.Gate {
		return limit.NewGate(limit.GateOptions{Places: places, Ordinary: ordinaryQueue, Queue: longestQueue, Patience: t.Busy})
	}
	return load{reads: gate(a.Reads), writes: gate(a.Writes), memory: limit.NewBudget(max(a.Memory, 4*l.BodyBytes)), rates: limit.NewTable(maxLimited)}
}

// usualReads is how many requests read at a time: those that all processors
// are busy with, and some more for when one of them has to wait. Measured on 2
// processors with 32 clients, 3 and 4 serve more than 2, and 8 slow each other down.
func usualReads(processors int) int { return processors + max(1, processors/2) }

// gate is where requests with the action wait for their turn; nil: they need
// nothing of the engine but its figures, and are answered however busy it is.
func (l *load) gate(a access.Action) *limit.Gate {
	switch a {
	case access.Public, access.Identify, access.RotateOwn, access.Metrics, access.ReadAccess, access.WriteAccess:
		return nil
	case access.Get, access.Query, access.Search, access.Count, access.GetTenant, access.GetDatabase, access.ListDatabases,
		access.ListCollections, access.CountCollections, access.GetCollection:
		return l.reads
	}
	return l.writes
}

// account is in whose name the request is counted: a user, or the address of
// who need not say who he is.
func (c *call) account() string {
	switch {
	case c.who == nil || c.who.Name == "":
		return "address " + limit.Prefix(c.r.RemoteAddr)
	case c.who.Method == "token":
		return "token " + c.who.Name // of another authority: the same name may be somebody else's
	}
	return "user " + c.who.Name
}

// enter counts the request, and refuses it before its body is read where that
// can be known.
func (c *call) enter() (err error) {
	if c.route.action == access.Public {
		return nil
	}
	set := c.who.Limits
	if c.who.Name == "" {
		set = c.s.config.Bounds
	}
	c.of = c.account()
	if c.pass, err = c.s.load.rates.Enter(c.of, set, string(c.route.action), max(c.r.ContentLength, 0)); err != nil {
		return err
	}
	g := c.s.load.gate(c.route.action)
	if c.route.body && g != nil && (c.r.ContentLength < 0 || c.r.ContentLength > smallBody) {
		return g.Full(c.of)
	}
	return nil
}

// admit waits for the request's turn. leave ends it: before the answer is
// sent, which can take as long as the client likes.
func (c *call) admit() (leave func(), err error) {
	if c.r.ContentLength < 0 {
		if err := c.pass.Charge(0, int64(len(c.body))); err != nil {
			return nil, err
		}
	}
	g := c.s.load.gate(c.route.action)
	if g == nil {
		return func() {}, nil
	}
	if err := c.hold(0); err != nil {
		return nil, err
	}
	place, err := g.Enter(c.ctx(), c.of)
	return place.Leave, err
}

// errMemory is the answer to a request for whose body there is no room.
var errMemory = errors.New("too many bodies and answers are in memory")

// hold counts n bytes of the body, until the request ends.
func (c *call) hold(n int64) error {
	if !c.s.load.memory.Hold(c.of, n) {
		return errMemory
	}
	c.held += n
	return nil
}

// errAnswer is the answer to a request whose answer finds no room, however long
// it waits.
var errAnswer = errors.New("the answer is larger than what one user may have in memory: ask for less at a time, by limit and offset, n_results, fewer vectors, or fewer fields in include")

// grow counts what the answer has grown by, while it is made: what is counted
// when it is whole has been allocated.
func (c *call) grow(n int64) error {
	err := c.hold(n)
	switch {
	case err == nil:
		c.answered += n
	case c.held+n > c.s.load.memory.Share():
		return errAnswer
	}
	return err
}

// counted is the body, of which every piece is counted before it is kept. What
// a header promises is not: a client that sends nothing takes nothing.
func (c *call) counted(body io.Reader) io.Reader { return &countedBody{body, c} }

type countedBody struct {
	io.Reader
	c *call
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if n > 0 {
		if e := b.c.hold(int64(n)); e != nil {
			return n, e
		}
	}
	return n, err
}

// charge counts rows of the body before anything is done with them.
func (c *call) charge(rows int) error { return c.pass.Charge(int64(rows), 0) }

// owe counts the answer, which is in memory until it has been sent, as far as
// it was not counted while it grew.
func (c *call) owe() {
	size := int64(0)
	for _, p := range c.parts {
		size += int64(len(p))
	}
	c.s.load.memory.Force(c.of, size-c.answered)
	c.held += size - c.answered
	c.pass.Owe(int64(c.rows), size)
}

// settle gives back what the request held.
func (c *call) settle() {
	c.pass.Done()
	if c.held > 0 {
		c.s.load.memory.Release(c.of, c.held)
		c.held = 0
	}
}

// overload maps what was refused because of how much is asked to an answer,
// with the time after which asking again can succeed. Reason is for the
// metrics; "": the error is another one.
func overload(err error) (answer *apiError, reason string) {
	if r, ok := errors.AsType[*limit.Refused](err); ok {
		return &apiError{status: http.StatusTooManyRequests, kind: kindChroma, message: "Rate limit exceeded: " + r.Error(), after: r.After}, r.Limit
	}
	if b, ok := errors.AsType[*limit.Busy](err); ok {
		return &apiError{status: http.StatusServiceUnavailable, kind: kindInternal, message: "the server is busy; nothing was done, try again", after: b.After}, "busy"
	}
	if errors.Is(err, errMemory) {
		return &apiError{status: http.StatusServiceUnavailable, kind: kindInternal, message: "the server is busy: " + errMemory.Error() + "; nothing was done, try again", after: time.Second}, "memory"
	}
	if errors.Is(err, errAnswer) {
		return &apiError{status: http.StatusUnprocessableEntity, kind: kindChroma, message: errAnswer.Error()}, "memory"
	}
	return nil, ""
}

// refusalReasons are the reasons in the metrics.
var refusalReasons = [...]string{"requests", "rows", "bytes", "concurrent", "failures", "quota", "busy", "memory"}

// refusals counts what was refused, and logs it without a flood: a line for
// the first, and then one a second at most.
type refusals struct {
	total [len(refusalReasons)]atomic.Int64

	mu     sync.Mutex
	logged [len(refusalReasons)]time.Time
	since  [len(refusalReasons)]int64 // the total that was logged
}

func (f *refusals) count(reason string) (total int64, log bool) {
	for i, r := range refusalReasons {
		if r != reason {
			continue
		}
		n := f.total[i].Add(1)
		f.mu.Lock()
		defer f.mu.Unlock()
		if time.Since(f.logged[i]) < time.Second {
			return 0, false
		}
		n, f.since[i] = n-f.since[i], n
		f.logged[i] = time.Now()
		return n, true
	}
	return 0, false
}

// refuse counts an error that is about how much is asked, and makes the
// request's line in the log one for all that were refused lately.
func (c *call) refuse(reason string) {
	n, log := c.s.refusals.count(reason)
	c.quiet = true
	if log {
		c.s.log.LogAttrs(context.Background(), slog.LevelWarn, "requests refused", slog.String("reason", reason), slog.Int64("count", n),
			slog.String("account", c.account()), slog.String("request_id", c.id))
	}
}

// appendLoad adds the metrics of all this.
func (s *Server) appendLoad(b []byte) []byte {
	b = appendFamily(b, "chromad_requests_refused_total", "counter", "Requests that were refused because of how much was asked, by reason.")
	for i, reason := range refusalReasons {
		b = appendSample(b, `chromad_requests_refused_total{reason="`+reason+`"}`, float64(s.refusals.total[i].Load()))
	}
	reads, writes := s.load.reads.Stats(), s.load.writes.Stats()
	overloaded := func(g limit.GateStats) float64 {
		if g.Overloaded {
			return 1
		}
		return 0
	}
	for _, m := range []struct {
		name, kind, help string
		value            func(g limit.GateStats) float64
	}{
		{"running", "gauge", "Requests that are worked on.", func(g limit.GateStats) float64 { return float64(g.Running) }},
		{"waiting", "gauge", "Requests that wait for their turn.", func(g limit.GateStats) float64 { return float64(g.Waiting) }},
		{"overloaded", "gauge", "1 while the queue is kept short because it had become a standing one.", overloaded},
		{"admitted_total", "counter", "Requests whose turn came.", func(g limit.GateStats) float64 { return float64(g.Admitted) }},
		{"refused_total", "counter", "Requests that found the queue too long, or waited too long in it.", func(g limit.GateStats) float64 { return float64(g.Refused) }},
		{"left_total", "counter", "Requests whose client left while they waited.", func(g limit.GateStats) float64 { return float64(g.Left) }},
		{"wait_seconds_total", "counter", "Time that admitted requests waited.", func(g limit.GateStats) float64 { return g.Waited.Seconds() }},
	} {
		b = appendFamily(b, "chromad_admission_"+m.name, m.kind, m.help)
		b = appendSample(b, "chromad_admission_"+m.name+`{of="reads"}`, m.value(reads))
		b = appendSample(b, "chromad_admission_"+m.name+`{of="writes"}`, m.value(writes))
	}
	b = appendFamily(b, "chromad_body_bytes", "gauge", "Bytes of bodies and answers of requests under way.")
	b = appendSample(b, "chromad_body_bytes", float64(s.load.memory.Used()))
	b = appendFamily(b, "chromad_limited_accounts", "gauge", "Users and addresses whose requests are being counted.")
	return appendSample(b, "chromad_limited_accounts", float64(s.load.rates.Len()))
}

func appendSample(b []byte, series string, value float64) []byte {
	b = append(append(b, series...), ' ')
	return append(strconv.AppendFloat(b, value, 'g', -1, 64), '\n')
}
