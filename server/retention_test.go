package server

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server/access"
)

// ours is the path of the retention of a collection whose records are at path.
func ours(path string) string {
	return "/api/v2/chromad" + strings.TrimPrefix(path, "/api/v2") + "/retention"
}

func (r *rig) says(status int, answer string, method, path, body string) {
	r.t.Helper()
	got, text := r.do(method, path, body)
	if got != status || !strings.Contains(text, answer) {
		r.t.Errorf("%s %s %s: %d %s, want %d %s", method, path, body, got, text, status, answer)
	}
}

// A retention is set, shown and ended, and records go by it, through Chroma's own routes.
func TestRetentionRoutes(t *testing.T) {
	r := newRig(t, Config{}, nil)
	path := r.collection(`{"name":"docs"}`)
	at := ours(path)
	r.says(200, `"retention":null,"hold":null,"over":0,"unclear":0}`, "GET", at, "")
	r.says(200, `[]`, "GET", "/api/v2/chromad/retention", "")
	r.says(201, "", "POST", path+"/add", `{"ids":["old"],"embeddings":[[1]],"metadatas":[{"until":"never"}]}`)
	r.says(200, `"name":"docs","retention":{"key":"until","default_seconds":3600},"hold":null,"over":0,"unclear":1}`, "PUT", at, `{"key":"until","default_seconds":3600}`)
	r.says(200, `"retention":{"key":"until","default_seconds":3600},"hold":null}]`, "GET", "/api/v2/chromad/retention", "")
	r.says(400, `record 1: metadata: key \"until\" says when the record expires`, "POST", path+"/add", `{"ids":["a","b"],"embeddings":[[1],[1]],"metadatas":[null,{"until":true}]}`)
	soon := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	r.says(201, "", "POST", path+"/add", `{"ids":["past","later","default"],"embeddings":[[1],[1],[1]],"metadatas":[{"until":1},{"until":"`+soon+`"},null]}`)
	r.says(200, "3", "GET", path+"/count", "")
	r.says(200, `"ids":["old","later","default"]`, "POST", path+"/get", `{}`)
	r.says(200, `"ids":[["old","later","default"]]`, "POST", path+"/query", `{"query_embeddings":[[1]],"n_results":9}`)
	r.says(200, `"deleted":0`, "POST", path+"/delete", `{"ids":["past"]}`)
	r.says(200, `"retention":null`, "DELETE", at, "")
	for _, bad := range []string{`{"default_seconds":-1}`, `{"default_seconds":1.5}`, `{"default_seconds":99999999999}`, `{"default_seconds":8589934592}`, `{"keys":"x"}`, `{"key":"#document"}`, `[]`, `{"key":1}`} {
		if status, answer := r.do("PUT", at, bad); status != 400 && status != 422 {
			t.Errorf("%s: %d %s", bad, status, answer)
		}
	}
	r.says(200, `"retention":null`, "GET", at, "")
	r.says(404, "does not exist", "GET", ours(inDefault+"/collections/00000000-0000-4000-8000-000000000000"), "")
}

// By a clock that nobody waits for: a record goes at its second, is deleted within
// a minute, and comes back under its id as another one.
func TestExpiryRoutes(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		db, err := engine.Open(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		r := &rig{Server: New(Config{Store: EngineStore(db)}), t: t, log: &bytes.Buffer{}}
		path := r.collection(`{"name":"docs"}`)
		r.says(200, "", "PUT", ours(path), `{"default_seconds":7200}`)
		r.says(201, "", "POST", path+"/add", fmt.Sprintf(`{"ids":["a","b"],"embeddings":[[1],[2]],"documents":["old",null],"metadatas":[{"expires_at":%d},null]}`, time.Now().Add(time.Hour+30*time.Second).Unix()))
		time.Sleep(time.Hour + 29*time.Second) // between two sweeps
		r.says(200, "2", "GET", path+"/count", "")
		time.Sleep(time.Second)
		r.says(200, "1", "GET", path+"/count", "")
		r.says(200, `"ids":["b"]`, "POST", path+"/get", `{}`)
		r.says(200, `"ids":[["b"]]`, "POST", path+"/query", `{"query_embeddings":[[1]],"n_results":5}`)
		r.says(201, "", "POST", path+"/add", `{"ids":["a"],"embeddings":[[3]]}`)
		r.says(200, `"ids":["b","a"],"embeddings":null,"documents":[null,null]`, "POST", path+"/get", `{}`)
		time.Sleep(time.Hour)
		r.says(200, `"ids":["a"]`, "POST", path+"/get", `{}`)
		time.Sleep(time.Minute)
		synctest.Wait()
		r.says(200, "\nchromad_expired_records_total 1\n", "GET", "/metrics", "")
		r.says(200, "\nchromad_records 1\n", "GET", "/metrics", "")
	})
}

// A hold refuses, on every route, what would take something away from the
// collection, and says what to do; everything else goes on.
func TestHoldRoutes(t *testing.T) {
	r := newRig(t, Config{AllowReset: true}, &engine.Options{})
	path := r.collection(`{"name":"docs"}`)
	other := r.collection(`{"name":"other"}`)
	hold := ours(path) + "/hold"
	r.says(201, "", "POST", path+"/add", `{"ids":["a"],"embeddings":[[1]]}`)
	r.says(400, "empty", "PUT", hold, `{"reason":" "}`)
	r.says(422, "missing field", "PUT", hold, `{}`)
	r.says(404, "no legal hold", "DELETE", hold, "")
	r.says(200, `"hold":{"reason":"Smith v. Acme","since":"2`, "PUT", hold, `{"reason":"Smith v. Acme"}`)
	r.says(409, "already", "PUT", hold, `{"reason":"Jones v. Acme"}`)
	destructive := []struct{ method, path, body string }{
		{"POST", path + "/delete", `{"ids":["a"]}`}, {"POST", path + "/delete", `{"where":{"x":{"$ne":1}}}`},
		{"POST", path + "/update", `{"ids":["a"],"embeddings":[[2]]}`}, {"POST", path + "/upsert", `{"ids":["b","a"],"embeddings":[[2],[2]]}`},
		{"PUT", path, `{"new_name":"gone"}`}, {"PUT", path, `{"new_metadata":{"a":1}}`}, {"DELETE", inDefault + "/collections/docs", ""},
		{"DELETE", inDefault, ""}, {"POST", "/api/v2/reset", ""}, {"PUT", ours(path), `{}`}, {"DELETE", ours(path), ""},
	}
	for _, c := range destructive {
		status, answer := r.do(c.method, c.path, c.body)
		if status != 409 || !strings.Contains(answer, "under legal hold since") || !strings.Contains(answer, "until the hold is released") {
			t.Errorf("%s %s %s: %d %s", c.method, c.path, c.body, status, answer)
		}
		if strings.Contains(answer, "Smith") {
			t.Errorf("%s %s tells what the hold is for: %s", c.method, c.path, answer)
		}
	}
	r.says(200, `"ids":["a"],"embeddings":[[1.0]]`, "POST", path+"/get", `{"include":["embeddings"]}`)
	r.says(201, "", "POST", path+"/add", `{"ids":["a","c"],"embeddings":[[9],[3]]}`)
	r.says(200, "", "POST", path+"/upsert", `{"ids":["d"],"embeddings":[[4]]}`)
	r.says(201, "", "POST", other+"/add", `{"ids":["a"],"embeddings":[[1]]}`)
	r.says(200, `"deleted":1`, "POST", other+"/delete", `{"ids":["a"]}`)
	if _, metrics := r.do("GET", "/metrics", ""); !strings.Contains(metrics, "\nchromad_held_collections 1\n") {
		t.Error("the metrics know of no hold")
	}
	r.says(200, `"hold":null`, "DELETE", hold, "")
	for _, c := range destructive[:7] {
		if status, answer := r.do(c.method, c.path, c.body); status != 200 {
			t.Errorf("released, %s %s %s: %d %s", c.method, c.path, c.body, status, answer)
		}
		if c.path == path && c.body == `{"new_name":"gone"}` {
			r.says(200, "", "PUT", path, `{"new_name":"docs"}`)
		}
	}
	if strings.Contains(r.log.String(), "Smith") {
		t.Error("what a hold is for is in the log")
	}
}

// Who may place a hold need not be able to release it, and the list shows what
// its reader may see.
func TestRetentionRoles(t *testing.T) {
	m := newMatrix(t)
	key := func(name string, grants ...access.Grant) (access.User, access.Role, string) {
		k, secret, err := access.NewKey("", time.Unix(1, 0), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		return access.User{Name: name, Keys: []access.Key{k}, Roles: []access.Binding{{Role: name}}}, access.Role{Name: name, Grants: grants}, secret
	}
	main := access.Scope{Tenant: "acme", Database: "main"}
	p := &access.Policy{Version: 1}
	for name, grants := range map[string][]access.Grant{
		"counsel": {{Actions: []string{"retention:read", "retention:hold"}, On: main}}, "judge": {{Actions: []string{"retention:*"}, On: main}},
		"worker": {{Actions: []string{"collection:*", "db:*"}}}, "boss": {{Actions: []string{"*"}}},
	} {
		u, role, secret := key(name, grants...)
		p.Users, p.Roles, m.keys[name] = append(p.Users, u), append(p.Roles, role), secret
	}
	if err := m.config.Access.Use(p); err != nil {
		t.Fatal(err)
	}
	at := func(where string) string {
		return ours("/api/v2/tenants/acme/databases/"+where+"/collections/"+m.ids["acme/"+where]) + "/hold"
	}
	m.as(403, "worker", "PUT", at("main"), `{"reason":"r"}`)
	m.as(200, "counsel", "PUT", at("main"), `{"reason":"r"}`)
	m.as(403, "counsel", "PUT", at("other"), `{"reason":"r"}`)
	m.as(200, "boss", "PUT", at("other"), `{"reason":"r"}`)
	m.as(403, "counsel", "DELETE", at("main"), "")
	m.as(403, "worker", "DELETE", at("main"), "")
	for who, n := range map[string]int{"counsel": 1, "judge": 1, "boss": 2} {
		if list := m.as(200, who, "GET", "/api/v2/chromad/retention", ""); strings.Count(list, `"reason"`) != n {
			t.Errorf("%s sees %s, want %d", who, list, n)
		}
	}
	m.as(403, "worker", "GET", "/api/v2/chromad/retention", "")
	m.as(409, "worker", "DELETE", fmt.Sprintf("/api/v2/tenants/%s/databases/%s/collections/docs", "acme", "main"), "")
	m.as(200, "judge", "DELETE", at("main"), "")
	m.as(200, "worker", "DELETE", fmt.Sprintf("/api/v2/tenants/%s/databases/%s/collections/docs", "acme", "main"), "")
}

// A retention and a hold are of all records: who may meet or change some of them
// only neither sees nor changes them, and who meets all, or none, does.
func TestRetentionUnderRule(t *testing.T) {
	records := ruledRole().Grants[1].Actions
	red := access.Where{"team": "red"}
	keeps := access.Grant{Actions: []string{"retention:*"}}
	for name, c := range map[string]struct {
		grants   []access.Grant
		confined bool
	}{
		"some records":     {[]access.Grant{keeps, {Actions: records, Where: red}}, true},
		"counts some":      {[]access.Grant{keeps, {Actions: []string{"collection:count"}, Where: red}}, true},
		"deletes some":     {[]access.Grant{keeps, {Actions: []string{"collection:get"}}, {Actions: []string{"collection:delete"}, Where: red}}, true},
		"all records":      {[]access.Grant{keeps, {Actions: records, Where: red}, {Actions: records}}, false},
		"no records":       {[]access.Grant{keeps}, false},
		"some of another":  {[]access.Grant{keeps, {Actions: records, Where: red, On: access.Scope{Tenant: "beta"}}}, false},
		"some, everything": {[]access.Grant{{Actions: []string{"*"}}, {Actions: records, Where: red}}, false},
	} {
		m, path := fielded(t, c.grants...)
		at := ours(path)
		m.as(201, "admin", "POST", path+"/add", `{"ids":["r","g"],"embeddings":[[1],[2]],"metadatas":[{"team":"red"},{"team":"green","year":2020}]}`)
		m.as(200, "admin", "PUT", at, `{"default_seconds":3600}`)
		want := map[bool]int{true: 403, false: 200}[c.confined]
		for _, ask := range []struct{ method, path, body string }{
			{"GET", at, ""}, {"PUT", at + "/hold", `{"reason":"r"}`}, {"DELETE", at + "/hold", ""}, {"PUT", at, `{"key":"year"}`}, {"DELETE", at, ""},
		} {
			if ask.method == "DELETE" && c.confined {
				m.ask("admin", "PUT", at+"/hold", `{"reason":"r"}`)
			}
			if status, answer := m.ask("u", ask.method, ask.path, ask.body); status != want {
				t.Errorf("%s: %s %s: %d %s", name, ask.method, ask.path, status, answer)
			}
		}
		m.ask("admin", "DELETE", at+"/hold", "")
		m.as(200, "admin", "PUT", at, `{"default_seconds":3600}`)
		if list := m.as(200, "u", "GET", "/api/v2/chromad/retention", ""); strings.Contains(list, `"docs"`) == c.confined {
			t.Errorf("%s: the list is %s", name, list)
		}
		if left := m.as(200, "admin", "GET", path+"/count", ""); (left == "2") != c.confined {
			t.Errorf("%s: %s records are left", name, left)
		}
	}
}

// What a hold refuses is told to everybody, and of which collection it is to those
// who may see it.
func TestHoldNames(t *testing.T) {
	m, path := ruled(t)
	m.as(200, "admin", "PUT", ours(path)+"/hold", `{"reason":"r"}`)
	base := access.Grant{Actions: []string{"db:*", "system:reset", "collection:delete", "collection:update"}}
	for name, c := range map[string]struct {
		sees  access.Grant
		named bool
	}{
		"all":       {access.Grant{Actions: []string{"collection:get_collection"}}, true},
		"its own":   {access.Grant{Actions: []string{"collection:get_collection"}, On: access.Scope{Tenant: "acme", Collection: "d*"}}, true},
		"others":    {access.Grant{Actions: []string{"collection:get_collection"}, On: access.Scope{Collection: "x*"}}, false},
		"elsewhere": {access.Grant{Actions: []string{"collection:get_collection"}, On: access.Scope{Tenant: "beta"}}, false},
	} {
		k, secret, err := access.NewKey("", time.Unix(1, 0), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		m.keys["u"] = secret
		if err := m.config.Access.Use(&access.Policy{Version: 1, Roles: []access.Role{{Name: "r", Grants: []access.Grant{base, c.sees}}},
			Users: []access.User{{Name: "u", Keys: []access.Key{k}, Roles: []access.Binding{{Role: "r"}}}}}); err != nil {
			t.Fatal(err)
		}
		for _, ask := range []struct{ method, path, body string }{
			{"DELETE", "/api/v2/tenants/acme/databases/other", ""}, {"POST", "/api/v2/reset", ""}, {"POST", path + "/delete", `{"ids":["r"]}`}, {"POST", path + "/update", `{"ids":["r"],"embeddings":[[2]]}`},
		} {
			answer := m.as(409, "u", ask.method, ask.path, ask.body)
			if strings.Contains(answer, "docs") != c.named || !strings.Contains(answer, "collection") || !strings.Contains(answer, "is under legal hold since 2") {
				t.Errorf("who sees %s: %s %s: %s", name, ask.method, ask.path, answer)
			}
		}
	}
}
