package server

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/chromad/chromad/server/access"
	"github.com/chromad/chromad/server/audit"
)

const (
	auditPage = 100
	maxPage   = 1000
	// auditScan is how many records one request looks at, so that a rare word
	// in a long log is found page by page.
	auditScan = 100_000
)

func auditRoutes() []route {
	return []route{{"GET", "/api/v2/chromad/audit", access.ReadAudit, false, 200, (*Server).readAudit}}
}

// readAudit answers with lines of the audit log, the oldest first, and with the
// number after which the next page begins.
func (s *Server) readAudit(c *call) error {
	c.w.Header().Set("Cache-Control", "no-store")
	q, limit, err := c.auditQuery()
	if err != nil {
		return err
	}
	page := struct {
		Events []audit.Line `json:"events"`
		Next   uint64       `json:"next"` // what to ask for as after; the same again when there was nothing
		More   bool         `json:"more"` // there are records behind it that were not looked at
	}{[]audit.Line{}, q.After, false}
	looked := 0
	for r, err := range s.store.AuditRecords(c.ctx(), q.After+1) {
		if err != nil {
			return err
		}
		if len(page.Events) == limit || looked == auditScan {
			page.More = true
			break
		}
		looked++
		page.Next = r.Seq
		if l := audit.LineOf(r.Seq, r.Hash, r.Time, byte(r.Kind), r.Body); q.Matches(&l) {
			page.Events = append(page.Events, l)
		}
	}
	c.rows = len(page.Events)
	b, err := json.Marshal(page)
	if err != nil {
		return err
	}
	c.json(b)
	return nil
}

func (c *call) auditQuery() (q audit.Query, limit int, err error) {
	values, err := parseQuery(c.r.URL.RawQuery)
	if err != nil {
		return q, 0, err
	}
	limit = auditPage
	for name, v := range values {
		if len(v) != 1 {
			return q, 0, invalid("Failed to deserialize query string: duplicate field `%s`", clip(name))
		}
		text := v[0]
		switch name {
		case "after":
			q.After, err = strconv.ParseUint(text, 10, 63)
		case "limit":
			limit, err = strconv.Atoi(text)
		case "since":
			q.Since, err = time.Parse(time.RFC3339, text)
		case "until":
			q.Until, err = time.Parse(time.RFC3339, text)
		case "kind":
			q.Kind = audit.Kind(text)
		case "outcome":
			q.Outcome = audit.Outcome(text)
		case "principal":
			q.Principal = text
		case "action":
			q.Action = text
		case "collection":
			q.Collection = text
		case "address":
			q.Address = text
		case "request":
			q.Request = text
		default:
			return q, 0, invalid("Failed to deserialize query string: unknown field `%s`", clip(name))
		}
		if err != nil {
			return q, 0, invalid("Failed to deserialize query string: %s: numbers are decimal, times are like 2026-01-31T12:00:00Z", clip(name))
		}
	}
	if err := q.Check(); err != nil {
		return q, 0, invalid("%s", err)
	}
	if limit < 1 || limit > maxPage {
		return q, 0, &apiError{status: http.StatusBadRequest, kind: kindInvalid, message: "limit: 1 to " + strconv.Itoa(maxPage)}
	}
	return q, limit, nil
}

// appendAudit adds the metrics of the audit log.
func (s *Server) appendAudit(b []byte) []byte {
	stats := s.config.Audit.Stats()
	failing := 0.0
	if stats.Failing {
		failing = 1
	}
	b = appendFamily(b, "chromad_audit_events_total", "counter", "Events that were written to the audit log.")
	b = appendSample(b, "chromad_audit_events_total", float64(stats.Records))
	b = appendFamily(b, "chromad_audit_failures_total", "counter", "Events that could not be written to the audit log.")
	b = appendSample(b, "chromad_audit_failures_total", float64(stats.Failures))
	b = appendFamily(b, "chromad_audit_failing", "gauge", "1 while the audit log cannot be written, and what leaves an event is refused.")
	return appendSample(b, "chromad_audit_failing", failing)
}
