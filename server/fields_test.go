package server

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromad/chromad/server/access"
	"github.com/chromad/chromad/server/privacy"
)

// fielded is a store with an admin, and with somebody who does everything to
// records and sees of them what fields say.
func fielded(t *testing.T, grants ...access.Grant) (m *matrix, path string) {
	t.Helper()
	m = newMatrix(t)
	seeing(m, grants...)
	path = "/api/v2/tenants/acme/databases/other/collections/" + m.ids["acme/other"]
	m.as(200, "admin", "POST", path+"/delete", `{"ids":["a"]}`)
	return m, path
}

func seeing(m *matrix, grants ...access.Grant) {
	m.t.Helper()
	admin, adminKey, err := access.NewKey("", time.Unix(1, 0), time.Time{})
	if err != nil {
		m.t.Fatal(err)
	}
	user, userKey, err := access.NewKey("", time.Unix(1, 0), time.Time{})
	if err != nil {
		m.t.Fatal(err)
	}
	role := ruledRole()
	role.Grants = append(role.Grants[:1], grants...)
	if err := m.config.Access.Use(&access.Policy{Version: 1, Roles: []access.Role{role}, Users: []access.User{
		{Name: "admin", Keys: []access.Key{admin}, Roles: []access.Binding{{Role: "admin"}}},
		{Name: "u", Keys: []access.Key{user}, Roles: []access.Binding{{Role: "ruled"}}}}}); err != nil {
		m.t.Fatal(err)
	}
	m.keys["admin"], m.keys["u"] = adminKey, userKey
}

// onRecords grants everything that is done to records.
func onRecords(f privacy.Fields) access.Grant {
	return access.Grant{Actions: ruledRole().Grants[1].Actions, Fields: f}
}

// canaries are values of a record that nobody can take for anything else, by
// field: a metadata key, #document or #uri.
var canaries = map[string]string{
	"k-text": `"canary-text-58121"`, "k-texts": `["canary-list-58121","y"]`, "k-int": `67121581`, "k-float": `69121.578125`, "k-ints": `[48121583,2]`,
	"#document": `"canary document 58121"`, "#uri": `"canary://58121"`,
}

const canaryRecord = `{"ids":["c"],"embeddings":[[1]],"documents":["canary document 58121"],"uris":["canary://58121"],
	"metadatas":[{"k-text":"canary-text-58121","k-texts":["canary-list-58121","y"],"k-int":67121581,"k-float":69121.578125,"k-ints":[48121583,2],"open":"seen"}]}`

// leaks reports whether a canary can be read in a text.
func leaks(text, canary string) bool {
	plain := strings.TrimSuffix(strings.Split(strings.Trim(canary, `["`), ",")[0], `"`)
	return strings.Contains(text, plain)
}

func fieldsOf(field string, t privacy.Treatment) privacy.Fields {
	switch field {
	case "#document":
		return privacy.Fields{Document: t}
	case "#uri":
		return privacy.Fields{URI: t}
	}
	return privacy.Fields{Metadata: map[string]privacy.Treatment{field: t}}
}

// Every route about records, for every kind of field under every treatment:
// what is not visible is in no answer and in no error, and nothing that asks
// about it, or would write it, is done.
func TestFieldRules(t *testing.T) {
	for field, canary := range canaries {
		m, path := fielded(t)
		m.as(201, "admin", "POST", path+"/add", canaryRecord)
		for _, treatment := range []privacy.Treatment{privacy.Pseudonym, privacy.Hash, privacy.Mask, privacy.Hide, privacy.Visible} {
			t.Run(strings.Trim(field, "#")+" "+string(treatment), func(t *testing.T) {
				m.t = t
				seeing(m, onRecords(fieldsOf(field, treatment)))
				everyRoute(t, m, path, field, canary, treatment)
			})
		}
	}
}

func everyRoute(t *testing.T, m *matrix, path, field, canary string, treatment privacy.Treatment) {
	visible := treatment == privacy.Visible
	refused := 403
	if visible {
		refused = 200
	}
	scalar, _, _ := strings.Cut(strings.Trim(canary, "[]"), ",")
	const all = `"include":["documents","metadatas","uris","embeddings"]`
	type request struct {
		route, body string
		status      int
	}
	requests := []request{{"get", `{` + all + `}`, 200}, {"get", `{}`, 200}, {"query", `{"query_embeddings":[[1]],` + all + `}`, 200},
		{"get", `{"where":{"open":"seen"}}`, 200}, {"get", `{"where":{"$or":[{"open":"seen"},{"absent":{"$ne":1}}]}}`, 200},
		{"update", `{"ids":["c"],"metadatas":[{"open":"seen"}]}`, 200}, {"upsert", `{"ids":["c"],"embeddings":[[1]]}`, 200},
		{"add", `{"ids":["d"],"embeddings":[[1]],"metadatas":[{"open":"seen"}]}`, 201}, {"search", `{"searches":[{"filter":{"open":"seen"}}]}`, 501}}
	written := fmt.Sprintf(`"metadatas":[{"open":"x",%q:%s}]`, field, canary)
	switch field {
	case "#document":
		written = `"documents":["canary document 58121"]`
		for _, op := range []string{"$contains", "$not_contains", "$regex", "$not_regex"} {
			requests = append(requests, request{"get", `{"where_document":{"` + op + `":"canary document"}}`, refused},
				request{"query", `{"query_embeddings":[[1]],"where":{"#document":{"` + op + `":"canary document"}}}`, refused},
				request{"delete", `{"where_document":{"` + op + `":"58122"},"limit":1}`, refused})
		}
	case "#uri":
		written = `"uris":["canary://58121"]`
	default:
		for _, op := range []string{"$eq", "$ne", "$in", "$nin", "$gt", "$lte", "$contains", "$not_contains"} {
			if strings.HasPrefix(scalar, `"`) && (op == "$gt" || op == "$lte") {
				continue
			}
			operand, status := scalar, refused
			if op == "$in" || op == "$nin" {
				operand = "[" + scalar + "]"
			}
			if treatment == privacy.Pseudonym && slices.Contains([]string{"$eq", "$ne", "$in", "$nin"}, op) {
				status = 200
			}
			search := status
			if status == 200 {
				search = 501
			}
			where := fmt.Sprintf(`{%q:{%q:%s}}`, field, op, operand)
			requests = append(requests, request{"get", `{"where":` + where + `}`, status}, request{"query", `{"query_embeddings":[[1]],"where":` + where + `}`, status},
				request{"get", `{"where":{"$or":[{"open":"seen"},{"$and":[` + where + `,` + where + `]}]}}`, status},
				request{"delete", `{"limit":0,"where":` + where + `}`, status}, request{"search", `{"searches":[{"filter":` + where + `}]}`, search})
		}
		ask := 403
		if visible {
			ask = 501
		}
		for _, body := range []string{`"group_by":{"keys":["KEY"],"aggregate":{"$min_k":{"keys":["#score"],"k":1}}}`,
			`"group_by":{"keys":["open"],"aggregate":{"$min_k":{"keys":["KEY"],"k":1}}}`} {
			requests = append(requests, request{"search", `{"searches":[{"rank":{"$knn":{"query":[1]}},` + strings.ReplaceAll(body, "KEY", field) + `}]}`, ask})
		}
		requests = append(requests, request{"search", fmt.Sprintf(`{"searches":[{"rank":{"$sum":[{"$val":1},{"$knn":{"query":[1],"key":%q}}]}}]}`, field), ask})
	}
	for _, r := range []request{{"add", `{"ids":["e"],"embeddings":[[1]],` + written + `}`, refused}, {"upsert", `{"ids":["c"],"embeddings":[[1]],` + written + `}`, refused},
		{"update", `{"ids":["c"],` + written + `}`, refused}, {"update", `{"ids":["none"],` + written + `}`, refused}} {
		if r.route == "add" && visible {
			r.status = 201
		}
		requests = append(requests, r)
	}
	for _, r := range requests {
		status, answer := m.ask("u", "POST", path+"/"+r.route, r.body)
		if status != r.status {
			t.Errorf("%s %s: %d %s, want %d", r.route, r.body, status, answer, r.status)
		}
		if !visible && leaks(answer, canary) {
			t.Errorf("%s %s tells: %s", r.route, r.body, answer)
		}
		if status == 200 && strings.Contains(r.body, "include") && visible != leaks(answer, canary) {
			t.Errorf("%s %s: %s", r.route, r.body, answer)
		}
	}
	if got := m.as(200, "admin", "POST", path+"/get", `{`+all+`,"ids":["c"]}`); !leaks(got, canary) {
		t.Errorf("what is stored has changed: %s", got)
	}
	if leaks(m.log.String(), canary) {
		t.Errorf("the log tells")
	}
	collections := strings.TrimSuffix(path, "/"+m.ids["acme/other"])
	for _, at := range []string{collections, collections + "/docs", collections + "/by-id/" + m.ids["acme/other"]} {
		for who, sees := range map[string]bool{"u": visible, "admin": true} {
			if got := m.as(200, who, "GET", at, ""); field[0] != '#' && sees != strings.Contains(got, `"`+field+`":{`) || !strings.Contains(got, `"open":{`) {
				t.Errorf("%s as %s: %s", at, who, got)
			}
		}
	}
}

// shownRecord is a record as u reads it, one of a get with metadata.
func shownRecord(t *testing.T, answer string) (out struct {
	IDs       []string         `json:"ids"`
	Documents []*string        `json:"documents"`
	URIs      []*string        `json:"uris"`
	Metadatas []map[string]any `json:"metadatas"`
}) {
	t.Helper()
	if err := json.Unmarshal([]byte(answer), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// What each treatment makes of each type.
func TestFieldRulesShown(t *testing.T) {
	for treatment, want := range map[privacy.Treatment]string{
		privacy.Mask: `{"b":false,"f":0.0,"fs":[0.0],"i":0,"is":[0],"open":1,"s":"a***","short":"***","ss":["***"]}`,
		privacy.Hide: `{"open":1}`,
	} {
		m, path := fielded(t, onRecords(privacy.Fields{Document: treatment, URI: treatment, Metadata: map[string]privacy.Treatment{"*": treatment, "open": privacy.Visible}}))
		m.as(201, "admin", "POST", path+"/add", `{"ids":["a","n"],"embeddings":[[1],[2]],"documents":["a document",null],"uris":["u://x",null],
			"metadatas":[{"b":true,"f":1.5,"fs":[1.5,2.5],"i":7,"is":[7,8],"open":1,"s":"ada@example.com","short":"ada","ss":["x","y"]},null]}`)
		got := m.as(200, "u", "POST", path+"/get", `{"include":["documents","metadatas","uris"]}`)
		text := `"***"`
		if treatment == privacy.Hide {
			text = "null"
		}
		if all := `{"ids":["a","n"],"embeddings":null,"documents":[` + text + `,null],"uris":[` + text + `,null],"metadatas":[` + want + `,null],"include":["documents","metadatas","uris"]}`; got != all {
			t.Errorf("%s: %s\nwant %s", treatment, got, all)
		}
	}
	// A record of which everything is hidden is like one that has nothing.
	m, path := fielded(t, onRecords(privacy.Fields{URI: privacy.Hide, Metadata: map[string]privacy.Treatment{"*": privacy.Hide}}))
	m.as(201, "admin", "POST", path+"/add", `{"ids":["a","b","c"],"embeddings":[[1],[2],[3]],"uris":["u://x",null,null],"metadatas":[null,{"k":1},null]}`)
	if got := m.as(200, "u", "POST", path+"/get", `{}`); !strings.Contains(got, `"metadatas":[null,null,null]`) {
		t.Errorf("hidden: %s", got)
	}
}

// Embeddings that are hidden are not read, and the nearest are found still.
func TestFieldRulesEmbedding(t *testing.T) {
	m, path := fielded(t, onRecords(privacy.Fields{Embedding: privacy.Hide}))
	m.as(201, "admin", "POST", path+"/add", canaryRecord)
	const forbidden = `{"error":"AuthorizationError","message":"Forbidden: your roles do not let you read embeddings"}`
	for _, body := range []string{`{"include":["embeddings"]}`, `{"include":["embeddings"],"query_embeddings":[[1]]}`} {
		route := "get"
		if strings.Contains(body, "query") {
			route = "query"
		}
		if got := m.as(403, "u", "POST", path+"/"+route, body); got != forbidden {
			t.Errorf("%s: %s", route, got)
		}
	}
	if got := m.as(200, "u", "POST", path+"/query", `{"query_embeddings":[[1]]}`); !strings.HasPrefix(got, `{"ids":[["c"]]`) {
		t.Errorf("query: %s", got)
	}
}

// A refusal is the same for a key that records have and for one that none has,
// and for pseudonyms of nothing.
func TestFieldRulesTellNothing(t *testing.T) {
	m, path := fielded(t, onRecords(privacy.Fields{Metadata: map[string]privacy.Treatment{"secret-*": privacy.Hide, "name-*": privacy.Pseudonym}}))
	m.as(201, "admin", "POST", path+"/add", `{"ids":["a","b"],"embeddings":[[1],[2]],"metadatas":[{"secret-a":5,"name-a":"ada"},null]}`)
	for _, c := range []struct{ route, body string }{
		{"get", `{"where":{"KEY":5}}`}, {"get", `{"where":{"KEY":"x"}}`}, {"query", `{"query_embeddings":[[1]],"where":{"KEY":{"$gt":1}}}`}, {"delete", `{"where":{"KEY":5}}`},
		{"update", `{"ids":["a"],"metadatas":[{"KEY":5}]}`}, {"update", `{"ids":["none"],"metadatas":[{"KEY":null}]}`}, {"upsert", `{"ids":["a"],"embeddings":[[1]],"metadatas":[{"KEY":5}]}`},
		{"search", `{"searches":[{"filter":{"KEY":5}}]}`},
	} {
		for there, absent := range map[string]string{"secret-a": "secret-b", "name-a": "name-b"} {
			answer := func(key string) string {
				status, answer := m.ask("u", "POST", path+"/"+c.route, strings.ReplaceAll(c.body, "KEY", key))
				return fmt.Sprint(status, strings.ReplaceAll(answer, key, "KEY"))
			}
			if a, b := answer(there), answer(absent); a != b {
				t.Errorf("%s %s: %s %s, %s %s", c.route, c.body, there, a, absent, b)
			}
		}
	}
}

// Pseudonyms: one for equal values of a key, another for each key and each
// collection, and what filters take.
func TestFieldRulesPseudonyms(t *testing.T) {
	m, path := fielded(t, onRecords(privacy.Fields{Metadata: map[string]privacy.Treatment{"mail": privacy.Pseudonym, "other": privacy.Pseudonym, "n": privacy.Pseudonym}}))
	const records = `{"ids":["a","b","c","d"],"embeddings":[[1],[2],[3],[4]],
		"metadatas":[{"mail":"ada@example.com","other":"ada@example.com","n":5},{"mail":"bob@example.com","n":5.0},{"mail":"ada@example.com","n":6},null]}`
	m.as(201, "admin", "POST", path+"/add", records)
	second := "/api/v2/tenants/acme/databases/main/collections/" + m.ids["acme/main"]
	m.as(201, "admin", "POST", second+"/add", strings.ReplaceAll(records, `"a",`, `"x",`))
	r := shownRecord(t, m.as(200, "u", "POST", path+"/get", `{}`)).Metadatas
	elsewhere := shownRecord(t, m.as(200, "u", "POST", second+"/get", `{"ids":["x"]}`)).Metadatas
	ada, bob := r[0]["mail"], r[1]["mail"]
	if ada == bob || ada != r[2]["mail"] || ada == r[0]["other"] || ada == elsewhere[0]["mail"] || r[0]["n"] != r[1]["n"] || r[0]["n"] == r[2]["n"] {
		t.Errorf("pseudonyms: %v, elsewhere %v", r, elsewhere)
	}
	for where, want := range map[string][]string{
		fmt.Sprintf(`{"mail":%q}`, ada): {"a", "c"}, fmt.Sprintf(`{"mail":{"$ne":%q}}`, ada): {"b", "d"},
		fmt.Sprintf(`{"mail":{"$in":[%q,%q]}}`, ada, bob): {"a", "b", "c"}, fmt.Sprintf(`{"mail":{"$nin":[%q,"junk"]}}`, bob): {"a", "c", "d"},
		fmt.Sprintf(`{"mail":{"$in":[%q,"junk"]}}`, bob): {"b"}, `{"mail":"ada@example.com"}`: {}, `{"mail":{"$ne":"ada@example.com"}}`: {"a", "b", "c", "d"},
		`{"mail":{"$in":["junk","AAAA"]}}`: {}, fmt.Sprintf(`{"other":%q}`, ada): {}, fmt.Sprintf(`{"n":%q}`, r[0]["n"]): {"a", "b"}, `{"n":5}`: {}, `{"n":{"$in":[5,6]}}`: {},
		fmt.Sprintf(`{"$and":[{"mail":%q},{"n":%q}]}`, ada, r[2]["n"]): {"c"}, fmt.Sprintf(`{"mail":%q}`, elsewhere[0]["mail"]): {},
		fmt.Sprintf(`{"mail":{"$in":[%q,%q]}}`, ada, r[0]["n"]): {"a", "c"},
	} {
		for _, route := range []string{"get", "query"} {
			body := `{"where":` + where + `}`
			if route == "query" {
				body = `{"query_embeddings":[[1]],"where":` + where + `}`
			}
			answer := m.as(200, "u", "POST", path+"/"+route, body)
			ids := strings.Trim(answer[len(`{"ids":`):strings.Index(answer, `,"embeddings"`)], "[]")
			if got := strings.Join(want, `","`); ids != `"`+got+`"` && (ids != "" || got != "") {
				t.Errorf("%s %s: %s, want %s", route, where, ids, want)
			}
		}
	}
	// A new name of the collection, and new keys, leave pseudonyms what they are.
	m.as(200, "admin", "PUT", path, `{"new_name":"renamed"}`)
	if _, err := m.config.Privacy.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := m.as(200, "u", "POST", path+"/get", fmt.Sprintf(`{"where":{"mail":%q}}`, ada)); !strings.HasPrefix(got, `{"ids":["a","c"]`) {
		t.Errorf("with an old pseudonym: %s", got)
	}
	if got := shownRecord(t, m.as(200, "u", "POST", path+"/get", `{}`)).Metadatas; got[0]["mail"] == ada || got[0]["mail"] != got[2]["mail"] {
		t.Errorf("with new keys: %v", got)
	}
}

// Several grants.
func TestFieldRulesOfGrants(t *testing.T) {
	hide := func(keys ...string) privacy.Fields {
		f := privacy.Fields{Metadata: map[string]privacy.Treatment{}}
		for _, k := range keys {
			f.Metadata[k] = privacy.Hide
		}
		return f
	}
	red := access.Where{"team": "red"}
	read, write := []string{"collection:get"}, []string{"collection:update", "collection:delete"}
	for i, c := range []struct {
		grants []access.Grant
		sees   string
		writes int // of key a
	}{
		{[]access.Grant{{Actions: read, Fields: hide("a", "b")}, {Actions: read, Fields: hide("b", "c")}}, "a,c,team", 403},
		{[]access.Grant{{Actions: read, Fields: hide("a")}, {Actions: read}}, "a,b,c,team", 403},
		{[]access.Grant{{Actions: read, Fields: hide("a")}, {Actions: read, Where: red}}, "b,c,team", 403},
		{[]access.Grant{{Actions: read, Where: red, Fields: hide("a")}, {Actions: read, Where: red}}, "b,c,team", 403},
		{[]access.Grant{{Actions: read, Where: red, Fields: hide("a")}, {Actions: read, Where: red, Fields: hide("b")}}, "c,team", 403},
		{[]access.Grant{{Actions: []string{"collection:query"}, Fields: hide("a")}, {Actions: read}, {Actions: write}}, "a,b,c,team", 403},
		{[]access.Grant{{Actions: read, Fields: hide("b")}, {Actions: write}}, "a,c,team", 200},
		{[]access.Grant{{Actions: read}, {Actions: write, Fields: hide("a")}}, "a,b,c,team", 403},
		{[]access.Grant{{Actions: read, Fields: hide("a")}, {Actions: read, On: access.Scope{Tenant: "beta"}}}, "b,c,team", 403},
	} {
		m, path := fielded(t, c.grants...)
		m.as(201, "admin", "POST", path+"/add", `{"ids":["x"],"embeddings":[[1]],"metadatas":[{"a":1,"b":2,"c":3,"team":"red"}]}`)
		var keys []string
		for key := range shownRecord(t, m.as(200, "u", "POST", path+"/get", `{}`)).Metadatas[0] {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		if got := strings.Join(keys, ","); got != c.sees {
			t.Errorf("%d: sees %s, want %s", i, got, c.sees)
		}
		for route, body := range map[string]string{"update": `{"ids":["x"],"metadatas":[{"a":1}]}`, "delete": `{"where":{"a":7}}`} {
			if status, answer := m.ask("u", "POST", path+"/"+route, body); status != c.writes {
				t.Errorf("%d: %s: %d %s, want %d", i, route, status, answer, c.writes)
			}
		}
	}
}

// A model: rules at random about records at random. What is shown is what the
// definition of each treatment says, and a pseudonym that is given back finds
// what the value finds that stands behind it.
func TestFieldRulesModel(t *testing.T) {
	const seed = 11
	m, path := fielded(t, onRecords(privacy.Fields{}))
	r := rand.New(rand.NewPCG(seed, 1))
	keys := []string{"a", "ab", "abc", "b", "b1", "c"}
	values := []string{`"x"`, `"y"`, `1`, `2`, `1.5`, `true`, `false`, `["x","y"]`, `[1,2]`}
	var ids, embeddings, metadatas []string
	for i := range 40 {
		var fields []string
		for _, k := range keys {
			if r.IntN(2) == 0 {
				fields = append(fields, fmt.Sprintf("%q:%s", k, values[r.IntN(len(values))]))
			}
		}
		ids, embeddings = append(ids, fmt.Sprintf(`"%d"`, i)), append(embeddings, "[1]")
		metadatas = append(metadatas, "{"+strings.Join(fields, ",")+"}")
	}
	m.as(201, "admin", "POST", path+"/add", fmt.Sprintf(`{"ids":[%s],"embeddings":[%s],"metadatas":[%s]}`, strings.Join(ids, ","), strings.Join(embeddings, ","), strings.Join(metadatas, ",")))
	real := shownRecord(t, m.as(200, "admin", "POST", path+"/get", `{}`)).Metadatas
	all := []privacy.Treatment{privacy.Visible, privacy.Pseudonym, privacy.Hash, privacy.Mask, privacy.Hide}
	for round := range 25 {
		rules := map[string]privacy.Treatment{}
		for _, pattern := range []string{"a", "ab", "a*", "ab*", "b*", "*", "c", "b1"} {
			if r.IntN(2) == 0 {
				rules[pattern] = all[r.IntN(len(all))]
			}
		}
		rules["none"] = privacy.Hide
		seeing(m, onRecords(privacy.Fields{Metadata: rules}))
		shown := shownRecord(t, m.as(200, "u", "POST", path+"/get", `{}`)).Metadatas
		for i := range real {
			for _, k := range keys {
				modelField(t, m, path, fmt.Sprintf("seed %d round %d record %d key %s of %v", seed, round, i, k, rules), k, modelRule(rules, k), real, shown, i)
			}
		}
	}
}

// modelRule is the rule about a key: itself, else its longest prefix.
func modelRule(rules map[string]privacy.Treatment, key string) privacy.Treatment {
	if t, ok := rules[key]; ok {
		return t
	}
	for n := len(key); n >= 0; n-- {
		if t, ok := rules[key[:n]+"*"]; ok {
			return t
		}
	}
	return privacy.Visible
}

func modelField(t *testing.T, m *matrix, path, what, k string, rule privacy.Treatment, real, shown []map[string]any, i int) {
	t.Helper()
	was, there := real[i][k]
	is, seen := shown[i][k]
	switch {
	case !there || rule == privacy.Hide:
		if seen {
			t.Fatalf("%s: %s shows %v", what, rule, is)
		}
	case rule == privacy.Visible:
		if !reflect.DeepEqual(is, was) {
			t.Fatalf("%s: %v, not %v", what, is, was)
		}
	case rule == privacy.Mask:
		if fmt.Sprintf("%T", is) != fmt.Sprintf("%T", was) || reflect.DeepEqual(is, was) && was != false {
			t.Fatalf("%s: %v is masked as %v", what, was, is)
		}
	default:
		for j := range real {
			if other, ok := real[j][k]; ok && reflect.DeepEqual(other, was) != reflect.DeepEqual(shown[j][k], is) {
				t.Fatalf("%s: %v and %v are %v and %v", what, was, other, is, shown[j][k])
			}
		}
		if text, scalar := is.(string); scalar && rule == privacy.Pseudonym && i < 3 {
			value, err := json.Marshal(was)
			if err != nil {
				t.Fatal(err)
			}
			answer := func(who, operand string) string {
				got := m.as(200, who, "POST", path+"/get", fmt.Sprintf(`{"include":[],"where":{%q:{"$nin":[%s]}}}`, k, operand))
				return got
			}
			if a, b := answer("u", `"`+text+`"`), answer("admin", string(value)); a != b {
				t.Fatalf("%s: the pseudonym of %v finds %s, and it finds %s", what, was, a, b)
			}
		}
	}
}

// What is deleted by a condition is what is read by it, also where the condition
// holds for everything once it is asked of what is stored; and where there is no
// condition, nothing is.
func TestDeleteByWhatHoldsForAll(t *testing.T) {
	pseudonym := privacy.Fields{Metadata: map[string]privacy.Treatment{"mail": privacy.Pseudonym}}
	for name, c := range map[string]struct {
		fields privacy.Fields
		rules  string
		where  access.Where
		his    int
	}{
		"plain": {his: 2}, "pseudonyms": {fields: pseudonym, his: 2}, "hashed": {rules: `{"keys":{"mail":"hash"}}`, his: 2}, "both": {fields: pseudonym, rules: `{"keys":{"mail":"pseudonym"}}`, his: 2},
		"row rule": {fields: pseudonym, rules: `{"keys":{"mail":"hash"}}`, where: access.Where{"team": "red"}, his: 1},
	} {
		grant := onRecords(c.fields)
		grant.Where = c.where
		m, path := fielded(t, grant)
		m.as(200, "admin", "PUT", "/api/v2/chromad/privacy", `{"version":1,"rules":[`+c.rules+`]}`)
		for _, d := range []struct {
			body    string
			deleted int // -1: refused
		}{
			{`{"where":{"mail":{"$ne":"nobody"}}}`, c.his}, {`{"where":{"mail":{"$nin":["nobody","none"]}}}`, c.his}, {`{"where":{"$and":[]}}`, c.his},
			{`{"where":{"$or":[{"mail":"nobody"},{"mail":{"$ne":"nobody"}}]}}`, c.his}, {`{"where":{"$and":[{"mail":{"$ne":"nobody"}},{"team":"blue"}]}}`, c.his - 1},
			{`{"ids":["r"],"where":{"mail":{"$ne":"nobody"}}}`, 1}, {`{"where":{"mail":{"$ne":"nobody"}},"limit":1}`, 1},
			{`{"where":{"$or":[]}}`, 0}, {`{"where":{"mail":"nobody"}}`, 0}, {`{"where":{"$and":[{"$or":[]}]}}`, 0},
			{`{}`, 0}, {`{"where":null}`, 0}, {`{"where":null,"where_document":null}`, 0}, {`{"where":{}}`, -1}, {`{"ids":[]}`, -1}, {`{"where":null,"limit":1}`, -1},
		} {
			m.as(201, "admin", "POST", path+"/add", `{"ids":["r","b"],"embeddings":[[1],[2]],"metadatas":[{"mail":"ada@example.com","team":"red"},{"mail":"bob@example.com","team":"blue"}]}`)
			status, answer := m.ask("u", "POST", path+"/delete", d.body)
			if d.deleted < 0 && status != 400 || d.deleted >= 0 && answer != fmt.Sprintf(`{"deleted":%d}`, d.deleted) {
				t.Errorf("%s: %s: %d %s, want %d", name, d.body, status, answer, d.deleted)
			}
			if left := m.as(200, "admin", "GET", path+"/count", ""); left != fmt.Sprint(2-max(d.deleted, 0)) {
				t.Errorf("%s: %s: %s are left", name, d.body, left)
			}
		}
	}
}
