package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/chromad/chromad/engine"
)

// Keeper is the part of a store that knows how long records are kept.
type Keeper interface {
	Kept(ctx context.Context) ([]engine.Kept, error)
	Namespace(tenant, database string) *engine.Namespace
}

// RetentionCommand is the body of POST /admin/v1/retention: what is to be done
// to one collection.
type RetentionCommand struct {
	Do             string `json:"do"` // one of the constants
	Tenant         string `json:"tenant"`
	Database       string `json:"database"`
	Collection     string `json:"collection"` // its name
	Key            string `json:"key,omitempty"`
	DefaultSeconds int64  `json:"default_seconds,omitempty"`
	Reason         string `json:"reason,omitempty"`
}

// What a RetentionCommand does.
const (
	SetRetention = "set"
	EndRetention = "off"
	PlaceHold    = "hold"
	ReleaseHold  = "release"
	ShowOne      = "show"
)

// KeptCollection is what holds for a collection, as both requests answer it.
type KeptCollection struct {
	ID         string    `json:"id"`
	Tenant     string    `json:"tenant"`
	Database   string    `json:"database"`
	Collection string    `json:"collection"`
	Key        string    `json:"key,omitempty"` // empty: records do not expire
	Default    int64     `json:"default_seconds"`
	Held       bool      `json:"held"`
	Reason     string    `json:"reason,omitempty"`
	Since      time.Time `json:"since,omitzero"`
	Over       int       `json:"over"`    // see engine.RetentionState; -1: the collection is damaged, nobody can tell
	Unclear    int       `json:"unclear"` // likewise
}

// RunRetention does what a command says to a store, and tells what holds then.
func RunRetention(ctx context.Context, store Keeper, c RetentionCommand) (k KeptCollection, err error) {
	in, err := store.Namespace(c.Tenant, c.Database).Collection(ctx, c.Collection)
	if err != nil {
		return k, err
	}
	switch c.Do {
	case SetRetention:
		if c.DefaultSeconds < 0 || c.DefaultSeconds > 1<<33 {
			return k, fmt.Errorf("a default of %d seconds", c.DefaultSeconds)
		}
		err = in.SetRetention(ctx, &engine.Retention{Key: c.Key, Default: time.Duration(c.DefaultSeconds) * time.Second})
	case EndRetention:
		err = in.SetRetention(ctx, nil)
	case PlaceHold:
		err = in.PlaceHold(ctx, c.Reason)
	case ReleaseHold:
		err = in.ReleaseHold(ctx)
	case ShowOne:
	default:
		err = fmt.Errorf("%.40q is none of set, off, hold, release, show", c.Do)
	}
	if err != nil {
		return k, err
	}
	k, err = keptOf(ctx, in)
	if err != nil && c.Do != ShowOne { // a damaged collection can be put under hold, which is done
		k.Over, k.Unclear, err = -1, -1, nil
	}
	return k, err
}

// ListRetention tells of all collections that have a retention or a hold.
func ListRetention(ctx context.Context, store Keeper) ([]KeptCollection, error) {
	all, err := store.Kept(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]KeptCollection, 0, len(all))
	for _, k := range all {
		in, err := store.Namespace(k.Tenant, k.Database).CollectionByID(ctx, k.ID)
		if errors.Is(err, engine.ErrNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		one, err := keptOf(ctx, in)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil { // damaged, which is no reason not to tell of the others
			one.Over, one.Unclear = -1, -1
		}
		out = append(out, one)
	}
	return out, nil
}

func keptOf(ctx context.Context, c *engine.Collection) (KeptCollection, error) {
	info := c.Info()
	k := KeptCollection{ID: info.ID.String(), Tenant: info.Tenant, Database: info.Database, Collection: info.Name}
	if r := c.Retention(); r != nil {
		k.Key, k.Default = r.Key, int64(r.Default/time.Second)
	}
	if h := c.Hold(); h != nil {
		k.Held, k.Reason, k.Since = true, h.Reason, h.Since
	}
	s, err := c.RetentionState(ctx)
	k.Over, k.Unclear = s.Over, s.Unclear
	return k, err
}

func (a *Admin) listRetention(w http.ResponseWriter, r *http.Request) {
	all, err := ListRetention(r.Context(), a.store)
	if err != nil {
		fail(w, http.StatusConflict, err)
		return
	}
	answer(w, http.StatusOK, all)
}

func (a *Admin) changeRetention(w http.ResponseWriter, r *http.Request) {
	var c RetentionCommand
	if err := strictBody(w, r, &c); err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	k, err := RunRetention(context.WithoutCancel(r.Context()), a.store, c)
	if err != nil {
		fail(w, http.StatusConflict, err)
		return
	}
	answer(w, http.StatusOK, k)
}

// Retentions asks for the collections that have a retention or a hold.
func (c *Client) Retentions(ctx context.Context) (all []KeptCollection, err error) {
	err = c.get(ctx, "retention", &all)
	return all, err
}

// Retention has a command done.
func (c *Client) Retention(ctx context.Context, command RetentionCommand) (k KeptCollection, err error) {
	err = c.send(ctx, "retention", command, &k)
	return k, err
}
