package e2e

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	gosundheit "github.com/AppsFlyer/go-sundheit"
	"github.com/dexidp/dex/server"
	"github.com/dexidp/dex/storage"
	"github.com/dexidp/dex/storage/memory"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/bcrypt"
)

const (
	callback = "http://127.0.0.1:5555/callback" // nobody listens there: the code is read off the redirect
	password = "correct horse battery"
)

// provider is a dex with two ways to sign in: a list of passwords, and a
// source that knows groups.
type provider struct {
	t       *testing.T
	url     string
	storage storage.Storage
	valid   time.Duration // of ID tokens
	current atomic.Pointer[server.Server]
}

func newProvider(t *testing.T, valid time.Duration) *provider {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	p := &provider{t: t, storage: memory.New(log), valid: valid}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.current.Load().ServeHTTP(w, r) }))
	t.Cleanup(s.Close)
	p.url = s.URL + "/dex"
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost+6)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for _, err := range []error{
		p.storage.CreateConnector(ctx, storage.Connector{ID: "local", Type: "local", Name: "passwords"}),
		p.storage.CreateConnector(ctx, storage.Connector{ID: "groups", Type: "mockCallback", Name: "groups"}),
		p.storage.CreatePassword(ctx, storage.Password{Email: "ada@example.org", Hash: hash, Username: "ada", UserID: "1"}),
		p.storage.CreatePassword(ctx, storage.Password{Email: "eve@example.org", Hash: hash, Username: "eve", UserID: "2"}),
		p.storage.CreateClient(ctx, storage.Client{ID: "chromad", Secret: "one", RedirectURIs: []string{callback}}),
		p.storage.CreateClient(ctx, storage.Client{ID: "another", Secret: "two", RedirectURIs: []string{callback}}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	p.restart()
	return p
}

// restart starts dex anew over what it has stored. A dex that starts looks
// whether its keys are due.
func (p *provider) restart() {
	p.t.Helper()
	log := slog.New(slog.DiscardHandler)
	refresh, err := server.NewRefreshTokenPolicy(log, false, "", "", "")
	if err != nil {
		p.t.Fatal(err)
	}
	s, err := server.NewServer(p.t.Context(), server.Config{
		Issuer: p.url, Storage: p.storage, SkipApprovalScreen: true, Logger: log, RefreshTokenPolicy: refresh,
		RotateKeysAfter: time.Hour, IDTokensValidFor: p.valid, AllowedGrantTypes: []string{"authorization_code"},
		PrometheusRegistry: prometheus.NewRegistry(), HealthChecker: gosundheit.New(),
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.current.Store(s)
}

// rotate makes dex's keys due and has it change them.
func (p *provider) rotate() {
	p.t.Helper()
	if err := p.storage.UpdateKeys(func(k storage.Keys) (storage.Keys, error) {
		k.NextRotation = time.Now().Add(-time.Second)
		return k, nil
	}); err != nil {
		p.t.Fatal(err)
	}
	p.restart()
}

var form = regexp.MustCompile(`action="([^"]+)"`)

// signIn goes through the code flow as a browser does (OpenID Connect Core,
// section 3.1), and returns the ID token. name is empty for the source that
// knows groups, which asks nothing.
func (p *provider) signIn(client, secret, name string) string {
	p.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	var code string
	browser := &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), callback) {
			code = r.URL.Query().Get("code")
			return http.ErrUseLastResponse
		}
		return nil
	}}
	connector := map[bool]string{true: "groups", false: "local"}[name == ""]
	page := p.get(browser, p.url+"/auth/"+connector+"?"+url.Values{"client_id": {client}, "redirect_uri": {callback}, "response_type": {"code"},
		"scope": {"openid email profile groups"}, "state": {"s"}, "nonce": {"n"}}.Encode())
	if name != "" {
		action := form.FindStringSubmatch(page)
		if action == nil {
			p.t.Fatalf("no form to sign in: %.500s", page)
		}
		at, err := url.Parse(p.url)
		if err != nil {
			p.t.Fatal(err)
		}
		if at, err = at.Parse(strings.ReplaceAll(action[1], "&amp;", "&")); err != nil {
			p.t.Fatal(err)
		}
		p.read(browser.PostForm(at.String(), url.Values{"login": {name}, "password": {password}}))
	}
	if code == "" {
		p.t.Fatalf("no code: %.500s", page)
	}
	answer := p.read(browser.PostForm(p.url+"/token", url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {callback}, "client_id": {client}, "client_secret": {secret}}))
	var tokens struct {
		ID string `json:"id_token"`
	}
	if err := json.Unmarshal([]byte(answer), &tokens); err != nil || tokens.ID == "" {
		p.t.Fatalf("no ID token: %s", answer)
	}
	return tokens.ID
}

func (p *provider) get(browser *http.Client, at string) string {
	p.t.Helper()
	return p.read(browser.Get(at))
}

func (p *provider) read(res *http.Response, err error) string {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}
