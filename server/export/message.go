package export

import (
	"strconv"
	"time"

	"github.com/chromad/chromad/server/audit"
)

// Severity is how much a message matters, by the numbers of syslog (RFC 5424,
// section 6.2.1).
type Severity int

// The severities that are used.
const (
	Critical Severity = 2
	Warning  Severity = 4
	Notice   Severity = 5
	Info     Severity = 6
)

// String is the severity's word in a configuration and in messages.
func (s Severity) String() string {
	switch s {
	case Critical:
		return "critical"
	case Warning:
		return "warning"
	case Notice:
		return "notice"
	}
	return "info"
}

// SeverityOf reads a severity's word.
func SeverityOf(word string) (s Severity, known bool) {
	for _, s := range []Severity{Critical, Warning, Notice, Info} {
		if s.String() == word {
			return s, true
		}
	}
	return 0, false
}

// Message is what is sent.
type Message struct {
	Time     time.Time
	Type     string // "event" or "alert"
	Severity Severity
	Name     string // of the kind of event or the rule of the alert: printable ASCII, 32 bytes at most
	// Text is for people: ASCII, of words that chromad chose. What clients make
	// up, names above all, is in Fields.
	Text   string
	Fields []Field
	JSON   []byte // the whole message: one object, without a line feed
}

// Field is one property of a message.
type Field struct{ Name, Value string }

// The types of messages.
const (
	TypeEvent = "event"
	TypeAlert = "alert"
)

// FromEvent makes a message of an event.
func FromEvent(e audit.Event) (Message, error) {
	m := Message{Time: e.Time, Type: TypeEvent, Severity: Info, Name: string(e.Kind), Text: string(e.Outcome) + " " + e.Action}
	switch e.Outcome {
	case audit.Denied:
		m.Severity = Notice
	case audit.Failed:
		m.Severity = Warning
	}
	add := func(name, value string) {
		if value != "" {
			m.Fields = append(m.Fields, Field{name, value})
		}
	}
	add("kind", string(e.Kind))
	add("action", e.Action)
	add("outcome", string(e.Outcome))
	add("status", number(int64(e.Status)))
	add("principal", e.Principal)
	add("method", e.Method)
	add("key", e.Key)
	add("address", e.Address)
	add("tenant", e.Tenant)
	add("database", e.Database)
	add("collection", e.Collection)
	add("subject", e.Subject)
	add("rows", number(e.Rows))
	add("request", e.Request)
	add("reason", e.Reason)
	b, err := e.AppendJSON(append([]byte(nil), `{"type":"event",`...))
	if err != nil {
		return Message{}, err
	}
	// The event's own object goes on where the type has begun one.
	head := len(`{"type":"event",`)
	m.JSON = append(b[:head], b[head+1:]...)
	return m, nil
}

// number is a number that is not 0.
func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}
