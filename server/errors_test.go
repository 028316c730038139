package server

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/chromad/chromad/engine"
)

// Every error of the engine has an answer, and what an operator must know of
// it is there whatever it is wrapped in.
func TestEngineErrors(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		kind   string
	}{
		{engine.ErrNotFound, 404, kindNotFound},
		{engine.ErrExists, 409, kindChroma},
		{engine.ErrInvalid, 400, kindInvalid},
		{&engine.InvalidError{Field: "metadata", Index: 3, Reason: "x"}, 400, kindInvalid},
		{&engine.DimensionError{Want: 3, Got: 2}, 400, kindInvalid},
		{fmt.Errorf("flush: %w", engine.ErrNoHandle), 503, kindInternal},
		{engine.ErrTooLarge, 400, kindInvalid},
		{engine.ErrReadOnly, 403, kindChroma},
		{fmt.Errorf("%w: %w", engine.ErrBusy, context.DeadlineExceeded), 429, kindBackoff},
		{engine.ErrDiskFull, 507, kindInternal},
		{engine.ErrFailed, 503, kindInternal},
		{engine.ErrClosed, 503, kindInternal},
		{engine.ErrCorrupt, 500, kindInternal},
		{engine.ErrUnknown, 500, kindInternal},
		{fmt.Errorf("%w: %w", engine.ErrUnknown, context.DeadlineExceeded), 504, kindInternal},
		{context.Canceled, 499, kindInternal},
		{context.DeadlineExceeded, 504, kindInternal},
		{errors.New("seg/000001.seg: anything else"), 500, kindInternal},
	} {
		e := toAPI(fmt.Errorf("collection %q: %w", "x", c.err))
		if e.status != c.status || e.kind != c.kind || e.message == "" || !errors.Is(e.cause, c.err) {
			t.Errorf("%v: %d %s %q, want %d %s", c.err, e.status, e.kind, e.message, c.status, c.kind)
		}
	}
	if e := toAPI(errors.New("open /secret/path: no")); e.message != "internal error; the server's log says more" {
		t.Errorf("an unknown error tells %q", e.message)
	}
}

// TestRetryAfter: a client is asked to come again when nothing was kept and it
// will pass, and only then.
func TestRetryAfter(t *testing.T) {
	r := newRig(t, Config{}, nil)
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("%w: %w", engine.ErrBusy, context.DeadlineExceeded), "1"},
		{engine.ErrNoHandle, "1"},
		{engine.ErrFailed, ""},
		{engine.ErrUnknown, ""},
		{engine.ErrDiskFull, ""},
	} {
		w := httptest.NewRecorder()
		(&call{s: r.Server, w: w, r: httptest.NewRequest("POST", "/", nil), read: true}).fail(c.err)
		if got := w.Header().Get("Retry-After"); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
}
