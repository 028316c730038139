package server

import (
	"fmt"
	"strings"
	"testing"
)

// An answer is counted while it grows: what finds no room is refused before it
// is whole, one that never would is told how to ask, and nothing is left counted.
func TestAnswersBounded(t *testing.T) {
	r := newRig(t, Config{Limits: Limits{BodyBytes: 1 << 20}, Admission: Admission{Memory: 4 << 20}}, nil)
	c := r.collection(`{"name":"docs"}`)
	for i := range 8 {
		var ids, vectors, documents []string
		for j := range 25 {
			ids, vectors = append(ids, fmt.Sprintf(`"%d"`, 25*i+j)), append(vectors, "[1,2]")
			documents = append(documents, `"`+strings.Repeat("x", 32<<10)+`"`)
		}
		r.want(201, "", "POST", c+"/add", `{"ids":[`+strings.Join(ids, ",")+`],"embeddings":[`+strings.Join(vectors, ",")+`],"documents":[`+strings.Join(documents, ",")+`]}`)
	}
	many := `"query_embeddings":[` + strings.TrimSuffix(strings.Repeat("[1,2],", 3000), ",") + `]`
	most := int64(3 << 20) // three quarters
	refused := `"error":"ChromaError","message":"the answer is larger than what one user may have in memory: ask for less at a time`
	ask := func(status int, want, path, body string) {
		t.Helper()
		r.want(status, want, "POST", c+path, body)
		if n := r.load.memory.Used(); n != 0 {
			t.Errorf("%s %.40s: %d bytes are left", path, body, n)
		}
	}
	ask(422, refused, "/get", `{}`)
	ask(200, `"0"`, "/get", `{"limit":90}`)
	ask(200, `"199"`, "/get", `{"include":[]}`)
	ask(422, refused, "/query", `{"query_embeddings":[[1,2]],"n_results":4294967295}`)
	ask(200, `"0"`, "/query", `{"query_embeddings":[[1,2]],"n_results":90}`)
	ask(422, refused, "/query", `{`+many+`,"n_results":4294967295,"include":["distances"]}`)
	ask(200, `"0"`, "/query", `{`+many+`,"n_results":4294967295,"include":["distances"],"ids":["0"]}`)
	if _, metrics := r.do("GET", "/metrics", ""); !strings.Contains(metrics, `chromad_requests_refused_total{reason="memory"} 3`) {
		t.Error("three refusals are not in the metrics")
	}

	// What others have is free again some time.
	for _, of := range []string{"address 192.0.2.1", "somebody else"} {
		if !r.load.memory.Hold(of, 2<<20) || of != "address 192.0.2.1" && !r.load.memory.Hold(of, 1<<20) {
			t.Fatal("no room")
		}
		res := r.answer("POST", c+"/get", strings.NewReader(`{"limit":90}`))
		if res.StatusCode != 503 || res.Header.Get("Retry-After") != "1" {
			t.Errorf("%s: %d %v", of, res.StatusCode, res.Header)
		}
		r.load.memory.Release(of, r.load.memory.Used())
	}
	ask(200, `"0"`, "/get", `{"limit":90}`)
	if used := r.load.memory.Share(); used != most {
		t.Errorf("one user gets %d of 4 MiB", used)
	}
}

// The matches of vectors stand in their lists, also where there are none.
func TestListsOfMatches(t *testing.T) {
	r := newRig(t, Config{}, nil)
	c := r.collection(`{"name":"docs"}`)
	end := `,"embeddings":null,"documents":null,"uris":null,"metadatas":null,"distances":null,"include":[]}`
	ask := func(ids, body string) {
		t.Helper()
		r.want(200, `{"ids":`+ids+end, "POST", c+"/query", `{"include":[],`+body+`}`)
	}
	ask(`[]`, `"query_embeddings":[]`)
	ask(`[[],[]]`, `"query_embeddings":[[1],[2]]`)
	r.want(201, "", "POST", c+"/add", `{"ids":["a","b"],"embeddings":[[1],[5]],"metadatas":[{"n":1},{"n":2}]}`)
	ask(`[]`, `"query_embeddings":[]`)
	ask(`[["a","b"],["b","a"],["a","b"]]`, `"query_embeddings":[[1],[9],[2]]`)
	ask(`[["a"],["b"]]`, `"query_embeddings":[[1],[9]],"n_results":1`)
	ask(`[[],[]]`, `"query_embeddings":[[1],[9]],"n_results":0`)
	ask(`[[],[]]`, `"query_embeddings":[[1],[9]],"ids":[]`)
	ask(`[[],[]]`, `"query_embeddings":[[1],[9]],"where":{"n":3}`)
	r.want(200, `{"ids":[],`, "POST", c+"/get", `{"limit":0}`)
	r.want(200, `{"ids":["b"],`, "POST", c+"/get", `{"offset":1}`)
}
