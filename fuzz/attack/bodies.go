package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// bomb is a body that costs its reader more than its sender.
type bomb struct {
	name, route, encoding string
	body                  func() string
	want                  []int
}

func repeat(before, element string, n int, after string) func() string {
	return func() string { return before + strings.Repeat(element, n) + strings.TrimSuffix(element, ",") + after }
}

func zipped() string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	zeros := make([]byte, 1<<20)
	for range 256 {
		w.Write(zeros)
	}
	w.Close()
	return b.String()
}

// bodies are bombs, three of each at once.
func bodies() []attack {
	refused := []int{400, 413, 422}
	var out []attack
	for _, b := range []bomb{
		{"gzip", "/add", "gzip", zipped, []int{415}},
		{"gzip in gzip", "/add", "gzip, gzip", zipped, []int{415}},
		{"deflate", "/add", "deflate", zipped, []int{415}},
		{"zstd", "/add", "zstd", zipped, []int{415}},
		{"nesting", "/get", "", func() string { return `{"where":` + strings.Repeat(`{"$and":[`, 1<<20) }, refused},
		{"nesting of lists", "/add", "", func() string { return `{"ids":` + strings.Repeat("[", 20<<20) }, refused},
		{"nesting of what is ignored", "/query", "", func() string { return `{"x":` + strings.Repeat(`{"x":`, 1<<20) }, refused},
		{"a number of 10 MB", "/add", "", func() string { return `{"ids":["a"],"embeddings":[[1` + strings.Repeat("0", 10_000_000) + `,2]]}` }, refused},
		{"digits behind the point", "/query", "", func() string {
			return `{"query_embeddings":[[0.` + strings.Repeat("1", 10_000_000) + `,2]],"n_results":1}`
		}, []int{200, 400, 413, 422}},
		{"exponent", "/add", "", func() string { return `{"ids":["a"],"embeddings":[[1e999999999999,2]]}` }, refused},
		{"n_results of 2^32-1", "/query", "", func() string { return `{"query_embeddings":[[1,2]],"n_results":4294967295}` }, []int{200}},
		{"offset of 2^63", "/get", "", func() string { return `{"offset":9223372036854775807}` }, refused},
		{"10 million ids", "/get", "", repeat(`{"ids":[`, `"",`, 10_000_000, `]}`), refused},
		{"10 million empty vectors", "/add", "", repeat(`{"ids":[],"embeddings":[`, `[],`, 10_000_000, `]}`), refused},
		{"vector of 10 million", "/add", "", repeat(`{"ids":["a"],"embeddings":[[`, `0,`, 10_000_000, `]]}`), refused},
		{"10 million metadata keys", "/add", "", repeat(`{"ids":["a"],"embeddings":[[1,2]],"metadatas":[{`, `"":1,`, 7_000_000, `}]}`), refused},
		{"10 million operands", "/get", "", repeat(`{"where":{"k":{"$in":[`, `1,`, 10_000_000, `]}}}`), refused},
		{"10 million queries", "/query", "", repeat(`{"query_embeddings":[`, `[],`, 10_000_000, `]}`), refused},
		{"a regular expression that explodes", "/get", "", func() string {
			return `{"where_document":{"$regex":"` + strings.Repeat("(a{1,1000}){1,1000}", 10) + `"}}`
		}, refused},
		{"a regular expression that backtracks", "/get", "", func() string { return `{"where_document":{"$regex":"(a+)+$"}}` }, []int{200, 400}},
		{"id of 30 MB", "/get", "", func() string { return `{"ids":["` + strings.Repeat("x", 30<<20) + `"]}` }, []int{200, 400, 413, 422}},
		{"escapes", "/get", "", repeat(`{"ids":["`, `\u0000`, 6<<20, `"]}`), []int{200, 400, 413, 422}},
		{"NUL and line breaks in an id", "/get", "", func() string { return `{"ids":["a\u0000\nlevel=ERROR msg=forged"]}` }, []int{200, 400}},
		{"a body of 1 GiB", "/add", "", nil, []int{413}},
	} {
		out = append(out, attack{"body: " + b.name, fmt.Sprint(b.want), b.run})
	}
	return out
}

func (b bomb) run(t *target) error {
	text := ""
	if b.body != nil {
		text = b.body()
	}
	errs := make([]error, 3)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = b.throw(t, text) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// spaces is a JSON text that never ends.
type spaces struct{}

// Read implements io.Reader.
func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func (b bomb) throw(t *target, text string) error {
	var body io.Reader = strings.NewReader(text)
	if b.body == nil {
		body = io.LimitReader(spaces{}, 1<<30)
	}
	r, err := http.NewRequest("POST", "https://"+t.address+t.docs+b.route, body)
	if err != nil {
		return err
	}
	r.Header.Set("X-Chroma-Token", t.own)
	r.Header.Set("Content-Type", "application/json")
	if b.encoding != "" {
		r.Header.Set("Content-Encoding", b.encoding)
	}
	res, err := t.client.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err == nil && !slices.Contains(b.want, res.StatusCode) {
		err = fmt.Errorf("%d %.200s", res.StatusCode, answer)
	}
	return err
}
