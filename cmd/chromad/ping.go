package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/chromad/chromad/internal/outbound"
)

// pingTimeout is how long a server may take to say that it is well.
const pingTimeout = 5 * time.Second

// pingCommand asks a server whether it takes writes. Images without a shell
// have no other program for it.
func pingCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newFlagPage("ping", "[URL]", "Ask a server whether it is up and takes writes. Status 0: it does.", `
Examples:

  chromad ping
  chromad ping https://localhost:8000 --ca certs/ca.pem

URL is http://127.0.0.1:8000 when left out. No key is needed.
`)
	ca := p.String("ca", "", "certificate of the authority to trust, beside the system's: `file`")
	rest, err := p.read(args)
	if err == nil && len(rest) > 1 {
		err = fmt.Errorf("%q: one server at a time", rest[1])
	}
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	at := "http://127.0.0.1:8000"
	if len(rest) > 0 {
		at = rest[0]
	}
	if err := ping(ctx, at, *ca); err != nil {
		return p.fail(err, stderr)
	}
	fmt.Fprintln(stdout, "ok")
	return exitOK
}

// ping wants the healthcheck of the server at a URL to answer 200.
func ping(ctx context.Context, at, ca string) error {
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return err
		}
		if trust.RootCAs, err = x509.SystemCertPool(); err != nil {
			trust.RootCAs = x509.NewCertPool()
		}
		if !trust.RootCAs.AppendCertsFromPEM(text) {
			return fmt.Errorf("%s: no certificate in it; it is a PEM file, as certs/ca.pem of chromad certs dev", ca)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(at, "/")+"/api/v2/healthcheck", nil)
	if err != nil {
		return err
	}
	place, err := outbound.PlaceOf(r.URL)
	if err != nil {
		return err
	}
	way, err := outbound.From(ctx).Way("ping", place)
	if err != nil {
		return err
	}
	client := way.Client(outbound.Client{TLS: trust})
	defer client.CloseIdleConnections()
	res, err := client.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", at, res.Status)
	}
	return nil
}
