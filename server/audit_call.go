package server

import (
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server/access"
	"github.com/chromad/chromad/server/audit"
)

// classOf is what an action is to the audit log.
func classOf(a access.Action) audit.Class {
	switch a {
	case access.Public:
		return audit.Nothing
	case access.Add, access.Upsert, access.Update:
		return audit.Write
	case access.CreateTenant, access.UpdateTenant, access.CreateDatabase, access.DeleteDatabase, access.CreateCollection,
		access.DeleteCollection, access.UpdateCollection, access.ForkCollection, access.Functions, access.Delete:
		return audit.Change
	case access.Reset, access.WriteAccess, access.RotateOwn, access.WritePrivacy, access.WriteRetention, access.PlaceHold, access.ReleaseHold:
		return audit.Act
	}
	return audit.Read
}

// class is that of the request. A collection that is there already is got and
// not created.
func (c *call) class() audit.Class {
	if c.got {
		return audit.Read
	}
	return classOf(c.route.action)
}

// event is what is known of the request.
func (c *call) event() audit.Event {
	e := audit.Event{
		Address: addressOf(c.r.RemoteAddr), Request: c.id, Tenant: c.vars["tenant"], Database: c.vars["database"], Collection: c.vars["collection"],
		Subject: c.subject, Rows: max(int64(c.rows), c.touched),
	}
	if c.about.Tenant != "" {
		e.Tenant = c.about.Tenant
	}
	if c.about.Database != "" {
		e.Database = c.about.Database
	}
	if c.about.Collection != "" {
		e.Collection = c.about.Collection
	}
	if c.route != nil {
		e.Action = string(c.route.action)
	}
	if c.act != "" {
		e.Action = c.act
	}
	if c.who != nil {
		e.Principal, e.Key = c.who.Name, c.who.Key
		if e.Method = c.who.Method; e.Method == "none" {
			e.Method = ""
		}
	}
	return e
}

func addressOf(remote string) string {
	if host, _, err := net.SplitHostPort(remote); err == nil {
		return host
	}
	return remote
}

// met remembers what a decision is about, when the path does not tell.
func (c *call) met(t access.Target) {
	if c.about == (access.Target{}) {
		c.about = t
	}
}

// enterAudit writes who has shown who he is, or that somebody could not.
func (c *call) enterAudit(err error) error {
	log := c.s.config.Audit
	if log == nil || c.route != nil && c.route.action == access.Public {
		return err
	}
	if err == nil && (c.who.Name == "" || log.Knows(audit.Login{Method: c.who.Method, Principal: c.who.Name, Key: c.who.Key, Address: addressOf(c.r.RemoteAddr)})) {
		return nil
	}
	e := c.event()
	if err == nil {
		e.Action, e.Tenant, e.Database, e.Collection = "authenticate", "", "", ""
		if wrong := log.Entered(c.toTheEnd(), e); wrong != nil && !c.goesOn() {
			return unrecorded(wrong)
		}
		return nil
	}
	e.Kind, e.Action, e.Status = audit.Authentication, "authenticate", statusOf(err)
	e.Reason, e.Key = denialOf(err)
	if wrong := log.Refused(c.toTheEnd(), e); wrong != nil {
		c.cause = errors.Join(c.cause, wrong) // it is refused all the same
	}
	return err
}

// goesOn tells that the request is answered although the audit log cannot be
// written.
func (c *call) goesOn() bool {
	return c.route == nil || c.s.config.Audit.GoesOn(c.class())
}

// mayAudit refuses what leaves an event when none can be written.
func (c *call) mayAudit() error {
	if err := c.s.config.Audit.Ready(c.toTheEnd(), classOf(c.route.action)); err != nil {
		return &apiError{status: http.StatusServiceUnavailable, kind: kindInternal, cause: err, after: time.Second,
			message: "the audit log cannot be written, so this was not done; ask again when it can"}
	}
	return nil
}

// audited writes what became of the request: err is its error. What is
// returned is to be answered.
func (c *call) audited(err error) error {
	log := c.s.config.Audit
	if log == nil || c.route == nil || c.route.action == access.Public {
		return err
	}
	e := c.event()
	if err == nil {
		e.Outcome, e.Status = audit.Allowed, c.route.success
		if wrong := log.Done(c.toTheEnd(), c.class(), e); wrong != nil {
			return unrecorded(wrong)
		}
		return nil
	}
	e.Status = statusOf(err)
	var wrong error
	if reason := c.denial(err); reason != "" {
		e.Reason, e.Rows = reason, 0
		wrong = log.Refused(c.toTheEnd(), e)
	} else {
		e.Outcome, e.Reason = audit.Failed, failureOf(e.Status)
		wrong = log.Done(c.toTheEnd(), c.class(), e)
	}
	if wrong != nil {
		c.s.log.Error("an event of the audit log could not be written", "request_id", c.id, "action", e.Action, "error", wrong.Error())
	}
	return err
}

// unrecorded is the answer to what cannot be recorded. What was done before
// that showed is not undone.
func unrecorded(cause error) error {
	return &apiError{status: http.StatusServiceUnavailable, kind: kindInternal, cause: cause, after: time.Second,
		message: "the audit log cannot be written, so this is not answered; what it changes may be done, everything further is refused until it can"}
}

func statusOf(err error) int {
	if e, _ := overload(err); e != nil {
		return e.status
	}
	return toAPI(err).status
}

// denial is why the request was refused to who asked; "": it was not.
func (c *call) denial(err error) string {
	if _, limit := overload(err); limit != "" {
		if statusOf(err) == http.StatusServiceUnavailable {
			return "busy"
		}
		return "limit: " + limit
	}
	api := toAPI(err)
	switch {
	case c.denied != "":
		return c.denied
	case api.refused != "":
		return api.refused
	case errors.Is(err, engine.ErrRule):
		return "row rule"
	case errors.Is(err, engine.ErrHeld):
		return "hold"
	case api.status == http.StatusForbidden:
		return "refused"
	case api.status == http.StatusTooManyRequests:
		return "busy"
	}
	return ""
}

// failureOf is a word for what an error was, which may repeat what was sent.
func failureOf(status int) string {
	switch {
	case status == http.StatusNotFound:
		return "not found"
	case status == http.StatusConflict:
		return "exists"
	case status == http.StatusNotImplemented:
		return "unsupported"
	case status < 500 && status != 499:
		return "invalid"
	case status == 499:
		return "client left"
	}
	return "error"
}

// reasons are the words for why a credential was not accepted, by what the
// error begins with, or ends with. Errors of others may repeat what was shown.
var reasons = []struct{ begins, ends, is string }{
	{"no credential", "", "no credential"},
	{"no user has this certificate", "", "unknown certificate"},
	{"neither an API key, nor are tokens accepted", "", "tokens are not accepted"},
	{"not an API key", "", "malformed key"},
	{"unknown API key ", "", "unknown key"},
	{"wrong secret of API key ", "", "wrong key"},
	{"API key ", " has expired", "expired"},
	{"a password that is too long", "", "wrong password"},
	{"wrong name or password", "", "wrong password"},
	{"user ", " is disabled", "disabled"},
}

// denialOf is why a credential was not accepted, and the id of the API key if
// it is one that there is.
func denialOf(err error) (reason, key string) {
	if _, limit := overload(err); limit != "" {
		return "limit: " + limit, ""
	}
	denied, ok := errors.AsType[*access.Denied](err)
	if !ok {
		if statusOf(err) == http.StatusTooManyRequests {
			return "busy", ""
		}
		return "malformed", ""
	}
	for _, r := range reasons {
		rest, begins := strings.CutPrefix(denied.Reason, r.begins)
		rest, ends := strings.CutSuffix(rest, r.ends)
		if !begins || !ends {
			continue
		}
		if r.is == "wrong key" || r.is == "expired" || r.is == "unknown key" {
			return r.is, rest
		}
		return r.is, ""
	}
	return "invalid token", ""
}

// auditCommand remembers which change of users the request is.
func (c *call) auditCommand(command access.Command) {
	c.act, c.subject = "access:"+command.Do, command.User
	switch {
	case command.User != "":
	case command.Key != "":
		c.subject = command.Key
	case command.Role != nil:
		c.subject = command.Role.Name
	default:
		c.subject = command.RoleName
	}
}
