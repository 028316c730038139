package limit

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// want fails unless err is a refusal by the limit, and returns when to come again.
func want(t *testing.T, err error, limit string) time.Duration {
	t.Helper()
	r, ok := errors.AsType[*Refused](err)
	if !ok || r.Limit != limit {
		t.Fatalf("%v, not refused by %s", err, limit)
	}
	return r.After
}

func TestTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, perSecond := range []float64{0.1, 0.7, 1, 3, 1000} {
			table, set := NewTable(10), &Set{Bounds: Bounds{Requests: perSecond}}
			for i := range int(math.Ceil(perSecond)) {
				if _, err := table.Enter("a", set, "x", 0); err != nil {
					t.Fatalf("%v a second: request %d: %v", perSecond, i, err)
				}
			}
			_, err := table.Enter("a", set, "x", 0)
			after := want(t, err, "requests")
			if _, err := table.Enter("b", set, "x", 0); err != nil {
				t.Errorf("%v a second: somebody else: %v", perSecond, err)
			}
			// What is said is true, to the tenth part.
			time.Sleep(after * 9 / 10)
			if _, err := table.Enter("a", set, "x", 0); err == nil {
				t.Errorf("%v a second: let in before %s", perSecond, after)
			}
			time.Sleep(after / 10)
			if _, err := table.Enter("a", set, "x", 0); err != nil {
				t.Errorf("%v a second: after %s: %v", perSecond, after, err)
			}
		}
	})
}

// Two of one name with different sets, as tokens have them, do not fill each
// other's buckets; a set that is not in use any more leaves nothing.
func TestTableSets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := NewTable(10)
		sets := []*Set{{Bounds: Bounds{Requests: 3, Concurrent: 2}}, {Bounds: Bounds{Requests: 5}}}
		passed := [2]int{}
		for range 50 {
			for i := range sets {
				set := *sets[i] // made anew for each token
				if p, err := table.Enter("a", &set, "x", 0); err == nil {
					passed[i]++
					p.Done()
				}
			}
		}
		if passed != [2]int{3, 5} || table.Len() != 2 {
			t.Errorf("%d passed, %d entries", passed, table.Len())
		}
		time.Sleep(2 * time.Second)
		if _, err := table.Enter("a", &Set{Bounds: Bounds{Requests: 7}}, "x", 0); err != nil || table.Len() != 1 {
			t.Errorf("%v, %d entries", err, table.Len())
		}
		for i := range 100 {
			if _, err := table.Enter("a", &Set{Bounds: Bounds{Requests: float64(10 + i)}}, "x", 0); err != nil && i < 8 || table.Len() > 11 {
				t.Fatalf("set %d: %v, %d entries", i, err, table.Len())
			}
		}
	})
}

// One request may go into debt, whatever it is; the next waits until it is paid.
func TestTableDebt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, set := NewTable(10), &Set{Bounds: Bounds{Rows: 100, Bytes: 1000}}
		p, err := table.Enter("a", set, "x", 10_000)
		if err != nil {
			t.Fatal(err)
		}
		q, err := NewTable(10).Enter("a", set, "x", 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = table.Enter("a", set, "x", 1)
		if after := want(t, err, "bytes"); after.Round(time.Millisecond) != 9001*time.Millisecond {
			t.Errorf("9000 bytes of debt at 1000 a second: %s", after)
		}
		if err := p.Charge(1000, 0); err != nil {
			t.Errorf("rows that are known later: %v", err)
		}
		want(t, p.Charge(1, 0), "rows")
		q.Owe(1000, 0)
		want(t, q.Charge(1, 0), "rows")
		p.Done()
		time.Sleep(9020 * time.Millisecond)
		if _, err = table.Enter("a", set, "x", 1); err != nil {
			t.Errorf("with the debts paid: %v", err)
		}
	})
}

func TestTableActions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := NewTable(10)
		set := &Set{Bounds: Bounds{Concurrent: 3}, Actions: map[string]Bounds{"db:*": {Concurrent: 1}, "db:make": {Requests: 1}}}
		enter := func(action string) (*Pass, error) { return table.Enter("a", set, action, 0) }
		p, err := enter("db:make")
		if err != nil {
			t.Fatal(err)
		}
		_, err = enter("db:list")
		want(t, err, "concurrent")
		p.Done()
		_, err = enter("db:make")
		want(t, err, "requests")
		var passes []*Pass
		for range 3 {
			p, err := enter("other")
			if err != nil {
				t.Fatal(err)
			}
			passes = append(passes, p)
		}
		_, err = enter("other")
		want(t, err, "concurrent")
		for _, p := range passes {
			p.Done()
		}
		if p, err := table.Enter("a", nil, "x", 1<<40); p != nil || err != nil {
			t.Errorf("nothing is bounded: %v %v", p, err)
		}
	})
}

// Names that are made up take no memory, and no buckets from others.
func TestTableBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, set := NewTable(100), &Set{Bounds: Bounds{Requests: 2}}
		passed := 0
		for i := range 10_000 {
			if p, err := table.Enter(fmt.Sprint(i), set, "x", 0); err == nil {
				passed++
				p.Done()
			}
		}
		if n := table.Len(); n > 101 || passed > 102 {
			t.Errorf("%d entries, %d passed", n, passed)
		}
		time.Sleep(2 * time.Second)
		if _, err := table.Enter("new", set, "x", 0); err != nil || table.Len() > 2 {
			t.Errorf("idle ones did not make room: %v, %d entries", err, table.Len())
		}
	})
}

func TestResolve(t *testing.T) {
	b := func(requests float64) *Set { return &Set{Bounds: Bounds{Requests: requests}} }
	for _, c := range []struct {
		name          string
		byDefault     *Set
		own           *Set
		roles         []*Set
		requests, get float64
	}{
		{"nothing", nil, nil, nil, 0, 0},
		{"default", b(10), nil, nil, 10, 0},
		{"roles over default", b(10), nil, []*Set{b(20), b(5)}, 20, 0},
		{"silent roles", b(10), nil, []*Set{{}, {}}, 10, 0},
		{"own over default", b(10), b(20), nil, 20, 0},
		{"own is stricter", b(10), b(3), []*Set{b(20)}, 3, 0},
		{"roles are stricter", b(10), b(30), []*Set{b(20)}, 20, 0},
		{"a role without bound", b(10), nil, []*Set{b(-1), b(5)}, -1, 0},
		{"own bound, role without", b(10), b(3), []*Set{b(-1)}, 3, 0},
		{"own without, role bound", b(10), b(-1), []*Set{b(3)}, 3, 0},
		{"own without", b(10), b(-1), nil, -1, 0},
		{"actions", &Set{Actions: map[string]Bounds{"get": {Requests: 7}}}, b(3), nil, 3, 7},
		{"action of a role", &Set{Actions: map[string]Bounds{"get": {Requests: 7}}}, nil, []*Set{{Actions: map[string]Bounds{"get": {Requests: 9}}}}, 0, 9},
	} {
		got := Resolve(c.byDefault, c.own, c.roles)
		if got == nil {
			got = &Set{}
		}
		if got.Requests != c.requests || got.Actions["get"].Requests != c.get {
			t.Errorf("%s: %+v, want %v and %v", c.name, got, c.requests, c.get)
		}
	}
}

func TestSetCheck(t *testing.T) {
	known := func(name string) bool { return name == "get" }
	for _, c := range []struct {
		set Set
		ok  bool
	}{
		{Set{}, true}, {Set{Bounds: Bounds{Requests: -1}}, true}, {Set{Bounds: Bounds{Rows: -2}}, false}, {Set{Bounds: Bounds{Bytes: math.NaN()}}, false},
		{Set{Bounds: Bounds{Bytes: math.Inf(1)}}, false}, {Set{Actions: map[string]Bounds{"get": {Concurrent: 1}}}, true},
		{Set{Actions: map[string]Bounds{"got": {}}}, false}, {Set{Actions: map[string]Bounds{"get": {Concurrent: -5}}}, false},
	} {
		if err := c.set.Check(known); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.set, err)
		}
	}
}

func TestGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGuesses(30)
		right := Attempt{"10.0.0.1", "ada", "right"}
		g.Right(right)
		failed := 0
		for i := range 1000 {
			a := Attempt{"10.0.0.1", fmt.Sprint("name", i), "wrong"}
			if g.May(a) != nil {
				break
			}
			g.Failed(a)
			failed++
		}
		if failed != 30 {
			t.Errorf("%d failures of one address", failed)
		}
		for i := range 1000 {
			a := Attempt{fmt.Sprint("10.0.1.", i), "ada", "wrong"}
			if g.May(a) != nil {
				failed = i
				break
			}
			g.Failed(a)
		}
		if failed != 10 {
			t.Errorf("%d failures of one name", failed)
		}
		if err := g.May(right); err != nil {
			t.Errorf("who was right before: %v", err)
		}
		if err := g.May(Attempt{"10.9.9.9", "grace", "new"}); err != nil {
			t.Errorf("another one elsewhere: %v", err)
		}
		after := want(t, g.May(Attempt{"10.0.0.1", "grace", "new"}), "failures")
		time.Sleep(after)
		if err := g.May(Attempt{"10.0.0.1", "grace", "new"}); err != nil {
			t.Errorf("after %s: %v", after, err)
		}
		for i := range 3 * maxRight {
			g.Right(Attempt{"", "", fmt.Sprint(i)})
			g.Failed(Attempt{fmt.Sprint(i), fmt.Sprint(i), ""})
		}
		if n := len(g.now) + len(g.then); n > 2*maxRight || g.address.Len() > maxGuessers+1 || g.name.Len() > maxGuessers+1 {
			t.Errorf("%d right ones, %d addresses, %d names are kept", n, g.address.Len(), g.name.Len())
		}
	})
}

func TestPrefix(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.7:5": "192.0.2.7", "[::ffff:192.0.2.7]:5": "192.0.2.7", "[2001:db8:1:2:3:4:5:6]:80": "2001:db8:1:2::", "[fe80::1%eth0]:1": "fe80::", "pipe": "pipe",
	} {
		if got := Prefix(remote); got != want {
			t.Errorf("%s: %s, want %s", remote, got, want)
		}
	}
}

func TestBudget(t *testing.T) {
	b := NewBudget(100)
	if !b.Hold("a", 75) || b.Hold("a", 1) {
		t.Error("one gets three quarters, no more")
	}
	if !b.Hold("b", 25) || b.Hold("c", 1) {
		t.Error("the rest is for others, and no more than there is")
	}
	b.Force("a", 50)
	b.Release("a", 125)
	b.Release("b", 25)
	if b.Used() != 0 || len(b.by) != 0 {
		t.Errorf("%d bytes of %d are left", b.Used(), len(b.by))
	}
}
