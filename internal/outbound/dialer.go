package outbound

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ErrRefused says that nothing in the configuration names the place.
var ErrRefused = errors.New("nothing in the configuration names it")

// dialTimeout is how long a connection may take to be made.
const dialTimeout = 10 * time.Second

// Attempt is one wish to connect, or to send a request.
type Attempt struct {
	Purpose string // of the Way: "oidc", "webhook", …
	Place   string // "host:port", or "unix:" and a path
	Refused bool
}

// Dialer makes the connections of a process. It is safe for concurrent use. nil
// is one that nobody watches.
type Dialer struct{ watch func(Attempt) }

// New makes a Dialer. watch is told of every attempt before anything is done,
// on the goroutine that makes it.
func New(watch func(Attempt)) *Dialer { return &Dialer{watch} }

func (d *Dialer) tell(a Attempt) {
	if d != nil && d.watch != nil {
		d.watch(a)
	}
}

type key struct{}

// With is ctx with a dialer for what is opened with it.
func With(ctx context.Context, d *Dialer) context.Context { return context.WithValue(ctx, key{}, d) }

// From is the dialer that With has put into ctx; nil, which is usable: none.
func From(ctx context.Context) *Dialer {
	d, _ := ctx.Value(key{}).(*Dialer)
	return d
}

// Way leads to the places that it names, and nowhere else. It is safe for
// concurrent use.
type Way struct {
	dialer  *Dialer
	purpose string

	mu    sync.RWMutex
	named map[string]bool
	proxy *url.URL
}

// Way makes one to places, which are "host:port", or "unix:" and a path. purpose
// is for errors and watchers.
func (d *Dialer) Way(purpose string, places ...string) (*Way, error) {
	w := &Way{dialer: d, purpose: purpose, named: map[string]bool{}}
	return w, w.Name(places...)
}

// Name adds places.
func (w *Way) Name(places ...string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range places {
		place, err := parse(p)
		if err != nil {
			return err
		}
		w.named[place] = true
	}
	return nil
}

// parse brings a place into the form in which two of them can be compared.
func parse(place string) (string, error) {
	if path, unix := strings.CutPrefix(place, "unix:"); unix {
		if path == "" || strings.ContainsRune(path, 0) {
			return "", fmt.Errorf("%q: unix: and the path of a socket", place)
		}
		return place, nil
	}
	host, port, err := net.SplitHostPort(place)
	n, e := strconv.ParseUint(port, 10, 16)
	if err != nil || e != nil || n == 0 || host == "" || strings.ContainsAny(host, "/@ *\x00") {
		return "", fmt.Errorf("%q: a host and a port, as host:443", place)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.Unmap().String()
	}
	return net.JoinHostPort(strings.ToLower(strings.TrimSuffix(host, ".")), strconv.FormatUint(n, 10)), nil
}

// PlaceOf is the place that a URL leads to, with the usual port of its scheme.
func PlaceOf(u *url.URL) (string, error) {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	if u.Hostname() == "" || port == "" {
		return "", fmt.Errorf("%s://%s: not a URL that can be connected to", u.Scheme, u.Host)
	}
	return parse(net.JoinHostPort(u.Hostname(), port))
}

// may refuses a place that is not named. byProxy: a connection to the proxy is
// meant, which requests may not be addressed to.
func (w *Way) may(place string, byProxy bool) error {
	parsed, err := parse(place)
	if err == nil {
		w.mu.RLock()
		named := w.named[parsed]
		if byProxy && w.proxy != nil {
			at, _ := PlaceOf(w.proxy)
			named = named || at == parsed
		}
		w.mu.RUnlock()
		if named {
			return nil
		}
	}
	w.dialer.tell(Attempt{w.purpose, place, true})
	return fmt.Errorf("%s: %s: %w", w.purpose, place, ErrRefused)
}

// DialContext connects to a place that is named. network is "tcp", "udp", or
// one of the kinds of unix sockets.
func (w *Way) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	place := address
	if strings.HasPrefix(network, "unix") {
		place = "unix:" + address
	}
	if err := w.may(place, true); err != nil {
		return nil, err
	}
	w.dialer.tell(Attempt{Purpose: w.purpose, Place: place})
	return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, address)
}
