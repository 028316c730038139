package export

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromad/chromad/internal/outbound"
)

// receiver is a webhook's other end, as somebody would write it who reads the page.
type receiver struct {
	*httptest.Server
	t        *testing.T
	secret   string
	status   []int // of the next answers; then 200
	got      []string
	delivery []string
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{t: t, secret: "0123456789abcdef"}
	r.Server = httptest.NewTLSServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) trust() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(r.Certificate())
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// ServeHTTP implements http.Handler.
func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	if err != nil || q.Method != http.MethodPost || q.Header.Get("Content-Type") != "application/json" || q.Header.Get("User-Agent") != "chromad" {
		r.t.Errorf("%s %v, %v", q.Method, q.Header, err)
	}
	var at, mac string
	for part := range strings.SplitSeq(q.Header.Get(SignatureHeader), ",") {
		name, value, _ := strings.Cut(part, "=")
		switch name {
		case "t":
			at = value
		case "v1":
			mac = value
		}
	}
	h := hmac.New(sha256.New, []byte(r.secret))
	fmt.Fprintf(h, "%s.%s", at, body)
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > 5*time.Minute || !hmac.Equal([]byte(mac), []byte(hex.EncodeToString(h.Sum(nil)))) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	r.delivery = append(r.delivery, q.Header.Get(DeliveryHeader))
	if len(r.status) > 0 {
		w.Header().Set("Location", "https://127.0.0.1:1/")
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(r.status[0])
		r.status = r.status[1:]
		return
	}
	r.got = append(r.got, string(body))
}

func TestWebhook(t *testing.T) {
	r := newReceiver(t)
	secret := r.secret
	var seen []string
	d := outbound.New(func(a outbound.Attempt) { seen = append(seen, a.Place) })
	s, err := NewWebhook(d, Webhook{URL: r.URL + "/hook?token=5ecret", TLS: r.trust(), Secret: func() ([]byte, error) { return []byte(secret), nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	batch := messages(t, hostile(), event(2))
	mustSend(t, s, batch)
	var body struct {
		Version  int
		Messages []struct {
			Type, Principal string
			Rows            int
		}
	}
	if err := json.Unmarshal([]byte(r.got[0]), &body); err != nil || body.Version != 1 || len(body.Messages) != 2 ||
		body.Messages[0].Principal != hostile().Principal || body.Messages[1].Rows != 2 || body.Messages[1].Type != "event" {
		t.Errorf("%s: %v", r.got[0], err)
	}

	// What failed is sent again under the same name.
	r.delivery, r.got = nil, nil
	r.status = []int{500, 429, 307, 413, 400}
	second := messages(t, event(3))
	for i, want := range []string{"later", "later", "redirect", "rejected", "rejected", ""} {
		err := s.Send(t.Context(), second)
		_, rejected := errors.AsType[*Rejected](err)
		l, later := errors.AsType[*Later](err)
		if (err == nil) != (want == "") || rejected != (want == "rejected") || later != (want == "later") || later && l.After != 7*time.Second {
			t.Errorf("attempt %d: %v, want %s", i, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "5ecret") {
			t.Errorf("the error tells the address: %v", err)
		}
	}
	for _, d := range r.delivery {
		if d == "" || d != r.delivery[0] {
			t.Errorf("deliveries %q", r.delivery)
		}
	}
	mustSend(t, s, messages(t, event(3)))
	if r.delivery[0] == r.delivery[len(r.delivery)-1] {
		t.Error("another batch has the same name")
	}
	// Another secret takes effect at once; a receiver that has it not refuses.
	secret = "fedcba9876543210"
	if err := s.Send(t.Context(), second); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("another secret: %v", err)
	}
	for _, p := range seen {
		if "https://"+p != r.URL {
			t.Errorf("connected to %s", p)
		}
	}
	// Nobody there.
	r.Close()
	if err := s.Send(t.Context(), second); err == nil || strings.Contains(err.Error(), "5ecret") {
		t.Errorf("away: %v", err)
	}
}

func TestWebhookSettings(t *testing.T) {
	long := func() ([]byte, error) { return bytes.Repeat([]byte("x"), 16), nil }
	for _, c := range []struct {
		w  Webhook
		ok bool
	}{
		{Webhook{URL: "https://h/x", Secret: long}, true},
		{Webhook{URL: "http://127.0.0.1:1/x", Secret: long}, true},
		{Webhook{URL: "http://h/x", Secret: long}, false},
		{Webhook{URL: "ftp://h/x", Secret: long}, false},
		{Webhook{URL: "https://u:p@h/x", Secret: long}, false},
		{Webhook{URL: "", Secret: long}, false},
		{Webhook{URL: "https://h/x"}, false},
		{Webhook{URL: "https://h/x", Secret: func() ([]byte, error) { return []byte("short"), nil }}, false},
		{Webhook{URL: "https://h/x", Secret: long, Proxy: "socks5://p:1"}, false},
	} {
		if _, err := NewWebhook(nil, c.w); (err == nil) != c.ok {
			t.Errorf("%q: %v", c.w.URL, err)
		}
	}
}

// The body is OTLP's: names, numbers as texts, and nothing beside.
func TestOTLP(t *testing.T) {
	var got []byte
	answer := `{"partialSuccess":{}}`
	var auth string
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/v1/logs" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		auth = r.Header.Get("Authorization")
		got, _ = io.ReadAll(r.Body)
		io.WriteString(w, answer)
	}))
	defer collector.Close()
	s, err := NewOTLP(nil, OTLP{URL: collector.URL + "/v1/logs", Identity: me, Headers: func() (http.Header, error) { return http.Header{"Authorization": {"Bearer x"}}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	mustSend(t, s, messages(t, hostile(), event(2)))
	type value struct{ StringValue, IntValue *string }
	type attributes []struct {
		Key   string
		Value value
	}
	var body struct {
		ResourceLogs []struct {
			Resource  struct{ Attributes attributes }
			ScopeLogs []struct {
				Scope      struct{ Name string }
				LogRecords []struct {
					TimeUnixNano, ObservedTimeUnixNano, SeverityText string
					SeverityNumber                                   int
					Body                                             value
					Attributes                                       attributes
				}
			}
		}
	}
	d := json.NewDecoder(bytes.NewReader(got))
	d.DisallowUnknownFields()
	if err := d.Decode(&body); err != nil {
		t.Fatalf("%s: %v", got, err)
	}
	records := body.ResourceLogs[0].ScopeLogs[0].LogRecords
	find := func(a attributes, key string) (v value) {
		for _, x := range a {
			if x.Key == key {
				return x.Value
			}
		}
		t.Errorf("no attribute %s in %s", key, got)
		empty := ""
		return value{&empty, &empty}
	}
	if len(records) != 2 || records[0].TimeUnixNano != "1000000000000000000" || records[0].SeverityNumber != 9 || *records[0].Body.StringValue != "allowed collection:get" ||
		*find(records[0].Attributes, "chromad.principal").StringValue != hostile().Principal || *find(records[1].Attributes, "chromad.rows").IntValue != "2" ||
		*find(body.ResourceLogs[0].Resource.Attributes, "service.name").StringValue != "chromad" || auth != "Bearer x" {
		t.Errorf("%s", got)
	}
	answer = `{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"no"}}`
	if p, ok := errors.AsType[*Partly](s.Send(t.Context(), messages(t, event(1), event(2)))); !ok || p.Lost != 1 {
		t.Errorf("a part rejected: %+v", p)
	}
	answer = `{"partialSuccess":{"rejectedLogRecords":2}}`
	if p, ok := errors.AsType[*Partly](s.Send(t.Context(), messages(t, event(1), event(2)))); !ok || p.Lost != 2 {
		t.Errorf("a part rejected: %+v", p)
	}
	answer = `not JSON`
	mustSend(t, s, messages(t, event(1)))
}
