package admin

import (
	"context"
	"io"
	"net/http"

	"github.com/chromad/chromad/server/access"
)

// maxCommand bounds a command: a whole policy may be imported.
const maxCommand = 8 << 20

func (a *Admin) policy(w http.ResponseWriter, r *http.Request) {
	p, err := a.who.Policy(r.Context())
	if err != nil {
		fail(w, http.StatusConflict, err)
		return
	}
	answer(w, http.StatusOK, p)
}

func (a *Admin) change(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCommand))
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	c, err := access.DecodeCommand(body)
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	result, err := a.who.Run(context.WithoutCancel(r.Context()), c)
	if err != nil {
		fail(w, http.StatusConflict, err)
		return
	}
	answer(w, http.StatusOK, result)
}

// Policy asks who may do what.
func (c *Client) Policy(ctx context.Context) (*access.Policy, error) {
	var p access.Policy
	return &p, c.get(ctx, "access", &p)
}

// Run has the change made that command asks for.
func (c *Client) Run(ctx context.Context, command access.Command) (r access.Result, err error) {
	err = c.send(ctx, "access", command, &r)
	return r, err
}
