package engine

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/disk"
)

// expiryOf is when a record with value v under its collection's key is over, in
// seconds since 1970; false: v is no time.
func expiryOf(v Value) (at int64, ok bool) {
	switch v.Kind() {
	case filter.KindInt:
		at = v.AsInt()
	case filter.KindFloat:
		f := math.Ceil(v.AsFloat())
		if !(f >= 1 && f <= maxTime) {
			return 0, false
		}
		at = int64(f)
	case filter.KindString:
		if at, ok = textTime(v.AsString()); !ok {
			return 0, false
		}
	default:
		return 0, false
	}
	return at, at >= 1 && at <= maxTime
}

// textTime reads a time in the form of RFC 3339, and no other that Go would take
// for one: what is stored must mean the same for ever.
func textTime(s string) (seconds int64, ok bool) {
	const form = "0000-00-00T00:00:00"
	if len(s) <= len(form) || !shaped(s[:len(form)], form) {
		return 0, false
	}
	zone := s[len(form):]
	if zone[0] == '.' {
		rest := strings.TrimLeft(zone[1:], "0123456789")
		if len(rest) == len(zone)-1 || len(zone)-1-len(rest) > 9 {
			return 0, false
		}
		zone = rest
	}
	if zone != "Z" && !shaped(zone, "+00:00") && !shaped(zone, "-00:00") {
		return 0, false
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return 0, false
	}
	if seconds = t.Unix(); t.Nanosecond() > 0 {
		seconds++
	}
	return seconds, true
}

// shaped tells whether s has digits where form has 0, and form's bytes elsewhere.
func shaped(s, form string) bool {
	if len(s) != len(form) {
		return false
	}
	for i := range len(s) {
		if form[i] == '0' && (s[i] < '0' || s[i] > '9') || form[i] != '0' && s[i] != form[i] {
			return false
		}
	}
	return true
}

// over tells whether a record with metadata m has expired at a time.
func over(m Metadata, key string, at int64) bool {
	v, there := m[key]
	if !there {
		return false
	}
	t, ok := expiryOf(v)
	return ok && t <= at
}

// checkExpiry refuses records whose value under key is no time: they would stay
// for ever, and their writer meant them not to.
func checkExpiry(recs []Record, key string) error {
	for i := range recs {
		v, there := recs[i].Metadata[key]
		if !there || v.IsNull() {
			continue
		}
		if _, ok := expiryOf(v); ok {
			continue
		}
		reason := fmt.Sprintf("key %q says when the record expires in this collection: seconds since 1970, from 1 to %d, or text like %q", key, int64(maxTime), "2027-01-31T00:00:00Z")
		if n := v.AsInt(); n > maxTime && n/1000 <= maxTime {
			reason += "; this looks like milliseconds"
		}
		return &InvalidError{Field: "metadata", Index: i, Reason: reason}
	}
	return nil
}

// terms are what a write meets beside a rule when it is applied. They stand in
// the entry, so a replay, at another time and after the catalog has changed,
// does the same.
type terms struct {
	key   string // of the time in the metadata; empty: records do not expire
	at    int64  // a record that is over by then is not there
	stamp int64  // the time of new records without one; 0: they get none
	held  bool   // what is there may not be overwritten
}

const (
	termRule = 1 << iota
	termExpiry
	termHold
)

// termsOf are the terms of a write that is logged now; nil: none.
func (k *keeping) terms() *terms {
	if k == nil {
		return nil
	}
	t := &terms{key: k.key, held: k.held}
	if k.key != "" {
		if t.at = k.clock(); k.grace > 0 {
			// Of now, also where the clock stands still.
			t.stamp = min(max(1, now())+k.grace, maxTime)
		}
	}
	return t
}

func (t *terms) append(b []byte, ruled bool) []byte {
	var flags byte
	if ruled {
		flags |= termRule
	}
	if t.key != "" {
		flags |= termExpiry
	}
	if t.held {
		flags |= termHold
	}
	b = append(b, flags)
	if t.key != "" {
		b = appendNumber(appendNumber(appendString(b, t.key), t.at), t.stamp)
	}
	return b
}

func decodeTerms(d *disk.Decoder) (t *terms, ruled bool) {
	flags := d.Byte()
	if flags&^(termRule|termExpiry|termHold) != 0 || flags&(termExpiry|termHold) == 0 {
		d.Fail("terms with flags %#x", flags)
	}
	t = &terms{held: flags&termHold != 0}
	if flags&termExpiry != 0 {
		if t.key, t.at, t.stamp = d.String(), decodeNumber(d), decodeNumber(d); t.key == "" {
			d.Fail("an expiry without a key")
		}
	}
	return t, flags&termRule != 0
}

// size bounds the encoded form.
func (t *terms) size() int {
	if t == nil {
		return 0
	}
	return 1 + len(t.key) + 3*binary.MaxVarintLen64
}

// over tells whether a record is no longer there for the write.
func (t *terms) over(m Metadata) bool { return t != nil && t.key != "" && over(m, t.key, t.at) }

// stamped is the metadata of a record that is new, which may be m.
func (t *terms) stamped(m Metadata) Metadata {
	if t == nil || t.stamp == 0 {
		return m
	}
	if v, there := m[t.key]; there && !v.IsNull() {
		return m
	}
	return mergeMetadata(m, Metadata{t.key: filter.Int(t.stamp)})
}

// expireEntry is an opExpire: of ids, those whose records are over go. Which
// these are is decided when it is applied: a record that was given more time
// meanwhile stays.
type expireEntry struct {
	collection ID
	key        string
	at         int64
	ids        []string
}

func (e *expireEntry) append(b []byte) []byte {
	b = append(b, byte(opExpire))
	b = append(b, e.collection[:]...)
	b = appendNumber(appendString(b, e.key), e.at)
	b = binary.AppendUvarint(b, uint64(len(e.ids)))
	for _, id := range e.ids {
		b = appendString(b, id)
	}
	return b
}

func decodeExpireEntry(b []byte) (*expireEntry, error) {
	d := disk.NewDecoder(b)
	decodeOp(d, opExpire)
	e := &expireEntry{}
	copy(e.collection[:], d.Bytes(len(e.collection)))
	if e.key, e.at = d.String(), decodeNumber(d); e.key == "" {
		d.Fail("an expiry without a key")
	}
	n := d.Count(1)
	e.ids = make([]string, 0, n)
	for range n {
		e.ids = append(e.ids, d.String())
	}
	return e, d.Done()
}

// metadataAt reads the metadata of the record at p.
func (a *applier) metadataAt(p place) (Metadata, error) {
	if p.mem != nil {
		return p.mem.metadata, nil
	}
	reader, err := a.v.reader(p.segment)
	if err != nil {
		return nil, err
	}
	return reader.Metadata(p.row)
}

// isOver tells whether the record at p is over on the terms of a write.
func (a *applier) isOver(p place, t *terms) (bool, error) {
	if t == nil || t.key == "" {
		return false, nil
	}
	m, err := a.metadataAt(p)
	return err == nil && t.over(m), err
}

// expire applies an opExpire and returns how many records went.
func (a *applier) expire(seq uint64, e *expireEntry) (int, error) {
	a.c.mem.touch(seq)
	n := 0
	for _, id := range e.ids {
		p, found, err := a.find(id)
		if err != nil {
			return n, err
		}
		if !found {
			continue
		}
		m, err := a.metadataAt(p)
		if err != nil {
			return n, err
		}
		if over(m, e.key, e.at) {
			a.kill(p)
			n++
		}
	}
	if n > 0 {
		a.c.mem.retime(a.c.mem.earliest.key) // or every state from now on would look for what is gone
	}
	return n, nil
}

// judgeHold returns the position of the first record of e that would overwrite
// one that a hold keeps, -1: none would. One that is over is kept as well.
func (a *applier) judgeHold(e *writeEntry) (int, error) {
	if e.terms == nil || !e.terms.held {
		return -1, nil
	}
	for i := range e.records {
		p, found, err := a.find(e.records[i].ID)
		if err != nil || !found {
			if err != nil {
				return -1, err
			}
			continue
		}
		gone, err := a.isOver(p, e.terms)
		if err != nil {
			return -1, err
		}
		if gone || e.kind != writeAdd {
			return i, nil
		}
	}
	return -1, nil
}
