package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/chromad/chromad/engine/keys"
)

func keysCreate(_ context.Context, args []string, stdout, stderr io.Writer) int {
	p := newFlagPage("keys create", "--out FILE", "Make an operator's key: one AES256-GCM key, as a Tink keyset.", `
Examples:

  chromad keys create --out /etc/chromad/key
  chromad run --path /var/lib/chroma --keys /etc/chromad/key

  export CHROMAD_KEY="$(chromad keys create --env)"
  chromad run --keys env://CHROMAD_KEY

Keep a copy where neither the store nor its backups are: without the key nobody can read the store.
Not into the store's directory: a copy of that would have both. A file that is there is never replaced.
Keys in a service (AWS, Google, Vault) are made with its own tools: docs/keys.md
`)
	out := p.String("out", "", "`file` to make, for its owner alone (0600)")
	env := p.Bool("env", false, "print a value for an environment variable instead: it is the secret")
	rest, err := p.read(args)
	switch {
	case err != nil:
	case len(rest) > 0:
		err = fmt.Errorf("%q: no argument is wanted; write --out %s", rest[0], rest[0])
	case *out == "" && !*env:
		err = errors.New("where to? write --out FILE, or --env for a variable")
	case *out != "" && *env:
		err = errors.New("--out and --env exclude each other")
	}
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	if *env {
		value, err := keys.GenerateEnv()
		if err != nil {
			return p.fail(err, stderr)
		}
		fmt.Fprintln(stdout, value)
		return exitOK
	}
	if err := keys.CreateFile(*out); err != nil {
		return p.fail(err, stderr)
	}
	path := *out
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	fmt.Fprintf(stdout, `made the key file %s
Keep a copy elsewhere: without this key, a store that is encrypted with it is lost.
A new store:    chromad run --path PATH --keys %s
A plain one:    chromad keys encrypt PATH --keys %s
`, path, path, path)
	return exitOK
}
