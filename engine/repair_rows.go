package engine

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/segment"
)

// segments makes the files of one collection in the new store, and its
// manifest there.
func (r *repair) segments(s *source) error {
	old := s.c.manifest
	e := &catalogEntry{op: opCreateCollection, tenant: s.c.tenant, database: s.c.database, name: s.c.name, id: s.c.id, spec: *s.c.spec.Load()}
	c := r.target.newCollection(e)
	c.keep.Store(s.c.keep.Load())
	m := &manifest{nextOrder: max(old.nextOrder, 1), dimension: old.dimension, keys: maps.Clone(old.keys)}
	for i, seg := range old.segments {
		made, err := r.segment(s, c, i, m)
		if err != nil {
			return fmt.Errorf("collection %s: segment %d: %w", s.c.id, seg.info.Number, err)
		}
		if made.info.Rows > 0 {
			m.segments = append(m.segments, made)
		}
	}
	c.load(m)
	r.target.catalog.databases[dbKey{e.tenant, e.database}].byName[e.name] = c
	r.target.catalog.collections[e.id] = c
	s.out = RepairedCollection{
		ID: e.id.String(), Tenant: e.tenant, Database: e.database, Name: e.name,
		Recovered: s.recovered, Copied: s.out.Copied, Rebuilt: s.out.Rebuilt,
	}
	return nil
}

// segment copies a segment that is whole, and writes what can be read of
// another one. made has no rows when there are none.
func (r *repair) segment(s *source, c *Collection, i int, m *manifest) (made segmentState, err error) {
	db, old := r.db, s.c.manifest.segments[i]
	spec := s.c.segmentSpec(old.info.Number, old.info.File, m.dimension)
	reader, damage, err := segment.OpenDamaged(db.fs, db.keys, spec, old.info)
	if errors.Is(err, ErrKey) {
		damage, err = err, nil
	}
	if err != nil {
		return made, err
	}
	if reader == nil {
		r.step(old.info.Length)
		live := int(old.info.Rows) - int(old.dead.GetCardinality())
		s.nameless += live
		r.lose(s, Loss{Segment: old.info.Number, Row: -1, Text: fmt.Sprintf("all %d records of a segment: %v", live, damage)})
		return made, nil
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	whole, rows := damage == nil, false
	if err := reader.Check(r.ctx, r.step, func(f segment.Finding) { whole, rows = false, rows || !f.Index }); err != nil {
		return made, err
	}
	if whole {
		s.out.Copied++
		return old, copyFile(r.ctx, db.fs, r.to, segment.Name(old.info.Number))
	}
	if rows {
		mended, n, err := segment.OpenMended(r.ctx, db.fs, db.keys, spec, old.info)
		if err != nil && !errors.Is(err, ErrCorrupt) {
			return made, err
		}
		if err == nil {
			reader.Close()
			reader = mended
		}
		if n > 0 {
			r.chose("%s: damaged blocks with a single wrong byte, put right by their checksums: %d", segment.Name(old.info.Number), n)
		}
	}
	return r.rebuild(s, c, reader, old, m)
}

// rebuild writes the rows of a damaged segment that can be read.
func (r *repair) rebuild(s *source, c *Collection, reader *segment.Reader, old segmentState, m *manifest) (made segmentState, err error) {
	p, err := r.places(reader, old, m)
	if err != nil {
		return made, err
	}
	for row, err := range reader.Salvage(r.ctx) {
		if err != nil {
			return made, err
		}
		if row.Lost == 0 || old.dead.Contains(row.Number) {
			continue
		}
		r.lostRow(s, old.info.Number, row, p)
	}
	r.number++
	spec := c.segmentSpec(r.number, seal.ID(newFileID()), m.dimension)
	spec.Cache = nil
	info, err := segment.Write(r.ctx, r.to, r.target.keys, spec, r.rows(reader, old, p))
	if errors.Is(err, segment.ErrEmpty) {
		return made, nil
	}
	if err != nil {
		return made, err
	}
	s.out.Rebuilt++
	if info.MaxOrder < math.MaxUint64 { // orders that only the rows know
		m.nextOrder = max(m.nextOrder, info.MaxOrder+1)
	}
	return segmentState{info, roaring.New()}, nil
}

// lostRow tells what of a live row is not in the new store.
func (r *repair) lostRow(s *source, number uint64, row segment.Salvaged, p *places) {
	l := Loss{ID: row.ID, Segment: number, Row: int(row.Number), Parts: row.Lost.Parts()}
	switch {
	case row.Lost.Row():
		l.Text = "a record"
		if l.Parts = nil; row.Lost&segment.LostID != 0 {
			s.nameless++
		} else {
			s.lost[row.ID] = true
		}
	case row.Lost == segment.LostOrder && !p.moved[row.Number]:
		return // it follows from the orders around it
	case row.Lost == segment.LostOrder:
		l.Text = "the record's place in the order of insertion: it comes last now"
	default:
		l.Text = "parts of a record, which is kept without them"
		s.partly[row.ID] = true
	}
	r.lose(s, l)
}

// places are the orders of rows: those that can be read, those that follow
// from their neighbours, and new ones, behind all others.
type places struct {
	orders []uint64
	moved  map[uint32]bool
}

// places gives each live row that is kept its order.
func (r *repair) places(reader *segment.Reader, old segmentState, m *manifest) (*places, error) {
	n := reader.Rows()
	p := &places{orders: make([]uint64, n), moved: map[uint32]bool{}} // rows of a file that is open
	known := make([]bool, n)
	kept := make([]bool, n)
	for row, err := range reader.Salvage(r.ctx) {
		if err != nil {
			return nil, err
		}
		p.orders[row.Number], known[row.Number] = row.Order, row.Lost&segment.LostOrder == 0
		kept[row.Number] = !row.Lost.Row() && !old.dead.Contains(row.Number)
	}
	p.orders[0], known[0] = old.info.MinOrder, true
	p.orders[n-1], known[n-1] = old.info.MaxOrder, true
	for i := 1; i < n; i++ {
		if known[i] {
			continue
		}
		end := i + slices.Index(known[i:], true)
		fits := p.orders[end]-p.orders[i-1] == uint64(end-i+1)
		for ; i < end; i++ {
			if fits {
				p.orders[i] = p.orders[i-1] + 1
			} else if kept[i] {
				p.orders[i], p.moved[uint32(i)] = m.nextOrder, true
				m.nextOrder++
			}
		}
	}
	return p, nil
}

// rows yields the rows that are kept, ascending by order.
func (r *repair) rows(reader *segment.Reader, old segmentState, p *places) iter.Seq2[segment.Row, error] {
	return func(yield func(segment.Row, error) bool) {
		var last []segment.Row
		for row, err := range reader.Salvage(r.ctx) {
			if err != nil {
				yield(segment.Row{}, err)
				return
			}
			if row.Lost.Row() || old.dead.Contains(row.Number) {
				continue
			}
			row.Order = p.orders[row.Number]
			if p.moved[row.Number] {
				last = append(last, row.Row)
				continue
			}
			if !yield(row.Row, nil) {
				return
			}
		}
		for _, row := range last {
			if !yield(row, nil) {
				return
			}
		}
	}
}
