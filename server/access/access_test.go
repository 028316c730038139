package access

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromad/chromad/server/limit"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func aKey(t testing.TB, expires time.Time) (Key, string) {
	t.Helper()
	k, secret, err := NewKey("", time.Unix(1e9, 0), expires)
	check(t, err)
	return k, secret
}

func directoryOf(t testing.TB, users ...User) *Directory {
	t.Helper()
	d, err := NewDirectory(&Policy{Version: 1, Users: users}, Outside{})
	check(t, err)
	return d
}

// Who may do what where, role by role.
func TestMay(t *testing.T) {
	at := func(path string) Target {
		p := append(strings.Split(path, "/"), "", "", "")
		return Target{p[0], p[1], p[2]}
	}
	custom := []Role{
		{Name: "docs", Grants: []Grant{{Actions: []string{"collection:get", "collection:query"}, On: Scope{Collection: "docs-*"}}}},
		{Name: "docmaker", Grants: []Grant{{Actions: []string{"db:create_collection"}, On: Scope{Collection: "docs-*"}}}},
		{Name: "namer", Grants: []Grant{{Actions: []string{"db:*"}, On: Scope{Database: "main"}}}},
	}
	for _, c := range []struct {
		role   string
		on     Scope
		action Action
		target string
		want   bool
	}{
		{"admin", Scope{}, Reset, "", true},
		{"admin", Scope{}, WriteAccess, "", true},
		{"admin", Scope{Tenant: "acme"}, Reset, "", false},
		{"admin", Scope{Tenant: "acme"}, WriteAccess, "", false},
		{"admin", Scope{Tenant: "acme"}, DeleteDatabase, "acme/main", true},
		{"admin", Scope{Tenant: "acme"}, DeleteDatabase, "other/main", false},
		{"admin", Scope{Tenant: "acme", Database: "main"}, UpdateTenant, "acme", true},
		{"admin", Scope{Database: "main"}, Reset, "", false},
		{"editor", Scope{}, Add, "acme/main/c", true},
		{"editor", Scope{}, Reset, "", false},
		{"editor", Scope{}, CreateDatabase, "acme/main", false},
		{"editor", Scope{}, WriteAccess, "", false},
		{"reader", Scope{}, Get, "acme/main/c", true},
		{"reader", Scope{}, ListCollections, "acme/main", true},
		{"reader", Scope{}, Add, "acme/main/c", false},
		{"reader", Scope{}, Delete, "acme/main/c", false},
		{"reader", Scope{}, Update, "acme/main/c", false},
		{"reader", Scope{}, DeleteCollection, "acme/main/c", false},
		{"reader", Scope{}, Metrics, "", false},
		{"auditor", Scope{}, Metrics, "", true},
		{"auditor", Scope{}, Get, "acme/main/c", false},
		{"docs", Scope{}, Get, "acme/main/docs-1", true},
		{"docs", Scope{}, Get, "acme/main/docs", false},
		{"docs", Scope{}, Get, "acme/main/xdocs-1", false},
		{"docs", Scope{}, Count, "acme/main/docs-1", false},
		{"docs", Scope{Tenant: "acme"}, Get, "other/main/docs-1", false},
		{"docs", Scope{Collection: "*-1"}, Get, "acme/main/docs-1", true},
		{"docs", Scope{Collection: "*-1"}, Get, "acme/main/docs-2", false},
		{"namer", Scope{}, CreateCollection, "acme/main/new", true},
		{"namer", Scope{}, CreateCollection, "acme/other/new", false},
		{"docmaker", Scope{}, CreateCollection, "acme/main/docs-1", true},
		{"docmaker", Scope{}, CreateCollection, "acme/main/other", false},
		{"namer", Scope{}, Get, "acme/main/c", false},
	} {
		d, err := NewDirectory(&Policy{Version: 1, Roles: custom, Users: []User{
			{Name: "u", Certificates: []string{"u"}, Roles: []Binding{{c.role, c.on}}}}}, Outside{})
		check(t, err)
		p, err := d.Authenticate(t.Context(), Credential{Certificate: "u"})
		check(t, err)
		if got := p.May(c.action, at(c.target)); got != c.want {
			t.Errorf("%s on %v, %s at %s: %v", c.role, c.on, c.action, c.target, got)
		}
		if c.want && !p.Might(c.action, at(c.target)) {
			t.Errorf("%s on %v, %s at %s: allowed, and cannot be", c.role, c.on, c.action, c.target)
		}
		if d.Nobody().May(c.action, at(c.target)) {
			t.Errorf("nobody may %s", c.action)
		}
	}
}

// Every action is one of its level, and nobody without grants may do any but
// the public one and ask who he is.
func TestActions(t *testing.T) {
	d := directoryOf(t, User{Name: "u", Certificates: []string{"u"}})
	p, err := d.Authenticate(t.Context(), Credential{Certificate: "u"})
	check(t, err)
	seen := map[Action]bool{}
	for _, a := range Actions() {
		if seen[a] {
			t.Errorf("%s twice", a)
		}
		seen[a] = true
		if got, want := p.May(a, Target{"t", "d", "c"}), a == Public || a == Identify || a == RotateOwn; got != want {
			t.Errorf("%s without a grant: %v", a, got)
		}
		if group, _, ok := strings.Cut(string(a), ":"); !ok || !slices.Contains([]string{"system", "tenant", "db", "collection", "retention", "audit"}, group) {
			t.Errorf("%s is of no group", a)
		}
	}
	if d.Nobody().May(Identify, Target{}) || d.Nobody().May(RotateOwn, Target{}) {
		t.Error("nobody may ask who he is, or has a key")
	}
	if len(seen) > 64 {
		t.Errorf("%d actions, and a set has 64 bits", len(seen))
	}
	for pattern, want := range map[string]int{"*": len(seen), "db:*": 7, "collection:get": 1, "collection:ge*": 2, "": 0, "get": 0} {
		if got := bits.OnesCount64(uint64(setOf(pattern))); got != want {
			t.Errorf("%q stands for %d actions, want %d", pattern, got, want)
		}
	}
}

// What every request pays for an API key is done without a byte from the heap.
func TestKeyAllocations(t *testing.T) {
	k, secret := aKey(t, time.Time{})
	policy := &Policy{Version: 1, Users: []User{{Name: "u", Keys: []Key{k}, Roles: []Binding{{Role: "editor", On: Scope{Tenant: "acme", Collection: "docs-*"}}}}}}
	d, err := NewDirectory(policy, Outside{Failures: 30})
	check(t, err)
	ctx, in := t.Context(), Target{"acme", "main", "docs-1"}
	got := testing.AllocsPerRun(50, func() { // after one that is not counted
		p, err := d.Authenticate(ctx, Credential{Key: secret, Address: "10.0.0.1:99"})
		if err != nil || !p.Might(Query, Target{Tenant: "acme", Database: "main"}) || p.MayAll(Query, "acme", "main") || !p.May(Query, in) || p.Ruled() {
			t.Fatal(p, err)
		}
	})
	if got > 0 {
		t.Errorf("%v allocations", got)
	}
}

// A key that was right lately is let in whatever others guess, and is looked at
// all the same: whether it is the whole key, has ended, or is gone.
func TestShownLately(t *testing.T) {
	ctx := t.Context()
	ends := time.Unix(2e9, 0)
	k, secret := aKey(t, ends)
	other, otherSecret := aKey(t, time.Time{})
	policy := &Policy{Version: 1, Users: []User{{Name: "u", Keys: []Key{k, other}}}}
	d, err := NewDirectory(policy, Outside{Failures: 6})
	check(t, err)
	now := ends.Add(-time.Minute)
	d.now = func() time.Time { return now }
	ask := func(key string) error {
		_, err := d.Authenticate(ctx, Credential{Key: key, Address: "10.0.0.1:9"})
		return err
	}
	check(t, ask(secret))
	wrong := secret[:len(secret)-2] + "AA"
	var refused *limit.Refused
	for range 20 {
		if err = ask(wrong); errors.As(err, &refused) {
			break
		}
		if !errors.Is(err, ErrDenied) {
			t.Fatalf("a wrong key: %v", err)
		}
	}
	if refused == nil {
		t.Fatal("guesses are not counted")
	}
	for i := range 20 { // of many names: the address has had enough, too
		if err := ask(fmt.Sprintf("%s%08d_%s", keyPrefix, i, strings.Repeat("A", 43))); err == nil {
			t.Fatal("no key at all is let in")
		}
	}
	check(t, ask(secret))
	if err := ask(otherSecret); !errors.As(err, &refused) {
		t.Errorf("a key that was never shown, from where others guess: %v", err)
	}
	now = ends
	if err := ask(secret); err == nil {
		t.Error("a key that has ended is let in")
	}
	now = ends.Add(-time.Hour)
	check(t, ask(secret)) // half an hour is over: it goes the long way
	policy.Users[0].Disabled = true
	check(t, d.Use(policy))
	if err := ask(secret); err == nil {
		t.Error("a user who is disabled is let in")
	}
	policy.Users[0].Disabled, policy.Users[0].Keys = false, []Key{other}
	check(t, d.Use(policy))
	if err := ask(secret); err == nil {
		t.Error("a key that was revoked is let in")
	}
}

// The page names every action, in the paragraph that is for it.
func TestActionsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/security.md")
	check(t, err)
	_, list, found := strings.Cut(string(page), "\nActions, by Chroma's names")
	list, _, _ = strings.Cut(list, "\n\n")
	groups := map[string]string{}
	for part := range strings.SplitSeq(list, ";") {
		if _, part, found := strings.Cut(part, "`"); found {
			group, names, _ := strings.Cut(part, ":`")
			groups[group] = names
		}
	}
	for _, a := range Actions() {
		group, name, _ := strings.Cut(string(a), ":")
		if !found || !regexp.MustCompile(`\s`+name+`\b`).MatchString(groups[group]) {
			t.Errorf("docs/security.md does not name %s", a)
		}
	}
}

func TestWild(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"a", "ab", false}, {"*", "", true}, {"a*", "a", true}, {"a*", "abc", true},
		{"*c", "abc", true}, {"*c", "abd", false}, {"a*c", "abcbc", true}, {"a*b*c", "a-b-c", true}, {"a*b*c", "a-c-b", false},
		{"**", "x", true}, {"a?", "ab", false}, {"[a]", "a", false}, {"A", "a", false}, {"a*a", "a", false},
	} {
		if got := wild(c.pattern, c.name); got != c.want {
			t.Errorf("%q for %q: %v", c.pattern, c.name, got)
		}
	}
	// A pattern that makes a recursive matcher exponential.
	if wild(strings.Repeat("*a", 500)+"b", strings.Repeat("a", 5000)) {
		t.Error("matched")
	}
}

func TestKeys(t *testing.T) {
	now := time.Unix(2e9, 0)
	k, secret := aKey(t, time.Time{})
	old, oldSecret := aKey(t, now)
	other, otherSecret := aKey(t, time.Time{})
	d := directoryOf(t, User{Name: "ada", Keys: []Key{k, old}}, User{Name: "bob", Keys: []Key{other}, Disabled: true})
	d.now = func() time.Time { return now }
	if p, err := d.Authenticate(t.Context(), Credential{Key: secret}); err != nil || p.Name != "ada" || p.Key != k.ID || p.Method != "key" {
		t.Errorf("%+v, %v", p, err)
	}
	swapped := secret[:len(keyPrefix)] + other.ID + secret[len(keyPrefix)+8:]
	wrong := []byte(secret)
	wrong[len(wrong)-5] ^= 1
	for name, text := range map[string]string{
		"expired": oldSecret, "of a disabled user": otherSecret, "another's id": swapped, "a wrong letter": string(wrong), "its id": k.ID, "its hash": k.Hash,
		"short": secret[:len(secret)-1], "long": secret + "x", "empty": "", "prefix": keyPrefix, "unknown": keyPrefix + "AAAAAAAA_" + strings.Repeat("A", 43),
	} {
		if p, err := d.Authenticate(t.Context(), Credential{Key: text}); !errors.Is(err, ErrDenied) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	d.now = func() time.Time { return now.Add(-time.Second) }
	if _, err := d.Authenticate(t.Context(), Credential{Key: oldSecret}); err != nil {
		t.Errorf("a second before it expires: %v", err)
	}
	// Revoked at the next request.
	check(t, d.Use(&Policy{Version: 1, Users: []User{{Name: "ada", Keys: []Key{old}}}}))
	if _, err := d.Authenticate(t.Context(), Credential{Key: secret}); !errors.Is(err, ErrDenied) {
		t.Errorf("revoked: %v", err)
	}
}

// Keys have no two parts in common, and nothing of a secret is in what is kept.
func TestNewKey(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		k, secret := aKey(t, time.Time{})
		if id, ok := keyID(secret); !ok || id != k.ID || seen[k.ID] || seen[k.Hash] || strings.Contains(fmt.Sprint(k), secret[len(keyPrefix)+9:]) {
			t.Fatalf("%s of %+v", secret, k)
		}
		check(t, k.check())
		seen[k.ID], seen[k.Hash] = true, true
	}
}

func TestPasswords(t *testing.T) {
	hash, err := HashPassword("correct horse battery")
	check(t, err)
	d := directoryOf(t, User{Name: "ada", Password: hash}, User{Name: "nopass"})
	now := time.Unix(2e9, 0)
	d.now = func() time.Time { return now }
	try := func(name, text string, ok bool) {
		t.Helper()
		p, err := d.Authenticate(t.Context(), Credential{Name: name, Password: text})
		if ok && (err != nil || p.Name != name) || !ok && !errors.Is(err, ErrDenied) {
			t.Errorf("%s with %q: %+v, %v", name, text, p, err)
		}
	}
	try("ada", "correct horse battery", true)
	try("ada", "correct horse battery", true) // believed
	try("ada", "correct horse batterx", false)
	try("ada", "", false)
	try("nopass", "", false)
	try("nobody", "correct horse battery", false)
	try("ada", strings.Repeat("x", maxPassword+1), false)
	// A password that was changed is not believed any more.
	other, err := HashPassword("another password")
	check(t, err)
	check(t, d.Use(&Policy{Version: 1, Users: []User{{Name: "ada", Password: other}}}))
	try("ada", "correct horse battery", false)
	for range passwordsAtOnce {
		d.hashing <- struct{}{}
	}
	if _, err := d.Authenticate(t.Context(), Credential{Name: "ada", Password: "another password"}); !errors.Is(err, ErrBusy) {
		t.Errorf("all places are taken: %v", err)
	}
	for _, text := range []string{"short", strings.Repeat("x", maxPassword+1)} {
		if _, err := HashPassword(text); err == nil {
			t.Errorf("%d bytes were taken", len(text))
		}
	}
}

func TestOpen(t *testing.T) {
	d := directoryOf(t)
	p, err := d.Authenticate(t.Context(), Credential{Key: "anything"})
	check(t, err)
	if !d.Open() || !p.May(Reset, Target{}) || p.Name != "" {
		t.Errorf("%+v", p)
	}
	check(t, d.Use(&Policy{Version: 1, Users: []User{{Name: "ada"}}}))
	if _, err := d.Authenticate(t.Context(), Credential{}); d.Open() || !errors.Is(err, ErrDenied) {
		t.Errorf("with a user: %v", err)
	}
	if d.Use(&Policy{Version: 2}) == nil || d.Open() {
		t.Error("a policy of another version was taken")
	}
}

func TestPolicyRefused(t *testing.T) {
	k, _ := aKey(t, time.Time{})
	hash, err := HashPassword("a password to have")
	check(t, err)
	for name, p := range map[string]Policy{
		"version":             {},
		"name":                {Version: 1, Users: []User{{Name: "a b"}}},
		"no name":             {Version: 1, Users: []User{{}}},
		"long name":           {Version: 1, Users: []User{{Name: strings.Repeat("a", maxName+1)}}},
		"one user twice":      {Version: 1, Users: []User{{Name: "a"}, {Name: "a"}}},
		"one key twice":       {Version: 1, Users: []User{{Name: "a", Keys: []Key{k}}, {Name: "b", Keys: []Key{k}}}},
		"key twice in one":    {Version: 1, Users: []User{{Name: "a", Keys: []Key{k, k}}}},
		"empty key":           {Version: 1, Users: []User{{Name: "a", Keys: []Key{{}}}}},
		"hash in capitals":    {Version: 1, Users: []User{{Name: "a", Keys: []Key{{ID: k.ID, Hash: strings.ToUpper(k.Hash)}}}}},
		"cert twice":          {Version: 1, Users: []User{{Name: "a", Certificates: []string{"x"}}, {Name: "b", Certificates: []string{"x"}}}},
		"empty cert":          {Version: 1, Users: []User{{Name: "a", Certificates: []string{""}}}},
		"role":                {Version: 1, Users: []User{{Name: "a", Roles: []Binding{{Role: "none"}}}}},
		"password":            {Version: 1, Users: []User{{Name: "a", Password: "plain text"}}},
		"costly password":     {Version: 1, Users: []User{{Name: "a", Password: strings.Replace(hash, "m=65536", "m=9999999", 1)}}},
		"built-in role":       {Version: 1, Roles: []Role{{Name: "admin", Grants: []Grant{{Actions: []string{"*"}}}}}},
		"role twice":          {Version: 1, Roles: []Role{{Name: "r", Grants: []Grant{{Actions: []string{"*"}}}}, {Name: "r", Grants: []Grant{{Actions: []string{"*"}}}}}},
		"unknown action":      {Version: 1, Roles: []Role{{Name: "r", Grants: []Grant{{Actions: []string{"collection:fly"}}}}}},
		"half a group":        {Version: 1, Roles: []Role{{Name: "r", Grants: []Grant{{Actions: []string{"collection:g*"}}}}}},
		"no actions":          {Version: 1, Roles: []Role{{Name: "r", Grants: []Grant{{}}}}},
		"no grants":           {Version: 1, Roles: []Role{{Name: "r", Grants: nil}}},
		"a long pattern":      {Version: 1, Roles: []Role{{Name: "r", Grants: []Grant{{Actions: []string{"*"}, On: Scope{Tenant: strings.Repeat("*", maxPattern+1)}}}}}},
		"too many keys":       {Version: 1, Users: []User{{Name: "a", Keys: make([]Key, maxKeys+1)}}},
		"a bind's long scope": {Version: 1, Users: []User{{Name: "a", Roles: []Binding{{"admin", Scope{Tenant: strings.Repeat("a", maxPattern+1)}}}}}},
	} {
		if err := p.Check(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// What decodes is allowed, and encodes to what decodes to the same.
func FuzzDecode(f *testing.F) {
	k, _ := aKey(f, time.Unix(2e9, 0))
	b, err := (&Policy{Version: 1, Users: []User{{Name: "ada", Keys: []Key{k}, Roles: []Binding{{"r", Scope{Tenant: "a*"}}}}},
		Roles: []Role{{Name: "r", Grants: []Grant{{Actions: []string{"db:*"}}}}}}).Encode()
	check(f, err)
	f.Add(b)
	f.Add([]byte(`{"version":1,"users":null}`))
	f.Add([]byte(`{"version":1,"users":[{"name":"a","admin":true}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Decode(b)
		if err != nil {
			return
		}
		again, err := p.Encode()
		check(t, err)
		q, err := Decode(again)
		check(t, err)
		if x, _ := q.Encode(); string(x) != string(again) {
			t.Errorf("%s\n%s", again, x)
		}
	})
}

func TestDecodeRefuses(t *testing.T) {
	for _, text := range []string{`{"version":1,"user":[]}`, `{"version":1}{}`, `{"version":1} x`, `[]`, `{"version":1,"users":[{"name":"a","rolse":[]}]}`} {
		if _, err := Decode([]byte(text)); err == nil {
			t.Errorf("%s was taken", text)
		}
	}
	if p, err := Decode(nil); err != nil || len(p.Users) != 0 {
		t.Errorf("nothing: %+v, %v", p, err)
	}
}

// What might be allowed is what is for some target that begins so.
func TestMight(t *testing.T) {
	d := directoryOf(t, User{Name: "u", Certificates: []string{"u"}, Roles: []Binding{
		{"reader", Scope{Tenant: "acme", Database: "main", Collection: "docs-*"}}}})
	p, err := d.Authenticate(t.Context(), Credential{Certificate: "u"})
	check(t, err)
	for _, c := range []struct {
		action Action
		t      Target
		want   bool
	}{
		{Get, Target{"acme", "main", ""}, true}, {Get, Target{"acme", "other", ""}, false}, {Get, Target{"other", "main", ""}, false},
		{Get, Target{}, true}, {Add, Target{}, false}, {Get, Target{"acme", "main", "docs-1"}, true}, {Get, Target{"acme", "main", "x"}, false},
		{GetTenant, Target{Tenant: "acme"}, true}, {GetTenant, Target{Tenant: "other"}, false}, {Reset, Target{}, false}, {ReadAccess, Target{}, false},
	} {
		if got := p.Might(c.action, c.t); got != c.want {
			t.Errorf("%s, %v: %v", c.action, c.t, got)
		}
	}
	if p.MayAll(Get, "acme", "main") || p.May(Get, Target{"acme", "main", ""}) {
		t.Error("a pattern of collections stands for all of them")
	}
	if !anybody.MayAll(Get, "a", "b") {
		t.Error("an open server refuses")
	}
}

// kept is a store of settings in memory, for one goroutine at a time.
type kept map[string][]byte

func (k kept) Setting(_ context.Context, name string) ([]byte, error) { return k[name], nil }

func (k kept) ChangeSetting(_ context.Context, name string, change func([]byte) ([]byte, error)) error {
	v, err := change(k[name])
	if err == nil {
		k[name] = v
	}
	return err
}

// A store whose policy was lost with a damaged disk lets nobody in until
// somebody who has its files makes users again.
func TestLostPolicy(t *testing.T) {
	store := kept{settingLost: []byte("by a repair")}
	k, err := Open(t.Context(), store, Outside{})
	check(t, err)
	if _, err := k.Authenticate(t.Context(), Credential{}); k.Open() || !errors.Is(err, ErrDenied) {
		t.Errorf("without a credential: %v", err)
	}
	_, err = k.Run(t.Context(), Command{Do: "add-user", User: "ada", Roles: []Binding{{Role: "admin"}}})
	check(t, err)
	key, err := k.Run(t.Context(), Command{Do: "add-key", User: "ada"})
	check(t, err)
	k, err = Open(t.Context(), store, Outside{})
	check(t, err)
	if p, err := k.Authenticate(t.Context(), Credential{Key: key.Secret}); err != nil || !p.May(Reset, Target{}) {
		t.Errorf("%+v, %v", p, err)
	}
}

// Commands change what is stored and what is used, or neither.
func TestCommands(t *testing.T) {
	ctx, store := t.Context(), kept{}
	k, err := Open(ctx, store, Outside{})
	check(t, err)
	run := func(c Command) Result {
		t.Helper()
		r, err := k.Run(ctx, c)
		check(t, err)
		return r
	}
	refused := func(c Command, want string) {
		t.Helper()
		before := string(store[setting])
		if r, err := k.Run(ctx, c); err == nil || !strings.Contains(err.Error(), want) || r != (Result{}) || string(store[setting]) != before {
			t.Errorf("%+v: %+v, %v", c, r, err)
		}
	}
	is := func(key, name string) {
		t.Helper()
		p, err := k.Authenticate(t.Context(), Credential{Key: key})
		if name == "" && !errors.Is(err, ErrDenied) || name != "" && (err != nil || p.Name != name) {
			t.Errorf("%+v, %v", p, err)
		}
	}
	refused(Command{Do: "fly"}, "unknown command")
	refused(Command{Do: "add-key", User: "ada"}, "no user")
	run(Command{Do: "add-user", User: "ada", Roles: []Binding{{Role: "admin"}}})
	refused(Command{Do: "add-user", User: "ada"}, "already")
	refused(Command{Do: "add-user", User: "b c"}, "only letters")
	refused(Command{Do: "add-user", User: "bob", Roles: []Binding{{Role: "none"}}}, "no role")
	refused(Command{Do: "remove-user", User: "ada"}, "last user")
	key := run(Command{Do: "add-key", User: "ada", KeyName: "laptop"})
	is(key.Secret, "ada")
	refused(Command{Do: "add-key", User: "ada", Expires: time.Unix(1, 0)}, "expired")
	if strings.Contains(string(store[setting]), key.Secret[len(keyPrefix)+9:]) {
		t.Error("the secret is stored")
	}
	refused(Command{Do: "disable-user", User: "ada"}, "leave nobody")
	refused(Command{Do: "unbind", User: "ada", Roles: []Binding{{Role: "admin"}}}, "leave nobody")
	run(Command{Do: "disable-user", User: "ada", Force: true})
	is(key.Secret, "")
	run(Command{Do: "enable-user", User: "ada"})
	is(key.Secret, "ada")
	turned := run(Command{Do: "rotate-key", Key: key.KeyID})
	is(key.Secret, "")
	is(turned.Secret, "ada")
	soon := run(Command{Do: "rotate-key", Key: turned.KeyID, Expires: time.Now().Add(time.Hour)})
	is(turned.Secret, "ada")
	k.now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	is(turned.Secret, "")
	is(soon.Secret, "ada")
	k.now = time.Now
	run(Command{Do: "revoke-key", Key: turned.KeyID})
	key = soon
	refused(Command{Do: "rotate-key", Key: "AAAAAAAA"}, "no key")
	refused(Command{Do: "revoke-key", Key: "AAAAAAAA"}, "no key")
	refused(Command{Do: "revoke-key", User: "bob", Key: key.KeyID}, "no key")
	run(Command{Do: "revoke-key", Key: key.KeyID})
	is(key.Secret, "")
	run(Command{Do: "add-user", User: "bob"})
	run(Command{Do: "set-certificates", User: "bob", Certificates: []string{"bob's laptop"}})
	refused(Command{Do: "set-certificates", User: "ada", Certificates: []string{"bob's laptop"}}, "already")
	role := Role{Name: "r", Grants: []Grant{{Actions: []string{"db:*"}}}}
	run(Command{Do: "set-role", Role: &role})
	run(Command{Do: "bind", User: "bob", Roles: []Binding{{Role: "r"}, {Role: "r"}}})
	refused(Command{Do: "remove-role", RoleName: "r"}, "take it from him")
	refused(Command{Do: "remove-role", RoleName: "admin"}, "no role")
	refused(Command{Do: "unbind", User: "bob", Roles: []Binding{{Role: "r", On: Scope{Tenant: "x"}}}}, "does not have")
	run(Command{Do: "unbind", User: "bob", Roles: []Binding{{Role: "r"}}})
	run(Command{Do: "remove-role", RoleName: "r"})
	hash, err := HashPassword("a long password")
	check(t, err)
	run(Command{Do: "set-password", User: "bob", Password: hash})
	refused(Command{Do: "set-password", User: "bob", Password: "a long password"}, "hash")
	p, err := k.Policy(ctx)
	check(t, err)
	run(Command{Do: "remove-user", User: "bob"})
	refused(Command{Do: "import"}, "without users")
	refused(Command{Do: "import", Policy: &Policy{Version: 1}}, "without users")
	run(Command{Do: "import", Policy: p})
	again, err := Open(ctx, store, Outside{})
	check(t, err)
	if q, err := again.Authenticate(t.Context(), Credential{Name: "bob", Password: "a long password"}); err != nil || q.Name != "bob" || again.Open() {
		t.Errorf("%+v, %v", q, err)
	}
	store[setting] = []byte("{")
	if _, err := Open(ctx, store, Outside{}); err == nil {
		t.Error("a policy that cannot be read is taken for none")
	}
}

func FuzzDecodeCommand(f *testing.F) {
	f.Add([]byte(`{"do":"add-user","user":"ada","roles":[{"role":"reader","on":{"tenant":"a*"}}]}`))
	f.Add([]byte(`{"do":"import","policy":{"version":1,"users":[{"name":"a"}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeCommand(b)
		if err != nil {
			return
		}
		k, err := Open(t.Context(), kept{}, Outside{})
		check(t, err)
		if _, err := k.Run(t.Context(), c); err == nil {
			p, err := k.Policy(t.Context())
			check(t, err)
			check(t, p.Check())
		}
	})
}
