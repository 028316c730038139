package server

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server/access"
)

var updateAuthz = flag.Bool("update", false, "write testdata/authz.txt anew")

// matrix is a store of two tenants and somebody of every kind. Tenants acme
// and beta have the databases main and other, each with a collection.
type matrix struct {
	*rig
	keys map[string]string // by principal
	ids  map[string]string // of collections, by tenant/database
}

// principals are the columns of the table.
var principals = []string{"none", "bad", "expired", "reader", "ruled", "editor", "adminA", "adminB", "admin"}

func newMatrix(t testing.TB) *matrix {
	t.Helper()
	m := &matrix{keys: map[string]string{"none": "", "bad": "chromad_AAAAAAAA_" + strings.Repeat("A", 43)}, ids: map[string]string{}}
	p := &access.Policy{Version: 1, Roles: []access.Role{ruledRole()}}
	in := func(tenant string) access.Scope { return access.Scope{Tenant: tenant} }
	for _, u := range []struct {
		name, role string
		on         access.Scope
	}{
		{"expired", "admin", access.Scope{}}, {"reader", "reader", access.Scope{Tenant: "acme", Database: "main"}},
		{"ruled", "ruled", access.Scope{Tenant: "acme", Database: "main"}},
		{"editor", "editor", access.Scope{Tenant: "acme", Database: "main"}}, {"adminA", "admin", in("acme")}, {"adminB", "admin", in("beta")}, {"admin", "admin", access.Scope{}},
	} {
		expires := time.Time{}
		if u.name == "expired" {
			expires = time.Unix(1e9, 0)
		}
		k, secret, err := access.NewKey("", time.Unix(1, 0), expires)
		if err != nil {
			t.Fatal(err)
		}
		p.Users = append(p.Users, access.User{Name: u.name, Keys: []access.Key{k}, Roles: []access.Binding{{Role: u.role, On: u.on}}})
		m.keys[u.name] = secret
	}
	m.rig = newRig(t, Config{AllowReset: true}, nil)
	m.keep(access.Outside{}, p)
	for _, tenant := range []string{"acme", "beta"} {
		m.as(200, "admin", "POST", "/api/v2/tenants", `{"name":"`+tenant+`"}`)
		for _, database := range []string{"main", "other"} {
			m.as(200, "admin", "POST", "/api/v2/tenants/"+tenant+"/databases", `{"name":"`+database+`"}`)
			answer := m.as(200, "admin", "POST", "/api/v2/tenants/"+tenant+"/databases/"+database+"/collections", `{"name":"docs"}`)
			var c struct{ ID string }
			if err := json.Unmarshal([]byte(answer), &c); err != nil {
				t.Fatal(err)
			}
			m.ids[tenant+"/"+database] = c.ID
			m.as(201, "admin", "POST", "/api/v2/tenants/"+tenant+"/databases/"+database+"/collections/"+c.ID+"/add", `{"ids":["a"],"embeddings":[[1]]}`)
		}
	}
	return m
}

// keep has the server use a policy, as a store keeps it.
func (r *rig) keep(outside access.Outside, p *access.Policy) *access.Keeper {
	r.t.Helper()
	k, err := access.Open(r.t.Context(), r.db, outside)
	if err == nil {
		err = k.Change(context.Background(), func(to *access.Policy) error { *to = *p; return nil })
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.config.Access, r.config.Users = k.Directory, k
	return k
}

// ruledRole sees the catalog as a reader does, and the records that have the
// name of the principal as their team.
func ruledRole() access.Role {
	records := []string{string(access.Add), string(access.Upsert), string(access.Update), string(access.Delete), string(access.Get), string(access.Query), string(access.Count), string(access.Search)}
	catalog := []string{string(access.GetTenant), string(access.GetDatabase), string(access.ListDatabases), string(access.ListCollections), string(access.CountCollections), string(access.GetCollection)}
	return access.Role{Name: "ruled", Grants: []access.Grant{{Actions: catalog}, {Actions: records, Where: access.Where{"team": "${user.name}"}}}}
}

// ask sends a request as a principal.
func (m *matrix) ask(principal, method, path, body string) (int, string) {
	m.t.Helper()
	if key := m.keys[principal]; key != "" {
		return m.do(method, path, body, "X-Chroma-Token", key)
	}
	return m.do(method, path, body)
}

func (m *matrix) as(want int, principal, method, path, body string) string {
	m.t.Helper()
	status, answer := m.ask(principal, method, path, body)
	if status != want {
		m.t.Fatalf("%s %s as %s: %d %s", method, path, principal, status, answer)
	}
	return answer
}

// targets are what a path may lead to, seen from tenant acme.
var targets = []string{"own", "other-database", "other-tenant", "missing", "malformed", "foreign-id"}

// path fills a pattern with a target; "" when the pattern has no place for it.
func (m *matrix) path(r *route, target string) string {
	tenant, database, id := "acme", "main", m.ids["acme/main"]
	switch target {
	case "other-database":
		database, id = "other", m.ids["acme/other"]
	case "other-tenant":
		tenant, id = "beta", m.ids["beta/main"]
	case "missing":
		id = "00000000-0000-4000-8000-000000000000"
	case "malformed":
		id = "not-an-id"
	case "foreign-id":
		id = m.ids["beta/main"]
	}
	if r.pattern == underCollection && (r.method == "GET" || r.method == "DELETE") {
		id = "docs" // these take a name
		if target != "own" && target != "other-database" && target != "other-tenant" {
			id = "absent"
		}
	}
	p := strings.NewReplacer("{tenant}", tenant, "{database}", database, "{collection}", id,
		"{crn}", tenant+":"+database+":docs", "{function}", "f", "{rest...}", "x", "{user}", "reader", "{role}", "ruled").Replace(r.pattern)
	if target != "own" && p == m.path(r, "own") {
		return ""
	}
	return p
}

// bodies are what the routes that read one get.
var bodies = map[access.Action]string{
	access.CreateTenant: `{"name":"new-tenant"}`, access.UpdateTenant: `{"resource_name":"r"}`, access.CreateDatabase: `{"name":"new-database"}`,
	access.CreateCollection: `{"name":"new-collection"}`, access.UpdateCollection: `{"new_name":"renamed"}`,
	access.Add: `{"ids":["n"],"embeddings":[[2]]}`, access.Upsert: `{"ids":["a"],"embeddings":[[2]]}`, access.Update: `{"ids":["a"],"embeddings":[[2]]}`,
	access.Delete: `{"ids":["a"]}`, access.Get: `{}`, access.Query: `{"query_embeddings":[[1]]}`, access.Search: `{"searches":[]}`,
	access.WritePrivacy:   `{"version":1,"rules":[]}`,
	access.WriteRetention: `{}`, access.PlaceHold: `{"reason":"r"}`,
	access.ForkCollection: `{"new_name":"forked"}`, access.Functions: `{"name":"f","function_id":"f","output_collection":"o"}`,
	access.WriteAccess: `{"do":"disable-user","user":"reader"}`, access.RotateOwn: `{}`,
}

// expected says whether the answer must be 401, 403 or that of a server
// without users (0), from what the roles mean and not from how it is decided.
func expected(r *route, principal, target string) int {
	if r.action == access.Public {
		return 0
	}
	if principal == "none" || principal == "bad" || principal == "expired" {
		return 401
	}
	write := map[access.Action]bool{access.CreateCollection: true, access.UpdateCollection: true, access.DeleteCollection: true, access.ForkCollection: true,
		access.Add: true, access.Upsert: true, access.Update: true, access.Delete: true, access.Functions: true}
	system := strings.HasPrefix(string(r.action), "system:")
	retention := strings.HasPrefix(string(r.action), "retention:") // which only admins have
	inDatabase := !system && !retention && r.action != access.CreateTenant && r.action != access.UpdateTenant && r.action != access.CreateDatabase && r.action != access.DeleteDatabase
	tenant := "acme"
	if target == "other-tenant" {
		tenant = "beta"
	}
	allowed := false
	switch {
	case principal == "admin", r.action == access.Identify, r.action == access.RotateOwn:
		allowed = true
	case system:
	case r.pattern == "/api/v2/chromad/retention": // a list of what the principal may see
		allowed = principal == "adminA" || principal == "adminB"
	case r.action == access.CreateTenant: // one that neither of the two has
	case principal == "adminA", principal == "adminB":
		allowed = principal == map[string]string{"acme": "adminA", "beta": "adminB"}[tenant]
	case principal == "ruled": // what he adds in the matrix is of no team, and what is there too
		written := map[access.Action]bool{access.Update: true, access.Delete: true, access.Add: target != "own", access.Upsert: target != "own"}
		allowed = inDatabase && tenant == "acme" && target != "other-database" && (written[r.action] || !write[r.action])
	case principal == "editor", principal == "reader":
		allowed = inDatabase && tenant == "acme" && target != "other-database" && (principal == "editor" || !write[r.action])
	}
	if allowed {
		return 0
	}
	return 403
}

// TestAuthorizationMatrix asks every route as everybody about everything. What
// is refused is refused alike whether it exists or not; what is not refused is
// answered as by a server without users. The table is in testdata/authz.txt,
// where a change of it is seen.
func TestAuthorizationMatrix(t *testing.T) {
	var table strings.Builder
	fmt.Fprintf(&table, "%-7s %-100s %-15s %s\n", "method", "route", "target", strings.Join(principals, " "))
	m, cells := newMatrix(t), 0
	fresh := func() {
		m = newMatrix(t)
	}
	table0 := routes()
	for i := range table0 {
		r := &table0[i]
		for _, target := range targets {
			path := m.path(r, target)
			if path == "" {
				continue
			}
			line := fmt.Sprintf("%-7s %-100s %-15s", r.method, r.pattern, target)
			refused := map[int]string{}
			for _, who := range principals {
				cells++
				path = m.path(r, target) // ids change with the store
				status, answer := m.ask(who, r.method, path, bodies[r.action])
				want := expected(r, who, target)
				hidden := r.action == access.GetCollection && r.pattern == "/api/v2/collections/{crn}"
				switch {
				case hidden: // whose tenant nobody knows before it was looked up
				case want != 0 && status != want:
					t.Errorf("%s %s, %s as %s: %d, want %d", r.method, r.pattern, target, who, status, want)
				case want == 0 && (status == 401 || status == 403 && r.action != access.Reset):
					t.Errorf("%s %s, %s as %s: refused with %d", r.method, r.pattern, target, who, status)
				}
				if status == 401 || status == 403 && !(who == "ruled" && (r.action == access.Add || r.action == access.Upsert)) {
					if before, ok := refused[status]; ok && before != answer {
						t.Errorf("%s %s, %s as %s: refusals differ: %s and %s", r.method, r.pattern, target, who, before, answer)
					}
					refused[status] = answer
				}
				line += fmt.Sprintf(" %*d", len(who), status)
				if status < 300 && r.method != "GET" && r.action != access.Get && r.action != access.Query {
					fresh()
				}
			}
			table.WriteString(line + "\n")
		}
	}
	t.Logf("%d cells", cells)
	file := filepath.Join("testdata", "authz.txt")
	if *updateAuthz {
		if err := os.WriteFile(file, []byte(table.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || string(want) != table.String() {
		t.Errorf("%s is not what the server answers; -update writes it: %v", file, err)
	}
}

// Another tenant's id in one's own path is answered as one that nobody has:
// the same status, headers and body, the id apart.
func TestForeignID(t *testing.T) {
	m := newMatrix(t)
	nobodys := "00000000-0000-4000-8000-000000000000"
	for _, r := range routes() {
		if !strings.HasPrefix(r.pattern, underCollection+"/") && (r.pattern != underCollection || r.method != "PUT") {
			continue
		}
		answer := func(id string) string {
			path := strings.NewReplacer("{tenant}", "acme", "{database}", "main", "{collection}", id, "{function}", "f").Replace(r.pattern)
			req := httptest.NewRequest(r.method, path, strings.NewReader(bodies[r.action]))
			req.Header.Set("X-Chroma-Token", m.keys["adminA"])
			req.Header.Set("X-Request-Id", "same")
			w := httptest.NewRecorder()
			m.ServeHTTP(w, req)
			if w.Code != http.StatusNotFound && !strings.Contains(r.pattern, "fork") && !strings.Contains(r.pattern, "search") {
				t.Errorf("%s %s: %d", r.method, path, w.Code)
			}
			return fmt.Sprint(w.Code, w.Header(), strings.ReplaceAll(w.Body.String(), id, "ID"))
		}
		if foreign, absent := answer(m.ids["beta/main"]), answer(nobodys); foreign != absent {
			t.Errorf("%s %s:\n%s\n%s", r.method, r.pattern, foreign, absent)
		}
	}
}

// untouchable is a body, and a store, that nobody may touch.
type untouchable struct {
	Store
	t *testing.T
}

func (u untouchable) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, context.Canceled
}

func (u untouchable) CollectionByID(context.Context, Place, engine.ID) (Collection, error) {
	u.t.Error("a collection was looked up")
	return nil, engine.ErrNotFound
}

// With bad credentials, or without the right, no body is read and nothing is
// looked up. The other methods of the store are nil: calling one is a panic.
func TestNothingBeforeAuthorization(t *testing.T) {
	m := newMatrix(t)
	m.store = untouchable{t: t}
	m.config.Store = m.store
	for _, r := range routes() {
		if r.action == access.Public || r.pattern == "/api/v2/collections/{crn}" {
			continue
		}
		for who, want := range map[string]int{"none": 401, "bad": 401, "expired": 401, "adminB": 403} {
			if (r.action == access.Identify || r.action == access.RotateOwn) && want == 403 {
				continue
			}
			if r.action == access.CreateTenant && want == 403 {
				continue // whose name is in the body
			}
			if r.pattern == "/api/v2/chromad/retention" && want == 403 {
				continue // a list, which shows him what is his
			}
			req := httptest.NewRequest(r.method, m.path(&r, "own"), untouchable{t: t})
			req.Header.Set("X-Chroma-Token", m.keys[who])
			w := httptest.NewRecorder()
			m.ServeHTTP(w, req)
			if w.Code != want {
				t.Errorf("%s %s as %s: %d %s", r.method, r.pattern, who, w.Code, w.Body)
			}
		}
	}
	// Nor for what is no route.
	for _, path := range []string{"/", "/api/v2/nothing", "/api/v2/tenants/acme/databases/main/collections/x/fly"} {
		if status, _ := m.ask("bad", "POST", path, ""); status != 401 {
			t.Errorf("%s: %d", path, status)
		}
	}
}

// Headers in which somebody claims to be somebody.
func TestCredentialHeaders(t *testing.T) {
	m := newMatrix(t)
	hash, err := access.HashPassword("correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	key := m.keys["reader"]
	k, secret, err := access.NewKey("", time.Unix(1, 0), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.config.Access.Use(&access.Policy{Version: 1, Users: []access.User{{Name: "ada", Password: hash, Keys: []access.Key{k}, Tenant: "acme", Database: "main"}}}); err != nil {
		t.Fatal(err)
	}
	const basic = "Basic YWRhOmNvcnJlY3QgaG9yc2UgYmF0dGVyeQ=="
	for _, c := range []struct {
		name   string
		status int
		header []string
	}{
		{"token", 200, []string{"X-Chroma-Token", secret}},
		{"token with a word", 200, []string{"X-Chroma-Token", "Bearer " + secret}},
		{"bearer", 200, []string{"Authorization", "Bearer " + secret}},
		{"bearer, small letters", 200, []string{"Authorization", "bearer " + secret}},
		{"basic", 200, []string{"Authorization", basic}},
		{"revoked at once", 401, []string{"X-Chroma-Token", key}},
		{"nothing", 401, nil},
		{"empty token", 401, []string{"X-Chroma-Token", ""}},
		{"claimed", 401, []string{"X-Forwarded-User", "ada", "X-Remote-User", "ada", "Sourceid", "1", "X-Auth-Request-User", "ada"}},
		{"claimed beside a token", 200, []string{"X-Chroma-Token", secret, "X-Forwarded-User", "admin"}},
		{"two tokens", 400, []string{"X-Chroma-Token", secret, "X-Chroma-Token", "x"}},
		{"two authorizations", 400, []string{"Authorization", "Bearer " + secret, "Authorization", basic}},
		{"both", 400, []string{"X-Chroma-Token", secret, "Authorization", basic}},
		{"another scheme", 400, []string{"Authorization", "Digest x"}},
		{"no scheme", 400, []string{"Authorization", secret}},
		{"not base64", 400, []string{"Authorization", "Basic ada:correct"}},
		{"no colon", 400, []string{"Authorization", "Basic YWRh"}},
		{"no name", 400, []string{"Authorization", "Basic OmNvcnJlY3Q="}},
		{"another colon", 401, []string{"Authorization", "Basic YWRhOmNvcnJlY3QgaG9yc2UgYmF0dGVyeTp4"}},
		{"a key as password", 401, []string{"Authorization", "Basic YWRhOngK"}},
	} {
		status, answer := m.do("GET", "/api/v2/auth/identity", "", c.header...)
		if status != c.status || status == 200 && answer != `{"user_id":"ada","tenant":"acme","databases":["main"]}` {
			t.Errorf("%s: %d %s", c.name, status, answer)
		}
	}
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest("GET", "/api/v2/auth/identity", nil))
	if !strings.Contains(w.Header().Get("WWW-Authenticate"), "Bearer") {
		t.Error("nothing tells how to authenticate")
	}
	if strings.Contains(m.log.String(), secret[10:]) || strings.Contains(m.log.String(), "battery") {
		t.Error("a secret is in the log")
	}
	if !strings.Contains(m.log.String(), `"user":"ada"`) || !strings.Contains(m.log.String(), "unknown API key") {
		t.Errorf("the log does not tell who asked, or why he was refused")
	}
}

// Collections that a role does not reach are not there: not by name, not by
// id, not in lists and counts; and nobody gets a collection in or out of reach
// by renaming or making it.
func TestConfinedToCollections(t *testing.T) {
	m := newMatrix(t)
	k, secret, err := access.NewKey("", time.Unix(1, 0), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	root, rootKey, err := access.NewKey("", time.Unix(1, 0), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.config.Access.Use(&access.Policy{Version: 1, Users: []access.User{
		{Name: "admin", Keys: []access.Key{root}, Roles: []access.Binding{{Role: "admin"}}},
		{Name: "u", Keys: []access.Key{k}, Roles: []access.Binding{
			{Role: "editor", On: access.Scope{Tenant: "acme", Database: "main", Collection: "mine-*"}},
			{Role: "reader", On: access.Scope{Tenant: "acme", Database: "main", Collection: "seen"}}}}}}); err != nil {
		t.Fatal(err)
	}
	m.keys["admin"], m.keys["u"] = rootKey, secret
	const in = "/api/v2/tenants/acme/databases/main/collections"
	id := func(name string) string {
		var c struct{ ID string }
		answer := m.as(200, "admin", "POST", in, `{"name":"`+name+`"}`)
		if err := json.Unmarshal([]byte(answer), &c); err != nil {
			t.Fatal(err)
		}
		m.as(201, "admin", "POST", in+"/"+c.ID+"/add", `{"ids":["a"],"embeddings":[[1]]}`)
		return c.ID
	}
	mine, seen, theirs := id("mine-1"), id("seen"), id("theirs")
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/mine-1", "", 200}, {"GET", "/seen", "", 200}, {"GET", "/theirs", "", 404}, {"GET", "/none", "", 404},
		{"GET", "/by-id/" + mine, "", 200}, {"GET", "/by-id/" + theirs, "", 404},
		{"POST", "/" + mine + "/get", "{}", 200}, {"POST", "/" + seen + "/get", "{}", 200}, {"POST", "/" + theirs + "/get", "{}", 404},
		{"GET", "/" + theirs + "/count", "", 404}, {"POST", "/" + theirs + "/query", `{"query_embeddings":[[1]]}`, 404},
		{"POST", "/" + mine + "/upsert", bodies[access.Upsert], 200}, {"POST", "/" + seen + "/upsert", bodies[access.Upsert], 403},
		{"POST", "/" + theirs + "/upsert", bodies[access.Upsert], 404}, {"POST", "/" + theirs + "/delete", bodies[access.Delete], 404},
		{"DELETE", "/seen", "", 403}, {"DELETE", "/theirs", "", 404}, {"DELETE", "/none", "", 404},
		{"PUT", "/" + mine, `{"new_name":"theirs-2"}`, 403}, {"PUT", "/" + mine, `{"new_name":"mine-2"}`, 200}, {"PUT", "/" + theirs, `{"new_name":"mine-3"}`, 404},
		{"POST", "", `{"name":"other"}`, 403}, {"POST", "", `{"name":"mine-4"}`, 200}, {"POST", "", `{"name":"theirs","get_or_create":true}`, 403},
	} {
		if status, answer := m.ask("u", c.method, in+c.path, c.body); status != c.status {
			t.Errorf("%s %s %s: %d %s, want %d", c.method, c.path, c.body, status, answer, c.status)
		}
	}
	if list := m.as(200, "u", "GET", in, ""); strings.Contains(list, "theirs") || strings.Contains(list, "docs") || strings.Count(list, `"name":`) != 3 {
		t.Errorf("list: %s", list)
	}
	if n := m.as(200, "u", "GET", "/api/v2/tenants/acme/databases/main/collections_count", ""); n != "3" {
		t.Errorf("count: %s", n)
	}
	if list := m.as(200, "u", "GET", "/api/v2/tenants/acme/databases", ""); strings.Contains(list, "other") || !strings.Contains(list, "main") {
		t.Errorf("databases: %s", list)
	}
}

// No GET changes anything: a link that somebody follows, or a page that loads
// it, is no order.
func TestGetChangesNothing(t *testing.T) {
	m := newMatrix(t)
	before := m.db.Stats()
	asked := 0
	for _, r := range routes() {
		if r.method != "GET" {
			continue
		}
		for _, target := range targets {
			for _, method := range []string{"GET", "HEAD"} {
				if path := m.path(&r, target); path != "" {
					m.ask("admin", method, path, bodies[r.action])
					asked++
				}
			}
		}
	}
	if after := m.db.Stats(); after.LogBytes != before.LogBytes || after.Collections != before.Collections || after.Records != before.Records {
		t.Errorf("%d requests later: %+v, it was %+v", asked, after, before)
	}
	m.as(200, "admin", "POST", accessPath, bodies[access.WriteAccess])
	if m.db.Stats().LogBytes == before.LogBytes {
		t.Error("a change is not seen")
	}
}
