package server

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"

	"github.com/chromad/chromad/server/access"
	"github.com/chromad/chromad/server/audit"
)

// kindDenied is the name that Python's client turns into its AuthorizationError.
const kindDenied = "AuthorizationError"

// authenticate finds out who asks. It looks at the header and at nothing else,
// so that who has no credential has nothing done for him: no body is read, no
// name looked up, no file touched.
func (c *call) authenticate() error {
	directory := c.s.config.Access
	if directory == nil || directory.Open() || c.route != nil && c.route.action == access.Public {
		c.who = directory.Nobody()
		return nil
	}
	credential, err := credentialOf(c.r)
	if err != nil {
		return err
	}
	credential.Address = c.r.RemoteAddr
	if c.who, err = directory.Authenticate(c.ctx(), credential); err != nil {
		c.who = directory.Nobody()
		if _, refused := overload(err); refused != "" {
			return err
		}
		if errors.Is(err, access.ErrBusy) {
			return &apiError{status: http.StatusTooManyRequests, kind: kindBackoff, cause: err, message: "the credential cannot be checked now; try again"}
		}
		c.w.Header().Set("WWW-Authenticate", `Bearer realm="chromad", Basic realm="chromad"`)
		return &apiError{status: http.StatusUnauthorized, kind: kindDenied, cause: err,
			message: "Unauthorized: send an API key as x-chroma-token, or as Authorization: Bearer; chromad users makes one"}
	}
	return nil
}

// credentialOf is what the request shows, in the headers that Chroma's clients
// send. Two credentials are refused: which of them counts would be a matter of
// taste, and somebody in between may have added one. Headers in which others
// claim an identity mean nothing here.
func credentialOf(r *http.Request) (access.Credential, error) {
	tokens, authorizations := r.Header.Values("X-Chroma-Token"), r.Header.Values("Authorization")
	switch {
	case len(tokens)+len(authorizations) > 1:
		return access.Credential{}, invalid("more than one credential: send x-chroma-token or Authorization, once")
	case len(tokens) == 1:
		// Python's client sends the token with or without the word.
		return bearer(strings.TrimPrefix(tokens[0], "Bearer ")), nil
	case len(authorizations) == 1:
		return authorization(authorizations[0])
	}
	return access.Credential{Certificate: commonName(r.TLS)}, nil
}

// bearer is an API key or, by its dots, a token of an identity provider.
func bearer(text string) access.Credential {
	if strings.Contains(text, ".") {
		return access.Credential{Token: text}
	}
	return access.Credential{Key: text}
}

func authorization(value string) (access.Credential, error) {
	scheme, rest, _ := strings.Cut(value, " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		return bearer(strings.TrimSpace(rest)), nil
	case strings.EqualFold(scheme, "Basic"):
		text, err := base64.StdEncoding.DecodeString(strings.TrimSpace(rest))
		if name, password, ok := strings.Cut(string(text), ":"); err == nil && ok && name != "" {
			return access.Credential{Name: name, Password: password}, nil
		}
	}
	return access.Credential{}, invalid("Authorization: Bearer KEY, or Basic with name and password in base64")
}

// commonName is the name in the certificate of a client that the handshake
// has verified; empty: there is none.
func commonName(state *tls.ConnectionState) string {
	if state == nil || len(state.VerifiedChains) == 0 {
		return ""
	}
	return state.VerifiedChains[0][0].Subject.CommonName
}

// authorize decides whether the request may go on, by what its path tells:
// before the body is read and before anything is looked up. What only the body
// or the catalog tells (permit, hidden) is asked for where it is known.
func (c *call) authorize() error {
	if c.who.Might(c.route.action, access.Target{Tenant: c.vars["tenant"], Database: c.vars["database"]}) {
		return nil
	}
	return c.forbidden(c.route.action)
}

func (c *call) forbidden(a access.Action) error {
	c.denied = "not granted"
	if c.who.Weak(a) {
		c.denied = "second factor"
		return &apiError{status: http.StatusForbidden, kind: kindDenied, message: "Forbidden: " + string(a) + " takes a sign-in with several factors"}
	}
	return &apiError{status: http.StatusForbidden, kind: kindDenied, message: "Forbidden: " + string(a) + " is not granted here"}
}

// permit refuses an action on a target that the path did not tell.
func (c *call) permit(a access.Action, t access.Target) error {
	c.met(t)
	if c.who.May(a, t) {
		return nil
	}
	return c.forbidden(a)
}

// hidden decides about a collection whose name is known now. One that the
// principal may not even see does not exist for him: absent is the answer that
// he would get then.
func (c *call) hidden(name string, absent error) error {
	return c.hiddenAt(access.Target{Tenant: c.vars["tenant"], Database: c.vars["database"], Collection: name}, absent)
}

// hiddenAt is hidden where the path does not tell which database it is.
func (c *call) hiddenAt(t access.Target, absent error) error {
	c.met(t)
	switch {
	case c.who.May(c.route.action, t):
		return nil
	case c.who.May(access.GetCollection, t):
		return c.forbidden(c.route.action)
	}
	c.denied = audit.Hidden
	return absent
}
