package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

// rawCase is a request as bytes. KEY stands for the administrator's key.
type rawCase struct {
	name, in string
	cut      bool
	want     []string // lists of statuses, one of which must come
}

const (
	head = "Host: h\r\nx-chroma-token: KEY\r\nConnection: close\r\n"
	keep = "Host: h\r\nx-chroma-token: KEY\r\n"
)

func post(header, body string) string {
	return "POST /api/v2/tenants HTTP/1.1\r\n" + head + header + "\r\n" + body
}

// smuggled is a request that hides behind another one: it must never be done.
const smuggled = "POST /api/v2/tenants HTTP/1.1\r\n" + head + "Content-Length: 19\r\n\r\n{\"name\":\"smuggled\"}"

// rawRequests are requests that no client sends, and what hides in them.
func rawRequests() []attack {
	get := func(header string) string {
		return "GET /api/v2/auth/identity HTTP/1.1\r\n" + header + "\r\n"
	}
	cases := []rawCase{
		{"nothing wrong", get(head), false, []string{"[200]"}},
		{"HTTP/0.9", "GET /api/v2/auth/identity\r\n\r\n", false, []string{"[400]"}},
		{"HTTP/1.0", "GET /api/v2/auth/identity HTTP/1.0\r\nx-chroma-token: KEY\r\n\r\n", false, []string{"[200]"}},
		{"HTTP/1.0 with chunks", "POST /api/v2/tenants HTTP/1.0\r\n" + head + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, true, []string{"[400]"}},
		{"HTTP/9.9", "GET / HTTP/9.9\r\nHost: h\r\n\r\n", false, []string{"[505]"}},
		{"two hosts", get("Host: a\r\n" + head), false, []string{"[400]"}},
		{"no host", get("x-chroma-token: KEY\r\nConnection: close\r\n"), false, []string{"[400]"}},
		{"header of 1 MiB", get(head + "X: " + strings.Repeat("a", 1<<20) + "\r\n"), false, []string{"[431]", "[]"}},
		{"10,000 headers", get(head + strings.Repeat("X-Header: value\r\n", 10_000)), false, []string{"[431]", "[]"}},
		{"10,000 cookies", get(head + strings.Repeat("Cookie: a=b\r\n", 10_000)), false, []string{"[431]", "[]"}},
		{"a line of 1 MiB", "GET /" + strings.Repeat("a", 1<<20) + " HTTP/1.1\r\n" + head + "\r\n", false, []string{"[431]", "[]"}},
		{"folded header", get(head + "X: a\r\n b\r\n"), false, []string{"[200]", "[400]"}},
		{"folded token", get("Host: h\r\nConnection: close\r\nx-chroma-token:\r\n KEY\r\n"), false, []string{"[200]", "[400]"}},
		{"bare LF", "GET /api/v2/auth/identity HTTP/1.1\n" + strings.ReplaceAll(head, "\r", "") + "\n", false, []string{"[200]", "[400]"}},
		{"bare CR", get(head + "X: a\rx-chroma-token: KEY\r\n"), false, []string{"[400]"}},
		{"NUL in a header", get(head + "X: a\x00b\r\n"), false, []string{"[400]"}},
		{"space before a colon", get("Host: h\r\nConnection: close\r\nx-chroma-token : KEY\r\n"), false, []string{"[400]"}},
		{"header without a name", get(head + ": x\r\n"), false, []string{"[400]"}},
		{"length and chunks", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"+smuggled), false, []string{"[400]"}},
		{"chunks and length", post("Transfer-Encoding: chunked\r\nContent-Length: 500\r\n", "0\r\n\r\n"+smuggled), false, []string{"[400]"}},
		{"two lengths", post("Content-Length: 14\r\nContent-Length: 0\r\n", `{"name":"abc"}`+smuggled), false, []string{"[400]"}},
		{"a list of lengths", post("Content-Length: 0, 14\r\n", `{"name":"abc"}`+smuggled), false, []string{"[400]"}},
		{"negative length", post("Content-Length: -1\r\n", smuggled), false, []string{"[400]"}},
		{"length with a plus", post("Content-Length: +0\r\n", smuggled), false, []string{"[400]"}},
		{"length in hex", post("Content-Length: 0x0\r\n", smuggled), false, []string{"[400]"}},
		{"unknown coding", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"+smuggled), false, []string{"[501]"}},
		{"chunked twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"+smuggled), false, []string{"[400]", "[501]"}},
		{"coding with a tab", post("Transfer-Encoding:\tchunked\r\n", "0\r\n\r\n"), false, []string{"[400]"}},
		{"bad chunk", post("Transfer-Encoding: chunked\r\n", "x\r\n"+smuggled), true, []string{"[400]"}},
		{"chunk of 2^64", post("Transfer-Encoding: chunked\r\n", "10000000000000000\r\n"+smuggled), true, []string{"[400]"}},
		{"chunk that lies", post("Transfer-Encoding: chunked\r\n", "1\r\n{}\r\n0\r\n\r\n"+smuggled), true, []string{"[400]"}},
		{"chunk extensions", post("Transfer-Encoding: chunked\r\n", strings.Repeat("1;"+strings.Repeat("x", 3000)+"\r\n \r\n", 500)+"0\r\n\r\n"), true, []string{"[400]"}},
		{"trailers", post("Transfer-Encoding: chunked\r\nTrailer: X\r\n", "2\r\n{}\r\n0\r\n"+strings.Repeat("X: y\r\n", 20_000)+"\r\n"), true, []string{"[400]", "[422]", "[431]"}},
		{"a body on GET", "GET /api/v2/auth/identity HTTP/1.1\r\n" + keep + "Content-Length: " + fmt.Sprint(len(smuggled)) + "\r\n\r\n" + smuggled + get(head), false, []string{"[200]", "[200 200]"}},
		{"body after a refusal", "POST /api/v2/nothing HTTP/1.1\r\n" + keep + "Content-Length: " + fmt.Sprint(len(smuggled)) + "\r\n\r\n" + smuggled, false, []string{"[404]"}},
		{"expectation nobody knows", post("Content-Length: 2\r\nExpect: 200-ok\r\n", "{}"), false, []string{"[417]"}},
		{"upgrade to HTTP/2", get("Host: h\r\nx-chroma-token: KEY\r\nConnection: close, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"), false, []string{"[200]"}},
		{"preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + smuggled, true, []string{"[400]", "[404]", "[405]", "[505]", "[401]", "[]"}},
		{"tunnel", "CONNECT localhost:22 HTTP/1.1\r\n" + head + "\r\n", true, []string{"[404]", "[405]"}},
		{"asterisk", "OPTIONS * HTTP/1.1\r\n" + head + "\r\n", false, []string{"[404]", "[405]"}},
		{"TRACE", "TRACE /api/v2/auth/identity HTTP/1.1\r\n" + head + "\r\n", false, []string{"[405]"}},
		{"method of 64 KiB", strings.Repeat("A", 64<<10) + " / HTTP/1.1\r\n" + head + "\r\n", false, []string{"[404]", "[405]", "[431]"}},
		{"method in lower case", "get /api/v2/auth/identity HTTP/1.1\r\n" + head + "\r\n", false, []string{"[405]"}},
		{"method by a header", "GET " + "/api/v2/tenants/acme/databases/main HTTP/1.1\r\n" + head + "X-HTTP-Method-Override: DELETE\r\n\r\n", false, []string{"[200]"}},
		{"a claim of a proxy", "GET /api/v2/auth/identity HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-Forwarded-User: ada\r\nX-Remote-User: ada\r\nsourceid: ada\r\n\r\n", false, []string{"[401]"}},
		{"two tokens", get(head + "x-chroma-token: KEY\r\n"), false, []string{"[400]"}},
		{"token and authorization", get(head + "Authorization: Bearer KEY\r\n"), false, []string{"[400]"}},
	}
	var out []attack
	for _, c := range cases {
		out = append(out, attack{"request: " + c.name, strings.Join(c.want, " or "), c.run})
	}
	out = append(out, attack{"request: no credential, and a body that never comes", "401 at once", unauthorized})
	return append(out, attack{"request: what was smuggled", "none of it was done", func(t *target) error {
		if status, answer, err := t.do(t.admin, "GET", "/api/v2/tenants/smuggled", ""); err != nil || status != http.StatusNotFound {
			return fmt.Errorf("%d %s %w", status, answer, err)
		}
		return nil
	}})
}

// unauthorized announces bodies of every kind, sends none, and wants its
// refusal before any of them could have been read.
func unauthorized(t *target) error {
	for _, header := range []string{"Transfer-Encoding: chunked\r\n\r\n5\r\n{\"nam", "Content-Length: 1000\r\n\r\n", "Content-Length: 9223372036854775807\r\n\r\n"} {
		conn, err := t.dial("http/1.1")
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "POST /api/v2/tenants HTTP/1.1\r\nHost: h\r\n"+header); err != nil {
			return err
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return fmt.Errorf("%.40q: %w", header, err)
		}
		if res.StatusCode != 401 || !res.Close {
			return fmt.Errorf("%.40q: %s, and the connection is kept: %v", header, res.Status, !res.Close)
		}
	}
	return nil
}

func (c rawCase) run(t *target) error {
	statuses, last, err := t.raw(strings.ReplaceAll(c.in, "KEY", t.admin), c.cut)
	if err == nil && !slices.Contains(c.want, fmt.Sprint(statuses)) {
		err = fmt.Errorf("answers %v %.300q", statuses, last)
	}
	return err
}

// paths are ways of writing a path that could mean another one to somebody in
// front, and names that could leave the store.
func paths() []attack {
	const under = "/api/v2/tenants/"
	notThere := []string{"[404]", "[400]", "[405]"}
	var out []attack
	for _, p := range []string{
		"//api/v2/auth/identity", "/api//v2/auth/identity", "/./api/v2/auth/identity", "/api/v2/x/../auth/identity", "/api/v2/x/%2e%2e/auth/identity",
		"/api/v2/x/..;/auth/identity", "/api/v2%2fauth/identity", "/api/v2/auth%2fidentity", "/api/v2/auth/identity/", "/api/v2/auth/identity%00", "/api/v2/auth/identity;x",
		"/API/V2/AUTH/IDENTITY", `\api\v2\auth\identity`, "/api/v2/auth/identity%20", "/api/v2/auth/identity%0d%0aX:y", "/api/v2/%61uth%2Fidentity", "/%2e/api/v2/auth/identity",
		under + "..", under + "%2e%2e", under + "%2e%2e%2f%2e%2e%2fetc%2fpasswd", under + "..%5c..%5cwindows", under + "%00", under + "%c0%ae%c0%ae", under + "%ff",
		under + "acme%2fdatabases%2fmain", under + "acme%252fdatabases", under + "%e2%80%ae", under + strings.Repeat("a", 5000), under + "acme/databases/..%2f..%2fbeta",
		under + "acme/databases/main/collections/..", under + "acme/databases/main/collections/" + strings.Repeat("%00", 100), under + "acme/databases/main/collections/../../../../beta",
		"/api/v2/reset/../auth/identity", "/metrics/../admin/v1/status", "/admin/v1/status", "/debug/pprof/", "/debug/vars", "/.git/config", "/docs", "/openapi.json",
	} {
		c := rawCase{p, "GET " + p + " HTTP/1.1\r\n" + head + "\r\n", false, notThere}
		out = append(out, attack{fmt.Sprintf("path: %.36s", p), "400, 404 or 405, by one decoding", c.run})
	}
	for _, c := range []rawCase{
		{"64 KiB", "GET " + under + strings.Repeat("a", 64<<10) + " HTTP/1.1\r\n" + head + "\r\n", false, []string{"[404]", "[414]", "[431]", "[400]"}},
		{"64 KiB of dots", "GET /" + strings.Repeat("../", 20<<10) + " HTTP/1.1\r\n" + head + "\r\n", false, []string{"[404]", "[414]", "[431]", "[400]"}},
		{"absolute, of another host", "GET http://elsewhere/api/v2/auth/identity HTTP/1.1\r\n" + head + "\r\n", false, []string{"[200]", "[400]"}},
		{"absolute, of a file", "GET file:///etc/passwd HTTP/1.1\r\n" + head + "\r\n", false, notThere},
		{"no credential on what is not there", "GET /nothing HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", false, []string{"[401]"}},
		{"what is there, with dots, without a credential", "GET /api/v2/heartbeat/../reset HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", false, []string{"[401]"}},
	} {
		out = append(out, attack{"path: " + c.name, strings.Join(c.want, " or "), c.run})
	}
	return out
}
