package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// serve runs the rig on a real socket until the test ends.
func (r *rig) serve() (address string, stop func() error) {
	r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- r.Serve(ctx, l) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-served
	})
	r.t.Cleanup(func() {
		if err := stop(); err != nil {
			r.t.Errorf("serve: %v", err)
		}
	})
	return l.Addr().String(), stop
}

func dial(t testing.TB, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	// Far beyond every timeout of these tests: what hangs fails.
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// answers reads all responses that come on a connection until it is closed.
func answers(t testing.TB, conn net.Conn) (statuses []int, bodies []string) {
	t.Helper()
	br := bufio.NewReader(conn)
	for {
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			return statuses, bodies
		}
		body, _ := io.ReadAll(res.Body)
		statuses, bodies = append(statuses, res.StatusCode), append(bodies, string(body))
	}
}

// Requests as bytes: what the parser of net/http makes of them and what we do
// with the rest. Every connection must end, with these answers and no others.
func TestRawRequests(t *testing.T) {
	r := newRig(t, Config{Limits: Limits{BodyBytes: 1000}}, nil)
	address, _ := r.serve()
	const tail = "Host: localhost\r\nConnection: close\r\n"
	post := func(header, body string) string {
		return "POST /api/v2/tenants HTTP/1.1\r\n" + tail + header + "\r\n" + body
	}
	for _, c := range []struct {
		name, in string
		want     string // statuses
	}{
		{"plain", "GET /api/v2/version HTTP/1.1\r\n" + tail + "\r\n", "[200]"},
		{"HTTP/1.0", "GET /api/v2/version HTTP/1.0\r\n\r\n", "[200]"},
		{"HTTP/0.9", "GET /api/v2/version\r\n\r\n", "[400]"},
		{"HTTP/3.0", "GET /api/v2/version HTTP/3.0\r\n" + tail + "\r\n", "[505]"},
		{"no host", "GET /api/v2/version HTTP/1.1\r\nConnection: close\r\n\r\n", "[400]"},
		{"two hosts", "GET /api/v2/version HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "[400]"},
		{"absolute address", "GET http://elsewhere/api/v2/version HTTP/1.1\r\n" + tail + "\r\n", "[403]"},
		{"absolute address of ours", "GET http://localhost/api/v2/version HTTP/1.1\r\nHost: elsewhere\r\nConnection: close\r\n\r\n", "[200]"},
		{"another host", "GET /api/v2/version HTTP/1.1\r\nHost: elsewhere\r\nConnection: close\r\n\r\n", "[403]"},
		{"HTTP/1.0 with another host", "GET /api/v2/version HTTP/1.0\r\nHost: elsewhere\r\n\r\n", "[403]"},
		{"asterisk", "OPTIONS * HTTP/1.1\r\n" + tail + "\r\n", "[404]"},
		{"tunnel", "CONNECT elsewhere:443 HTTP/1.1\r\n" + tail + "\r\n", "[403]"},
		{"two slashes", "GET //api/v2/version HTTP/1.1\r\n" + tail + "\r\n", "[404]"},
		{"dot", "GET /api/v2/./version HTTP/1.1\r\n" + tail + "\r\n", "[404]"},
		{"dots", "GET /api/v2/x/../version HTTP/1.1\r\n" + tail + "\r\n", "[404]"},
		{"encoded dots", "GET /api/v2/x/%2e%2e/version HTTP/1.1\r\n" + tail + "\r\n", "[404]"},
		{"encoded slash", "GET /api/v2%2fversion HTTP/1.1\r\n" + tail + "\r\n", "[404]"},
		{"encoded NUL", "GET /api/v2/version%00 HTTP/1.1\r\n" + tail + "\r\n", "[404]"},
		{"half an escape", "GET /api/v2/tenants/%2 HTTP/1.1\r\n" + tail + "\r\n", "[400]"},
		{"backslash", "GET \\api\\v2\\version HTTP/1.1\r\n" + tail + "\r\n", "[400]"},
		{"unknown method", "BREW /api/v2/version HTTP/1.1\r\n" + tail + "\r\n", "[405]"},
		{"method in lower case", "get /api/v2/version HTTP/1.1\r\n" + tail + "\r\n", "[405]"},
		{"bad method", "G\tT /api/v2/version HTTP/1.1\r\n" + tail + "\r\n", "[400]"},
		{"space before a colon", "GET /api/v2/version HTTP/1.1\r\nHost : h\r\n\r\n", "[400]"},
		{"NUL in a header", "GET /api/v2/version HTTP/1.1\r\n" + tail + "X: a\x00b\r\n\r\n", "[400]"},
		{"header of 1 MiB", "GET /api/v2/version HTTP/1.1\r\n" + tail + "X: " + strings.Repeat("a", 1<<20) + "\r\n\r\n", "[431]"},
		{"10,000 headers", "GET /api/v2/version HTTP/1.1\r\n" + tail + strings.Repeat("X-Header: value\r\n", 10_000) + "\r\n", "[431]"},
		{"length and chunks", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nGET /api/v2/version HTTP/1.1\r\nHost: localhost\r\n\r\n"), "[400]"},
		{"two lengths", post("Content-Length: 14\r\nContent-Length: 15\r\n", `{"name":"abc"}`), "[400]"},
		{"negative length", post("Content-Length: -1\r\n", ""), "[400]"},
		{"length with a plus", post("Content-Length: +14\r\n", `{"name":"abc"}`), "[400]"},
		{"unknown coding", post("Transfer-Encoding: gzip\r\n", ""), "[501]"},
		{"chunked twice", post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"), "[501]"},
		{"chunks", post("Transfer-Encoding: chunked\r\n", "7\r\n{\"name\"\r\n8\r\n:\"raw-a\"\r\n1\r\n}\r\n0\r\n\r\n"), "[200]"},
		{"bad chunk", post("Transfer-Encoding: chunked\r\n", "x\r\n{}\r\n0\r\n\r\n"), "[400]"},
		{"short body", post("Content-Length: 20\r\n", `{"name":"abc"}`), "[400]"},
		{"a body on GET", "GET /api/v2/version HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}GET /api/v2/version HTTP/1.1\r\n" + tail + "\r\n", "[200]"},
		{"two in a row", "GET /api/v2/version HTTP/1.1\r\nHost: localhost\r\n\r\nGET /api/v2/version HTTP/1.1\r\n" + tail + "\r\n", "[200 200]"},
		{"too long by its header", post("Content-Length: 1001\r\n", ""), "[413]"},
		{"too long by far", post("Content-Length: 9223372036854775807\r\n", ""), "[413]"},
		{"too long in chunks", post("Transfer-Encoding: chunked\r\n", strings.Repeat("64\r\n"+strings.Repeat("x", 100)+"\r\n", 20)), "[413]"},
		{"continue, then too long", post("Content-Length: 1001\r\nExpect: 100-continue\r\n", ""), "[413]"},
		{"compressed", post("Content-Length: 1000\r\nContent-Encoding: gzip\r\n", "\x1f\x8b"), "[415]"},
		{"unknown expectation", post("Content-Length: 2\r\nExpect: 200-ok\r\n", "{}"), "[417]"},
		{"TLS", "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", "[400]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := dial(t, address)
			go func() {
				// The server may close before it has read everything.
				if _, err := io.WriteString(conn, c.in); err == nil {
					conn.(*net.TCPConn).CloseWrite()
				}
			}()
			if statuses, bodies := answers(t, conn); fmt.Sprint(statuses) != c.want {
				t.Errorf("answers %v %.300q, want %s", statuses, bodies, c.want)
			}
		})
	}
	r.want(200, `"1.0.0"`, "GET", "/api/v2/version", "")
}

// A client that does not send the body it has announced gets its refusal, and
// then the end of the connection: not when the body should have come. One that
// has sent it gets the whole refusal too.
func TestRefusedWithoutBody(t *testing.T) {
	m := newMatrix(t)
	m.timeouts.Body = time.Hour // what waits for a body hangs
	address, _ := m.serve()
	key := "X-Chroma-Token: " + m.keys["admin"] + "\r\n"
	for _, c := range []struct {
		in   string
		want int
	}{
		{"POST /api/v2/tenants HTTP/1.1\r\nHost: localhost\r\n" + key + "Content-Length: 10\r\nContent-Type: text/plain\r\n\r\n", 415},
		{"POST /api/v2/tenants HTTP/1.1\r\nHost: localhost\r\n" + key + "Content-Length: 99999999\r\n\r\n", 413},
		{"POST /api/v2/nothing HTTP/1.1\r\nHost: localhost\r\n" + key + "Content-Length: 10\r\n\r\n", 404},
		{"POST /api/v2/version HTTP/1.1\r\nHost: localhost\r\n" + key + "Transfer-Encoding: chunked\r\n\r\n", 405},
		{"POST /api/v2/tenants HTTP/1.1\r\nHost: localhost\r\nX-Chroma-Token: " + m.keys["reader"] + "\r\nContent-Length: 10\r\n\r\n", 403},
		{"POST /api/v2/tenants HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n", 401},
		{"POST /api/v2/tenants HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{\"nam", 401},
		{"POST /api/v2/tenants HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n{\"nam", 401},
		{"POST /api/v2/tenants HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\"na", 401},
		{"POST /api/v2/tenants HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat(" ", 100_000), 401},
		{"POST /api/v2/tenants HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nnull\r\n0\r\n\r\n", 401},
		{"DELETE /api/v2/tenants/acme/databases/main HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n", 401},
		{"GET /api/v2/version HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n", 200},
	} {
		conn := dial(t, address)
		if _, err := io.WriteString(conn, c.in); err != nil {
			t.Fatal(err)
		}
		br := bufio.NewReader(conn)
		res, err := http.ReadResponse(br, nil)
		if err != nil || res.StatusCode != c.want || !res.Close {
			t.Errorf("%.200q: %v %v, want %d and the end of the connection", c.in, res, err, c.want)
			continue
		}
		if n, err := io.Copy(io.Discard, br); n == 0 && c.want != 404 && c.want != 405 || err != nil {
			t.Errorf("%.200q: %d bytes behind the head, and then %v, want the end of the connection", c.in, n, err)
		}
	}
}

func TestContinue(t *testing.T) {
	r := newRig(t, Config{}, nil)
	address, _ := r.serve()
	conn := dial(t, address)
	fmt.Fprintf(conn, "POST /api/v2/tenants HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 14\r\n\r\n")
	br := bufio.NewReader(conn)
	for _, want := range []int{100, 200} {
		res, err := http.ReadResponse(br, nil)
		if err != nil || res.StatusCode != want {
			t.Fatalf("%v %v, want %d", res, err, want)
		}
		fmt.Fprint(conn, `{"name":"abc"}`)
	}
}

// Clients that stop in the middle are cut off; others are served meanwhile.
func TestSlowClients(t *testing.T) {
	const short = 250 * time.Millisecond
	for _, c := range []struct {
		name     string
		timeouts Timeouts
		in       string
		want     string
	}{
		{"header", Timeouts{Header: short}, "GET /api/v2/version HTTP/1.1\r\nHos", "[] or [400]"},
		{"nothing at all", Timeouts{Header: short, Idle: short}, "", "[]"},
		{"body", Timeouts{Body: short}, "POST /api/v2/tenants HTTP/1.1\r\nHost: localhost\r\nContent-Length: 14\r\n\r\n{\"na", "[408]"},
		{"body in chunks", Timeouts{Body: short}, "POST /api/v2/tenants HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\"na", "[408]"},
		{"body nobody wants", Timeouts{Body: short}, "GET /api/v2/version HTTP/1.1\r\nHost: localhost\r\nContent-Length: 14\r\n\r\n", "[200]"},
		{"idle", Timeouts{Idle: short}, "GET /api/v2/version HTTP/1.1\r\nHost: localhost\r\n\r\n", "[200]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Config{Timeouts: c.timeouts}, nil)
			address, _ := r.serve()
			conn := dial(t, address)
			if _, err := io.WriteString(conn, c.in); err != nil {
				t.Fatal(err)
			}
			other := dial(t, address)
			fmt.Fprintf(other, "GET /api/v2/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
			if got, _ := answers(t, other); fmt.Sprint(got) != "[200]" {
				t.Errorf("the other client got %v", got)
			}
			if got, _ := answers(t, conn); !slices.Contains(strings.Split(c.want, " or "), fmt.Sprint(got)) {
				t.Errorf("answers %v, want %s and the end of the connection", got, c.want)
			}
		})
	}
}

// A client that does not read its answer is cut off: the server can stop
// although nobody takes what it has to say.
func TestSlowReader(t *testing.T) {
	r := newRig(t, Config{Timeouts: Timeouts{Write: 50 * time.Millisecond, Drain: time.Hour}}, nil)
	c := r.collection(`{"name":"docs"}`)
	document := strings.Repeat("x", 1<<20)
	r.want(201, "", "POST", c+"/add", `{"ids":["a"],"embeddings":[[1]],"documents":["`+document+`"]}`)
	address, stop := r.serve()
	conn := dial(t, address)
	// 200 answers of 1 MiB in a row fill every buffer between us.
	request := "POST " + c + "/get HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
	if _, err := io.WriteString(conn, strings.Repeat(request, 200)); err != nil {
		t.Log("the server closed while the requests were sent:", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// Stopping lets the running request finish and takes no other one.
func TestDrain(t *testing.T) {
	r := newRig(t, Config{}, nil)
	entered, leave := make(chan struct{}), make(chan struct{})
	r.router = newRouter([]route{{"GET", "/slow", "test:slow", false, 200, func(_ *Server, c *call) error {
		close(entered)
		<-leave
		return c.done()
	}}})
	address, stop := r.serve()
	conn := dial(t, address)
	fmt.Fprintf(conn, "GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	for {
		refused, err := net.Dial("tcp", address)
		if err != nil {
			break // the listener is closed
		}
		refused.Close()
	}
	select {
	case err := <-stopped:
		t.Fatalf("stopped before the request was done: %v", err)
	default:
	}
	close(leave)
	if got, _ := answers(t, conn); fmt.Sprint(got) != "[200]" {
		t.Errorf("the running request got %v", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// A request that does not end is cut off when the drain timeout is over.
func TestDrainTimeout(t *testing.T) {
	r := newRig(t, Config{Timeouts: Timeouts{Drain: 20 * time.Millisecond}}, nil)
	entered := make(chan struct{})
	r.router = newRouter([]route{{"GET", "/slow", "test:slow", false, 200, func(_ *Server, c *call) error {
		close(entered)
		<-c.ctx().Done()
		return c.ctx().Err()
	}}})
	address, stop := r.serve()
	conn := dial(t, address)
	fmt.Fprintf(conn, "GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
	<-entered
	if err := stop(); err != nil {
		t.Error(err)
	}
	if got, _ := answers(t, conn); len(got) > 0 && got[0] == 200 {
		t.Errorf("answers %v", got)
	}
}
