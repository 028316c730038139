package access

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/chromad/chromad/server/limit"
	"github.com/chromad/chromad/server/privacy"
)

// aTeam is a policy with an admin, users of less, and mia, who manages users
// and holds what an editor of acme does, and records of her team in beta.
func aTeam(t testing.TB) *Keeper {
	t.Helper()
	k, err := Open(t.Context(), kept{}, Outside{})
	check(t, err)
	acme := Scope{Tenant: "acme"}
	check(t, k.Change(t.Context(), func(p *Policy) error {
		p.Roles = []Role{
			{Name: "manager", Grants: []Grant{{Actions: []string{string(ReadAccess), string(WriteAccess)}}}},
			{Name: "team", Grants: []Grant{{Actions: []string{"collection:get"}, Where: Where{"team": "${attributes.team}"}}}},
			{Name: "corner", Grants: []Grant{{Actions: []string{"db:create_database"}, On: Scope{Tenant: "gamma"}}}},
			{Name: "unused", Grants: []Grant{{Actions: []string{"*"}}}},
			{Name: "docs", Grants: []Grant{{Actions: []string{"collection:get", "collection:add"}, On: Scope{Tenant: "acme", Collection: "docs-*"}}}},
		}
		p.Users = []User{
			{Name: "ada", Roles: []Binding{{Role: "admin"}}},
			{Name: "mia", Roles: []Binding{{Role: "manager"}, {Role: "corner"}, {Role: "editor", On: acme}, {Role: "team", On: Scope{Tenant: "beta"}}}, Attributes: Attributes{"team": {"red"}}},
			{Name: "bob", Roles: []Binding{{Role: "reader", On: acme}}},
			{Name: "old", Roles: []Binding{{Role: "admin"}}, Disabled: true},
			{Name: "tim", Roles: []Binding{{Role: "team", On: Scope{Tenant: "beta"}}}, Attributes: Attributes{"team": {"blue"}}},
		}
		for i := range p.Users {
			key, _ := aKey(t, time.Time{})
			p.Users[i].Keys, p.Users[i].Certificates = []Key{key}, []string{p.Users[i].Name}
		}
		return nil
	}))
	return k
}

func (k *Keeper) as(t testing.TB, name string) *Principal {
	t.Helper()
	p, err := k.Authenticate(t.Context(), Credential{Certificate: name})
	check(t, err)
	return p
}

// Who manages users gives what he holds and no more, on no way: not to others,
// not to himself, not by a role, a credential or an attribute of somebody else.
func TestEscalation(t *testing.T) {
	ctx := t.Context()
	shown, err := aTeam(t).Policy(ctx)
	check(t, err)
	with := func(change func(p *Policy)) *Policy {
		p, err := shown.clone()
		check(t, err)
		change(p)
		return p
	}
	in := func(tenant string) Scope { return Scope{Tenant: tenant} }
	secret, err := HashPassword("a long password")
	check(t, err)
	for _, c := range []struct {
		name string
		Command
		allowed bool
	}{
		{"a reader of hers", Command{Do: "add-user", User: "new", Roles: []Binding{{"reader", in("acme")}}}, true},
		{"an editor of a part", Command{Do: "add-user", User: "new", Roles: []Binding{{"editor", Scope{"acme", "main", "docs-*"}}}}, true},
		{"a role whose grants are confined", Command{Do: "add-user", User: "new", Roles: []Binding{{Role: "docs"}}}, true},
		{"a corner of hers", Command{Do: "add-user", User: "new", Roles: []Binding{{Role: "corner"}}}, true},
		{"a manager", Command{Do: "add-user", User: "new", Roles: []Binding{{Role: "manager"}}}, true},
		{"somebody without a role", Command{Do: "add-user", User: "new"}, true},
		{"a key of bob", Command{Do: "add-key", User: "bob"}, true},
		{"end bob", Command{Do: "remove-user", User: "bob"}, true},
		{"a role of hers", Command{Do: "set-role", Role: &Role{Name: "new", Grants: []Grant{{Actions: []string{"collection:get"}, On: in("acme")}}}}, true},
		{"limits of bob", Command{Do: "set-limits", User: "bob", Limits: &limit.Set{Bounds: limit.Bounds{Requests: 1}}}, true},

		{"her corner everywhere", Command{Do: "set-role", Role: &Role{Name: "new", Grants: []Grant{{Actions: []string{"db:create_database"}}}}}, false},
		{"an admin", Command{Do: "add-user", User: "new", Roles: []Binding{{Role: "admin"}}}, false},
		{"an admin of a tenant", Command{Do: "add-user", User: "new", Roles: []Binding{{"admin", in("acme")}}}, false},
		{"a reader everywhere", Command{Do: "add-user", User: "new", Roles: []Binding{{Role: "reader"}}}, false},
		{"a reader of more tenants", Command{Do: "add-user", User: "new", Roles: []Binding{{"reader", in("acme*")}}}, false},
		{"a reader of another tenant", Command{Do: "add-user", User: "new", Roles: []Binding{{"reader", in("beta")}}}, false},
		{"a rule like hers", Command{Do: "add-user", User: "new", Roles: []Binding{{"team", in("beta")}}, Attributes: Attributes{"team": {"blue"}}}, false},
		{"herself", Command{Do: "bind", User: "mia", Roles: []Binding{{Role: "admin"}}}, false},
		{"bob", Command{Do: "bind", User: "bob", Roles: []Binding{{"editor", in("beta")}}}, false},
		{"her team", Command{Do: "set-attributes", User: "mia", Attributes: Attributes{"team": {"blue"}}}, false},
		{"another's team", Command{Do: "set-attributes", User: "tim", Attributes: Attributes{"team": {"red", "blue"}}}, false},
		{"a key of the admin", Command{Do: "add-key", User: "ada"}, false},
		{"the admin's key", Command{Do: "rotate-key", Key: shown.User("ada").Keys[0].ID}, false},
		{"the admin's password", Command{Do: "set-password", User: "ada", Password: secret}, false},
		{"the admin's certificate", Command{Do: "set-certificates", User: "ada", Certificates: []string{"ada", "m"}}, false},
		{"the end of the admin's key", Command{Do: "revoke-key", Key: shown.User("ada").Keys[0].ID}, false},
		{"the end of the admin", Command{Do: "remove-user", User: "ada", Force: true}, false},
		{"no admin", Command{Do: "disable-user", User: "ada", Force: true}, false},
		{"a limit of the admin", Command{Do: "set-limits", User: "ada", Limits: &limit.Set{Bounds: limit.Bounds{Requests: 1}}}, false},
		{"an admin of before", Command{Do: "enable-user", User: "old"}, false},
		{"a role of more", Command{Do: "set-role", Role: &Role{Name: "new", Grants: []Grant{{Actions: []string{"system:reset"}}}}}, false},
		{"her role", Command{Do: "set-role", Role: &Role{Name: "manager", Grants: []Grant{{Actions: []string{"*"}}}}}, false},
		{"a role that is more", Command{Do: "set-role", Role: &Role{Name: "unused", Grants: []Grant{{Actions: []string{"collection:get"}, On: in("acme")}}}}, false},
		{"a rule that is lifted", Command{Do: "set-role", Role: &Role{Name: "team", Grants: []Grant{{Actions: []string{"collection:get"}}}}}, false},
		{"a role that goes", Command{Do: "remove-role", RoleName: "unused"}, false},
		{"an import of the same", Command{Do: "import", Policy: with(func(*Policy) {})}, true},
		{"an import with a key of the admin", Command{Do: "import", Policy: with(func(p *Policy) { k, _ := aKey(t, time.Time{}); p.Users[0].Keys = append(p.Users[0].Keys, k) })}, false},
		{"an import with her as admin", Command{Do: "import", Policy: with(func(p *Policy) { p.Users[1].Roles = []Binding{{Role: "admin"}} })}, false},
		{"an import without the admin", Command{Do: "import", Policy: with(func(p *Policy) { p.Users = p.Users[1:] }), Force: true}, false},
	} {
		k := aTeam(t)
		check(t, k.Change(ctx, func(p *Policy) error { *p = *with(func(*Policy) {}); return nil }))
		before, err := k.Policy(ctx)
		check(t, err)
		r, err := k.RunAs(ctx, k.as(t, "mia"), c.Command)
		after, e := k.Policy(ctx)
		check(t, e)
		was, _ := before.Encode()
		is, _ := after.Encode()
		switch {
		case c.allowed:
			check(t, err)
		case !errors.Is(err, ErrBeyond) || r != (Result{}) || string(was) != string(is):
			t.Errorf("%s: %+v, %v", c.name, r, err)
		}
		if _, err := k.RunAs(ctx, k.as(t, "ada"), c.Command); err != nil && !c.allowed && !strings.Contains(err.Error(), "nobody who") {
			t.Errorf("%s, by an admin: %v", c.name, err)
		}
	}
}

// Who does not see all of a record lets nobody else see it.
func TestEscalationOfFields(t *testing.T) {
	ctx, k := t.Context(), aTeam(t)
	masked := Role{Name: "masked", Grants: []Grant{{Actions: []string{"collection:query"}, Fields: privacy.Fields{Document: "hide"}}}}
	_, err := k.Run(ctx, Command{Do: "set-role", Role: &masked})
	check(t, err)
	_, err = k.Run(ctx, Command{Do: "bind", User: "mia", Roles: []Binding{{Role: "masked"}}})
	check(t, err)
	reader := []Binding{{"reader", Scope{Tenant: "acme"}}}
	if _, err := k.RunAs(ctx, k.as(t, "mia"), Command{Do: "add-user", User: "new", Roles: reader}); !errors.Is(err, ErrBeyond) {
		t.Errorf("a reader: %v", err)
	}
	_, err = k.RunAs(ctx, k.as(t, "mia"), Command{Do: "add-user", User: "new", Roles: []Binding{{Role: "manager"}}})
	check(t, err)
}

// contains is right wherever it says yes: what the narrower scopes hold, the
// wider one does.
func TestScopeContains(t *testing.T) {
	patterns := []string{"", "*", "a", "ab", "a*", "*b", "a*b", "*a*", "**", "b"}
	names := []string{"a", "b", "ab", "aab", "abb", "ba", "acb", "*", "a*"}
	yes := 0
	for _, wide := range patterns {
		for _, one := range patterns {
			for _, two := range patterns {
				if !(Scope{Tenant: wide}).contains(Scope{Tenant: one}, Scope{Tenant: two}) {
					if wide == "" || wide == "*" || wide == one || wide == two {
						t.Errorf("%q does not contain what %q and %q hold", wide, one, two)
					}
					continue
				}
				yes++
				for _, name := range names {
					if stands(one, name) && stands(two, name) && !stands(wide, name) {
						t.Errorf("%q is said to contain %q and %q, and not %q", wide, one, two, name)
					}
				}
			}
		}
	}
	if yes < 200 {
		t.Errorf("only %d", yes)
	}
}

// Everybody may rotate his own key, and nobody's else; he stays no longer for it.
func TestRotateOwn(t *testing.T) {
	ctx, k := t.Context(), aTeam(t)
	ends := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	first, err := k.Run(ctx, Command{Do: "add-key", User: "bob", KeyName: "laptop", Expires: ends})
	check(t, err)
	bob, err := k.Authenticate(ctx, Credential{Key: first.Secret})
	check(t, err)
	ada, err := k.Policy(ctx)
	check(t, err)
	stranger := *bob
	stranger.Method, stranger.Key = "token", ""
	for name, ask := range map[string]func() (Result, error){
		"another's":      func() (Result, error) { return k.RotateOwn(ctx, bob, ada.User("ada").Keys[0].ID, time.Time{}) },
		"none":           func() (Result, error) { return k.RotateOwn(ctx, bob, "AAAAAAAA", time.Time{}) },
		"by certificate": func() (Result, error) { return k.RotateOwn(ctx, k.as(t, "bob"), "", time.Time{}) },
		"a token's":      func() (Result, error) { return k.RotateOwn(ctx, &stranger, first.KeyID, time.Time{}) },
	} {
		var wrong *Mistake
		if r, err := ask(); !errors.As(err, &wrong) || r != (Result{}) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	second, err := k.RotateOwn(ctx, bob, "", time.Time{})
	check(t, err)
	if _, err := k.Authenticate(ctx, Credential{Key: first.Secret}); !errors.Is(err, ErrDenied) {
		t.Errorf("the old key: %v", err)
	}
	bob, err = k.Authenticate(ctx, Credential{Key: second.Secret})
	check(t, err)
	third, err := k.RotateOwn(ctx, bob, "", time.Now().Add(24*time.Hour))
	check(t, err)
	p, err := k.Policy(ctx)
	check(t, err)
	for _, key := range p.User("bob").Keys[1:] {
		if !key.Expires.Equal(ends) || key.Name != "laptop" {
			t.Errorf("%+v", key)
		}
	}
	for _, key := range []string{second.Secret, third.Secret} {
		_, err := k.Authenticate(ctx, Credential{Key: key})
		check(t, err)
	}
}

// The end of a key is that of all that is made with it: who holds one that ends
// soon gets none that stays by naming another one of the same user.
func TestRotateOwnNamed(t *testing.T) {
	ctx, k := t.Context(), aTeam(t)
	soon, later := time.Now().Add(time.Hour).UTC().Truncate(time.Second), time.Now().Add(48*time.Hour).UTC().Truncate(time.Second)
	for _, c := range []struct{ shown, named, want time.Time }{
		{soon, time.Time{}, soon}, {soon, later, soon}, {later, soon, soon}, {time.Time{}, soon, soon}, {time.Time{}, time.Time{}, time.Time{}},
	} {
		shown, err := k.Run(ctx, Command{Do: "add-key", User: "bob", Expires: c.shown})
		check(t, err)
		named, err := k.Run(ctx, Command{Do: "add-key", User: "bob", Expires: c.named})
		check(t, err)
		bob, err := k.Authenticate(ctx, Credential{Key: shown.Secret})
		check(t, err)
		r, err := k.RotateOwn(ctx, bob, named.KeyID, time.Time{})
		check(t, err)
		p, err := k.Policy(ctx)
		check(t, err)
		for _, key := range p.User("bob").Keys {
			if key.ID == r.KeyID && !key.Expires.Equal(c.want) {
				t.Errorf("shown until %v, named until %v: the new one until %v", c.shown, c.named, key.Expires)
			}
		}
		// With a certificate the named one counts alone.
		if r, err = k.RotateOwn(ctx, k.as(t, "bob"), r.KeyID, time.Time{}); err != nil || r.Secret == "" {
			t.Errorf("by certificate: %v", err)
		}
		_, err = k.Run(ctx, Command{Do: "revoke-key", Key: shown.KeyID})
		check(t, err)
		var wrong *Mistake
		if _, err = k.RotateOwn(ctx, bob, r.KeyID, time.Time{}); !errors.As(err, &wrong) {
			t.Errorf("with a key that was revoked meanwhile: %v", err)
		}
	}
}

// Keys that have ended make room: who rotates his key and keeps the old one for a
// while can go on doing so. Too many that are valid are his mistake.
func TestRotateForYears(t *testing.T) {
	ctx, k := t.Context(), aTeam(t)
	now := time.Now()
	k.now = func() time.Time { return now }
	made, err := k.Run(ctx, Command{Do: "add-key", User: "bob"})
	check(t, err)
	next := func() error {
		bob, err := k.Authenticate(ctx, Credential{Key: made.Secret})
		check(t, err)
		r, err := k.RotateOwn(ctx, bob, "", now.Add(time.Hour))
		if err == nil {
			made = r
		}
		return err
	}
	for range 2 * maxKeys {
		check(t, next())
		now = now.Add(2 * time.Hour)
	}
	for range 2 * maxKeys { // and so does who gives keys that end
		_, err := k.Run(ctx, Command{Do: "add-key", User: "bob", Expires: now.Add(time.Hour)})
		check(t, err)
		now = now.Add(2 * time.Hour)
	}
	p, err := k.Policy(ctx)
	check(t, err)
	if n := len(p.User("bob").Keys); n > 4 {
		t.Errorf("%d keys", n)
	}
	for err = nil; err == nil; err = next() {
	}
	var wrong *Mistake
	if !errors.As(err, &wrong) || !strings.Contains(err.Error(), "at most 100") {
		t.Errorf("too many: %v", err)
	}
	bob, err := k.Authenticate(ctx, Credential{Key: made.Secret})
	check(t, err)
	_, err = k.RotateOwn(ctx, bob, "", time.Time{}) // in its place there is room
	check(t, err)
}

// What is shown of a policy has no hash in it, and comes back as what it was.
func TestShown(t *testing.T) {
	ctx, k := t.Context(), aTeam(t)
	hash, err := HashPassword("a long password")
	check(t, err)
	_, err = k.Run(ctx, Command{Do: "set-password", User: "bob", Password: hash})
	check(t, err)
	p, err := k.Policy(ctx)
	check(t, err)
	was, err := p.Encode()
	check(t, err)
	text, err := json.Marshal(p.Shown())
	check(t, err)
	for _, secret := range []string{hash, p.Users[0].Keys[0].Hash} {
		if strings.Contains(string(text), secret) {
			t.Error("a hash is shown")
		}
	}
	if now, _ := p.Encode(); string(now) != string(was) {
		t.Error("showing it has changed it")
	}
	if _, err := Decode(text); err == nil {
		t.Error("it is taken for what is stored")
	}
	back := func(change func(p *Policy)) error {
		next, err := Read(text)
		check(t, err)
		change(next)
		_, err = k.Run(ctx, Command{Do: "import", Policy: next})
		return err
	}
	check(t, back(func(*Policy) {}))
	p, err = k.Policy(ctx)
	check(t, err)
	if now, _ := p.Encode(); string(now) != string(was) {
		t.Errorf("it comes back as %s, it was %s", now, was)
	}
	for name, change := range map[string]func(p *Policy){
		"another's key":       func(p *Policy) { p.Users[2].Keys = p.Users[0].Keys },
		"a password of none":  func(p *Policy) { p.Users[0].Password = Hidden },
		"a user that is new":  func(p *Policy) { p.Users[0].Name = "eve" },
		"a key that is new":   func(p *Policy) { p.Users[0].Keys[0].ID = "AAAAAAAA" },
		"a hash that is none": func(p *Policy) { p.Users[0].Keys[0].Hash = "hiddeN" },
	} {
		if err := back(change); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// A command that two readers could understand differently is refused.
func TestStrict(t *testing.T) {
	for text, want := range map[string]string{
		`{"do":"add-user","user":"a","limits":{"requests":1,"actions":{"db:*":{"rows":1}}},"attributes":{"any Name":["x"]}}`:               "",
		`{"do":"set-role","role":{"name":"r","grants":[{"actions":["collection:get"],"where":{"$and":[{"Any":1},{"b":{"$in":["x"]}}]}}]}}`: "",
		`{"do":"add-key","expires":"2030-01-01T00:00:00Z"}`:                                                                                "",
		`{"do":"add-user","do":"add-user"}`:                                                                     "twice",
		`{"Do":"add-user"}`:                                                                                     "unknown field",
		`{"do":"add-user","roles":[{"role":"a","Role":"b"}]}`:                                                   "unknown field",
		`{"do":"add-user","roles":[{"role":"a","on":{"tenant":"a","tenant":"b"}}]}`:                             "twice",
		`{"do":"add-user","attributes":{"team":["a"],"team":["b"]}}`:                                            "twice",
		`{"do":"set-role","role":{"name":"r","grants":[{"actions":["collection:get"],"where":{"a":1,"a":2}}]}}`: "twice",
		`{"do":"add-user","limits":{"requests":1,"Requests":2}}`:                                                "unknown field",
		`{"do":"add-user"} {}`:                                                                                  "after top-level",
		`{"do":"add-user","user":"` + "\xff" + `"}`:                                                             "UTF-8",
		`{"do":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`:                                "depth",
		``:                     "end of JSON",
		`[]`:                   "cannot unmarshal",
		`{"do":"x","other":1}`: "unknown field",
	} {
		_, err := DecodeCommand([]byte(text))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.80s: %v", text, err)
		}
	}
}
