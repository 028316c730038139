package audit

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Who comes in side by side is answered when the event of the first one is on
// disk, and not at all when it will never be.
func TestEnteredTogether(t *testing.T) {
	for _, full := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			k := &kept{delay: time.Minute, full: full}
			l := New(k, Defaults())
			ada := Event{Action: "authenticate", Principal: "ada", Method: "key", Key: "A", Address: "1.1.1.1"}
			who := Login{ada.Method, ada.Principal, ada.Key, ada.Address}
			began := time.Now()
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					if err := l.Entered(t.Context(), ada); (err != nil) != full {
						t.Errorf("full %v: %v", full, err)
					}
					if took := time.Since(began); took != time.Minute {
						t.Errorf("full %v: answered after %v", full, took)
					}
				})
			}
			synctest.Wait()
			if l.Knows(who) {
				t.Error("known before it is on disk")
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := l.Entered(ctx, ada); err == nil {
				t.Error("who has left is in")
			}
			cancel()
			wg.Wait()
			if l.Knows(who) == full || len(k.take()) != map[bool]int{false: 1}[full] {
				t.Errorf("full %v: known %v", full, l.Knows(who))
			}
			if s := l.Stats(); s.Lost != int64(map[bool]int{true: 1}[full]) {
				t.Errorf("%+v", s)
			}
		})
	}
}

// refuse is a refusal of somebody, the same every time.
func refuse(l *Log, address string) error {
	return l.Refused(context.Background(), Event{Kind: Authentication, Action: "authenticate", Address: address, Reason: "wrong key"})
}

// What was counted while nothing could be written is written when it can be.
func TestFloodKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{}
		l := New(k, Defaults())
		for _, address := range []string{"1.1.1.1", "2.2.2.2"} {
			for range 5 {
				if err := refuse(l, address); err != nil {
					t.Fatal(err)
				}
			}
		}
		k.take()
		k.full = true
		for range 3 {
			time.Sleep(time.Second)
			if err := l.Tick(t.Context()); err == nil {
				t.Error("a full disk is no error")
			}
			if err := refuse(l, "2.2.2.2"); err != nil { // is counted
				t.Error(err)
			}
		}
		k.full = false
		time.Sleep(time.Second)
		if err := l.Tick(t.Context()); err != nil {
			t.Error(err)
		}
		rows := map[string]int64{}
		for _, e := range k.take() {
			rows[e.Address] += e.Rows
		}
		if rows["1.1.1.1"] != 4 || rows["2.2.2.2"] != 7 || len(l.flood) != 0 || l.Stats().Lost != 0 {
			t.Errorf("%v, %d left, %+v", rows, len(l.flood), l.Stats())
		}
	})
}

// Refusals that come while a line is written that counts those of before are in
// the next one.
func TestFloodMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{}
		l := New(k, Defaults())
		for range 3 {
			if err := refuse(l, "1.1.1.1"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		k.delay = time.Second
		done := make(chan error)
		go func() { done <- l.Tick(t.Context()) }()
		synctest.Wait()
		if err := refuse(l, "1.1.1.1"); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := l.Tick(t.Context()); err != nil {
			t.Error(err)
		}
		if got := k.take(); len(got) != 3 || got[1].Rows != 2 || got[2].Rows != 1 {
			t.Errorf("%+v", got)
		}
	})
}

// A clock that is set back does not keep what was counted.
func TestFloodClockBack(t *testing.T) {
	k := &kept{}
	l := New(k, Defaults())
	at := time.Unix(1_000_000, 0)
	l.now = func() time.Time { return at }
	for range 3 {
		if err := refuse(l, "1.1.1.1"); err != nil {
			t.Fatal(err)
		}
	}
	at = at.Add(-time.Hour)
	if err := l.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := k.take(); len(got) != 2 || got[1].Rows != 2 {
		t.Errorf("%+v", got)
	}
}

// What is counted when the server stops is written, whether the second ends
// first or the server.
func TestFloodAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 20 {
			k := &kept{}
			l := New(k, Defaults())
			ctx, end := context.WithCancel(t.Context())
			ended := make(chan struct{})
			tend := func(context.Context, time.Time) error {
				time.Sleep(2500 * time.Millisecond) // a second has passed, and then the server is stopped
				return nil
			}
			go func() {
				defer close(ended)
				l.Run(ctx, tend, func(err error) { t.Error(err) })
			}()
			for range 4 {
				if err := refuse(l, "1.1.1.1"); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(2 * time.Second)
			end()
			<-ended
			if got := k.take(); len(got) != 2 || got[1].Rows != 3 {
				t.Fatalf("%+v", got)
			}
		}
	})
}

// What waited for the disk and was refused is counted, since it is in no event;
// what somebody comes again with is not.
func TestLostCounted(t *testing.T) {
	k := &kept{full: true}
	l := New(k, Defaults())
	if refuse(l, "1.1.1.1") == nil || l.Done(t.Context(), Change, Event{Action: "a", Outcome: Allowed}) == nil {
		t.Error("a full disk is no error")
	}
	if l.Ready(t.Context(), Act) == nil || l.Try(t.Context(), Event{Kind: System, Action: "audit:lost", Outcome: Failed}) == nil {
		t.Error("a full disk is no error")
	}
	if s := l.Stats(); s.Lost != 2 || s.Failures != 4 {
		t.Errorf("%+v", s)
	}
	k.full = false
	if err := (*Log)(nil).Try(t.Context(), Event{}); err != nil {
		t.Error(err)
	}
	if err := l.Record(t.Context(), Event{Kind: System, Action: "a", Outcome: Allowed}); err != nil || l.Stats().Lost != 2 {
		t.Errorf("%v, %+v", err, l.Stats())
	}
}
