package engine

import (
	"sync"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/tidwall/btree"

	"github.com/chromad/chromad/internal/kernel"
)

// memRow is one record in memory. It never changes once it is in a memtable:
// an update makes a new one with the same order.
type memRow struct {
	order    uint64
	id       string
	vector   []float32
	invNorm  float32 // 1/|vector|, 0 for a zero vector
	metadata Metadata
	document *string
	uri      *string
	bytes    int64
}

func newMemRow(order uint64, r *Record) *memRow {
	row := &memRow{order: order, id: r.ID, vector: r.Embedding, metadata: r.Metadata, document: r.Document, uri: r.URI}
	row.invNorm = kernel.InvNorm(row.vector)
	row.bytes = rowBytes(row)
	return row
}

// rowBytes estimates the memory of a row: its parts, two tree slots and the
// headers around them.
func rowBytes(r *memRow) int64 {
	n := 256 + 4*len(r.vector) + len(r.id)
	for k, v := range r.metadata {
		n += 96 + len(k) + v.Size()
	}
	if r.document != nil {
		n += len(*r.document)
	}
	if r.uri != nil {
		n += len(*r.uri)
	}
	return int64(n)
}

// memtable is the mutable head of a collection, changed by one goroutine at a
// time. Readers see it through tables, which are snapshots of it.
type memtable struct {
	rows  btree.Map[uint64, *memRow] // by order
	ids   btree.Map[string, *memRow]
	bytes int64
	// first and last are the sequence numbers of the entries it holds
	// changes of, 0 when it holds none. Deletions in segments count too.
	first, last uint64

	earliest
}

func (m *memtable) touch(seq uint64) {
	if m.first == 0 {
		m.first = seq
	}
	m.last = seq
}

func (m *memtable) empty() bool { return m.first == 0 }

func (m *memtable) put(r *memRow) {
	if old, had := m.ids.Set(r.id, r); had {
		m.bytes -= old.bytes
	}
	m.rows.Set(r.order, r)
	m.bytes += r.bytes
	m.saw(r)
}

func (m *memtable) remove(r *memRow) {
	m.ids.Delete(r.id)
	m.rows.Delete(r.order)
	m.bytes -= r.bytes
}

// snapshot shares the trees: the next change to either side copies the nodes
// it touches.
func (m *memtable) snapshot() *table {
	return &table{rows: m.rows.Copy(), ids: m.ids.Copy(), earliest: m.earliest}
}

// table is an immutable set of rows in memory: a snapshot of the memtable, or
// one that is being flushed. Row numbers are positions in order, the numbers
// that the rows will have in the segment.
type table struct {
	rows *btree.Map[uint64, *memRow]
	ids  *btree.Map[string, *memRow]

	earliest

	once sync.Once
	list []*memRow
}

// all returns the rows in insertion order.
func (t *table) all() []*memRow {
	t.once.Do(func() { t.list = t.rows.Values() })
	return t.list
}

func (t *table) len() int { return t.rows.Len() }

// rowOf returns the row number of r.
func (t *table) rowOf(r *memRow) uint32 {
	all := t.all()
	lo, hi := 0, len(all)
	for lo < hi {
		mid := (lo + hi) / 2
		if all[mid].order < r.order {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return uint32(lo)
}

// frozenTable is a memtable on its way into a segment.
type frozenTable struct {
	*table
	last      uint64 // sequence number of its last entry
	first     uint64
	bytes     int64
	nextOrder uint64
	dimension int
	keys      map[string]KindSet
	// deadAt are the deletions of the segments at the time of last, in the
	// order of the version's segments: what the edit makes durable.
	deadAt []*roaring.Bitmap
}
