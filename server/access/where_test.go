package access

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromad/chromad/filter"
)

func whereOf(t testing.TB, text string) (w Where) {
	t.Helper()
	check(t, json.Unmarshal([]byte(text), &w))
	return w
}

// seen are the teams, of a few, whose records match; "all" and "none".
func seen(rule *filter.Expr) string {
	var out []string
	all := []string{"x", "y", "z", "ada", "${user.name}"}
	for _, name := range all {
		if rule.Match(filter.Metadata{"team": filter.String(name)}, nil) {
			out = append(out, name)
		}
	}
	switch len(out) {
	case 0:
		return "none"
	case len(all):
		return "all"
	}
	return strings.Join(out, " ")
}

// Rules with the values of somebody in them. What he has not lets nothing
// through, in whatever sense the rule asks for it.
func TestWhere(t *testing.T) {
	values := valuesOf("ada", map[string][]string{"one": {"x"}, "two": {"x", "y"}, "empty": {}, "odd": {`"]}, {"team": "z`, "${user.name}"}},
		map[string][]string{"groups": {"y", "z"}})
	for _, c := range []struct{ where, want string }{
		{`{"team": "x"}`, "x"},
		{`{"team": "${user.name}"}`, "ada"},
		{`{"team": {"$eq": "${attributes.one}"}}`, "x"},
		{`{"team": {"$ne": "${attributes.one}"}}`, "y z ada ${user.name}"},
		{`{"team": "${attributes.two}"}`, "none"}, // which of them?
		{`{"team": {"$in": "${attributes.two}"}}`, "x y"},
		{`{"team": {"$in": ["${attributes.two}"]}}`, "x y"},
		{`{"team": {"$in": ["z", "${attributes.one}", "${user.name}"]}}`, "x z ada"},
		{`{"team": {"$nin": "${claims.groups}"}}`, "x ada ${user.name}"},
		{`{"team": {"$in": "${claims.groups}"}}`, "y z"},
		{`{"$or": [{"team": "${attributes.one}"}, {"team": {"$in": "${claims.groups}"}}]}`, "x y z"},
		{`{"team": {"$in": "${attributes.none}"}}`, "none"},
		{`{"team": {"$nin": "${attributes.none}"}}`, "none"},
		{`{"team": {"$nin": "${attributes.empty}"}}`, "none"},
		{`{"team": {"$nin": ["x", "${claims.none}"]}}`, "none"},
		{`{"team": {"$ne": "${claims.one}"}}`, "none"}, // an attribute is no claim
		{`{"$or": [{"team": "x"}, {"team": "${claims.none}"}]}`, "none"},
		{`{"team": {"$in": "${attributes.odd}"}}`, "${user.name}"}, // a value stays one
		{`{"other": {"$ne": "x"}}`, "all"},
	} {
		w := whereOf(t, c.where)
		if err := w.check(); err != nil {
			t.Errorf("%s: %v", c.where, err)
		}
		if got := seen(w.bind(values)); got != c.want {
			t.Errorf("%s: %s, want %s", c.where, got, c.want)
		}
	}
	if got := seen(whereOf(t, `{"team": {"$ne": "${user.name}"}}`).bind(valuesOf("", nil, nil))); got != "none" {
		t.Errorf("nobody sees %s", got)
	}
}

// Rules that mean something else than their author thinks are refused.
func TestWhereRefused(t *testing.T) {
	for _, where := range []string{
		`{}`, `{"team": "${attributes}"}`, `{"team": "${attributes.}"}`, `{"team": "${user.mail}"}`, `{"team": "team-${user.name}"}`, `{"team": "${user.name} "}`,
		`{"team": "${env.HOME}"}`, `{"${user.name}": "x"}`, `{"team": {"$in": []}}`, `{"team": {"$in": ["x", 1]}}`, `{"n": {"$gt": "${user.name}"}}`,
		`{"team": {"$unknown": "x"}}`, `{"#document": {"$contains": "x"}}`, `{"$and": [{"team": "x"}, {"#document": {"$regex": "x"}}]}`, `{"a": "x", "b": "x"}`,
		`{"n": 9007199254740993}`, `{"team": null}`, `{"team": "${attributes.a}${attributes.b}"}`, `{"team": {"$in": ["` + strings.Repeat("x", maxWhere) + `"]}}`,
		strings.Repeat(`{"$and": [`, 200) + `{"a": "x"}` + strings.Repeat(`]}`, 200),
	} {
		if whereOf(t, where).check() == nil {
			t.Errorf("%.200s: no error", where)
		}
	}
	for _, bad := range []string{`null`, `[]`, `"x"`, `1`, ``} {
		if _, err := Decode([]byte(`{"version":1,"users":[],"roles":[{"name":"r","grants":[{"actions":["collection:get"],"where":` + bad + `}]}]}`)); err == nil {
			t.Errorf("where %q: no error", bad)
		}
	}
	w := Where{"team": "x"}
	for _, action := range []string{"*", "collection:*", "collection:get_collection", "collection:delete_collection", "collection:functions", "db:list_collections"} {
		p := &Policy{Version: 1, Roles: []Role{{Name: "r", Grants: []Grant{{Actions: []string{"collection:get", action}, Where: w}}}}}
		if p.Check() == nil {
			t.Errorf("%s with a rule: no error", action)
		}
	}
	for _, a := range []Attributes{{"": {"x"}}, {"a b": {"x"}}, {"a": {""}}, {"a": {strings.Repeat("x", maxValue+1)}}, {"a": {"\xff"}}, {"a": make([]string, maxValues+1)}} {
		if (&Policy{Version: 1, Users: []User{{Name: "u", Attributes: a}}}).Check() == nil {
			t.Errorf("attributes %.100v: no error", a)
		}
	}
}

// Several grants of an action add up; one without a rule lifts it, where it holds.
func TestRule(t *testing.T) {
	get, query := []string{"collection:get"}, []string{"collection:query"}
	roles := []Role{
		{Name: "teams", Grants: []Grant{{Actions: append(query, get...), Where: Where{"team": map[string]any{"$in": "${attributes.teams}"}}}}},
		{Name: "own", Grants: []Grant{{Actions: get, Where: Where{"team": "${user.name}"}}}},
		{Name: "claims", Grants: []Grant{{Actions: get, Where: Where{"team": map[string]any{"$nin": "${claims.groups}"}}}}},
		{Name: "here", Grants: []Grant{{Actions: get, On: Scope{Collection: "here"}}}},
	}
	p := &Policy{Version: 1, Roles: roles}
	for _, names := range []string{"teams", "own", "teams own", "teams claims", "teams own here", "reader teams", "here"} {
		u := User{Name: "ada", Attributes: Attributes{"teams": {"x", "y"}}}
		for name := range strings.FieldsSeq(names) {
			u.Roles = append(u.Roles, Binding{Role: name})
		}
		k, _ := aKey(t, time.Time{})
		u.Name, u.Keys = "ada", []Key{k}
		p.Users = append(p.Users[:0], u)
		d, err := NewDirectory(p, Outside{})
		check(t, err)
		who, err := d.current.Load().byName["ada"].principal("key", "")
		check(t, err)
		got := ""
		for _, at := range []struct {
			action     Action
			collection string
		}{{Get, "here"}, {Get, "there"}, {Query, "there"}} {
			rule, ruled := who.Rule(at.action, Target{"t", "d", at.collection})
			if may := who.May(at.action, Target{"t", "d", at.collection}); !may && (!ruled || seen(rule) != "none") {
				t.Errorf("%s: may not %s, and may", names, at.action)
			}
			if got += fmt.Sprintf("%t", ruled); ruled {
				got += ":" + seen(rule)
			}
			got += "; "
		}
		want := map[string]string{
			"teams":          "true:x y; true:x y; true:x y; ",
			"own":            "true:ada; true:ada; true:none; ",
			"teams own":      "true:x y ada; true:x y ada; true:x y; ",
			"teams claims":   "true:x y; true:x y; true:x y; ",
			"teams own here": "false; true:x y ada; true:x y; ",
			"reader teams":   "false; false; false; ",
			"here":           "false; true:none; true:none; ",
		}[names]
		if got != want || who.Ruled() != (names != "here") {
			t.Errorf("%s: %s, want %s", names, got, want)
		}
	}
	if rule, ruled := anybody.Rule(Get, Target{}); ruled || rule != nil || anybody.Ruled() {
		t.Error("a store without users has rules")
	}
	if rule, ruled := nobody.Rule(Get, Target{}); !ruled || seen(rule) != "none" {
		t.Error("nobody may read")
	}
}
