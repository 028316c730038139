package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/chromad/chromad/server/access"
)

// Users and roles over the API. Reading takes system:read_access, changing
// system:write_access, and what the configuration demands of these, several
// factors for instance, is demanded before a route is reached. How far a change
// may go is up to access.Keeper.RunAs. No answer is kept by caches, and none
// has a hash in it; a new key is in the one answer that makes it.

// maxCommand bounds a command, which may be a whole policy, in bytes.
const maxCommand = 8 << 20

// maxKeepOwn is how long a key that was rotated by its owner may live on.
const maxKeepOwn = 30 * 24 * time.Hour

// users is what the routes are about.
func (c *call) users() (*access.Keeper, error) {
	c.w.Header().Set("Cache-Control", "no-store")
	if c.s.config.Users == nil {
		return nil, unimplemented("users of this server are not managed over the API")
	}
	return c.s.config.Users, nil
}

// changing is users for changes. The first user is made by whoever owns the
// store: else anybody who reaches a server that has none could close it to all
// others, and keep the key.
func (c *call) changing() (*access.Keeper, error) {
	k, err := c.users()
	switch {
	case err != nil:
		return nil, err
	case k.Open():
		return nil, &apiError{status: http.StatusForbidden, kind: kindDenied, message: "Forbidden: there are no users yet; the first one is made with chromad users add, on the server's machine"}
	case len(c.body) > maxCommand:
		return nil, &apiError{status: http.StatusRequestEntityTooLarge, kind: kindChroma, message: "Payload too large: a command has at most 8 MiB"}
	}
	return k, nil
}

func (c *call) policy() (*access.Policy, error) {
	k, err := c.users()
	if err != nil {
		return nil, err
	}
	p, err := k.Policy(c.ctx())
	if err != nil {
		return nil, err
	}
	return p.Shown(), nil
}

// value makes v the answer.
func (c *call) value(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	c.json(b)
	return nil
}

func (s *Server) exportAccess(c *call) error {
	format, _, err := c.parameter("format")
	if err != nil {
		return err
	}
	if format != "" && format != "json" && format != "yaml" {
		return invalid("format: json or yaml")
	}
	p, err := c.policy()
	if err != nil {
		return err
	}
	if format != "yaml" {
		return c.value(p)
	}
	b, err := yaml.Marshal(p)
	if err != nil {
		return err
	}
	c.media = "application/yaml"
	c.json(b)
	return nil
}

func (s *Server) listUsers(c *call) error {
	p, err := c.policy()
	if err != nil {
		return err
	}
	return c.value(map[string]any{"users": append([]access.User{}, p.Users...)})
}

func (s *Server) getUser(c *call) error {
	p, err := c.policy()
	if err != nil {
		return err
	}
	if u := p.User(c.vars["user"]); u != nil {
		return c.value(u)
	}
	return notFound("User [%s] does not exist.", c.vars["user"])
}

// shownRole is a role, and whether it can be changed.
type shownRole struct {
	access.Role
	BuiltIn bool `json:"built_in"`
}

func (c *call) roles() ([]shownRole, error) {
	p, err := c.policy()
	if err != nil {
		return nil, err
	}
	var out []shownRole
	for _, r := range access.BuiltIn() {
		out = append(out, shownRole{r, true})
	}
	for _, r := range p.Roles {
		out = append(out, shownRole{r, false})
	}
	return out, nil
}

func (s *Server) listRoles(c *call) error {
	roles, err := c.roles()
	if err != nil {
		return err
	}
	return c.value(map[string]any{"roles": roles})
}

func (s *Server) getRole(c *call) error {
	roles, err := c.roles()
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(roles, func(r shownRole) bool { return r.Name == c.vars["role"] }); i >= 0 {
		return c.value(roles[i])
	}
	return notFound("Role [%s] does not exist.", c.vars["role"])
}

// listBindings tells who has which role, one line each, where a question is
// about the role and not about the user.
func (s *Server) listBindings(c *call) error {
	p, err := c.policy()
	if err != nil {
		return err
	}
	type binding struct {
		User string `json:"user"`
		access.Binding
	}
	out := []binding{}
	for _, u := range p.Users {
		for _, b := range u.Roles {
			out = append(out, binding{u.Name, b})
		}
	}
	return c.value(map[string]any{"bindings": out})
}

func (s *Server) changeAccess(c *call) error {
	return c.change(func() (access.Command, error) { return access.DecodeCommand(c.body) })
}

func (s *Server) importAccess(c *call) error {
	return c.change(func() (access.Command, error) {
		p, err := access.Read(c.body)
		return access.Command{Do: "import", Policy: p}, err
	})
}

// change reads a command and does it, to the end: nobody would know of a key
// that was made and not answered.
func (c *call) change(read func() (access.Command, error)) error {
	k, err := c.changing()
	if err != nil {
		return err
	}
	command, err := read()
	if err != nil {
		return invalid("%s", err)
	}
	c.auditCommand(command)
	r, err := k.RunAs(c.toTheEnd(), c.who, command)
	if err != nil {
		return changeError(err)
	}
	return c.value(r)
}

// ownKey reads which key, and how long the old one stays; no body is {}.
func (c *call) ownKey() (id, keep string, err error) {
	if len(c.body) == 0 {
		return "", "", nil
	}
	err = c.scan("RotateOwnKeyPayload", func(s *scanner, name string) {
		switch name {
		case "key":
			id = s.text()
		case "keep":
			keep = s.text()
		default:
			s.shape("unknown field `" + name + "`")
		}
	})
	return id, keep, err
}

// rotateOwn makes a key in the place of the one that the request shows, or of
// the user's other one that the body names.
func (s *Server) rotateOwn(c *call) error {
	k, err := c.changing()
	if err != nil {
		return err
	}
	c.act, c.subject = "access:rotate-own-key", c.who.Name
	id, keep, err := c.ownKey()
	if err != nil {
		return err
	}
	var until time.Time
	if keep != "" {
		d, err := time.ParseDuration(keep)
		if err != nil || d < 0 || d > maxKeepOwn {
			return invalid("keep: how long the old key stays valid, as 12h; at most 720h")
		}
		until = time.Now().Add(d)
	}
	r, err := k.RotateOwn(context.WithoutCancel(c.ctx()), c.who, id, until)
	if err != nil {
		return changeError(err)
	}
	return c.value(r)
}

// changeError is the answer to a change that was not made.
func changeError(err error) error {
	switch {
	case errors.Is(err, access.ErrBeyond):
		return &apiError{status: http.StatusForbidden, kind: kindDenied, message: "Forbidden: " + err.Error()}
	case errors.Is(err, access.ErrBusy):
		return &apiError{status: http.StatusTooManyRequests, kind: kindBackoff, cause: err, message: "the password cannot be hashed now; try again"}
	}
	if wrong, ok := errors.AsType[*access.Mistake](err); ok {
		return invalid("%s", strings.TrimPrefix(wrong.Error(), "policy: "))
	}
	return err
}
