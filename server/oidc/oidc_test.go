package oidc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/chromad/chromad/server/access"
)

// provider is an identity provider on loopback, as far as a verifier sees it.
type provider struct {
	*httptest.Server
	t       testing.TB
	keys    []jose.JSONWebKey // published
	fetches atomic.Int64      // of keys
	issuer  string            // in the document, when not its own URL
	jwks    string
}

func newProvider(t testing.TB) *provider {
	p := &provider{t: t}
	mux := http.NewServeMux()
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	p.issuer, p.jwks = p.URL, p.URL+"/keys"
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q,"id_token_signing_alg_values_supported":["RS256","HS256","none"]}`, p.issuer, p.jwks)
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		p.fetches.Add(1)
		var public jose.JSONWebKeySet
		for _, k := range p.keys {
			public.Keys = append(public.Keys, k.Public())
		}
		_ = json.NewEncoder(w).Encode(public)
	})
	mux.HandleFunc("/elsewhere", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/keys", http.StatusFound) })
	return p
}

func rsaKey(t testing.TB, id string) jose.JSONWebKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return jose.JSONWebKey{Key: k, KeyID: id, Algorithm: "RS256", Use: "sig"}
}

// sign makes a token.
func sign(t testing.TB, key any, algorithm jose.SignatureAlgorithm, claims map[string]any) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	o, err := s.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := o.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// with are good claims, and what is changed of them; nil takes one away.
func (p *provider) with(changes map[string]any) map[string]any {
	claims := map[string]any{"iss": p.URL, "aud": "chromad", "sub": "ada", "exp": start.Add(time.Hour).Unix(), "iat": start.Unix(), "groups": []string{"eng", "all"}, "amr": []string{"pwd"}}
	for k, v := range changes {
		if claims[k] = v; v == nil {
			delete(claims, k)
		}
	}
	return claims
}

// verifierOf trusts the provider, at a time that the test sets.
func verifierOf(t testing.TB, p *provider, change func(*Issuer)) (*Verifier, *time.Time) {
	t.Helper()
	i := Issuer{URL: p.URL, Audience: "chromad", AMR: []string{"mfa"}, ACR: []string{"gold"}, Rules: []Rule{
		{"groups", "eng", access.Binding{Role: "editor", On: access.Scope{Tenant: "acme"}}}, {"admin", "yes", access.Binding{Role: "admin"}}}}
	if change != nil {
		change(&i)
	}
	v, err := New(i)
	if err != nil {
		t.Fatal(err)
	}
	at := start.Add(time.Minute)
	v.now = func() time.Time { return at }
	v.issuers[p.URL].out.now = v.now
	return v, &at
}

func TestVerify(t *testing.T) {
	p := newProvider(t)
	key, other := rsaKey(t, "one"), rsaKey(t, "one")
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p.keys = []jose.JSONWebKey{key, {Key: curve, KeyID: "curve", Algorithm: "ES256", Use: "sig"}}
	good := sign(t, key, jose.RS256, p.with(nil))
	parts := strings.Split(good, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
	public, err := json.Marshal(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	embedded, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: other.Key}, &jose.SignerOptions{EmbedJWK: true})
	if err != nil {
		t.Fatal(err)
	}
	payload, _ := json.Marshal(p.with(nil))
	o, err := embedded.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	ownKey, _ := o.CompactSerialize()
	hours := func(h float64) int64 { return start.Add(time.Duration(h * float64(time.Hour))).Unix() }
	for _, c := range []struct {
		name, raw string
		ok        bool
	}{
		{"good", good, true},
		{"another curve", sign(t, p.keys[1], jose.ES256, p.with(nil)), true},
		{"several audiences", sign(t, key, jose.RS256, p.with(map[string]any{"aud": []string{"x", "chromad"}})), true},
		{"expired within the skew", sign(t, key, jose.RS256, p.with(map[string]any{"exp": start.Add(30 * time.Second).Unix()})), true},
		{"expired", sign(t, key, jose.RS256, p.with(map[string]any{"exp": start.Add(-time.Second).Unix()})), false},
		{"never expires", sign(t, key, jose.RS256, p.with(map[string]any{"exp": nil})), false},
		{"not yet", sign(t, key, jose.RS256, p.with(map[string]any{"nbf": hours(0.5)})), false},
		{"for another service", sign(t, key, jose.RS256, p.with(map[string]any{"aud": "other"})), false},
		{"for nobody", sign(t, key, jose.RS256, p.with(map[string]any{"aud": nil})), false},
		{"of another issuer", sign(t, key, jose.RS256, p.with(map[string]any{"iss": "https://evil.example"})), false},
		{"of an issuer with a slash", sign(t, key, jose.RS256, p.with(map[string]any{"iss": p.URL + "/"})), false},
		{"of no issuer", sign(t, key, jose.RS256, p.with(map[string]any{"iss": nil})), false},
		{"of nobody", sign(t, key, jose.RS256, p.with(map[string]any{"sub": nil})), false},
		{"another key with the id of one", sign(t, other, jose.RS256, p.with(nil)), false},
		{"its own key", ownKey, false},
		{"no signature", none, false},
		{"signature cut off", parts[0] + "." + parts[1] + ".", false},
		{"other claims under a signature", parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"`+p.URL+`","aud":"chromad","sub":"eve","exp":9999999999}`)) + "." + parts[2], false},
		{"the public key as a shared secret", sign(t, public, jose.HS256, p.with(nil)), false},
		{"an algorithm that is not allowed", sign(t, jose.JSONWebKey{Key: key.Key, KeyID: "one"}, jose.PS256, p.with(nil)), false},
		{"no token", "a.b.c", false}, {"two parts", "a.b", false}, {"five parts", good + ".x.y", false}, {"nothing", "", false}, {"long", strings.Repeat("a", maxToken+1), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, _ := verifierOf(t, p, nil)
			got, err := v.Verify(t.Context(), c.raw)
			if c.ok != (err == nil) || err == nil && (got.Name != "ada" || len(got.Roles) != 1 || got.Roles[0].Role != "editor" || got.Strong) {
				t.Errorf("%+v, %v", got, err)
			}
			if errors.Is(err, ErrUnreachable) {
				t.Errorf("%v", err)
			}
		})
	}
}

// Claims that rules name become roles, and others do not.
func TestClaims(t *testing.T) {
	p := newProvider(t)
	key := rsaKey(t, "one")
	p.keys = []jose.JSONWebKey{key}
	for _, c := range []struct {
		name    string
		claims  map[string]any
		issuer  func(*Issuer)
		user    string // "" refused
		roles   int
		several bool
	}{
		{"a text in the place of a list", map[string]any{"groups": "eng"}, nil, "ada", 1, false},
		{"a part of a text", map[string]any{"groups": "engineering"}, nil, "ada", 0, false},
		{"no groups", map[string]any{"groups": nil}, nil, "ada", 0, false},
		{"a number", map[string]any{"groups": 7, "admin": true}, nil, "ada", 0, false},
		{"two roles", map[string]any{"admin": "yes"}, nil, "ada", 2, false},
		{"several factors", map[string]any{"amr": []string{"pwd", "mfa"}}, nil, "ada", 1, true},
		{"a class", map[string]any{"acr": "gold"}, nil, "ada", 1, true},
		{"another class", map[string]any{"acr": "mfa"}, nil, "ada", 1, false},
		{"by email", map[string]any{"email": "a@b", "email_verified": true}, func(i *Issuer) { i.NameClaim = "email" }, "a@b", 1, false},
		{"an email that nobody verified", map[string]any{"email": "a@b", "email_verified": false}, func(i *Issuer) { i.NameClaim = "email" }, "", 0, false},
		{"no email", nil, func(i *Issuer) { i.NameClaim = "email" }, "", 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, _ := verifierOf(t, p, c.issuer)
			got, err := v.Verify(t.Context(), sign(t, key, jose.RS256, p.with(c.claims)))
			if (c.user == "") != (err != nil) || err == nil && (got.Name != c.user || len(got.Roles) != c.roles || got.Strong != c.several) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

// An email is somebody's only when the provider says that it has verified it:
// as name, for roles and as attribute alike.
func TestUnverifiedEmail(t *testing.T) {
	p := newProvider(t)
	key := rsaKey(t, "one")
	p.keys = []jose.JSONWebKey{key}
	for _, c := range []struct {
		name     string
		verified any // email_verified; nil: it is not there
		trust    bool
		counts   bool
	}{
		{"verified", true, false, true},
		{"verified, as a text", "true", false, true},
		{"not verified", false, false, false},
		{"not verified, as a text", "false", false, false},
		{"a number", 1, false, false},
		{"another text", "yes", false, false},
		{"a list", []any{true}, false, false},
		{"not told", nil, false, false},
		{"not told, and trusted", nil, true, true},
		{"not verified, and trusted", false, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw := sign(t, key, jose.RS256, p.with(map[string]any{"groups": nil, "email": "boss@acme", "email_verified": c.verified}))
			byName, _ := verifierOf(t, p, func(i *Issuer) { i.NameClaim, i.TrustUnverifiedEmail = "email", c.trust })
			if got, err := byName.Verify(t.Context(), raw); (err == nil) != c.counts || err == nil && got.Name != "boss@acme" {
				t.Errorf("as name: %+v, %v", got, err)
			}
			v, _ := verifierOf(t, p, func(i *Issuer) {
				i.TrustUnverifiedEmail, i.Attributes = c.trust, []string{"email"}
				i.Rules = []Rule{{"email", "boss@acme", access.Binding{Role: "admin"}}, {"email", "*", access.Binding{Role: "reader"}}}
			})
			got, err := v.Verify(t.Context(), raw)
			if err != nil || got.Name != "ada" || (len(got.Roles) == 2) != c.counts || (len(got.Roles) == 0) == c.counts || (len(got.Claims["email"]) == 1) != c.counts {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

// Claims that the configuration names come with the token, as far as they are
// texts, and no others.
func TestAttributes(t *testing.T) {
	p := newProvider(t)
	key := rsaKey(t, "one")
	p.keys = []jose.JSONWebKey{key}
	v, _ := verifierOf(t, p, func(i *Issuer) { i.Attributes = []string{"groups", "department", "email", "level", "mixed", "none"} })
	for name, c := range map[string]struct {
		claims map[string]any
		want   string
	}{
		"lists and texts":    {map[string]any{"groups": []string{"a", "b"}, "department": "law", "other": "x"}, "department[law] email[] groups[a b] level[] mixed[] none[]"},
		"what is no text":    {map[string]any{"groups": nil, "level": 7, "mixed": []any{"a", 1, nil, "", []string{"b"}}}, "department[] email[] groups[] level[] mixed[a] none[]"},
		"email":              {map[string]any{"groups": "g", "email": "a@b", "email_verified": true}, "department[] email[a@b] groups[g] level[] mixed[] none[]"},
		"email not verified": {map[string]any{"groups": "g", "email": "a@b", "email_verified": false}, "department[] email[] groups[g] level[] mixed[] none[]"},
	} {
		got, err := v.Verify(t.Context(), sign(t, key, jose.RS256, p.with(c.claims)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var words []string
		for _, claim := range slices.Sorted(maps.Keys(got.Claims)) {
			words = append(words, fmt.Sprint(claim, got.Claims[claim]))
		}
		if s := strings.Join(words, " "); s != c.want {
			t.Errorf("%s: %s, want %s", name, s, c.want)
		}
	}
}

// A provider that changes its keys: tokens of the new one count, those of one
// that is no longer published do not once the keys were fetched again.
func TestKeyRotation(t *testing.T) {
	p := newProvider(t)
	first, second := rsaKey(t, "one"), rsaKey(t, "two")
	p.keys = []jose.JSONWebKey{first}
	v, at := verifierOf(t, p, nil)
	verify := func(key jose.JSONWebKey, want bool) {
		t.Helper()
		if _, err := v.Verify(t.Context(), sign(t, key, jose.RS256, p.with(nil))); (err == nil) != want {
			t.Errorf("key %s: %v", key.KeyID, err)
		}
	}
	verify(first, true)
	verify(first, true)
	if n := p.fetches.Load(); n != 1 {
		t.Errorf("keys were fetched %d times for two tokens", n)
	}
	p.keys = []jose.JSONWebKey{second}
	*at = at.Add(fetchInterval)
	// A fetch that has answered is joined, and what was known before counts, until go-oidc has
	// put it away, a moment later.
	settle := func(key jose.JSONWebKey, want bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if _, err := v.Verify(t.Context(), sign(t, key, jose.RS256, p.with(nil))); (err == nil) == want {
				break
			}
		}
		verify(key, want)
	}
	settle(second, true)
	*at = at.Add(fetchInterval)
	settle(first, false)
}

// Whoever sends tokens with keys that nobody has does not make the server ask
// its provider each time.
func TestFetchesAreBounded(t *testing.T) {
	p := newProvider(t)
	key := rsaKey(t, "one")
	p.keys = []jose.JSONWebKey{key}
	v, at := verifierOf(t, p, nil)
	for i := range 50 {
		unknown := rsaKeyLike(key, fmt.Sprint("unknown ", i))
		if _, err := v.Verify(t.Context(), sign(t, unknown, jose.RS256, p.with(nil))); err == nil {
			t.Fatal("a key that is not published")
		}
	}
	if n := p.fetches.Load(); n > 1 {
		t.Errorf("%d fetches in one moment", n)
	}
	// Who has a right token is not kept out meanwhile.
	*at = at.Add(fetchInterval)
	if _, err := v.Verify(t.Context(), sign(t, key, jose.RS256, p.with(nil))); err != nil {
		t.Error(err)
	}
}

func rsaKeyLike(k jose.JSONWebKey, id string) jose.JSONWebKey {
	k.KeyID = id
	return k
}

// Nothing is fetched from a host that the configuration does not name,
// whatever the provider's document says, and no redirect is followed.
func TestOnlyNamedHosts(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a host that nobody named was asked") }))
	defer elsewhere.Close()
	key := rsaKey(t, "one")
	for _, jwks := range []string{elsewhere.URL + "/keys", "http://169.254.169.254/latest", "file:///etc/passwd"} {
		p := newProvider(t)
		p.keys, p.jwks = []jose.JSONWebKey{key}, jwks
		v, _ := verifierOf(t, p, nil)
		if got, err := v.Verify(t.Context(), sign(t, key, jose.RS256, p.with(nil))); err == nil {
			t.Errorf("%s: %+v", jwks, got)
		}
	}
	p := newProvider(t)
	p.keys, p.jwks = []jose.JSONWebKey{key}, p.URL+"/elsewhere"
	v, _ := verifierOf(t, p, nil)
	if got, err := v.Verify(t.Context(), sign(t, key, jose.RS256, p.with(nil))); err == nil {
		t.Errorf("a redirect was followed: %+v", got)
	}
	// A host that is named is another matter.
	keysHost := newProvider(t)
	keysHost.keys = []jose.JSONWebKey{key}
	p = newProvider(t)
	p.jwks = keysHost.URL + "/keys"
	v, _ = verifierOf(t, p, func(i *Issuer) { i.Hosts = []string{strings.TrimPrefix(keysHost.URL, "http://")} })
	if _, err := v.Verify(t.Context(), sign(t, key, jose.RS256, p.with(nil))); err != nil {
		t.Error(err)
	}
}

// While keys may not be fetched again, or cannot be, who needs them is told to
// wait, and a token that is wrong without them is wrong.
func TestWhyRefused(t *testing.T) {
	p := newProvider(t)
	key := rsaKey(t, "one")
	p.keys = []jose.JSONWebKey{key}
	v, at := verifierOf(t, p, nil)
	verify := func(what string, raw string, unreachable bool) {
		t.Helper()
		if _, err := v.Verify(t.Context(), raw); err == nil || errors.Is(err, ErrUnreachable) != unreachable {
			t.Errorf("%s: %v", what, err)
		}
	}
	unknown := sign(t, rsaKeyLike(key, "unknown"), jose.RS256, p.with(nil))
	expired := sign(t, key, jose.RS256, p.with(map[string]any{"exp": at.Add(-time.Hour).Unix()}))
	verify("a key that nobody has", unknown, false)
	verify("the same at once", unknown, true)
	verify("expired, meanwhile", expired, false)
	*at = at.Add(fetchInterval)
	p.Close()
	verify("a provider that has gone", unknown, true)
	verify("expired, meanwhile", expired, false)
}

// A provider that is down refuses nobody for good, and is asked again.
func TestProviderDown(t *testing.T) {
	p := newProvider(t)
	key := rsaKey(t, "one")
	p.keys, p.issuer = []jose.JSONWebKey{key}, "http://another" // its document is refused
	v, at := verifierOf(t, p, nil)
	raw := sign(t, key, jose.RS256, p.with(nil))
	if _, err := v.Verify(t.Context(), raw); !errors.Is(err, ErrUnreachable) || !errors.Is(err, access.ErrBusy) {
		t.Errorf("%v", err)
	}
	p.issuer = p.URL
	if _, err := v.Verify(t.Context(), raw); !errors.Is(err, ErrUnreachable) {
		t.Errorf("asked again at once: %v", err)
	}
	*at = at.Add(retryAfter)
	if _, err := v.Verify(t.Context(), raw); err != nil {
		t.Error(err)
	}
}

func TestIssuerRefused(t *testing.T) {
	ok := Issuer{URL: "https://id.example", Audience: "a"}
	if _, err := New(ok); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Issuer){
		"in the clear":        func(i *Issuer) { i.URL = "http://id.example" },
		"no URL":              func(i *Issuer) { i.URL = "id.example" },
		"with a password":     func(i *Issuer) { i.URL = "https://u:p@id.example" },
		"no audience":         func(i *Issuer) { i.Audience = "" },
		"shared secrets":      func(i *Issuer) { i.Algorithms = []string{"HS256"} },
		"no signature":        func(i *Issuer) { i.Algorithms = []string{"none"} },
		"skew of an hour":     func(i *Issuer) { i.Skew = time.Hour },
		"half a rule":         func(i *Issuer) { i.Rules = []Rule{{Claim: "groups"}} },
		"a path in the hosts": func(i *Issuer) { i.Hosts = []string{"h/x"} },
	} {
		i := ok
		change(&i)
		if _, err := New(i); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := New(ok, ok); err == nil {
		t.Error("one issuer twice")
	}
}

// FuzzVerify: no text is a token that nobody signed.
func FuzzVerify(f *testing.F) {
	p := newProvider(f)
	key := rsaKey(f, "one")
	p.keys = []jose.JSONWebKey{key}
	v, _ := verifierOf(f, p, nil)
	good := sign(f, key, jose.RS256, p.with(nil))
	f.Add(good)
	f.Add("a.b.c")
	f.Add(strings.Replace(good, ".", "..", 1))
	f.Fuzz(func(t *testing.T, raw string) {
		if got, err := v.Verify(t.Context(), raw); err == nil && raw != good && got.Name != "ada" {
			t.Errorf("%q: %+v", raw, got)
		}
	})
}
