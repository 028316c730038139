package main

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server/audit"
)

// expiries are the records that the background has deleted because their time
// was over, by collection, until the audit log says so. The first may be
// deleted while the store is being opened, before there is a log.
type expiries struct {
	mu sync.Mutex
	of map[engine.ID]int
}

func (x *expiries) add(id engine.ID, records int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.of == nil {
		x.of = map[engine.ID]int{}
	}
	x.of[id] += records
}

func (x *expiries) take() map[engine.ID]int {
	x.mu.Lock()
	defer x.mu.Unlock()
	of := x.of
	x.of = nil
	return of
}

func (x *expiries) any() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.of) > 0
}

// record writes an event for every collection. What could not be written is
// kept for the next time.
func (x *expiries) record(ctx context.Context, db *engine.DB, log *audit.Log) error {
	of := x.take()
	ctx = context.WithoutCancel(ctx) // as audit.Log.Run does
	for id, n := range maps.Clone(of) {
		e := audit.Event{Kind: audit.System, Action: "retention:expired", Outcome: audit.Allowed, Collection: id.String(), Rows: int64(n)}
		if c, err := db.CollectionByID(ctx, id); err == nil { // else it was deleted meanwhile, and has no name
			i := c.Info()
			e.Tenant, e.Database, e.Collection = i.Tenant, i.Database, i.Name
		}
		if err := log.Try(ctx, e); err != nil {
			for id, n := range of {
				x.add(id, n)
			}
			return err
		}
		delete(of, id)
	}
	return nil
}

// stopExpiring ends what the background deletes, since nobody would record what
// goes from here on.
func stopExpiring(db *engine.DB) error {
	ctx, cancel := context.WithTimeout(context.Background(), adminTimeout)
	defer cancel()
	return db.StopExpiring(ctx)
}

// recordLast writes what has expired in a store whose server did not come to
// write its audit log, for want of users say. Else that was done.
func (o *options) recordLast(db *engine.DB, over *expiries, log *slog.Logger) {
	ctx := context.Background()
	err := stopExpiring(db)
	if over.any() && !o.audit.off {
		err = errors.Join(err, over.record(ctx, db, audit.New(db, audit.Defaults())), anchor(ctx, db))
	}
	if err != nil {
		log.Error("the audit log", "error", err.Error())
	}
}
