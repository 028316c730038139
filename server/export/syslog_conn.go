package export

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/chromad/chromad/internal/outbound"
)

// Syslog says where a syslog server listens.
type Syslog struct {
	Address  string // udp://HOST:514, tcp://HOST:514, tls://HOST:6514, unix:///dev/log
	Facility string // authpriv
	Lines    bool   // over TCP and TLS, a line feed ends a message, instead of its length before it
	TLS      *tls.Config
	Identity Identity
}

// syslog is a Sender over one connection, which is made anew when it ends.
type syslog struct {
	Syslog
	way      *outbound.Way
	scheme   string
	address  string
	facility int

	conn   net.Conn
	stream bool         // messages need frames
	ended  *atomic.Bool // the other side has closed the connection
}

// usualPorts are those of RFC 5426, of custom, and of RFC 5425.
var usualPorts = map[string]string{"udp": "514", "tcp": "514", "tls": "6514"}

// NewSyslog makes a sender to a syslog server. Nothing is connected yet.
func NewSyslog(d *outbound.Dialer, c Syslog) (Sender, error) {
	u, err := url.Parse(c.Address)
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("address: udp://HOST:PORT, tcp://…, tls://… or unix:///dev/log")
	}
	s := &syslog{Syslog: c, scheme: u.Scheme}
	var place string
	switch port := usualPorts[u.Scheme]; {
	case u.Scheme == "unix" && u.Host == "" && u.Path != "":
		s.address, place = u.Path, "unix:"+u.Path
	case port != "" && u.Hostname() != "" && (u.Path == "" || u.Path == "/"):
		if u.Port() != "" {
			port = u.Port()
		}
		s.address = net.JoinHostPort(u.Hostname(), port)
		place = s.address
	default:
		return nil, fmt.Errorf("address %q: udp://HOST:PORT, tcp://…, tls://… or unix:///dev/log", c.Address)
	}
	if c.Facility == "" {
		c.Facility = "authpriv"
	}
	known := false
	if s.facility, known = facilities[c.Facility]; !known {
		return nil, fmt.Errorf("facility %q: auth, authpriv, audit, daemon, user, local0 to local7", c.Facility)
	}
	if s.TLS == nil {
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if s.TLS.ServerName == "" {
		s.TLS = s.TLS.Clone()
		s.TLS.ServerName = u.Hostname()
	}
	s.way, err = d.Way("syslog", place)
	return s, err
}

// connect makes a connection if there is none that lives.
func (s *syslog) connect(ctx context.Context) error {
	if s.conn != nil && !s.ended.Load() {
		return nil
	}
	s.drop()
	conn, stream, err := s.dial(ctx)
	if err != nil {
		return err
	}
	s.conn, s.stream, s.ended = conn, stream, new(atomic.Bool)
	if stream {
		go watchEnd(conn, s.ended)
	}
	return nil
}

func (s *syslog) dial(ctx context.Context) (conn net.Conn, stream bool, err error) {
	switch s.scheme {
	case "udp":
		conn, err = s.way.DialContext(ctx, "udp", s.address)
		return conn, false, err
	case "unix":
		if conn, err = s.way.DialContext(ctx, "unixgram", s.address); err == nil {
			return conn, false, nil
		}
		conn, err = s.way.DialContext(ctx, "unix", s.address)
		return conn, true, err
	}
	if conn, err = s.way.DialContext(ctx, "tcp", s.address); err != nil || s.scheme == "tcp" {
		return conn, true, err
	}
	t := tls.Client(conn, s.TLS)
	limited, cancel := context.WithTimeout(ctx, syslogTimeout)
	defer cancel()
	if err := t.HandshakeContext(limited); err != nil {
		return nil, false, errors.Join(err, conn.Close())
	}
	return t, true, nil
}

// watchEnd notices that the other side has ended: the first write after that
// would succeed, and its messages be lost. Servers of syslog send nothing.
func watchEnd(conn net.Conn, ended *atomic.Bool) {
	var b [256]byte
	for {
		if _, err := conn.Read(b[:]); err != nil {
			ended.Store(true)
			return
		}
	}
}

func (s *syslog) drop() {
	if s.conn != nil {
		_ = s.conn.Close() // it is of no use any more, whatever it says
		s.conn = nil
	}
}

// Send writes a batch: in one piece where the messages have frames, else one
// packet for each.
func (s *syslog) Send(ctx context.Context, batch []Message) error {
	if err := s.connect(ctx); err != nil {
		return err
	}
	deadline := time.Now().Add(syslogTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := s.conn.SetWriteDeadline(deadline); err != nil {
		s.drop()
		return err
	}
	var all, one []byte
	for i := range batch {
		one = appendSyslog(one[:0], &batch[i], s.facility, s.Identity)
		switch {
		case !s.stream:
			if _, err := s.conn.Write(one); err != nil {
				s.drop()
				return err
			}
		case s.Lines || s.scheme == "unix":
			all = append(append(all, one...), '\n')
		default: // octet counting: RFC 5425, section 4.3, and RFC 6587, section 3.4.1
			all = strconv.AppendInt(all, int64(len(one)), 10)
			all = append(append(all, ' '), one...)
		}
	}
	if len(all) == 0 {
		return nil
	}
	if _, err := s.conn.Write(all); err != nil {
		s.drop()
		return err
	}
	return nil
}

// Close ends the connection.
func (s *syslog) Close() error {
	if s.conn == nil {
		return nil
	}
	err := s.conn.Close()
	s.conn = nil
	return err
}
