package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// handshakes are attacks below HTTP.
func handshakes() []attack {
	var out []attack
	for name, version := range map[string]uint16{"1.0": tls.VersionTLS10, "1.1": tls.VersionTLS11, "1.2": tls.VersionTLS12} {
		out = append(out, attack{"TLS: version " + name, "no connection", func(t *target) error {
			c := t.tls()
			c.MinVersion, c.MaxVersion = version, version
			conn, err := tls.Dial("tcp", t.address, c)
			if err == nil {
				conn.Close()
				return errors.New("a connection came about")
			}
			return nil
		}})
	}
	hello := "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
	for _, c := range []struct{ name, in string }{
		{"in the clear", "GET /api/v2/auth/identity HTTP/1.1\r\nHost: h\r\n\r\n"},
		{"preface of HTTP/2 in the clear", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
		{"garbage", strings.Repeat("\x00\xff\x13\x37", 10_000)},
		{"hello of SSL 2", "\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + strings.Repeat("\x01", 60)},
		{"hello of garbage", hello + strings.Repeat("\xff", 501)},
		{"record of 64 KiB", "\x16\x03\x01\xff\xff" + strings.Repeat("x", 65535)},
		{"message of 16 MiB", "\x16\x03\x01\x00\x04\x01\xff\xff\xff" + strings.Repeat("\x16\x03\x01\x40\x00"+strings.Repeat("x", 16384), 20)},
		{"empty records", strings.Repeat("\x16\x03\x01\x00\x00", 10_000)},
		{"warnings", strings.Repeat("\x15\x03\x01\x00\x02\x01\x5a", 10_000)},
		{"data before the handshake", "\x17\x03\x03\x00\x05hello"},
		{"heartbeat that lies", "\x18\x03\x02\x00\x03\x01\x40\x00"},
	} {
		out = append(out, attack{"TLS: " + c.name, "the connection ends, without data", func(t *target) error { return t.belowTLS(c.in) }})
	}
	return append(out,
		attack{"TLS: protocol that nobody speaks", "no connection", func(t *target) error {
			conn, err := t.dial("spdy/3")
			if err == nil {
				conn.Close()
				return errors.New("a connection came about")
			}
			return nil
		}},
		attack{"TLS: 2,000 handshakes", "all are served or closed", manyHandshakes})
}

// belowTLS sends bytes on a bare connection.
func (t *target) belowTLS(in string) error {
	conn, err := net.Dial("tcp", t.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	go io.WriteString(conn, in)
	answer, err := io.ReadAll(io.LimitReader(conn, 1<<20))
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return fmt.Errorf("the connection is still open after %s", patience)
	}
	if len(answer) > 1000 || strings.Contains(string(answer), "200 OK") {
		return fmt.Errorf("answer %.200q", answer)
	}
	return nil
}

func manyHandshakes(t *target) error {
	var wg sync.WaitGroup
	n := 2000
	for range 8 {
		wg.Go(func() {
			for range n / 8 {
				conn, err := t.dial("http/1.1")
				if err == nil {
					conn.Close()
				}
			}
		})
	}
	wg.Wait()
	return nil
}
