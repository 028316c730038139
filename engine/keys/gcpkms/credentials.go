package gcpkms

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"github.com/chromad/chromad/engine/keys/internal/remote"
	"github.com/chromad/chromad/internal/outbound"
)

// Where Google's own credentials lead. A file of credentials may name others.
const (
	tokenServer    = "oauth2.googleapis.com:443"
	metadataServer = "169.254.169.254"
)

const (
	maxCredentials  = 1 << 20         // bytes of a file of credentials
	metadataTimeout = 2 * time.Second // which answers within milliseconds where there is one
)

// newWay leads to the service, to Google's token server and to the machine's own
// metadata server.
func newWay(ctx context.Context) (*outbound.Way, error) {
	w, err := outbound.From(ctx).Way("gcp-kms", strings.TrimPrefix(endpoint, "https://")+":443", tokenServer)
	if err == nil {
		err = remote.Proxy(w)
	}
	return w, err
}

// transport is one that goes the way.
func transport(w *outbound.Way) http.RoundTripper {
	t := &http.Transport{ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute}
	w.Guard(t)
	return t
}

// accessToken gets a token with what the library calls application default
// credentials. The metadata server is asked here: the library would do it by
// connections of its own.
func (k *key) accessToken(ctx context.Context, base http.RoundTripper) (*oauth2.Token, error) {
	text, err := credentialsFile()
	if err != nil {
		return nil, errCredentials
	}
	if text == nil {
		return k.machineToken(ctx)
	}
	if k.way != nil {
		if err := k.way.Name(placesIn(text)...); err != nil {
			return nil, errCredentials
		}
	}
	found, err := google.FindDefaultCredentials(context.WithValue(ctx, oauth2.HTTPClient, &http.Client{Transport: base}), scope)
	if err != nil {
		return nil, errCredentials
	}
	return found.TokenSource.Token()
}

// credentialsFile reads the file that the library would; nil: there is none.
func credentialsFile() ([]byte, error) {
	if path := os.Getenv("GOOGLE_APPLICATION_CREDENTIALS"); path != "" {
		return readFile(path)
	}
	dir := os.Getenv("HOME") + "/.config"
	if runtime.GOOS == "windows" {
		dir = os.Getenv("APPDATA")
	}
	text, err := readFile(dir + "/gcloud/application_default_credentials.json")
	if err != nil {
		return nil, nil
	}
	return text, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxCredentials+1))
	if err == nil && len(text) > maxCredentials {
		err = errCredentials
	}
	return text, err
}

// placesIn are the places that a file of credentials names: its token server,
// and what it exchanges tokens with.
func placesIn(text []byte) (places []string) {
	var v any
	if json.Unmarshal(text, &v) != nil {
		return nil
	}
	walk(v, func(s string) {
		if !strings.HasPrefix(s, "https://") && !strings.HasPrefix(s, "http://") {
			return
		}
		if u, err := url.Parse(s); err == nil {
			if place, err := outbound.PlaceOf(u); err == nil {
				places = append(places, place)
			}
		}
	})
	return places
}

// walk calls fn for every text of a decoded document, whose nesting the decoder bounds.
func walk(v any, fn func(string)) {
	switch v := v.(type) {
	case string:
		fn(v)
	case []any:
		for _, e := range v {
			walk(e, fn)
		}
	case map[string]any:
		for _, e := range v {
			walk(e, fn)
		}
	}
}

// machineToken asks the metadata server for a token of the machine's service
// account.
func (k *key) machineToken(ctx context.Context) (*oauth2.Token, error) {
	host := os.Getenv("GCE_METADATA_HOST")
	if host == "" {
		host = metadataServer
	}
	u := &url.URL{Scheme: "http", Host: host, Path: "/computeMetadata/v1/instance/service-accounts/default/token", RawQuery: url.Values{"scopes": {scope}}.Encode()}
	place, err := outbound.PlaceOf(u)
	if err == nil && k.way != nil {
		err = k.way.Name(place)
	}
	if err != nil {
		return nil, errCredentials
	}
	limited, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(limited, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, errCredentials
	}
	req.Header.Set("Metadata-Flavor", "Google")
	resp, err := remote.Bind(limited, k.base).RoundTrip(req)
	if err != nil {
		return nil, cause(ctx, errCredentials)
	}
	defer resp.Body.Close()
	var t struct {
		AccessToken string `json:"access_token"`
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("Metadata-Flavor") != "Google" || json.Unmarshal(text, &t) != nil || t.AccessToken == "" {
		return nil, errors.Join(errToken, err)
	}
	return &oauth2.Token{AccessToken: t.AccessToken}, nil
}
