package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/chromad/chromad/internal/outbound"
)

// ways writes down where a server in this process connects to, by our dialer and
// by those of the standard library that a dependency could use.
type ways struct {
	mu   sync.Mutex
	seen map[string]bool // "purpose place", with "refused" behind those that were
}

func (w *ways) note(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[what] = true
}

func (w *ways) list() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.seen))
}

// RoundTrip takes the place of http.DefaultTransport.
func (w *ways) RoundTrip(r *http.Request) (*http.Response, error) {
	w.note("http.DefaultTransport " + r.URL.Host)
	return nil, errors.New("not here")
}

// watchWays watches everything until the end of the test. What is started with
// the context has the dialer.
func watchWays(t *testing.T) (*ways, context.Context) {
	w := &ways{seen: map[string]bool{}}
	transport, resolver := http.DefaultTransport, net.DefaultResolver
	t.Cleanup(func() { http.DefaultTransport, net.DefaultResolver = transport, resolver })
	http.DefaultTransport = w
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(_ context.Context, network, address string) (net.Conn, error) {
		w.note("name server " + network + " " + address)
		return nil, errors.New("not here")
	}}
	return w, outbound.With(context.Background(), outbound.New(func(a outbound.Attempt) {
		what := a.Purpose + " " + a.Place
		if a.Refused {
			what += " refused"
		}
		w.note(what)
	}))
}

// trap is a server that nobody may come to.
func trap(t *testing.T) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the server went to %s %s", r.Method, r.URL)
	}))
	t.Cleanup(s.Close)
	return s
}

// lure sends a request that names a place wherever one could be looked for.
func lure(t *testing.T, c *http.Client, address, to, method, path, body string, header http.Header) int {
	t.Helper()
	host := strings.TrimPrefix(to, "http://")
	r, err := http.NewRequest(method, address+path, strings.NewReader(strings.ReplaceAll(body, "URL", to)))
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(r.Header, header)
	r.Host = host
	for _, name := range strings.Fields("X-Forwarded-For X-Forwarded-Host X-Real-Ip Via Proxy X-Original-Url X-Rewrite-Url Referer X-Openai-Baseurl X-Weaviate-Cluster-Url X-Chroma-Embedding-Url Webhook Callback-Url X-Callback Link From") {
		r.Header.Set(name, to)
	}
	r.Header.Set("Forwarded", "for="+host+";host="+host+";proto=http")
	res, err := c.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

// luring are the requests of Chroma's clients and our own, in an order in which
// most of them work, with a place in all that a client makes up.
var luring = []struct{ method, path, body string }{
	{"GET", "/api/v2", ""}, {"GET", "/api/v2/heartbeat", ""}, {"GET", "/api/v2/version", ""}, {"GET", "/api/v2/healthcheck", ""}, {"GET", "/api/v2/pre-flight-checks", ""},
	{"GET", "/api/v2/auth/identity", ""}, {"GET", "/metrics", ""}, {"GET", "/docs", ""}, {"GET", "/URL", ""},
	{"POST", "/api/v2/tenants", `{"name":"lure"}`}, {"POST", "/api/v2/tenants", `{"name":"URL"}`}, {"PATCH", "/api/v2/tenants/lure", `{"resource_name":"URL"}`}, {"GET", "/api/v2/tenants/lure", ""},
	{"POST", "DB", `{"name":"lure"}`}, {"GET", "DB", ""}, {"GET", "DB/lure", ""},
	{"POST", "DB/lure/collections", `{"name":"lure","metadata":{"url":"URL","webhook":"URL"},"configuration":{"embedding_function":{"type":"known","name":"openai","config":{"api_base":"URL","api_key_env_var":"HOME","model_name":"URL"}}}}`},
	{"POST", "DB/lure/collections", `{"name":"lure2","schema":{"defaults":{},"keys":{}},"configuration":{"embedding_function":{"type":"known","name":"ollama","config":{"url":"URL"}}}}`},
	{"GET", "DB/lure/collections", ""}, {"GET", "DB/lure/collections_count", ""}, {"GET", "DB/lure/collections/lure", ""}, {"GET", "/api/v2/collections/lure:lure:lure", ""},
	{"PUT", "C", `{"new_metadata":{"url":"URL"}}`},
	{"POST", "C/add", `{"ids":["URL","b"],"embeddings":[[1,0],[0,1]],"documents":["URL","<img src=URL>"],"uris":["URL","URL"],"metadatas":[{"url":"URL","callback":"URL"},{"ref":"URL"}]}`},
	{"POST", "C/add", `{"ids":["c"],"documents":["URL"],"uris":["URL"]}`},
	{"POST", "C/upsert", `{"ids":["URL"],"embeddings":[[1,1]],"uris":["URL"],"documents":["URL"]}`}, {"POST", "C/update", `{"ids":["b"],"uris":["URL"],"documents":["URL"]}`},
	{"POST", "C/get", `{"include":["uris","documents","metadatas","embeddings"],"where":{"url":"URL"}}`}, {"GET", "C/count", ""},
	{"POST", "C/query", `{"query_embeddings":[[1,0]],"n_results":2,"include":["uris","documents"]}`}, {"POST", "C/query", `{"query_texts":["URL"],"query_uris":["URL"]}`},
	{"POST", "C/search", `{"searches":[{"rank":{"$knn":{"query":[1,0]}},"limit":{"limit":2}}]}`}, {"POST", "C/search", `{"searches":[{"rank":{"$knn":{"query":"URL"}}}]}`},
	{"POST", "C/fork", `{"new_name":"URL"}`}, {"GET", "C/fork_count", ""}, {"GET", "C/indexing_status", ""},
	{"POST", "C/functions/attach", `{"name":"f","function_id":"URL","output_collection":"o","params":{"url":"URL"}}`}, {"GET", "C/functions/URL", ""}, {"POST", "C/attached_functions/f/detach", `{"delete_output":true}`},
	{"GET", "/api/v2/chromad/access/users", ""}, {"POST", "/api/v2/chromad/access", `{"do":"import","url":"URL"}`}, {"GET", "/api/v2/chromad/privacy", ""},
	{"POST", "C/delete", `{"ids":["b"]}`}, {"DELETE", "DB/lure/collections/lure", ""}, {"DELETE", "DB/lure", ""}, {"POST", "/api/v2/reset", ""},
}

// lureAll sends all of them and returns how many were answered with success.
func lureAll(t *testing.T, address, to string, header http.Header) (done int) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{}}
	defer c.CloseIdleConnections()
	id := ""
	for _, r := range luring {
		path := strings.ReplaceAll(r.path, "C/", "DB/lure/collections/"+id+"/")
		if path == "C" {
			path = "DB/lure/collections/" + id
		}
		path = strings.Replace(strings.Replace(path, "DB", "/api/v2/tenants/lure/databases", 1), "URL", strings.ReplaceAll(to, "/", "%2F"), 1)
		status := lure(t, c, address, to, r.method, path, r.body, header)
		if status >= 500 && status != 501 && !strings.HasSuffix(path, "/indexing_status") { // which Chroma's single node does not have
			t.Errorf("%s %s: %d", r.method, path, status)
		}
		if status < 300 {
			done++
		}
		if id == "" && strings.Contains(r.body, `"name":"lure","metadata"`) {
			id = collectionID(t, c, address, header)
		}
	}
	return done
}

func collectionID(t *testing.T, c *http.Client, address string, header http.Header) string {
	t.Helper()
	r, err := http.NewRequest("GET", address+"/api/v2/tenants/lure/databases/lure/collections/lure", nil)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(r.Header, header)
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var v struct{ ID string }
	if err := json.NewDecoder(res.Body).Decode(&v); err != nil || v.ID == "" {
		t.Fatalf("no collection: %d, %v", res.StatusCode, err)
	}
	return v.ID
}

// Without configuration a server connects to nobody, whatever requests say and
// the environment names.
func TestOutboundNothing(t *testing.T) {
	w, ctx := watchWays(t)
	elsewhere := trap(t)
	for _, name := range strings.Fields("HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy OTEL_EXPORTER_OTLP_ENDPOINT") {
		t.Setenv(name, elsewhere.URL)
	}
	s := startIn(ctx, t, "--path", filepath.Join(t.TempDir(), "store"), "--allow-reset")
	if done := lureAll(t, s.address, elsewhere.URL, nil); done < 25 {
		t.Errorf("%d requests were done, which is too few to show anything", done)
	}
	s.finish(t)
	if got := w.list(); len(got) > 0 {
		t.Errorf("the server went to %q", got)
	}
}

// identityProvider is one on loopback, whose keys are where jwks says.
func identityProvider(t *testing.T, jwks func(self string) string) (*httptest.Server, func(claims map[string]any, header map[jose.HeaderKey]any) string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := jose.JSONWebKey{Key: private, KeyID: "k", Algorithm: "ES256", Use: "sig"}
	var p *httptest.Server
	p = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			fmt.Fprintf(rw, `{"issuer":%q,"jwks_uri":%q}`, p.URL, jwks(p.URL))
		case "/keys":
			json.NewEncoder(rw).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}})
		}
	}))
	t.Cleanup(p.Close)
	return p, func(claims map[string]any, header map[jose.HeaderKey]any) string {
		all := map[string]any{"iss": p.URL, "aud": "chromad", "sub": "tess", "groups": []string{"all"}, "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix()}
		maps.Copy(all, claims)
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, &jose.SignerOptions{ExtraHeaders: header})
		if err != nil {
			t.Fatal(err)
		}
		payload, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		o, err := signer.Sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		text, err := o.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
}

// With configuration it connects to what that names, and to nothing that a token,
// a request or a provider's document points to.
func TestOutboundConfigured(t *testing.T) {
	w, ctx := watchWays(t)
	elsewhere := trap(t)
	good, sign := identityProvider(t, func(self string) string { return self + "/keys" })
	bad, signBad := identityProvider(t, func(string) string { return elsewhere.URL + "/keys" })
	exports, hook, syslog, file := targets(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "store")
	start(t, "--path", path).finish(t)
	users(t, "add", path, "root", "--role", "admin", "--key")
	config := filepath.Join(dir, "c.yaml")
	issuer := func(url string) string {
		return fmt.Sprintf("- {issuer: %q, audience: chromad, roles: [{claim: groups, value: all, role: admin}]}\n", url)
	}
	if err := os.WriteFile(config, []byte("oidc:\n"+issuer(good.URL)+issuer(bad.URL)+exports+"alerts: {rules: [{rule: new_principal}, {rule: mass_export, rows: 1}]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startIn(ctx, t, config, "--path", path, "--allow-reset")
	bearer := func(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }
	if done := lureAll(t, s.address, elsewhere.URL, bearer(sign(nil, nil))); done < 25 {
		t.Errorf("%d requests were done, which is too few to show anything", done)
	}
	c := &http.Client{Transport: &http.Transport{}}
	defer c.CloseIdleConnections()
	for what, token := range map[string]string{
		"another issuer":              sign(map[string]any{"iss": elsewhere.URL}, nil),
		"keys elsewhere, by document": signBad(nil, nil),
		"keys elsewhere, by header":   signBad(map[string]any{"iss": good.URL}, map[jose.HeaderKey]any{"jku": elsewhere.URL + "/keys", "x5u": elsewhere.URL + "/cert"}),
	} {
		if status := lure(t, c, s.address, elsewhere.URL, "GET", "/api/v2/tenants/default_tenant", "", bearer(token)); status != 401 && status != 429 {
			t.Errorf("%s: %d", what, status)
		}
	}
	s.finish(t)
	place := func(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }
	want := []string{"oidc " + place(good), "oidc " + place(bad), "oidc " + place(elsewhere) + " refused"}
	for _, line := range strings.Split(exports, "\n") {
		for purpose, at := range map[string]string{"webhook": `url: "https://`, "syslog": `address: "tcp://`} {
			if _, after, ok := strings.Cut(line, at); ok {
				host, _, _ := strings.Cut(strings.NewReplacer("/", `"`).Replace(after), `"`)
				want = append(want, purpose+" "+host)
			}
		}
	}
	slices.Sort(want)
	if got := w.list(); !slices.Equal(got, want) {
		t.Errorf("the server went to\n%s\nand the configuration says\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	text, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(text), `"rule":"new_principal"`) || !strings.Contains(hook.text(), `"rule":"new_principal"`) || !strings.Contains(hook.text(), `"rule":"mass_export"`) || !strings.Contains(syslog.text(), "[alert@32473") {
		t.Errorf("file\n%s\nwebhook %s\nsyslog %s, %v", text, hook.text(), syslog.text(), err)
	}
	if !strings.Contains(string(text), `{"type":"event",`) || !strings.Contains(string(text), `"principal":"tess"`) {
		t.Error("no event about who came with a token")
	}
}
