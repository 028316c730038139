package main

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server/access"
	"github.com/chromad/chromad/server/admin"
	"github.com/chromad/chromad/server/audit"
	"github.com/chromad/chromad/server/privacy"
)

// What commands do to a store that no server has open is in its audit log, as
// what a server does.

// recordedPolicy is the policy of a store, whose changes are recorded.
type recordedPolicy struct {
	*access.Keeper
	db *engine.DB
}

// Run makes a change. A new key is not handed out when that it was made cannot
// be recorded.
func (r recordedPolicy) Run(ctx context.Context, c access.Command) (access.Result, error) {
	result, err := r.Keeper.Run(ctx, c)
	e := audit.Event{Action: "access:change"}
	text, wrong := json.Marshal(c)
	admin.AboutCommand(&e, text)
	if err = offlineAct(ctx, r.db, e, errors.Join(err, wrong)); err != nil {
		return access.Result{}, err
	}
	return result, nil
}

// recordedRetention runs a command about retention; over has what it deletes
// because its time is over by the terms of before.
func recordedRetention(ctx context.Context, db *engine.DB, over *expiries, c admin.RetentionCommand) (admin.KeptCollection, error) {
	k, err := admin.RunRetention(ctx, db, c)
	if c.Do == admin.ShowOne {
		return k, err
	}
	err = errors.Join(err, over.record(ctx, db, audit.New(db, audit.Defaults())))
	return k, offlineAct(ctx, db, audit.Event{Action: "retention:" + c.Do, Tenant: c.Tenant, Database: c.Database, Collection: c.Collection}, err)
}

// recordedRules sets rules about what may be stored.
func recordedRules(ctx context.Context, db *engine.DB, k *privacy.Keeper, r *privacy.Rules) error {
	return offlineAct(ctx, db, audit.Event{Action: "privacy:write"}, k.SetRules(ctx, r))
}

// recordIn writes an event to a store that is opened for it alone.
func recordIn(ctx context.Context, path string, op engine.OperatorKey, e audit.Event) error {
	opts := offlineOptions(op, 0)
	db, err := engine.Open(path, &opts)
	if err != nil {
		return err
	}
	return errors.Join(offlineAct(ctx, db, e, nil), db.Close())
}

// recordedRepair repairs a store, and says so in the new one.
func recordedRepair(ctx context.Context, path, to string, o *engine.Options, progress func(done, total int64)) (*engine.RepairReport, error) {
	report, err := engine.Repair(ctx, path, to, o, engine.RepairOptions{Progress: progress})
	if err == nil {
		err = recordIn(ctx, to, o.Keys, audit.Event{Action: "store:repair"})
	}
	return report, err
}
