package server

import (
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/chromad/chromad/engine"
)

// FuzzRequests sends whole requests to a server over a real store: whatever
// comes, the answer is JSON that says no more than it must, and never a
// failure of the server.
func FuzzRequests(f *testing.F) {
	r := newRig(f, Config{Limits: Limits{BodyBytes: 1 << 16}}, &engine.Options{MemtableRows: 50, GraphMin: 20})
	// Every fuzzing process has a collection of its own; inputs name it "C".
	const c = "C"
	path := r.collection(`{"name":"docs"}`)
	for _, seed := range []struct{ method, path, body string }{
		{"GET", "/api/v2/version", ""},
		{"POST", "/api/v2/tenants", `{"name":"tenant"}`},
		{"GET", "/api/v2/tenants/%C3%A9%2F", ""},
		{"POST", inDefault + "/collections", `{"name":"abc","get_or_create":true,"metadata":{"hnsw:M":4},"configuration":{"hnsw":{"space":"ip"},"embedding_function":{"type":"known","name":"n","config":{}}}}`},
		{"POST", inDefault + "/collections", `{"name":"def","schema":{"defaults":{"string":{"fts_index":{"enabled":false,"config":{}}}},"keys":{"k":{"int":{"int_inverted_index":{"enabled":false,"config":{}}}}}}}`},
		{"PUT", c, `{"new_metadata":{"a":1,"b":null},"new_configuration":{"hnsw":{"ef_search":3,"resize_factor":2}}}`},
		{"POST", c + "/add", `{"ids":["a","b"],"embeddings":[[1,-2.5e-3],[3,4]],"documents":["x",null],"metadatas":[{"k":1,"l":[1,2.5]},null]}`},
		{"POST", c + "/upsert", `{"ids":["a"],"embeddings":["` + packed(1, 2) + `"],"metadatas":[{"k":null}]}`},
		{"POST", c + "/update", `{"ids":["a"],"embeddings":[null],"uris":["u\ud83d\ude00"]}`},
		{"POST", c + "/get", `{"ids":["a"],"where":{"$and":[{"k":{"$gte":1}},{"#document":{"$regex":"x+"}}]},"limit":3,"offset":1,"include":["uris","embeddings"]}`},
		{"POST", c + "/query", `{"query_embeddings":[[1,2]],"n_results":5,"where_document":{"$contains":"x"}}`},
		{"POST", c + "/delete", `{"where":{"k":{"$in":[1,2]}},"limit":1}`},
		{"POST", c + "/search", `{"searches":[{"filter":{"k":1},"rank":{"$sum":[{"$knn":{"query":[1,2],"limit":3}},{"$val":2}]},"group_by":{"keys":["k"],"aggregate":{"$min_k":{"keys":["#score"],"k":1}}},"limit":{"limit":5},"select":{"keys":["#score"]}}]}`},
		{"POST", c + "/fork", `{"new_name":"copy"}`},
		{"GET", c + "/count?read_level=index_only", ""},
	} {
		f.Add(seed.method, seed.path, seed.body)
	}
	f.Fuzz(func(t *testing.T, method, target, body string) {
		if rest, ok := strings.CutPrefix(target, c); ok {
			target = path + rest
		}
		u, err := url.ParseRequestURI(target)
		if err != nil || strings.ContainsAny(method, " \r\n\t") || method == "" || strings.HasSuffix(target, "/reset") {
			t.Skip()
		}
		req := httptest.NewRequest("GET", "/", strings.NewReader(body))
		req.Method, req.URL = method, u
		w := httptest.NewRecorder()
		r.ServeHTTP(w, req)
		if w.Code >= 500 && w.Code != 501 && !strings.HasSuffix(u.Path, "/indexing_status") {
			t.Fatalf("%s %q %q: %d %s\n%s", method, target, body, w.Code, w.Body, r.log)
		}
		r.log.Reset()
		if w.Body.Len() > 0 && !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%s %q %q: %q is not JSON", method, target, body, w.Body)
		}
		if w.Body.Len() == 0 && w.Code != 404 && w.Code != 405 && method != "HEAD" {
			t.Fatalf("%s %q %q: %d without a body", method, target, body, w.Code)
		}
	})
}
