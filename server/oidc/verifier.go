package oidc

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"

	"github.com/chromad/chromad/internal/outbound"
	"github.com/chromad/chromad/server/access"
)

// maxToken bounds a token before anything of it is decoded.
const maxToken = 16 << 10

// ErrUnreachable says that the provider could not be asked for its keys. The
// token may be right.
var ErrUnreachable = fmt.Errorf("the identity provider cannot be reached: %w", access.ErrBusy)

// Verifier verifies tokens. It is safe for concurrent use.
type Verifier struct {
	issuers map[string]*issuer
	now     func() time.Time
}

// issuer is one provider, whose document is fetched when it is first needed: a
// provider that is down when the server starts is no reason not to start.
type issuer struct {
	Issuer
	out *provided

	mu       sync.Mutex
	verifier *gooidc.IDTokenVerifier
	failed   time.Time // when fetching the document failed last
	cause    error
}

// retryAfter is how long a provider that did not answer is left alone.
const retryAfter = 5 * time.Second

// New makes a Verifier of the configured issuers.
func New(issuers ...Issuer) (*Verifier, error) { return NewVia(nil, issuers...) }

// NewVia is New with connections by d.
func NewVia(d *outbound.Dialer, issuers ...Issuer) (*Verifier, error) {
	v := &Verifier{issuers: map[string]*issuer{}, now: time.Now}
	for _, i := range issuers {
		i, err := i.withDefaults()
		if err != nil {
			return nil, err
		}
		if v.issuers[i.URL] != nil {
			return nil, fmt.Errorf("issuer %s: there twice", i.URL)
		}
		hosts, err := i.hosts()
		if err != nil {
			return nil, fmt.Errorf("issuer %s: %w", i.URL, err)
		}
		out, err := newProvided(d, hosts)
		if err != nil {
			return nil, fmt.Errorf("issuer %s: hosts: %w", i.URL, err)
		}
		v.issuers[i.URL] = &issuer{Issuer: i, out: out}
	}
	return v, nil
}

// Roles are the names of all roles that tokens can give.
func (v *Verifier) Roles() (names []string) {
	for _, i := range v.issuers {
		for _, r := range i.Rules {
			names = append(names, r.Binding.Role)
		}
	}
	return names
}

// Verify says whose a token is. An error that is not ErrUnreachable: the token
// does not count.
func (v *Verifier) Verify(ctx context.Context, raw string) (*access.Token, error) {
	if len(raw) > maxToken {
		return nil, fmt.Errorf("a token of %d bytes, at most %d", len(raw), maxToken)
	}
	name, err := issuerOf(raw)
	if err != nil {
		return nil, err
	}
	i := v.issuers[name]
	if i == nil {
		return nil, errors.New("a token of another issuer")
	}
	verifier, err := i.ready(ctx, v.now)
	if err != nil {
		return nil, err
	}
	t, err := verifier.Verify(ctx, raw)
	if err != nil {
		// Its keys could not be fetched: go-oidc says so in words only.
		if strings.Contains(err.Error(), "fetching keys") {
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		return nil, err
	}
	var claims map[string]any
	if err := t.Claims(&claims); err != nil {
		return nil, err
	}
	return i.token(claims)
}

// issuerOf reads who says to have issued a token, to know whom to ask for the
// key that it must be signed with. Nothing else of it is believed yet.
func issuerOf(raw string) (string, error) {
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return "", errors.New("not a JSON web token")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", errors.New("not a JSON web token")
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return "", errors.New("not a JSON web token")
	}
	return claims.Issuer, nil
}

// ready fetches the provider's document once. Callers wait for one of them.
func (i *issuer) ready(ctx context.Context, now func() time.Time) (*gooidc.IDTokenVerifier, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.verifier != nil {
		return i.verifier, nil
	}
	if !i.failed.IsZero() && now().Sub(i.failed) < retryAfter {
		return nil, i.cause
	}
	// The keys are fetched with this context later: it must not end with the request.
	ctx = gooidc.ClientContext(context.WithoutCancel(ctx), i.out.client)
	p, err := gooidc.NewProvider(ctx, i.URL)
	if err != nil {
		i.failed, i.cause = now(), fmt.Errorf("%w: %w", ErrUnreachable, err)
		return nil, i.cause
	}
	i.verifier = p.VerifierContext(ctx, &gooidc.Config{
		ClientID: i.Audience, SupportedSigningAlgs: i.Algorithms,
		Now: func() time.Time { return now().Add(-i.Skew) },
	})
	return i.verifier, nil
}

// token is what verified claims come to.
func (i *issuer) token(claims map[string]any) (*access.Token, error) {
	if !i.emailCounts(claims) {
		// Here, before anything is made of claims: name, roles and attributes.
		delete(claims, "email")
		if i.NameClaim == "email" {
			return nil, errors.New("the email address was not verified by the provider: email_verified is not true")
		}
	}
	name, _ := claims[i.NameClaim].(string)
	if name == "" {
		return nil, fmt.Errorf("no claim %s", i.NameClaim)
	}
	t := &access.Token{Name: name}
	for _, r := range i.Rules {
		if has(claims[r.Claim], r.Value) {
			t.Roles = append(t.Roles, r.Binding)
		}
	}
	t.Claims = map[string][]string{}
	for _, name := range i.Attributes {
		t.Claims[name] = texts(claims[name])
	}
	for _, value := range i.AMR {
		t.Strong = t.Strong || has(claims["amr"], value)
	}
	for _, value := range i.ACR {
		t.Strong = t.Strong || has(claims["acr"], value)
	}
	return t, nil
}

// emailCounts reports whether the claim email is more than what somebody has
// typed in. Several providers (Amazon Cognito, Apple) send the word for it as a
// text. One that says nothing has not said that the address was verified.
func (i *issuer) emailCounts(claims map[string]any) bool {
	verified, told := claims["email_verified"]
	if !told {
		return i.TrustUnverifiedEmail
	}
	return verified == true || verified == "true"
}

// texts are a claim that is a text, or the texts of one that is a list.
func texts(claim any) (out []string) {
	list, is := claim.([]any)
	if !is {
		list = []any{claim}
	}
	for _, e := range list {
		if s, ok := e.(string); ok && s != "" {
			out = append(out, s)
		}
	}
	return out
}

// has reports whether a claim is the value, or a list that holds it.
func has(claim any, value string) bool {
	switch c := claim.(type) {
	case string:
		return c == value || value == "*"
	case []any:
		for _, e := range c {
			if s, ok := e.(string); ok && (s == value || value == "*") {
				return true
			}
		}
	}
	return false
}
