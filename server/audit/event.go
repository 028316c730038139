package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// Event is one line of the audit log. It never holds content: no ids of
// records, metadata, documents, embeddings, filters, secrets.
type Event struct {
	Time       time.Time `json:"time"`   // of the server's clock, UTC
	Kind       Kind      `json:"kind"`   // which sort of act
	Action     string    `json:"action"` // Chroma's name: collection:query …; of administrative acts access:write, keys:rotate, retention:hold …
	Outcome    Outcome   `json:"outcome"`
	Status     int       `json:"status,omitempty"`    // of the HTTP answer; 0: none
	Principal  string    `json:"principal,omitempty"` // "" before somebody is known
	Method     string    `json:"method,omitempty"`    // key, password, certificate, token, socket, command
	Key        string    `json:"key,omitempty"`       // id of the API key, never the key
	Address    string    `json:"address,omitempty"`   // of the client, without its port
	Tenant     string    `json:"tenant,omitempty"`
	Database   string    `json:"database,omitempty"`
	Collection string    `json:"collection,omitempty"` // its name, or the id that was asked for when there is none
	Subject    string    `json:"subject,omitempty"`    // user, role or key that an administrative act is about
	Rows       int64     `json:"rows,omitempty"`       // records read or written; of a counted line, how often
	Request    string    `json:"request,omitempty"`    // id of the request
	Reason     string    `json:"reason,omitempty"`     // closed vocabulary: expired, unknown key, rate limit, …
}

// Kind is a sort of act.
type Kind string

// The kinds.
const (
	Authentication Kind = "authentication" // somebody showed who he is, or could not
	Decision       Kind = "decision"       // somebody was allowed or refused something
	Access         Kind = "access"         // data was read or written
	Admin          Kind = "admin"          // users, roles, keys, settings, holds, reset, erasing
	System         Kind = "system"         // the server and the audit log themselves
)

// Outcome is how an act ended.
type Outcome string

// The outcomes.
const (
	Allowed Outcome = "allowed" // done
	Denied  Outcome = "denied"  // refused to whoever asked
	Failed  Outcome = "failed"  // allowed, and not done, or in doubt
)

// maxField bounds a text of an event in bytes. Names of a request are made up
// by whoever sends it.
const maxField = 256

// maxEvent bounds the encoded event in bytes: eleven fields, of which JSON may
// escape every byte with six.
const maxEvent = 32 << 10

// AppendJSON appends the event as one object of JSON without a line feed.
// Texts that are too long, or not UTF-8, are cut.
func (e Event) AppendJSON(b []byte) ([]byte, error) {
	e.Time = e.Time.UTC()
	for _, text := range []*string{&e.Action, &e.Principal, &e.Method, &e.Key, &e.Address, &e.Tenant, &e.Database, &e.Collection, &e.Subject, &e.Request, &e.Reason} {
		*text = cut(*text)
	}
	out, err := json.Marshal(e)
	if err != nil {
		return b, fmt.Errorf("event: %w", err)
	}
	return append(b, out...), nil
}

// cut ends a text where it is too long, between two characters.
func cut(s string) string {
	if len(s) <= maxField {
		return s
	}
	n := maxField
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// errEvent marks bytes that are no event.
var errEvent = errors.New("not an event of the audit log")

// Decode reads what AppendJSON wrote. Fields that a later version may add are
// passed over.
func Decode(b []byte) (Event, error) {
	var e Event
	if len(b) > maxEvent {
		return Event{}, fmt.Errorf("%w: %d bytes", errEvent, len(b))
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return Event{}, fmt.Errorf("%w: %w", errEvent, err)
	}
	if e.Kind == "" || e.Action == "" || e.Outcome == "" {
		return Event{}, fmt.Errorf("%w: kind, action or outcome is missing", errEvent)
	}
	return e, nil
}
