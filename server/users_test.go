package server

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/chromad/chromad/server/access"
)

const accessPath = "/api/v2/chromad/access"

// Users are made, changed, shown, exported and imported over the API. A secret
// is in the one answer that makes it, which no cache keeps, and in no log.
func TestUsersAPI(t *testing.T) {
	m := newMatrix(t)
	ask := func(want int, who, method, path, body string) string {
		t.Helper()
		req := httptest.NewRequest(method, accessPath+path, strings.NewReader(body))
		req.Header.Set("X-Chroma-Token", m.keys[who])
		w := httptest.NewRecorder()
		m.ServeHTTP(w, req)
		if w.Code != want {
			t.Fatalf("%s %s %s as %s: %d %s", method, path, body, who, w.Code, w.Body)
		}
		if want == 200 && w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s may be kept by caches", method, path)
		}
		return w.Body.String()
	}
	secret := func(answer string) string {
		t.Helper()
		var r access.Result
		if err := json.Unmarshal([]byte(answer), &r); err != nil || len(r.Secret) < 40 {
			t.Fatalf("%s: %v", answer, err)
		}
		return r.Secret
	}
	ask(200, "admin", "POST", "", `{"do":"add-user","user":"new","roles":[{"role":"reader","on":{"tenant":"acme"}}],"attributes":{"team":["red"]},"limits":{"requests":50}}`)
	m.keys["new"] = secret(ask(200, "admin", "POST", "", `{"do":"add-key","user":"new","key_name":"laptop"}`))
	ask(200, "admin", "POST", "", `{"do":"set-password","user":"new","new_password":"correct horse battery"}`)
	m.as(200, "new", "GET", "/api/v2/tenants/acme", "")
	ask(200, "admin", "POST", "", `{"do":"remove-user","user":"expired"}`)
	for _, c := range []struct {
		body string
		want int
	}{
		{`{"do":"add-user","user":"new"}`, 400}, {`{"do":"fly"}`, 400}, {`{"do":"add-key","user":"nobody"}`, 400}, {`{"Do":"add-key"}`, 400},
		{`{"do":"add-key","do":"add-key"}`, 400}, {`{"do":"disable-user","user":"admin"}`, 400}, {`{"do":"import","policy":{"version":1,"users":[]}}`, 400},
		{`{"do":"set-password","user":"new","new_password":"short"}`, 400}, {`{"do":"add-user","user":"` + strings.Repeat("x", maxCommand) + `"}`, 413}, {``, 400},
	} {
		ask(c.want, "admin", "POST", "", c.body)
	}
	user := ask(200, "admin", "GET", "/users/new", "")
	for _, want := range []string{`"name":"laptop"`, `"hash":"hidden"`, `"password":"hidden"`, `"team":["red"]`, `"requests":50`, `"tenant":"acme"`} {
		if !strings.Contains(user, want) {
			t.Errorf("%s: no %s", user, want)
		}
	}
	ask(404, "admin", "GET", "/users/nobody", "")
	ask(404, "admin", "GET", "/roles/none", "")
	for path, want := range map[string]string{
		"/users": `{"users":[{"name":"reader"`, "/roles": `{"name":"admin","grants":[{"actions":["*"]}],"built_in":true}`,
		"/roles/ruled": `"built_in":false`, "/bindings": `{"user":"new","role":"reader","on":{"tenant":"acme"}}`,
	} {
		if answer := ask(200, "admin", "GET", path, ""); !strings.Contains(answer, want) {
			t.Errorf("%s: %s", path, answer)
		}
	}
	exported := ask(200, "admin", "GET", "", "")
	var tree struct{ Users []map[string]any }
	if err := yaml.Unmarshal([]byte(ask(200, "admin", "GET", "?format=yaml", "")), &tree); err != nil || len(tree.Users) != 7 {
		t.Errorf("%v, %v", tree, err)
	}
	ask(400, "admin", "GET", "?format=xml", "")
	ask(200, "admin", "POST", "", `{"do":"remove-user","user":"new"}`)
	ask(401, "new", "GET", "", "")
	ask(400, "admin", "PUT", "", exported) // the hash that is hidden in it is nowhere any more
	ask(200, "admin", "PUT", "", strings.Replace(exported, user, `{"name":"new","roles":[{"role":"reader"}]}`, 1))
	if answer := ask(200, "admin", "GET", "/users/new", ""); answer != `{"name":"new","roles":[{"role":"reader"}]}` {
		t.Errorf("imported: %s", answer)
	}
	for _, s := range []string{m.keys["new"][20:], "correct horse", `"secret"`} {
		if strings.Contains(m.log.String(), s) {
			t.Errorf("%q is in the log", s)
		}
	}
}

// Who may change users gives no more than he holds, also over the API; an
// action that takes several factors is not done with one.
func TestUsersAPIConfined(t *testing.T) {
	m := newMatrix(t)
	p, err := m.config.Users.Policy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	k, secret, err := access.NewKey("", time.Unix(1, 0), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	p.Roles = append(p.Roles, access.Role{Name: "manager", Grants: []access.Grant{{Actions: []string{string(access.ReadAccess), string(access.WriteAccess)}}}})
	p.Users = append(p.Users, access.User{Name: "mia", Keys: []access.Key{k}, Roles: []access.Binding{{Role: "manager"}, {Role: "reader"}}})
	m.keep(access.Outside{}, p)
	m.keys["mia"] = secret
	for body, want := range map[string]int{
		`{"do":"add-user","user":"u1","roles":[{"role":"reader"}]}`:                   200,
		`{"do":"add-key","user":"reader"}`:                                            200,
		`{"do":"add-user","user":"u2","roles":[{"role":"admin"}]}`:                    403,
		`{"do":"bind","user":"mia","roles":[{"role":"editor"}]}`:                      403,
		`{"do":"add-key","user":"admin"}`:                                             403,
		`{"do":"remove-user","user":"admin","force":true}`:                            403,
		`{"do":"set-role","role":{"name":"manager","grants":[{"actions":["*"]}]}}`:    403,
		`{"do":"rotate-key","key":"` + p.User("admin").Keys[0].ID + `"}`:              403,
		`{"do":"set-password","user":"admin","new_password":"correct horse battery"}`: 403,
	} {
		if status, answer := m.ask("mia", "POST", accessPath, body); status != want || want == 403 && !strings.Contains(answer, "AuthorizationError") {
			t.Errorf("%s: %d %s", body, status, answer)
		}
	}
	m.keep(access.Outside{Strong: []access.Action{access.WriteAccess}}, p)
	m.as(200, "admin", "GET", accessPath, "")
	if answer := m.as(403, "admin", "POST", accessPath, `{"do":"add-user","user":"u3"}`); !strings.Contains(answer, "several factors") {
		t.Error(answer)
	}
	m.as(403, "admin", "PUT", accessPath, `{}`)
}

// Everybody rotates his own key, the reader too, and nobody's else.
func TestOwnKey(t *testing.T) {
	m := newMatrix(t)
	p, err := m.config.Users.Policy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	old := m.keys["reader"]
	var r access.Result
	if err := json.Unmarshal([]byte(m.as(200, "reader", "POST", accessPath+"/own_key", "")), &r); err != nil || r.Secret == "" {
		t.Fatal(r, err)
	}
	m.as(401, "reader", "GET", "/api/v2/auth/identity", "")
	m.keys["reader"] = r.Secret
	m.as(200, "reader", "GET", "/api/v2/auth/identity", "")
	m.as(200, "reader", "POST", accessPath+"/own_key", `{"keep":"1h"}`)
	m.as(200, "reader", "GET", "/api/v2/auth/identity", "")
	for _, body := range []string{`{"keep":"721h"}`, `{"keep":"-1s"}`, `{"keep":"x"}`, `{"key":"` + p.User("admin").Keys[0].ID + `"}`} {
		m.as(400, "reader", "POST", accessPath+"/own_key", body)
	}
	for _, body := range []string{`{"user":"admin"}`, `{"keep":1}`} {
		m.as(422, "reader", "POST", accessPath+"/own_key", body)
	}
	if strings.Contains(m.log.String(), r.Secret) || strings.Contains(m.log.String(), old) {
		t.Error("a key is in the log")
	}
}

// A server without users does not make the first one for whoever reaches it,
// and one that has no keeper of users says so.
func TestFirstUser(t *testing.T) {
	r := newRig(t, Config{}, nil)
	for _, method := range []string{"GET", "POST", "PUT"} {
		if status, _ := r.do(method, accessPath, "{}"); status != 501 {
			t.Errorf("%s: %d", method, status)
		}
	}
	k, err := access.Open(t.Context(), r.db, access.Outside{})
	if err != nil {
		t.Fatal(err)
	}
	r.config.Access, r.config.Users = k.Directory, k
	for _, body := range []string{`{"do":"add-user","user":"eve","roles":[{"role":"admin"}]}`, `{"do":"add-key","user":"eve"}`} {
		if status, answer := r.do("POST", accessPath, body); status != 403 || !strings.Contains(answer, "chromad users add") {
			t.Errorf("%d %s", status, answer)
		}
	}
	if status, answer := r.do("GET", accessPath+"/users", ""); status != 200 || answer != `{"users":[]}` || !k.Open() {
		t.Errorf("%d %s", status, answer)
	}
}
