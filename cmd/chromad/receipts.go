package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server/admin"
	"github.com/chromad/chromad/server/audit"
)

// eraseNow is chromad compact --erase-now.
func eraseNow(ctx context.Context, path string, flags *changeFlags, show *progress) (said string, err error) {
	db, server, err := flags.reach(ctx, path)
	if err != nil {
		return "", err
	}
	if server != nil {
		err = watched(ctx, server.Erase(ctx, show.show))
	} else {
		show.show(admin.Line{Event: admin.Began})
		err = db.EraseNow(ctx, func(p engine.EraseProgress) { show.show(admin.Erased(p)) })
		err = offlineAct(ctx, db, audit.Event{Action: "store:erase"}, err)
		err = interrupted(ctx, errors.Join(err, db.Close()))
	}
	return fmt.Sprintf("no file in %s holds a byte of what was deleted before (%s)\nFree blocks of the disk, snapshots, copies and backups may.",
		path, show.took()), err
}

func receiptsCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newFlagPage("receipts", "PATH", "List the receipts of what was erased from an encrypted store.", `
Examples:

  chromad receipts /var/lib/chroma                            while a server runs
  chromad receipts /var/lib/chroma --keys /etc/chromad/key    without one
  chromad receipts /var/lib/chroma --out ./receipts           a file for each, to hand out
  chromad keys public /var/lib/chroma --out chromad.public    what they are checked with
  chromad verify-erasure receipts/0000000000000001.json --public-key chromad.public

A receipt holds no name, only hashes of names. It comes with the erasure, not with the deletion: within
--erase-within, or at once with chromad compact --erase-now.
`)
	uri := keysFlag(p)
	out := p.String("out", "", "`directory` to write them to, each in a file; those that are there are kept")
	path, err := p.readPath(args)
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	r, err := readReceipts(ctx, path, *uri)
	if err == nil {
		err = listReceipts(r, *out, stdout)
	}
	if err != nil {
		return p.fail(err, stderr)
	}
	for _, problem := range r.Problems {
		fmt.Fprintf(stderr, "chromad receipts: %s\n", problem)
	}
	if len(r.Problems) > 0 {
		return exitFailed
	}
	return exitOK
}

func readReceipts(ctx context.Context, path, uri string) (r admin.Receipts, err error) {
	if err := encryptedIn(path); err != nil {
		return r, err
	}
	op, err := openKey(ctx, uri)
	if err != nil {
		return r, err
	}
	db, server, err := reach(ctx, path, engine.Options{Keys: op, ReadOnly: true})
	if err != nil {
		return r, err
	}
	if server != nil {
		return server.Receipts(ctx)
	}
	r, err = admin.ReceiptsOf(ctx, db)
	return r, errors.Join(err, db.Close())
}

func listReceipts(all admin.Receipts, dir string, stdout io.Writer) error {
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	for _, text := range all.Receipts {
		r, err := engine.ParseReceipt([]byte(text))
		if err != nil {
			return err
		}
		fmt.Fprintln(stdout, aboutReceipt(&r.Statement))
		if dir == "" {
			continue
		}
		if err := writeNew(filepath.Join(dir, fmt.Sprintf("%016x.json", r.Statement.Number)), []byte(text)); err != nil {
			return err
		}
	}
	if len(all.Receipts) == 0 {
		fmt.Fprintln(stdout, "no receipts: nothing was erased yet")
	}
	return nil
}

// aboutReceipt is a receipt in one line.
func aboutReceipt(s *engine.Statement) string {
	rows := uint64(0)
	ids := make([]string, 0, len(s.Collections))
	for _, c := range s.Collections {
		rows += c.Rows
		ids = append(ids, c.ID)
	}
	if len(ids) > 3 {
		ids = append(ids[:3], fmt.Sprintf("and %d more", len(ids)-3))
	}
	return fmt.Sprintf("%d  %s  %-10s  %s  %s of %s", s.Number, s.RemovedAt, s.Kind, counted(int(min(rows, 1<<31-1)), "row"),
		counted(len(s.Collections), "collection"), strings.Join(ids, ", "))
}

// writeNew makes a file, and leaves one alone that has the same content.
func writeNew(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		if old, e := os.ReadFile(name); e == nil && string(old) == string(text) {
			return nil
		}
		return fmt.Errorf("%s: there is another file of this name, which is left as it is", name)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

func keysPublic(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newFlagPage("keys public", "PATH --out FILE", "Write the public key of a store, with which its receipts are checked.", `
Example:

  chromad keys public /var/lib/chroma --out chromad.public
  chromad verify-erasure receipt.json --public-key chromad.public

It is no secret, and stays the same for as long as the store lives. Give it out before it is needed: who gets
it together with a receipt has only one word for both.
`)
	uri := keysFlag(p)
	out := p.String("out", "", "`file` to make; none is replaced")
	path, err := p.readPath(args)
	if err == nil && *out == "" {
		err = errors.New("where to? write --out FILE")
	}
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	r, err := readReceipts(ctx, path, *uri)
	if err == nil {
		err = writeNew(*out, []byte(r.PublicKey))
	}
	if err != nil {
		return p.fail(err, stderr)
	}
	fmt.Fprintf(stdout, "wrote the public key of %s to %s\n", path, *out)
	return exitOK
}
