package engine

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/segment"
)

// op is the first byte of a log entry. Values are on disk: never reuse one.
type op uint8

const (
	opCreateTenant     op = 1
	opSetTenant        op = 2
	opCreateDatabase   op = 3
	opDeleteDatabase   op = 4
	opCreateCollection op = 5
	opModifyCollection op = 6
	opDeleteCollection op = 7
	opReset            op = 8
	opSet              op = 9
	opKeep             op = 10
	opWrite            op = 16
	opDelete           op = 17
	opWriteUnder       op = 18
	opWriteOn          op = 19
	opExpire           op = 20
	opEdit             op = 32
)

// Every decoder here accepts only what its encoder writes, so equal meaning is
// equal bytes: what decodes encodes to the bytes that were read, deletions
// apart, whose bytes are the bitmap library's.

// isData tells the entries that change records from those that change the
// catalog or the files of a collection.
func (o op) isData() bool { return o.isWrite() || o.plain() == opDelete || o.plain() == opExpire }

// isWrite tells the entries that are a writeEntry.
func (o op) isWrite() bool {
	return o.plain() == opWrite || o.plain() == opWriteUnder || o.plain() == opWriteOn
}

// decodeOp reads the first byte of an entry that is of one kind.
func decodeOp(d *disk.Decoder, want op) {
	if got := op(d.Byte()); got != want && d.Err() == nil {
		d.Fail("operation %d in the place of %d", got, want)
	}
}

// catalogEntry is a change of the catalog. Which fields are set depends on op.
type catalogEntry struct {
	op               op
	tenant, database string
	name             string   // of the collection; opSet: of the setting
	resource         string   // of the tenant
	id               ID       // of the database or the collection
	spec             Spec     // opCreateCollection; opModifyCollection: the whole new one
	value            []byte   // opSet; empty: the setting is removed
	keep             *keeping // opKeep; nil: records stay, and there is no hold
}

func (e *catalogEntry) append(b []byte) []byte {
	b = append(b, byte(e.op))
	b = appendString(b, e.tenant)
	b = appendString(b, e.database)
	b = appendString(b, e.name)
	b = appendString(b, e.resource)
	b = append(b, e.id[:]...)
	if e.op == opCreateCollection || e.op == opModifyCollection {
		b = appendSpec(b, e.spec)
	}
	if e.op == opSet {
		b = appendBlob(b, e.value)
	}
	if e.op == opKeep {
		b = e.keep.append(b)
	}
	return b
}

func decodeCatalogEntry(b []byte) (*catalogEntry, error) {
	d := disk.NewDecoder(b)
	e := &catalogEntry{op: op(d.Byte())}
	if d.Err() == nil && (e.op < opCreateTenant || e.op > opKeep) {
		return nil, fmt.Errorf("unknown operation %d", e.op)
	}
	e.tenant, e.database, e.name, e.resource = d.String(), d.String(), d.String(), d.String()
	copy(e.id[:], d.Bytes(len(e.id)))
	if e.op == opCreateCollection || e.op == opModifyCollection {
		var err error
		if e.spec, err = decodeSpec(d); err != nil {
			return nil, err
		}
	}
	if e.op == opSet {
		e.value = slices.Clone(d.Blob())
	}
	if e.op == opKeep {
		e.keep = decodeKeeping(d)
	}
	return e, d.Done()
}

func appendSpec(b []byte, s Spec) []byte {
	b = append(b, byte(s.Metric))
	b = binary.AppendUvarint(b, uint64(s.M))
	b = binary.AppendUvarint(b, uint64(s.EFConstruction))
	b = binary.AppendUvarint(b, uint64(s.EFSearch))
	b = appendMetadata(b, s.Metadata)
	return appendBlob(b, s.Extension)
}

func decodeSpec(d *disk.Decoder) (s Spec, err error) {
	s.Metric = Metric(d.Byte())
	s.M, s.EFConstruction, s.EFSearch = decodeInt(d), decodeInt(d), decodeInt(d)
	if s.Metadata, err = decodeMetadata(d); err != nil {
		return s, err
	}
	s.Extension = slices.Clone(d.Blob())
	return s, d.Err()
}

// decodeInt reads a number that is used as a size; anything beyond 2^31 is
// nothing that was ever written.
func decodeInt(d *disk.Decoder) int {
	v := d.Uvarint()
	if v > math.MaxInt32 {
		d.Fail("a size of %d", v)
		return 0
	}
	return int(v)
}

// writeEntry is an opWrite, an opWriteUnder, which has a rule, or an opWriteOn,
// which has terms and perhaps a rule: records added, upserted or updated.
type writeEntry struct {
	collection ID
	kind       writeKind
	rule       *Filter // of Guarded; nil: none
	terms      *terms  // of the collection's retention; nil: none
	records    []Record
}

func (e *writeEntry) op() op {
	switch {
	case e.terms != nil:
		return opWriteOn
	case e.rule != nil:
		return opWriteUnder
	}
	return opWrite
}

const (
	hasEmbedding = 1 << iota
	hasMetadata
	hasDocument
	hasURI

	hasAny = hasEmbedding | hasMetadata | hasDocument | hasURI
)

func (e *writeEntry) append(b []byte) []byte {
	b = append(b, byte(e.op()))
	b = append(b, e.collection[:]...)
	b = append(b, byte(e.kind))
	if e.terms != nil {
		b = e.terms.append(b, e.rule != nil)
	}
	if e.rule != nil {
		rule, _ := filter.AppendExpr(nil, e.rule) // Under has seen that it has a stored form
		b = appendBlob(b, rule)
	}
	b = binary.AppendUvarint(b, uint64(len(e.records)))
	for i := range e.records {
		r := &e.records[i]
		var flags byte
		if r.Embedding != nil {
			flags |= hasEmbedding
		}
		if len(r.Metadata) > 0 {
			flags |= hasMetadata
		}
		if r.Document != nil {
			flags |= hasDocument
		}
		if r.URI != nil {
			flags |= hasURI
		}
		b = append(b, flags)
		b = appendString(b, r.ID)
		if r.Embedding != nil {
			b = appendFloats(b, r.Embedding)
		}
		if len(r.Metadata) > 0 {
			b = appendMetadata(b, r.Metadata)
		}
		if r.Document != nil {
			b = appendString(b, *r.Document)
		}
		if r.URI != nil {
			b = appendString(b, *r.URI)
		}
	}
	return b
}

func decodeWriteEntry(b []byte) (*writeEntry, error) {
	d := disk.NewDecoder(b)
	o := op(d.Byte())
	if (o.plain() != o || !o.isWrite()) && d.Err() == nil {
		d.Fail("operation %d in the place of %d", o, opWrite)
	}
	e := &writeEntry{}
	copy(e.collection[:], d.Bytes(len(e.collection)))
	e.kind = writeKind(d.Byte())
	ruled := o == opWriteUnder
	if o == opWriteOn {
		e.terms, ruled = decodeTerms(d)
	}
	if ruled {
		blob := d.Blob()
		if err := d.Err(); err != nil {
			return nil, err
		}
		var err error
		if e.rule, err = filter.DecodeExpr(blob); err != nil {
			return nil, fmt.Errorf("rule: %w", err)
		}
	}
	n := d.Count(2)
	e.records = make([]Record, 0, n)
	for range n {
		r, err := decodeRecord(d)
		if err != nil {
			return nil, err
		}
		e.records = append(e.records, r)
	}
	if err := d.Done(); err != nil {
		return nil, err
	}
	if e.kind < writeAdd || e.kind > writeUpdate {
		return nil, fmt.Errorf("write of unknown kind %d", e.kind)
	}
	return e, nil
}

func decodeRecord(d *disk.Decoder) (r Record, err error) {
	flags := d.Byte()
	if flags&^hasAny != 0 {
		d.Fail("a record with flags %#x", flags)
	}
	r.ID = d.String()
	if flags&hasEmbedding != 0 {
		r.Embedding = decodeFloats(d)
	}
	if flags&hasMetadata != 0 {
		if r.Metadata, err = decodeMetadata(d); err != nil {
			return r, err
		}
		if r.Metadata == nil {
			d.Fail("metadata without a key")
		}
	}
	if flags&hasDocument != 0 {
		r.Document = Optional(d.String())
	}
	if flags&hasURI != 0 {
		r.URI = Optional(d.String())
	}
	return r, d.Err()
}

// deleteEntry is an opDelete: ids that go. A filter was evaluated before the
// entry was logged, so replaying evaluates nothing.
type deleteEntry struct {
	collection ID
	ids        []string
}

func (e *deleteEntry) append(b []byte) []byte {
	b = append(b, byte(opDelete))
	b = append(b, e.collection[:]...)
	b = binary.AppendUvarint(b, uint64(len(e.ids)))
	for _, id := range e.ids {
		b = appendString(b, id)
	}
	return b
}

func decodeDeleteEntry(b []byte) (*deleteEntry, error) {
	d := disk.NewDecoder(b)
	decodeOp(d, opDelete)
	e := &deleteEntry{}
	copy(e.collection[:], d.Bytes(len(e.collection)))
	n := d.Count(1)
	e.ids = make([]string, 0, n)
	for range n {
		e.ids = append(e.ids, d.String())
	}
	return e, d.Done()
}

// manifest is the durable state of a collection's files: what a flush or a
// compaction leaves behind. The log entries after flushed are the rest.
type manifest struct {
	flushed   uint64 // sequence number up to which entries are in segments
	nextOrder uint64 // creation number of the next new record
	dimension int
	keys      map[string]KindSet
	segments  []segmentState
}

// segmentState is a segment with its deletions as of manifest.flushed.
type segmentState struct {
	info segment.Info
	dead *roaring.Bitmap // rows; empty, never nil
}

func (m *manifest) append(b []byte) ([]byte, error) {
	b = binary.AppendUvarint(b, m.flushed)
	b = binary.AppendUvarint(b, m.nextOrder)
	b = binary.AppendUvarint(b, uint64(m.dimension))
	b = binary.AppendUvarint(b, uint64(len(m.keys)))
	for _, k := range sortedKeys(m.keys) {
		b = appendString(b, k)
		b = binary.AppendUvarint(b, uint64(m.keys[k]))
	}
	b = binary.AppendUvarint(b, uint64(len(m.segments)))
	for _, s := range m.segments {
		var err error
		if b, err = s.info.AppendBinary(b); err != nil {
			return nil, err
		}
		var dead []byte
		if !s.dead.IsEmpty() {
			if dead, err = s.dead.ToBytes(); err != nil {
				return nil, err
			}
		}
		b = appendBlob(b, dead)
	}
	return b, nil
}

func decodeManifest(d *disk.Decoder) (*manifest, error) {
	m := &manifest{flushed: d.Uvarint(), nextOrder: d.Uvarint(), dimension: decodeInt(d)}
	n := d.Count(2)
	m.keys = make(map[string]KindSet, n)
	last := ""
	for i := range n {
		k, kinds := d.String(), d.Uvarint()
		if i > 0 && k <= last || kinds > math.MaxUint32 {
			d.Fail("key %.80q out of order, or of kinds %#x", k, kinds)
		}
		if d.Err() != nil {
			return nil, d.Err()
		}
		m.keys[k], last = KindSet(kinds), k
	}
	seen := map[uint64]bool{}
	for range d.Count(infoSize + 1) {
		info := segment.DecodeInfo(d)
		dead, err := decodeDeletions(d, info.Rows)
		if err == nil && (seen[info.Number] || info.Rows == 0) {
			err = errors.New("there twice, or without rows")
		}
		if err != nil {
			return nil, fmt.Errorf("segment %d: %w", info.Number, err)
		}
		seen[info.Number] = true
		m.segments = append(m.segments, segmentState{info, dead})
	}
	return m, d.Err()
}

const infoSize = 60 // of an encoded segment.Info

// decodeDeletions reads the dead rows of a segment: an empty blob when there
// are none, else a bitmap in the portable form and nothing else.
func decodeDeletions(d *disk.Decoder, rows uint32) (*roaring.Bitmap, error) {
	blob := d.Blob()
	if err := d.Err(); err != nil {
		return nil, err
	}
	dead := roaring.New()
	if len(blob) == 0 {
		return dead, nil
	}
	// A reader of its own keeps the bitmap from aliasing the entry.
	n, err := dead.ReadFrom(bytes.NewReader(blob))
	if err == nil {
		err = dead.Validate() // before anything looks into a container
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("deletions: %w", err)
	case n != int64(len(blob)) || dead.IsEmpty():
		return nil, fmt.Errorf("deletions: %d bytes of %d used", n, len(blob))
	case dead.Maximum() >= rows:
		return nil, fmt.Errorf("deletions name row %d of %d", dead.Maximum(), rows)
	}
	return dead, nil
}

// appendEdit encodes an opEdit: the whole new manifest of a collection, so the
// newest one is all that recovery needs.
func appendEdit(b []byte, collection ID, m *manifest) ([]byte, error) {
	b = append(b, byte(opEdit))
	b = append(b, collection[:]...)
	return m.append(b)
}

func decodeEdit(b []byte) (ID, *manifest, error) {
	d := disk.NewDecoder(b)
	decodeOp(d, opEdit)
	var id ID
	copy(id[:], d.Bytes(len(id)))
	m, err := decodeManifest(d)
	if err != nil {
		return id, nil, err
	}
	return id, m, d.Done()
}

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendBlob(b, p []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(p)))
	return append(b, p...)
}

func appendFloats(b []byte, v []float32) []byte {
	b = binary.AppendUvarint(b, uint64(len(v)))
	b = slices.Grow(b, 4*len(v))
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

func decodeFloats(d *disk.Decoder) []float32 {
	n := d.Count(4)
	p := d.Bytes(4 * n)
	if d.Err() != nil {
		return nil
	}
	v := make([]float32, n)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(p[4*i:]))
	}
	return v
}

// Metadata stand as a blob of their own, which keeps their decoder bounded by it.
func appendMetadata(b []byte, m Metadata) []byte {
	if len(m) == 0 {
		return appendBlob(b, nil)
	}
	return appendBlob(b, filter.AppendMetadata(nil, m))
}

func decodeMetadata(d *disk.Decoder) (Metadata, error) {
	blob := d.Blob()
	if err := d.Err(); err != nil {
		return nil, err
	}
	if len(blob) == 0 {
		return nil, nil
	}
	m, err := filter.DecodeMetadata(blob)
	if err == nil && m == nil {
		d.Fail("metadata of %d bytes without a key", len(blob))
	}
	return m, cmp.Or(err, d.Err())
}
