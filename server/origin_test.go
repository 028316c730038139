package server

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/chromad/chromad/server/access"
	"github.com/chromad/chromad/server/audit"
)

// asked sends a request that came to a local address under a name.
func (r *rig) asked(local, host string, change func(*http.Request)) int {
	r.t.Helper()
	req := httptest.NewRequest("GET", "/api/v2/tenants/default_tenant", nil)
	req = req.WithContext(context.WithValue(req.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.ParseIP(local), Port: 8000})))
	req.Host = host
	if change != nil {
		change(req)
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w.Code
}

// A page whose name leads to loopback is of the server's origin to its browser.
// While there are no users, only names that are nobody's domain are answered.
func TestRebinding(t *testing.T) {
	r := newRig(t, Config{CORSOrigins: []string{"http://Friend:3000", "https://[2001:db8::1]", "not an origin %zz"}}, nil)
	r.config.Audit = audit.New(r.db, audit.Defaults())
	for host, want := range map[string]int{
		"localhost": 200, "localhost:8000": 200, "LocalHost:8000": 200, "localhost.:8000": 200, "app.localhost:8000": 200, "": 200,
		"127.0.0.1": 200, "127.0.0.1:8000": 200, "192.0.2.7:8000": 200, "[::1]": 200, "[::1]:8000": 200, "[fe80::1%25eth0]:8000": 200,
		"friend": 200, "friend:8000": 200, "FRIEND": 200,
		"evil.example": 403, "evil.example:8000": 403, "localhost.evil.example": 403, "evillocalhost": 403, "127.0.0.1.evil.example": 403, "localhost@evil.example": 403,
		"friend.evil.example": 403, "chromad:8000": 403, "2130706433": 403, "evil.example:": 403, ":8000": 200,
	} {
		for _, local := range []string{"127.0.0.1", "127.0.1.1", "::1", "::ffff:127.0.0.1"} {
			if got := r.asked(local, host, nil); got != want {
				t.Errorf("%q at %s: %d, want %d", host, local, got, want)
			}
		}
		if got := r.asked("192.0.2.1", host, nil); got != 200 {
			t.Errorf("%q from another machine: %d", host, got)
		}
	}
	for name, change := range map[string]func(*http.Request){
		"TLS":                    func(q *http.Request) { q.TLS = &tls.ConnectionState{} },
		"a page that is allowed": func(q *http.Request) { q.Header.Set("Origin", "http://Friend:3000") },
	} {
		if got := r.asked("127.0.0.1", "evil.example", change); got != 200 {
			t.Errorf("%s: %d", name, got)
		}
	}
	if lines, _ := r.lines(0); len(lines) == 0 || lines[0] != "decision tenant:get_tenant denied 403 @  0 other host" {
		t.Errorf("audit log: %q", lines)
	}
	if got := newRig(t, Config{CORSOrigins: []string{"*"}}, nil).asked("127.0.0.1", "evil.example", nil); got != 200 {
		t.Errorf("with every page allowed: %d", got)
	}
	k, secret, err := access.NewKey("", time.Unix(1, 0), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	r.keep(access.Outside{}, &access.Policy{Version: 1, Users: []access.User{{Name: "ada", Keys: []access.Key{k}, Roles: []access.Binding{{Role: "admin"}}}}})
	for key, want := range map[string]int{secret: 200, "": 401} {
		if got := r.asked("127.0.0.1", "chroma.example:8000", func(q *http.Request) { q.Header.Set("X-Chroma-Token", key) }); got != want {
			t.Errorf("with users, key %v: %d", key != "", got)
		}
	}
}
