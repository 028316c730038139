package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// Power is cut at a random operation of the disk while records with and without
// a time are written, retention and hold are changed, what is over is deleted,
// and flushes, compactions and checkpoints go on. After the cut records, retention
// and hold are those before or those after the call that was under way. Times are
// long past or far off, so the hour decides nothing.
func TestRetentionPowerCut(t *testing.T) { powerCuts(t, retentionCutOne) }

const farOff = 200000000000

// cutModel is a collection: what it has, over or not, and what holds for it.
type cutModel struct {
	records map[string]holdRecord
	on      bool
	grace   bool
	why     string // of the hold; empty: none
}

func (m cutModel) clone() cutModel {
	m.records = maps.Clone(m.records)
	return m
}

func (m cutModel) over(id string) bool { return m.on && m.records[id].at == 1 }

func (m cutModel) String() string {
	var out []string
	for id, r := range m.records {
		if !m.over(id) {
			out = append(out, fmt.Sprint(id, "=", r.version, " ", r.at))
		}
	}
	slices.Sort(out)
	return fmt.Sprint(m.on, m.on && m.grace, m.why, out)
}

func (m cutModel) sweep() {
	if m.why == "" {
		maps.DeleteFunc(m.records, func(id string, _ holdRecord) bool { return m.over(id) })
	}
}

// shows is String of a store.
func shows(ctx context.Context, c *Collection) (string, error) {
	m := cutModel{records: map[string]holdRecord{}}
	if r := c.Retention(); r != nil {
		m.on, m.grace = true, r.Default > 0
	}
	if h := c.Hold(); h != nil {
		m.why = h.Reason
	}
	for r, err := range c.Get(ctx, Selection{}, IncludeAll) {
		if err != nil {
			return "", err
		}
		at := r.Metadata[DefaultRetentionKey].AsInt()
		if at > 1 && at != farOff {
			at = 2 // a stamp
		}
		m.records[r.ID] = holdRecord{at, r.Embedding[0]}
	}
	n, err := c.Count(ctx)
	if err == nil && n != len(m.records) {
		err = fmt.Errorf("count says %d, get has %d", n, len(m.records))
	}
	return m.String(), err
}

// cutWrite is a random write of a record; refused: a hold has to.
func cutWrite(r *rand.Rand, m *cutModel, version float32) (name string, do func(context.Context, *Collection) error, refused bool) {
	id := fmt.Sprint("id", r.IntN(10))
	record := rec(id, version, 1)
	at := []int64{0, 1, farOff}[r.IntN(3)]
	if at != 0 {
		record.Metadata = Metadata{DefaultRetentionKey: filter.Int(at)}
	}
	old, there := m.records[id]
	gone, held := there && m.over(id), m.why != ""
	fresh := func() {
		if at == 0 && m.on && m.grace {
			at = 2
		}
		m.records[id] = holdRecord{at, version}
	}
	merge := func() {
		if at == 0 {
			at = old.at
		}
		m.records[id] = holdRecord{at, version}
	}
	switch r.IntN(5) {
	case 0:
		if refused = gone && held; !refused && (!there || gone) {
			fresh()
		}
		return "add " + id, func(ctx context.Context, c *Collection) error { return c.Add(ctx, record) }, refused
	case 1, 2:
		switch refused = there && held; {
		case refused:
		case there && !gone:
			merge()
		default:
			fresh()
		}
		return "upsert " + id, func(ctx context.Context, c *Collection) error { return c.Upsert(ctx, record) }, refused
	case 3:
		if refused = held; !refused && there && !gone {
			merge()
		}
		return "update " + id, func(ctx context.Context, c *Collection) error { return c.Update(ctx, record) }, refused
	}
	if refused = held; !refused {
		delete(m.records, id)
	}
	return "delete " + id, func(ctx context.Context, c *Collection) error {
		_, err := c.Delete(ctx, Selection{IDs: []string{id}})
		return err
	}, refused
}

// cutChange is a random change of what holds, or work on the files.
func cutChange(r *rand.Rand, db *DB, m *cutModel) (name string, do func(context.Context, *Collection) error, refused bool) {
	switch r.IntN(7) {
	case 0:
		on, grace := r.IntN(3) > 0, r.IntN(2) == 0
		var to *Retention
		if on {
			to = &Retention{}
			if grace {
				to.Default = maxDefault
			}
		}
		if refused = m.why != ""; !refused {
			m.sweep()
			m.on, m.grace = on, grace
		}
		return fmt.Sprint("retention ", on, grace), func(ctx context.Context, c *Collection) error { return c.SetRetention(ctx, to) }, refused
	case 1:
		if m.why != "" {
			m.why = ""
			return "release", func(ctx context.Context, c *Collection) error { return c.ReleaseHold(ctx) }, false
		}
		m.why = "a case"
		return "hold", func(ctx context.Context, c *Collection) error { return c.PlaceHold(ctx, "a case") }, false
	case 2, 3:
		m.sweep()
		return "expire", func(ctx context.Context, c *Collection) error { _, err := c.Expire(ctx); return err }, false
	case 4:
		return "flush", func(ctx context.Context, _ *Collection) error { return db.Flush(ctx) }, false
	case 5:
		return "compact", func(ctx context.Context, _ *Collection) error { return db.Compact(ctx) }, false
	}
	return "checkpoint", func(ctx context.Context, _ *Collection) error { return db.writeCheckpoint(ctx) }, false
}

func retentionCutOne(seed uint64) error {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(seed, 13))
	fs := faultfs.New(seed)
	o := cutOptions(seed, r, fs)
	o.ExpireEvery = -1
	db, err := Open("", o)
	if err != nil {
		return err
	}
	c, err := db.Default().Create(ctx, "c", Spec{})
	if err != nil {
		return errors.Join(err, db.Close())
	}
	fs.CrashAt(fs.Ops() + r.IntN(300))
	m := cutModel{records: map[string]holdRecord{}}
	before, after := m, m
	var trail strings.Builder
	for step := range 150 {
		after = m.clone()
		name, do, refused := cutWrite(r, &after, float32(step))
		if r.IntN(4) == 0 {
			after = m.clone()
			name, do, refused = cutChange(r, db, &after)
		}
		fmt.Fprintf(&trail, "\n  %s", name)
		err := do(ctx, c)
		if refused && errors.Is(err, ErrHeld) || !refused && err == nil {
			before, m = after, after
			continue
		}
		if err == nil || errors.Is(err, ErrHeld) {
			return errors.Join(fmt.Errorf("%s is to be refused: %v, and it was %v%s", name, refused, err, trail.String()), db.Close())
		}
		before = m // the cut
		break
	}
	_ = db.Close()
	o.fs = fs.Crash(r)
	if db, err = Open("", o); err != nil {
		return fmt.Errorf("open: %w%s", err, trail.String())
	}
	defer db.Close()
	if c, err = db.Default().Collection(ctx, "c"); err != nil {
		return fmt.Errorf("%w%s", err, trail.String())
	}
	got, err := shows(ctx, c)
	if err != nil || got != before.String() && got != after.String() {
		return fmt.Errorf("%v\n%s is neither\n%s nor\n%s%s", err, got, before, after, trail.String())
	}
	if k := c.keep.Load(); k != nil && k.held && (k.since < 1 || k.since > time.Now().Unix()) {
		return fmt.Errorf("held since %d", k.since)
	}
	return nil
}
