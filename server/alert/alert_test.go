package alert

import (
	"encoding/json"
	"flag"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chromad/chromad/server/audit"
	"github.com/chromad/chromad/server/export"
)

// bench is one rule at work in a time of its own.
type bench struct {
	*Watcher
	t   *testing.T
	mu  sync.Mutex
	got []Alert
}

func (b *bench) put(a Alert) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = append(b.got, a)
}

// take is what came since the last call.
func (b *bench) take() []Alert {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	got := b.got
	b.got = nil
	return got
}

func watch(t *testing.T, rules ...Rule) *bench {
	t.Helper()
	b := &bench{t: t}
	var err error
	if b.Watcher, err = New(rules, b.put); err != nil {
		t.Fatal(err)
	}
	b.Start()
	return b
}

// give gives events, which happen now, and waits until they were looked at.
func (b *bench) give(n int, e audit.Event) {
	for range n {
		e.Time = time.Now()
		b.Event(e)
	}
	synctest.Wait()
}

// want compares the alerts since the last call: "rule subject count", with "+"
// when they repeat.
func (b *bench) want(what string, alerts ...string) {
	b.t.Helper()
	var got []string
	for _, a := range b.take() {
		s := fmt.Sprintf("%s %s %d", a.Rule.Name, a.subject(), a.Count)
		if a.Repeated {
			s += "+"
		}
		got = append(got, s)
	}
	if !slices.Equal(got, alerts) {
		b.t.Errorf("%s: %q, want %q", what, got, alerts)
	}
}

func denied(who string) audit.Event {
	return audit.Event{Kind: audit.Decision, Action: "collection:get", Outcome: audit.Denied, Status: 403, Principal: who, Address: "192.0.2.1"}
}

func failure(address string) audit.Event {
	return audit.Event{Kind: audit.Authentication, Action: "collection:get", Outcome: audit.Denied, Status: 401, Address: address, Reason: "wrong secret"}
}

func read(who string, rows int64) audit.Event {
	return audit.Event{Kind: audit.Access, Action: "collection:get", Outcome: audit.Allowed, Status: 200, Principal: who, Key: "k-" + who, Address: "192.0.2.1", Rows: rows}
}

func TestDeniedBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Rule{Kind: DeniedBurst, Count: 5, Within: time.Minute, CoolDown: 10 * time.Minute})
		defer b.Close()
		b.give(4, denied("ada"))
		b.give(4, denied("bob"))
		allowed, rate := denied("ada"), denied("ada")
		allowed.Outcome, rate.Status = audit.Allowed, 429
		b.give(20, allowed)
		b.give(20, rate)
		b.give(20, failure("192.0.2.1"))
		b.want("four of each")
		b.give(1, denied("ada"))
		b.want("the fifth", "denied_burst ada 5")
		time.Sleep(time.Minute)
		b.give(4, denied("bob"))
		b.want("four, and four a minute later")
		time.Sleep(59 * time.Second)
		b.give(1, denied("bob"))
		b.want("five within a minute", "denied_burst bob 5")

		// Within the cool-down they are counted; what is less than an alert is forgotten.
		b.give(3, denied("ada"))
		b.give(4, denied("bob")) // whose five, within the same minute, were told
		time.Sleep(20 * time.Minute)
		b.want("a few more")
		b.give(5, denied("ada"))
		b.want("again, after the cool-down", "denied_burst ada 5")
		for range 30 {
			b.give(10, denied("ada"))
			time.Sleep(time.Second)
		}
		b.want("300 within the cool-down")
		time.Sleep(9*time.Minute + 29*time.Second)
		b.want("a second before its end")
		time.Sleep(2 * time.Second)
		b.want("its end", "denied_burst ada 300+")
		b.give(7, denied("ada"))
		time.Sleep(9 * time.Minute)
		b.want("it cools down again")
		time.Sleep(time.Minute + time.Second)
		b.want("its end", "denied_burst ada 7+")
		time.Sleep(time.Hour)
		b.want("nothing more")
		// A line that stands for many.
		e := denied("cyd")
		e.Rows = 50
		b.give(1, e)
		b.want("a counted line", "denied_burst cyd 50")
	})
}

func TestBursts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Rule{Kind: FailedBurst, Count: 3}, Rule{Kind: FailedBurst, Name: "all", By: ByAll, Count: 5}, Rule{Kind: DeniedBurst, By: ByAddress, Count: 2})
		defer b.Close()
		busy := failure("192.0.2.1")
		busy.Reason = "busy"
		b.give(20, busy)
		b.give(2, failure("192.0.2.1"))
		b.give(1, failure("2001:db8:1:2::1"))
		b.give(1, failure("2001:db8:1:2:ffff::9"))
		b.want("two of each address")
		b.give(1, failure("2001:db8:1:2:3::"))
		b.want("the third of one network", "failed_authentication 2001:db8:1:2::/64 3", "all  5")
		b.give(1, failure("::ffff:192.0.2.1"))
		b.want("the third of the other, in another spelling", "failed_authentication 192.0.2.1 3")
		b.give(2, denied("ada"))
		b.want("refusals by address", "denied_burst 192.0.2.1 2")
	})
}

func TestMassExport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Rule{Kind: MassExport, Rows: 1000, Within: time.Hour})
		defer b.Close()
		b.give(10, read("ada", 100))
		other := read("ada", 1e6)
		other.Action = "collection:add"
		b.give(1, other)
		other = read("ada", 1e6)
		other.Outcome = audit.Denied
		b.give(1, other)
		b.want("1000")
		b.give(1, read("bob", 1001))
		b.want("1001 at once", "mass_export bob 1001")
		b.give(1, read("ada", 1))
		b.want("one more", "mass_export ada 1001")
		nobody := read("", 1001)
		nobody.Key = ""
		b.give(1, nobody)
		b.want("without users", "mass_export address 192.0.2.1 1001")
		time.Sleep(2 * time.Hour)
		for range 100 { // 1200 an hour would be too much, 600 are not
			b.give(1, read("cyd", 100))
			time.Sleep(10 * time.Minute)
		}
		b.want("600 an hour")
		for range 3 {
			b.give(1, read("cyd", 100))
			time.Sleep(2 * time.Minute)
		}
		b.want("800 within the hour")
		b.give(2, read("cyd", 100))
		b.want("1000 within the hour")
		b.give(1, read("cyd", 1))
		b.want("one more", "mass_export cyd 1001")
	})
}

func TestOutsideHours(t *testing.T) {
	hours, err := ParseHours("Europe/Berlin", "Mon-Fri 08:00-18:00")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := Check([]Rule{{Kind: OutsideHours, Hours: hours}})
	if err != nil {
		t.Fatal(err)
	}
	// Wednesday; Berlin is an hour ahead in winter and two in summer.
	for at, alerts := range map[string]int{
		"2026-01-07T07:00:00Z": 0, "2026-01-07T06:59:59Z": 1, "2026-01-07T16:59:59Z": 0, "2026-01-07T17:00:00Z": 1,
		"2026-07-08T06:00:00Z": 0, "2026-07-08T05:59:59Z": 1, "2026-07-08T16:00:00Z": 1,
		"2026-01-10T10:00:00Z": 1, "2026-01-11T10:00:00Z": 1, "2026-01-12T10:00:00Z": 0,
	} {
		when, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		for action, bad := range map[string]int{"collection:delete_collection": 1, "system:reset": 1, "collection:get": 0, "collection:delete_collections": 0} {
			n := 0
			d := detectorOf(rules[0], func(Alert) { n++ })
			e := audit.Event{Time: when, Kind: audit.Access, Action: action, Outcome: audit.Allowed, Principal: "ada"}
			d.see(&e, when)
			if n != alerts*bad {
				t.Errorf("%s at %s: %d alerts", action, at, n)
			}
			e.Outcome = audit.Denied
			if d.see(&e, when); n != alerts*bad {
				t.Errorf("%s at %s: an alert though it was refused", action, at)
			}
		}
	}
}

func TestNewPrincipal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t}
		var err error
		if b.Watcher, err = New([]Rule{{Kind: NewPrincipal}}, b.put); err != nil {
			t.Fatal(err)
		}
		b.Learn(read("ada", 1))
		b.Learn(failure("192.0.2.1"))
		b.Start()
		defer b.Close()
		b.give(3, read("ada", 1))
		b.want("who was there before")
		claimed := failure("192.0.2.1")
		claimed.Principal = "eve"
		b.give(3, claimed)
		b.want("who could not prove it")
		b.give(3, read("bob", 1))
		b.want("somebody else", "new_principal bob 1")
		b.give(1, read("eve", 1))
		b.want("who can prove it now", "new_principal eve 1")
		b.give(1, audit.Event{Kind: audit.Admin, Action: "access:revoke-key", Outcome: audit.Allowed, Principal: "ada", Subject: "bob"})
		b.give(1, audit.Event{Kind: audit.Admin, Action: "access:add-user", Outcome: audit.Denied, Principal: "bob", Subject: "fay"})
		b.give(1, audit.Event{Kind: audit.Admin, Action: "access:add-user", Outcome: audit.Allowed, Principal: "ada", Subject: "fay"})
		if got := b.take(); len(got) != 1 || got[0].Text() != "a user was made, or users were imported" || got[0].Subject != "fay" {
			t.Errorf("%+v", got)
		}
		b.give(1, read("fay", 1))
		b.want("and comes")
		b.give(2, audit.Event{Kind: audit.Admin, Action: "access:import", Outcome: audit.Allowed, Principal: "ada"})
		b.want("an import", "new_principal users and roles 1")
		time.Sleep(time.Hour)
		b.want("a second one, after the cool-down", "new_principal users and roles 1+")
	})
}

func TestKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Rule{Kind: RetiredKey}, Rule{Kind: NewAddress})
		defer b.Close()
		from := func(address string) audit.Event {
			e := read("ada", 1)
			e.Address = address
			return e
		}
		b.give(2, from("192.0.2.1"))
		b.want("its first address")
		b.give(2, from("192.0.2.2"))
		b.want("its second", "new_address k-ada 1")
		b.give(1, from("192.0.2.1"))
		time.Sleep(time.Hour)
		b.give(1, from("192.0.2.2"))
		b.want("both are known")
		shown := func(key, reason string) audit.Event {
			e := failure("198.51.100.1")
			e.Key, e.Reason = key, reason
			return e
		}
		b.give(1, shown("k-ada", "wrong secret"))
		b.give(1, shown("k-nobody", "unknown key"))
		b.want("guesses")
		b.give(3, shown("k-ada", "unknown key"))
		b.want("it was revoked", "retired_key k-ada 1")
		b.give(1, shown("k-old", "expired key"))
		b.want("it has ended", "retired_key k-old 1")
		time.Sleep(11 * time.Minute)
		b.want("and was shown again", "retired_key k-ada 2+")
		// What is remembered of one key is bounded.
		for i := range 3 * maxAddresses {
			b.give(1, from(fmt.Sprintf("203.0.113.%d", i)))
		}
		d := b.detectors[1].(addresses)
		if list, _ := d.of.get("k-ada"); len(*list) != maxAddresses {
			t.Errorf("%d addresses are remembered", len(*list))
		}
	})
}

// However many are loud at the same time, not so many alerts are sent.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Rule{Kind: DeniedBurst, Count: 2})
		for i := range 5000 {
			b.give(2, denied(fmt.Sprint("user ", i)))
		}
		if got := b.take(); len(got) != maxSounding+1 || got[maxSounding].subject() != "others" {
			t.Errorf("%d alerts: %+v", len(got), got)
		}
		b.Close()
		b.want("what was counted", fmt.Sprintf("denied_burst others %d+", 2*(5000-maxSounding-1)))
	})
}

// manySubjects is how many principals, addresses and keys the test of memory makes up.
var manySubjects = flag.Int("alert.subjects", 100_000, "principals, addresses and keys of TestMemory, each")

// However many principals, addresses and keys come, they take bounded memory.
func TestMemory(t *testing.T) {
	hours, err := ParseHours("UTC", "daily 00:00-00:01")
	if err != nil {
		t.Fatal(err)
	}
	w, err := New([]Rule{{Kind: DeniedBurst}, {Kind: DeniedBurst, Name: "long", Count: maxCount}, {Kind: FailedBurst}, {Kind: MassExport}, {Kind: OutsideHours, Hours: hours}, {Kind: NewPrincipal}, {Kind: RetiredKey}, {Kind: NewAddress}}, func(Alert) {})
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range *manySubjects {
		name := fmt.Sprint("user ", i)
		events := []audit.Event{denied(name), failure(fmt.Sprint("2001:db8:", i>>12&0xfff, ":", i&0xfff, "::1")), read(name, 1e9), {Kind: audit.Access, Action: "system:reset", Outcome: audit.Allowed, Principal: name, Key: name, Address: "192.0.2.1"}}
		for j := range events {
			w.see(&events[j])
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d MiB", grown>>20)
	if grown > 64<<20 {
		t.Errorf("%d bytes are held", grown)
	}
	runtime.KeepAlive(w)
}

func TestQueue(t *testing.T) {
	w, err := New(Defaults(), func(Alert) {})
	if err != nil {
		t.Fatal(err)
	}
	for range maxQueue + 7 { // before it is started nobody takes them
		w.Event(denied("ada"))
	}
	w.Start()
	w.Close()
	w.Close()
	text := string(w.AppendMetrics(nil))
	for _, want := range []string{"chromad_alert_events_dropped_total 7\n", `chromad_alerts_total{rule="denied_burst"} 2` + "\n", `chromad_alerts_total{rule="retired_key"} 0` + "\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestHours(t *testing.T) {
	for _, c := range []struct {
		hours   []string
		in, out string // of a week that begins on Monday the 5th: "1 09:00"
	}{
		{[]string{"Mon-Fri 08:00-18:00"}, "5 08:00,9 17:59", "5 07:59,9 18:00,10 12:00,11 12:00"},
		{[]string{"daily 22:00-06:00"}, "5 22:00,6 05:59,5 00:00", "6 06:00,5 21:59"},
		{[]string{"Fri 22:00-06:00"}, "9 23:00,10 05:00", "9 05:00,10 22:30,8 23:00"},
		{[]string{"Sat-Mon 00:00-24:00"}, "10 00:00,11 23:59,5 12:00", "6 00:00,9 23:59"},
		{[]string{"Tue,Thu 10:00-11:00", "sun 12:00-13:00"}, "6 10:30,8 10:00,11 12:30", "7 10:30,11 10:30"},
	} {
		h, err := ParseHours("UTC", c.hours...)
		if err != nil {
			t.Fatal(err)
		}
		check := func(list string, want bool) {
			for at := range strings.SplitSeq(list, ",") {
				when, err := time.Parse("2006-01 2 15:04", "2026-01 "+at)
				if err != nil {
					t.Fatal(err)
				}
				if h.Contains(when) != want {
					t.Errorf("%q at %s: %t", c.hours, when.Format("Mon 15:04"), !want)
				}
			}
		}
		check(c.in, true)
		check(c.out, false)
	}
	for _, c := range [][2]string{{"", "Mon 08:00-09:00"}, {"Local", "Mon 08:00-09:00"}, {"Mars/Olympus", "Mon 08:00-09:00"}, {"UTC", ""}, {"UTC", "Mon"}, {"UTC", "Mon 8:00-9:00"}, {"UTC", "Mon 08:00"},
		{"UTC", "Mo 08:00-09:00"}, {"UTC", "Mon 08:60-09:00"}, {"UTC", "Mon 08:00-24:01"}, {"UTC", "Mon 08:00-08:00"}, {"UTC", "Mon- 08:00-09:00"}, {"UTC", "Mon -1:00-09:00"}} {
		if _, err := ParseHours(c[0], c[1]); err == nil {
			t.Errorf("%q is taken", c)
		}
	}
}

func TestRules(t *testing.T) {
	for _, c := range []struct {
		rules []Rule
		want  string
	}{
		{[]Rule{{Kind: "x"}}, `rule "x": one of denied_burst, `},
		{[]Rule{{Kind: DeniedBurst}, {Kind: DeniedBurst}}, "denied_burst is there twice"},
		{[]Rule{{Kind: DeniedBurst, Name: "A b"}}, `name "A b"`},
		{[]Rule{{Kind: DeniedBurst, Count: maxCount + 1}}, "count is"},
		{[]Rule{{Kind: DeniedBurst, Count: -1}}, "count is"},
		{[]Rule{{Kind: DeniedBurst, Rows: 1}}, "rows means nothing"},
		{[]Rule{{Kind: DeniedBurst, Within: time.Millisecond}}, "within is"},
		{[]Rule{{Kind: DeniedBurst, By: "key"}}, `by "key"`},
		{[]Rule{{Kind: MassExport, Count: 1}}, "count means nothing"},
		{[]Rule{{Kind: MassExport, Actions: []string{"get"}}}, `action "get"`},
		{[]Rule{{Kind: NewPrincipal, Within: time.Minute}}, "within and by mean nothing"},
		{[]Rule{{Kind: NewPrincipal, Actions: []string{"*"}}}, "actions mean nothing"},
		{[]Rule{{Kind: OutsideHours}}, "hours and time_zone"},
		{[]Rule{{Kind: RetiredKey, CoolDown: time.Millisecond}}, "cool_down is"},
		{make([]Rule, maxRules+1), "at most"},
	} {
		if _, err := Check(c.rules); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %s", c.rules, err, c.want)
		}
	}
	hours, err := ParseHours("UTC", "daily 08:00-18:00")
	if err != nil {
		t.Fatal(err)
	}
	full, err := Check(append(Defaults(), Rule{Kind: OutsideHours, Hours: hours}, Rule{Kind: NewAddress}))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Check(full); err != nil || !reflect.DeepEqual(full, again) {
		t.Errorf("what was filled in is filled in again: %v", err)
	}
}

func TestMessages(t *testing.T) {
	rules, err := Check([]Rule{{Kind: DeniedBurst, Severity: export.Critical}})
	if err != nil {
		t.Fatal(err)
	}
	a := Alert{Time: time.Unix(1e9, 0), Rule: rules[0], Subject: "ada\n", Count: 20, Event: denied("ada\n")}
	a.Event.Subject, a.Event.Rows, a.Event.Key = "x", 1, "k"
	m, err := a.Message()
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(m.JSON, &got); err != nil || got["type"] != "alert" || got["rule"] != "denied_burst" || got["severity"] != "critical" || got["who"] != "ada\n" || got["count"] != 20.0 ||
		got["time"] != "2001-09-09T01:46:40Z" || got["event"].(map[string]any)["principal"] != "ada\n" || m.Severity != export.Critical || m.Text != "20 requests of one principal were refused within 1m0s" {
		t.Errorf("%s\n%+v: %v", m.JSON, m, err)
	}
	names := map[string]bool{}
	for _, f := range m.Fields {
		if names[f.Name] {
			t.Errorf("%s is there twice", f.Name)
		}
		names[f.Name] = true
	}
}
