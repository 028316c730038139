package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server/admin"
	"github.com/chromad/chromad/server/audit"
)

// auditSetting is the setting audit.
type auditSetting struct {
	off      bool
	config   audit.Config
	fileSize int64
	keepFor  time.Duration
	keep     int64 // bytes
}

func defaultAudit() auditSetting {
	return auditSetting{config: audit.Defaults(), fileSize: 16 << 20, keepFor: 365 * 24 * time.Hour, keep: 1 << 30}
}

// readAudit reads the setting audit: off, or what is recorded and how long it
// is kept.
func readAudit(o *options, n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode && n.Value == "off" {
		o.audit.off = true
		return nil
	}
	d := defaultAudit()
	s := struct {
		Reads       bool   `yaml:"reads"`
		Writes      bool   `yaml:"writes"`
		Changes     bool   `yaml:"changes"`
		Wait        string `yaml:"wait"`
		WhenFailing string `yaml:"when_failing"`
		FileSize    amount `yaml:"file_size"`
		KeepFor     string `yaml:"keep_for"`
		Keep        amount `yaml:"keep"`
	}{Changes: d.config.Changes, Wait: "acts", WhenFailing: "refuse", FileSize: amount(d.fileSize), KeepFor: d.keepFor.String(), Keep: amount(d.keep)}
	if err := strictly(n, &s); err != nil {
		return err
	}
	keep, err := time.ParseDuration(s.KeepFor)
	if s.KeepFor == "forever" {
		keep, err = 0, nil
	}
	switch {
	case err != nil || keep < 0 || keep > 0 && keep < 24*time.Hour:
		return errors.New("keep_for is a time of 24h or more, as 8760h, or forever")
	case s.Wait != "acts" && s.Wait != "all":
		return fmt.Errorf("wait is acts or all, not %.40q", s.Wait)
	case s.WhenFailing != "refuse" && s.WhenFailing != "reads":
		return fmt.Errorf("when_failing is refuse or reads, not %.40q", s.WhenFailing)
	case s.FileSize < 64<<10 || s.FileSize > 512<<20:
		return errors.New("file_size is 64KiB to 512MiB")
	case s.Keep != -1 && s.Keep < 2*s.FileSize:
		return errors.New("keep is two files or more, or -1 for all")
	}
	o.audit = auditSetting{
		config:   audit.Config{Reads: s.Reads, Writes: s.Writes, Changes: s.Changes, Wait: s.Wait == "all", ReadsGoOn: s.WhenFailing == "reads"},
		fileSize: int64(s.FileSize), keepFor: keep, keep: max(int64(s.Keep), 0),
	}
	return nil
}

// auditing is the audit log of a running server.
type auditing struct {
	log   *audit.Log // nil: off
	db    *engine.DB
	over  *expiries
	lost  int64 // events of which the log says that they were
	end   context.CancelFunc
	ended chan struct{}
	told  *telling
}

// record begins to write the audit log of the store, and tells exporters and
// rules what is in it from now on.
func (o *options) record(ctx context.Context, db *engine.DB, over *expiries, log *slog.Logger) (*auditing, error) {
	a := &auditing{db: db, over: over, ended: make(chan struct{})}
	var err error
	if o.audit.off {
		log.Warn("the audit log is off: nothing says later who did what")
		a.told, err = o.tell(ctx, log, nil)
		a.end = func() { close(a.ended) }
		return a, err
	}
	tend := func(ctx context.Context, now time.Time) error {
		// What it cannot write on a full disk must not keep from removing what makes room.
		wrong := a.rest(ctx)
		removed, err := db.TendAudit(ctx, engine.AuditKeep{Now: now, Age: o.audit.keepFor, Bytes: o.audit.keep})
		if removed.Files > 0 {
			log.Info("audit records removed", "through", removed.Through, "files", removed.Files, "bytes", removed.Bytes)
		}
		return errors.Join(wrong, err)
	}
	failed := func(err error) { log.Error("the audit log", "error", err.Error()) }
	if a.told, err = o.tell(ctx, log, past(ctx, db)); err != nil {
		return nil, err
	}
	a.log = audit.New(db, o.audit.config)
	a.log.Subscribe(a.told.exports.Event)
	a.log.Watch(a.told.watcher.Event)
	// A full disk keeps no server from answering reads: what needs an event is refused.
	if err := a.log.Record(ctx, audit.Event{Kind: audit.System, Action: "server:start", Outcome: audit.Allowed}); err != nil {
		failed(err)
	}
	run, end := context.WithCancel(context.Background())
	a.end = end
	go func() {
		defer close(a.ended)
		a.log.Run(run, tend, failed)
	}()
	return a, nil
}

// past are the newest events of before, from which rules know who is not new.
func past(ctx context.Context, db *engine.DB) func(func(audit.Event)) error {
	const newest = 50_000
	return func(learn func(audit.Event)) error {
		for l, err := range admin.AuditLines(ctx, db, admin.AuditQuery{Tail: newest}) {
			if err != nil {
				return err
			}
			learn(l.Event)
		}
		return nil
	}
}

// rest writes what is in no event yet: how many events could not be written,
// those that nobody waited for too, and what has expired.
func (a *auditing) rest(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx) // as audit.Log.Run does
	if n := int64(a.db.AuditStats().Lost) + a.log.Stats().Lost; n > a.lost {
		if err := a.log.Try(ctx, audit.Event{Kind: audit.System, Action: "audit:lost", Outcome: audit.Failed, Rows: n - a.lost}); err != nil {
			return err
		}
		a.lost = n
	}
	return a.over.record(ctx, a.db, a.log)
}

// close writes that the server has ended, and tells those who listen.
func (a *auditing) close(log *slog.Logger) {
	err := stopExpiring(a.db)
	a.end()
	<-a.ended
	ctx, cancel := context.WithTimeout(context.Background(), adminTimeout)
	defer cancel()
	if a.log != nil {
		err = errors.Join(err, a.rest(ctx), a.log.Record(ctx, audit.Event{Kind: audit.System, Action: "server:stop", Outcome: audit.Allowed}), anchor(ctx, a.db))
	}
	if err != nil {
		log.Error("the audit log", "error", err.Error())
	}
	a.told.close(log)
}

// anchor has the store remember how far the audit log goes, so that its end
// cannot be cut off unseen. It removes nothing.
func anchor(ctx context.Context, db *engine.DB) error {
	_, err := db.TendAudit(ctx, engine.AuditKeep{Now: time.Now()})
	if errors.Is(err, engine.ErrDiskFull) { // the events are there, and are anchored the next time
		return nil
	}
	return err
}

// offlineAct writes what a command has done to a store that no server has
// open. It returns err, and what kept the event from being written.
func offlineAct(ctx context.Context, db *engine.DB, e audit.Event, err error) error {
	e.Kind, e.Method, e.Outcome = audit.Admin, "command", audit.Allowed
	if err != nil {
		e.Outcome = audit.Failed
	}
	ctx = context.WithoutCancel(ctx)
	if wrong := audit.New(db, audit.Defaults()).Record(ctx, e); wrong != nil {
		return errors.Join(err, fmt.Errorf("it is not in the audit log: %w", wrong))
	}
	if wrong := anchor(ctx, db); wrong != nil {
		return errors.Join(err, fmt.Errorf("the end of the audit log could not be noted: %w", wrong))
	}
	return err
}
