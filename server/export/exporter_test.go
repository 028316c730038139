package export

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chromad/chromad/server/audit"
)

// memory is a target in memory that takes what answer lets through.
type memory struct {
	answer func(attempt int) error
	calls  []time.Time
	got    []Message
	closed bool
	stuck  bool // until the context ends
}

func (m *memory) Send(ctx context.Context, batch []Message) error {
	m.calls = append(m.calls, time.Now())
	if m.stuck {
		<-ctx.Done()
		return ctx.Err()
	}
	if m.answer != nil {
		if err := m.answer(len(m.calls)); err != nil {
			return err
		}
	}
	m.got = append(m.got, batch...)
	return nil
}

func (m *memory) Close() error { m.closed = true; return nil }

func event(n int64) audit.Event {
	return audit.Event{Time: time.Unix(1e9, 0), Kind: audit.Access, Action: "collection:get", Outcome: audit.Allowed, Principal: "ada", Rows: n}
}

// rows are the numbers of events in the order in which they came.
func rows(t *testing.T, list []Message) (out []int64) {
	t.Helper()
	for _, m := range list {
		var e struct {
			Type string
			Rows int64
		}
		if err := json.Unmarshal(m.JSON, &e); err != nil || e.Type != m.Type {
			t.Fatalf("%s: %v", m.JSON, err)
		}
		out = append(out, e.Rows)
	}
	return out
}

// What is sent arrives once and in order, however often the target fails, and
// the pauses grow to their bound.
func TestRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := errors.New("away")
		m := &memory{answer: func(attempt int) error {
			if attempt <= 12 {
				return away
			}
			return nil
		}}
		var log bytes.Buffer
		x := Start(Options{Name: "m", Sender: m, Events: true, Batch: 3, Log: slog.New(slog.NewTextHandler(&log, nil))})
		for n := range int64(7) {
			x.Event(event(n + 1))
		}
		x.Alert(Message{}) // which this target does not take
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := fmt.Sprint(rows(t, m.got)); got != "[1 2 3 4 5 6 7]" {
			t.Errorf("got %s", got)
		}
		for i, want := 1, time.Second; i <= 12; i, want = i+1, min(2*want, time.Minute) {
			if pause := m.calls[i].Sub(m.calls[i-1]); pause < want/2 || pause >= want {
				t.Errorf("pause %d: %s, want %s to %s", i, pause, want/2, want)
			}
		}
		if err := x.Close(t.Context()); err != nil || !m.closed {
			t.Errorf("close: %v", err)
		}
		if s, d, f := x.sent.Load(), x.dropped.Load(), x.failures.Load(); s != 7 || d != 0 || f != 12 {
			t.Errorf("sent %d, dropped %d, failures %d", s, d, f)
		}
		// The first failure, and after a minute each of those that were at least that far apart.
		if n := strings.Count(log.String(), "export failed"); n < 2 || n > 6 || strings.Count(log.String(), "works again") != 1 {
			t.Errorf("logged:\n%s", log.String())
		}
	})
}

func TestLaterAndRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{answer: func(attempt int) error {
			switch attempt {
			case 1:
				return &Later{90 * time.Second, errors.New("busy")}
			case 2:
				return &Rejected{errors.New("too large")}
			case 3:
				return &Partly{1, errors.New("some")}
			}
			return nil
		}}
		x := Start(Options{Name: "m", Sender: m, Events: true, Batch: 2})
		for n := range int64(6) {
			x.Event(event(n))
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := fmt.Sprint(rows(t, m.got)); got != "[4 5]" {
			t.Errorf("got %s", got)
		}
		if p := m.calls[1].Sub(m.calls[0]); p != 90*time.Second {
			t.Errorf("asked again after %s", p)
		}
		if s, d := x.sent.Load(), x.dropped.Load(); s != 3 || d != 3 {
			t.Errorf("sent %d, dropped %d", s, d)
		}
		x.Close(t.Context())
	})
}

// A target that is away costs bounded memory, and nobody waits for it.
func TestQueueBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{stuck: true}
		x := Start(Options{Name: "m", Sender: m, Events: true, Alerts: true, Queue: 1 << 20})
		start := time.Now()
		for n := range int64(100_000) {
			x.Event(event(n))
		}
		if time.Since(start) != 0 {
			t.Error("the queue made somebody wait")
		}
		synctest.Wait()
		x.mu.Lock()
		held, kept := x.bytes, int64(len(x.queue))
		x.mu.Unlock()
		if held > 1<<20 || held < 1<<19 {
			t.Errorf("%d bytes are held", held)
		}
		flying := int64(defaultBatch)
		if d := x.dropped.Load(); d < 100_000-kept-flying || d > 100_000-kept {
			t.Errorf("dropped %d, %d are kept", d, kept)
		}
		if metrics := string(Set{x}.AppendMetrics(nil)); !strings.Contains(metrics, fmt.Sprintf("chromad_export_dropped_total{target=\"m\"} %d\n", x.dropped.Load())) {
			t.Errorf("metrics:\n%s", metrics)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start = time.Now()
		if err := x.Close(ctx); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("closing took %s", took)
		}
		if s, d := x.sent.Load(), x.dropped.Load(); s != 0 || d != 100_000 {
			t.Errorf("sent %d, dropped %d", s, d)
		}
		x.Event(event(1))
		if d := x.dropped.Load(); d != 100_001 {
			t.Error("taken after Close")
		}
	})
}

// Closing sends what waits, also what waits for company or for the next attempt.
func TestCloseDrains(t *testing.T) {
	for name, o := range map[string]Options{"lingering": {Linger: time.Minute}, "failing": {}} {
		synctest.Test(t, func(t *testing.T) {
			m := &memory{}
			if name == "failing" {
				m.answer = func(attempt int) error {
					if attempt < 9 {
						return errors.New("away")
					}
					return nil
				}
			}
			o.Name, o.Sender, o.Events = "m", m, true
			x := Start(o)
			for n := range int64(1200) {
				x.Event(event(n))
			}
			time.Sleep(45 * time.Second)
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if err := x.Close(ctx); err != nil || len(m.got) != 1200 {
				t.Errorf("%s: %d came, %v", name, len(m.got), err)
			}
		})
	}
}

func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		x := Start(Options{Name: "m", Sender: m, Events: true, Batch: 10, Linger: time.Second, Kinds: []audit.Kind{audit.Access}})
		other := event(1)
		other.Kind = audit.System
		x.Event(other)
		for range 3 {
			x.Event(event(1))
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(m.calls) != 1 || len(m.got) != 3 {
			t.Errorf("%d batches of %d messages", len(m.calls), len(m.got))
		}
		for range 10 { // a full batch need not wait
			x.Event(event(1))
		}
		synctest.Wait()
		if len(m.calls) != 2 {
			t.Error("a full batch waits")
		}
		x.Close(t.Context())
	})
}

func TestMessage(t *testing.T) {
	e := audit.Event{Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("", 3600)), Kind: audit.Decision, Action: "collection:get", Outcome: audit.Denied,
		Status: 403, Principal: "a\"\n", Method: "key", Key: "12345678", Address: "::1", Tenant: "t", Database: "d", Collection: "c", Subject: "s", Rows: 2, Request: "r", Reason: "no grant"}
	m, err := FromEvent(e)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"type":"event","time":"2026-01-02T02:04:05.000006Z","kind":"decision","action":"collection:get","outcome":"denied","status":403,"principal":"a\"\n","method":"key","key":"12345678","address":"::1","tenant":"t","database":"d","collection":"c","subject":"s","rows":2,"request":"r","reason":"no grant"}`
	if string(m.JSON) != want || m.Severity != Notice || m.Text != "denied collection:get" || len(m.Fields) != 15 {
		t.Errorf("%s\n%+v", m.JSON, m)
	}
}
