package audit

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// kept is a store in memory, which can be full.
type kept struct {
	mu      sync.Mutex
	lines   []Event
	durable int
	full    bool
	delay   time.Duration // of the disk
}

func (k *kept) AppendAudit(ctx context.Context, b []byte, durable bool) (uint64, error) {
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	time.Sleep(k.delay)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.full {
		return 0, errors.New("full")
	}
	e, err := Decode(b)
	k.lines = append(k.lines, e)
	if durable {
		k.durable++
	}
	return uint64(len(k.lines)), err
}

func (k *kept) take() []Event {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := k.lines
	k.lines = nil
	return out
}

// A flood of failures is a line for the first, and one a second for the rest,
// for each address, whatever else they show.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{}
		l := New(k, Defaults())
		var told []Event
		l.Subscribe(func(e Event) { told = append(told, e) })
		fail := func(address, reason, request string) {
			if err := l.Refused(t.Context(), Event{Kind: Authentication, Action: "authenticate", Address: address, Reason: reason, Request: request}); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			for i := range 1000 {
				fail("1.1.1.1", []string{"wrong key", "wrong password"}[i%2], "r")
			}
			fail("2.2.2.2", "wrong key", "r")
			time.Sleep(time.Second)
			if err := l.Tick(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := k.take()
			if len(got) != 3 || got[0].Address != "1.1.1.1" || got[0].Request != "r" || got[1].Address != "2.2.2.2" ||
				got[2].Address != "1.1.1.1" || got[2].Rows != 999 || got[2].Reason != "repeated" || got[2].Request != "" {
				t.Fatalf("%+v", got)
			}
		}
		if len(told) != 9 {
			t.Errorf("%d were told", len(told))
		}
		for i := range 3 * maxFlood { // addresses without end take no memory without end
			fail(string(rune('a'+i%26))+strings.Repeat("x", i/26), "wrong key", "")
			if i == 2*maxFlood {
				break
			}
		}
		if len(l.flood) > maxFlood+1 {
			t.Errorf("%d are counted", len(l.flood))
		}
		k.take()
		time.Sleep(time.Second)
		if err := l.Tick(t.Context()); err != nil || len(k.take()) != 1 || len(l.flood) != 0 {
			t.Errorf("%v, %d are counted", err, len(l.flood))
		}
	})
}

// Somebody leaves a line the first time in an hour, for each way in. What could
// not be written is written the next time.
func TestEntered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{}
		l := New(k, Defaults())
		ada := Event{Action: "authenticate", Principal: "ada", Method: "key", Key: "A", Address: "1.1.1.1"}
		other, elsewhere := ada, ada
		other.Key, elsewhere.Address = "B", "2.2.2.2"
		for range 3 {
			for _, e := range []Event{ada, other, elsewhere} {
				if err := l.Entered(t.Context(), e); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := k.take(); len(got) != 3 || got[0].Kind != Authentication || got[0].Outcome != Allowed {
			t.Errorf("%+v", got)
		}
		time.Sleep(time.Hour)
		k.full = true
		if err := l.Entered(t.Context(), ada); err == nil {
			t.Error("a full disk is no error")
		}
		k.full = false
		if err := l.Entered(t.Context(), ada); err != nil || len(k.take()) != 1 {
			t.Errorf("%v", err)
		}
	})
}

// What the configuration says leaves events, and who watches sees the rest.
func TestDone(t *testing.T) {
	e := Event{Action: "a", Outcome: Allowed}
	for _, tc := range []struct {
		config         Config
		stored, waited int
	}{
		{Defaults(), 2, 2}, {Config{}, 1, 1}, {Config{Reads: true, Writes: true, Changes: true}, 4, 2}, {Config{Reads: true, Writes: true, Changes: true, Wait: true}, 4, 4},
	} {
		k := &kept{}
		l := New(k, tc.config)
		seen, told := 0, 0
		l.Watch(func(Event) { seen++ })
		l.Subscribe(func(Event) { told++ })
		for class := Nothing; class <= Act; class++ {
			if err := l.Done(t.Context(), class, e); err != nil {
				t.Fatal(err)
			}
		}
		if len(k.lines) != tc.stored || k.durable != tc.waited || seen != 4 || told != tc.stored {
			t.Errorf("%+v: %d stored, %d waited for, %d seen, %d told", tc.config, len(k.lines), k.durable, seen, told)
		}
	}
}

// Neither what is hidden nor what is absent is waited for: the time of an answer
// would tell which it was. Everything else that is refused is.
func TestNotThere(t *testing.T) {
	k := &kept{}
	l := New(k, Config{Reads: true, Changes: true, Wait: true})
	for _, class := range []Class{Read, Change} {
		if err := l.Done(t.Context(), class, Event{Action: "a", Outcome: Failed, Status: 404}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Refused(t.Context(), Event{Action: "a", Status: 404, Reason: Hidden}); err != nil || len(k.lines) != 3 || k.durable != 0 {
		t.Errorf("%v, %d lines, %d waited for", err, len(k.lines), k.durable)
	}
	if err := l.Refused(t.Context(), Event{Action: "a", Status: 403, Reason: "not granted"}); err != nil || k.durable != 1 {
		t.Errorf("%v, %d waited for", err, k.durable)
	}
}

// While nothing can be written, what leaves an event is refused before it is
// done; the first that can be written ends that.
func TestReady(t *testing.T) {
	k := &kept{}
	l := New(k, Config{Reads: true, Changes: true, ReadsGoOn: true})
	e := Event{Action: "a", Outcome: Allowed}
	if err := l.Ready(t.Context(), Act); err != nil {
		t.Error(err)
	}
	k.full = true
	if l.Done(t.Context(), Change, e) == nil || l.Done(t.Context(), Read, e) != nil {
		t.Error("a change is answered that is not recorded, or a read is not")
	}
	for class, want := range map[Class]bool{Nothing: true, Read: true, Write: true, Change: false, Act: false} {
		if err := l.Ready(t.Context(), class); (err == nil) != want {
			t.Errorf("class %d: %v", class, err)
		}
	}
	k.full = false
	if err := l.Ready(t.Context(), Act); err != nil || l.Stats().Failing {
		t.Error(err)
	}
	if got := k.take(); len(got) != 1 || got[0].Action != "audit:resume" {
		t.Errorf("%+v", got)
	}
}

// An event comes back as it was, cut where a name is too long.
func TestEventJSON(t *testing.T) {
	e := Event{Time: time.Unix(1, 5).UTC(), Kind: Admin, Action: "access:add-user", Outcome: Failed, Status: 409, Principal: "ada", Method: "key", Key: "A", Address: "::1",
		Tenant: "t", Database: "d", Collection: "c", Subject: "s", Rows: 7, Request: "r", Reason: "exists"}
	b, err := e.AppendJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Decode(b); err != nil || got != e {
		t.Errorf("%+v, %v", got, err)
	}
	e.Tenant = strings.Repeat("é", 1<<20)
	e.Collection = "a\xffb"
	b, err = e.AppendJSON(nil)
	if got, e := Decode(b); err != nil || e != nil || len(b) > maxEvent || !strings.HasPrefix(got.Tenant, "éé") || !strings.HasSuffix(got.Tenant, "é…") {
		t.Errorf("%d bytes, %v, %v", len(b), err, e)
	}
}

// FuzzDecode: what is taken for an event can be written and read again.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"time":"2026-01-01T00:00:00Z","kind":"admin","action":"a","outcome":"allowed"}`))
	f.Add([]byte(`{"kind":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Decode(b)
		if err != nil {
			return
		}
		again, err := e.AppendJSON(nil)
		if err != nil {
			return // a year that JSON has no form for
		}
		if _, err := Decode(again); err != nil {
			t.Errorf("%q became %q: %v", b, again, err)
		}
	})
}
