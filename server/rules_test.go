package server

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/chromad/chromad/server/access"
)

// ruled is a store with an admin, and with somebody of the teams red and blue
// who reads and writes the records of his teams and reads what is public.
func ruled(t *testing.T) (m *matrix, path string) {
	t.Helper()
	var in, public access.Where
	for text, w := range map[string]*access.Where{`{"team": {"$in": "${attributes.teams}"}}`: &in, `{"public": true}`: &public} {
		if err := json.Unmarshal([]byte(text), w); err != nil {
			t.Fatal(err)
		}
	}
	m = newMatrix(t)
	admin, adminKey, err := access.NewKey("", time.Unix(1, 0), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	user, userKey, err := access.NewKey("", time.Unix(1, 0), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	role := ruledRole()
	role.Grants[1].Where = in
	role.Grants = append(role.Grants, access.Grant{Actions: []string{"collection:get", "collection:query", "collection:count"}, Where: public})
	if err := m.config.Access.Use(&access.Policy{Version: 1, Roles: []access.Role{role}, Users: []access.User{
		{Name: "admin", Keys: []access.Key{admin}, Roles: []access.Binding{{Role: "admin"}}},
		{Name: "u", Keys: []access.Key{user}, Roles: []access.Binding{{Role: "ruled"}}, Attributes: access.Attributes{"teams": {"red", "blue"}}}}}); err != nil {
		t.Fatal(err)
	}
	m.keys["admin"], m.keys["u"] = adminKey, userKey
	path = "/api/v2/tenants/acme/databases/other/collections/" + m.ids["acme/other"]
	m.as(200, "admin", "POST", path+"/delete", `{"ids":["a"]}`)
	m.as(201, "admin", "POST", path+"/add", `{"ids":["r","g","b","p","n"],"embeddings":[[1],[2],[3],[4],[5]],"documents":["one","two","three","four","five"],
		"metadatas":[{"team":"red"},{"team":"green","secret":1},{"team":"blue"},{"team":"green","public":true},null]}`)
	return m, path
}

// What is read and written under a rule, request by request.
func TestRowRules(t *testing.T) {
	const forbidden = `{"error":"AuthorizationError","message":"Forbidden: the rule about records does not let you write this"}`
	for _, c := range []struct {
		route, body string
		status      int
		answer      string // a part
		left        string // ids in the store afterwards; "": all
	}{
		{"count", "", 200, "3", ""},
		{"get", `{}`, 200, `{"ids":["r","b","p"]`, ""},
		{"get", `{"limit":1,"offset":1}`, 200, `{"ids":["b"]`, ""},
		{"get", `{"ids":["g","n","b"]}`, 200, `{"ids":["b"]`, ""},
		{"get", `{"where":{"team":"green"}}`, 200, `{"ids":["p"]`, ""},
		{"get", `{"where":{"team":{"$ne":"red"}}}`, 200, `{"ids":["b","p"]`, ""},
		{"get", `{"where_document":{"$contains":"t"}}`, 200, `{"ids":["b"]`, ""},
		{"query", `{"query_embeddings":[[2.1]],"n_results":2}`, 200, `{"ids":[["b","r"]]`, ""},
		{"query", `{"query_embeddings":[[2.1],[9]],"n_results":1,"where":{"team":"green"}}`, 200, `{"ids":[["p"],["p"]]`, ""},
		{"query", `{"query_embeddings":[[2.1]],"ids":["g","n"]}`, 200, `{"ids":[[]]`, ""},
		{"add", `{"ids":["x"],"embeddings":[[1]],"metadatas":[{"team":"blue"}]}`, 201, `{}`, "r g b p n x"},
		{"add", `{"ids":["x","y"],"embeddings":[[1],[1]],"metadatas":[{"team":"blue"},{"team":"green"}]}`, 403, forbidden, ""},
		{"add", `{"ids":["x"],"embeddings":[[1]],"metadatas":[{"public":true}]}`, 403, forbidden, ""}, // which lets him read
		{"add", `{"ids":["g"],"embeddings":[[1]],"metadatas":[{"team":"red"}]}`, 201, `{}`, ""},
		{"upsert", `{"ids":["r"],"embeddings":[[1]]}`, 200, `{}`, ""},
		{"upsert", `{"ids":["x"],"embeddings":[[1]]}`, 403, forbidden, ""},
		{"upsert", `{"ids":["x","g"],"embeddings":[[1],[1]],"metadatas":[{"team":"red"},{"team":"red"}]}`, 403, forbidden, ""},
		{"update", `{"ids":["g","r","none"],"documents":["mine","mine","mine"]}`, 200, `{}`, ""},
		{"update", `{"ids":["r"],"metadatas":[{"team":"green"}]}`, 403, forbidden, ""},
		{"update", `{"ids":["p"],"documents":["mine"]}`, 200, `{}`, ""},
		{"delete", `{"ids":["g","b","none"]}`, 200, `{"deleted":1}`, "r g p n"},
		{"delete", `{"where":{"team":{"$ne":"red"}}}`, 200, `{"deleted":1}`, "r g p n"},
		{"delete", `{"where":{"team":{"$ne":"none"}},"limit":1}`, 200, `{"deleted":1}`, "g b p n"},
	} {
		m, path := ruled(t)
		hidden := m.as(200, "admin", "POST", path+"/get", `{"ids":["g","n","p"],"include":["documents","metadatas","embeddings"]}`)
		method := "POST"
		if c.body == "" {
			method = "GET"
		}
		status, answer := m.ask("u", method, path+"/"+c.route, c.body)
		if status != c.status || !strings.HasPrefix(answer, c.answer) {
			t.Errorf("%s %s: %d %s", c.route, c.body, status, answer)
		}
		if got := m.as(200, "admin", "POST", path+"/get", `{"ids":["g","n","p"],"include":["documents","metadatas","embeddings"]}`); got != hidden {
			t.Errorf("%s %s: what he may not write is %s, was %s", c.route, c.body, got, hidden)
		}
		left := `{"ids":["` + strings.ReplaceAll(c.left, " ", `","`) + `"]`
		if c.left == "" {
			left = `{"ids":["r","g","b","p","n"]`
		}
		if got := m.as(200, "admin", "POST", path+"/get", `{"include":[]}`); !strings.HasPrefix(got, left) {
			t.Errorf("%s %s: left %s", c.route, c.body, got)
		}
	}
}

// A record that is hidden is answered as one that is not there, or, where its
// id is in the way, as what may not be written for another reason.
func TestRowRulesTellNothing(t *testing.T) {
	m, path := ruled(t)
	answer := func(route, body, id string) string {
		status, answer := m.ask("u", "POST", path+"/"+route, strings.ReplaceAll(body, "ID", id))
		return string(rune('0'+status/100)) + strings.ReplaceAll(answer, `"`+id+`"`, `"ID"`)
	}
	for _, c := range []struct{ route, body, than string }{
		{"get", `{"ids":["ID"]}`, "z"}, {"get", `{"ids":["ID","r"]}`, "z"}, {"query", `{"query_embeddings":[[2]],"ids":["ID"]}`, "z"},
		{"update", `{"ids":["ID"],"documents":["x"]}`, "z"}, {"update", `{"ids":["ID"],"metadatas":[{"team":"red"}]}`, "z"}, {"delete", `{"ids":["ID"]}`, "z"},
		{"add", `{"ids":["ID"],"embeddings":[[1]],"metadatas":[{"team":"red"}]}`, "r"}, {"add", `{"ids":["ID"],"embeddings":[[1]]}`, "r"},
		{"add", `{"ids":["ID"],"embeddings":[[1]]}`, "z"}, {"upsert", `{"ids":["ID"],"embeddings":[[1]]}`, "z"},
		{"upsert", `{"ids":["ID"],"embeddings":[[1]],"metadatas":[{"team":"green"}]}`, "r"},
		{"add", `{"ids":["ID"],"embeddings":[[1,2]],"metadatas":[{"team":"red"}]}`, "z"},
	} {
		if hidden, other := answer(c.route, c.body, "g"), answer(c.route, c.body, c.than); hidden != other {
			t.Errorf("%s %s: hidden %s, %s: %s", c.route, c.body, hidden, c.than, other)
		}
	}
	collections := strings.TrimSuffix(path, "/"+m.ids["acme/other"])
	for _, at := range []string{collections, collections + "/docs"} {
		if got := m.as(200, "u", "GET", at, ""); strings.Contains(got, "secret") {
			t.Errorf("%s tells of a key of hidden records: %s", at, got)
		}
		if got := m.as(200, "admin", "GET", at, ""); !strings.Contains(got, "secret") {
			t.Errorf("%s does not tell who may know: %s", at, got)
		}
	}
	if strings.Contains(m.log.String(), "secret") || strings.Contains(m.log.String(), "green") {
		t.Error("the log has what the records say")
	}
}
