package vault

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"

	"github.com/hashicorp/vault/api"
	"github.com/tink-crypto/tink-go-hcvault/v2/integration/hcvault"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/chromad/chromad/engine/keys"
	"github.com/chromad/chromad/engine/keys/internal/remote"
	"github.com/chromad/chromad/internal/outbound"
)

// Scheme is what URIs of this package begin with.
const Scheme = "hcvault://"

// maxPlaintext keeps requests far below the server's own limit, in bytes.
const maxPlaintext = 64 << 10

// Open makes an operator's key of a URI and the environment. The server is
// asked when the key is first used.
func Open(ctx context.Context, uri string) (keys.Operator, error) {
	return open(ctx, uri, remote.Standard())
}

func open(ctx context.Context, uri string, policy remote.Policy) (keys.Operator, error) {
	if err := ctx.Err(); err != nil {
		return nil, &keys.Error{URI: uri, Op: "open", Kind: err}
	}
	u, err := parse(uri)
	if err != nil {
		return nil, err
	}
	cfg := api.DefaultConfig()
	if cfg.Error != nil {
		return nil, &keys.Error{URI: uri, Op: "open", Kind: keys.ErrConfig, Detail: "the settings in the environment cannot be used",
			Check: "check VAULT_CACERT, VAULT_CAPATH, VAULT_CLIENT_CERT, VAULT_CLIENT_KEY and the other VAULT_ variables"}
	}
	addr, err := address(uri, u, cfg.AgentAddress)
	if err != nil {
		return nil, err
	}
	base, err := transport(ctx, cfg, addr)
	if err != nil {
		return nil, &keys.Error{URI: uri, Op: "open", Kind: keys.ErrConfig, Detail: err.Error(), Check: "write hcvault://HOST:PORT/MOUNT/keys/NAME"}
	}
	k := &key{path: u.EscapedPath(), address: addr, base: base}
	return remote.New(uri, k, remote.Options{Policy: policy, MaxPlaintext: maxPlaintext, Probe: true}), nil
}

// transport is that of the settings, which reaches one address only. A proxy is
// what Vault's own variables name, not those of other programs.
func transport(ctx context.Context, cfg *api.Config, address string) (http.RoundTripper, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errSettings // its text would quote the address
	}
	place, err := outbound.PlaceOf(u)
	if err != nil {
		return nil, err
	}
	way, err := outbound.From(ctx).Way("vault", place)
	if err != nil {
		return nil, err
	}
	if proxy := cmp.Or(os.Getenv(api.EnvVaultProxyAddr), os.Getenv(api.EnvHTTPProxy)); proxy != "" {
		if err := way.Proxy(proxy); err != nil {
			return nil, err
		}
	}
	t, ok := cfg.HttpClient.Transport.(*http.Transport)
	if !ok {
		return nil, errSettings
	}
	way.Guard(t)
	return t, nil
}

// parse takes a URI apart.
func parse(uri string) (*url.URL, error) {
	u, err := url.Parse(uri)
	bad := err != nil || !strings.HasPrefix(uri, Scheme) || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery
	if !bad {
		parts := strings.Split(u.Path, "/")
		n := len(parts)
		bad = n < 4 || parts[n-2] != "keys" || path.Clean(u.Path) != u.Path || strings.ContainsAny(u.Path, "%\\\x00")
	}
	if !bad {
		return u, nil
	}
	e := &keys.Error{URI: uri, Op: "open", Kind: keys.ErrConfig, Detail: "it is not the path of a transit key",
		Check: "write hcvault://HOST:PORT/MOUNT/keys/NAME"}
	if err != nil || u.User != nil || u.RawQuery != "" { // where a token may have been put
		e.URI, e.Check = Scheme+"…", e.Check+"; the token goes into VAULT_TOKEN"
	}
	return nil, e
}

// address is where requests go. The URI names the server that has the key, so
// VAULT_ADDR may add to it that there is no TLS, and cannot contradict it.
func address(uri string, u *url.URL, agent string) (string, error) {
	if agent != "" {
		return agent, nil
	}
	env := os.Getenv(api.EnvVaultAddress)
	if env == "" {
		if u.Host == "" {
			return "", &keys.Error{URI: uri, Op: "open", Kind: keys.ErrConfig, Detail: "neither the URI nor VAULT_ADDR names a host",
				Check: "write hcvault://HOST:PORT/MOUNT/keys/NAME"}
		}
		return "https://" + u.Host, nil
	}
	e, err := url.Parse(env)
	if err != nil || e.Host == "" || e.Scheme != "https" && e.Scheme != "http" || e.User != nil {
		return "", &keys.Error{URI: uri, Op: "open", Kind: keys.ErrConfig, Detail: "VAULT_ADDR is not a URL", Check: "write https://HOST:PORT"}
	}
	if u.Host != "" && !strings.EqualFold(u.Host, e.Host) {
		return "", &keys.Error{URI: uri, Op: "open", Kind: keys.ErrConfig, Detail: "VAULT_ADDR names host " + e.Host + ", the URI another",
			Check: "make them agree, leave VAULT_ADDR unset, or use VAULT_AGENT_ADDR for an agent"}
	}
	return e.Scheme + "://" + e.Host, nil
}

type key struct {
	path    string // "/transit/keys/name"
	address string
	base    http.RoundTripper
}

// client makes Tink's client for one call. Neither it nor the part of Vault's
// client that it uses takes a context, so the transport does. The token is read
// anew each time.
func (k *key) client(ctx context.Context) (tink.AEAD, error) {
	client, err := api.NewClient(&api.Config{
		Address:          k.address,
		HttpClient:       &http.Client{Transport: remote.Bind(ctx, k.base)},
		MaxRetries:       0, // package remote tries again
		DisableRedirects: true,
	})
	if err != nil {
		return nil, errSettings
	}
	return hcvault.NewAEAD(k.path, client.Logical())
}

var errSettings = errors.New("settings")

// Encrypt implements remote.Service.
func (k *key) Encrypt(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	aead, err := k.client(ctx)
	if err != nil {
		return nil, err
	}
	return aead.Encrypt(plaintext, associatedData)
}

// Decrypt implements remote.Service.
func (k *key) Decrypt(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	aead, err := k.client(ctx)
	if err != nil {
		return nil, err
	}
	return aead.Decrypt(ciphertext, associatedData)
}
