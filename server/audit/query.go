package audit

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Line is an event as it stands in the log.
type Line struct {
	Seq  uint64 `json:"seq"`  // number of the record; none is missing
	Hash string `json:"hash"` // of the record and of all before, hexadecimal
	Event
}

// LineOf is a record of the store: kind 1 is an event, others are the store's
// own notes (engine.AuditKind). What cannot be read is a line that says so.
func LineOf(seq uint64, hash string, at time.Time, kind byte, body []byte) Line {
	l := Line{Seq: seq, Hash: hash, Event: Event{Time: at, Kind: System, Outcome: Allowed}}
	switch kind {
	case 1:
		e, err := Decode(body)
		if err != nil {
			l.Action, l.Outcome, l.Reason = "audit:unreadable", Failed, "not an event"
			return l
		}
		l.Event = e
	case 2:
		l.Action = "audit:sign"
	case 3:
		var r struct {
			Through uint64 `json:"through"`
		}
		l.Action = "audit:remove"
		if json.Unmarshal(body, &r) == nil {
			l.Reason = fmt.Sprintf("kept long enough: records up to %d", r.Through)
		}
	case 4:
		l.Action, l.Outcome, l.Reason = "audit:gap", Failed, "the log was damaged; chromad audit verify tells more"
	default:
		l.Action = "audit:note"
	}
	return l
}

// Query says which lines somebody asks for. Empty fields are no condition.
type Query struct {
	After      uint64    `json:"after,omitempty"` // number of a record
	Since      time.Time `json:"since,omitzero"`  // inclusive
	Until      time.Time `json:"until,omitzero"`  // exclusive
	Kind       Kind      `json:"kind,omitempty"`
	Outcome    Outcome   `json:"outcome,omitempty"`
	Principal  string    `json:"principal,omitempty"`
	Action     string    `json:"action,omitempty"` // "collection:*" for all that begin so
	Collection string    `json:"collection,omitempty"`
	Address    string    `json:"address,omitempty"`
	Request    string    `json:"request,omitempty"`
}

// Check refuses what no line can match.
func (q *Query) Check() error {
	switch q.Kind {
	case "", Authentication, Decision, Access, Admin, System:
	default:
		return fmt.Errorf("kind %.40q is none of authentication, decision, access, admin, system", q.Kind)
	}
	switch q.Outcome {
	case "", Allowed, Denied, Failed:
	default:
		return fmt.Errorf("outcome %.40q is none of allowed, denied, failed", q.Outcome)
	}
	return nil
}

// Matches reports whether a line is asked for.
func (q *Query) Matches(l *Line) bool {
	for _, f := range [][2]string{
		{string(q.Kind), string(l.Kind)}, {string(q.Outcome), string(l.Outcome)}, {q.Principal, l.Principal}, {q.Collection, l.Collection},
		{q.Address, l.Address}, {q.Request, l.Request},
	} {
		if f[0] != "" && f[0] != f[1] {
			return false
		}
	}
	if prefix, ok := strings.CutSuffix(q.Action, "*"); ok && !strings.HasPrefix(l.Action, prefix) || !ok && q.Action != "" && q.Action != l.Action {
		return false
	}
	return l.Seq > q.After && !l.Time.Before(q.Since) && (q.Until.IsZero() || l.Time.Before(q.Until))
}
