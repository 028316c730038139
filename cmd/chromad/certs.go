package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// certsCommands are the words behind chromad certs.
func certsCommands() []subcommand {
	return []subcommand{
		{"dev", "--out DIR [flags]", "make a local authority and certificates, for trying TLS out", certsDev},
	}
}

func certsCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return group(ctx, "chromad certs", certsUsage(), certsCommands(), args, stdout, stderr)
}

func certsUsage() string {
	return groupUsage("certs", "Certificates for chromad run --tls-cert.", certsCommands(), "\nMore: chromad certs dev --help, docs/security.md\n")
}

func certsDev(_ context.Context, args []string, stdout, stderr io.Writer) int {
	p := newFlagPage("certs dev", "--out DIR", "Make a local authority, a certificate of a server and one of a client, for trying TLS out.", `
Example:

  chromad certs dev --out ./certs
  chromad run --tls-cert ./certs/server.pem --tls-key ./certs/server.key
  curl --cacert ./certs/ca.pem https://localhost:8000/api/v2/heartbeat

With certificates of clients, which then are what lets anybody in:

  chromad run --tls-cert ./certs/server.pem --tls-key ./certs/server.key --tls-client-ca ./certs/ca.pem
  curl --cacert ./certs/ca.pem --cert ./certs/client.pem --key ./certs/client.key https://localhost:8000/api/v2/heartbeat

For development. Whoever has ca.key can make certificates that your clients trust; in production take
certificates from your own authority, or a public one. Files that are there already are never replaced.
`)
	out := p.String("out", "", "`directory` for the files; made when it is missing")
	var hosts, clients list
	p.Var(&hosts, "host", "another `name` or address of the server, beside localhost, 127.0.0.1 and ::1; may be repeated")
	p.Var(&clients, "client", "`name` of a client (client); may be repeated, and then it names the files")
	days := p.Int("days", 90, "`days` until the certificates of server and clients expire")
	rest, err := p.read(args)
	switch {
	case err != nil:
	case len(rest) > 0:
		err = fmt.Errorf("%q: no argument is wanted; write --out %s", rest[0], rest[0])
	case *out == "":
		err = errors.New("where to? write --out DIR")
	case *days < 1 || *days > 825:
		err = fmt.Errorf("--days %d: 1 to 825", *days)
	}
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	if len(clients) == 0 {
		clients = list{"client"}
	}
	d := devCerts{dir: *out, hosts: append(list{"localhost", "127.0.0.1", "::1"}, hosts...), clients: clients, days: *days, now: time.Now()}
	made, err := d.make()
	for _, path := range made {
		fmt.Fprintln(stdout, "made", path)
	}
	if err != nil {
		return p.fail(err, stderr)
	}
	fmt.Fprintf(stdout, "\nchromad run --tls-cert %s --tls-key %s\n", filepath.Join(*out, "server.pem"), filepath.Join(*out, "server.key"))
	return exitOK
}

// devCerts makes certificates for development: an authority of its own and
// what it signs.
type devCerts struct {
	dir            string
	hosts, clients []string
	days           int
	now            time.Time

	authority    *x509.Certificate
	authorityKey *ecdsa.PrivateKey
	made         []string
}

// make writes all files, and returns those that were made, also when it fails.
func (d *devCerts) make() ([]string, error) {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return nil, err
	}
	// All or nothing where it can be told beforehand.
	names := []string{"ca.pem", "ca.key", "server.pem", "server.key"}
	for _, c := range d.clients {
		if filepath.Base(c) != c || c == "." || c == ".." || c == "ca" || c == "server" {
			return nil, fmt.Errorf("--client %q: cannot be the name of a file", c)
		}
		names = append(names, c+".pem", c+".key")
	}
	for _, n := range names {
		if _, err := os.Lstat(filepath.Join(d.dir, n)); err == nil {
			return nil, fmt.Errorf("%s is there already and is not replaced: name another directory", filepath.Join(d.dir, n))
		}
	}
	ca := &x509.Certificate{
		Subject: pkix.Name{CommonName: "chromad development authority"}, IsCA: true, BasicConstraintsValid: true,
		MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if err := d.sign("ca", ca, 2*d.days); err != nil {
		return d.made, err
	}
	server := &x509.Certificate{Subject: pkix.Name{CommonName: d.hosts[0]}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, h := range d.hosts {
		if ip := net.ParseIP(h); ip != nil {
			server.IPAddresses = append(server.IPAddresses, ip)
		} else {
			server.DNSNames = append(server.DNSNames, h)
		}
	}
	if err := d.sign("server", server, d.days); err != nil {
		return d.made, err
	}
	for _, c := range d.clients {
		client := &x509.Certificate{Subject: pkix.Name{CommonName: c}, KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		if err := d.sign(c, client, d.days); err != nil {
			return d.made, err
		}
	}
	return d.made, nil
}

// sign makes a key and a certificate of it; the first one is the authority's.
func (d *devCerts) sign(name string, c *x509.Certificate, days int) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if c.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return err
	}
	// An hour for clocks that do not agree.
	c.NotBefore, c.NotAfter = d.now.Add(-time.Hour), d.now.AddDate(0, 0, days)
	parent, signer := d.authority, d.authorityKey
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		return fmt.Errorf("certificate of %s: %w", name, err)
	}
	if d.authority == nil {
		d.authorityKey = key
		if d.authority, err = x509.ParseCertificate(der); err != nil {
			return err
		}
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := d.write(name+".key", "PRIVATE KEY", private, 0o600); err != nil {
		return err
	}
	return d.write(name+".pem", "CERTIFICATE", der, 0o644)
}

func (d *devCerts) write(name, kind string, der []byte, mode fs.FileMode) error {
	path := filepath.Join(d.dir, name)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	err = pem.Encode(f, &pem.Block{Type: kind, Bytes: der})
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	d.made = append(d.made, path)
	return nil
}
