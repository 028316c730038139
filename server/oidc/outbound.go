package oidc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// outbound is the only way out: to hosts that the configuration names, and not
// more often than the interval. Without the latter, tokens that name keys which
// nobody has would make the server ask the provider for its keys with every
// request of whoever likes to send them.
type outbound struct {
	client *http.Client
	hosts  map[string]bool // host:port

	mu   sync.Mutex
	now  func() time.Time
	last map[string]time.Time // by URL
}

const (
	fetchInterval = 5 * time.Second
	fetchTimeout  = 10 * time.Second
)

var errTooOften = errors.New("asked a moment ago")

func newOutbound(hosts map[string]bool) *outbound {
	o := &outbound{hosts: hosts, now: time.Now, last: map[string]time.Time{}}
	dialer := &net.Dialer{Timeout: fetchTimeout}
	o.client = &http.Client{
		Timeout: fetchTimeout,
		Transport: &limited{o, &http.Transport{
			Proxy: nil, // a proxy would be a host that the configuration does not name
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				if !o.hosts[address] {
					return nil, fmt.Errorf("%s is none of the hosts that the configuration names", address)
				}
				return dialer.DialContext(ctx, network, address)
			},
			TLSHandshakeTimeout: fetchTimeout, ResponseHeaderTimeout: fetchTimeout,
			MaxResponseHeaderBytes: 1 << 16, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true,
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("a redirect, which is not followed")
		},
	}
	return o
}

// limited is a transport that asks for one URL once in an interval.
type limited struct {
	o    *outbound
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (l *limited) RoundTrip(r *http.Request) (*http.Response, error) {
	if !l.o.may(r.URL.String()) {
		return nil, errTooOften
	}
	res, err := l.next.RoundTrip(r)
	if err == nil {
		res.Body = http.MaxBytesReader(nil, res.Body, 1<<20)
	}
	return res, err
}

func (o *outbound) may(url string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.now()
	if last, ok := o.last[url]; ok && now.Sub(last) < fetchInterval && !now.Before(last) {
		return false
	}
	if len(o.last) > 16 { // a provider has two
		clear(o.last)
	}
	o.last[url] = now
	return true
}
