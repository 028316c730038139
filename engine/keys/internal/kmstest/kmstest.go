// Package kmstest is what the tests of all key services ask: that an error is
// of its kind and quotes no secret, and that nothing is made of an answer that
// it did not hold.
package kmstest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/chromad/chromad/engine/keys"
	"github.com/chromad/chromad/engine/keys/internal/remote"
)

// Text is the plaintext of the tests, which no error may quote.
const Text = "5ecretPlaintext-of-the-test"

const base64Text = "NWVjcmV0UGxhaW50ZXh0" // as far as it does not depend on the length

// Quick tries again without a pause that anybody would notice.
func Quick() remote.Policy {
	return remote.Policy{Attempts: 3, Pause: time.Millisecond, Each: 10 * time.Second, Total: 20 * time.Second}
}

// Once does not try again.
func Once() remote.Policy {
	return remote.Policy{Attempts: 1, Each: time.Second, Total: time.Second}
}

// Want says what is wrong with an error that has to be of a kind, hold words,
// and neither Text nor the secrets.
func Want(err, kind error, words string, secrets ...string) error {
	if !errors.Is(err, kind) || !strings.Contains(err.Error(), words) {
		return fmt.Errorf("%v; want %v with %q", err, kind, words)
	}
	return quotes(err, nil, secrets)
}

// quotes says which secret an error holds that was not in the answer.
func quotes(err error, answer []byte, secrets []string) error {
	printed := fmt.Sprintf("%v %+v", err, err)
	for _, s := range append([]string{Text, base64Text}, secrets...) {
		if strings.Contains(printed, s) && !strings.Contains(string(answer), s) {
			return fmt.Errorf("the error holds a secret: %w", err)
		}
	}
	return nil
}

// Answer is what a service says to every call.
type Answer struct{ said atomic.Pointer[reply] }

type reply struct {
	status int
	text   []byte
}

// Say sets the answer; code may be any number.
func (a *Answer) Say(code uint16, text []byte) { a.said.Store(&reply{200 + int(code)%400, text}) }

// Said is the answer: status and body.
func (a *Answer) Said() (status int, text []byte) {
	r := a.said.Load()
	return r.status, r.text
}

// Judge uses a key whose service gives the answer, and says what is wrong with
// what comes of it: an error of no kind, or that quotes a secret which the
// answer did not hold; bytes that the answer cannot have held.
func (a *Answer) Judge(ctx context.Context, op keys.Operator, secrets ...string) error {
	sealed, err := op.EncryptWithContext(ctx, []byte(Text), []byte("place"))
	wrong := a.judge(sealed, err, secrets)
	plain, err := op.DecryptWithContext(ctx, []byte("vault:v1:AAAA"), []byte("place"))
	return errors.Join(wrong, a.judge(plain, err, secrets))
}

func (a *Answer) judge(got []byte, err error, secrets []string) error {
	_, answer := a.Said()
	if err == nil {
		if len(got) > len(answer) {
			return fmt.Errorf("%q became %q", answer, got)
		}
		return nil
	}
	kinds := []error{keys.ErrConfig, keys.ErrDenied, keys.ErrNotFound, keys.ErrUnavailable, keys.ErrWrongKey}
	if !slices.ContainsFunc(kinds, func(kind error) bool { return errors.Is(err, kind) }) {
		return fmt.Errorf("an error of no kind: %w", err)
	}
	return quotes(err, answer, secrets)
}
