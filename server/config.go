package server

import (
	"fmt"
	"slices"
	"strings"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/filter"
)

// The integers of an hnsw configuration, in the order of the schema's JSON.
const (
	efConstruction = iota
	maxNeighbors
	efSearch
	numThreads
	batchSize
	syncThreshold
	hnswIntegers
)

var hnswNames = [hnswIntegers]string{"ef_construction", "max_neighbors", "ef_search", "num_threads", "batch_size", "sync_threshold"}

// legacyNames are the same settings as keys of a collection's metadata.
var legacyNames = [hnswIntegers]string{"hnsw:construction_ef", "hnsw:M", "hnsw:search_ef", "hnsw:num_threads", "hnsw:batch_size", "hnsw:sync_threshold"}

// spannNames are the settings of Chroma's distributed index. They are read
// and forgotten: a single node has no such index.
var spannNames = strings.Fields(`search_nprobe write_nprobe ef_construction ef_search max_neighbors
	reassign_neighbor_count split_threshold merge_threshold search_rng_factor search_rng_epsilon nreplica_count
	write_rng_factor write_rng_epsilon num_samples_kmeans initial_lambda num_centers_to_merge_to`)

// hnsw is an index configuration, or the part of one that a request names.
// Of these settings ef_construction, max_neighbors and ef_search steer the
// engine; the others are Chroma's, kept and shown.
type hnsw struct {
	n           [hnswIntegers]uint64
	given       [hnswIntegers]bool
	resize      float64
	resizeGiven bool
}

func defaultHNSW(threads int) hnsw {
	return hnsw{
		n:     [hnswIntegers]uint64{100, 16, 100, uint64(threads), 100, 1000},
		given: [hnswIntegers]bool{true, true, true, true, true, true}, resize: 1.2, resizeGiven: true,
	}
}

// with returns h with the settings that r names.
func (h hnsw) with(r hnsw) hnsw {
	for i := range r.n {
		if r.given[i] {
			h.n[i], h.given[i] = r.n[i], true
		}
	}
	if r.resizeGiven {
		h.resize, h.resizeGiven = r.resize, true
	}
	return h
}

func (h hnsw) appendJSON(b []byte) []byte {
	b = append(b, '{')
	for i, name := range hnswNames {
		b = appendText(b, name)
		b = fmt.Appendf(b, ":%d,", h.n[i])
	}
	b = append(b, `"resize_factor":`...)
	return append(appendFloat(b, h.resize, 64), '}')
}

// readHNSW reads the settings of an object; space is nil where it may not be given, and
// fixed names the settings that may not.
func readHNSW(s *scanner, space *string, fixed ...string) (h hnsw) {
	s.object("an hnsw configuration", func(name string) {
		i := slices.Index(hnswNames[:], name)
		switch {
		case name == "space" && space != nil:
			readSpace(s, space)
		case name == "resize_factor":
			if !s.null() {
				h.resize, h.resizeGiven = s.float("f64"), true
			}
		case i >= 0 && !slices.Contains(fixed, name):
			if !s.null() {
				h.n[i], h.given[i] = s.uint(1<<63-1, "usize"), true
			}
		default:
			s.shape("unknown field `" + clip(name) + "`")
		}
	})
	return h
}

func readSpace(s *scanner, space *string) {
	if s.null() {
		return
	}
	switch v := s.text(); {
	case s.err != nil:
	case v != "l2" && v != "cosine" && v != "ip":
		s.shape("unknown variant `" + clip(v) + "`, expected one of `l2`, `cosine`, `ip`")
	default:
		*space = v
	}
}

// readSpann checks an object of spann settings, of which only space is kept.
func readSpann(s *scanner, space *string) {
	s.object("a spann configuration", func(name string) {
		switch {
		case name == "space" && space != nil:
			readSpace(s, space)
		case slices.Contains(spannNames, name):
			if !s.null() {
				s.float("a number")
			}
		case name == "quantize" || name == "center_drift_threshold":
			s.skip()
		default:
			s.shape("unknown field `" + clip(name) + "`")
		}
	})
}

// The embedding function that stands for "none was said".
const unknownFunction = `{"type":"unknown"}`

// readFunction reads an embedding function, which the server keeps and never
// runs. The answer is its JSON, nil for null.
func readFunction(s *scanner) []byte {
	if s.null() {
		return nil
	}
	var kind, name string
	var config []byte
	named := false
	s.object("internally tagged enum EmbeddingFunctionConfiguration", func(field string) {
		switch field {
		case "type":
			kind = s.text()
			if s.err == nil && kind != "legacy" && kind != "known" && kind != "unknown" {
				s.shape("unknown variant `" + clip(kind) + "`, expected one of `legacy`, `known`, `unknown`")
			}
		case "name":
			if !s.null() {
				name, named = s.text(), true
			}
		case "config":
			config = s.raw()
		default:
			s.skip()
		}
	})
	switch {
	case s.err != nil:
	case kind == "":
		s.shape("missing field `type`")
	case kind != "known":
		return []byte(`{"type":"` + kind + `"}`)
	case !named:
		s.shape("missing field `name`")
	case config == nil:
		s.shape("missing field `config`")
	default:
		b := appendText([]byte(`{"type":"known","name":`), name)
		return append(append(append(b, `,"config":`...), config...), '}')
	}
	return nil
}

// isDefaultFunction tells what counts as no choice: none, unknown, and the
// function that clients name "default".
func isDefaultFunction(f []byte) bool {
	t := string(f)
	return t == "" || t == unknownFunction || strings.HasPrefix(t, `{"type":"known","name":"default",`)
}

// configuration is the configuration of a request.
type configuration struct {
	space       string
	hnsw        hnsw
	hasHNSW     bool
	hasSpann    bool
	function    []byte
	hasFunction bool
}

// readConfiguration reads the configuration of a new collection, or with
// update the one that changes a collection.
func readConfiguration(s *scanner, update bool) (c configuration) {
	if s.null() {
		return c
	}
	s.object("struct CollectionConfiguration", func(name string) {
		switch name {
		case "hnsw":
			switch {
			case s.null():
			case update:
				c.hasHNSW = true
				c.hnsw = readHNSW(s, nil, "ef_construction")
			default:
				c.hasHNSW = true
				c.hnsw = readHNSW(s, &c.space)
			}
		case "spann":
			switch {
			case s.null():
			case update:
				c.hasSpann = true
				readSpann(s, nil)
			default:
				c.hasSpann = true
				readSpann(s, &c.space)
			}
		case "embedding_function":
			c.function = readFunction(s)
			c.hasFunction = c.function != nil
		default:
			s.skip()
		}
	})
	return c
}

func (c *configuration) check() error {
	if c.hasHNSW && c.hasSpann {
		return invalid("Multiple vector index configurations provided")
	}
	return nil
}

// legacyHNSW reads the index configuration that old clients put into a
// collection's metadata; found is false when there is none.
func legacyHNSW(m filter.Metadata) (h hnsw, space string, found bool, err error) {
	bad := func(string) (hnsw, string, bool, error) {
		return hnsw{}, "", false, invalid("Failed to parse hnsw parameters from segment metadata")
	}
	for key, v := range m {
		if !strings.HasPrefix(key, "hnsw:") {
			continue
		}
		found = true
		i := slices.Index(legacyNames[:], key)
		switch {
		case key == "hnsw:space":
			if space = v.AsString(); space != "l2" && space != "cosine" && space != "ip" {
				return bad(key)
			}
		case key == "hnsw:resize_factor":
			switch v.Kind() {
			case filter.KindFloat:
				h.resize = v.AsFloat()
			case filter.KindInt:
				h.resize = float64(v.AsInt())
			default:
				return bad(key)
			}
			h.resizeGiven = true
		case i < 0, v.Kind() != filter.KindInt, v.AsInt() < 0, (i == batchSize || i == syncThreshold) && v.AsInt() < 2:
			return bad(key)
		default:
			h.n[i], h.given[i] = uint64(v.AsInt()), true
		}
	}
	return h, space, found, nil
}

// The engine's parameters have a useful range; settings beyond it are kept and
// shown as they were given, and mean the nearest useful value.
const (
	leastNeighbors, mostNeighbors = 2, 64
	leastEF, mostEF               = 1, 4096
)

// useful is n, or the default for 0, within its range.
func useful(n, byDefault, least, most uint64) int {
	if n == 0 {
		n = byDefault
	}
	return int(max(least, min(n, most)))
}

// spec is what the engine has to know of a new collection.
func (sc *schema) spec(m filter.Metadata) engine.Spec {
	v := &sc.keys[embeddingKey].vector
	metric := engine.L2
	switch v.space {
	case "cosine":
		metric = engine.Cosine
	case "ip":
		metric = engine.IP
	}
	return engine.Spec{
		Metric: metric, Metadata: m, Extension: sc.appendJSON(nil, nil),
		M:              useful(v.hnsw.n[maxNeighbors], 16, leastNeighbors, mostNeighbors),
		EFConstruction: useful(v.hnsw.n[efConstruction], 100, leastEF, mostEF),
		EFSearch:       useful(v.hnsw.n[efSearch], 100, leastEF, mostEF),
	}
}

// appendConfiguration appends a collection's configuration as clients see it:
// the vector index of its embeddings.
func (sc *schema) appendConfiguration(b []byte) []byte {
	v := &sc.keys[embeddingKey].vector
	b = append(b, `{"hnsw":{"space":"`...)
	b = append(b, v.space...)
	b = fmt.Appendf(b, `","ef_construction":%d,"ef_search":%d,"max_neighbors":%d,"resize_factor":`,
		v.hnsw.n[efConstruction], v.hnsw.n[efSearch], v.hnsw.n[maxNeighbors])
	b = appendFloat(b, v.hnsw.resize, 64)
	b = fmt.Appendf(b, `,"sync_threshold":%d},"spann":null,"embedding_function":`, v.hnsw.n[syncThreshold])
	if v.function == nil {
		b = append(b, "null"...)
	}
	return append(append(b, v.function...), '}')
}
