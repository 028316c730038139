package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/internal/strict"
	"github.com/chromad/chromad/server/audit"
)

// AuditStore is the part of a store that keeps the audit log.
type AuditStore interface {
	AuditRecords(ctx context.Context, from uint64) iter.Seq2[engine.AuditRecord, error]
	AuditEnd(ctx context.Context) (uint64, error)
	VerifyAudit(ctx context.Context, expect engine.AuditExpect) (*engine.AuditReport, error)
}

// AuditQuery asks for lines of the audit log.
type AuditQuery struct {
	audit.Query
	Tail  uint64 `json:"tail,omitempty"`  // of the last so many records only
	Limit int    `json:"limit,omitempty"` // lines; 0: all
}

// AuditLines yields the lines that a query asks for, the oldest first.
func AuditLines(ctx context.Context, store AuditStore, q AuditQuery) iter.Seq2[audit.Line, error] {
	return func(yield func(audit.Line, error) bool) {
		if q.Tail > 0 {
			end, err := store.AuditEnd(ctx)
			if err != nil {
				yield(audit.Line{}, err)
				return
			}
			if end > q.Tail {
				q.After = max(q.After, end-q.Tail)
			}
		}
		n := 0
		for r, err := range store.AuditRecords(ctx, q.After+1) {
			if err != nil {
				yield(audit.Line{}, err)
				return
			}
			l := audit.LineOf(r.Seq, r.Hash, r.Time, byte(r.Kind), r.Body)
			if !q.Matches(&l) {
				continue
			}
			if n++; !yield(l, nil) || n == q.Limit {
				return
			}
		}
	}
}

// Record has the Admin write what is asked of it to the audit log, and answer
// about that log. It is called before the first request.
func (a *Admin) Record(log *audit.Log, store AuditStore) {
	a.audit = log
	a.mux.HandleFunc("POST /admin/v1/audit", func(w http.ResponseWriter, r *http.Request) {
		var q AuditQuery
		if err := strictBody(w, r, &q); err == nil {
			err = q.Check()
			if err != nil {
				fail(w, http.StatusBadRequest, err)
				return
			}
		} else {
			fail(w, http.StatusBadRequest, err)
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		out := json.NewEncoder(w)
		for l, err := range AuditLines(r.Context(), store, q) {
			if err != nil {
				_ = out.Encode(auditEnd{Error: err.Error()})
				return
			}
			if out.Encode(l) != nil {
				return // the caller has left
			}
		}
		_ = out.Encode(auditEnd{Done: true})
	})
	a.mux.HandleFunc("POST /admin/v1/audit/verify", func(w http.ResponseWriter, r *http.Request) {
		var expect engine.AuditExpect
		if err := strictBody(w, r, &expect); err != nil {
			fail(w, http.StatusBadRequest, err)
			return
		}
		report, err := store.VerifyAudit(r.Context(), expect)
		if err != nil {
			fail(w, http.StatusConflict, err)
			return
		}
		answer(w, http.StatusOK, report)
	})
}

// auditEnd is the last line of an answer.
type auditEnd struct {
	Done  bool   `json:"done"`
	Error string `json:"error,omitempty"`
}

// strictBody reads a body: an unknown field may have been meant to do less, or more.
func strictBody(w http.ResponseWriter, r *http.Request, into any) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCommand))
	if err != nil {
		return err
	}
	return strict.Decode(body, into)
}

// audited serves a request and writes what it did to the audit log before the
// answer leaves. Work that goes on for long writes its own event, at its end.
func (a *Admin) audited(w http.ResponseWriter, r *http.Request) {
	action := map[string]string{
		"/admin/v1/access": "access:change", "/admin/v1/retention": "retention:change",
		"/admin/v1/privacy": "privacy:write", "/admin/v1/privacy/rotate": "privacy:rotate", "/admin/v1/privacy/reveal": "privacy:reveal",
	}[r.URL.Path]
	if a.audit == nil || r.Method != http.MethodPost || action == "" {
		a.mux.ServeHTTP(w, r)
		return
	}
	e := audit.Event{Kind: audit.Admin, Action: action, Outcome: audit.Allowed, Method: "socket"}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCommand))
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	ctx := context.WithoutCancel(r.Context())
	if err := a.audit.Ready(ctx, audit.Act); err != nil {
		fail(w, http.StatusServiceUnavailable, err)
		return
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	AboutCommand(&e, body)
	if e.Action == "retention:show" {
		a.mux.ServeHTTP(w, r)
		return
	}
	held := &heldAnswer{header: http.Header{}, status: http.StatusOK}
	a.mux.ServeHTTP(held, r)
	if e.Status = held.status; held.status >= 300 {
		e.Outcome = audit.Failed
	}
	if err := a.audit.Record(ctx, e); err != nil {
		fail(w, http.StatusServiceUnavailable, fmt.Errorf("it may be done, but could not be recorded: %w", err))
		return
	}
	for k, v := range held.header {
		w.Header()[k] = v
	}
	w.WriteHeader(held.status)
	_, _ = w.Write(held.body.Bytes()) // the caller has left
}

// AboutCommand fills in what a command about users or about retention does, and
// to whom. Names are all that is taken of it.
func AboutCommand(e *audit.Event, body []byte) {
	var c struct {
		Do         string `json:"do"`
		User       string `json:"user"`
		Key        string `json:"key"`
		RoleName   string `json:"role_name"`
		Tenant     string `json:"tenant"`
		Database   string `json:"database"`
		Collection string `json:"collection"`
		Role       *struct {
			Name string `json:"name"`
		} `json:"role"`
	}
	if e.Action == "privacy:reveal" && json.Unmarshal(body, &c) == nil {
		e.Collection = c.Collection // its id
		return
	}
	if (e.Action != "access:change" && e.Action != "retention:change") || json.Unmarshal(body, &c) != nil || c.Do == "" {
		return
	}
	if e.Action == "retention:change" {
		e.Action, e.Tenant, e.Database, e.Collection = "retention:"+c.Do, c.Tenant, c.Database, c.Collection
		return
	}
	e.Action, e.Subject = "access:"+c.Do, c.User
	switch {
	case c.User != "":
	case c.Key != "":
		e.Subject = c.Key
	case c.Role != nil:
		e.Subject = c.Role.Name
	default:
		e.Subject = c.RoleName
	}
}

// work writes what became of a job that is not answered at once.
func (a *Admin) worked(ctx context.Context, action string, do func() error) error {
	if a.audit == nil {
		return do()
	}
	ctx = context.WithoutCancel(ctx)
	if err := a.audit.Ready(ctx, audit.Act); err != nil {
		return err
	}
	e := audit.Event{Kind: audit.Admin, Action: action, Outcome: audit.Allowed, Method: "socket"}
	err := do()
	if err != nil {
		e.Outcome = audit.Failed
	}
	return errors.Join(err, a.audit.Record(ctx, e))
}

// heldAnswer is an answer that waits until it is recorded.
type heldAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (h *heldAnswer) Header() http.Header         { return h.header }
func (h *heldAnswer) WriteHeader(status int)      { h.status = status }
func (h *heldAnswer) Write(b []byte) (int, error) { return h.body.Write(b) }

// Audit asks for lines of the audit log.
func (c *Client) Audit(ctx context.Context, q AuditQuery) iter.Seq2[audit.Line, error] {
	return func(yield func(audit.Line, error) bool) {
		text, err := json.Marshal(q)
		var body io.ReadCloser
		if err == nil {
			body, err = c.ask(ctx, http.MethodPost, "audit", bytes.NewReader(text))
		}
		if err != nil {
			yield(audit.Line{}, err)
			return
		}
		defer body.Close()
		lines := bufio.NewScanner(body)
		lines.Buffer(nil, maxLine)
		for lines.Scan() {
			var l struct {
				audit.Line
				auditEnd
			}
			err := json.Unmarshal(lines.Bytes(), &l)
			if err == nil && l.auditEnd.Error != "" {
				err = errors.New(l.auditEnd.Error)
			}
			if err != nil {
				yield(audit.Line{}, err)
				return
			}
			if l.Done || !yield(l.Line, nil) {
				return
			}
		}
		if ctx.Err() == nil {
			yield(audit.Line{}, ErrCutOff)
		}
	}
}

// VerifyAudit has the audit log verified.
func (c *Client) VerifyAudit(ctx context.Context, expect engine.AuditExpect) (*engine.AuditReport, error) {
	var r engine.AuditReport
	if err := c.send(ctx, "audit/verify", expect, &r); err != nil {
		return nil, err
	}
	return &r, nil
}
