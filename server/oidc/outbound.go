package oidc

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/chromad/chromad/internal/outbound"
)

// provided is the way to a provider: to hosts that the configuration names, and
// not more often than the interval. Without the latter, tokens that name keys
// which nobody has would make the server ask the provider for its keys with
// every request of whoever likes to send them.
type provided struct {
	client *http.Client

	mu   sync.Mutex
	now  func() time.Time
	last map[string]time.Time // by URL
}

const fetchInterval = 5 * time.Second

var errTooOften = errors.New("asked a moment ago")

// newProvided makes one to hosts, "host:port" each.
func newProvided(d *outbound.Dialer, hosts map[string]bool) (*provided, error) {
	w, err := d.Way("oidc", slices.Sorted(maps.Keys(hosts))...)
	if err != nil {
		return nil, err
	}
	o := &provided{client: w.Client(outbound.Client{}), now: time.Now, last: map[string]time.Time{}}
	o.client.Transport = &limited{o, o.client.Transport}
	return o, nil
}

// limited is a transport that asks for one URL once in an interval.
type limited struct {
	o    *provided
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (l *limited) RoundTrip(r *http.Request) (*http.Response, error) {
	if !l.o.may(r.URL.String()) {
		return nil, errTooOften
	}
	return l.next.RoundTrip(r)
}

func (o *provided) may(url string) bool {
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
