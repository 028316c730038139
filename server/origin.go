package server

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// cors sets the headers that let browsers call from the configured origins,
// and reports whether it has answered, which it does to OPTIONS.
func (s *Server) cors(c *call) bool {
	allowed := s.config.CORSOrigins
	if len(allowed) == 0 {
		return false
	}
	h := c.w.Header()
	if origin := c.r.Header.Get("Origin"); slices.Contains(allowed, "*") {
		h.Set("Access-Control-Allow-Origin", "*")
	} else {
		h.Set("Vary", "Origin")
		if !slices.Contains(allowed, origin) {
			return false
		}
		h.Set("Access-Control-Allow-Origin", origin)
	}
	h.Set("Access-Control-Allow-Headers", "*")
	h.Set("Access-Control-Allow-Methods", "*")
	if c.r.Method != http.MethodOptions {
		return false
	}
	h.Set("Content-Length", "0")
	c.answering(0)
	c.status = http.StatusOK
	c.w.WriteHeader(http.StatusOK)
	return true
}

// foreign refuses what a page of another origin makes a browser send, unless
// the origin is one of the configured ones. A server on loopback is within the
// reach of every page that its user visits, and a request without content type
// needs nobody's leave. Clients that are not browsers are not concerned.
func (c *call) foreign() error {
	allowed := c.s.config.CORSOrigins
	if slices.Contains(allowed, "*") || slices.Contains(allowed, c.r.Header.Get("Origin")) {
		return nil
	}
	if err := new(http.CrossOriginProtection).Check(c.r); err != nil {
		c.denied = "other origin"
		return &apiError{status: http.StatusForbidden, kind: kindChroma, cause: err,
			message: "requests of pages of other origins may change nothing; allow the origin with --cors or cors_allow_origins"}
	}
	if c.s.config.Access.Open() && c.r.TLS == nil && onLoopback(c.r) && !c.s.ourName(c.r.Host) {
		c.denied = "other host"
		return &apiError{status: http.StatusForbidden, kind: kindChroma,
			message: "a server without users is called localhost or by its address here, so that no page reaches it by a name of its own; " +
				"allow another name with --cors or cors_allow_origins, as http://NAME, or make users"}
	}
	return nil
}

// onLoopback reports whether the request has come from this machine, as those
// of every browser on it do.
func onLoopback(r *http.Request) bool {
	at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && at.IP.IsLoopback()
}

// ourName reports whether a Host header names this machine. Whoever owns a
// domain can have it lead here after his page was loaded, and then his page and
// the server are one origin to the browser: nothing but the name tells. A
// number is nobody's domain, and no browser leaves the name away.
func (s *Server) ourName(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.ToLower(strings.TrimSuffix(strings.Trim(name, "[]"), "."))
	if name == "" || name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return slices.ContainsFunc(s.config.CORSOrigins, func(origin string) bool {
		u, err := url.Parse(origin)
		return err == nil && strings.EqualFold(u.Hostname(), name)
	})
}
