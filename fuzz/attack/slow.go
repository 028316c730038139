package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// slowClients are connections that stop in the middle. They are opened before
// all other attacks and looked at last.
type slowClients struct {
	wg   sync.WaitGroup
	open atomic.Int64
	err  atomic.Pointer[error]
}

const (
	headerTimeout = 10 * time.Second // docs/operations.md, limits
	bodyTimeout   = 60 * time.Second
	idleTimeout   = 2 * time.Minute
	slack         = 15 * time.Second // the machine is busy with other attacks
)

// startSlow opens connections of every kind and returns the attack that wants
// them closed.
func startSlow(t *target, long bool) attack {
	s := &slowClients{}
	n := 50
	for range n {
		s.add(t, "", "", headerTimeout)                                                      // says nothing, not even hello
		s.add(t, "", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", headerTimeout)          // half a hello
		s.add(t, "http/1.1", "", headerTimeout)                                              // no request
		s.add(t, "http/1.1", "GET /api/v2/version HTTP/1.1\r\nHost: h\r\nX-", headerTimeout) // and a byte now and then
	}
	if long {
		for range n {
			s.add(t, "http/1.1", "POST /api/v2/tenants HTTP/1.1\r\nHost: h\r\nx-chroma-token: "+t.admin+"\r\nContent-Length: 100000\r\n\r\n{\"name\":\"", bodyTimeout)
			s.add(t, "h2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", idleTimeout)
		}
	}
	get := "POST " + t.large + "/get HTTP/1.1\r\nHost: h\r\nx-chroma-token: " + t.admin + "\r\nContent-Length: 2\r\n\r\n{}"
	var readers []net.Conn
	for range n {
		if conn, err := t.dial("http/1.1"); err == nil { // asks for 25 MiB and takes none of it
			go io.WriteString(conn, strings.Repeat(get, 100))
			readers = append(readers, conn)
		}
	}
	expect := "all of them are closed in time, and answers that nobody reads do not pile up"
	return attack{fmt.Sprintf("slow: %d clients", s.open.Load()+int64(len(readers))), expect, func(*target) error {
		s.wg.Wait()
		for _, conn := range readers {
			conn.Close()
		}
		if err := s.err.Load(); err != nil {
			return *err
		}
		return nil
	}}
}

// add opens a connection, with TLS where there is a protocol, says in, then a
// byte every two seconds, and wants the server to end it.
func (s *slowClients) add(t *target, protocol, in string, after time.Duration) {
	var conn net.Conn
	var err error
	if protocol == "" {
		conn, err = net.Dial("tcp", t.address)
	} else {
		conn, err = t.dial(protocol)
	}
	if err != nil {
		s.fail(err)
		return
	}
	s.open.Add(1)
	conn.SetDeadline(time.Now().Add(after + slack))
	s.wg.Go(func() {
		defer conn.Close()
		gone := make(chan struct{})
		go func() {
			io.WriteString(conn, in)
			for protocol == "http/1.1" && in != "" {
				select {
				case <-gone:
					return
				case <-time.After(2 * time.Second):
					io.WriteString(conn, "a")
				}
			}
		}()
		_, err := io.Copy(io.Discard, conn)
		close(gone)
		if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
			s.fail(fmt.Errorf("%q is still connected after %s", in, after+slack))
		}
	})
}

func (s *slowClients) fail(err error) { s.err.CompareAndSwap(nil, &err) }
