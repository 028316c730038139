package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

// Client says what a client of Way.Client does not do by itself.
type Client struct {
	TLS     *tls.Config   // nil: the system's authorities, TLS 1.2 and later
	Timeout time.Duration // of a request with its answer; 0: ten seconds
	Answer  int64         // most bytes of an answer's body; 0: 1 MiB
}

const (
	requestTimeout = 10 * time.Second
	maxAnswer      = 1 << 20
	maxHeader      = 64 << 10
)

// errRedirect: whoever is at the other end of a redirect was not named, and would
// get what was meant for somebody else.
var errRedirect = errors.New("a redirect, which is not followed")

// Client makes an HTTP client that reaches the named places, follows no
// redirect, and reads no more than it was told to.
func (w *Way) Client(c Client) *http.Client {
	t := &http.Transport{TLSClientConfig: c.TLS, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true}
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	w.Guard(t)
	if c.Timeout <= 0 {
		c.Timeout = requestTimeout
	}
	if c.Answer <= 0 {
		c.Answer = maxAnswer
	}
	return &http.Client{
		Timeout: c.Timeout, Transport: &bounded{t, c.Answer},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errRedirect },
	}
}

// Guard makes a transport, which may be a library's, reach the named places
// only. Requests are looked at as well as connections: with a proxy, all
// connections look alike.
func (w *Way) Guard(t *http.Transport) {
	t.DialContext, t.DialTLSContext = w.DialContext, nil
	t.Proxy = func(r *http.Request) (*url.URL, error) {
		place, err := PlaceOf(r.URL)
		if err != nil {
			return nil, err
		}
		if err := w.may(place, false); err != nil {
			return nil, err
		}
		return w.through(r.URL), nil
	}
	if t.TLSHandshakeTimeout == 0 || t.TLSHandshakeTimeout > dialTimeout {
		t.TLSHandshakeTimeout = dialTimeout
	}
	if t.ResponseHeaderTimeout == 0 {
		t.ResponseHeaderTimeout = 3 * requestTimeout
	}
	if t.MaxResponseHeaderBytes == 0 || t.MaxResponseHeaderBytes > maxHeader {
		t.MaxResponseHeaderBytes = maxHeader
	}
}

// Proxy sends what follows by way of an HTTP proxy, "http://host:port" or https.
// What is on this machine or its link (loopback, metadata services of clouds) is
// asked directly.
func (w *Way) Proxy(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" && u.Path != "/" || u.RawQuery != "" {
		return errors.New("proxy: http://HOST:PORT, or https") // it may hold a password
	}
	if _, err := PlaceOf(u); err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.proxy = u
	return nil
}

// through is the proxy for a URL, if there is one.
func (w *Way) through(u *url.URL) *url.URL {
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && (ip.IsLoopback() || ip.IsLinkLocalUnicast()) || u.Hostname() == "localhost" {
		return nil
	}
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.proxy
}

// bounded is a transport whose answers end with an error when they are longer
// than they may be.
type bounded struct {
	next http.RoundTripper
	most int64
}

// RoundTrip implements http.RoundTripper.
func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := b.next.RoundTrip(r)
	if err == nil {
		res.Body = http.MaxBytesReader(nil, res.Body, b.most)
	}
	return res, err
}

// CloseIdleConnections is what http.Client.CloseIdleConnections asks for.
func (b *bounded) CloseIdleConnections() {
	if c, ok := b.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// Only is a client whose connections all come from dial, wherever requests are
// addressed to: for a socket that has no address.
func Only(dial func(context.Context) (net.Conn, error)) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableKeepAlives: true,
	}}
}
