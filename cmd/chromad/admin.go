package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server/access"
	"github.com/chromad/chromad/server/admin"
	"github.com/chromad/chromad/server/audit"
	"github.com/chromad/chromad/server/privacy"
)

// adminSocket is the name in the store's directory.
const adminSocket = "admin.sock"

// adminTimeout is for a peer that owns the files: it keeps a stuck one from
// staying for ever, and no more.
const adminTimeout = 10 * time.Second

// administration is the admin socket of a running server.
type administration struct {
	admin  *admin.Admin
	http   *http.Server
	remove func()
	ended  chan struct{}
}

// administer opens the admin socket of the store in dir, whose lock is held.
// Work that is asked for there ends with ctx.
func administer(ctx context.Context, dir string, db *engine.DB, who *access.Keeper, kept *privacy.Keeper, rec *audit.Log, about admin.Status, log *slog.Logger) (*administration, error) {
	l, remove, err := listenAdmin(dir, log)
	if err != nil {
		return nil, err
	}
	a := &administration{admin: admin.New(ctx, db, who, about, log), remove: remove, ended: make(chan struct{})}
	a.admin.Keep(kept)
	a.admin.Record(rec, db)
	a.http = &http.Server{Handler: a.admin, ReadHeaderTimeout: adminTimeout, MaxHeaderBytes: 1 << 14,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	go func() {
		defer close(a.ended)
		if err := a.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the admin socket has ended", "error", err.Error())
		}
	}()
	return a, nil
}

// close takes the socket away and waits for work to end; its context has
// ended. Who watches is told.
func (a *administration) close() {
	a.remove()
	a.admin.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), adminTimeout)
	defer cancel()
	if a.http.Shutdown(ctx) != nil {
		_ = a.http.Close() // it has nothing to lose
	}
	<-a.ended
}

// changeFlags are what opening a store for a change takes when no server runs.
type changeFlags struct {
	keys             *string
	expectGeneration uint64
	make             bool // a store, where there is none
	look             bool // nothing is to be changed
}

func newChangeFlags(p *flagPage) *changeFlags {
	c := &changeFlags{keys: keysFlag(p)}
	generationFlag(p.FlagSet, &c.expectGeneration)
	return c
}

// offlineOptions are those for a store that no server has open. To open it is
// no reason to delete what has expired, since a legal hold may be on its way and
// nobody would record it, nor to erase: within what time is up to the server. Nor
// is it one to merge what is at rest: a command does what it is called for.
func offlineOptions(op engine.OperatorKey, generation uint64) engine.Options {
	return engine.Options{Keys: op, MinGeneration: generation, ExpireEvery: -1, EraseWithin: -1, RestAfter: -1}
}

func (c *changeFlags) reach(ctx context.Context, dir string) (*engine.DB, *admin.Client, error) {
	op, err := openKey(ctx, *c.keys)
	if err != nil {
		return nil, nil, err
	}
	opts := offlineOptions(op, c.expectGeneration)
	opts.ReadOnly = c.look
	if c.make && storeIn(dir) != nil {
		if err := notChromas(dir); err != nil {
			return nil, nil, err
		}
		db, err := engine.Open(dir, &opts)
		if err != nil {
			err = explainKeys(dir, op, err)
		}
		return db, nil, err
	}
	return reach(ctx, dir, opts)
}

// reach opens the store in dir, or where a server has it open asks for that
// server: one of the two is not nil.
func reach(ctx context.Context, dir string, opts engine.Options) (*engine.DB, *admin.Client, error) {
	if err := storeIn(dir); err != nil {
		return nil, nil, err
	}
	db, err := engine.Open(dir, &opts)
	if err == nil {
		return db, nil, nil
	}
	if !errors.Is(err, engine.ErrLocked) {
		return nil, nil, explainKeys(dir, opts.Keys, err)
	}
	c := admin.NewClient(func(ctx context.Context) (net.Conn, error) { return dialAdmin(ctx, dir) })
	s, e := c.Status(ctx)
	if e != nil {
		return nil, nil, fmt.Errorf("%s: %w, and it does not answer at %s (%w): wait until it is done, or stop it", dir, err, adminSocket, e)
	}
	if s.Generation < opts.MinGeneration { // which nobody told the server
		err := fmt.Errorf("generation %d, it has to be %d or more: %w", s.Generation, opts.MinGeneration, engine.ErrRollback)
		return nil, nil, explainKeys(dir, opts.Keys, err)
	}
	return nil, c, nil
}

// offline is the error for work that needs the store for itself.
func offline(dir string, err error) error {
	if errors.Is(err, engine.ErrLocked) {
		return fmt.Errorf("%s: %w; this needs the store for itself: stop the server first", dir, err)
	}
	return err
}

// storeIn wants a store in dir, since opening a directory for writing would make one.
func storeIn(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "checkpoint")); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s: there is no store in this directory; name the one that chromad run has as --path", dir)
	} else if err != nil {
		return err
	}
	return nil
}
