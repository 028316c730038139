package oidc

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/chromad/chromad/server/access"
)

// Issuer is a provider whose tokens are accepted.
type Issuer struct {
	URL        string   // as the tokens' iss has it
	Audience   string   // one of the tokens' aud
	Algorithms []string // of signatures; default RS256 and ES256
	Hosts      []string // beside the issuer's own, for its keys: "host" or "host:port"
	// NameClaim holds the name of the user, default "sub". The claim email counts
	// only when the provider says that it was verified, here and everywhere else.
	NameClaim string
	// TrustUnverifiedEmail lets email count of a provider that does not say
	// whether it was verified. Who may type in another's address there is that
	// other one here.
	TrustUnverifiedEmail bool
	// Skew is how long after its end a token is still accepted, since clocks
	// differ. Default a minute, at most five.
	Skew  time.Duration
	Rules []Rule
	// AMR and ACR are the values of the claims amr and acr (OpenID Connect
	// Core, section 2; RFC 8176) of which one says that several factors were
	// used. Both empty: no token does.
	AMR, ACR []string
	// Attributes are the claims that rules about records may ask: texts and
	// lists of texts.
	Attributes []string
}

// Rule gives a role to tokens in which a claim has a value: a text, or one of
// a list of texts. Value "*" is any.
type Rule struct {
	Claim, Value string
	Binding      access.Binding
}

// algorithms are those that may be allowed: asymmetric ones. A provider that
// signs with a shared secret, or not at all, vouches for nobody.
var algorithms = []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA"}

const maxSkew = 5 * time.Minute

// withDefaults fills in what is empty and says what is wrong.
func (i Issuer) withDefaults() (Issuer, error) {
	u, err := url.Parse(i.URL)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return i, fmt.Errorf("issuer %q: not a URL of an issuer", i.URL)
	case u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())):
		return i, fmt.Errorf("issuer %s: https, or http on this machine only: whoever sits in between could put his keys in the place of the issuer's", i.URL)
	case i.Audience == "":
		return i, fmt.Errorf("issuer %s: audience is missing: a token for another service would let its bearer in here", i.URL)
	case i.Skew < 0 || i.Skew > maxSkew:
		return i, fmt.Errorf("issuer %s: skew %s: 0 to %s", i.URL, i.Skew, maxSkew)
	}
	if len(i.Algorithms) == 0 {
		i.Algorithms = []string{"RS256", "ES256"}
	}
	for _, a := range i.Algorithms {
		if !slices.Contains(algorithms, a) {
			return i, fmt.Errorf("issuer %s: algorithm %q: one of %s", i.URL, a, strings.Join(algorithms, ", "))
		}
	}
	for n, r := range i.Rules {
		if r.Claim == "" || r.Value == "" || r.Binding.Role == "" {
			return i, fmt.Errorf("issuer %s: roles[%d]: claim, value and role", i.URL, n)
		}
	}
	if i.NameClaim == "" {
		i.NameClaim = "sub"
	}
	if i.Skew == 0 {
		i.Skew = time.Minute
	}
	return i, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// hosts are the addresses that may be connected to.
func (i *Issuer) hosts() (map[string]bool, error) {
	u, err := url.Parse(i.URL)
	if err != nil {
		return nil, err
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	out := map[string]bool{net.JoinHostPort(u.Hostname(), port): true}
	for _, h := range i.Hosts {
		host, port, err := net.SplitHostPort(h)
		if err != nil {
			host, port = h, "443"
		}
		if host == "" || strings.ContainsAny(host, "/ ") {
			return nil, errors.New("hosts: " + h + ": a host, or a host and a port")
		}
		out[net.JoinHostPort(host, port)] = true
	}
	return out, nil
}
