package export

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/chromad/chromad/internal/outbound"
)

// OTLP says where a collector takes OpenTelemetry logs over HTTP.
type OTLP struct {
	URL      string                      // as https://HOST:4318/v1/logs
	Headers  func() (http.Header, error) // as Authorization; nil: none. Asked before each request
	Proxy    string                      // "http://host:port"; empty: none
	TLS      *tls.Config
	Identity Identity
}

type otlp struct {
	OTLP
	client *http.Client
}

// NewOTLP makes a sender to a collector. Nothing is connected yet.
func NewOTLP(d *outbound.Dialer, c OTLP) (Sender, error) {
	client, err := newClient(d, "otlp", c.URL, c.Proxy, c.TLS)
	if err == nil && c.Headers != nil {
		_, err = c.Headers()
	}
	return &otlp{c, client}, err
}

// The messages of opentelemetry.proto.logs.v1 that are used, in the JSON
// encoding of OTLP 1.x: names in lowerCamelCase, 64-bit numbers as texts,
// enumerations as numbers.
type (
	otlpValue struct {
		String *string `json:"stringValue,omitempty"`
		Int    *string `json:"intValue,omitempty"`
	}
	otlpAttribute struct {
		Key   string    `json:"key"`
		Value otlpValue `json:"value"`
	}
	otlpRecord struct {
		Time         string          `json:"timeUnixNano"`
		Observed     string          `json:"observedTimeUnixNano"`
		Severity     int             `json:"severityNumber"`
		SeverityText string          `json:"severityText"`
		Body         otlpValue       `json:"body"`
		Attributes   []otlpAttribute `json:"attributes"`
	}
	otlpScopeLogs struct {
		Scope struct {
			Name string `json:"name"`
		} `json:"scope"`
		Records []otlpRecord `json:"logRecords"`
	}
	otlpResourceLogs struct {
		Resource struct {
			Attributes []otlpAttribute `json:"attributes"`
		} `json:"resource"`
		ScopeLogs []otlpScopeLogs `json:"scopeLogs"`
	}
	otlpRequest struct {
		ResourceLogs []otlpResourceLogs `json:"resourceLogs"`
	}
	otlpAnswer struct {
		Partial struct {
			Rejected json.Number `json:"rejectedLogRecords"`
			Message  string      `json:"errorMessage"`
		} `json:"partialSuccess"`
	}
)

// otlpSeverity are the numbers of the protocol for those of syslog (appendix B
// of the logs data model).
var otlpSeverity = map[Severity]int{Critical: 18, Warning: 13, Notice: 10, Info: 9}

func text(s string) otlpValue { return otlpValue{String: &s} }

func nanos(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) }

// numbers are the fields whose values are numbers.
var numbers = map[string]bool{"rows": true, "status": true, "count": true}

func attribute(f Field) otlpAttribute {
	a := otlpAttribute{Key: program + "." + f.Name, Value: text(f.Value)}
	if numbers[f.Name] {
		a.Value = otlpValue{Int: &f.Value}
	}
	return a
}

// encodeOTLP is the body of a request.
func encodeOTLP(batch []Message, who Identity, now time.Time) ([]byte, error) {
	var scope otlpScopeLogs
	scope.Scope.Name = program
	for _, m := range batch {
		r := otlpRecord{Time: nanos(m.Time), Observed: nanos(now), Severity: otlpSeverity[m.Severity], SeverityText: m.Severity.String(), Body: text(m.Text),
			Attributes: []otlpAttribute{attribute(Field{"type", m.Type}), attribute(Field{"name", m.Name})}}
		for _, f := range m.Fields {
			r.Attributes = append(r.Attributes, attribute(f))
		}
		scope.Records = append(scope.Records, r)
	}
	var of otlpResourceLogs
	// By OpenTelemetry's semantic conventions for resources.
	for _, f := range []Field{{"service.name", program}, {"service.version", who.Version}, {"host.name", who.Host}} {
		of.Resource.Attributes = append(of.Resource.Attributes, otlpAttribute{f.Name, text(f.Value)})
	}
	of.ScopeLogs = []otlpScopeLogs{scope}
	return json.Marshal(otlpRequest{[]otlpResourceLogs{of}})
}

// Send posts a batch.
func (o *otlp) Send(ctx context.Context, batch []Message) error {
	header := http.Header{}
	if o.Headers != nil {
		given, err := o.Headers()
		if err != nil {
			return err
		}
		header = given.Clone()
	}
	header.Set("Content-Type", "application/json")
	body, err := encodeOTLP(batch, o.Identity, time.Now())
	if err != nil {
		return &Rejected{err}
	}
	answer, err := post(ctx, o.client, o.URL, header, body)
	if err != nil {
		return err
	}
	var a otlpAnswer
	if json.Unmarshal(answer, &a) != nil { // taken all the same
		return nil
	}
	if n, err := a.Partial.Rejected.Int64(); err == nil && n > 0 {
		return &Partly{int(min(n, int64(len(batch)))), errors.New("a part was rejected")}
	}
	return nil
}

// Close ends connections.
func (o *otlp) Close() error {
	o.client.CloseIdleConnections()
	return nil
}
