package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server/privacy"
)

const inDefault = "/api/v2/tenants/default_tenant/databases/default_database"

// rig is a server over a store of its own.
type rig struct {
	*Server
	t   testing.TB
	db  *engine.DB
	dir string
	log *bytes.Buffer
}

func newRig(t testing.TB, config Config, options *engine.Options) *rig {
	t.Helper()
	dir := t.TempDir()
	db, err := engine.Open(dir, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	log := &bytes.Buffer{}
	config.Store = EngineStore(db)
	config.Log = slog.New(slog.NewJSONHandler(log, nil))
	if config.Privacy, err = privacy.Open(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	return &rig{Server: New(config), t: t, db: db, dir: dir, log: log}
}

// do sends a request past the network and returns status and body.
func (r *rig) do(method, path, body string, header ...string) (int, string) {
	r.t.Helper()
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w.Code, w.Body.String()
}

// collection makes a collection and returns the path of its records.
func (r *rig) collection(body string) string {
	r.t.Helper()
	status, answer := r.do("POST", inDefault+"/collections", body)
	var c struct{ ID string }
	if err := json.Unmarshal([]byte(answer), &c); status != 200 || err != nil {
		r.t.Fatalf("create %s: %d %s", body, status, answer)
	}
	return inDefault + "/collections/" + c.ID
}

// want sends a request and compares the status, and the body when it is not "".
func (r *rig) want(status int, want, method, path, body string) {
	r.t.Helper()
	got, answer := r.do(method, path, body)
	if got != status || want != "" && !strings.Contains(answer, want) {
		shown := body
		if len(shown) > 200 {
			shown = shown[:200] + "…"
		}
		r.t.Errorf("%s %s %q:\n got %d %.300s\nwant %d %s", method, path, shown, got, answer, status, want)
	}
}

func TestRoundTrip(t *testing.T) {
	r := newRig(t, Config{}, nil)
	c := r.collection(`{"name":"docs","metadata":{"k":1}}`)
	r.want(201, "{}", "POST", c+"/add", `{"ids":["a","b"],"embeddings":[[1,2],[3.5,-4e-1]],"documents":["x\u00e9",null],"metadatas":[{"f":2.0,"l":["p"]},null]}`)
	r.want(200, `{"ids":["a","b"],"embeddings":[[1.0,2.0],[3.5,-0.4]],"documents":["xé",null],"uris":[null,null],"metadatas":[{"f":2.0,"l":["p"]},null],"include":["embeddings","documents","uris","metadatas"]}`,
		"POST", c+"/get", `{"include":["embeddings","documents","uris","metadatas"]}`)
	r.want(200, `{"ids":[["a"],["a"]],"embeddings":null,"documents":null,"uris":null,"metadatas":null,"distances":[[0.0],[113.0]],"include":["distances"]}`,
		"POST", c+"/query", `{"query_embeddings":[[1,2],[9,9]],"n_results":1,"ids":["a"],"where":{"f":2},"include":["distances"]}`)
}

// TestRouteTable sends every row of the table a request that its handler must
// get, and every path a method that it has not.
func TestRouteTable(t *testing.T) {
	r := newRig(t, Config{}, nil)
	id := strings.TrimPrefix(r.collection(`{"name":"docs"}`), inDefault+"/collections/")
	fill := strings.NewReplacer("{tenant}", "default_tenant", "{database}", "default_database", "{collection}", id,
		"{crn}", "a:b:c", "{function}", "f", "{rest...}", "x/y")
	seen := map[string]bool{}
	for _, row := range routes() {
		key := row.method + " " + row.pattern
		if seen[key] || row.action == "" || !strings.Contains(string(row.action), ":") || row.handle == nil {
			t.Errorf("%s: given twice or incomplete", key)
		}
		seen[key] = true
		path := fill.Replace(row.pattern)
		p, _ := r.router.find(path)
		if p == nil || p.text != row.pattern {
			t.Errorf("%s finds another pattern", key)
			continue
		}
		if status, _ := r.do(row.method, path, ""); status == 405 {
			t.Errorf("%s: 405", key)
		}
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequest("TRACE", path, nil))
		if w.Code != 405 || w.Body.Len() > 0 || !strings.Contains(w.Header().Get("Allow"), row.method) {
			t.Errorf("TRACE %s: %d %q, allow %q", path, w.Code, w.Body, w.Header().Get("Allow"))
		}
	}
}

func TestPaths(t *testing.T) {
	r := newRig(t, Config{}, nil)
	for _, c := range []struct {
		path   string
		status int
		body   string
	}{
		{"/api/v2/heartbeat", 200, "nanosecond"},
		{"/api/v2/heartbeat/", 404, ""},
		{"//api/v2/heartbeat", 404, ""},
		{"/api//v2/heartbeat", 404, ""},
		{"/api/v2/./heartbeat", 404, ""},
		{"/api/v2/x/../heartbeat", 404, ""},
		{"/api/v2/%68eartbeat", 404, ""},
		{"/API/v2/heartbeat", 404, ""},
		{"/api/v2%2Fheartbeat", 404, ""},
		{"/api/v1", 404, ""},
		{"/api/v1/", 404, ""},
		{"/api/v1/x", 410, "deprecated"},
		{"/", 404, ""},
		{"/api/v2/tenants/default_tenant/databases//collections", 404, ""},
		{"/api/v2/tenants/" + strings.Repeat("a/", 2000), 404, ""},
		{"/api/v2/tenants/%FF", 400, "Invalid URL: Invalid UTF-8 in `tenant_name`"},
		{"/api/v2/tenants/%C0%AF", 400, "Invalid URL"},
		{"/api/v2/tenants/..", 404, "Tenant [..] not found"},
		{"/api/v2/tenants/%2e%2e", 404, "Tenant [..] not found"},
		{"/api/v2/tenants/%252e", 404, "Tenant [%2e] not found"},
		{"/api/v2/tenants/a%2Fb", 404, "Tenant [a/b] not found"},
		{"/api/v2/tenants/a%2F{b", 404, "Tenant [a/{b] not found"},
		{inDefault + "/collections/{3b0d7a58-1111-4111-8111-000000000000}/count", 404, "Collection [3b0d7a58-1111-4111-8111-000000000000] does not exist."},
		{inDefault + "/collections/urn:uuid:3b0d7a58-1111-4111-8111-000000000000/count", 404, "[3b0d7a58-"},
		{inDefault + "/collections/3B0D7A58111141118111000000000000/count", 404, "[3b0d7a58-"},
		{inDefault + "/collections/3b0d7a58-1111-4111-8111-00000000000/count", 400, "not a valid UUIDv4"},
		{"/api/v2/tenants/a%5Cb", 404, `Tenant [a\\b] not found`},
		{"/api/v2/tenants/a%00b", 404, `Tenant [a\u0000b] not found`},
		{"/api/v2/tenants/a+b", 404, "Tenant [a+b] not found"},
		{"/api/v2/tenants/..%2F..%2Fetc%2Fpasswd", 404, "Tenant [../../etc/passwd] not found"},
		{"/api/v2/tenants/default_tenant/databases/..", 400, "at least 3"},
		{inDefault + "/collections/by-id/count", 400, "expected UUID"},
		{inDefault + "/collections?limit=1&limit=2", 400, "duplicate field"},
		{inDefault + "/collections?limit=", 400, "Failed to deserialize query string"},
		{inDefault + "/collections?limit=4294967296", 400, "Failed to deserialize query string"},
		{inDefault + "/collections?limit=%zz", 400, "Failed to deserialize query string"},
		{inDefault + "/collections?limit=1;offset=2", 400, "Failed to deserialize query string"},
		{inDefault + "/collections?", 200, "[]"},
		{inDefault + "/collections?other=%FF", 400, "Failed to deserialize query string"},
	} {
		req := httptest.NewRequest("GET", "/", nil)
		u, err := url.ParseRequestURI("http://host" + c.path)
		if err != nil {
			t.Fatal(err)
		}
		req.URL = u
		w := httptest.NewRecorder()
		r.ServeHTTP(w, req)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.body) || c.body == "" && w.Body.Len() > 0 {
			t.Errorf("GET %.100s: %d %s, want %d %s", c.path, w.Code, w.Body, c.status, c.body)
		}
	}
}

// Names of every kind go in and come out, and none of them becomes a path.
func TestNamesAreNoPaths(t *testing.T) {
	outside := t.TempDir()
	dir := filepath.Join(outside, "store")
	db, err := engine.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Server: New(Config{Store: EngineStore(db)}), t: t}
	for _, name := range []string{"..", ".", "...", "a/../b", "../../x", `..\..\x`, "/etc/passwd", `C:\x`, "con", "NUL", "a\x00b", "abc.", "abc..d",
		"\u202eabc", "e\u0301tude", "\u00e9tude", strings.Repeat("n", 4096), "*", "%2e%2e", "a\nb", "192.168.0.1", "topo+..", "..+abc"} {
		quoted := string(appendText(nil, name))
		fine := name == "con" || name == "NUL"
		for _, place := range []string{inDefault + "/collections", "/api/v2/tenants/default_tenant/databases"} {
			status, answer := r.do("POST", place, `{"name":`+quoted+`}`)
			if (status == 200) != fine || !fine && status != 400 {
				t.Errorf("POST %s %q: %d %s", place, name, status, answer)
			}
		}
		status, answer := r.do("POST", "/api/v2/tenants", `{"name":`+quoted+`}`)
		if want := len([]rune(name)) >= 3; (status == 200) != want {
			t.Errorf("tenant %q: %d %s", name, status, answer)
		}
	}
	r.want(400, "at most 4096", "POST", "/api/v2/tenants", `{"name":"`+strings.Repeat("n", 5000)+`"}`)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(outside)
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the store: %v %v", entries, err)
	}
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.ContainsAny(d.Name(), `%*\`+"\n") || slices.Contains([]string{"con", "NUL"}, d.Name()) {
			t.Errorf("a name became a file: %q", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestPanicIsAnAnswer(t *testing.T) {
	r := newRig(t, Config{}, nil)
	r.router = newRouter([]route{{"GET", "/panic", "test:panic", false, 200, func(*Server, *call) error {
		var nobody *call
		return nobody.done()
	}}, {"GET", "/version", "system:version", false, 200, (*Server).version}})
	status, answer := r.do("GET", "/panic", "", "X-Request-Id", "req-7")
	if status != 500 || answer != `{"error":"InternalError","message":"internal error, request req-7"}` {
		t.Errorf("%d %s", status, answer)
	}
	if log := r.log.String(); !strings.Contains(log, "nil pointer dereference") || !strings.Contains(log, `"request_id":"req-7"`) {
		t.Errorf("log: %s", log)
	}
	r.want(200, `"1.0.0"`, "GET", "/version", "")
}

// A request that is refused is answered with what is wrong in it, and the log
// does not repeat it.
func TestAccessLogRefused(t *testing.T) {
	r := newRig(t, Config{}, nil)
	c := r.collection(`{"name":"secret-docs"}`)
	for _, q := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/api/v2/tenants/default_tenant/databases/default_database/collections", `{"name":"secret-docs"}`, 409},
		{"GET", "/api/v2/tenants/default_tenant/databases/default_database/collections/secret", "", 404},
		{"GET", "/api/v2/tenants/secret", "", 404},
		{"POST", "/api/v2/tenants/default_tenant/databases/secret/collections", `{"name":"other-docs"}`, 400},
		{"POST", c + "/get", `{"where_document":{"$regex":"(secret"}}`, 400},
		{"POST", c + "/get", `{"where":{"secret":{"$secret":"secret"}}}`, 400},
		{"POST", c + "/add", `{"ids":["secret"],"embeddings":[[1]],"documents":[7]}`, 422},
		{"POST", c + "/add", `{"ids":["a"],"embeddings":[[1]],"metadatas":[{"$secret":1}]}`, 400},
		{"POST", c + "/add", `{"ids":["a"],"embeddings":[[1]],"metadatas":[{"#secret":1}]}`, 400},
	} {
		r.log.Reset()
		status, answer := r.do(q.method, q.path, q.body)
		if status != q.status {
			t.Errorf("%s %s: %d %s", q.path, q.body, status, answer)
		}
		if log := r.log.String(); strings.Contains(log, "secret") || !strings.Contains(log, "request_id") {
			t.Errorf("%s %s: %s", q.path, q.body, log)
		}
	}
}

// The log says what was done and never what was said.
func TestAccessLog(t *testing.T) {
	r := newRig(t, Config{}, nil)
	c := r.collection(`{"name":"docs"}`)
	r.log.Reset()
	status, _ := r.do("POST", c+"/add", `{"ids":["secret\nid"],"embeddings":[[1]],"documents":["secret text"]}`, "X-Request-Id", `a"b`)
	line := map[string]any{}
	if err := json.Unmarshal(r.log.Bytes(), &line); status != 201 || err != nil {
		t.Fatalf("%d %v: %s", status, err, r.log)
	}
	for name, want := range map[string]any{"method": "POST", "route": underCollection + "/add", "action": "collection:add", "status": 201.0, "bytes_out": 2.0, "request_id": `a"b`} {
		if line[name] != want {
			t.Errorf("%s: %v, want %v", name, line[name], want)
		}
	}
	if strings.Contains(r.log.String(), "secret") {
		t.Errorf("log: %s", r.log)
	}
	r.log.Reset()
	r.do("GET", "/api/v2/x\"y", "", "X-Request-Id", "two\nlines")
	if strings.Contains(r.log.String(), "two") || strings.Contains(r.log.String(), "x\\\"y") {
		t.Errorf("log repeats what was sent: %s", r.log)
	}
}

func TestRequestIDs(t *testing.T) {
	r := newRig(t, Config{}, nil)
	id := func(sent string) string {
		req := httptest.NewRequest("GET", "/api/v2/tenants/nobody", nil)
		if sent != "" {
			req.Header.Set("X-Request-Id", sent)
		}
		w := httptest.NewRecorder()
		r.ServeHTTP(w, req)
		got := w.Header().Get("X-Request-Id")
		if w.Header().Get("Chroma-Trace-Id") != got {
			t.Errorf("an error carries %q and %q", got, w.Header().Get("Chroma-Trace-Id"))
		}
		return got
	}
	if got := id("my-id"); got != "my-id" {
		t.Errorf("id %q was not echoed", got)
	}
	for _, bad := range []string{"", "two words", "é", strings.Repeat("x", 129)} {
		if got := id(bad); got == bad || got == "" || got == id(bad) {
			t.Errorf("for %q: %q", bad, got)
		}
	}
}

func TestReset(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		r := newRig(t, Config{AllowReset: allowed}, nil)
		r.collection(`{"name":"docs"}`)
		want, left := 403, "1"
		if allowed {
			want, left = 200, "0"
		}
		r.want(want, "", "POST", "/api/v2/reset", "")
		r.want(200, left, "GET", inDefault+"/collections_count", "")
		r.want(200, `"00000000-0000-0000-0000-000000000000"`, "GET", inDefault, "")
	}
}

func TestCORS(t *testing.T) {
	for _, c := range []struct {
		allowed []string
		origin  string
		want    string
		options int
	}{{nil, "http://a", "", 405}, {[]string{"*"}, "http://a", "*", 200}, {[]string{"http://a"}, "http://a", "http://a", 200}, {[]string{"http://a"}, "http://b", "", 405}} {
		r := newRig(t, Config{CORSOrigins: c.allowed}, nil)
		for _, method := range []string{"GET", "OPTIONS"} {
			req := httptest.NewRequest(method, "/api/v2/version", nil)
			req.Header.Set("Origin", c.origin)
			w := httptest.NewRecorder()
			r.ServeHTTP(w, req)
			if got := w.Header().Get("Access-Control-Allow-Origin"); got != c.want || method == "OPTIONS" && w.Code != c.options {
				t.Errorf("%v %s from %s: %q %d", c.allowed, method, c.origin, got, w.Code)
			}
		}
	}
}

// Browsers send requests of foreign pages along: none of them may change anything.
func TestForeignPages(t *testing.T) {
	r := newRig(t, Config{CORSOrigins: []string{"http://friend"}}, nil)
	for i, c := range []struct {
		header []string
		status int
	}{
		{nil, 200}, // not a browser
		{[]string{"Sec-Fetch-Site", "same-origin"}, 200},
		{[]string{"Sec-Fetch-Site", "none"}, 200},
		{[]string{"Sec-Fetch-Site", "cross-site", "Origin", "http://friend"}, 200},
		{[]string{"Origin", "http://example.com"}, 200}, // the host of these requests
		{[]string{"Sec-Fetch-Site", "cross-site", "Origin", "http://foe"}, 403},
		{[]string{"Sec-Fetch-Site", "same-site", "Origin", "http://foe"}, 403},
		{[]string{"Origin", "http://foe"}, 403},
		{[]string{"Origin", "null"}, 403},
	} {
		if status, answer := r.do("POST", "/api/v2/tenants", fmt.Sprintf(`{"name":"tenant-%d"}`, i), c.header...); status != c.status {
			t.Errorf("%q: %d %s, want %d", c.header, status, answer, c.status)
		}
		if status, _ := r.do("GET", "/api/v2/version", "", c.header...); status != 200 {
			t.Errorf("GET %q: %d", c.header, status)
		}
	}
}

// Requests of every kind at once, over a memtable that flushes all the time:
// for the race detector, and for answers that make no sense.
func TestConcurrentRequests(t *testing.T) {
	r := newRig(t, Config{}, &engine.Options{MemtableRows: 20, GraphMin: 10})
	r.log = nil
	r.Server.log = slog.New(slog.DiscardHandler)
	c := r.collection(`{"name":"docs"}`)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 25 {
				id := fmt.Sprintf("w%d-%d", w, i)
				r.want(201, "{}", "POST", c+"/add", `{"ids":["`+id+`"],"embeddings":[[`+fmt.Sprint(w)+`,`+fmt.Sprint(i)+`]],"metadatas":[{"w":`+fmt.Sprint(w)+`}]}`)
				r.want(200, `"ids":["`+id+`"]`, "POST", c+"/get", `{"ids":["`+id+`"],"where":{"w":`+fmt.Sprint(w)+`}}`)
				r.want(200, `"ids":[["`+id+`"]]`, "POST", c+"/query", `{"query_embeddings":[[`+fmt.Sprint(w)+`,`+fmt.Sprint(i)+`]],"n_results":1}`)
				if i%5 == 0 {
					r.want(200, "", "PUT", c, fmt.Sprintf(`{"new_metadata":{"w":%d},"new_configuration":{"hnsw":{"ef_search":%d}}}`, w, 10+i))
					r.want(200, `"name":"docs"`, "GET", inDefault+"/collections", "")
				}
				if i%2 == 1 {
					r.want(200, `{"deleted":1}`, "POST", c+"/delete", `{"ids":["`+id+`"]}`)
				}
			}
		})
	}
	wg.Wait()
	r.want(200, "52", "GET", c+"/count", "")
}

// TestConformance replays recorded scenarios, over small memtables so that all
// of them cross flushes and merges, and again over what the first run left.
func TestConformance(t *testing.T) {
	dir := os.Getenv("CHROMA_CONFORMANCE")
	if dir == "" {
		t.Skip("CHROMA_CONFORMANCE does not name a directory with replay.py")
	}
	store := t.TempDir()
	for _, rows := range []int{3, 3, 0} {
		db, err := engine.Open(store, &engine.Options{MemtableRows: rows})
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- New(Config{Store: EngineStore(db), AllowReset: true}).Serve(ctx, l) }()
		out, err := exec.CommandContext(ctx, "python3", filepath.Join(dir, "replay.py"), "--base-url", fmt.Sprint("http://", l.Addr()), "--keep", "--destructive").CombinedOutput()
		if err != nil {
			t.Errorf("memtables of %d rows: %v\n%s", rows, err, out)
		}
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}
