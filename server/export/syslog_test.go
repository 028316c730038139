package export

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/chromad/chromad/internal/outbound"
	"github.com/chromad/chromad/server/audit"
)

var header = regexp.MustCompile(`^<(0|[1-9][0-9]{0,2})>1 ([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{1,6}Z) ([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) `)

// parsed is a message as a strict reader of RFC 5424, section 6, understands it.
type parsed struct {
	priority                            int
	time                                time.Time
	host, program, pid, id, sdID, words string
	params                              map[string]string
}

func parseSyslog(line string) (p parsed, err error) {
	m := header.FindStringSubmatch(line)
	if m == nil {
		return p, fmt.Errorf("no header in %q", line)
	}
	p.priority, _ = strconv.Atoi(m[1])
	if p.priority > 191 {
		return p, errors.New("priority")
	}
	if p.time, err = time.Parse(time.RFC3339Nano, m[2]); err != nil {
		return p, err
	}
	p.host, p.program, p.pid, p.id = m[3], m[4], m[5], m[6]
	rest, ok := strings.CutPrefix(line[len(m[0]):], "[")
	if !ok {
		return p, errors.New("no structured data")
	}
	end := strings.IndexAny(rest, " ]")
	if end < 1 || strings.ContainsAny(rest[:end], "=\"") || !strings.Contains(rest[:end], "@") {
		return p, fmt.Errorf("SD-ID in %q", rest)
	}
	p.sdID, rest, p.params = rest[:end], rest[end:], map[string]string{}
	for strings.HasPrefix(rest, " ") {
		name, after, ok := strings.Cut(rest[1:], `="`)
		if !ok || name == "" || len(name) > 32 || strings.ContainsAny(name, " =]\"") {
			return p, fmt.Errorf("PARAM-NAME in %q", rest)
		}
		var value strings.Builder
		for i := 0; ; i++ {
			if i >= len(after) {
				return p, errors.New("a value without an end")
			}
			c := after[i]
			if c == '\\' && i+1 < len(after) && strings.IndexByte(`"\]`, after[i+1]) >= 0 {
				i++
				value.WriteByte(after[i])
				continue
			}
			if c == '"' {
				rest = after[i+1:]
				break
			}
			if c == ']' || c < ' ' || c == 0x7f {
				return p, fmt.Errorf("a bare %q in a value", c)
			}
			value.WriteByte(c)
		}
		if _, twice := p.params[name]; twice || !utf8.ValidString(value.String()) {
			return p, errors.New("a name twice, or not UTF-8")
		}
		p.params[name] = value.String()
	}
	if p.words, ok = strings.CutPrefix(rest, "] "); !ok {
		return p, fmt.Errorf("no end of structured data in %q", rest)
	}
	for _, r := range p.words {
		if r < ' ' || r >= 0x7f { // beyond ASCII it would need a byte order mark
			return p, fmt.Errorf("MSG %q", p.words)
		}
	}
	return p, nil
}

var me = Identity{Host: "host.example.org", PID: 42, Version: "v"}

// hostile is an event whose texts try to end the value, the line and the frame.
func hostile() audit.Event {
	e := event(7)
	e.Principal, e.Collection, e.Tenant, e.Request = `a"b]c\d`, "x\r\n<0>1 - - - - - -\x00", strings.Repeat("ä", 300), "\xff\xfe"
	return e
}

func checkHostile(t *testing.T, line string) {
	t.Helper()
	p, err := parseSyslog(line)
	if err != nil {
		t.Fatal(err)
	}
	if p.priority != 10*8+6 || !p.time.Equal(time.Unix(1e9, 0)) || p.host != me.Host || p.program != "chromad" || p.pid != "42" || p.id != "access" ||
		p.sdID != "event@32473" || p.words != "allowed collection:get" || p.params["principal"] != `a"b]c\d` || p.params["rows"] != "7" ||
		p.params["collection"] != "x��<0>1 - - - - - -�" || p.params["tenant"] != strings.Repeat("ä", 128)+"…" || p.params["request"] != "��" {
		t.Errorf("%+v", p)
	}
}

// frame reads one message by its length (RFC 5425, section 4.3).
func frame(r *bufio.Reader) (string, error) {
	digits, err := r.ReadString(' ')
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(digits, " "))
	if err != nil || n < 1 || n > 1<<16 || digits[0] == '0' {
		return "", fmt.Errorf("MSG-LEN %q", digits)
	}
	b := make([]byte, n) // at most 64 KiB
	_, err = io.ReadFull(r, b)
	return string(b), err
}

func messages(t *testing.T, events ...audit.Event) (out []Message) {
	t.Helper()
	for _, e := range events {
		m, err := FromEvent(e)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

func mustSend(t *testing.T, s Sender, batch []Message) {
	t.Helper()
	if err := s.Send(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
}

// accept is one connection's reader.
func accept(t *testing.T, l net.Listener) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, bufio.NewReader(c)
}

func TestSyslogPackets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for _, network := range []string{"udp", "unixgram"} {
		at := "127.0.0.1:0"
		if network == "unixgram" {
			at = path
		}
		l, err := net.ListenPacket(network, at)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		address := "udp://" + l.LocalAddr().String()
		if network == "unixgram" {
			address = "unix://" + path
		}
		s, err := NewSyslog(nil, Syslog{Address: address, Identity: me})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		mustSend(t, s, messages(t, hostile(), hostile()))
		for range 2 {
			b := make([]byte, 1<<16)
			n, _, err := l.ReadFrom(b)
			if err != nil {
				t.Fatal(err)
			}
			checkHostile(t, string(b[:n]))
		}
	}
}

func TestSyslogStreams(t *testing.T) {
	certs := httptest.NewTLSServer(nil)
	defer certs.Close()
	trusted := x509.NewCertPool()
	trusted.AddCert(certs.Certificate())
	path := filepath.Join(t.TempDir(), "log")
	for _, c := range []struct {
		name, network, at string
		tls, lines        bool
	}{
		{"tcp", "tcp", "127.0.0.1:0", false, false},
		{"tcp lines", "tcp", "127.0.0.1:0", false, true},
		{"tls", "tcp", "127.0.0.1:0", true, false},
		{"unix", "unix", path, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := net.Listen(c.network, c.at)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { l.Close() }()
			address := strings.Fields(c.name)[0] + "://" + l.Addr().String()
			o := Syslog{Address: address, Identity: me, Lines: c.lines}
			if c.tls {
				l = tls.NewListener(l, &tls.Config{Certificates: certs.TLS.Certificates, MinVersion: tls.VersionTLS12})
				o.TLS = &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}
			}
			s, err := NewSyslog(nil, o)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			read := func(r *bufio.Reader) string {
				t.Helper()
				var text string
				var err error
				if c.lines {
					text, err = r.ReadString('\n')
					text = strings.TrimSuffix(text, "\n")
				} else {
					text, err = frame(r)
				}
				if err != nil {
					t.Fatal(err)
				}
				return text
			}
			sent := make(chan error)
			go func() { sent <- s.Send(t.Context(), messages(t, hostile(), hostile())) }()
			conn, r := accept(t, l)
			checkHostile(t, read(r))
			checkHostile(t, read(r))
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
			// The server ends the connection, as when it is restarted.
			conn.Close()
			for !s.(*syslog).ended.Load() {
				time.Sleep(time.Millisecond)
			}
			go func() { sent <- s.Send(t.Context(), messages(t, hostile())) }()
			_, r = accept(t, l)
			checkHostile(t, read(r))
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Who is not who the certificate should name gets nothing.
func TestSyslogUntrusted(t *testing.T) {
	certs := httptest.NewTLSServer(nil)
	defer certs.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certs.TLS.Certificates, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b, _ := io.ReadAll(c)
		got <- string(b)
	}()
	s, err := NewSyslog(nil, Syslog{Address: "tls://" + l.Addr().String(), Identity: me})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Send(t.Context(), messages(t, event(1)))
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
		t.Errorf("%v, %v", e, err)
	}
	s.Close()
	if text := <-got; text != "" {
		t.Errorf("it got %q", text)
	}
}

func TestSyslogSettings(t *testing.T) {
	for address, ok := range map[string]bool{
		"udp://h": true, "tcp://h:1": true, "tls://[::1]:6514": true, "unix:///dev/log": true, "tls://h/": true,
		"": false, "h:514": false, "http://h": false, "udp://": false, "unix://dev/log": false, "tcp://u@h": false, "tcp://h/x": false, "tcp://h?x=1": false, "tcp://h:x": false,
	} {
		if _, err := NewSyslog(nil, Syslog{Address: address}); (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
	}
	if _, err := NewSyslog(nil, Syslog{Address: "udp://h", Facility: "local8"}); err == nil {
		t.Error("facility local8")
	}
	var seen []string
	s, err := NewSyslog(outbound.New(func(a outbound.Attempt) { seen = append(seen, a.Place) }), Syslog{Address: "tcp://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	if s.Send(t.Context(), messages(t, event(1))) == nil || len(seen) != 1 || seen[0] != "127.0.0.1:1" {
		t.Errorf("connected to %q", seen)
	}
}

// Whatever names are sent, what comes out is one message with these values.
func FuzzSyslog(f *testing.F) {
	f.Add("ada", "127.0.0.1", "docs")
	f.Add(`"]\`, "\n", "\xc3")
	f.Fuzz(func(t *testing.T, principal, address, collection string) {
		e := event(1)
		e.Principal, e.Address, e.Collection = principal, address, collection
		m := messages(t, e)[0]
		line := string(appendSyslog(nil, &m, 13, me))
		p, err := parseSyslog(line)
		if err != nil || len(p.params) < 4 || p.params["action"] != "collection:get" || p.words != "allowed collection:get" {
			t.Fatalf("%q: %+v, %v", line, p, err)
		}
		plain := !strings.ContainsFunc(principal, func(r rune) bool { return r < ' ' || r >= 0x7f })
		if plain && len(principal) <= maxParameter && p.params["principal"] != principal {
			t.Fatalf("%q became %q", principal, p.params["principal"])
		}
	})
}
