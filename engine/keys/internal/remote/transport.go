package remote

import (
	"context"
	"errors"
	"io"
	"net/http"
)

// maxAnswer bounds an answer, in bytes. Real ones are a few kilobytes.
const maxAnswer = 1 << 20

var errTooLong = errors.New("the answer is too long")

// Bind is a transport for one call of a library that takes no context: its
// requests end with ctx. Answers are bounded, and redirects are errors.
func Bind(ctx context.Context, base http.RoundTripper) http.RoundTripper {
	return bound{ctx, base}
}

type bound struct {
	ctx  context.Context
	base http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (b bound) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.base.RoundTrip(req.WithContext(b.ctx))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		resp.Body.Close()
		return nil, redirect{resp.StatusCode}
	}
	resp.Body = &limited{resp.Body, maxAnswer}
	return resp, nil
}

// limited is a body that fails when it is too long, where io.LimitReader
// would end as if that were all.
type limited struct {
	io.ReadCloser
	left int
}

// Read implements io.Reader.
func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		var one [1]byte
		if n, err := l.ReadCloser.Read(one[:]); n == 0 {
			return 0, err
		}
		return 0, errTooLong
	}
	n, err := l.ReadCloser.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}
