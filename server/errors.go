package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/filter"
)

// Chroma's names of errors. Python's client chooses its exception by them.
const (
	kindInvalid       = "InvalidArgumentError"
	kindNotFound      = "NotFoundError"
	kindChroma        = "ChromaError"
	kindInternal      = "InternalError"
	kindUnimplemented = "Unimplemented"
	kindBackoff       = "Backoff"
)

// apiError is an answer other than success.
type apiError struct {
	status  int
	kind    string
	message string
	cause   error         // what goes to the log and not to the client
	after   time.Duration // when asking again can succeed; 0: nothing is said
	refused string        // which of the refusals in the metrics it is; "": none
}

func (e *apiError) Error() string { return e.message }

func (e *apiError) Unwrap() error { return e.cause }

func invalid(format string, args ...any) error {
	return &apiError{status: http.StatusBadRequest, kind: kindInvalid, message: text(format, args)}
}

func notFound(format string, args ...any) error {
	return &apiError{status: http.StatusNotFound, kind: kindNotFound, message: text(format, args)}
}

func conflict(format string, args ...any) error {
	return &apiError{status: http.StatusConflict, kind: kindChroma, message: text(format, args)}
}

func unimplemented(message string) error {
	return &apiError{status: http.StatusNotImplemented, kind: kindChroma, message: message}
}

func text(format string, args []any) string {
	if len(args) == 0 {
		return format
	}
	return fmt.Sprintf(format, args...)
}

// unreadable is the answer to a body that the scanner refused.
func unreadable(s *scanner) error {
	if s.err.syntax {
		return invalid("Failed to parse the request body as JSON: %s", s.message())
	}
	return &apiError{status: http.StatusUnprocessableEntity, kind: kindChroma,
		message: "Failed to deserialize the JSON body into the target type: " + s.message()}
}

// wrongDimension is the answer to an embedding of another length than the
// collection's.
func wrongDimension(want, got int, cause error) *apiError {
	return &apiError{
		status: http.StatusBadRequest, kind: kindInvalid, cause: cause,
		message: fmt.Sprintf("Collection expecting embedding with dimension of %d, got %d", want, got),
	}
}

// toAPI maps an error of the engine or of a filter to an answer. Handlers have
// put names to "not found" and "already exists" before, see missing and taken.
func toAPI(err error) *apiError {
	if e, ok := errors.AsType[*apiError](err); ok {
		return e
	}
	answer := func(status int, kind, message string) *apiError {
		return &apiError{status: status, kind: kind, message: message, cause: err}
	}
	var dimension *engine.DimensionError
	var disabled *filter.DisabledError
	switch {
	case errors.As(err, &dimension):
		return wrongDimension(dimension.Want, dimension.Got, err)
	case errors.As(err, &disabled):
		return answer(http.StatusBadRequest, kindInvalid, disabled.Error())
	case errors.Is(err, filter.ErrRegex):
		return answer(http.StatusBadRequest, kindInvalid, err.Error())
	case errors.Is(err, filter.ErrWhere):
		return answer(http.StatusBadRequest, kindInvalid, filter.ErrWhere.Error())
	case errors.Is(err, filter.ErrWhereDocument):
		return answer(http.StatusBadRequest, kindInvalid, filter.ErrWhereDocument.Error())
	case errors.Is(err, filter.ErrFullTextDisabled):
		return answer(http.StatusBadRequest, kindInvalid, filter.ErrFullTextDisabled.Error())
	case errors.Is(err, engine.ErrInvalid), errors.Is(err, engine.ErrTooLarge):
		return answer(http.StatusBadRequest, kindInvalid, err.Error())
	case errors.Is(err, engine.ErrRule):
		return answer(http.StatusForbidden, kindDenied, "Forbidden: the rule about records does not let you write this")
	case errors.Is(err, engine.ErrHeld):
		return answer(http.StatusConflict, kindChroma, err.Error())
	case errors.Is(err, engine.ErrNotFound):
		return answer(http.StatusNotFound, kindNotFound, err.Error())
	case errors.Is(err, engine.ErrExists):
		return answer(http.StatusConflict, kindChroma, err.Error())
	}
	return failure(err, answer)
}

// failure maps what is not the client's doing. The texts say what an operator
// has to know; files, offsets and causes are in the log under the request's id.
func failure(err error, answer func(int, string, string) *apiError) *apiError {
	switch {
	case errors.Is(err, engine.ErrBusy):
		return answer(http.StatusTooManyRequests, kindBackoff, engine.ErrBusy.Error())
	case errors.Is(err, engine.ErrReadOnly):
		return answer(http.StatusForbidden, kindChroma, engine.ErrReadOnly.Error())
	case errors.Is(err, engine.ErrUnknown) && errors.Is(err, context.DeadlineExceeded):
		return answer(http.StatusGatewayTimeout, kindInternal, "outcome unknown: the write took too long; it may or may not be kept")
	case errors.Is(err, engine.ErrUnknown):
		return answer(http.StatusInternalServerError, kindInternal, "outcome unknown: the disk failed during this write; it may or may not have been kept")
	case errors.Is(err, engine.ErrDiskFull):
		return answer(http.StatusInsufficientStorage, kindInternal, "the disk is full; nothing of this request was kept")
	case errors.Is(err, engine.ErrNoHandle):
		e := answer(http.StatusServiceUnavailable, kindInternal, "too many open files; nothing was changed, try again")
		e.after = time.Second
		return e
	case errors.Is(err, engine.ErrFailed):
		return answer(http.StatusServiceUnavailable, kindInternal, engine.ErrFailed.Error())
	case errors.Is(err, engine.ErrClosed):
		return answer(http.StatusServiceUnavailable, kindInternal, "the server is shutting down")
	case errors.Is(err, engine.ErrCorrupt):
		return answer(http.StatusInternalServerError, kindInternal, "stored data is damaged; the server's log names file and offset")
	case errors.Is(err, context.Canceled):
		return answer(499, kindInternal, "the client closed the request")
	case errors.Is(err, context.DeadlineExceeded):
		return answer(http.StatusGatewayTimeout, kindInternal, "the request took too long")
	}
	return answer(http.StatusInternalServerError, kindInternal, "internal error; the server's log says more")
}

// missing puts a text to an engine's "not found".
func missing(err error, format string, args ...any) error {
	if errors.Is(err, engine.ErrNotFound) {
		return notFound(format, args...)
	}
	return err
}

// taken puts a text to an engine's "already exists".
func taken(err error, format string, args ...any) error {
	if errors.Is(err, engine.ErrExists) {
		return conflict(format, args...)
	}
	return err
}
