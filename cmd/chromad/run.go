package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server"
	"github.com/chromad/chromad/server/admin"
	"github.com/chromad/chromad/server/privacy"
)

// run serves a store until ctx ends, and closes it.
func run(ctx context.Context, o *options, stderr io.Writer) (err error) {
	began := time.Now()
	log := newLog(o, stderr)
	// Listening comes before opening: it is where most starts fail, and it costs nothing.
	l, err := listen(ctx, o)
	if err != nil {
		return err
	}
	defer l.Close()
	scheme, certs, err := secure(o, log)
	if err != nil {
		return err
	}
	path, op, err := o.place(ctx)
	if err != nil {
		return err
	}
	// A store whose disk has failed accepts no more writes until it is opened
	// again: the process ends, and whoever supervises it starts it anew.
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var over expiries
	memory := planMemory(int64(o.memory))
	db, err := o.openStore(path, op, memory, events(log, stop, &over))
	if err != nil {
		return err
	}
	defer func() {
		o.recordLast(db, &over, log)
		err = errors.Join(err, closeStore(db, path, log))
	}()
	who, err := o.openAccess(ctx, db)
	if err == nil {
		err = o.mayServe(who.Open())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	kept, err := privacy.Open(ctx, db)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	rec, err := o.record(ctx, db, &over, log)
	if err != nil {
		return err
	}
	defer rec.close(log)
	s := server.New(server.Config{
		Store: server.EngineStore(db), Log: log, AllowReset: o.reset, CORSOrigins: o.cors, TLS: certs, Access: who.Directory, Users: who, Privacy: kept,
		Limits: server.Limits{BodyBytes: int64(o.maxBody)}, Timeouts: server.Timeouts{Drain: o.drain}, Bounds: o.limits, Admission: o.admitted(memory), Quotas: o.quotas, Metrics: rec.told.metrics, Audit: rec.log,
	})
	about := admin.Status{PID: os.Getpid(), Version: versionText(), Path: path, Address: scheme + l.Addr().String(), Key: uriOf(op)}
	a, err := administer(ctx, path, db, who, kept, rec.log, about, log)
	if err != nil {
		log.Warn("there is no admin socket: stop the server for what chromad keys, users, compact, audit, privacy and retention do", "error", err.Error())
	} else {
		defer a.close()
		defer stop() // what is under way there ends first
	}
	if keyBeside(path, op) {
		log.Warn("the key file is in the store's own directory: whoever copies the store has its key too", "keys", op.URI())
	}
	log.Info("ready", "address", about.Address, "path", path, "keys", cmp.Or(about.Key, "none: the store is not encrypted"),
		"generation", db.Generation(), "version", about.Version, "took", time.Since(began).String())
	go func() {
		<-ctx.Done()
		log.Info("stopping: no new requests; a second signal leaves at once")
	}()
	return s.Serve(ctx, l)
}

// place is where the store is, and the operator's key of it.
func (o *options) place(ctx context.Context) (path string, op engine.OperatorKey, err error) {
	if path, err = filepath.Abs(o.path); err == nil {
		err = notChromas(path)
	}
	if err != nil {
		return "", nil, err
	}
	op, err = openKey(ctx, o.keys)
	return path, op, err
}

func closeStore(db *engine.DB, path string, log *slog.Logger) error {
	stopping := time.Now()
	if err := db.Close(); err != nil {
		return fmt.Errorf("close %s: %w", path, err)
	}
	log.Info("store closed", "path", path, "generation", db.Generation(), "took", time.Since(stopping).String())
	return nil
}

func (o *options) openStore(path string, op engine.OperatorKey, memory memoryPlan, told *engine.Events) (*engine.DB, error) {
	db, err := engine.Open(path, &engine.Options{
		MemtableRows: o.memtableRows, MemoryLimit: memory.memtables, SegmentMemory: memory.segments, Events: told,
		Keys: op, MinGeneration: o.expectGeneration, EraseWithin: o.eraseWithin.Duration, RestAfter: o.restAfter.Duration,
		AuditFile: o.audit.fileSize,
	})
	if errors.Is(err, engine.ErrLocked) {
		return nil, fmt.Errorf("%s: %w; one server at a time can use a store", path, err)
	}
	if err != nil {
		return nil, explainKeys(path, op, err)
	}
	return db, nil
}

// secure is how clients are to speak to the server.
func secure(o *options, log *slog.Logger) (scheme string, certs *tls.Config, err error) {
	if o.tls.cert == "" {
		return "http://", nil, nil
	}
	c, err := loadTLS(o.tls, log)
	if err != nil {
		return "", nil, err
	}
	return "https://", c.server(), nil
}

// notChromas refuses a directory that holds a database of Chroma's own server:
// an empty store beside it would look like lost data.
func notChromas(path string) error {
	const file = "chroma.sqlite3"
	if _, err := os.Stat(filepath.Join(path, file)); err == nil {
		return fmt.Errorf("%s: holds a database of Chroma's own server (%s), which chromad does not read; "+
			"name another directory with --path, and copy records with a client of both", path, file)
	}
	return nil
}

// listen opens the listener. An address that other machines can reach needs
// TLS, or to be asked for; whether it needs users too is up to mayServe, which
// knows them.
func listen(ctx context.Context, o *options) (net.Listener, error) {
	if err := legacyAuth(os.Environ()); err != nil {
		return nil, err
	}
	address := net.JoinHostPort(o.host, strconv.Itoa(o.port))
	reachable, err := o.reachable(ctx)
	if err != nil {
		return nil, err
	}
	if reachable && !o.insecure && o.tls.cert == "" {
		return nil, fmt.Errorf("refusing to listen on %s: other machines can reach it, and what they send could be read on the way; "+
			"give it certificates with --tls-cert and --tls-key, use --host 127.0.0.1, or --insecure if the network around it is closed", address)
	}
	if reachable && !o.insecure && o.tls.clients == "" && storeIn(o.path) != nil {
		return nil, o.mayServe(true)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w; choose another one with --host and --port", address, err)
	}
	return l, nil
}

// reachable reports whether other machines can reach the address.
func (o *options) reachable(ctx context.Context) (bool, error) {
	if o.host == "" {
		return true, nil
	}
	ips, err := net.DefaultResolver.LookupIPAddr(ctx, o.host)
	if err != nil {
		return false, fmt.Errorf("listen on %s: %w", o.host, err)
	}
	for _, ip := range ips {
		if !ip.IP.IsLoopback() {
			return true, nil
		}
	}
	return len(ips) == 0, nil
}

// mayServe refuses a server that everybody can reach and may use. open: the
// store has no users.
func (o *options) mayServe(open bool) error {
	if !open || o.insecure || o.tls.clients != "" {
		return nil
	}
	reachable, err := o.reachable(context.Background())
	if err != nil || !reachable {
		return err
	}
	return fmt.Errorf("refusing to listen on %s: other machines can reach it, and the store in %s has no users, so that whoever does can read and delete "+
		"everything; make one with chromad users add %s NAME --role admin --key, let in only who has a certificate with --tls-client-ca, "+
		"use --host 127.0.0.1, or --insecure if the network around it is closed", o.host, o.path, o.path)
}

func newLog(o *options, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		level = slog.LevelInfo // check has refused every other text
	}
	h := &slog.HandlerOptions{Level: level}
	if o.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, h))
	}
	return slog.New(slog.NewTextHandler(w, h))
}

// events logs what the store does in the background, counts what is to be in
// the audit log too, and calls failed when the store accepts no more writes.
func events(log *slog.Logger, failed func(), over *expiries) *engine.Events {
	return &engine.Events{
		Flushed: func(e engine.FlushEvent) {
			log.Debug("flushed", "collection", e.Collection.String(), "rows", e.Rows, "bytes", e.Bytes, "took", e.Duration.String())
		},
		Compacted: func(e engine.CompactEvent) {
			log.Debug("compacted", "collection", e.Collection.String(), "segments", e.Segments, "rows", e.Rows, "bytes", e.Bytes, "took", e.Duration.String())
		},
		Checkpointed: func(e engine.CheckpointEvent) {
			log.Debug("checkpoint", "number", e.Number, "removed", e.Removed, "took", e.Duration.String())
		},
		Expired: func(e engine.ExpireEvent) {
			log.Info("records have expired", "collection", e.Collection.String(), "records", e.Records)
			over.add(e.Collection, e.Records)
		},
		Degraded: func(e engine.DegradedEvent) {
			log.Warn("an index of a segment is damaged; reads go on without it, and it is made anew in the background",
				"collection", e.Collection.String(), "segment", e.Segment, "error", e.Err.Error())
		},
		Error: func(e engine.ErrorEvent) {
			log.Error("background work failed", "op", e.Op, "error", e.Err.Error(), "writes_refused", e.Failed)
			if e.Failed {
				failed()
			}
		},
	}
}
