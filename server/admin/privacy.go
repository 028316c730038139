package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/chromad/chromad/server/privacy"
)

// Privacy is the rules about what may be stored, and the changing of them: a
// privacy.Keeper.
type Privacy interface {
	Rules(ctx context.Context) (*privacy.Rules, error)
	SetRules(ctx context.Context, r *privacy.Rules) error
	Rotate(ctx context.Context) (*privacy.Keys, error)
	Reveal(ctx context.Context, collection, field string, pseudonyms []string) ([]privacy.Revealed, error)
}

// Pseudonyms is the body of POST /admin/v1/privacy/reveal.
type Pseudonyms struct {
	Collection string   `json:"collection"` // its id
	Field      string   `json:"field"`      // a metadata key, #document or #uri
	Pseudonyms []string `json:"pseudonyms"`
}

// Keep makes the Admin answer about rules, too. It is called before the first
// request.
func (a *Admin) Keep(p Privacy) {
	a.mux.HandleFunc("GET /admin/v1/privacy", func(w http.ResponseWriter, r *http.Request) {
		rules, err := p.Rules(r.Context())
		if err != nil {
			fail(w, http.StatusConflict, err)
			return
		}
		answer(w, http.StatusOK, rules)
	})
	a.mux.HandleFunc("POST /admin/v1/privacy", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCommand))
		var rules *privacy.Rules
		if err == nil {
			rules, err = privacy.Decode(body)
		}
		if err != nil {
			fail(w, http.StatusBadRequest, err)
			return
		}
		if err := p.SetRules(context.WithoutCancel(r.Context()), rules); err != nil {
			fail(w, http.StatusConflict, err)
			return
		}
		answer(w, http.StatusOK, struct{}{})
	})
	a.mux.HandleFunc("POST /admin/v1/privacy/rotate", func(w http.ResponseWriter, r *http.Request) {
		keys, err := p.Rotate(context.WithoutCancel(r.Context()))
		if err != nil {
			fail(w, http.StatusConflict, err)
			return
		}
		answer(w, http.StatusOK, Kept{keys.Len()})
	})
	a.mux.HandleFunc("POST /admin/v1/privacy/reveal", func(w http.ResponseWriter, r *http.Request) {
		var asked Pseudonyms
		if err := strictBody(w, r, &asked); err != nil {
			fail(w, http.StatusBadRequest, err)
			return
		}
		revealed, err := p.Reveal(context.WithoutCancel(r.Context()), asked.Collection, asked.Field, asked.Pseudonyms)
		if err != nil {
			fail(w, http.StatusConflict, err)
			return
		}
		answer(w, http.StatusOK, revealed)
	})
}

// Kept is the answer of POST /admin/v1/privacy/rotate.
type Kept struct {
	Keys int `json:"keys"` // for pseudonyms, the newest in use
}

// Rules asks what may be stored.
func (c *Client) Rules(ctx context.Context) (*privacy.Rules, error) {
	body, err := c.ask(ctx, http.MethodGet, "privacy", http.NoBody)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, maxAnswer))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("admin socket: privacy: %w", err), ErrCutOff)
	}
	return privacy.Decode(text)
}

// SetRules says what may be stored from now on.
func (c *Client) SetRules(ctx context.Context, r *privacy.Rules) error {
	text, err := r.Encode()
	if err != nil {
		return err
	}
	body, err := c.ask(ctx, http.MethodPost, "privacy", bytes.NewReader(text))
	if err != nil {
		return err
	}
	return body.Close()
}

// RotatePseudonyms has new keys made for pseudonyms and hashes. It tells how
// many there are.
func (c *Client) RotatePseudonyms(ctx context.Context) (int, error) {
	body, err := c.ask(ctx, http.MethodPost, "privacy/rotate", http.NoBody)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	var k Kept
	err = decode(body, "privacy", &k)
	return k.Keys, err
}

// Reveal asks what pseudonyms stand for, see privacy.Keeper.Reveal.
func (c *Client) Reveal(ctx context.Context, collection, field string, pseudonyms []string) ([]privacy.Revealed, error) {
	var out []privacy.Revealed
	err := c.send(ctx, "privacy/reveal", Pseudonyms{collection, field, pseudonyms}, &out)
	return out, err
}
