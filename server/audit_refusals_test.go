package server

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server/audit"
)

// busy is a store whose collections take no upserts for now.
type busy struct{ Store }

type busyCollection struct{ Collection }

func (s busy) CollectionByID(ctx context.Context, at Place, id engine.ID) (Collection, error) {
	c, err := s.Store.CollectionByID(ctx, at, id)
	return busyCollection{c}, err
}

func (busyCollection) Upsert(context.Context, ...engine.Record) error { return engine.ErrBusy }

// Whatever is refused leaves its event under its own reason, also where by
// default nothing is recorded of what is done.
func TestAuditRefusals(t *testing.T) {
	m := newMatrix(t)
	in := "/api/v2/tenants/acme/databases/main"
	docs := in + "/collections/" + m.ids["acme/main"]
	m.as(200, "admin", "PATCH", "/api/v2/tenants/acme", `{"resource_name":"acme"}`)
	m.config.Audit = audit.New(m.db, audit.Defaults())
	m.config.Quotas = Quotas{Quota: Quota{CollectionRecords: 1, DatabaseCollections: 1, Dimensions: 3}}
	_, at := m.lines(0)
	refused := func(status int, who, method, path, body string, want ...string) {
		t.Helper()
		if got, answer := m.ask(who, method, path, body); got != status {
			t.Errorf("%s %s %s: %d %s, want %d", who, method, path, got, answer, status)
		}
		var got []string
		got, at = m.lines(at)
		got = slices.DeleteFunc(got, func(l string) bool { return strings.HasPrefix(l, "authentication authenticate allowed") })
		if !slices.Equal(got, want) {
			t.Errorf("%s %s %s:\n got %q\nwant %q", who, method, path, got, want)
		}
	}
	counted := func(n string) {
		t.Helper()
		if _, metrics := m.ask("admin", "GET", "/metrics", ""); !strings.Contains(metrics, `chromad_requests_refused_total{reason="quota"} `+n+"\n") {
			t.Errorf("the metrics do not count %s refusals", n)
		}
	}
	quota := func(action, where string) string {
		return "decision " + action + " denied 422 editor@key " + where + " 0 quota"
	}
	refused(422, "editor", "POST", docs+"/add", `{"ids":["x"],"embeddings":[[1]]}`, quota("collection:add", "acme/main/docs"))
	counted("1")
	refused(422, "editor", "POST", docs+"/update", `{"ids":["a"],"embeddings":[[1,2,3,4]]}`, quota("collection:update", "acme/main/docs"))
	refused(422, "editor", "POST", in+"/collections", `{"name":"second"}`, quota("db:create_collection", "acme/main/second"))
	counted("3")
	// What replaces something, or is there already, is not refused.
	refused(200, "editor", "POST", docs+"/upsert", `{"ids":["a"],"embeddings":[[1]]}`)
	refused(200, "editor", "POST", in+"/collections", `{"name":"docs","get_or_create":true}`)
	counted("3")

	refused(200, "admin", "PUT", ours(docs)+"/hold", `{"reason":"case 7"}`, "admin retention:hold allowed 200 admin@key acme/main/docs 0")
	held := func(action, where string) string {
		return "decision " + action + " denied 409 admin@key " + where + " 0 hold"
	}
	refused(409, "admin", "POST", docs+"/delete", `{"ids":["a"]}`, held("collection:delete", "acme/main/docs"))
	refused(409, "admin", "POST", docs+"/upsert", `{"ids":["a"],"embeddings":[[2]]}`, held("collection:upsert", "acme/main/docs"))
	refused(409, "admin", "POST", docs+"/update", `{"ids":["a"],"embeddings":[[2]]}`, held("collection:update", "acme/main/docs"))
	refused(409, "admin", "DELETE", in+"/collections/docs", "", held("collection:delete_collection", "acme/main/docs"))
	refused(409, "admin", "DELETE", in, "", held("db:delete_database", "acme/main"))
	refused(409, "admin", "PUT", ours(docs), `{}`, held("retention:write", "acme/main/docs"))
	refused(409, "admin", "PUT", ours(docs)+"/hold", `{"reason":"case 8"}`, "admin retention:hold failed 409 admin@key acme/main/docs 0 exists")

	// This one is not waited for, and is there with the next.
	m.as(404, "reader", "GET", "/api/v2/collections/acme:other:docs", "")
	m.as(200, "admin", "GET", "/api/v2/collections/acme:other:docs", "")
	m.store = busy{m.store}
	refused(429, "editor", "POST", docs+"/upsert", `{"ids":["a"],"embeddings":[[2]]}`,
		"decision collection:get_collection denied 404 reader@key acme/other/docs 0 hidden", "decision collection:upsert denied 429 editor@key acme/main/docs 0 busy")
	counted("3")
}
