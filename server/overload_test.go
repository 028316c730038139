package server

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server/access"
	"github.com/chromad/chromad/server/limit"
)

var (
	loadClients = flag.Int("load.clients", 500, "clients of TestLoad")
	loadTime    = flag.Duration("load.time", time.Second, "how long they ask")
	loadRows    = flag.Int("load.rows", 5000, "rows that they search")
	loadVectors = flag.Int("load.vectors", 20, "vectors of one query")
	loadReads   = flag.Int("load.reads", 0, "reads at a time; 0: the default")
)

// limited makes a server with users: ada, whose role says nothing, and bob,
// whose own limits are stricter than those of his role.
func limited(t *testing.T, byDefault *limit.Set) (*rig, map[string]string) {
	t.Helper()
	p := &access.Policy{Version: 1, Roles: []access.Role{{Name: "batch", Limits: &limit.Set{Bounds: limit.Bounds{Requests: 0.005, Rows: 100}},
		Grants: []access.Grant{{Actions: []string{"*"}}}}}}
	keys := map[string]string{}
	for name, role := range map[string]string{"ada": "admin", "bob": "batch"} {
		k, secret, err := access.NewKey("", time.Unix(1, 0), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = secret
		p.Users = append(p.Users, access.User{Name: name, Keys: []access.Key{k}, Roles: []access.Binding{{Role: role}}})
	}
	p.User("bob").Limits = &limit.Set{Bounds: limit.Bounds{Requests: 0.001}}
	d, err := access.NewDirectory(p, access.Outside{Limits: byDefault, Failures: 30})
	if err != nil {
		t.Fatal(err)
	}
	return newRig(t, Config{Access: d, Bounds: byDefault}, nil), keys
}

// answer sends a request and returns the whole answer.
func (r *rig) answer(method, path string, body io.Reader, header ...string) *http.Response {
	r.t.Helper()
	req := httptest.NewRequest(method, path, body)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w.Result()
}

// Rates here bring a token in minutes, so that the clock decides nothing.
func TestRates(t *testing.T) {
	r, keys := limited(t, &limit.Set{Actions: map[string]limit.Bounds{"tenant:get_tenant": {Requests: 0.01}}})
	tenant := "/api/v2/tenants/default_tenant"
	for _, c := range []struct {
		who, path string
		want      int
		after     string
	}{
		{"ada", tenant, 200, ""}, {"ada", tenant, 429, "100"}, {"ada", tenant + "/databases", 200, ""},
		{"bob", tenant, 200, ""}, {"bob", tenant + "/databases", 429, "1000"},
		{"bob", "/api/v2/heartbeat", 200, ""}, {"ada", "/metrics", 200, ""},
	} {
		res := r.answer("GET", c.path, nil, "X-Chroma-Token", keys[c.who])
		if got := res.Header.Get("Retry-After"); res.StatusCode != c.want || got != c.after {
			t.Errorf("%s %s: %d, Retry-After %q, want %d %q", c.who, c.path, res.StatusCode, got, c.want, c.after)
		}
	}
	// Refused before a byte of the body is read.
	res := r.answer("POST", tenant+"/databases", untouchable{t: t}, "X-Chroma-Token", keys["bob"], "Content-Length", "100")
	if res.StatusCode != 429 {
		t.Errorf("with a body: %d", res.StatusCode)
	}
	if n := strings.Count(r.log.String(), "requests refused"); n != 1 || strings.Count(r.log.String(), `"status":429`) != 0 {
		t.Errorf("%d lines for refusals:\n%s", n, r.log)
	}
}

// Without users, limits are those of an address.
func TestRatesOfAddresses(t *testing.T) {
	r := newRig(t, Config{Bounds: &limit.Set{Bounds: limit.Bounds{Requests: 0.01, Rows: 3}}}, nil)
	for _, c := range []struct {
		from string
		want int
	}{{"192.0.2.1:1", 200}, {"192.0.2.1:2", 429}, {"192.0.2.2:1", 200}, {"[2001:db8::1]:1", 200}, {"[2001:db8::2]:1", 429}} {
		req := httptest.NewRequest("GET", "/api/v2/tenants/default_tenant", nil)
		req.RemoteAddr = c.from
		w := httptest.NewRecorder()
		if r.ServeHTTP(w, req); w.Code != c.want {
			t.Errorf("%s: %d, want %d", c.from, w.Code, c.want)
		}
	}
}

// Rows are counted once they are known; a debt is allowed once.
func TestRatesOfRows(t *testing.T) {
	r := newRig(t, Config{Bounds: &limit.Set{Bounds: limit.Bounds{Rows: 0.01}}}, nil)
	c := r.collection(`{"name":"docs"}`)
	r.want(201, "", "POST", c+"/add", `{"ids":["a","b","c"],"embeddings":[[1],[2],[3]]}`)
	r.want(429, "too many rows a second", "POST", c+"/add", `{"ids":["d"],"embeddings":[[1]]}`)

	r = newRig(t, Config{Bounds: &limit.Set{Actions: map[string]limit.Bounds{"collection:get": {Rows: 0.01}}}}, nil)
	c = r.collection(`{"name":"docs"}`)
	r.want(201, "", "POST", c+"/add", `{"ids":["a","b","c"],"embeddings":[[1],[2],[3]]}`)
	r.want(200, "", "POST", c+"/get", `{}`)
	r.want(429, "too many rows of collection:get a second", "POST", c+"/get", `{}`)
	r.want(200, "3", "GET", c+"/count", "")
}

// Guessing is slowed, and locks nobody out who was right before.
func TestFailedAuthentications(t *testing.T) {
	r, keys := limited(t, nil)
	tenant := "/api/v2/tenants/default_tenant"
	ask := func(key string) int {
		return r.answer("GET", tenant, nil, "X-Chroma-Token", key).StatusCode
	}
	if got := ask(keys["ada"]); got != 200 {
		t.Fatal(got)
	}
	statuses := map[int]int{}
	for i := range 200 {
		statuses[ask(fmt.Sprintf("chromad_%08d_%s", i, strings.Repeat("A", 43)))]++
	}
	if statuses[401] != 30 || statuses[429] != 170 {
		t.Errorf("%v", statuses)
	}
	if got := ask(keys["ada"]); got != 200 {
		t.Errorf("who was right before: %d", got)
	}
	if got := ask(keys["bob"]); got != 429 {
		t.Errorf("who comes for the first time from where it was guessed: %d", got)
	}
	r.log.Reset()
	for range 100 {
		ask("chromad_wrong")
	}
	if n := strings.Count(r.log.String(), "\n"); n > 1 {
		t.Errorf("%d lines for 100 refusals", n)
	}
}

func TestQuotas(t *testing.T) {
	r := newRig(t, Config{Quotas: Quotas{
		Quota:   Quota{Databases: 2, Collections: 3, DatabaseCollections: 2, Records: 7, CollectionRecords: 5, CollectionBytes: 4000, Dimensions: 3},
		Tenants: map[string]Quota{"big": {Databases: 3}}}}, nil)
	exceeded := func(name, path, body string) {
		t.Helper()
		r.want(422, `"error":"ChromaError","message":"Quota exceeded: `+name, "POST", path, body)
	}
	databases := "/api/v2/tenants/default_tenant/databases"
	r.want(200, "", "POST", databases, `{"name":"second"}`)
	exceeded("databases", databases, `{"name":"third"}`)
	r.want(200, "", "POST", "/api/v2/tenants", `{"name":"big"}`)
	for _, name := range []string{"one", "two"} {
		r.want(200, "", "POST", "/api/v2/tenants/big/databases", `{"name":"`+name+`"}`)
	}
	a, b := r.collection(`{"name":"aaa"}`), r.collection(`{"name":"bbb"}`)
	exceeded("database_collections: 2 are allowed, and 1 more", inDefault+"/collections", `{"name":"ccc"}`)
	r.want(200, `"aaa"`, "POST", inDefault+"/collections", `{"name":"aaa","get_or_create":true}`)
	r.want(200, "", "POST", databases+"/second/collections", `{"name":"ccc"}`)
	exceeded("collections", databases+"/second/collections", `{"name":"ddd"}`)

	exceeded("dimensions", a+"/add", `{"ids":["a"],"embeddings":[[1,2,3,4]]}`)
	r.want(201, "", "POST", a+"/add", `{"ids":["a","b","c","d"],"embeddings":[[1],[2],[3],[4]]}`)
	exceeded("collection_records: 5 are allowed, and 2 more", a+"/add", `{"ids":["e","f"],"embeddings":[[1],[2]]}`)
	r.want(200, "4", "GET", a+"/count", "")
	// What is there already is not new.
	r.want(200, "", "POST", a+"/upsert", `{"ids":["a","b","e"],"embeddings":[[1],[2],[3]]}`)
	r.want(200, "", "POST", a+"/update", `{"ids":["a","b"],"embeddings":[[1],[2]]}`)
	exceeded("records", b+"/add", `{"ids":["a","b","c"],"embeddings":[[1],[2],[3]]}`)
	exceeded("collection_bytes", b+"/add", `{"ids":["a"],"embeddings":[[1]],"documents":["`+strings.Repeat("x", 5000)+`"]}`)
	r.want(200, "", "POST", a+"/delete", `{"ids":["a","b","c"]}`)
	r.want(201, "", "POST", b+"/add", `{"ids":["a","b","c"],"embeddings":[[1],[2],[3]]}`)
	if len(r.allotted.of) != 0 {
		t.Errorf("left: %v", r.allotted.of)
	}
}

// Writes at the same time do not pass a quota together.
func TestQuotaTogether(t *testing.T) {
	r := newRig(t, Config{Quotas: Quotas{Quota: Quota{CollectionRecords: 10}}}, nil)
	c := r.collection(`{"name":"docs"}`)
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() { r.do("POST", c+"/add", fmt.Sprintf(`{"ids":["%d"],"embeddings":[[1]]}`, i)) })
	}
	wg.Wait()
	var n int
	if _, body := r.do("GET", c+"/count", ""); json.Unmarshal([]byte(body), &n) != nil || n > 10 || n == 0 {
		t.Errorf("%s records, at most 10", body)
	}
}

// Bodies that arrive slowly fill the memory that is for them, and no more.
func TestBodiesBounded(t *testing.T) {
	r := newRig(t, Config{Limits: Limits{BodyBytes: 1 << 20}, Admission: Admission{Memory: 4 << 20}}, nil)
	c := r.collection(`{"name":"docs"}`)
	var stalled []*io.PipeWriter
	var wg sync.WaitGroup
	for range 3 {
		pr, pw := io.Pipe()
		stalled = append(stalled, pw)
		wg.Go(func() { r.answer("POST", c+"/add", pr) })
		if _, err := pw.Write(bytes.Repeat([]byte(" "), 1<<20-100)); err != nil {
			t.Fatal(err)
		}
	}
	for r.load.memory.Used() < 3*(1<<20-100) {
		runtime.Gosched() // the last piece is read, and not counted yet
	}
	res := r.answer("POST", c+"/add", strings.NewReader(strings.Repeat(" ", 1000)))
	if res.StatusCode != 503 || res.Header.Get("Retry-After") != "1" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	for _, pw := range stalled {
		pw.Close()
	}
	wg.Wait()
	if n := r.load.memory.Used(); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
	r.want(201, "", "POST", c+"/add", `{"ids":["a"],"embeddings":[[1]]}`)
}

// searchable fills a collection with vectors of a fixed seed, and returns its
// path and a body that asks for the nearest of one.
func searchable(r *rig, rows, dimension int) (path, query string) {
	r.t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	vector := func() string {
		v := make([]float32, dimension)
		for i := range v {
			v[i] = random.Float32()
		}
		return `"` + packed(v...) + `"`
	}
	path = r.collection(`{"name":"vectors"}`)
	for first := 0; first < rows; first += 2500 {
		var ids, vectors []string
		for i := first; i < min(rows, first+2500); i++ {
			ids, vectors = append(ids, `"`+strconv.Itoa(i)+`"`), append(vectors, vector())
		}
		r.want(201, "", "POST", path+"/add", `{"ids":[`+strings.Join(ids, ",")+`],"embeddings":[`+strings.Join(vectors, ",")+`]}`)
	}
	nearest := strings.TrimSuffix(strings.Repeat("0.5,", dimension), ",")
	nearest = strings.TrimSuffix(strings.Repeat("["+nearest+"],", *loadVectors), ",")
	return path, `{"query_embeddings":[` + nearest + `],"n_results":10,"include":["distances"]}`
}

// loaded asks by so many connections for a while and returns the statuses,
// and in milliseconds how long the server took for what it let in.
func loaded(t *testing.T, times *served, address, path, query string, clients int, d time.Duration) (statuses map[int]int, took []float64) {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var mu sync.Mutex
	statuses = map[int]int{}
	end := time.Now().Add(d)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for time.Now().Before(end) {
				res, err := client.Post("http://"+address+path+"/query", "application/json", strings.NewReader(query))
				if err != nil {
					t.Errorf("no answer: %v", err)
					return
				}
				if _, err := io.Copy(io.Discard, res.Body); err != nil {
					t.Errorf("no whole answer: %v", err)
				}
				res.Body.Close()
				mu.Lock()
				statuses[res.StatusCode]++
				mu.Unlock()
				if res.StatusCode == 503 {
					seconds, err := strconv.Atoi(res.Header.Get("Retry-After"))
					if err != nil || seconds < 1 {
						t.Errorf("Retry-After: %q", res.Header.Get("Retry-After"))
					}
					time.Sleep(min(time.Duration(seconds)*time.Second, max(time.Until(end), 0)))
				}
			}
		})
	}
	wg.Wait()
	return statuses, times.take()
}

// served is a log that keeps, in milliseconds, how long queries took that were let in.
type served struct {
	slog.Handler
	mu   sync.Mutex
	took []float64
}

func (s *served) Enabled(context.Context, slog.Level) bool { return true }

func (s *served) Handle(_ context.Context, line slog.Record) error {
	var action string
	var status, duration int64
	line.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "action":
			action = a.Value.String()
		case "status":
			status = a.Value.Int64()
		case "duration":
			duration = int64(a.Value.Duration())
		}
		return true
	})
	if action == "collection:query" && status == 200 {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.took = append(s.took, float64(duration)/1e6)
	}
	return nil
}

func (s *served) take() []float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	took := s.took
	s.took = nil
	slices.Sort(took)
	return took
}

// Far more clients than can be served: every one is answered, those that are
// let in are worked on a few at a time, health is told meanwhile, and memory
// stays what it was. Times are printed: -load.clients=10000 -load.time=10s.
func TestLoad(t *testing.T) {
	r := newRig(t, Config{Admission: Admission{Reads: *loadReads}}, &engine.Options{})
	path, query := searchable(r, *loadRows, 64)
	times := &served{}
	r.Server.log = slog.New(times)
	address, _ := r.serve()
	show := func(name string, clients int, statuses map[int]int, took []float64) {
		if len(took) == 0 {
			t.Fatalf("%s, %d clients: %v, nobody was served", name, clients, statuses)
		}
		at := func(p float64) float64 { return took[int(p*float64(len(took)-1))] }
		t.Logf("%s, %d clients: %v, p50 %.2f ms, p95 %.2f ms, p99 %.2f ms", name, clients, statuses, at(.5), at(.95), at(.99))
	}
	statuses, took := loaded(t, times, address, path, query, 1, *loadTime/2)
	show("unloaded", 1, statuses, took)
	statuses, took = loaded(t, times, address, path, query, 32, *loadTime/2)
	show("ordinary", 32, statuses, took)
	if len(statuses) != 1 || statuses[200] == 0 {
		t.Errorf("32 clients: %v", statuses)
	}

	var before, peak runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	// A slow request in every place until the clients stand in a queue: they share
	// the processors with the server, and on one their queue might never grow.
	places := usualReads(runtime.GOMAXPROCS(0))
	if *loadReads > 0 {
		places = *loadReads
	}
	all := places + max(1, places/4) // with those for who has none
	var slow sync.WaitGroup
	for i := range all {
		place, err := r.load.reads.Enter(t.Context(), "slow "+strconv.Itoa(i))
		if err != nil {
			t.Fatal(err)
		}
		slow.Go(func() {
			for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
				// Very many clients make a standing queue before they all have come.
				if now := r.load.reads.Stats(); now.Refused > 0 || now.Waiting >= *loadClients*4/5 {
					break
				}
			}
			time.Sleep(200 * time.Millisecond) // by then it is a standing one, and one more finds it so
			_ = r.load.reads.Full("address " + limit.Prefix("127.0.0.1:1"))
			place.Leave()
		})
	}
	stop, most, alive := make(chan struct{}), atomic.Int64{}, atomic.Int64{}
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			most.Store(max(most.Load(), int64(r.load.reads.Stats().Running)))
			res, err := http.Get("http://" + address + "/api/v2/heartbeat")
			if err != nil || res.StatusCode != 200 {
				t.Errorf("heartbeat under load: %v %v", res, err)
				return
			}
			res.Body.Close()
			alive.Add(1)
		}
	})
	statuses, took = loaded(t, times, address, path, query, *loadClients, *loadTime)
	slow.Wait()
	close(stop)
	watch.Wait()
	runtime.ReadMemStats(&peak)
	show("overloaded", *loadClients, statuses, took)
	t.Logf("%d heartbeats, at most %d at a time, heap from the system %d MiB more", alive.Load(), most.Load(), (int64(peak.HeapSys)-int64(before.HeapSys))>>20)
	if statuses[503] == 0 || statuses[200] == 0 || len(statuses) != 2 || most.Load() > int64(all) || alive.Load() == 0 {
		t.Errorf("%v, %d at a time, %d heartbeats", statuses, most.Load(), alive.Load())
	}
	if grown := int64(peak.HeapSys) - int64(before.HeapSys); grown > 64<<20+int64(*loadClients)*100<<10 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
}

// A client that leaves in the middle of a query ends it, and its place is free
// again. How soon is printed; the query alone would take far longer.
func TestClientLeaves(t *testing.T) {
	r := newRig(t, Config{Admission: Admission{Reads: 1}}, nil)
	path, _ := searchable(r, 5000, 64)
	vector := "[" + strings.TrimSuffix(strings.Repeat("0.5,", 64), ",") + "],"
	query := `{"query_embeddings":[` + strings.TrimSuffix(strings.Repeat(vector, 10_000), ",") + `],"n_results":100,"include":[]}`
	address, _ := r.serve()
	conn := dial(t, address)
	if _, err := fmt.Fprintf(conn, "POST %s/query HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", path, len(query), query); err != nil {
		t.Fatal(err)
	}
	for r.load.reads.Stats().Running == 0 {
		runtime.Gosched()
	}
	time.Sleep(5 * time.Millisecond) // into the query
	left := time.Now()
	conn.Close()
	// The next one gets the place, which is the only one but for that of newcomers.
	for r.load.reads.Stats().Running > 0 {
		time.Sleep(100 * time.Microsecond)
	}
	t.Logf("the query ended %s after its client had left", time.Since(left))
	const ended = `route="` + underCollection + `/query",status="4xx"`
	for {
		_, body := r.do("GET", "/metrics", "")
		if strings.Contains(body, ended) {
			return // it is counted after its place has become free
		}
		if strings.Contains(body, `route="`+underCollection+`/query",status="2xx"`) || time.Since(left) > 20*time.Second {
			t.Fatalf("the query was not ended:\n%s", body)
		}
		runtime.Gosched()
	}
}
