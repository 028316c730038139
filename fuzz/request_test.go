package fuzz

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server"
)

const (
	inDefault   = "/api/v2/tenants/default_tenant/databases/default_database"
	maxRequests = 8
)

// FuzzRequest sends a script of requests to a server over a new store:
// whatever comes, no answer is a failure of the server, every answer has the
// shape that the contract gives it, and an id that was taken is found again,
// also after the store was opened anew.
//
// Requests of a script are separated by lines of "~". The first line of one
// is method and target, the rest its body; a target that begins with C is
// below a collection of two-dimensional records.
func FuzzRequest(f *testing.F) {
	for _, seed := range requestSeeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, script string) {
		s := newSite(t)
		for i, request := range strings.Split(script, "\n~\n") {
			if i == maxRequests {
				break
			}
			line, body, _ := strings.Cut(request, "\n")
			method, target, _ := strings.Cut(line, " ")
			if rest, ok := strings.CutPrefix(target, "C"); ok {
				target = s.path + rest
			}
			s.request(method, target, body)
		}
		s.invariants()
		s.reopen()
		s.invariants()
	})
}

var requestSeeds = []string{
	"GET /api/v2/version",
	"POST /api/v2/tenants\n{\"name\":\"tenant\"}\n~\nGET /api/v2/tenants/tenant\n~\nPATCH /api/v2/tenants/tenant\n{\"resource_name\":\"res\"}",
	"POST /api/v2/tenants/tenant/databases\n{\"name\":\"base\"}\n~\nGET /api/v2/tenants/tenant/databases?limit=1&offset=0\n~\nDELETE /api/v2/tenants/tenant/databases/base",
	"POST " + inDefault + "/collections\n{\"name\":\"other\",\"get_or_create\":true,\"configuration\":{\"hnsw\":{\"space\":\"cosine\",\"max_neighbors\":4}}}\n~\nGET " + inDefault + "/collections",
	"C/add\n{}\n~\nPOST C/add\n{\"ids\":[\"x\",\"é\",\"x\\u0000\"],\"embeddings\":[[1,2],[3,-4e-2],[0,0]],\"documents\":[\"d\",null,\"\"],\"metadatas\":[{\"a\":1,\"b\":2.5,\"l\":[true]},null,{}],\"uris\":[null,null,\"u\"]}\n~\nPOST C/get\n{\"ids\":[\"é\"]}",
	"POST C/upsert\n{\"ids\":[\"b\",\"n\"],\"embeddings\":[\"AACAPwAAAEA=\",\"AACAPwAAAEA=\"],\"metadatas\":[{\"k\":null,\"new\":\"v\"},{\"k\":9}]}\n~\nPOST C/query\n{\"query_embeddings\":[[1,2],[0,0]],\"n_results\":3,\"include\":[\"distances\",\"documents\",\"embeddings\",\"metadatas\",\"uris\"]}",
	"POST C/update\n{\"ids\":[\"a\",\"gone\"],\"embeddings\":[null,[1,1]],\"documents\":[\"changed\",\"no\"]}\n~\nPOST C/get\n{\"where\":{\"k\":{\"$gte\":1}},\"where_document\":{\"$contains\":\"chan\"},\"include\":[\"documents\"]}",
	"POST C/delete\n{\"where\":{\"k\":{\"$in\":[1,2]}},\"limit\":1}\n~\nGET C/count\n~\nPOST C/delete\n{\"ids\":[\"a\"]}",
	"POST C/search\n{\"searches\":[{\"filter\":{\"k\":1},\"rank\":{\"$knn\":{\"query\":[1,2],\"limit\":3}},\"limit\":{\"limit\":5},\"select\":{\"keys\":[\"#score\",\"#document\"]}}]}",
	"PUT C\n{\"new_name\":\"renamed\",\"new_metadata\":{\"a\":[1,2]},\"new_configuration\":{\"hnsw\":{\"ef_search\":3}}}\n~\nGET " + inDefault + "/collections/renamed\n~\nDELETE " + inDefault + "/collections/renamed\n~\nGET C/count",
	"POST C/fork\n{\"new_name\":\"copy\"}\n~\nGET C/fork_count\n~\nGET C/indexing_status\n~\nPOST /api/v2/reset",
	"HEAD C/count\n~\nOPTIONS C\n~\nDELETE C/get\n~\nGET /api/v1/x\n~\nGET /api/v2/collections/default_tenant:default_database:docs",
	"POST C/get\n{\"limit\":2,\"offset\":1,\"include\":[\"embeddings\",\"metadatas\",\"uris\",\"documents\"]}\n~\nPOST C/get\n{\"ids\":[]}\n~\nPOST C/get\n{\"where\":{\"$or\":[{\"k\":1},{\"s\":{\"$nin\":[\"x\"]}}]}}",
}

// site is a server over a store, with a collection that it was asked to make.
type site struct {
	*testing.T
	dir     string
	db      *engine.DB
	server  *server.Server
	path    string // of the collection
	trace   []string
	trouble strings.Builder // what was logged as an error
}

func newSite(t *testing.T) *site {
	s := &site{T: t, dir: scratch(t)}
	s.open()
	shut(t, func() *engine.DB { return s.db })
	made := s.request("POST", inDefault+"/collections", `{"name":"docs"}`).(map[string]any)
	s.path = inDefault + "/collections/" + made["id"].(string)
	s.request("POST", s.path+"/add", `{"ids":["a","b","c"],"embeddings":[[1,2],[-1,0.5],[3,4]],`+
		`"metadatas":[{"k":1,"s":"x"},{"k":2.5},null],"documents":["one","two",null]}`)
	return s
}

func (s *site) open() {
	var err error
	s.db, err = engine.Open(s.dir, &engine.Options{MemtableRows: 4, GraphMin: 3, Workers: 1})
	must(s, err)
	log := slog.New(slog.NewTextHandler(&s.trouble, &slog.HandlerOptions{Level: slog.LevelError}))
	s.server = server.New(server.Config{Store: server.EngineStore(s.db), Log: log, AllowReset: true, Limits: server.Limits{BodyBytes: 1 << 16}})
}

func (s *site) reopen() {
	s.trace = append(s.trace, "reopen")
	must(s, s.db.Close())
	s.open()
}

func (s *site) fail(format string, args ...any) {
	s.Helper()
	s.Fatalf("%s\n%s\n%s", fmt.Sprintf(format, args...), strings.Join(s.trace, "\n"), s.trouble.String())
}

// request returns the decoded body of the answer, or nil when it was refused
// or cannot be sent.
func (s *site) request(method, target, body string) any {
	s.Helper()
	u, err := url.ParseRequestURI(target)
	if err != nil || method == "" || strings.ContainsFunc(method, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil // net/http lets none of these through
	}
	r := httptest.NewRequest("GET", "/", strings.NewReader(body))
	r.Method, r.URL, r.RequestURI = method, u, target
	w := httptest.NewRecorder()
	s.server.ServeHTTP(w, r)
	s.trace = append(s.trace, fmt.Sprintf("%s %q %q: %d %q", method, target, body, w.Code, w.Body))
	fixed := strings.HasSuffix(u.Path, "/indexing_status") // Chroma's single node has no other answer
	if w.Code >= 500 && w.Code != http.StatusNotImplemented && !fixed {
		s.fail("status %d", w.Code)
	}
	if s.trouble.Len() > 0 && !fixed {
		s.fail("logged as an error")
	}
	s.trouble.Reset()
	out := s.decoded(method, w)
	if w.Code >= 300 || out == nil {
		return nil
	}
	return s.shaped(method, u.EscapedPath(), body, out)
}

// decoded holds an answer to JSON, and errors to their one shape.
func (s *site) decoded(method string, w *httptest.ResponseRecorder) (out any) {
	s.Helper()
	if method == "HEAD" {
		return nil
	}
	if w.Body.Len() == 0 {
		if w.Code != http.StatusNotFound && w.Code != http.StatusMethodNotAllowed {
			s.fail("status %d without a body", w.Code)
		}
		return nil
	}
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		s.fail("%v", err)
	}
	if t := w.Header().Get("Content-Type"); t != "application/json" {
		s.fail("content type %q", t)
	}
	if w.Code >= 400 {
		m, _ := out.(map[string]any)
		kind, _ := m["error"].(string)
		if _, ok := m["message"].(string); !ok || kind == "" || len(m) != 2 {
			s.fail("no error of the contract's shape")
		}
	}
	return out
}

// shaped holds the answers about records to their shapes.
func (s *site) shaped(method, path, body string, out any) any {
	s.Helper()
	rest, ok := strings.CutPrefix(path, s.path+"/")
	if s.path == "" || !ok {
		return out
	}
	switch method + " " + rest {
	case "GET count":
		if n, ok := out.(float64); !ok || n < 0 || n != float64(int(n)) {
			s.fail("count is %v", out)
		}
	case "POST add", "POST upsert":
		s.written(body)
	case "POST get":
		s.columns(out, func(v any) int { return len(v.([]any)) })
	case "POST query":
		var asked struct {
			Queries []any `json:"query_embeddings"`
		}
		if err := json.Unmarshal([]byte(body), &asked); err != nil {
			s.fail("a body that is not JSON was taken")
		}
		if n := s.columns(out, func(v any) int { return len(v.([]any)) }); n != len(asked.Queries) {
			s.fail("%d answers to %d queries", n, len(asked.Queries))
		}
		for i := range asked.Queries {
			s.columns(out, func(v any) int { return len(v.([]any)[i].([]any)) })
		}
	case "POST delete":
		if _, ok := out.(map[string]any)["deleted"].(float64); !ok {
			s.fail("no number of deleted records")
		}
	}
	return out
}

// columns holds all lists of a read to one length.
func (s *site) columns(out any, length func(any) int) int {
	s.Helper()
	m, ok := out.(map[string]any)
	if !ok || m["ids"] == nil {
		s.fail("no ids")
	}
	n := length(m["ids"])
	for _, name := range slices.Sorted(maps.Keys(m)) {
		switch {
		case !slices.Contains([]string{"ids", "include", "embeddings", "documents", "metadatas", "uris", "distances"}, name):
			s.fail("field %q", name)
		case name != "include" && m[name] != nil && length(m[name]) != n:
			s.fail("%d %s of %d ids", length(m[name]), name, n)
		}
	}
	return n
}

// written looks every id up that a write has taken.
func (s *site) written(body string) {
	s.Helper()
	var sent struct{ IDs []string }
	if err := json.Unmarshal([]byte(body), &sent); err != nil {
		s.fail("a body that is not JSON was taken: %v", err)
	}
	if len(sent.IDs) == 0 {
		return
	}
	asked, err := json.Marshal(map[string]any{"ids": sent.IDs, "include": []string{}})
	must(s, err)
	out := s.request("POST", s.path+"/get", string(asked))
	if out == nil {
		s.fail("the ids of a write cannot be asked for")
	}
	found := idsOf(out)
	for _, id := range sent.IDs {
		if !slices.Contains(found, id) {
			s.fail("%q was written and is not found", id)
		}
	}
}

func idsOf(out any) (ids []string) {
	for _, id := range out.(map[string]any)["ids"].([]any) {
		ids = append(ids, id.(string))
	}
	return ids
}

// invariants holds at any time: count, get through HTTP, and get through the
// engine agree, no id is there twice, and each is found by itself.
func (s *site) invariants() {
	s.Helper()
	must(s, s.db.Err())
	out := s.request("POST", s.path+"/get", `{"include":["embeddings","documents","metadatas","uris"]}`)
	if out == nil {
		return // the script deleted the collection
	}
	ids := idsOf(out)
	if n := s.request("GET", s.path+"/count", ""); n != float64(len(ids)) {
		s.fail("count %v of %d records", n, len(ids))
	}
	id, err := engine.ParseID(s.path[strings.LastIndexByte(s.path, '/')+1:])
	must(s, err)
	c, err := s.db.Default().CollectionByID(ctx, id)
	must(s, err)
	inside, err := getIDs(c, engine.Selection{})
	must(s, err)
	if d := differ(ids, inside); d != "" {
		s.fail("through HTTP and through the engine: %s", d)
	}
	if len(slices.Compact(slices.Sorted(slices.Values(ids)))) != len(ids) {
		s.fail("an id is there twice: %q", ids)
	}
	for _, id := range ids {
		one, err := getIDs(c, engine.Selection{IDs: []string{id}})
		must(s, err)
		if d := differ(one, []string{id}); d != "" {
			s.fail("by id: %s", d)
		}
	}
}
