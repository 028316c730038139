package server

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server/access"
	"github.com/chromad/chromad/server/audit"
)

// everything is recorded.
func everything() audit.Config {
	return audit.Config{Reads: true, Writes: true, Changes: true, Wait: true}
}

// lines are the events that were written since a record, each in short.
func (r *rig) lines(after uint64) (out []string, last uint64) {
	r.t.Helper()
	last = after
	for rec, err := range r.db.AuditRecords(context.Background(), after+1) {
		if err != nil {
			r.t.Fatal(err)
		}
		last = rec.Seq
		l := audit.LineOf(rec.Seq, rec.Hash, rec.Time, byte(rec.Kind), rec.Body)
		where := strings.Trim(l.Tenant+"/"+l.Database+"/"+l.Collection, "/")
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s %d %s@%s %s %d %s %s", l.Kind, l.Action, l.Outcome, l.Status, l.Principal, l.Method, where, l.Rows, l.Reason, l.Subject)))
		if l.Kind != audit.System && (l.Request == "" || l.Address != "192.0.2.1") {
			r.t.Errorf("%+v: from where, and of which request?", l)
		}
	}
	return out, last
}

// Each act leaves exactly the lines that it should. Who is met first has
// authenticated, too; that is left out here.
func TestAuditLines(t *testing.T) {
	m := newMatrix(t)
	m.config.Audit = audit.New(m.db, everything())
	acme := "/api/v2/tenants/acme/databases/main"
	docs := acme + "/collections/" + m.ids["acme/main"]
	_, at := m.lines(0)
	for _, tc := range []struct {
		who, method, path, body string
		want                    []string
	}{
		{"admin", "GET", "/api/v2/heartbeat", "", nil},
		{"none", "GET", acme, "", []string{"authentication authenticate denied 401 @  0 no credential"}},
		{"admin", "GET", acme, "", []string{"access db:get_database allowed 200 admin@key acme/main 0"}},
		{"admin", "GET", "/nowhere", "", nil},
		{"reader", "POST", docs + "/get", `{}`, []string{"access collection:get allowed 200 reader@key acme/main/docs 1"}},
		{"reader", "POST", docs + "/query", `{"query_embeddings":[[1]]}`, []string{"access collection:query allowed 200 reader@key acme/main/docs 1"}},
		{"reader", "POST", docs + "/query", `{"query_embeddings":`, []string{"access collection:query failed 400 reader@key acme/main/" + m.ids["acme/main"] + " 0 invalid"}},
		{"editor", "POST", docs + "/upsert", `{"ids":["b","c"],"embeddings":[[1],[2]]}`, []string{"access collection:upsert allowed 200 editor@key acme/main/docs 2"}},
		{"editor", "POST", docs + "/delete", `{"ids":["b","nobody"]}`, []string{"access collection:delete allowed 200 editor@key acme/main/docs 1"}},
		{"reader", "POST", docs + "/delete", `{"ids":["b"]}`, []string{"decision collection:delete denied 403 reader@key acme/main/" + m.ids["acme/main"] + " 0 not granted"}},
		{"reader", "GET", "/api/v2/tenants/beta", "", []string{"decision tenant:get_tenant denied 403 reader@key beta 0 not granted"}},
		{"ruled", "POST", docs + "/upsert", `{"ids":["z"],"embeddings":[[1]],"metadatas":[{"team":"x"}]}`, []string{"decision collection:upsert denied 403 ruled@key acme/main/docs 0 row rule"}},
		{"editor", "POST", acme + "/collections", `{"name":"fresh"}`, []string{"access db:create_collection allowed 200 editor@key acme/main/fresh 0"}},
		{"editor", "POST", acme + "/collections", `{"name":"fresh"}`, []string{"access db:create_collection failed 409 editor@key acme/main/fresh 0 exists"}},
		{"editor", "POST", acme + "/collections", `{"name":"fresh","get_or_create":true}`, []string{"access db:create_collection allowed 200 editor@key acme/main/fresh 0"}},
		{"editor", "DELETE", acme + "/collections/fresh", "", []string{"access collection:delete_collection allowed 200 editor@key acme/main/fresh 0"}},
		{"reader", "GET", "/api/v2/chromad/audit", "", []string{"decision system:read_audit denied 403 reader@key  0 not granted"}},
		{"reader", "POST", "/api/v2/reset", "", []string{"decision system:reset denied 403 reader@key  0 not granted"}},
		{"admin", "POST", "/api/v2/chromad/access", `{"do":"add-user","user":"new"}`, []string{"admin access:add-user allowed 200 admin@key  0  new"}},
		{"admin", "POST", "/api/v2/chromad/access", `{"do":"remove-role","role_name":"no"}`, []string{"admin access:remove-role failed 400 admin@key  0 invalid no"}},
		{"adminA", "POST", "/api/v2/chromad/access", `{"do":"add-user","user":"x"}`, []string{"decision system:write_access denied 403 adminA@key  0 not granted"}},
		{"reader", "POST", "/api/v2/chromad/access/own_key", `{"keep":"1h"}`, []string{"admin access:rotate-own-key allowed 200 reader@key  0  reader"}},
		{"admin", "PUT", "/api/v2/chromad/tenants/acme/databases/main/collections/" + m.ids["acme/main"] + "/retention/hold", `{"reason":"case 7"}`, []string{"admin retention:hold allowed 200 admin@key acme/main/docs 0"}},
		{"admin", "DELETE", "/api/v2/chromad/tenants/acme/databases/main/collections/" + m.ids["acme/main"] + "/retention/hold", "", []string{"admin retention:release allowed 200 admin@key acme/main/docs 0"}},
		{"admin", "POST", "/api/v2/reset", "", []string{"admin system:reset allowed 200 admin@key  0"}},
		{"expired", "GET", acme, "", []string{"authentication authenticate denied 401 @  0 expired"}},
		{"bad", "GET", acme, "", nil}, // the same address in the same second: counted
	} {
		_, _ = m.ask(tc.who, tc.method, tc.path, tc.body)
		var got []string
		got, at = m.lines(at)
		got = slices.DeleteFunc(got, func(l string) bool { return strings.HasPrefix(l, "authentication authenticate allowed") })
		if tc.who == "expired" && len(got) == 0 { // in the second of the first one
			continue
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s %s %s %s:\n got %q\nwant %q", tc.who, tc.method, tc.path, tc.body, got, tc.want)
		}
	}
}

// By default reading and writing records leave nothing; who came in does, once,
// and so does everything else.
func TestAuditDefaults(t *testing.T) {
	m := newMatrix(t)
	m.config.Audit = audit.New(m.db, audit.Defaults())
	docs := "/api/v2/tenants/acme/databases/main/collections/" + m.ids["acme/main"]
	for range 3 {
		m.as(200, "reader", "POST", docs+"/get", `{}`)
		m.as(200, "editor", "POST", docs+"/upsert", `{"ids":["b"],"embeddings":[[1]]}`)
	}
	m.as(200, "editor", "POST", docs+"/delete", `{"ids":["b"]}`)
	m.as(403, "reader", "POST", docs+"/delete", `{"ids":["b"]}`)
	want := []string{
		"authentication authenticate allowed 0 reader@key  0", "authentication authenticate allowed 0 editor@key  0",
		"access collection:delete allowed 200 editor@key acme/main/docs 1",
		"decision collection:delete denied 403 reader@key acme/main/" + m.ids["acme/main"] + " 0 not granted",
	}
	if got, _ := m.lines(0); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// Nothing of records, conditions or credentials is in the audit log. A line
// that has some is found.
func TestAuditCanary(t *testing.T) {
	m := newMatrix(t)
	log := audit.New(m.db, everything())
	m.config.Audit = log
	const canary = "c4n4ry"
	docs := "/api/v2/tenants/acme/databases/main/collections/" + m.ids["acme/main"]
	record := `{"ids":["c4n4ry-id"],"embeddings":[[0.4242]],"documents":["c4n4ry text"],"metadatas":[{"c4n4ry-key":"c4n4ry value"}],"uris":["c4n4ry"]}`
	for _, action := range []string{"add", "upsert", "update"} {
		m.ask("admin", "POST", docs+"/"+action, record)
	}
	for _, action := range []string{"get", "query", "delete", "search"} {
		m.ask("admin", "POST", docs+"/"+action, `{"ids":["c4n4ry-id"],"query_embeddings":[[1]],"where":{"c4n4ry-key":"c4n4ry value"},"where_document":{"$contains":"c4n4ry"}}`)
		m.ask("ruled", "POST", docs+"/"+action, record)
		m.ask("reader", "POST", docs+"/"+action, `{"c4n4ry":"c4n4ry`)
	}
	m.ask("admin", "POST", "/api/v2/chromad/access", `{"do":"set-password","user":"reader","new_password":"c4n4ry-password"}`)
	m.ask("admin", "POST", "/api/v2/chromad/access", `{"do":"c4n4ry"`)
	m.ask("admin", "PUT", "/api/v2/chromad/privacy", `{"c4n4ry":1}`)
	basic := base64.StdEncoding.EncodeToString([]byte("c4n4ry-user:c4n4ry-password"))
	for _, header := range [][2]string{{"Authorization", "Basic " + basic}, {"Authorization", "Bearer c4n4ry.c4n4ry.c4n4ry"}, {"X-Chroma-Token", "chromad_c4n4ry00_" + strings.Repeat("c", 43)}, {"Authorization", "c4n4ry"}} {
		m.do("GET", docs+"/count?c4n4ry=1", "", header[0], header[1])
		if err := log.Tick(t.Context()); err != nil {
			t.Error(err)
		}
	}
	found := func() bool {
		if _, err := m.db.TendAudit(t.Context(), engine.AuditKeep{}); err != nil {
			t.Fatal(err)
		}
		all := m.auditBytes()
		secret := false
		for _, key := range m.keys {
			_, part, _ := strings.Cut(strings.TrimPrefix(key, "chromad_"), "_")
			secret = secret || part != "" && bytes.Contains(all, []byte(part))
		}
		if len(all) < 4000 {
			t.Fatalf("%d bytes of audit log: the test is blind", len(all))
		}
		return secret || bytes.Contains(all, []byte(canary))
	}
	if found() {
		t.Error("the audit log has something of what was sent")
	}
	if err := log.Record(t.Context(), audit.Event{Kind: audit.System, Action: "x", Outcome: audit.Allowed, Reason: canary}); err != nil || !found() {
		t.Errorf("a planted one is not found, %v: the test is blind", err)
	}
}

// auditBytes are the bytes of the files of the audit log of a plain store.
func (r *rig) auditBytes() (all []byte) {
	dir := os.DirFS(r.dir)
	err := fs.WalkDir(dir, "audit", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(dir, path)
		all = append(all, b...)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

// When the log cannot be written, what leaves an event is refused and not
// done; what leaves none goes on, and audited reads do if they are to.
func TestAuditFailing(t *testing.T) {
	m := newMatrix(t)
	docs := "/api/v2/tenants/acme/databases/main/collections/" + m.ids["acme/main"]
	gone, err := engine.Open(t.TempDir(), nil)
	if err == nil {
		err = gone.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		config                       audit.Config
		read, write, delete, command int
	}{
		{audit.Defaults(), 503, 503, 503, 503}, // who comes in could not be recorded
		{audit.Config{Changes: true, ReadsGoOn: true}, 200, 503, 503, 503},
		{audit.Config{Reads: true, Changes: true, ReadsGoOn: true}, 200, 503, 503, 503},
	} {
		m.config.Audit = audit.New(gone, tc.config)
		for name, got := range map[string][2]int{
			"read":    {tc.read, m.status("reader", "POST", docs+"/get", `{}`)},
			"write":   {tc.write, m.status("editor", "POST", docs+"/upsert", `{"ids":["b"],"embeddings":[[1]]}`)},
			"delete":  {tc.delete, m.status("editor", "POST", docs+"/delete", `{"ids":["a"]}`)},
			"command": {tc.command, m.status("admin", "POST", "/api/v2/chromad/access", `{"do":"add-user","user":"new"}`)},
			"denied": {503, // who asks could not be recorded; denied it is all the same
				m.status("reader", "POST", docs+"/delete", `{"ids":["a"]}`)},
			"unknown": {401, m.status("none", "POST", docs+"/get", `{}`)},
		} {
			if got[0] != got[1] {
				t.Errorf("%+v: %s: %d, want %d", tc.config, name, got[1], got[0])
			}
		}
		if s := m.config.Audit.Stats(); !s.Failing || s.Failures == 0 || s.Records > 0 {
			t.Errorf("%+v", s)
		}
	}
	m.config.Audit = audit.New(m.db, audit.Defaults())
	if answer := m.as(200, "reader", "POST", docs+"/get", `{}`); !strings.Contains(answer, `"a"`) {
		t.Errorf("it was deleted: %s", answer)
	}
	if answer := m.as(200, "admin", "GET", "/api/v2/chromad/access/users", ""); strings.Contains(answer, `"new"`) {
		t.Errorf("it was made: %s", answer)
	}
}

func (m *matrix) status(who, method, path, body string) int {
	status, _ := m.ask(who, method, path, body)
	return status
}

// The route pages through the log, and finds what is asked for.
func TestAuditRoute(t *testing.T) {
	m := newMatrix(t)
	m.config.Audit = audit.New(m.db, audit.Defaults())
	for i := range 5 {
		m.as(200, "admin", "POST", "/api/v2/tenants/acme/databases/main/collections", fmt.Sprintf(`{"name":"new%d"}`, i))
	}
	for query, want := range map[string]string{
		"":                                       `"next":6,"more":false`,
		"?limit=2":                               `"next":2,"more":true`,
		"?after=5":                               `"collection":"new4"`,
		"?after=6":                               `{"events":[],"next":6,"more":false}`,
		"?collection=new3":                       `"collection":"new3"`,
		"?action=db:*&principal=admin":           `"collection":"new0"`,
		"?outcome=denied":                        `{"events":[],"next":6,"more":false}`,
		"?since=2100-01-01T00:00:00Z":            `{"events":[],`,
		"?kind=admin&until=2100-01-01T00:00:00Z": `{"events":[],`,
	} {
		if answer := m.as(200, "admin", "GET", "/api/v2/chromad/audit"+query, ""); !strings.Contains(answer, want) {
			t.Errorf("%s: %s, want %s", query, answer, want)
		}
	}
	for _, query := range []string{"?limit=0", "?limit=1001", "?after=-1", "?what=1", "?kind=x", "?since=yesterday", "?limit=1&limit=2"} {
		if status := m.status("admin", "GET", "/api/v2/chromad/audit"+query, ""); status != 400 {
			t.Errorf("%s: %d", query, status)
		}
	}
}

// Every route that is not a way to look at something is no read to the audit log.
func TestAuditClasses(t *testing.T) {
	looks := []access.Action{access.Get, access.Query, access.Search, access.Public}
	for _, r := range routes() {
		class := classOf(r.action)
		if reads := r.method == "GET" || slices.Contains(looks, r.action); reads != (class <= audit.Read) && r.action != access.Functions && r.action != access.Public && r.pattern != underCollection+"/fork_count" {
			t.Errorf("%s %s: class %d", r.method, r.pattern, class)
		}
	}
}

// vanishing is a store from which a collection goes as soon as it was looked up.
type vanishing struct{ Store }

func (v vanishing) Collection(ctx context.Context, at Place, name string) (Collection, error) {
	c, err := v.Store.Collection(ctx, at, name)
	if err == nil {
		err = v.Delete(ctx, at, name)
	}
	return c, err
}

// What get_or_create has made leaves an event, and what it has found leaves
// none, also when a collection goes in between.
func TestAuditGetOrCreate(t *testing.T) {
	m := newMatrix(t)
	m.config.Audit = audit.New(m.db, audit.Defaults())
	m.store = vanishing{m.store}
	last := m.ids["acme/main"]
	for _, name := range []string{"docs", "docs", "fresh", "fresh"} {
		_, at := m.lines(0)
		answer := m.as(200, "admin", "POST", "/api/v2/tenants/acme/databases/main/collections", `{"name":"`+name+`","get_or_create":true}`)
		made := !strings.Contains(answer, last)
		got, _ := m.lines(at)
		if recorded := slices.Contains(got, "access db:create_collection allowed 200 admin@key acme/main/"+name+" 0"); recorded != made {
			t.Errorf("%s: made %v, recorded %v: %q", name, made, recorded, got)
		}
		_, id, _ := strings.Cut(answer, `{"id":"`)
		last = id[:36]
	}
}
