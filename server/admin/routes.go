package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server/access"
	"github.com/chromad/chromad/server/audit"
)

// Store is what is administered: an engine.DB.
type Store interface {
	Stats() engine.Stats
	Err() error
	Generation() uint64
	KeyInfo(ctx context.Context) (engine.KeyInfo, error)
	RotateKeys(ctx context.Context, progress func(engine.RotateProgress)) error
	Compact(ctx context.Context) error
	EraseNow(ctx context.Context, progress func(engine.EraseProgress)) error
	Receipts(ctx context.Context) iter.Seq2[*engine.Receipt, error]
	PublicKey() ([]byte, error)
	Keeper
}

// Admin answers. It is safe for concurrent use.
type Admin struct {
	store Store
	who   Access
	about Status
	mux   *http.ServeMux
	jobs  jobs
	audit *audit.Log // nil: nothing is recorded
}

// Access is who may use the server, and the changing of it: an access.Keeper.
type Access interface {
	Policy(ctx context.Context) (*access.Policy, error)
	Run(ctx context.Context, c access.Command) (access.Result, error)
}

// New makes an Admin of a store and of who may use it. about holds what only the caller knows. Work
// ends with ctx. nil log: nothing is logged.
func New(ctx context.Context, store Store, who Access, about Status, log *slog.Logger) *Admin {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	a := &Admin{store: store, who: who, about: about, mux: http.NewServeMux(), jobs: jobs{ctx: ctx, log: log, running: map[string]*job{}}}
	a.mux.HandleFunc("GET /admin/v1/status", a.status)
	a.mux.HandleFunc("GET /admin/v1/keys", a.keys)
	a.work("POST /admin/v1/keys/rotate", "rotate keys", func(ctx context.Context, tell func(Line)) error {
		return a.worked(ctx, "keys:rotate", func() error {
			return store.RotateKeys(ctx, func(p engine.RotateProgress) { tell(Rotated(p)) })
		})
	})
	a.work("POST /admin/v1/compact", "compact", func(ctx context.Context, _ func(Line)) error {
		return a.worked(ctx, "store:compact", func() error { return store.Compact(ctx) })
	})
	a.work("POST /admin/v1/erase", "erase", func(ctx context.Context, tell func(Line)) error {
		return a.worked(ctx, "store:erase", func() error {
			return store.EraseNow(ctx, func(p engine.EraseProgress) { tell(Erased(p)) })
		})
	})
	a.mux.HandleFunc("GET /admin/v1/receipts", a.receipts)
	a.mux.HandleFunc("GET /admin/v1/access", a.policy)
	a.mux.HandleFunc("POST /admin/v1/access", a.change)
	a.mux.HandleFunc("GET /admin/v1/retention", a.listRetention)
	a.mux.HandleFunc("POST /admin/v1/retention", a.changeRetention)
	return a
}

// Wait lets no more work begin and returns when what has begun has ended,
// which it does soon after the context of New has.
func (a *Admin) Wait() { a.jobs.wait() }

// ServeHTTP answers one request.
func (a *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// No request has parameters, and one that nobody knows may ask for more
	// than is done. Some have a body.
	body := r.Method == http.MethodPost && slices.Contains(withBody, strings.TrimPrefix(r.URL.Path, "/admin/v1/"))
	if r.URL.RawQuery != "" || r.ContentLength != 0 && !body {
		fail(w, http.StatusBadRequest, errors.New("parameters and bodies are not known here"))
		return
	}
	a.audited(w, r)
}

// withBody are the requests that have a body.
var withBody = []string{"access", "retention", "privacy", "privacy/reveal", "audit", "audit/verify"}

func (a *Admin) status(w http.ResponseWriter, _ *http.Request) {
	s, stats := a.about, a.store.Stats()
	s.Generation, s.Running = a.store.Generation(), a.jobs.names()
	if err := a.store.Err(); err != nil {
		s.Failed = err.Error()
	}
	s.Collections, s.Records, s.Segments = stats.Collections, stats.Records, stats.Segments
	s.SegmentBytes, s.LogBytes = stats.SegmentBytes, stats.LogBytes
	answer(w, http.StatusOK, s)
}

func (a *Admin) keys(w http.ResponseWriter, r *http.Request) {
	info, err := a.store.KeyInfo(r.Context())
	if err != nil {
		fail(w, http.StatusConflict, err)
		return
	}
	answer(w, http.StatusOK, KeysOf(info))
}

// work adds a route whose work is watched by who asks for it.
func (a *Admin) work(pattern, name string, do func(ctx context.Context, tell func(Line)) error) {
	a.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		j, joined := a.jobs.start(name, do)
		if j == nil {
			fail(w, http.StatusServiceUnavailable, errors.New("the server is stopping"))
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		out, flush := json.NewEncoder(w), http.NewResponseController(w)
		see := func(l Line) error { return errors.Join(out.Encode(l), flush.Flush()) }
		if see(Line{Event: Began, Joined: joined}) != nil {
			return
		}
		// An error: the caller has left. The work goes on.
		_ = j.watch(r.Context(), func(l Line) error {
			if l.Event == Began {
				return nil
			}
			return see(l)
		})
	})
}

func answer(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		status, text = http.StatusInternalServerError, fmt.Appendf(nil, `{"error":%q}`, err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // the caller has left
}

func fail(w http.ResponseWriter, status int, err error) {
	answer(w, status, struct {
		Error string `json:"error"`
	}{err.Error()})
}
