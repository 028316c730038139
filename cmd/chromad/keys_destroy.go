package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server/audit"
)

// shred is what chromad keys destroy was asked to do.
type shred struct {
	path, uri  string
	collection string
	store, yes bool
	stdout     io.Writer
}

func keysDestroy(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newFlagPage("keys destroy", "PATH --keys URI (--collection ID | --store)", `Destroy keys, so that what was written under them can be read by nobody any more. There is no way back.`, `
Examples:

  chromad keys destroy /var/lib/chroma --keys /etc/chromad/key --collection 0d6f3a4e-0000-4000-8000-1a2b3c4d5e6f
  chromad keys destroy /var/lib/chroma --keys /etc/chromad/key --store

--collection deletes the collection with its key. A running server does the same when the collection is deleted
through its API. --store destroys all keys; the files stay, and are noise: remove them when you like.
Copies and backups that were made before have wrapped keys of their own, and open with the operator's key: when
they must not, destroy that one too.
The server has to be stopped. You are asked to type what is to be destroyed, unless --yes says so already.
`)
	s := shred{stdout: stdout}
	p.StringVar(&s.uri, "keys", "", "operator's key: path of a key file, or a `uri`")
	p.StringVar(&s.collection, "collection", "", "`id` of the collection to destroy")
	p.BoolVar(&s.store, "store", false, "destroy the keys of the whole store")
	p.BoolVar(&s.yes, "yes", false, "do not ask")
	path, err := p.readPath(args)
	switch {
	case err != nil:
	case s.uri == "":
		err = errors.New("--keys is missing: name the operator's key, which says that the store is yours to destroy")
	case (s.collection == "") == !s.store:
		err = errors.New("say what to destroy: either --collection ID or --store")
	}
	var id engine.ID
	if err == nil && !s.store {
		id, err = engine.ParseID(s.collection)
	}
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	s.path = path
	op, err := openKey(ctx, s.uri)
	if err == nil {
		err = encryptedIn(path)
	}
	if err == nil && s.store {
		err = s.wholeStore(ctx, op)
	} else if err == nil {
		err = s.oneCollection(ctx, op, id)
	}
	if err != nil {
		return p.fail(err, stderr)
	}
	return exitOK
}

func (s *shred) wholeStore(ctx context.Context, op engine.OperatorKey) error {
	path, err := filepath.Abs(s.path)
	if err != nil {
		return err
	}
	if err := s.confirm(fmt.Sprintf("All keys of the store in %s will be destroyed. Nothing in it can be read afterwards.", path), path); err != nil {
		return err
	}
	// Afterwards nobody can read the audit log either; what exports it has it.
	if err := engine.DestroyKeys(ctx, path, op); err != nil {
		if errors.Is(err, engine.ErrKey) {
			return explainKeys(s.path, op, err)
		}
		return offline(s.path, err)
	}
	fmt.Fprintf(s.stdout, "the keys of %s are destroyed: its files are unreadable, and can be removed\n"+
		"Copies that were made before still open with %s.\n", path, op.URI())
	return nil
}

func (s *shred) oneCollection(ctx context.Context, op engine.OperatorKey, id engine.ID) error {
	opts := offlineOptions(op, 0)
	db, err := engine.Open(s.path, &opts)
	if errors.Is(err, engine.ErrLocked) {
		return fmt.Errorf("%s: %w; a server that runs destroys the key when the collection is deleted through its API", s.path, err)
	}
	if err != nil {
		return explainKeys(s.path, op, err)
	}
	name := ""
	if c, e := db.CollectionByID(ctx, id); e == nil {
		name = c.Info().Name
	}
	err = offlineAct(ctx, db, audit.Event{Action: "keys:destroy", Collection: name}, s.deleteFrom(ctx, db, id))
	return errors.Join(err, db.Close())
}

func (s *shred) deleteFrom(ctx context.Context, db *engine.DB, id engine.ID) error {
	c, err := db.CollectionByID(ctx, id)
	if err != nil {
		return err
	}
	i := c.Info()
	what := fmt.Sprintf("Collection %q of database %q, tenant %q, will be deleted, and its key destroyed.", i.Name, i.Database, i.Tenant)
	if err := s.confirm(what, id.String()); err != nil {
		return err
	}
	if err := db.Namespace(i.Tenant, i.Database).Delete(ctx, i.Name); err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "collection %s is deleted and its key destroyed\n", id)
	return nil
}

// confirm wants word to be typed.
func (s *shred) confirm(what, word string) error {
	if s.yes {
		return nil
	}
	fmt.Fprintf(s.stdout, "%s\nType %s to go on: ", what, word)
	typed, err := bufio.NewReader(io.LimitReader(os.Stdin, 1<<12)).ReadString('\n')
	if strings.TrimSpace(typed) == word {
		return nil
	}
	if err != nil {
		fmt.Fprintln(s.stdout)
	}
	return errors.New("not confirmed: nothing was destroyed")
}
