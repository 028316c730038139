package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// devCertsIn makes certificates in a new directory, by the command.
func devCertsIn(t *testing.T, args ...string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "certs")
	var out bytes.Buffer
	if status := command(t.Context(), append([]string{"certs", "dev", "--out", dir}, args...), &out, &out); status != exitOK {
		t.Fatal(&out)
	}
	return dir
}

// client trusts the authority in dir, and shows the certificate of name, if any.
func client(t *testing.T, dir, name string) *http.Client {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AppendCertsFromPEM(text)
	if name != "" {
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func serverFlags(dir string, more ...string) []string {
	return append([]string{"--tls-cert", filepath.Join(dir, "server.pem"), "--tls-key", filepath.Join(dir, "server.key")}, more...)
}

func TestTLS(t *testing.T) {
	dir, other := devCertsIn(t), devCertsIn(t)
	for _, c := range []struct {
		name   string
		flags  []string
		client func() *http.Client
		ok     bool
	}{
		{"the authority is trusted", nil, func() *http.Client { return client(t, dir, "") }, true},
		{"another authority is trusted", nil, func() *http.Client { return client(t, other, "") }, false},
		{"TLS 1.2", nil, func() *http.Client { return old(client(t, dir, "")) }, false},
		{"TLS 1.2 is wanted", []string{"--tls-min", "1.2"}, func() *http.Client { return old(client(t, dir, "")) }, true},
		{"no certificate", []string{"--tls-client-ca", filepath.Join(dir, "ca.pem")}, func() *http.Client { return client(t, dir, "") }, false},
		{"a certificate", []string{"--tls-client-ca", filepath.Join(dir, "ca.pem")}, func() *http.Client { return client(t, dir, "client") }, true},
		{"a server's certificate", []string{"--tls-client-ca", filepath.Join(dir, "ca.pem")}, func() *http.Client { return client(t, dir, "server") }, false},
		{"a certificate of another authority", []string{"--tls-client-ca", filepath.Join(other, "ca.pem")}, func() *http.Client { return client(t, dir, "client") }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, append(serverFlags(dir, c.flags...), "--path", filepath.Join(t.TempDir(), "store"))...)
			defer s.finish(t)
			res, err := c.client().Get(s.address + "/api/v2/heartbeat")
			if err != nil {
				if c.ok {
					t.Fatal(err)
				}
				return
			}
			defer res.Body.Close()
			if !c.ok || res.StatusCode != http.StatusOK || res.ProtoMajor != 2 {
				t.Errorf("%s, %s", res.Status, res.Proto)
			}
		})
	}
}

func old(c *http.Client) *http.Client {
	c.Transport.(*http.Transport).TLSClientConfig.MaxVersion = tls.VersionTLS12
	return c
}

// Who speaks plain HTTP to a port with TLS gets no answer of the API.
func TestTLSOnly(t *testing.T) {
	s := start(t, append(serverFlags(devCertsIn(t)), "--path", filepath.Join(t.TempDir(), "store"))...)
	defer s.finish(t)
	res, err := http.Get(strings.Replace(s.address, "https:", "http:", 1) + "/api/v2/heartbeat")
	if err != nil {
		return
	}
	defer res.Body.Close()
	if text, _ := io.ReadAll(res.Body); res.StatusCode == http.StatusOK || strings.Contains(string(text), "heartbeat") {
		t.Errorf("%s %s", res.Status, text)
	}
}

// Certificates that are renewed under a running server are used from the next
// handshake on; a file that is only half there changes nothing.
func TestTLSRenewed(t *testing.T) {
	first, second := devCertsIn(t), devCertsIn(t)
	var log bytes.Buffer
	c, err := loadTLS(tlsFiles{cert: filepath.Join(first, "server.pem"), key: filepath.Join(first, "server.key"), min: "1.3"},
		slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	c.now = func() time.Time { return at }
	leaf := func() string {
		config, err := c.server().GetConfigForClient(nil)
		if err != nil {
			t.Fatal(err)
		}
		return config.Certificates[0].Leaf.SerialNumber.String()
	}
	was := leaf()
	renew := func(from, name string) {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(first, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		at = at.Add(time.Second)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	renew(second, "server.pem") // with the key of before
	if leaf() != was || !strings.Contains(log.String(), "those of before stay in use") {
		t.Errorf("half a renewal: %s", &log)
	}
	renew(second, "server.key")
	if leaf() == was {
		t.Errorf("not renewed: %s", &log)
	}
	was = leaf()
	if err := os.Remove(filepath.Join(first, "server.pem")); err != nil {
		t.Fatal(err)
	}
	at = at.Add(time.Second)
	if leaf() != was {
		t.Error("a missing file changed what is in use")
	}
}

func TestTLSRefused(t *testing.T) {
	dir, other := devCertsIn(t), devCertsIn(t)
	cert, key := filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key")
	readable := filepath.Join(t.TempDir(), "key")
	text, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(readable, text, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		args       []string
	}{
		{"no key", "--tls-cert needs --tls-key", []string{"--tls-cert", cert}},
		{"no certificate", "--tls-key needs --tls-cert", []string{"--tls-key", key}},
		{"clients without TLS", "needs --tls-cert and --tls-key", []string{"--tls-client-ca", cert}},
		{"version", "one of 1.3, 1.2", []string{"--tls-min", "1.1"}},
		{"another's key", "private key does not match", []string{"--tls-cert", cert, "--tls-key", filepath.Join(other, "server.key")}},
		{"no such file", "no such file", []string{"--tls-cert", cert + "x", "--tls-key", key}},
		{"authorities without a certificate", "holds no certificate", serverFlags(dir, "--tls-client-ca", key)},
		{"a key for everybody to read", "chmod 600", []string{"--tls-cert", cert, "--tls-key", readable}},
		{"all addresses, anybody", "has no users", serverFlags(dir, "--host", "0.0.0.0")},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.want == "chmod 600" && runtime.GOOS == "windows" {
				t.Skip("modes say nothing on Windows")
			}
			path := filepath.Join(t.TempDir(), "store")
			var stderr bytes.Buffer
			status := command(t.Context(), append([]string{"run", "--port", "0", "--path", path}, c.args...), io.Discard, &stderr)
			if status == exitOK || !strings.Contains(stderr.String(), c.want) {
				t.Errorf("status %d, %s", status, &stderr)
			}
			if _, err := os.Stat(path); err == nil {
				t.Error("a store was made")
			}
		})
	}
}

// With certificates of clients a server may be reached from everywhere.
func TestTLSForOthers(t *testing.T) {
	dir := devCertsIn(t)
	s := start(t, append(serverFlags(dir, "--tls-client-ca", filepath.Join(dir, "ca.pem"), "--host", "0.0.0.0"),
		"--path", filepath.Join(t.TempDir(), "store"))...)
	s.finish(t)
}

func TestCertsDev(t *testing.T) {
	dir := devCertsIn(t, "--client", "ada", "--client", "bob", "--host", "db.example", "--host", "10.0.0.1", "--days", "1")
	var out bytes.Buffer
	if status := command(t.Context(), []string{"certs", "dev", "--out", dir}, &out, &out); status != exitFailed || !strings.Contains(out.String(), "not replaced") {
		t.Errorf("again: status %d, %s", status, &out)
	}
	for _, name := range []string{"ca.key", "server.key", "ada.key", "bob.key"} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || runtime.GOOS != "windows" && st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"localhost", "127.0.0.1", "::1", "db.example", "10.0.0.1"} {
		if err := pair.Leaf.VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
	if left := time.Until(pair.Leaf.NotAfter); left > 24*time.Hour || left < 22*time.Hour {
		t.Errorf("expires in %s", left)
	}
	for _, args := range [][]string{{}, {"--out", dir, "x"}, {"--out", dir, "--days", "0"}, {"--out", t.TempDir(), "--client", "../x"}, {"--out", t.TempDir(), "--client", "ca"}} {
		if status := command(t.Context(), append([]string{"certs", "dev"}, args...), io.Discard, io.Discard); status == exitOK {
			t.Errorf("%q was taken", args)
		}
	}
}
