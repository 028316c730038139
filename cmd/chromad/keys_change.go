package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server/admin"
	"github.com/chromad/chromad/server/audit"
)

func keysRotate(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newFlagPage("keys rotate", "PATH", `Put everything in an encrypted store under new keys and destroy the old ones.
The operator's key stays; chromad keys rewrap changes that one.`, `
Examples:

  chromad keys rotate /var/lib/chroma                            while a server runs: it does the work, reads and writes go on
  chromad keys rotate /var/lib/chroma --keys /etc/chromad/key    without one
  chromad keys rotate /var/lib/chroma --json                     JSON, a line for each step

Every segment is written again, one after the other: that takes as long as copying the store, and room for the
largest collection. It can be interrupted at any time: the same command goes on, and so does a server that opens the
store. Ctrl-C stops the work, or where a server does it only the watching.
`)
	flags := newChangeFlags(p)
	asJSON := p.Bool("json", false, "print progress as JSON lines on standard output")
	path, err := p.readPath(args)
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	show := newProgress("rotating keys", *asJSON, stdout, stderr)
	err = rotate(ctx, path, flags, show)
	show.end(err, fmt.Sprintf("everything in %s is under new keys (%s)", path, show.took()))
	if err != nil {
		return p.fail(err, stderr)
	}
	return exitOK
}

func rotate(ctx context.Context, path string, flags *changeFlags, show *progress) error {
	if err := encryptedIn(path); err != nil {
		return err
	}
	db, server, err := flags.reach(ctx, path)
	if err != nil {
		return err
	}
	if server != nil {
		return watched(ctx, server.RotateKeys(ctx, show.show))
	}
	err = db.RotateKeys(ctx, func(r engine.RotateProgress) { show.show(admin.Rotated(r)) })
	err = offlineAct(ctx, db, audit.Event{Action: "keys:rotate"}, err)
	return interrupted(ctx, errors.Join(err, db.Close()))
}

// watched says of work in a server whose watching was interrupted that it goes on.
func watched(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errors.New("no longer watching; the server goes on, and the same command watches again")
	}
	return err
}

// interrupted says of work that was interrupted how to go on.
func interrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return errors.New("interrupted; the store is whole, and the same command goes on where this one was")
	}
	return err
}

func keysEncrypt(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newFlagPage("keys encrypt", "PATH --keys URI", "Encrypt a plain store where it is, under keys that the operator's key wraps.", `
Example:

  chromad keys create --out /etc/chromad/key
  chromad keys encrypt /var/lib/chroma --keys /etc/chromad/key
  chromad run --path /var/lib/chroma --keys /etc/chromad/key

The server has to be stopped. Every segment is written again: that needs room for the largest one. It can be
interrupted at any time, by Ctrl-C too: the same command goes on, and so does chromad run with the key.
When it is done no file of the store is plain. Blocks that the file system has freed, snapshots and backups still
hold what was plain: erase them, or make the store on a new disk.
`)
	uri := p.String("keys", "", "operator's key: path of a key file, or a `uri`")
	asJSON := p.Bool("json", false, "print progress as JSON lines on standard output")
	path, err := p.readPath(args)
	if err == nil && *uri == "" {
		err = errors.New("--keys is missing: name the operator's key; chromad keys create --out FILE makes one")
	}
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	show := newProgress("encrypting", *asJSON, stdout, stderr)
	err = encrypt(ctx, path, *uri, show)
	show.end(err, fmt.Sprintf("everything in %s is encrypted (%s)\nFreed blocks of the disk, snapshots and backups still hold what was plain.\nGo on with: chromad run --path %s --keys %s",
		path, show.took(), path, *uri))
	if err != nil {
		return p.fail(err, stderr)
	}
	return exitOK
}

func encrypt(ctx context.Context, path, uri string, show *progress) error {
	op, err := openKey(ctx, uri)
	if err != nil {
		return err
	}
	if err := storeIn(path); err != nil {
		return err
	}
	if keyBeside(path, op) {
		return fmt.Errorf("the key file is in the store's own directory, where a copy of the store has it too: move it out of %s first", path)
	}
	opts := offlineOptions(op, 0)
	err = engine.Encrypt(ctx, path, &opts, func(r engine.RotateProgress) { show.show(admin.Rotated(r)) })
	if errors.Is(err, engine.ErrKey) {
		err = explainKeys(path, op, err)
	}
	if err == nil {
		err = recordIn(ctx, path, op, audit.Event{Action: "keys:encrypt"})
	}
	return interrupted(ctx, offline(path, err))
}

func keysRewrap(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newFlagPage("keys rewrap", "PATH --keys URI --new-keys URI", `Put a store under another operator's key. From then on it opens with that one only.
One small file is written, however large the store is.`, `
Example:

  chromad keys create --out /etc/chromad/key-2027
  chromad keys rewrap /var/lib/chroma --keys /etc/chromad/key --new-keys /etc/chromad/key-2027
  chromad run --path /var/lib/chroma --keys /etc/chromad/key-2027

The server has to be stopped. Copies and backups of the store that were made before still open with the old key:
keep it for as long as you want to restore them, destroy it when nobody must. When the old key may have been
seen, rotate the store's own keys too: chromad keys rotate.
`)
	now := p.String("keys", "", "operator's key that the store is under: path of a key file, or a `uri`")
	next := p.String("new-keys", "", "operator's key that it is put under: path of a key file, or a `uri`")
	path, err := p.readPath(args)
	if err == nil && (*now == "" || *next == "") {
		err = errors.New("two keys are needed: --keys names the present one, --new-keys the one to come")
	}
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	if err := rewrap(ctx, path, *now, *next); err != nil {
		return p.fail(err, stderr)
	}
	fmt.Fprintf(stdout, "%s is under %s, and opens with nothing else\nGo on with: chromad run --path %s --keys %s\n", path, *next, path, *next)
	return exitOK
}

func rewrap(ctx context.Context, path, now, next string) error {
	old, err := openKey(ctx, now)
	if err != nil {
		return err
	}
	op, err := openKey(ctx, next)
	if err != nil {
		return err
	}
	if err := encryptedIn(path); err != nil {
		return err
	}
	if keyBeside(path, op) {
		return fmt.Errorf("the new key file is in the store's own directory, where a copy of the store has it too: move it out of %s first", path)
	}
	err = offline(path, engine.RewrapKeys(ctx, path, old, op))
	if errors.Is(err, engine.ErrKey) {
		err = explainKeys(path, old, err)
	}
	if err == nil {
		err = recordIn(ctx, path, op, audit.Event{Action: "keys:rewrap"})
	}
	return err
}
