package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/chromad/chromad/server/access"
)

// usersCommands are what chromad users does.
func usersCommands() []subcommand {
	user := func(do string) func(context.Context, []string, io.Writer, io.Writer) int {
		return func(ctx context.Context, args []string, stdout, stderr io.Writer) int {
			return usersOf(ctx, do, args, stdout, stderr)
		}
	}
	return []subcommand{
		{"add", "PATH NAME --role ROLE [flags]", "make a user", usersAdd},
		{"list", "PATH", "list users, their roles and keys", usersList},
		{"key", "PATH NAME [flags]", "make an API key, which is shown once", usersKey},
		{"rotate", "PATH KEYID [flags]", "make a key in the place of another one", usersRotate},
		{"revoke", "PATH KEYID", "end a key, from the next request on", usersRevoke},
		{"password", "PATH NAME", "set a password, read from standard input", usersPassword},
		{"certificates", "PATH NAME --cn NAME", "let a user in by client certificates", usersCertificates},
		{"grant", "PATH NAME --role ROLE [--on WHERE]", "give a role", user("bind")},
		{"ungrant", "PATH NAME --role ROLE [--on WHERE]", "take a role away", user("unbind")},
		{"attributes", "PATH NAME --attribute NAME=VALUES", "set what rules about records may ask about a user", usersAttributes},
		{"limits", "PATH NAME --limit BOUND=NUMBER", "set how much a user may ask for", usersLimits},
		{"disable", "PATH NAME", "let a user in no more", user("disable-user")},
		{"enable", "PATH NAME", "let a user in again", user("enable-user")},
		{"remove", "PATH NAME", "remove a user and all his keys", user("remove-user")},
		{"export", "PATH", "write users and roles as YAML", usersExport},
		{"import", "PATH FILE", "replace users and roles by those of a file", usersImport},
	}
}

func usersCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return group(ctx, "chromad users", usersUsage(), usersCommands(), args, stdout, stderr)
}

func usersUsage() string {
	return groupUsage("users", `Who may use a store, and for what.

A store without users is open: whoever reaches its server may do everything, and the server listens on
loopback only. From the first user on, every request needs an API key, a password or a certificate.`, usersCommands(), `
Roles: admin (everything), editor (collections and records), reader, auditor (metrics, users, audit log, retention, privacy rules), and those of import.
WHERE is TENANT, TENANT/DATABASE or TENANT/DATABASE/COLLECTION; * stands for any text.

Ten minutes to a server with users:

  chromad users add ./chroma ada --role admin --key      makes the store, if there is none
  chromad users add ./chroma app --role editor --on default_tenant/default_database --key
  chromad certs dev --out ./certs
  chromad run --path ./chroma --host 0.0.0.0 --tls-cert ./certs/server.pem --tls-key ./certs/server.key

  import chromadb
  client = chromadb.HttpClient(host="localhost", port=8000, ssl=True, headers={"x-chroma-token": "chromad_…"})

Works on a running server's store too, and then at once. More: docs/security.md
`)
}

// usersPage is a command of chromad users.
type usersPage struct {
	*flagPage
	*changeFlags
	roles, on list
	force     bool
}

func newUsersPage(name, args, short, more string) *usersPage {
	p := newFlagPage("users "+name, args, short, more)
	return &usersPage{flagPage: p, changeFlags: newChangeFlags(p)}
}

func (p *usersPage) roleFlags() {
	p.Var(&p.roles, "role", "`role` to give; may be repeated")
	p.Var(&p.on, "on", "`where` the roles hold: tenant, tenant/database or tenant/database/collection; everywhere when left out")
}

func (p *usersPage) forceFlag() {
	p.BoolVar(&p.force, "force", false, "also when nobody is left who may do everything")
}

// arguments reads the flags and so many arguments.
func (p *usersPage) arguments(args []string, names ...string) ([]string, error) {
	rest, err := p.read(args)
	if err != nil {
		return nil, err
	}
	if len(rest) < len(names) {
		return nil, fmt.Errorf("%s is missing: chromad %s %s", names[len(rest)], p.Name(), p.args)
	}
	if len(rest) > len(names) {
		return nil, fmt.Errorf("%q: one argument too many: chromad %s %s", rest[len(names)], p.Name(), p.args)
	}
	return rest, nil
}

// bindings are the roles, each at each place.
func (p *usersPage) bindings() ([]access.Binding, error) {
	scopes := []access.Scope{{}}
	if len(p.on) > 0 {
		scopes = nil
		for _, text := range p.on {
			s, err := parseScope(text)
			if err != nil {
				return nil, fmt.Errorf("--on %w", err)
			}
			scopes = append(scopes, s)
		}
	}
	var out []access.Binding
	for _, r := range p.roles {
		for _, s := range scopes {
			out = append(out, access.Binding{Role: r, On: s})
		}
	}
	return out, nil
}

// parseScope reads tenant, tenant/database or tenant/database/collection.
func parseScope(text string) (s access.Scope, err error) {
	parts := strings.Split(text, "/")
	if len(parts) > 3 {
		return s, fmt.Errorf("%q: tenant/database/collection, and no more", text)
	}
	for i, to := range []*string{&s.Tenant, &s.Database, &s.Collection}[:len(parts)] {
		if parts[i] == "" {
			return s, fmt.Errorf("%q: write * for any", text)
		}
		*to = parts[i]
	}
	return s, nil
}

// policyOf is the policy of a store, which a server may have open, and how to
// change it.
type policyOf interface {
	Policy(ctx context.Context) (*access.Policy, error)
	Run(ctx context.Context, c access.Command) (access.Result, error)
}

// with calls do with the policy of the store in dir.
func (c *changeFlags) with(ctx context.Context, dir string, do func(policyOf) error) error {
	db, server, err := c.reach(ctx, dir)
	if err != nil {
		return err
	}
	if server != nil {
		return do(server)
	}
	keeper, err := access.Open(ctx, db, access.Outside{})
	if err == nil {
		err = do(recordedPolicy{keeper, db})
	}
	return errors.Join(err, db.Close())
}

// run makes the change and says so.
func (p *usersPage) run(ctx context.Context, dir string, stdout, stderr io.Writer, said string, commands ...access.Command) int {
	err := p.with(ctx, dir, func(to policyOf) error {
		for _, c := range commands {
			c.Force = p.force
			r, err := to.Run(ctx, c)
			if err != nil {
				return err
			}
			if r.Secret != "" {
				fmt.Fprintf(stderr, "API key %s, shown this once:\n", r.KeyID)
				fmt.Fprintln(stdout, r.Secret)
			}
		}
		return nil
	})
	if err != nil {
		return p.fail(err, stderr)
	}
	fmt.Fprintln(stderr, said)
	return exitOK
}

func usersAdd(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newUsersPage("add", "PATH NAME --role ROLE", "Make a user.", `
Examples:

  chromad users add ./chroma ada --role admin --key
  chromad users add ./chroma app --role editor --on acme/main --key --expires 90d
  chromad users add ./chroma bob --role reader --on 'acme/main/docs-*' --attribute team=red,blue --limit requests=100

A directory without a store gets one, which then never is without users. The key is printed on standard output, and kept nowhere.
`)
	p.roleFlags()
	p.make = true
	var attributes, limits list
	p.Var(&attributes, "attribute", attributeHelp)
	p.Var(&limits, "limit", limitHelp)
	key := p.Bool("key", false, "make an API key too")
	expires := p.String("expires", "", "when the key ends: `when`, a date (2027-01-31) or a time from now (90d, 12h); never when left out")
	rest, err := p.arguments(args, "PATH", "NAME")
	add := access.Command{Do: "add-user"}
	var until time.Time
	if err == nil {
		add.User = rest[1]
		add.Roles, err = p.bindings()
	}
	if err == nil && len(add.Roles) == 0 {
		err = errors.New("what may the user do? write --role admin, editor, reader or auditor")
	}
	if err == nil {
		add.Attributes, err = parseAttributes(attributes)
	}
	if err == nil {
		add.Limits, err = parseLimits(limits)
	}
	if err == nil {
		until, err = parseWhen(*expires, time.Now())
	}
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	commands := []access.Command{add}
	if *key {
		commands = append(commands, access.Command{Do: "add-key", User: rest[1], Expires: until})
	}
	return p.run(ctx, rest[0], stdout, stderr, "added user "+rest[1], commands...)
}

// parseWhen reads a date, or a time from now; nothing is the zero time.
func parseWhen(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n > 0 && n <= 36500 {
			return now.AddDate(0, 0, n), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(d), nil
	}
	return time.Time{}, fmt.Errorf("--expires %q: a date (2027-01-31) or a time from now (90d, 12h)", text)
}

func usersKey(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newUsersPage("key", "PATH NAME", "Make an API key of a user. It is printed on standard output, and kept nowhere.", "")
	name := p.String("name", "", "`text` to know the key by: where it is used")
	expires := p.String("expires", "", "when it ends: `when`, a date (2027-01-31) or a time from now (90d, 12h); never when left out")
	rest, err := p.arguments(args, "PATH", "NAME")
	var until time.Time
	if err == nil {
		until, err = parseWhen(*expires, time.Now())
	}
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	return p.run(ctx, rest[0], stdout, stderr, "send it as x-chroma-token, or as Authorization: Bearer",
		access.Command{Do: "add-key", User: rest[1], KeyName: *name, Expires: until})
}

func usersRotate(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newUsersPage("rotate", "PATH KEYID", "Make a key in the place of another one, for the same user and for as long a time.", "")
	keep := p.Duration("keep", 0, "`time` that the old key stays valid; 0 ends it at once")
	rest, err := p.arguments(args, "PATH", "KEYID")
	if err == nil && *keep < 0 {
		err = fmt.Errorf("--keep %s: not negative", *keep)
	}
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	c := access.Command{Do: "rotate-key", Key: rest[1]}
	if *keep > 0 {
		c.Expires = time.Now().Add(*keep)
	}
	return p.run(ctx, rest[0], stdout, stderr, "the new key is in the place of "+rest[1], c)
}

func usersRevoke(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newUsersPage("revoke", "PATH KEYID", "End a key: it is refused from the next request on.", "")
	rest, err := p.arguments(args, "PATH", "KEYID")
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	return p.run(ctx, rest[0], stdout, stderr, "revoked key "+rest[1], access.Command{Do: "revoke-key", Key: rest[1]})
}

func usersPassword(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newUsersPage("password", "PATH NAME", "Set a user's password, for Authorization: Basic. It is one line of standard input.", `
Example:

  chromad users password ./chroma ada < password.txt

Programs should have API keys: a password is hashed anew (Argon2id, 64 MiB) every minute that it is used.
`)
	remove := p.Bool("remove", false, "take the password away")
	rest, err := p.arguments(args, "PATH", "NAME")
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	c := access.Command{Do: "set-password", User: rest[1]}
	if !*remove {
		text, err := io.ReadAll(io.LimitReader(os.Stdin, 2048))
		if err == nil {
			c.Password, err = access.HashPassword(strings.TrimRight(string(text), "\r\n"))
		}
		clear(text)
		if err != nil {
			return p.fail(err, stderr)
		}
	}
	return p.run(ctx, rest[0], stdout, stderr, "set the password of user "+rest[1], c)
}

func usersCertificates(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newUsersPage("certificates", "PATH NAME --cn NAME", "Let a user in by certificates that --tls-client-ca trusts and that have one of these common names.", "")
	var names list
	p.Var(&names, "cn", "common `name` of a certificate; may be repeated; none takes all away")
	rest, err := p.arguments(args, "PATH", "NAME")
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	return p.run(ctx, rest[0], stdout, stderr, "set the certificates of user "+rest[1], access.Command{Do: "set-certificates", User: rest[1], Certificates: names})
}

// usersOf are the commands that take a user and perhaps roles.
func usersOf(ctx context.Context, do string, args []string, stdout, stderr io.Writer) int {
	var row subcommand
	word := map[string]string{"bind": "grant", "unbind": "ungrant", "disable-user": "disable", "enable-user": "enable", "remove-user": "remove"}[do]
	for _, c := range usersCommands() {
		if c.name == word {
			row = c
		}
	}
	p := newUsersPage(word, row.args, strings.ToUpper(row.short[:1])+row.short[1:]+".", "")
	roles := do == "bind" || do == "unbind"
	if roles {
		p.roleFlags()
	}
	if do == "unbind" || do == "disable-user" || do == "remove-user" {
		p.forceFlag()
	}
	rest, err := p.arguments(args, "PATH", "NAME")
	var bindings []access.Binding
	if err == nil {
		bindings, err = p.bindings()
	}
	if err == nil && roles && len(bindings) == 0 {
		err = errors.New("which role? write --role admin, editor, reader or auditor")
	}
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	return p.run(ctx, rest[0], stdout, stderr, word+": "+rest[1], access.Command{Do: do, User: rest[1], Roles: bindings})
}
