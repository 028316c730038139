package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"
)

// tlsFiles is where a server finds its certificates.
type tlsFiles struct {
	cert, key string // PEM: the server's chain, leaf first, and its private key
	clients   string // PEM: authorities of clients; "" asks clients for no certificate
	min       string // "1.3" or "1.2"
}

// maxPEM bounds what is read of one file.
const maxPEM = 1 << 20

// certificates are those of the running server. They are read again when a
// file changes, so that who renews them need not stop the server: at a
// handshake, at most once a second. Files that do not fit together, as in the
// middle of a renewal, leave the last good ones in use.
type certificates struct {
	files tlsFiles
	log   *slog.Logger
	now   func() time.Time

	mu      sync.Mutex
	checked time.Time
	stamps  [3]stamp
	config  *tls.Config
}

// stamp tells whether a file is still the one that was read.
type stamp struct {
	size     int64
	modified time.Time
}

// loadTLS reads the files. The certificates are not nil when err is nil.
func loadTLS(files tlsFiles, log *slog.Logger) (*certificates, error) {
	c := &certificates{files: files, log: log, now: time.Now}
	stamps, err := c.stat()
	if err != nil {
		return nil, err
	}
	if c.config, err = c.read(); err != nil {
		return nil, err
	}
	c.stamps, c.checked = stamps, c.now()
	return c, nil
}

// server is the configuration of a listener: one handshake, one look at the files.
func (c *certificates) server() *tls.Config {
	base := c.current().Clone()
	base.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current(), nil }
	return base
}

func (c *certificates) current() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); now.Sub(c.checked) >= time.Second || now.Before(c.checked) {
		c.checked = now
		c.renew()
	}
	return c.config
}

// renew reads files that changed; the lock is held.
func (c *certificates) renew() {
	stamps, err := c.stat()
	if err == nil && stamps == c.stamps {
		return
	}
	var config *tls.Config
	if err == nil {
		config, err = c.read()
	}
	if err != nil {
		c.log.Error("certificates cannot be read again; those of before stay in use", "error", err.Error())
		return
	}
	c.config, c.stamps = config, stamps
	c.log.Info("certificates were read again", "cert", c.files.cert, "expires", config.Certificates[0].Leaf.NotAfter.Format(time.RFC3339))
}

func (c *certificates) stat() (stamps [3]stamp, err error) {
	for i, path := range []string{c.files.cert, c.files.key, c.files.clients} {
		if path == "" {
			continue
		}
		st, err := os.Stat(path)
		if err != nil {
			return stamps, fmt.Errorf("tls: %w", err)
		}
		stamps[i] = stamp{st.Size(), st.ModTime()}
	}
	return stamps, nil
}

func (c *certificates) read() (*tls.Config, error) {
	chain, err := readPEM(c.files.cert)
	if err != nil {
		return nil, err
	}
	key, err := readPEM(c.files.key)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	if err := ownersAlone("tls: private key", c.files.key); err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("tls: certificate %s with key %s: %w", c.files.cert, c.files.key, err)
	}
	if now := c.now(); now.After(pair.Leaf.NotAfter) {
		return nil, fmt.Errorf("tls: certificate %s: expired on %s", c.files.cert, pair.Leaf.NotAfter.Format(time.DateOnly))
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{"h2", "http/1.1"},
	}
	if c.files.min == "1.2" {
		config.MinVersion = tls.VersionTLS12
	}
	if c.files.clients != "" {
		authorities, err := readPEM(c.files.clients)
		if err != nil {
			return nil, err
		}
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(authorities) {
			return nil, fmt.Errorf("tls: %s: holds no certificate", c.files.clients)
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return config, nil
}

func readPEM(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err != nil {
		return nil, fmt.Errorf("tls: %s: %w", path, err)
	}
	if len(b) > maxPEM {
		return nil, fmt.Errorf("tls: %s: larger than %s", path, size(maxPEM))
	}
	return b, nil
}

// check says what is missing among the files; none at all is no TLS.
func (f tlsFiles) check() error {
	switch {
	case f.min != "1.3" && f.min != "1.2":
		return fmt.Errorf("--tls-min %q: one of 1.3, 1.2", f.min)
	case f.cert != "" && f.key == "":
		return errors.New("--tls-cert needs --tls-key: the private key of the certificate")
	case f.key != "" && f.cert == "":
		return errors.New("--tls-key needs --tls-cert: the certificate of the key")
	case f.clients != "" && f.cert == "":
		return errors.New("--tls-client-ca needs --tls-cert and --tls-key: certificates of clients are part of TLS")
	}
	return nil
}
