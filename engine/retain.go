package engine

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/chromad/chromad/internal/disk"
)

// Retention says how long the records of a collection are kept: each until the
// time that stands in its metadata.
//
// The time is a number of seconds since 1970, from 1 to 253402300799, or text in
// the form of RFC 3339 ("2027-01-31T00:00:00Z"); parts of a second count as a
// whole one. From then on no read has the record, its id is free, and the
// background deletes it within Options.ExpireEvery; its bytes go as those of
// every deletion do. A record without the key stays. One that was written before
// the collection had a retention stays too if its value is no time; later such a
// write is refused.
type Retention struct {
	// Key is the metadata key of the time; empty: DefaultRetentionKey.
	Key string
	// Default is given to new records that come without the key: their time is
	// that of the write and Default, in whole seconds. 0: they stay.
	Default time.Duration
}

// DefaultRetentionKey is where records say when they expire unless
// Retention.Key is another.
const DefaultRetentionKey = "expires_at"

// Hold keeps everything that a collection has: nothing of it is deleted,
// overwritten or renamed by anybody (ErrHeld), and nothing expires: its clock
// stands still at Since. New records are welcome. Bytes of what was deleted
// before are not kept.
type Hold struct {
	Reason string
	Since  time.Time
}

const (
	maxHoldReason = 1 << 10
	// maxTime is the last second of the year 9999, the last that RFC 3339 knows.
	maxTime = 253402300799
	// maxDefault bounds Retention.Default: a hundred years of 366 days.
	maxDefault = 36600 * 24 * time.Hour
)

// keeping is what the catalog says of how long a collection's records stay. It
// never changes: a new one takes its place, with Collection.writeMu held, so
// every entry in the log was written under the one before it.
type keeping struct {
	key   string // of the time in the metadata; empty: records do not expire
	grace int64  // Retention.Default in seconds, 0: none
	held  bool
	since int64 // of the hold, in seconds since 1970
	why   string
}

const (
	keepExpiry = 1 << iota
	keepHold
)

// clock is what time it is for the collection.
func (k *keeping) clock() int64 {
	t := max(0, now())
	if k.held {
		t = min(t, k.since)
	}
	return t
}

func (k *keeping) expires() bool { return k != nil && k.key != "" }

func (k *keeping) retention() *Retention {
	if !k.expires() {
		return nil
	}
	return &Retention{Key: k.key, Default: time.Duration(k.grace) * time.Second}
}

func (k *keeping) hold() *Hold {
	if k == nil || !k.held {
		return nil
	}
	return &Hold{Reason: k.why, Since: time.Unix(k.since, 0).UTC()}
}

// append encodes k; nil is a byte 0.
func (k *keeping) append(b []byte) []byte {
	if k == nil {
		return append(b, 0)
	}
	var flags byte
	if k.key != "" {
		flags |= keepExpiry
	}
	if k.held {
		flags |= keepHold
	}
	b = append(b, flags)
	if k.key != "" {
		b = appendNumber(appendString(b, k.key), k.grace)
	}
	if k.held {
		b = appendString(appendNumber(b, k.since), k.why)
	}
	return b
}

// decodeKeeping reads what append wrote; nil is what says nothing.
func decodeKeeping(d *disk.Decoder) *keeping {
	flags := d.Byte()
	if flags&^(keepExpiry|keepHold) != 0 {
		d.Fail("retention with flags %#x", flags)
	}
	if d.Err() != nil || flags == 0 {
		return nil
	}
	k := &keeping{held: flags&keepHold != 0}
	if flags&keepExpiry != 0 {
		if k.key, k.grace = d.String(), decodeNumber(d); k.key == "" {
			d.Fail("retention without a key")
		}
	}
	if k.held {
		k.since, k.why = decodeNumber(d), d.String()
	}
	if d.Err() != nil {
		return nil
	}
	return k
}

// appendNumber is for times and durations in seconds, none of which is negative.
func appendNumber(b []byte, n int64) []byte { return binary.AppendUvarint(b, uint64(n)) }

func decodeNumber(d *disk.Decoder) int64 {
	n := d.Uvarint()
	if n > math.MaxInt64 {
		d.Fail("a number of %d", n)
		return 0
	}
	return int64(n)
}

func (r *Retention) check(lim *Limits) error {
	bad := func(format string, args ...any) error {
		return &InvalidError{Field: "retention", Index: -1, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case r.Default < 0 || r.Default > maxDefault:
		return bad("a default of %v: 1s to %v, or 0 for none", r.Default, maxDefault)
	case r.Default%time.Second != 0:
		return bad("a default of %v: whole seconds only", r.Default)
	case len(r.Key) > 1<<10:
		return bad("a key of %d bytes, at most %d", len(r.Key), 1<<10)
	}
	if _, err := checkMetadata(Metadata{r.Key: {}}, -1, lim); err != nil {
		return err
	}
	return nil
}

// keeping is what holds for the collection's readers and writers; nil: nothing.
func (c *Collection) keeping() *keeping {
	if c.db.opts.mending {
		return nil
	}
	return c.keep.Load()
}

// Retention is how long records are kept; nil: for ever.
func (c *Collection) Retention() *Retention { return c.keep.Load().retention() }

// Hold is the legal hold that the collection is under; nil: none.
func (c *Collection) Hold() *Hold { return c.keep.Load().hold() }

// SetRetention has records expire, or changes by which key or default they do;
// nil: from now on they stay. What was over before is deleted first. Records that
// the collection has already are no exception: what is over is gone from reads
// when it returns. Those without the key get no default. ErrHeld: not while the collection is under legal hold.
func (c *Collection) SetRetention(ctx context.Context, r *Retention) error {
	to := keeping{}
	if r != nil {
		v := *r
		if v.Key == "" {
			v.Key = DefaultRetentionKey
		}
		if err := v.check(&c.db.opts.Limits); err != nil {
			return err
		}
		to.key, to.grace = strings.Clone(v.Key), int64(v.Default/time.Second)
	}
	if c.keep.Load().expires() { // or what is gone would be there again; the rest goes under the locks
		if _, err := c.Expire(ctx); err != nil {
			return err
		}
	}
	return c.changeKeeping(ctx, func(k *keeping) error {
		if k.held {
			return c.heldError()
		}
		*k = to
		return nil
	})
}

// PlaceHold puts the collection under legal hold. ErrExists: it is under one,
// which stays as it is.
func (c *Collection) PlaceHold(ctx context.Context, reason string) error {
	switch {
	case strings.TrimSpace(reason) == "":
		return &InvalidError{Field: "reason", Index: -1, Reason: "empty: whoever is to release the hold has to know what it is for"}
	case len(reason) > maxHoldReason:
		return &InvalidError{Field: "reason", Index: -1, Reason: fmt.Sprintf("%d bytes, at most %d", len(reason), maxHoldReason)}
	case !utf8.ValidString(reason):
		return &InvalidError{Field: "reason", Index: -1, Reason: "not valid UTF-8"}
	}
	return c.changeKeeping(ctx, func(k *keeping) error {
		if k.held {
			return fmt.Errorf("collection %s: a legal hold, since %s: %w", c.id, showTime(k.since), ErrExists)
		}
		k.held, k.since, k.why = true, max(0, now()), strings.Clone(reason)
		return nil
	})
}

// ReleaseHold ends the legal hold. What has been over meanwhile is gone at once.
// ErrNotFound: there is none.
func (c *Collection) ReleaseHold(ctx context.Context) error {
	return c.changeKeeping(ctx, func(k *keeping) error {
		if !k.held {
			return fmt.Errorf("collection %s: a legal hold: %w", c.id, ErrNotFound)
		}
		k.held, k.since, k.why = false, 0, ""
		return nil
	})
}

// changeKeeping logs what change makes of the collection's keeping. The order of
// the log decides which writes are under the old one and which under the new.
func (c *Collection) changeKeeping(ctx context.Context, change func(*keeping) error) error {
	if err := c.db.enterWrite(ctx); err != nil {
		return err
	}
	return c.db.await(ctx, func() error {
		expired, err := c.replaceKeeping(ctx, change)
		c.expired(expired) // which may call others, so with no lock held
		return err
	})
}

// replaceKeeping also tells how many records went because they were over.
func (c *Collection) replaceKeeping(ctx context.Context, change func(*keeping) error) (expired int, err error) {
	if err := c.db.catMu.lock(ctx); err != nil {
		return 0, err
	}
	defer c.db.catMu.Unlock()
	if c.dropped.Load() {
		return 0, c.usable()
	}
	var k keeping
	old := c.keep.Load()
	if old != nil {
		k = *old
	}
	if err := change(&k); err != nil || old == nil && k == (keeping{}) || old != nil && k == *old {
		return 0, err
	}
	e := &catalogEntry{op: opKeep, id: c.id}
	if k != (keeping{}) {
		e.keep = &k
	}
	return c.commitKeeping(ctx, e, old.expires() && old.key != k.key)
}

// commitKeeping logs e; catMu is held. When what was over would not be by e,
// it goes before.
func (c *Collection) commitKeeping(ctx context.Context, e *catalogEntry, last bool) (expired int, err error) {
	if err := c.writeMu.lock(ctx); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrBusy, context.Cause(ctx)) // a delete that looks for its records
	}
	defer c.writeMu.Unlock()
	// What was logged before is to be seen before: nothing goes from a collection
	// whose hold has been acknowledged.
	select {
	case <-c.pending.whenIdle():
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: %w", ErrBusy, context.Cause(ctx))
	}
	if last {
		if expired, err = c.expireLast(ctx); err != nil {
			return expired, err
		}
	}
	if err = c.db.commitCatalog(e); err == nil {
		c.db.expiry.wakeUp()
	}
	return expired, err
}

// Kept is a collection with a retention, or under legal hold.
type Kept struct {
	ID                     ID
	Tenant, Database, Name string
	Retention              *Retention // nil: records do not expire
	Hold                   *Hold      // nil: none
}

// Kept lists the collections with a retention or a hold, by tenant, database and name.
func (db *DB) Kept(ctx context.Context) ([]Kept, error) {
	if err := db.enter(ctx); err != nil {
		return nil, err
	}
	defer db.leave()
	var out []Kept
	db.mu.RLock()
	for _, c := range db.catalog.collections {
		if k := c.keep.Load(); k != nil {
			out = append(out, Kept{c.id, c.tenant, c.database, c.name, k.retention(), k.hold()})
		}
	}
	db.mu.RUnlock()
	slices.SortFunc(out, func(a, b Kept) int {
		return slices.Compare([]string{a.Tenant, a.Database, a.Name}, []string{b.Tenant, b.Database, b.Name})
	})
	return out, nil
}

// heldError is why nothing of the collection may be destroyed.
func (c *Collection) heldError() error {
	c.db.mu.RLock()
	defer c.db.mu.RUnlock()
	return c.heldLocked()
}

func (c *Collection) heldLocked() error {
	e := &HeldError{Collection: c.id, Tenant: c.tenant, Database: c.database, Name: c.name, Index: -1}
	if k := c.keep.Load(); k != nil {
		e.Since = time.Unix(k.since, 0).UTC()
	}
	return e
}

// held is the error of the first collection under hold that is among those that
// an operation would take away or change; nil: there is none. catMu is held.
func (db *DB) held(among func(*Collection) bool) error {
	db.mu.RLock()
	defer db.mu.RUnlock()
	var first *Collection
	for _, c := range db.catalog.collections {
		if k := c.keep.Load(); k != nil && k.held && among(c) && (first == nil || c.name < first.name) {
			first = c
		}
	}
	if first == nil {
		return nil
	}
	return first.heldLocked()
}
