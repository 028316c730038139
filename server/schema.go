package server

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/filter"
)

const (
	documentKey  = "#document"
	embeddingKey = "#embedding"
	// maxSchema bounds what a collection carries for its users' sake.
	maxSchema = 1 << 20
)

// A schema says which indexes a collection keeps: for values of each type, and
// differently for some keys. Which of them exist in the engine is the engine's
// affair; the schema decides what may be filtered on.
type schema struct {
	defaults valueTypes
	keys     map[string]*valueTypes
	cmek     []byte // a customer's encryption key, kept for its owner
}

// valueTypes are the indexes of one key, one per type of value.
type valueTypes struct {
	fts, text, ints, floats, bools index
	vector                         vectorIndex
	sparse                         sparseIndex
}

// index is one index; not set is not mentioned.
type index struct{ set, enabled bool }

type vectorIndex struct {
	index
	space    string
	function []byte // JSON of the embedding function, nil: none
	source   string
	hnsw     hnsw
	spann    bool // the request had settings of that index
	both     bool // … and of hnsw too
}

type sparseIndex struct {
	index
	function []byte
	source   string
	bm25     index
}

// defaultSchema is the schema of a collection about which nothing was said.
func defaultSchema(threads int) *schema {
	on, off := index{true, true}, index{true, false}
	vector := vectorIndex{index: off, space: "l2", hnsw: defaultHNSW(threads)}
	embedding := vector
	embedding.enabled, embedding.source = true, documentKey
	return &schema{
		defaults: valueTypes{fts: off, text: on, ints: on, floats: on, bools: on, vector: vector,
			sparse: sparseIndex{index: off, function: []byte(unknownFunction), bm25: off}},
		keys: map[string]*valueTypes{
			documentKey:  {fts: on, text: off},
			embeddingKey: {vector: embedding},
		},
	}
}

// merge returns base with what r says; scalar indexes that r does not name stay.
func (base valueTypes) merge(r *valueTypes, threads int) valueTypes {
	for _, p := range []struct{ to, from *index }{
		{&base.fts, &r.fts}, {&base.text, &r.text}, {&base.ints, &r.ints}, {&base.floats, &r.floats}, {&base.bools, &r.bools},
	} {
		if p.from.set {
			*p.to = *p.from
		}
	}
	base.vector = base.vector.merge(&r.vector, threads)
	if s := r.sparse; s.set {
		base.sparse.index = s.index
		if s.function != nil {
			base.sparse.function = s.function
		}
		if s.source != "" {
			base.sparse.source = s.source
		}
		if s.bm25.set {
			base.sparse.bm25 = s.bm25
		}
	}
	return base
}

func (base vectorIndex) merge(r *vectorIndex, threads int) vectorIndex {
	if !r.set {
		return base
	}
	base.index = r.index
	if r.space != "" {
		base.space = r.space
	}
	if r.function != nil {
		base.function = r.function
	}
	if r.source != "" {
		base.source = r.source
	}
	if r.spann {
		base.hnsw = defaultHNSW(threads)
	} else {
		base.hnsw = base.hnsw.with(r.hnsw)
	}
	return base
}

// complete is the schema that a request's partial one stands for.
func (r *schema) complete(threads int) *schema {
	sc := defaultSchema(threads)
	plain := sc.defaults.vector
	sc.defaults = sc.defaults.merge(&r.defaults, threads)
	sc.cmek = r.cmek
	for key, v := range r.keys {
		base := valueTypes{}
		if own := sc.keys[key]; own != nil {
			base = *own
		} else if v.vector.set {
			base.vector = plain
		}
		merged := base.merge(v, threads)
		sc.keys[key] = &merged
	}
	return sc
}

// isDefault reports whether sc says nothing that the default schema does not.
func (sc *schema) isDefault(threads int) bool {
	if len(sc.keys) != 2 {
		return false
	}
	plain := &schema{defaults: sc.defaults, keys: maps.Clone(sc.keys)}
	embedding := *sc.keys[embeddingKey]
	for _, v := range []*vectorIndex{&plain.defaults.vector, &embedding.vector} {
		if isDefaultFunction(v.function) {
			v.function = nil
		}
	}
	if isDefaultFunction(plain.defaults.sparse.function) {
		plain.defaults.sparse.function = []byte(unknownFunction)
	}
	plain.keys[embeddingKey] = &embedding
	return string(plain.appendJSON(nil, nil)) == string(defaultSchema(threads).appendJSON(nil, nil))
}

// newSchema joins what a request says about a new collection in three places:
// its configuration, its schema (nil: none), and its metadata.
func (s *Server) newSchema(c configuration, requested *schema, m filter.Metadata) (*schema, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	sc := defaultSchema(s.threads)
	vector := vectorIndex{space: "l2", hnsw: defaultHNSW(s.threads)}
	plain := vector
	if c.space != "" {
		vector.space = c.space
	}
	vector.hnsw = vector.hnsw.with(c.hnsw)
	if vector.space == plain.space && vector.hnsw == plain.hnsw {
		h, space, found, err := legacyHNSW(m)
		if err != nil {
			return nil, err
		}
		if found && space != "" {
			vector.space = space
		}
		vector.hnsw = vector.hnsw.with(h)
	}
	if requested != nil {
		if err := requested.check(); err != nil {
			return nil, err
		}
		whole := requested.complete(s.threads)
		if !whole.isDefault(s.threads) {
			if vector.space != plain.space || vector.hnsw != plain.hnsw || !isDefaultFunction(c.function) {
				return nil, invalid("Failed to reconcile schema: Cannot set both collection config and schema simultaneously")
			}
			return whole, nil
		}
		sc.cmek = requested.cmek
	}
	for _, v := range []*vectorIndex{&sc.defaults.vector, &sc.keys[embeddingKey].vector} {
		v.space, v.hnsw, v.function = vector.space, vector.hnsw, c.function
	}
	return sc, nil
}

// update returns a copy of sc with a changed configuration.
func (sc *schema) update(c configuration) *schema {
	next := *sc
	next.keys = maps.Clone(sc.keys)
	embedding := *sc.keys[embeddingKey]
	old := embedding.vector
	embedding.vector.hnsw = old.hnsw.with(c.hnsw)
	if c.hasFunction {
		embedding.vector.function = c.function
	}
	next.keys[embeddingKey] = &embedding
	// What holds for both places from the start is kept equal; a schema that
	// told them apart keeps its own default.
	if d := &next.defaults.vector; d.space == old.space && d.hnsw == old.hnsw && string(d.function) == string(old.function) {
		d.hnsw, d.function = embedding.vector.hnsw, embedding.vector.function
	}
	return &next
}

// indexFor is the index that values of a kind have under a key; the key's own
// entry wins over the default.
func (sc *schema) indexFor(key string, kind filter.Kind) index {
	pick := func(v *valueTypes) index {
		switch kind.Element() {
		case filter.KindInt:
			return v.ints
		case filter.KindFloat:
			return v.floats
		case filter.KindBool:
			return v.bools
		case filter.KindString:
			return v.text
		case filter.KindSparse:
			return v.sparse.index
		}
		return index{}
	}
	if v := sc.keys[key]; v != nil {
		if own := pick(v); own.set {
			return own
		}
	}
	return pick(&sc.defaults)
}

// allows refuses a filter on what the schema keeps no index of.
func (sc *schema) allows(e *filter.Expr) error {
	for key, kind := range e.Operands() {
		if key == documentKey {
			if !sc.keys[documentKey].fts.enabled {
				return filter.ErrFullTextDisabled
			}
			continue
		}
		if ix := sc.indexFor(key, kind); ix.set && !ix.enabled {
			return &filter.DisabledError{Key: key, Kind: kind}
		}
	}
	return nil
}

// schemaCache remembers what the bytes of schemas mean: nearly all collections
// share a few, and every filter asks.
type schemaCache struct {
	mu    sync.Mutex
	known map[string]*schema
}

const cachedSchemas = 256

// schemaOf reads the schema that a collection carries.
func (s *Server) schemaOf(info *engine.Info) *schema {
	s.schemas.mu.Lock()
	sc := s.schemas.known[string(info.Spec.Extension)]
	s.schemas.mu.Unlock()
	if sc != nil {
		return sc
	}
	sc, err := parseSchema(info.Spec.Extension, s.threads)
	if err != nil {
		// A collection that was made without the server has no schema yet: it
		// gets the one of its parameters.
		return s.schemaOfSpec(&info.Spec)
	}
	s.schemas.mu.Lock()
	defer s.schemas.mu.Unlock()
	if s.schemas.known == nil || len(s.schemas.known) >= cachedSchemas {
		s.schemas.known = map[string]*schema{}
	}
	if len(info.Spec.Extension) < maxSchema/16 {
		s.schemas.known[string(info.Spec.Extension)] = sc
	}
	return sc
}

func (s *Server) schemaOfSpec(spec *engine.Spec) *schema {
	sc := defaultSchema(s.threads)
	for _, v := range []*vectorIndex{&sc.defaults.vector, &sc.keys[embeddingKey].vector} {
		v.space = spec.Metric.String()
		for i, n := range map[int]int{efConstruction: spec.EFConstruction, maxNeighbors: spec.M, efSearch: spec.EFSearch} {
			if n > 0 {
				v.hnsw.n[i] = uint64(n)
			}
		}
	}
	return sc
}

// learned returns the keys of the schema as shown: its own and those that
// records have brought since, with the default settings of their types.
func (sc *schema) learned(kinds map[string]engine.KindSet) map[string]*valueTypes {
	if len(kinds) == 0 {
		return sc.keys
	}
	keys := maps.Clone(sc.keys)
	for key, set := range kinds {
		if strings.HasPrefix(key, "chroma:") {
			continue
		}
		v := valueTypes{}
		if own := keys[key]; own != nil {
			v = *own
		}
		for kind := filter.KindBool; kind <= filter.KindStrings; kind++ {
			if !set.Has(kind) {
				continue
			}
			d := &sc.defaults
			switch kind.Element() {
			case filter.KindBool:
				v.bools = v.bools.or(d.bools)
			case filter.KindInt:
				v.ints = v.ints.or(d.ints)
			case filter.KindFloat:
				v.floats = v.floats.or(d.floats)
			case filter.KindString:
				if !v.text.set && !v.fts.set {
					v.text, v.fts = d.text, d.fts
				}
			}
		}
		keys[key] = &v
	}
	return keys
}

// or is x, or d when x is not set.
func (x index) or(d index) index {
	if x.set {
		return x
	}
	return d
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
