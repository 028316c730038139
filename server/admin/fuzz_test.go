package admin_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/engine/keys"
	"github.com/chromad/chromad/server/access"
	"github.com/chromad/chromad/server/admin"
	"github.com/chromad/chromad/server/audit"
	"github.com/chromad/chromad/server/privacy"
)

// routes are the requests without a body.
var routes = []string{
	"GET status", "HEAD status", "GET keys", "HEAD keys", "POST keys/rotate", "POST compact", "POST erase", "GET receipts", "HEAD receipts",
	"GET access", "HEAD access", "GET retention", "HEAD retention", "GET privacy", "HEAD privacy",
}

// commands are those with one, which may be right or wrong, and what can be done
// only so often.
var commands = []string{"POST access", "POST retention", "POST privacy", "POST privacy/reveal", "POST privacy/rotate", "POST audit", "POST audit/verify"}

// FuzzAdmin sends requests to the administrator of an encrypted store. Only
// the requests that are known, in their one form, are done; everything else is
// refused and changes nothing. No answer shows a key.
func FuzzAdmin(f *testing.F) {
	file := filepath.Join(f.TempDir(), "key")
	if err := keys.CreateFile(file); err != nil {
		f.Fatal(err)
	}
	op, err := keys.OpenFile(file)
	if err != nil {
		f.Fatal(err)
	}
	db, err := engine.Open(filepath.Join(f.TempDir(), "store"), &engine.Options{Keys: op})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { db.Close() })
	keeper, err := access.Open(f.Context(), db, access.Outside{})
	if err != nil {
		f.Fatal(err)
	}
	kept, err := privacy.Open(f.Context(), db)
	if err != nil {
		f.Fatal(err)
	}
	a := admin.New(f.Context(), db, keeper, admin.Status{}, nil)
	a.Keep(kept)
	a.Record(audit.New(db, audit.Defaults()), db)
	for _, r := range routes {
		method, path, _ := strings.Cut(r, " ")
		f.Add(method, "/admin/v1/"+path, "")
		f.Add("PUT", "/admin/v1/"+path+"?force=1", "{}")
		f.Add(method, "/admin/v1/./"+path+"/", "")
		f.Add("POST", "//admin/v1/%6beys/rotate", "")
	}
	for _, r := range commands {
		method, path, _ := strings.Cut(r, " ")
		for _, body := range []string{"", "{}", `{"tail":1}`, `{"act":"add-user","user":"ada"}`, `{"do":"hold","collection":"docs","reason":"x"}`, `{"pseudonyms":["x"]}`, `[`} {
			f.Add(method, "/admin/v1/"+path, body)
		}
	}
	f.Fuzz(func(t *testing.T, method, target, body string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || method == "" || strings.ContainsFunc(method, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return // net/http lets none of these through
		}
		r := httptest.NewRequest("GET", "/", strings.NewReader(body))
		r.Method, r.URL, r.RequestURI = method, u, target
		rest, ours := strings.CutPrefix(u.Path, "/admin/v1/")
		known := ours && slices.Contains(routes, method+" "+rest) && u.RawQuery == "" && body == ""
		before := keysOf(t, db)
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		command := ours && slices.Contains(commands, method+" "+rest) && u.RawQuery == ""
		if (w.Code == http.StatusOK) != known && !command || w.Code >= 500 {
			t.Fatalf("%s %q %q: %d %s", method, target, body, w.Code, w.Body)
		}
		if after := keysOf(t, db); (after != before) != (known && rest == "keys/rotate") {
			t.Fatalf("%s %q: keys were %s and are %s", method, target, before, after)
		}
		lines := bufio.NewScanner(w.Body)
		for known && lines.Scan() {
			if !json.Valid(lines.Bytes()) {
				t.Fatalf("%s %q: %q is not JSON", method, target, lines.Text())
			}
		}
	})
}

func keysOf(t *testing.T, db *engine.DB) string {
	t.Helper()
	info, err := db.KeyInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(admin.KeysOf(info))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// FuzzClient answers the client with any bytes. It ends, it says that work is
// done only when it was told so, and it passes on no more than was said.
func FuzzClient(f *testing.F) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: "
	f.Add([]byte(ok + "49\r\n\r\n{\"event\":\"began\",\"joined\":true}\n{\"event\":\"done\"}\n"))
	f.Add([]byte(ok + "36\r\n\r\n{\"event\":\"error\",\"error\":\"disk full\"}\n"))
	f.Add([]byte(ok + "20\r\n\r\n{\"event\":\"progress\"}"))
	f.Add([]byte("HTTP/1.1 409 Conflict\r\nContent-Length: 15\r\n\r\n{\"error\":\"plain\"}"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11\r\n{\"event\":\"done\"}\n\r\n0\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 301 Moved\r\nLocation: /x\r\n\r\n"))
	f.Add([]byte(ok + "9\r\n\r\n{\"pid\":1}"))
	f.Fuzz(func(t *testing.T, said []byte) {
		c := admin.NewClient(func(context.Context) (net.Conn, error) {
			here, there := net.Pipe()
			go func() {
				defer there.Close()
				if r, err := http.ReadRequest(bufio.NewReader(there)); err == nil {
					_ = r.Body.Close()
					_, _ = there.Write(said) // the client may have left
				}
			}()
			return here, nil
		})
		told := 0
		err := c.Compact(t.Context(), func(admin.Line) { told++ })
		if err == nil && !bytes.Contains(said, []byte("done")) && !bytes.Contains(said, []byte(`\u`)) {
			t.Errorf("%q: done", said)
		}
		if lines := bytes.Count(said, []byte("{")); told > lines {
			t.Errorf("%d lines were told of %d", told, lines)
		}
		if err := c.RotateKeys(t.Context(), nil); err == nil != (c.Compact(t.Context(), nil) == nil) {
			t.Errorf("%q means different things: %v", said, err)
		}
		if _, err := c.Status(t.Context()); err == nil && !bytes.Contains(said, []byte(" 200")) {
			t.Errorf("%q is a status", said)
		}
		_, _ = c.Keys(t.Context())
	})
}
