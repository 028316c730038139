package alert

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/chromad/chromad/server/audit"
	"github.com/chromad/chromad/server/export"
)

// Alert is what a rule has found.
type Alert struct {
	Time     time.Time
	Rule     Rule
	Subject  string // a principal, an address, the id of a key; empty: everybody
	Count    int64  // events, or rows, that were found
	Repeated bool   // Count is what came since the alert before, in a cool-down
	Event    audit.Event
}

// Text says what has happened, without a word that a client made up.
func (a *Alert) Text() string {
	who := "one " + string(a.Rule.By)
	switch {
	case a.Subject == others:
		who = "further subjects"
	case a.Rule.By == ByAll:
		who = "everybody together"
	case a.Rule.By == ByPrincipal && strings.HasPrefix(a.Subject, "address "):
		who = "one address"
	}
	within := a.Rule.Within
	if a.Repeated {
		within = a.Rule.CoolDown
	}
	switch a.Rule.Kind {
	case DeniedBurst:
		return fmt.Sprintf("%d requests of %s were refused within %s", a.Count, who, within)
	case FailedBurst:
		return fmt.Sprintf("%d credentials of %s did not count within %s", a.Count, who, within)
	case MassExport:
		return fmt.Sprintf("%s has read %d records within %s", who, a.Count, within)
	}
	text := map[Kind]string{
		OutsideHours: "something was destroyed outside of the usual hours",
		NewPrincipal: "somebody came who has not been seen before",
		RetiredKey:   "an API key was used after its end",
		NewAddress:   "an API key came from a new address",
		"test":       "a test: nothing has happened",
	}[a.Rule.Kind]
	if a.Rule.Kind == NewPrincipal && makesUsers(&a.Event) {
		text = "a user was made, or users were imported"
	}
	if a.Repeated {
		text += fmt.Sprintf(", %d times within %s", a.Count, within)
	}
	return text
}

// subject is the subject as it is shown.
func (a *Alert) subject() string {
	if a.Subject == others {
		return "others"
	}
	return a.Subject
}

// alertJSON is an alert as it is sent.
type alertJSON struct {
	Type     string          `json:"type"`
	Time     time.Time       `json:"time"`
	Rule     string          `json:"rule"`
	Severity string          `json:"severity"`
	Text     string          `json:"text"`
	By       By              `json:"by"`
	Who      string          `json:"who,omitempty"`
	Count    int64           `json:"count"`
	Repeated bool            `json:"repeated,omitempty"`
	Event    json.RawMessage `json:"event"` // the last one
}

// Message is the alert in the form in which it is sent.
func (a *Alert) Message() (export.Message, error) {
	last, err := export.FromEvent(a.Event)
	if err != nil {
		return export.Message{}, err
	}
	e, err := a.Event.AppendJSON(nil)
	if err != nil {
		return export.Message{}, err
	}
	m := export.Message{Time: a.Time, Type: export.TypeAlert, Severity: a.Rule.Severity, Name: a.Rule.Name, Text: a.Text()}
	m.Fields = append(m.Fields, export.Field{Name: "rule", Value: a.Rule.Name}, export.Field{Name: "severity", Value: a.Rule.Severity.String()},
		export.Field{Name: "by", Value: string(a.Rule.By)}, export.Field{Name: "who", Value: a.subject()},
		export.Field{Name: "count", Value: strconv.FormatInt(a.Count, 10)}, export.Field{Name: "repeated", Value: strconv.FormatBool(a.Repeated)})
	m.Fields = append(m.Fields, last.Fields...)
	m.JSON, err = json.Marshal(alertJSON{export.TypeAlert, a.Time.UTC(), a.Rule.Name, a.Rule.Severity.String(), m.Text, a.Rule.By, a.subject(), a.Count, a.Repeated, e})
	return m, err
}

// TestMessage is an alert that says it is none, for trying targets out.
func TestMessage(now time.Time) (export.Message, error) {
	a := Alert{Time: now, Count: 1, Event: audit.Event{Time: now, Kind: audit.System, Action: "alerts:test", Outcome: audit.Allowed},
		Rule: Rule{Kind: "test", Name: "test", Severity: export.Info, By: ByAll}}
	return a.Message()
}
