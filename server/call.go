package server

import (
	"cmp"
	"context"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/server/access"
	"github.com/chromad/chromad/server/limit"
	"github.com/chromad/chromad/server/privacy"
)

// call is one request on its way.
type call struct {
	s       *Server
	w       http.ResponseWriter
	r       *http.Request
	start   time.Time
	id      string
	pattern *pattern
	route   *route
	who     *access.Principal // nil: the request was refused before anybody asked
	view    *privacy.View     // what he sees of the collection's records; nil: everything
	vars    map[string]string // decoded path segments by name
	body    []byte
	read    bool // the whole body, which may be none

	parts    [][]byte // the answer's body
	media    string   // its type; "": JSON
	success  int      // status of a success that is not the route's usual one
	status   int      // 0: not answered yet
	sent     int      // bytes of the answer's body
	cause    error    // for the log
	of       string   // in whose name the request is counted
	pass     *limit.Pass
	held     int64 // bytes of body and answer that are counted
	answered int64 // those of the answer, while it grows
	rows     int   // records of the answer
	quiet    bool  // no line of the log is for this request alone
	borrowed []*[]byte
	lent     *vectors

	// For the audit log.
	act, subject string        // of an administrative act
	about        access.Target // what was decided about
	denied       string        // why it was refused
	touched      int64         // records that were written or deleted
	got          bool          // what was to be created was there
}

// buffer lends an empty buffer until the answer has been sent.
func (c *call) buffer() *[]byte { return c.bufferFor(0) }

// bufferFor is buffer where size bytes are expected.
func (c *call) bufferFor(size int64) *[]byte {
	b := c.s.buffers.get(size)
	c.borrowed = append(c.borrowed, b)
	return b
}

func (c *call) release() {
	for _, b := range c.borrowed {
		c.s.buffers.put(b)
	}
	c.borrowed, c.body, c.parts = nil, nil, nil
	c.s.vectors.put(c.lent)
	c.lent = nil
}

func (c *call) ctx() context.Context { return c.r.Context() }

// toTheEnd is ctx for changes of the catalog, which nobody takes back: a client
// that has closed its half of the connection may wait for the answer still.
func (c *call) toTheEnd() context.Context { return context.WithoutCancel(c.r.Context()) }

// deadline is until when the rest of the request must have arrived. It is for
// the body alone: left in place, it would end requests that take long to answer.
func (c *call) deadline(t time.Time) error {
	err := http.NewResponseController(c.w).SetReadDeadline(t)
	if errors.Is(err, http.ErrNotSupported) {
		return nil // not a connection
	}
	return err
}

// expectBody starts the clock for a body, on every route: net/http waits for
// what a client has announced before it takes the next request.
func (c *call) expectBody() error {
	c.read = c.r.ContentLength == 0
	if c.read {
		return nil
	}
	return c.deadline(time.Now().Add(c.s.timeouts.Body))
}

// leftover is how long what a client still sends is read when its answer goes
// out and nobody wants the body. A client that has sent it, or is about to, gets
// the answer whole: the end of a connection with bytes unread would take it
// away. One that never does holds the connection no longer than that.
const leftover = 500 * time.Millisecond

// dropBody lets the answer go out before a body that nobody has read, and
// ends the connection after it.
func (c *call) dropBody() {
	if c.read {
		return
	}
	c.w.Header().Set("Connection", "close")
	err := http.NewResponseController(c.w).EnableFullDuplex()
	if errors.Is(err, http.ErrNotSupported) {
		err = nil // HTTP/2, or not a connection
	}
	if err = errors.Join(err, c.deadline(time.Now().Add(leftover))); err != nil {
		c.cause = err
	}
}

// readBody reads the request's body under its limit.
func (c *call) readBody() error {
	limit := c.s.limits.BodyBytes
	if e := c.r.Header.Values("Content-Encoding"); len(e) > 0 && !strings.EqualFold(strings.Join(e, ","), "identity") {
		return &apiError{status: http.StatusUnsupportedMediaType, kind: kindChroma, message: "compressed request bodies are not accepted"}
	}
	if !isJSON(c.r.Header) {
		return &apiError{status: http.StatusUnsupportedMediaType, kind: kindChroma, message: "Expected request with `Content-Type: application/json`"}
	}
	if c.r.ContentLength > limit {
		return c.tooLarge()
	}
	buf := c.bufferFor(c.r.ContentLength)
	err := readAll(buf, http.MaxBytesReader(c.w, io.NopCloser(c.counted(c.r.Body)), limit), c.r.ContentLength)
	c.body = *buf
	if err == nil {
		c.read = true
		return c.deadline(time.Time{})
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return c.tooLarge()
	}
	if errors.Is(err, errMemory) {
		return err
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return &apiError{status: http.StatusRequestTimeout, kind: kindChroma, message: "the body did not arrive in time", cause: err}
	}
	return &apiError{status: http.StatusBadRequest, kind: kindInvalid, message: "the body ended early", cause: err}
}

func (c *call) tooLarge() error {
	return &apiError{status: http.StatusRequestEntityTooLarge, kind: kindChroma,
		message: "Payload too large: a body may have at most " + strconv.FormatInt(c.s.limits.BodyBytes, 10) + " bytes; send smaller batches"}
}

func isJSON(h http.Header) bool {
	values := h.Values("Content-Type")
	if len(values) == 0 || len(values) == 1 && values[0] == "application/json" { // what clients send
		return true
	}
	t, _, err := mime.ParseMediaType(values[0])
	return err == nil && len(values) == 1 &&
		(t == "application/json" || strings.HasPrefix(t, "application/") && strings.HasSuffix(t, "+json"))
}

// readAll appends r to buf. Room is made for what has arrived and as much
// again, never for what a header promises.
func readAll(buf *[]byte, r io.Reader, length int64) error {
	const least = 64 << 10
	b := *buf
	defer func() { *buf = b }()
	for {
		if len(b) == cap(b) {
			room := max(2*cap(b), least)
			if length >= int64(len(b)) {
				room = min(room, int(length)+1)
			}
			b = append(make([]byte, 0, max(room, len(b)+1)), b...)
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// scan begins to read the body as a JSON object that kind names.
func (c *call) scan(kind string, field func(s *scanner, name string)) error {
	s := &scanner{data: c.body}
	s.object("struct "+kind, func(name string) { field(s, name) })
	s.end()
	if s.err != nil {
		return unreadable(s)
	}
	return nil
}

// require refuses a body without a field that has no default.
func (c *call) require(present bool, field string) error {
	if present {
		return nil
	}
	s := &scanner{data: c.body, pos: len(c.body)}
	s.shape("missing field `" + field + "`")
	return unreadable(s)
}

// place is the database that the path names.
func (c *call) place() (Place, error) {
	p := Place{Tenant: c.vars["tenant"], Database: c.vars["database"]}
	if len(p.Database) < 3 {
		return p, invalid("database name must be at least 3 characters")
	}
	return p, nil
}

// collection finds the collection whose id the path names, as far as the
// principal may do to its records what the route does.
func (c *call) collection() (Records, error) {
	found, rule, ruled, err := c.find()
	if err != nil || !ruled {
		return found, err
	}
	return found.Under(rule)
}

// whole is collection for what is done to all of it.
func (c *call) whole() (Collection, error) {
	found, _, ruled, err := c.find()
	if err == nil && ruled {
		return nil, c.forbidden(c.route.action)
	}
	return found, err
}

// find looks the collection of the path up, and the rule about its records.
func (c *call) find() (found Collection, rule *filter.Expr, ruled bool, err error) {
	at, err := c.place()
	if err != nil {
		return nil, nil, false, err
	}
	id, err := engine.ParseID(c.vars["collection"])
	if err != nil {
		return nil, nil, false, invalid("Collection ID is not a valid UUIDv4")
	}
	absent := func() error { return notFound("Collection [%s] does not exist.", id) }
	found, err = c.s.store.CollectionByID(c.ctx(), at, id)
	if errors.Is(err, engine.ErrNotFound) {
		err = absent()
	}
	if err != nil {
		return nil, nil, false, err
	}
	if c.s.config.Audit != nil {
		c.met(access.Target{Tenant: at.Tenant, Database: at.Database, Collection: found.Info().Name})
	}
	if all := c.who.MayAll(c.route.action, at.Tenant, at.Database); !all || c.who.Ruled() || c.who.Fielded() {
		name := found.Info().Name // once: it may change, and both decisions are about the same
		if err := c.hidden(name, absent()); err != nil {
			return nil, nil, false, err
		}
		target := access.Target{Tenant: at.Tenant, Database: at.Database, Collection: name}
		if c.who.Ruled() {
			rule, ruled = c.who.Rule(c.route.action, target)
		}
		if ruled {
			rule, err = c.ruleAsStored(id, rule)
		}
		if err == nil && c.who.Fielded() {
			err = c.look(target, id)
		}
		if err != nil {
			return nil, nil, false, err
		}
	}
	return found, rule, ruled, nil
}

// query reads the parameters of the query string that a route knows.
func (c *call) parameter(name string) (value string, given bool, err error) {
	values, err := parseQuery(c.r.URL.RawQuery)
	if err != nil {
		return "", false, err
	}
	v := values[name]
	if len(v) > 1 {
		return "", false, invalid("Failed to deserialize query string: duplicate field `%s`", name)
	}
	if len(v) == 0 {
		return "", false, nil
	}
	return v[0], true, nil
}

// page reads limit and offset; a limit of -1 is none.
func (c *call) page() (limit, offset int, err error) {
	limit = -1
	for _, p := range []struct {
		name string
		to   *int
	}{{"limit", &limit}, {"offset", &offset}} {
		v, given, err := c.parameter(p.name)
		if err != nil {
			return 0, 0, err
		}
		if !given {
			continue
		}
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil {
			return 0, 0, invalid("Failed to deserialize query string: %s: invalid digit found in string", p.name)
		}
		*p.to = int(n)
	}
	return limit, offset, nil
}

// json makes body the answer.
func (c *call) json(body ...[]byte) { c.parts = body }

// done is the answer of routes that have nothing to say.
func (c *call) done() error {
	c.json([]byte("{}"))
	return nil
}

// send sends the answer.
func (c *call) send() {
	c.write(cmp.Or(c.success, c.route.success))
}

// fail sends an error instead of what the handler may have prepared.
func (c *call) fail(err error) {
	e, reason := overload(err)
	if e == nil {
		e = toAPI(c.heldFrom(err))
		reason = e.refused
	}
	if reason != "" {
		c.refuse(reason)
	}
	switch {
	case e.status == http.StatusBadRequest, e.status == http.StatusNotFound, e.status == http.StatusConflict:
		// The cause repeats what was sent, which the log does not. The client is told.
	case e.cause != nil:
		c.cause = e.cause
	case e.status >= 500:
		c.cause = e
	}
	b := c.buffer()
	*b = append(*b, `{"error":`...)
	*b = appendText(*b, e.kind)
	*b = append(*b, `,"message":`...)
	*b = append(appendText(*b, e.message), '}')
	c.w.Header().Set("Chroma-Trace-Id", c.id)
	if e.after > 0 || e.status == http.StatusTooManyRequests {
		seconds := (max(e.after, time.Second) + time.Second - 1) / time.Second
		c.w.Header().Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
	}
	c.media = ""
	c.json(*b)
	c.write(e.status)
}

// answering prepares for an answer with a body of so many bytes. A client that takes it
// too slowly is cut off; the error of a write is the connection's end and nobody is
// left to tell.
func (c *call) answering(size int) {
	allowed := c.s.timeouts.Write + time.Duration(size/slowestReader)*time.Second
	if err := http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(allowed)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		c.cause = err
	}
	c.dropBody()
}

func (c *call) write(status int) {
	size := 0
	for _, p := range c.parts {
		size += len(p)
	}
	c.answering(size)
	h := c.w.Header()
	h.Set("Content-Type", cmp.Or(c.media, "application/json"))
	h.Set("Content-Length", strconv.Itoa(size))
	c.status = status
	c.w.WriteHeader(status)
	if c.r.Method == http.MethodHead {
		return
	}
	for _, p := range c.parts {
		n, err := c.w.Write(p)
		c.sent += n
		if err != nil {
			c.cause = err
			return
		}
	}
}

// deliver sends what the connection has kept of the answer, which has a status, so that
// nobody waits for what comes after it, the line of the log. In HTTP/2, where the frame
// that ends an answer would have to go alone, it waits.
func (c *call) deliver() {
	if c.r.ProtoMajor != 1 {
		return
	}
	if err := http.NewResponseController(c.w).Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) && c.cause == nil {
		c.cause = err
	}
}
