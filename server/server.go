package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chromad/chromad/server/access"
	"github.com/chromad/chromad/server/audit"
	"github.com/chromad/chromad/server/limit"
	"github.com/chromad/chromad/server/privacy"
)

// Config says how a server behaves. The zero value of every field but Store
// is usable.
type Config struct {
	Store       Store
	Log         *slog.Logger      // nil: nothing is logged
	AllowReset  bool              // whether POST /api/v2/reset deletes everything
	CORSOrigins []string          // origins that browsers may call from; "*" is all of them
	TLS         *tls.Config       // nil: connections are in the clear
	Access      *access.Directory // who may do what; nil: everybody everything
	Users       *access.Keeper    // what Access comes from, for changing it; nil: not over the API
	Privacy     *privacy.Keeper   // what may be stored, and keys of pseudonyms; nil: everything, and none
	Limits      Limits
	Timeouts    Timeouts
	Bounds      *limit.Set // how much may be asked for from one address, by who needs no credential
	Admission   Admission
	Quotas      Quotas
	Audit       *audit.Log            // nil: nothing is recorded
	Metrics     func(b []byte) []byte // appends figures of others to GET /metrics; nil: there are none
}

// Server answers Chroma's API. It is safe for concurrent use.
type Server struct {
	store    Store
	log      *slog.Logger
	config   Config
	limits   Limits
	timeouts Timeouts
	router   *router
	threads  int    // what a configuration that names none gets as num_threads
	prefix   string // of the request ids that the server makes
	requests atomic.Uint64
	buffers  buffers
	vectors  vectorPool
	answered *requestMetrics
	load     load
	refusals refusals
	allotted allotted

	modify  sync.Mutex // reading, changing and writing back a collection's schema
	schemas schemaCache
}

// New makes a server for a store.
func New(config Config) *Server {
	log := config.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	limits, timeouts := config.Limits.withDefaults(), config.Timeouts.withDefaults()
	return &Server{
		store: config.Store, log: log, config: config,
		limits: limits, timeouts: timeouts, load: newLoad(config.Admission, limits, timeouts),
		router: newRouter(routes()), threads: runtime.NumCPU(),
		prefix:   strconv.FormatInt(time.Now().UnixNano(), 36) + "-",
		answered: newRequestMetrics(routes()),
	}
}

// Serve answers requests from l until ctx ends. Then it stops accepting, lets
// running requests finish within the drain timeout, and returns nil; requests
// that take longer are cut off.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	h := &http.Server{
		Handler:                      s,
		ReadHeaderTimeout:            s.timeouts.Header,
		IdleTimeout:                  s.timeouts.Idle,
		MaxHeaderBytes:               maxHeaderBytes,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		drain, cancel := context.WithTimeout(context.Background(), s.timeouts.Drain)
		defer cancel()
		err := h.Shutdown(drain)
		if errors.Is(err, context.DeadlineExceeded) {
			s.log.Warn("requests were cut off", "drain", s.timeouts.Drain.String())
			err = h.Close()
		}
		stopped <- err
	}()
	serve := h.Serve
	if s.config.TLS != nil {
		h.TLSConfig = s.config.TLS
		serve = func(l net.Listener) error { return h.ServeTLS(l, "", "") }
	}
	if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return <-stopped
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{s: s, w: w, r: r, start: time.Now(), id: s.requestID(r)}
	w.Header().Set("X-Request-Id", c.id)
	defer c.finish()
	if err := c.expectBody(); err != nil {
		c.fail(err)
		return
	}
	if s.cors(c) {
		return
	}
	p, values := s.router.find(sentPath(r))
	if c.pattern = p; p != nil {
		c.route = p.methods[r.Method]
	}
	if err := c.foreign(); err != nil {
		c.fail(c.audited(err))
		return
	}
	if err := c.enterAudit(c.authenticate()); err != nil {
		c.fail(err)
		return
	}
	if c.route == nil {
		c.answering(0)
		c.status = noRoute(w, p)
		return
	}
	if err := c.audited(c.run(values)); err != nil {
		c.fail(err)
		return
	}
	c.send()
}

// sentPath is the path as it was sent. EscapedPath alone is not: it encodes the
// decoded path anew when the client left a character bare that should be
// escaped, and then an escaped slash becomes a real one.
func sentPath(r *http.Request) string {
	if r.URL.RawPath != "" {
		return r.URL.RawPath
	}
	return r.URL.EscapedPath()
}

// run does what the route's row says.
func (c *call) run(values []string) (err error) {
	if c.vars, err = c.pattern.decode(values); err != nil {
		return err
	}
	if err := c.authorize(); err != nil {
		return err
	}
	if err := c.mayAudit(); err != nil {
		return err
	}
	if err := c.enter(); err != nil {
		return err
	}
	if c.route.body {
		if err := c.readBody(); err != nil {
			return err
		}
	}
	leave, err := c.admit()
	if err != nil {
		return err
	}
	defer leave()
	if err := c.route.handle(c.s, c); err != nil {
		return err
	}
	c.owe()
	return nil
}

// finish is the last station of every request: it answers a panic, lets the answer go,
// writes the line of the access log and gives buffers back.
func (c *call) finish() {
	if v := recover(); v != nil {
		if v == http.ErrAbortHandler {
			panic(v)
		}
		c.lent = nil // helpers that nobody has waited for may read there
		c.s.log.Error("panic", "request_id", c.id, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		if c.status == 0 {
			c.fail(c.audited(&apiError{status: http.StatusInternalServerError, kind: kindInternal, message: "internal error, request " + c.id}))
		}
	}
	c.settle()
	took := time.Since(c.start)
	c.s.answered.observe(c.pattern, c.route, c.status, took)
	defer c.release()
	c.deliver()
	if c.quiet {
		return
	}
	pattern, action := "", ""
	if c.pattern != nil {
		pattern = c.pattern.text
	}
	if c.route != nil {
		action = string(c.route.action)
	}
	level := slog.LevelInfo
	if c.status >= 500 && c.status != http.StatusNotImplemented {
		level = slog.LevelError
	}
	attrs := append(make([]slog.Attr, 0, 12), // room for all: this is done for every request
		slog.String("method", c.r.Method), slog.String("route", pattern), slog.String("action", action),
		slog.Int("status", c.status), slog.Duration("duration", took),
		slog.Int("bytes_in", len(c.body)), slog.Int("bytes_out", c.sent), slog.String("request_id", c.id),
	)
	if c.who != nil && c.who.Name != "" {
		attrs = append(attrs, slog.String("user", c.who.Name), slog.String("method_of_auth", c.who.Method))
		if c.who.Key != "" {
			attrs = append(attrs, slog.String("key", c.who.Key))
		}
	}
	if c.cause != nil {
		attrs = append(attrs, slog.String("error", c.cause.Error()))
	}
	c.s.log.LogAttrs(context.Background(), level, "request", attrs...)
}

// requestID is the id that the client sent, if it is short and plain, or a new one.
func (s *Server) requestID(r *http.Request) string {
	id := r.Header.Get("X-Request-Id")
	plain := len(id) > 0 && len(id) <= 128
	for i := 0; plain && i < len(id); i++ {
		plain = id[i] > ' ' && id[i] < 0x7f
	}
	if plain {
		return id
	}
	return s.prefix + strconv.FormatUint(s.requests.Add(1), 36)
}
