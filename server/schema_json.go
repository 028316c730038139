package server

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server/privacy"
)

// parseSchema reads back the bytes that appendJSON made.
func parseSchema(b []byte, threads int) (*schema, error) {
	s := &scanner{data: b}
	r := readSchema(s)
	s.end()
	if s.err != nil {
		return nil, fmt.Errorf("schema: %s", s.message())
	}
	return r.complete(threads), nil
}

// readSchema reads the schema of a request: partial, and in the spelling of
// today or that of its first releases.
func readSchema(s *scanner) *schema {
	sc := &schema{keys: map[string]*valueTypes{}}
	hasDefaults, hasKeys := false, false
	s.object("struct Schema", func(name string) {
		switch name {
		case "defaults":
			hasDefaults = true
			readValueTypes(s, &sc.defaults)
		case "keys", "key_overrides":
			if hasKeys {
				s.shape("duplicate field `keys`")
				return
			}
			hasKeys = true
			s.object("a map", func(key string) {
				v := &valueTypes{}
				readValueTypes(s, v)
				sc.keys[key] = v
			})
		case "cmek":
			if !s.null() {
				sc.cmek = append([]byte(nil), s.raw()...)
			}
		default:
			s.skip()
		}
	})
	if s.err == nil && !hasDefaults {
		s.shape("missing field `defaults`")
	} else if s.err == nil && !hasKeys {
		s.shape("missing field `keys`")
	}
	return sc
}

func readValueTypes(s *scanner, v *valueTypes) {
	scalars := map[string]struct {
		name string
		to   *index
	}{
		"int":   {"int_inverted_index", &v.ints},
		"float": {"float_inverted_index", &v.floats},
		"bool":  {"bool_inverted_index", &v.bools},
	}
	s.object("struct ValueTypes", func(kind string) {
		if s.null() {
			return
		}
		kind = strings.TrimPrefix(kind, "#")
		switch kind {
		case "int", "float", "bool":
			readIndexes(s, func(name string) bool {
				if name == scalars[kind].name {
					readIndex(s, scalars[kind].to, nil)
					return true
				}
				return false
			})
		case "string":
			readIndexes(s, func(name string) bool {
				switch name {
				case "fts_index":
					readIndex(s, &v.fts, nil)
				case "string_inverted_index":
					readIndex(s, &v.text, nil)
				default:
					return false
				}
				return true
			})
		case "float_list":
			readIndexes(s, func(name string) bool {
				if name == "vector_index" {
					readIndex(s, &v.vector.index, func(field string) bool { return readVectorField(s, &v.vector, field) })
					return true
				}
				return false
			})
		case "sparse_vector":
			readIndexes(s, func(name string) bool {
				if name == "sparse_vector_index" {
					readIndex(s, &v.sparse.index, func(field string) bool { return readSparseField(s, &v.sparse, field) })
					return true
				}
				return false
			})
		default:
			s.skip()
		}
	})
}

// readIndexes reads the indexes of one value type; known reads one of them.
func readIndexes(s *scanner, known func(name string) bool) {
	s.object("a value type", func(name string) {
		if !s.null() && !known(strings.TrimPrefix(name, "$")) {
			s.skip()
		}
	})
}

// readIndex reads {"enabled": …, "config": {…}}; field reads a member of the
// config and reports whether it exists.
func readIndex(s *scanner, to *index, field func(name string) bool) {
	if to.set {
		s.shape("duplicate field")
		return
	}
	hasEnabled, hasConfig := false, false
	s.object("an index", func(name string) {
		switch name {
		case "enabled":
			hasEnabled = true
			to.enabled = s.boolean()
		case "config":
			hasConfig = true
			s.object("an index configuration", func(name string) {
				if field == nil || !field(name) {
					s.shape("unknown field `" + clip(name) + "`")
				}
			})
		default:
			s.skip()
		}
	})
	to.set = true
	switch {
	case s.err != nil:
	case !hasEnabled:
		s.shape("missing field `enabled`")
	case !hasConfig:
		s.shape("missing field `config`")
	}
}

func readVectorField(s *scanner, v *vectorIndex, name string) bool {
	switch name {
	case "space":
		readSpace(s, &v.space)
	case "embedding_function":
		v.function = readFunction(s)
	case "source_key":
		if !s.null() {
			v.source = s.text()
		}
	case "hnsw":
		if !s.null() {
			v.hnsw = readHNSW(s, nil)
			v.both = true
		}
	case "spann":
		if !s.null() {
			readSpann(s, nil)
			v.spann = true
		}
	default:
		return false
	}
	return true
}

func readSparseField(s *scanner, v *sparseIndex, name string) bool {
	switch name {
	case "embedding_function":
		v.function = readFunction(s)
	case "source_key":
		if !s.null() {
			v.source = s.text()
		}
	case "bm25":
		if !s.null() {
			v.bm25 = index{true, s.boolean()}
		}
	default:
		return false
	}
	return true
}

// check finds what a request's schema may not say.
func (sc *schema) check() error {
	refuse := func(format string, args ...any) error {
		return invalid("Validation error: schema: %s", fmt.Sprintf(format, args...))
	}
	d := &sc.defaults
	switch {
	case d.vector.enabled:
		return refuse("Vector index cannot be enabled by default. It can only be enabled on #embedding field.")
	case d.fts.enabled:
		return refuse("Full text search / regular expression index cannot be enabled by default. It can only be enabled on #document field.")
	case d.sparse.enabled:
		return refuse("Sparse vector index cannot be enabled by default. Please enable sparse vector index on specific keys. At most one sparse vector index is allowed for the collection.")
	}
	for _, key := range sortedKeys(sc.keys) {
		if reason := sc.keys[key].check(key); reason != "" {
			return refuse("%s", reason)
		}
	}
	if sc.cmek != nil && !validCMEK(sc.cmek) {
		return refuse("CMEK does not match expected pattern: %s", clip(string(sc.cmek)))
	}
	return sc.reconcile()
}

func (v *valueTypes) check(key string) string {
	scalars := v.ints.set || v.floats.set || v.bools.set || v.sparse.set
	switch key {
	case documentKey:
		switch {
		case scalars || v.vector.set:
			return "Document field cannot have any value types other than string: " + key
		case v.text.enabled:
			return "String inverted index can not be enabled on #document key: " + key
		}
		return ""
	case embeddingKey:
		switch {
		case scalars || v.text.set || v.fts.set:
			return "Embedding field cannot have any value types other than float_list: " + key
		case v.vector.source != "" && v.vector.source != documentKey:
			return "Vector index can only source from #document"
		case v.vector.spann && v.vector.both:
			return "Multiple vector index configurations provided"
		}
		return ""
	}
	switch {
	case key == "":
		return "key cannot be empty"
	case key[0] == '#':
		return "key cannot begin with '#'. Keys starting with '#' are reserved for system use: " + clip(key)
	case v.vector.enabled:
		return "Vector index can only be enabled on #embedding field: " + clip(key)
	case v.fts.enabled:
		return "Full text search / regular expression index can only be enabled on #document field: " + clip(key)
	case v.sparse.source != "" && (v.sparse.function == nil || string(v.sparse.function) == unknownFunction):
		return "If source_key is provided then embedding_function must also be provided since there is no default embedding function."
	}
	return ""
}

// reconcile finds what a schema may say and this server cannot do.
func (sc *schema) reconcile() error {
	types := []*valueTypes{&sc.defaults}
	for _, key := range sortedKeys(sc.keys) {
		types = append(types, sc.keys[key])
	}
	for _, v := range types {
		if v.sparse.enabled {
			return invalid("Failed to reconcile schema: Invalid schema input: Sparse vector indexing is not enabled in local")
		}
		for _, i := range []int{batchSize, syncThreshold} {
			if h := &v.vector.hnsw; h.given[i] && h.n[i] < 2 {
				return invalid("Failed to reconcile schema: Invalid HNSW configuration: %s: Validation error: range [{\"min\": Number(2), \"value\": Number(%d)}]", hnswNames[i], h.n[i])
			}
		}
	}
	return nil
}

// gcpKey is the only kind of customer key that Chroma knows.
var gcpKey = regexp.MustCompile(`^\{\s*"gcp"\s*:\s*"projects/[^/"]+/locations/[^/"]+/keyRings/[^/"]+/cryptoKeys/[^/"]+"\s*\}$`)

func validCMEK(b []byte) bool { return len(b) <= 1024 && gcpKey.Match(b) }

// appendJSON appends the whole schema, with the keys that records brought.
func (sc *schema) appendJSON(b []byte, kinds map[string]engine.KindSet) []byte {
	return sc.appendSeen(b, kinds, nil)
}

// appendSeen is appendJSON for somebody who sees so much of the records.
func (sc *schema) appendSeen(b []byte, kinds map[string]engine.KindSet, sight *privacy.Sight) []byte {
	b = append(b, `{"defaults":`...)
	b = sc.defaults.appendJSON(b)
	b = append(b, `,"keys":{`...)
	keys := sc.learned(kinds)
	for _, key := range sortedKeys(keys) {
		if source := keys[key].sparse.source; !strings.HasPrefix(key, "#") && !sight.Shows(key) || source != "" && !sight.Shows(source) {
			continue
		}
		if b[len(b)-1] != '{' {
			b = append(b, ',')
		}
		b = append(appendText(b, key), ':')
		b = keys[key].appendJSON(b)
	}
	b = append(b, '}')
	if sc.cmek != nil {
		b = append(append(b, `,"cmek":`...), sc.cmek...)
	}
	return append(b, '}')
}

func (v *valueTypes) appendJSON(b []byte) []byte {
	o := objectWriter{b: append(b, '{')}
	if v.fts.set || v.text.set {
		o.open("string")
		o.index("fts_index", v.fts, nil)
		o.index("string_inverted_index", v.text, nil)
		o.close()
	}
	if v.vector.set {
		o.open("float_list")
		o.index("vector_index", v.vector.index, v.vector.appendConfig)
		o.close()
	}
	if v.sparse.set {
		o.open("sparse_vector")
		o.index("sparse_vector_index", v.sparse.index, v.sparse.appendConfig)
		o.close()
	}
	for _, x := range []struct {
		kind string
		ix   index
	}{{"int", v.ints}, {"float", v.floats}, {"bool", v.bools}} {
		if x.ix.set {
			o.open(x.kind)
			o.index(x.kind+"_inverted_index", x.ix, nil)
			o.close()
		}
	}
	return append(o.b, '}')
}

func (v *vectorIndex) appendConfig(b []byte) []byte {
	b = append(append(append(b, `"space":"`...), v.space...), '"')
	if v.function != nil {
		b = append(append(b, `,"embedding_function":`...), v.function...)
	}
	if v.source != "" {
		b = appendText(append(b, `,"source_key":`...), v.source)
	}
	return v.hnsw.appendJSON(append(b, `,"hnsw":`...))
}

func (v *sparseIndex) appendConfig(b []byte) []byte {
	o := objectWriter{b: b}
	if v.function != nil {
		o.name("embedding_function")
		o.b = append(o.b, v.function...)
	}
	if v.source != "" {
		o.name("source_key")
		o.b = appendText(o.b, v.source)
	}
	if v.bm25.set {
		o.name("bm25")
		o.b = fmt.Appendf(o.b, "%t", v.bm25.enabled)
	}
	return o.b
}

// objectWriter puts the commas between members.
type objectWriter struct{ b []byte }

func (o *objectWriter) name(name string) {
	if n := len(o.b); n > 0 && o.b[n-1] != '{' {
		o.b = append(o.b, ',')
	}
	o.b = append(appendText(o.b, name), ':')
}

func (o *objectWriter) open(name string) {
	o.name(name)
	o.b = append(o.b, '{')
}

func (o *objectWriter) close() { o.b = append(o.b, '}') }

func (o *objectWriter) index(name string, ix index, config func([]byte) []byte) {
	if !ix.set {
		return
	}
	o.name(name)
	o.b = fmt.Appendf(o.b, `{"enabled":%t,"config":{`, ix.enabled)
	if config != nil {
		o.b = config(o.b)
	}
	o.b = append(o.b, "}}"...)
}
