package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server/access"
	"github.com/chromad/chromad/server/privacy"
)

// minimised is a store with rules, and the path of a collection that is called docs.
func minimised(t *testing.T, rules string) (m *matrix, path string) {
	t.Helper()
	m, path = fielded(t, onRecords(privacy.Fields{}))
	m.as(200, "admin", "PUT", "/api/v2/chromad/privacy", `{"version":1,"rules":[`+rules+`]}`)
	return m, path
}

// stored is what a get as the admin says of a record.
func (m *matrix) stored(path, id string) string {
	m.t.Helper()
	got := m.as(200, "admin", "POST", path+"/get", `{"ids":["`+id+`"],"include":["documents","uris","metadatas"]}`)
	_, got, _ = strings.Cut(got, `"embeddings":null,`)
	got, _, _ = strings.Cut(got, `,"include"`)
	return got
}

// What rules make of what is written, by every route that writes.
func TestMinimisation(t *testing.T) {
	for _, c := range []struct {
		rules, record, want string // want: what is stored, or the error
	}{
		{`{"accept":["title","x_*"]}`, `"metadatas":[{"title":"t","x_1":2}]`, `"documents":[null],"uris":[null],"metadatas":[{"title":"t","x_1":2}]`},
		{`{"accept":["title"]}`, `"metadatas":[{"title":"t","who":"ada"}]`, `record 0: the metadata key "who": is not accepted in this collection`},
		{`{"accept":["title"],"others":"drop"}`, `"metadatas":[{"title":"t","who":"ada"}]`, `"documents":[null],"uris":[null],"metadatas":[{"title":"t"}]`},
		{`{"accept":[],"others":"drop"}`, `"metadatas":[{"who":"ada"}]`, `"documents":[null],"uris":[null],"metadatas":[null]`},
		{`{"accept":["a","b"]},{"accept":["b","c"],"others":"drop"}`, `"metadatas":[{"b":1,"c":1}]`, `record 0: the metadata key "c": is not accepted in this collection`},
		{`{"keys":{"who":"drop","x*":"drop","xy":"keep"}}`, `"metadatas":[{"who":"ada","x":1,"xy":2}]`, `"documents":[null],"uris":[null],"metadatas":[{"xy":2}]`},
		{`{"document":"drop"}`, `"documents":["d"],"uris":["u"]`, `"documents":[null],"uris":["u"],"metadatas":[{}]`},
		{`{"uri":"drop"}`, `"documents":["d"],"uris":["u"]`, `"documents":["d"],"uris":[null],"metadatas":[null]`},
		{`{"detect":{"*":"mask"}}`, `"documents":["mail ada@example.com or 4111 1111 1111 1111"],"metadatas":[{"t":"call +49 30 1234567","ts":["a","192.0.2.1"],"n":4111111111111111}]`,
			`"documents":["mail [email] or [card]"],"uris":[null],"metadatas":[{"n":4111111111111111,"t":"call [phone]","ts":["a","[ip]"]}]`},
		{`{"detect":{"*":"mask","card":"reject"}}`, `"documents":["mail ada@example.com or 4111 1111 1111 1111"]`, `record 0: document: has personal data in it (card), which this collection does not take`},
		{`{"detect":{"email":"reject"}}`, `"metadatas":[{"t":"ada@example.com"}]`, `record 0: the metadata key "t": has personal data in it (email), which this collection does not take`},
		{`{"detect":{"email":"reject"}}`, `"uris":["mailto:ada@example.com"]`, `record 0: uri: has personal data in it (email), which this collection does not take`},
		{`{"detect":{"*":"tag"}}`, `"documents":["ada@example.com, 4111 1111 1111 1111"],"metadatas":[{"pii":"none"}]`, `"documents":["ada@example.com, 4111 1111 1111 1111"],"uris":[null],"metadatas":[{"pii":"card,email"}]`},
		{`{"detect":{"*":"tag","email":"mask"},"tag":"found"}`, `"documents":["ada@example.com, 4111 1111 1111 1111"]`, `"documents":["[email], 4111 1111 1111 1111"],"uris":[null],"metadatas":[{"found":"card"}]`},
		{`{"detect":{"*":"tag"}}`, `"documents":["nothing"],"metadatas":[{"pii":"email"}]`, `"documents":["nothing"],"uris":[null],"metadatas":[null]`},
		{`{"detect":{"*":"mask"}},{"detect":{"email":"keep","ip":"reject"}}`, `"documents":["ada@example.com"]`, `"documents":["[email]"],"uris":[null],"metadatas":[null]`},
		{`{"on":{"collection":"doc*"},"document":"drop"}`, `"documents":["d"]`, `"documents":[null],"uris":[null],"metadatas":[null]`},
		{`{"on":{"tenant":"acme","database":"other","collection":"*cs"},"document":"drop"}`, `"documents":["d"]`, `"documents":[null],"uris":[null],"metadatas":[null]`},
		{`{"on":{"tenant":"beta"},"document":"drop"}`, `"documents":["d"]`, `"documents":["d"],"uris":[null],"metadatas":[null]`},
	} {
		m, path := minimised(t, c.rules)
		m.as(201, "admin", "POST", path+"/add", `{"ids":["update"],"embeddings":[[1]]}`)
		for _, route := range []string{"add", "upsert", "update"} {
			id := route
			status, answer := m.ask("u", "POST", path+"/"+route, `{"ids":["`+id+`"],"embeddings":[[1]],`+c.record+`}`)
			if strings.HasPrefix(c.want, "record") {
				var e struct{ Error, Message string }
				if err := json.Unmarshal([]byte(answer), &e); err != nil || status != 400 || e.Message != c.want || e.Error != "InvalidArgumentError" {
					t.Errorf("%s %s %s: %d %s, want %s", c.rules, route, c.record, status, answer, c.want)
				}
				continue
			}
			if got := m.stored(path, id); status >= 300 || got != c.want {
				t.Errorf("%s %s %s: %d %s, stored %s, want %s", c.rules, route, c.record, status, answer, got, c.want)
			}
			if strings.Contains(m.log.String(), "4111 1111") || strings.Contains(m.log.String(), "4111111111") || strings.Contains(m.log.String(), "ada@") {
				t.Error("the log tells")
			}
		}
	}
}

// Hashes and pseudonyms that are stored: equal for what is equal, found by the
// value, by what was read, and by what was stored before the rule; and reading
// and writing back changes nothing.
func TestMinimisationKeyed(t *testing.T) {
	for _, how := range []string{"hash", "pseudonym"} {
		m, path := minimised(t, "")
		m.as(201, "admin", "POST", path+"/add", `{"ids":["old"],"embeddings":[[0]],"metadatas":[{"mail":"ada@example.com"}]}`)
		m.as(200, "admin", "PUT", "/api/v2/chromad/privacy", `{"version":1,"rules":[{"keys":{"mail":"`+how+`","*":"keep"}}]}`)
		m.as(201, "u", "POST", path+"/add", `{"ids":["a","b","c","n","l"],"embeddings":[[1],[2],[3],[4],[5]],
			"metadatas":[{"mail":"ada@example.com","x":1},{"mail":"bob@example.com"},{"mail":"ada@example.com"},{"mail":7},{"mail":["ada@example.com","x"]}]}`)
		r := shownRecord(t, m.as(200, "u", "POST", path+"/get", `{"ids":["a","b","c","n","l"]}`)).Metadatas
		ada := r[0]["mail"].(string)
		if ada == "ada@example.com" || ada != r[2]["mail"] || ada == r[1]["mail"] || r[4]["mail"].([]any)[0] != ada || r[0]["x"] != 1.0 {
			t.Fatalf("%s: %v", how, r)
		}
		find := func(where, want string) {
			t.Helper()
			got := m.as(200, "u", "POST", path+"/get", `{"include":[],"where":`+where+`}`)
			if ids := strings.ReplaceAll(strings.Trim(got[len(`{"ids":`):strings.Index(got, `,"embeddings"`)], "[]"), `"`, ""); ids != want {
				t.Errorf("%s: %s: %s, want %s", how, where, ids, want)
			}
		}
		both := func() {
			find(`{"mail":"ada@example.com"}`, "old,a,c")
			find(`{"mail":{"$ne":"ada@example.com"}}`, "b,n,l")
			find(`{"mail":{"$in":["ada@example.com","bob@example.com"]}}`, "old,a,b,c")
			find(`{"mail":{"$nin":["ada@example.com","bob@example.com"]}}`, "n,l")
			find(fmt.Sprintf(`{"mail":%q}`, ada), "a,c")
			find(`{"mail":7}`, "n")
			find(`{"mail":7.0}`, "n")
			find(`{"mail":{"$contains":"ada@example.com"}}`, "l")
			find(`{"mail":{"$not_contains":"ada@example.com"}}`, "old,a,b,c,n")
			find(`{"$and":[{"x":1},{"mail":"ada@example.com"}]}`, "a")
		}
		both()
		before := m.stored(path, "a")
		m.as(200, "u", "POST", path+"/update", fmt.Sprintf(`{"ids":["a"],"metadatas":[{"mail":%q}]}`, ada))
		if got := m.stored(path, "a"); got != before {
			t.Errorf("%s: written back: %s, was %s", how, got, before)
		}
		// New keys: what was stored under the old ones is found still.
		if _, err := m.config.Privacy.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		both()
		m.as(200, "u", "POST", path+"/update", `{"ids":["a"],"metadatas":[{"mail":null}]}`)
		if got := m.stored(path, "a"); strings.Contains(got, "mail") {
			t.Errorf("%s: deleted: %s", how, got)
		}
	}
}

// A rule about rows that names a key which is hashed is about the hashes.
func TestMinimisationRowRule(t *testing.T) {
	all := ruledRole().Grants[1].Actions
	m, path := fielded(t, access.Grant{Actions: all, Where: access.Where{"owner": "${user.name}"}})
	m.as(200, "admin", "PUT", "/api/v2/chromad/privacy", `{"version":1,"rules":[{"keys":{"owner":"hash"}}]}`)
	m.as(201, "admin", "POST", path+"/add", `{"ids":["a","b"],"embeddings":[[1],[2]],"metadatas":[{"owner":"u"},{"owner":"v"}]}`)
	if got := m.as(200, "u", "POST", path+"/get", `{}`); !strings.HasPrefix(got, `{"ids":["a"]`) {
		t.Errorf("get: %s", got)
	}
	m.as(201, "u", "POST", path+"/add", `{"ids":["c"],"embeddings":[[1]],"metadatas":[{"owner":"u"}]}`)
	m.as(403, "u", "POST", path+"/add", `{"ids":["d"],"embeddings":[[1]],"metadatas":[{"owner":"v"}]}`)
}

// A rule about rows hides what was stored hashed, or as pseudonyms, also after the
// rules that made it so are gone, or hold no more since the collection has
// another name; and shows what it showed.
func TestRowRuleOutlivesStoring(t *testing.T) {
	rules := func(m *matrix, text string) {
		m.as(200, "admin", "PUT", "/api/v2/chromad/privacy", `{"version":1,"rules":[`+text+`]}`)
	}
	for name, c := range map[string]struct{ where, want string }{
		"ne":           {`{"owner":{"$ne":"boss"}}`, "u,list"},
		"nin":          {`{"owner":{"$nin":["boss","v"]}}`, "u,list"},
		"not contains": {`{"owner":{"$not_contains":"boss"}}`, "boss,u"},
		"number":       {`{"$and":[{"owner":{"$nin":["boss","u"]}},{"n":{"$ne":7}}]}`, "list"},
		"eq":           {`{"owner":"u"}`, "u"},
		"in":           {`{"owner":{"$in":["u","boss"]}}`, "boss,u"},
		"contains":     {`{"owner":{"$contains":"boss"}}`, "list"},
	} {
		for _, how := range []string{"hash", "pseudonym"} {
			t.Run(name+" "+how, func(t *testing.T) {
				var where access.Where
				if err := json.Unmarshal([]byte(c.where), &where); err != nil {
					t.Fatal(err)
				}
				m, path := fielded(t, access.Grant{Actions: ruledRole().Grants[1].Actions, Where: where})
				check := func(when string) {
					t.Helper()
					got := m.as(200, "u", "POST", path+"/get", `{"include":[]}`)
					if ids := strings.ReplaceAll(strings.Trim(got[len(`{"ids":`):strings.Index(got, `,"embeddings"`)], "[]"), `"`, ""); ids != c.want {
						t.Errorf("%s: %s, want %s", when, ids, c.want)
					}
				}
				on := `{"on":{"collection":"docs"},"keys":{"owner":"` + how + `","n":"` + how + `"}}`
				rules(m, on)
				m.as(201, "admin", "POST", path+"/add", `{"ids":["boss","u","list"],"embeddings":[[1],[2],[3]],"metadatas":[{"owner":"boss","n":7},{"owner":"u","n":7.0},{"owner":["boss","x"]}]}`)
				check("the rules hold")
				m.as(200, "admin", "PUT", path, `{"new_name":"others"}`)
				check("another name")
				m.as(200, "admin", "PUT", path, `{"new_name":"docs"}`)
				rules(m, `{"keys":{"owner":"`+map[string]string{"hash": "pseudonym", "pseudonym": "hash"}[how]+`"}}`)
				check("other rules")
				rules(m, "")
				check("no rules")
				if _, err := m.config.Privacy.Rotate(t.Context()); err != nil {
					t.Fatal(err)
				}
				check("other keys")
			})
		}
	}
}

// A name by which other rules about storing hold is for those who may change the rules.
func TestRenameOutOfRules(t *testing.T) {
	m, path := fielded(t, access.Grant{Actions: []string{"collection:*"}})
	m.as(200, "admin", "PUT", "/api/v2/chromad/privacy", `{"version":1,"rules":[{"on":{"collection":"docs*"},"document":"drop"},{"on":{"tenant":"beta"},"uri":"drop"}]}`)
	for _, c := range []struct {
		who, name string
		want      int
	}{{"u", "other", 403}, {"u", "docs", 200}, {"u", "docs-2", 200}, {"admin", "other", 200}, {"u", "docs", 403}, {"u", "others", 200}, {"admin", "docs", 200}} {
		answer := m.as(c.want, c.who, "PUT", path, `{"new_name":"`+c.name+`"}`)
		if c.want == 403 && !strings.Contains(answer, "system:write_privacy") {
			t.Errorf("%s: %s", c.name, answer)
		}
	}
	m.as(200, "u", "PUT", path, `{"new_metadata":{"a":1}}`)
}

// Field rules over stored hashes: what is shown is not what is stored, and
// filters go through both.
func TestMinimisationAndFields(t *testing.T) {
	m, path := fielded(t, onRecords(privacy.Fields{Metadata: map[string]privacy.Treatment{"mail": privacy.Pseudonym}}))
	m.as(200, "admin", "PUT", "/api/v2/chromad/privacy", `{"version":1,"rules":[{"keys":{"mail":"hash"}}]}`)
	m.as(201, "admin", "POST", path+"/add", `{"ids":["a","b"],"embeddings":[[1],[2]],"metadatas":[{"mail":"ada@example.com"},{"mail":"bob@example.com"}]}`)
	stored := shownRecord(t, m.as(200, "admin", "POST", path+"/get", `{}`)).Metadatas[0]["mail"].(string)
	shown := shownRecord(t, m.as(200, "u", "POST", path+"/get", `{}`)).Metadatas[0]["mail"].(string)
	if stored == shown || len(stored) != 40 {
		t.Errorf("stored %s, shown %s", stored, shown)
	}
	for value, want := range map[string]string{shown: `["a"]`, stored: `[]`, "ada@example.com": `[]`} {
		if got := m.as(200, "u", "POST", path+"/get", fmt.Sprintf(`{"where":{"mail":%q}}`, value)); !strings.HasPrefix(got, `{"ids":`+want) {
			t.Errorf("%s: %s", value, got)
		}
	}
}

// The route of the rules: what is wrong is told, and changes nothing.
func TestPrivacyRoute(t *testing.T) {
	m, _ := minimised(t, `{"on":{"tenant":"acme"},"accept":["a"],"others":"drop","keys":{"b":"hash"},"document":"drop","detect":{"*":"tag","ip":"mask"},"tag":"found"}`)
	const is = `{"version":1,"rules":[{"on":{"tenant":"acme"},"accept":["a"],"others":"drop","keys":{"b":"hash"},"document":"drop","detect":{"*":"tag","ip":"mask"},"tag":"found"}]}`
	for body, want := range map[string]string{
		`{"version":2,"rules":[]}`: "version 2, and this program knows 1", `{"version":1,"rulez":[]}`: `unknown field \"rulez\"`,
		`{"version":1,"rules":[{"others":"drop"}]}`: "rules[0]: others: without accept", `{"version":1,"rules":[{"accept":["a"],"others":"hash"}]}`: "neither drop nor reject",
		`{"version":1,"rules":[{"keys":{"a*b":"drop"}}]}`: "a star stands at the end only", `{"version":1,"rules":[{},{"keys":{"a":"encrypt"}}]}`: `rules[1]: keys: \"a\": \"encrypt\", which is none of`,
		`{"version":1,"rules":[{"detect":{"name":"mask"}}]}`: `\"name\" is no kind of personal data that is known`, `{"version":1,"rules":[{"detect":{"email":"drop"}}]}`: "none of keep, tag, mask, reject",
		`{"version":1,"rules":[{"tag":"x"}]}`: "nothing is tagged", `{"version":1,"rules":[{"document":"hash"}]}`: "neither keep nor drop", `{"version":1,"rules":[{"keys":{"#document":"drop"}}]}`: "no key of metadata begins",
		`{"version":1,"rules":[]} x`: "JSON", `{"version":1,"version":1,"rules":[]}`: "duplicate", `[]`: "", `null`: "", `{"rules":[]}`: "version 0", `{"version":1,"Rules":[]}`: `unknown field \"Rules\"`,
		`{"version":1,"rules":[{"uri":"drop","uri":"keep"}]}`: "duplicate", `{"version":1,"rules":[{"keys":{"a":"drop","a":"keep"}}]}`: "duplicate", `{"version":1,"rules":[{"on":{"Tenant":"x"}}]}`: "unknown field",
		`{"version":1,"rules":[{"on":null}]}`: "rules[].on: nothing behind it", `{"version":1,"rules":[{"detect":null}]}`: "nothing behind it", `{"version":1,"rules":[{"detect":{"*":"tag"},"tag":"x*"}]}`: "no key of metadata", `{"version":1,"rules":[{"accept":null}]}`: "rules[].accept: nothing behind it",
	} {
		status, answer := m.ask("admin", "PUT", "/api/v2/chromad/privacy", body)
		if status < 400 || status >= 500 || !strings.Contains(answer, want) {
			t.Errorf("%s: %d %s", body, status, answer)
		}
		if got := m.as(200, "admin", "GET", "/api/v2/chromad/privacy", ""); got != is {
			t.Fatalf("%s: rules are %s", body, got)
		}
	}
}

// After a repair that found no settings nothing is stored before somebody says
// what may be.
func TestPrivacyLost(t *testing.T) {
	m, path := fielded(t, onRecords(privacy.Fields{}))
	db := m.store.(engineStore).DB
	if err := db.ChangeSetting(t.Context(), engine.SettingsLost, func([]byte) ([]byte, error) { return []byte("x"), nil }); err != nil {
		t.Fatal(err)
	}
	var err error
	if m.config.Privacy, err = privacy.Open(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	const record = `{"ids":["a"],"embeddings":[[1]]}`
	if got := m.as(503, "u", "POST", path+"/add", record); !strings.Contains(got, "chromad privacy set") {
		t.Errorf("lost: %s", got)
	}
	m.as(200, "u", "POST", path+"/get", `{}`)
	m.as(200, "admin", "PUT", "/api/v2/chromad/privacy", `{"version":1,"rules":[]}`)
	m.as(201, "u", "POST", path+"/add", record)
}
