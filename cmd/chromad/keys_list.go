package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server/admin"
)

func keysList(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newFlagPage("keys list", "PATH", "Show which keys an encrypted store has. Nothing that is shown is secret.", `
Examples:

  chromad keys list /var/lib/chroma                            while a server runs: it is asked
  chromad keys list /var/lib/chroma --keys /etc/chromad/key    without one
  chromad keys list /var/lib/chroma --json | jq .old_bytes

generations   how often a key was made anew; the last is in use
under old keys  files that a rotation has still to write again: 0 when it is done
`)
	uri := keysFlag(p)
	asJSON := p.Bool("json", false, "print one JSON object")
	path, err := p.readPath(args)
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	k, err := listKeys(ctx, path, *uri)
	if err != nil {
		return p.fail(err, stderr)
	}
	if *asJSON {
		err = json.NewEncoder(stdout).Encode(k)
	} else {
		_, err = io.WriteString(stdout, describeKeys(k))
	}
	if err != nil {
		return p.fail(err, stderr)
	}
	return exitOK
}

func keysFlag(p *flagPage) *string {
	return p.String("keys", "", "operator's key: path of a key file, or a `uri`; not needed while a server has the store open")
}

func listKeys(ctx context.Context, path, uri string) (k admin.Keys, err error) {
	if err := encryptedIn(path); err != nil {
		return k, err
	}
	op, err := openKey(ctx, uri)
	if err != nil {
		return k, err
	}
	db, server, err := reach(ctx, path, engine.Options{Keys: op, ReadOnly: true})
	if err != nil {
		return k, err
	}
	if server != nil {
		return server.Keys(ctx)
	}
	info, err := db.KeyInfo(ctx)
	return admin.KeysOf(info), errors.Join(err, db.Close())
}

// describeKeys is the list for a reader.
func describeKeys(k admin.Keys) string {
	var b strings.Builder
	fmt.Fprintf(&b, "operator's key  %s\n", k.Operator)
	if k.Converting {
		b.WriteString("state           being encrypted: some files are plain\n")
	}
	b.WriteString("keyset          ")
	for i, key := range k.Keyset {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%d", key.ID)
		if key.Primary {
			b.WriteString(" (primary)")
		}
	}
	fmt.Fprintf(&b, "\nstore           generations %s\n", numbers(k.Store))
	fmt.Fprintf(&b, "under old keys  %s in %s\n", bytesText(k.OldBytes), counted(k.OldFiles, "file"))
	fmt.Fprintf(&b, "collections     %d\n", len(k.Collections))
	for _, c := range k.Collections {
		fmt.Fprintf(&b, "  %s  generations %s\n", c.Collection, numbers(c.Generations))
	}
	return b.String()
}

func numbers(n []uint32) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(n), " ", ", "), "[]")
}
