package gcpkms

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strings"

	"golang.org/x/oauth2"

	"github.com/chromad/chromad/engine/keys"
	"github.com/chromad/chromad/engine/keys/internal/remote"
	"github.com/chromad/chromad/internal/outbound"
)

// Scheme is what URIs of this package begin with.
const Scheme = "gcp-kms://"

const (
	endpoint     = "https://cloudkms.googleapis.com"
	scope        = "https://www.googleapis.com/auth/cloudkms"
	maxPlaintext = 64 << 10 // of the service, in bytes; 8 KiB for keys in hardware
)

var resource = regexp.MustCompile(`^projects/[A-Za-z0-9.:_-]+/locations/[A-Za-z0-9-]+/keyRings/[A-Za-z0-9_-]+/cryptoKeys/[A-Za-z0-9_-]+$`)

// Open makes an operator's key of a URI. Credentials are looked for, and the
// service is asked, when the key is used.
func Open(ctx context.Context, uri string) (keys.Operator, error) {
	way, err := newWay(ctx)
	if err != nil {
		return nil, &keys.Error{URI: uri, Op: "open", Kind: keys.ErrConfig, Detail: err.Error(), Check: "check " + remote.ProxyVariable}
	}
	return open(ctx, uri, endpoint, transport(way), way, remote.Standard())
}

// open is Open for a service elsewhere. base goes the way; nil: wherever it likes.
func open(ctx context.Context, uri, endpoint string, base http.RoundTripper, way *outbound.Way, policy remote.Policy) (keys.Operator, error) {
	if err := ctx.Err(); err != nil {
		return nil, &keys.Error{URI: uri, Op: "open", Kind: err}
	}
	name := strings.TrimPrefix(uri, Scheme)
	if name == uri || !resource.MatchString(name) {
		e := &keys.Error{URI: uri, Op: "open", Kind: keys.ErrConfig, Detail: "it is not the name of a key",
			Check: "write gcp-kms://projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY"}
		if strings.Contains(name, "/cryptoKeyVersions/") {
			e.Detail = "it names a version of a key, and the service finds versions itself"
		}
		return nil, e
	}
	return remote.New(uri, &key{name, endpoint, base, way}, remote.Options{Policy: policy, MaxPlaintext: maxPlaintext}), nil
}

type key struct {
	name     string
	endpoint string
	base     http.RoundTripper
	way      *outbound.Way // of base, which credentials add places to
}

// Any reason for which there are none. The library's own errors quote answers
// of token servers.
var (
	errCredentials = errors.New("no credentials")
	errToken       = errors.New("no access token")
)

// refused is what a token server says when it gives no token.
type refused struct {
	status int
	code   string
}

func (r refused) Error() string { return "token refused: " + r.code }

// token gets an access token. The credentials are read anew each time: calls
// are rare, and a file that was replaced meanwhile counts.
func (k *key) token(ctx context.Context) (string, error) {
	way := &witness{base: remote.Bind(ctx, k.base)} // the library's requests carry no context of their own
	t, err := k.accessToken(ctx, way)
	if errors.Is(err, errCredentials) {
		return "", cause(ctx, errCredentials)
	}
	if err == nil && t.AccessToken != "" {
		return t.AccessToken, nil
	}
	if r, ok := errors.AsType[*oauth2.RetrieveError](err); ok && r.Response != nil {
		return "", refused{r.Response.StatusCode, errorCode(r.Body)}
	}
	if way.err != nil {
		return "", way.err
	}
	return "", cause(ctx, errToken)
}

// A witness remembers what went wrong on the way to a token server: the library
// turns errors into text.
type witness struct {
	base http.RoundTripper
	err  error
}

// RoundTrip implements http.RoundTripper.
func (w *witness) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := w.base.RoundTrip(req)
	w.err = err
	return resp, err
}

var code = regexp.MustCompile(`^[a-z_]{1,40}$`)

// errorCode is the code in the answer of a token server (RFC 6749, section
// 5.2), if it has one.
func errorCode(body []byte) string {
	var a struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &a) != nil || !code.MatchString(a.Error) {
		return "refused"
	}
	return a.Error
}

// cause is the end of the context if that is why err is there.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// Explain implements remote.Service.
func (k *key) Explain(op string, err error) remote.Failure {
	const credentials = "check GOOGLE_APPLICATION_CREDENTIALS, gcloud auth application-default login, or the service account of this machine"
	if errors.Is(err, errCredentials) {
		return remote.Failure{Kind: keys.ErrDenied, Detail: "no credentials for Google Cloud can be had", Check: credentials}
	}
	if r, ok := errors.AsType[refused](err); ok {
		f := remote.Status(r.status)
		if f.Kind != keys.ErrUnavailable {
			f.Kind = keys.ErrDenied
		}
		f.Detail, f.Check = "no access token: "+r.code, credentials
		return f
	}
	if a, ok := errors.AsType[*apiError](err); ok {
		return a.failure(op)
	}
	if errors.Is(err, errToken) {
		return remote.Failure{Kind: keys.ErrDenied, Detail: "no access token can be had", Check: credentials}
	}
	return remote.Failure{Kind: keys.ErrUnavailable, Detail: "the service cannot be reached", Check: "check the network and " + remote.ProxyVariable}
}
