package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/chromad/chromad/engine/keys"
)

// ErrAnswer is an answer that is not of the service's form: something else
// listens there, or the answer was damaged on its way.
var ErrAnswer = errors.New("the answer is not the key service's")

// redirect is an answer that points elsewhere. It is not followed: whoever is
// there would get the plaintext and the credentials.
type redirect struct{ status int }

func (r redirect) Error() string { return fmt.Sprintf("redirected (HTTP %d)", r.status) }

// network explains errors of the way to a service, which all services share.
func network(err error) (Failure, bool) {
	const way = "check the address, the network and the proxy settings"
	if r, ok := errors.AsType[redirect](err); ok {
		return Failure{Kind: keys.ErrConfig, Detail: r.Error(), Check: "redirects are not followed: check the address"}, true
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return certificate(err), true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || errors.Is(err, http.ErrSchemeMismatch) {
		return Failure{Kind: keys.ErrConfig, Detail: "what answers does not speak TLS", Check: "check port and scheme of the address"}, true
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return Failure{Kind: keys.ErrUnavailable, Detail: "no address for host " + dns.Name, Check: way}, true
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return Failure{Kind: keys.ErrUnavailable, Detail: "no answer in time", Check: way}, true
	}
	if errors.Is(err, ErrAnswer) || errors.Is(err, errTooLong) {
		return Failure{Kind: keys.ErrUnavailable, Detail: ErrAnswer.Error(), Check: "check the address and what stands before the service"}, true
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return Failure{Kind: keys.ErrUnavailable, Detail: op.Error(), Check: way}, true
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return Failure{Kind: keys.ErrUnavailable, Detail: "the connection ended within the answer", Check: way}, true
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return Failure{Kind: keys.ErrUnavailable, Detail: "no answer in time", Check: way}, true
	}
	return Failure{}, false
}

func certificate(err error) Failure {
	f := Failure{Kind: keys.ErrConfig, Detail: "the certificate of the service is not trusted", Check: "check the address and the certificate authorities"}
	if host, ok := errors.AsType[x509.HostnameError](err); ok {
		f.Detail = "the certificate is not for host " + host.Host
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		f.Detail = invalid.Error()
	}
	return f
}

// Status is the meaning of an HTTP status that nothing more is known of.
func Status(code int) Failure {
	f := Failure{Code: fmt.Sprintf("HTTP %d", code), Detail: http.StatusText(code)}
	switch {
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		f.Kind = keys.ErrDenied
	case code == http.StatusNotFound:
		f.Kind = keys.ErrNotFound
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code >= 500:
		f.Kind = keys.ErrUnavailable
	default:
		f.Kind = keys.ErrConfig
	}
	return f
}
