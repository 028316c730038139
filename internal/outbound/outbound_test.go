package outbound

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// seen writes attempts down.
type seen []string

func (s *seen) watch(a Attempt) {
	*s = append(*s, fmt.Sprintf("%s %s refused=%t", a.Purpose, a.Place, a.Refused))
}

func way(t *testing.T, d *Dialer, places ...string) *Way {
	t.Helper()
	w, err := d.Way("test", places...)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestPlaces(t *testing.T) {
	for in, want := range map[string]string{
		"Example.ORG.:443": "example.org:443", "[::1]:080": "[::1]:80", "[::ffff:127.0.0.1]:80": "127.0.0.1:80",
		"unix:/dev/log": "unix:/dev/log", "127.0.0.1:65535": "127.0.0.1:65535",
		"example.org": "", "example.org:": "", ":443": "", "example.org:https": "", "a:0": "", "a:65536": "", "*:443": "", "user@a:443": "", "a/b:443": "", "unix:": "",
	} {
		got, err := parse(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
}

// Only named places are connected to, whatever points elsewhere.
func TestNamedOnly(t *testing.T) {
	here := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if to := r.URL.Query().Get("to"); to != "" {
			http.Redirect(w, r, to, http.StatusTemporaryRedirect)
			return
		}
		io.WriteString(w, "here")
	}))
	defer here.Close()
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("somebody came who should not") }))
	defer other.Close()
	place, elsewhere := strings.TrimPrefix(here.URL, "http://"), strings.TrimPrefix(other.URL, "http://")
	t.Setenv("HTTP_PROXY", other.URL)
	t.Setenv("HTTPS_PROXY", other.URL)
	t.Setenv("ALL_PROXY", other.URL)

	var s seen
	w := way(t, New(s.watch), place)
	c := w.Client(Client{})
	res, err := c.Get(here.URL)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(res.Body); err != nil || string(text) != "here" {
		t.Errorf("%q, %v", text, err)
	}
	res.Body.Close()
	for _, c := range []*http.Client{c, {Transport: c.Transport}} { // the second follows redirects
		if _, err := c.Get(other.URL); !errors.Is(err, ErrRefused) {
			t.Errorf("another place: %v", err)
		}
		if _, err := c.Get(here.URL + "?to=" + other.URL); err == nil {
			t.Error("a redirect to another place was followed")
		}
	}
	if _, err := w.DialContext(t.Context(), "tcp", elsewhere); !errors.Is(err, ErrRefused) {
		t.Errorf("dial: %v", err)
	}
	if _, err := w.DialContext(t.Context(), "unix", "/dev/log"); !errors.Is(err, ErrRefused) {
		t.Errorf("socket: %v", err)
	}
	refused := "test " + elsewhere + " refused=true"
	want := []string{"test " + place + " refused=false", refused, refused, refused, refused, "test unix:/dev/log refused=true"}
	if !slices.Equal(s, want) {
		t.Errorf("watched\n%s\nwant\n%s", strings.Join(s, "\n"), strings.Join(want, "\n"))
	}
}

// A proxy that is configured carries what is named, and nothing else.
func TestProxy(t *testing.T) {
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked = append(asked, r.Method+" "+r.URL.String()) }))
	defer proxy.Close()
	var s seen
	w := way(t, New(s.watch), "kms.test:80")
	if err := w.Proxy(proxy.URL); err != nil {
		t.Fatal(err)
	}
	c := w.Client(Client{})
	res, err := c.Get("http://kms.test/x")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	for _, u := range []string{"http://other.test/", proxy.URL, "http://169.254.169.254/"} {
		if _, err := c.Get(u); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", u, err)
		}
	}
	if !slices.Equal(asked, []string{"GET http://kms.test/x"}) {
		t.Errorf("the proxy was asked for %q", asked)
	}
	for _, bad := range []string{"", "proxy:3128", "socks5://a:1", "http://a/path", "http://:80"} {
		if w.Proxy(bad) == nil {
			t.Errorf("%q is taken for a proxy", bad)
		}
	}
}

func TestAnswerBounded(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/header" {
			w.Header().Set("X", strings.Repeat("x", 2*maxHeader))
		}
		w.Write(make([]byte, 1001))
	}))
	defer s.Close()
	place := strings.TrimPrefix(s.URL, "http://")
	for most, ok := range map[int64]bool{1000: false, 1001: true} {
		res, err := way(t, nil, place).Client(Client{Answer: most}).Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(res.Body); (err == nil) != ok {
			t.Errorf("most %d: %v", most, err)
		}
		res.Body.Close()
	}
	if _, err := way(t, nil, place).Client(Client{}).Get(s.URL + "/header"); err == nil {
		t.Error("a header of any length is read")
	}
}

func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := way(t, nil, "unix:"+path).DialContext(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestContext(t *testing.T) {
	if From(t.Context()) != nil {
		t.Error("a dialer from nowhere")
	}
	if d := New(nil); From(With(t.Context(), d)) != d {
		t.Error("another dialer")
	}
}
