package engine

import (
	"errors"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/segment"
	"github.com/chromad/chromad/wal"
)

// basis finds the newest checkpoint that can be read. When there is none, the
// collections are those that segments and the log speak of.
func (r *repair) basis() error {
	db := r.db
	numbers, err := numberedFiles(db.fs, checkpointDir, checkpointSuffix)
	if err != nil {
		return err
	}
	for _, n := range slices.Backward(numbers) {
		r.highest = max(r.highest, n)
		err := r.checkpoint(n)
		if err == nil {
			r.found = true
			r.report.Basis = fmt.Sprintf("checkpoint %d", n)
			if n < r.highest {
				r.chose("the newest checkpoint, %d, cannot be read: the state is that of %d and of the log after it", r.highest, n)
			}
			break
		}
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
			return err
		}
		r.lose(nil, Loss{Row: -1, Text: fmt.Sprintf("%s cannot be read: %v", checkpointName(n), err)})
	}
	if !r.found {
		r.report.Basis = "the headers of the segments, and the log"
		r.chose("no checkpoint can be read: collections are made of the segments and the log that there are. What the checkpoint alone knew " +
			"is lost where the log does not say it too: names, metadata and parameters of collections, their retention and legal holds, which records were deleted")
		db.catalog = newCatalog()
		db.checkpoint = checkpointState{number: r.highest, from: wal.Position{Epoch: 1, Seq: 1}}
	}
	r.report.Store = db.store.String()
	r.epoch = db.checkpoint.from.Epoch
	return nil
}

// checkpoint reads one checkpoint into the catalog. So much depends on its few
// bytes that they are mended where that is possible.
func (r *repair) checkpoint(number uint64) error {
	db := r.db
	name := checkpointName(number)
	h, err := disk.ReadHeader(db.fs, name)
	var body []byte
	if err == nil {
		body, err = r.body(db.fs, name, h, disk.Info{})
	}
	if errors.Is(err, ErrCorrupt) {
		mended, h, info, e := disk.Mend(db.fs, name, nil, disk.Info{})
		if e != nil {
			return err
		}
		if body, e = r.body(mended, name, h, info); e != nil {
			return err
		}
		r.chose("%v; what the bytes were is told by the checksums", err)
		err = nil
	}
	if err != nil {
		return err
	}
	if err := db.decodeCheckpoint(number, body); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return nil
}

// body is a copy of the content of a checkpoint.
func (r *repair) body(fs vfs.FS, name string, h disk.Header, want disk.Info) ([]byte, error) {
	if h.Store != r.db.store || h.Kind != seal.KindCheckpoint {
		return nil, fmt.Errorf("%s: %w: not a checkpoint of this store", name, ErrCorrupt)
	}
	f, err := disk.OpenFile(fs, name, h, want, r.db.keys)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.MendBlocks(r.ctx); err != nil { // nothing, unless fs is mended
		return nil, err
	}
	s, ok := f.Section(checkpointSection)
	if !ok {
		return nil, fmt.Errorf("%s: %w: no catalog in it", name, ErrCorrupt)
	}
	var body []byte
	err = f.Faults(func() error {
		b, err := s.Bytes(0, s.Len())
		body = slices.Clone(b)
		return err
	})
	return body, err
}

// source is what is known of a collection.
func (r *repair) source(c *Collection) *source {
	s := r.byID[c.id]
	if s == nil {
		s = &source{c: c, lost: map[string]bool{}, partly: map[string]bool{}}
		r.byID[c.id] = s
	}
	s.c = c
	return s
}

// entries yields what can be read of the log, and keeps account of the gaps.
func (r *repair) entries(visit func(seq uint64, o op, payload []byte) error) error {
	from := r.db.checkpoint.from
	o := wal.Options{Store: r.db.store, Keys: r.db.keys, ReadOnly: true, NewID: newFileID}
	r.next, r.gaps = from.Seq, nil
	for e, err := range wal.Salvage(r.db.fs, from, o) {
		if r.ctx.Err() != nil {
			return r.ctx.Err()
		}
		if torn, ok := errors.AsType[*wal.TornTail](err); ok {
			r.logDamage = append(r.logDamage, fmt.Sprintf("%s: the last %d bytes are no whole frame: what a power cut leaves of writes that nobody acknowledged, or damage",
				torn.File, torn.Bytes))
			continue
		}
		if errors.Is(err, ErrCorrupt) {
			r.logDamage = append(r.logDamage, err.Error())
			continue
		}
		if err != nil {
			return err
		}
		seq := e.Position.Seq
		if seq > r.next {
			if r.next > from.Seq || r.found { // without a checkpoint nobody knows where it began
				r.gaps = append(r.gaps, gap{r.next, seq})
			}
		}
		r.next, r.epoch = seq+1, max(r.epoch, e.Position.Epoch)
		if len(e.Payload) == 0 {
			continue
		}
		if err := visit(seq, op(e.Payload[0]).plain(), e.Payload); err != nil {
			return err
		}
	}
	return nil
}

// readCatalog applies what the log says of the catalog and of files, also
// behind gaps: an id is never used again, and an edit carries all there is to
// know of a collection's files.
func (r *repair) readCatalog() error {
	r.byID, r.gone = map[ID]*source{}, map[ID]bool{}
	err := r.entries(func(seq uint64, o op, payload []byte) error {
		if o.isData() || seq <= r.db.checkpoint.position.Seq {
			return nil
		}
		if o == opEdit {
			return r.edit(payload)
		}
		e, err := decodeCatalogEntry(payload)
		if err != nil {
			r.lose(nil, Loss{Row: -1, First: seq, Last: seq, Text: fmt.Sprintf("a change of the catalog cannot be read: %v", err)})
			return nil
		}
		return r.change(seq, e)
	})
	if err != nil {
		return err
	}
	for _, text := range r.logDamage {
		r.lose(nil, Loss{Row: -1, Text: text})
	}
	r.logDamage = nil
	for _, g := range r.gaps {
		r.lose(nil, Loss{Row: -1, First: g.first, Last: g.end - 1, Text: "entries of the log cannot be read"})
	}
	if p := r.db.checkpoint.position.Seq; r.found && r.next <= p {
		r.lose(nil, Loss{Row: -1, First: r.next, Last: p, Text: "the log ends before what the checkpoint has seen"})
	}
	r.settings()
	if !r.found {
		return r.recoverCollections()
	}
	return nil
}

// settings tells when users, roles and rules may not be those that were there
// last: a key that was revoked may be good again. Without a checkpoint those
// of which the log says nothing are missing, and the store must not be open
// to everybody because of that.
func (r *repair) settings() {
	const look = "settings are lost where they are not written again later: look at users, roles and keys before you serve the store"
	switch cat := r.db.catalog; {
	case !r.found:
		cat.settings[SettingsLost] = []byte("by a repair that found no checkpoint")
		r.lose(nil, Loss{Row: -1, Text: look})
	case len(r.gaps) > 0 && len(cat.settings) > 0:
		r.lose(nil, Loss{Row: -1, First: r.gaps[0].first, Last: r.gaps[len(r.gaps)-1].end - 1, Text: look})
	}
}

func (r *repair) edit(payload []byte) error {
	id, err := entryCollection(payload)
	if err != nil || r.gone[id] {
		return nil
	}
	if payload, err = r.db.openEntry(nil, payload); err != nil {
		if errors.Is(err, ErrKey) || errors.Is(err, ErrCorrupt) {
			return nil // told when its files are missed
		}
		return err
	}
	_, m, err := decodeEdit(payload)
	if err != nil {
		return nil
	}
	c := r.db.catalog.collections[id]
	if c == nil && r.found {
		return nil
	}
	if c == nil {
		c = r.recovered(id, Spec{})
	}
	c.load(m)
	r.source(c).edited = true
	return nil
}

// change applies a change of the catalog as far as it fits. What a gap has
// taken before it is made up for.
func (r *repair) change(seq uint64, e *catalogEntry) error {
	db := r.db
	cat := db.catalog
	key := dbKey{e.tenant, e.database}
	switch e.op {
	case opCreateDatabase:
		if cat.databases[key] != nil {
			return nil
		}
	case opDeleteDatabase:
		d := cat.databases[key]
		if d == nil {
			return nil
		}
		for _, c := range d.byName {
			r.gone[c.id] = true
		}
	case opCreateCollection, opModifyCollection:
		c := cat.collections[e.id]
		if r.gone[e.id] || c != nil && e.op == opCreateCollection {
			return nil
		}
		if cat.databases[key] == nil {
			db.catalog.addDatabase(Database{ID: newID(), Name: e.database, Tenant: e.tenant})
			r.chose("the database %q of tenant %q is made again for the collection %q: the log does not say when it was made", e.database, e.tenant, e.name)
		}
		if other := cat.databases[key].byName[e.name]; other != nil && other.id != e.id {
			e.name += "-" + e.id.String()[:8]
			r.chose("a name is taken: the collection %s is called %q", e.id, e.name)
		}
		if c == nil {
			e.op = opCreateCollection
		} else if r.source(c).recovered { // now its place is known
			delete(cat.databases[dbKey{c.tenant, c.database}].byName, c.name)
			c.tenant, c.database = e.tenant, e.database
		}
		if err := db.applyCatalog(e); err != nil {
			return err
		}
		s := r.source(cat.collections[e.id])
		s.recovered = false
		if c == nil {
			s.created = seq
		}
		return nil
	case opKeep:
		if r.gone[e.id] || cat.collections[e.id] == nil && r.found {
			return nil
		}
		if cat.collections[e.id] == nil {
			r.recovered(e.id, Spec{})
		}
	case opDeleteCollection:
		r.gone[e.id] = true
		if cat.collections[e.id] == nil {
			return nil
		}
	case opReset:
		r.wiped = true
		for id := range cat.collections {
			r.gone[id] = true
		}
	}
	return db.applyCatalog(e)
}

// recovered is a collection of which nothing is known but its id.
func (r *repair) recovered(id ID, spec Spec) *Collection {
	db := r.db
	spec, _ = spec.withDefaults(&db.opts.Limits)
	e := &catalogEntry{op: opCreateCollection, tenant: DefaultTenant, database: DefaultDatabase, name: "recovered-" + id.String()[:8], id: id, spec: spec}
	c := db.newCollection(e)
	db.catalog.databases[dbKey{e.tenant, e.database}].byName[e.name] = c
	db.catalog.collections[id] = c
	r.source(c).recovered = true
	return c
}

// recoverCollections makes collections of the segments that no edit names.
func (r *repair) recoverCollections() error {
	db := r.db
	numbers, err := numberedFiles(db.fs, segmentDir, segmentSuffix)
	if err != nil {
		return err
	}
	found := map[ID][]segmentState{}
	for _, n := range slices.Backward(numbers) { // the newest version of a record counts
		name := segment.Name(n)
		h, err := disk.ReadHeader(db.fs, name)
		if err != nil && (errors.Is(err, ErrCorrupt) || errors.Is(err, ErrFormat)) {
			r.lose(nil, Loss{Segment: n, Row: -1, Text: fmt.Sprintf("a segment, and nothing tells of which collection: %v", err)})
			continue
		}
		if err != nil {
			return err
		}
		id := ID(h.Collection)
		if s := r.byID[id]; r.gone[id] || s != nil && s.edited || r.wiped && s == nil {
			continue
		}
		if err := r.adopt(h, n, found); err != nil {
			return err
		}
	}
	for _, s := range r.byID {
		if s.recovered && s.edited {
			if err := r.learnMetric(s.c); err != nil {
				return err
			}
		}
	}
	for id, segments := range found {
		slices.Reverse(segments)
		c := db.catalog.collections[id]
		m := c.manifest
		m.segments = segments
		c.load(m)
	}
	return nil
}

// learnMetric takes the metric of a collection, which an edit does not tell,
// from its segments.
func (r *repair) learnMetric(c *Collection) error {
	for _, s := range c.manifest.segments {
		spec := segment.Spec{Store: r.db.store, Collection: seal.ID(c.id), Number: s.info.Number, File: s.info.File}
		reader, _, err := segment.OpenDamaged(r.db.fs, r.db.keys, spec, s.info)
		if err != nil && !errors.Is(err, ErrKey) {
			return err
		}
		if reader != nil {
			setMetric(c, reader.Metric())
			return reader.Close()
		}
	}
	return nil
}

func setMetric(c *Collection, m Metric) {
	s := *c.spec.Load()
	s.Metric = m
	c.setSpec(s)
}

// adopt makes a segment part of its collection. Rows whose ids a newer segment
// has are older versions of them.
func (r *repair) adopt(h disk.Header, number uint64, found map[ID][]segmentState) error {
	db, id := r.db, ID(h.Collection)
	spec := segment.Spec{Store: h.Store, Collection: h.Collection, Number: number, File: h.File}
	reader, damage, err := segment.OpenDamaged(db.fs, db.keys, spec, segment.Info{})
	if errors.Is(err, ErrKey) {
		return nil // destroyed with its collection
	}
	if err != nil {
		return err
	}
	if reader == nil {
		r.lose(nil, Loss{Collection: id.String(), Segment: number, Row: -1, Text: fmt.Sprintf("a segment that cannot be read: %v", damage)})
		return nil
	}
	defer reader.Close()
	c := db.catalog.collections[id]
	if c == nil {
		c = r.recovered(id, Spec{Metric: reader.Metric()})
	}
	s := r.source(c)
	if s.recovered {
		setMetric(c, reader.Metric())
	}
	m := c.manifest
	m.dimension = reader.Dim()
	if m.keys == nil {
		m.keys = map[string]KindSet{}
	}
	if s.versions == nil {
		s.versions = map[string]bool{}
	}
	dead := roaring.New()
	for row, err := range reader.Salvage(r.ctx) {
		if err != nil {
			return err
		}
		if row.Lost&segment.LostID == 0 {
			if s.versions[row.ID] {
				dead.Add(row.Number)
			}
			s.versions[row.ID] = true
		}
		for k, v := range row.Metadata {
			if v.Kind() != filter.KindNull {
				m.keys[k] = m.keys[k].with(v.Kind())
			}
		}
	}
	first, last := reader.Orders()
	m.nextOrder = max(m.nextOrder, last+1)
	info := segment.Info{Number: number, File: h.File, Rows: uint32(reader.Rows()), MinOrder: first, MaxOrder: last, Info: reader.File()}
	found[id] = append(found[id], segmentState{info, dead})
	return nil
}
