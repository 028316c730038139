package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/engine/keys/all"
)

// keysCommands are what chromad keys does.
func keysCommands() []subcommand {
	return []subcommand{
		{"create", "--out FILE", "make a key file", keysCreate},
		{"list", "PATH [--keys URI]", "show which keys a store has, never what they are", keysList},
		{"rotate", "PATH [--keys URI]", "put everything under new keys, while a server runs too", keysRotate},
		{"encrypt", "PATH --keys URI", "encrypt a plain store where it is", keysEncrypt},
		{"rewrap", "PATH --keys URI --new-keys URI", "put a store under another operator's key", keysRewrap},
		{"public", "PATH --out FILE", "write the key that receipts are checked with", keysPublic},
		{"destroy", "PATH --keys URI --collection ID", "make a collection, or a store, unreadable for good", keysDestroy},
	}
}

// keysCommand is chromad keys.
func keysCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return group(ctx, "chromad keys", keysUsage(), keysCommands(), args, stdout, stderr)
}

func keysUsage() string {
	return groupUsage("keys", `Keys of encrypted stores.

An encrypted store keeps its own keys beside the data, wrapped by one key that is not there:
the operator's key, in a file or a key service. Who loses that one has lost the store.`, keysCommands(), `
URI is the path of a key file, or one of:

  `+strings.Join(all.Schemes(), "\n  ")+`

A new store, encrypted from the first byte:

  chromad keys create --out ~/chromad.key
  chromad run --path ./chroma --keys ~/chromad.key

More: chromad keys COMMAND --help, docs/keys.md
`)
}

// openKey opens the operator's key, and keeps this process from leaving what
// it unwraps in a core dump. nil: no key is named.
func openKey(ctx context.Context, uri string) (engine.OperatorKey, error) {
	if uri == "" {
		return nil, nil
	}
	if isKey(uri) {
		return nil, errors.New("that is the key itself, which others can see on a command line: put it into a file or a variable and name that, as env://NAME")
	}
	if err := noDumps(); err != nil {
		return nil, err
	}
	return all.OpenURI(ctx, uri)
}

// isKey tells that somebody has given the key in the place of its name: it
// must not appear in a message about a file that is not there.
func isKey(text string) bool {
	decoded, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err == nil {
		text = string(decoded)
	}
	return strings.HasPrefix(strings.TrimSpace(text), "{")
}

// uriOf is the URI of an operator's key, empty for none.
func uriOf(op engine.OperatorKey) string {
	if op == nil {
		return ""
	}
	return op.URI()
}

// explainKeys adds what to do to an error of opening the store in dir.
func explainKeys(dir string, op engine.OperatorKey, err error) error {
	text := keyText(err)
	switch {
	case errors.Is(err, engine.ErrRollback):
		return fmt.Errorf("%s: %w; it may be an old copy: find the newest one, or start with a smaller --expect-generation if you restored this one", dir, err)
	case !errors.Is(err, engine.ErrKey):
		return fmt.Errorf("%s: %w", dir, err)
	case op == nil:
		return fmt.Errorf("%s: %s; name the key with --keys URI", dir, text)
	case hasKeys(dir):
		return fmt.Errorf("%s: %s; name the key that the store was last put under with --keys", dir, text)
	}
	return fmt.Errorf("%s: %s", dir, text) // a plain store; it says what encrypts it
}

// keyText is the text of an error without the name of its class: no key is no
// wrong key.
func keyText(err error) string { return strings.TrimSuffix(err.Error(), ": "+engine.ErrKey.Error()) }

// encryptedIn wants a store with keys in dir.
func encryptedIn(dir string) error {
	if err := storeIn(dir); err != nil || hasKeys(dir) {
		return err
	}
	return fmt.Errorf("%s: the store has no keys: it is plain (chromad keys encrypt %s --keys URI encrypts it), or they were destroyed", dir, dir)
}

// hasKeys tells whether the store in dir has a keyset.
func hasKeys(dir string) bool {
	found, err := filepath.Glob(filepath.Join(escapeGlob(dir), "keys", "*.keyset"))
	return err == nil && len(found) > 0
}

func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

// keyBeside tells that the key is a file in the store's own directory, where
// whoever copies the one has the other.
func keyBeside(dir string, op engine.OperatorKey) bool {
	if op == nil {
		return false
	}
	u, err := url.Parse(op.URI())
	if err != nil || u.Scheme != "file" {
		return false
	}
	at, err := filepath.EvalSymlinks(filepath.FromSlash(u.Path))
	if err != nil {
		return false
	}
	store, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false
	}
	if store, err = filepath.Abs(store); err != nil {
		return false
	}
	rel, err := filepath.Rel(store, at)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(os.PathSeparator))
}
