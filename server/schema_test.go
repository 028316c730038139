package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/filter"
)

// at digs a value out of JSON: at(t, j, "schema.keys.#embedding").
func at(t *testing.T, text, path string) string {
	t.Helper()
	v := json.RawMessage(text)
	for step := range strings.SplitSeq(path, ".") {
		var m map[string]json.RawMessage
		if err := json.Unmarshal(v, &m); err != nil {
			t.Fatalf("%s in %s: %v", path, text, err)
		}
		v = m[step]
	}
	return string(v)
}

const (
	offInt   = `"schema":{"defaults":{},"keys":{"k":{"int":{"int_inverted_index":{"enabled":false,"config":{}}}}}}`
	openai   = `{"type":"known","name":"openai","config":{"a":[1, 2.5,null]}}`
	byName   = `{"type":"known","name":"default","config":{}}`
	vector   = "float_list.vector_index.config"
	ofVector = "schema.keys.#embedding." + vector
)

func vectorSchema(config string) string {
	return `"schema":{"defaults":{},"keys":{"#embedding":{"float_list":{"vector_index":{"enabled":true,"config":` + config + `}}}}}`
}

// What a request says about a new collection, and what the collection is then.
func TestNewCollections(t *testing.T) {
	r := newRig(t, Config{}, nil)
	r.threads = 3
	defaultHNSW := `{"ef_construction":100,"max_neighbors":16,"ef_search":100,"num_threads":3,"batch_size":100,"sync_threshold":1000,"resize_factor":1.2}`
	for i, c := range []struct {
		body string
		want map[string]string
	}{
		{``, map[string]string{"configuration_json.hnsw.space": `"l2"`, "configuration_json.embedding_function": "null", "schema.defaults." + vector + ".hnsw": defaultHNSW,
			ofVector + ".hnsw": defaultHNSW, ofVector + ".source_key": `"#document"`, "schema.keys.#document.string.fts_index.enabled": "true", "dimension": "null", "metadata": "null"}},
		{`"configuration":{"hnsw":{"space":"ip","ef_search":9,"num_threads":7},"embedding_function":` + openai + `}`,
			map[string]string{"configuration_json.hnsw.space": `"ip"`, "configuration_json.hnsw.ef_search": "9", "configuration_json.embedding_function": openai,
				ofVector + ".hnsw.num_threads": "7", "schema.defaults." + vector + ".embedding_function": openai, "schema.defaults." + vector + ".space": `"ip"`}},
		{`"configuration":{"spann":{"space":"cosine","ef_search":9}}`, map[string]string{"configuration_json.hnsw.space": `"cosine"`, "configuration_json.hnsw.ef_search": "100", "configuration_json.spann": "null"}},
		{`"metadata":{"hnsw:space":"cosine","hnsw:M":5,"hnsw:resize_factor":2}`, map[string]string{"configuration_json.hnsw.space": `"cosine"`, "configuration_json.hnsw.max_neighbors": "5",
			"configuration_json.hnsw.resize_factor": "2.0", "metadata": `{"hnsw:M":5,"hnsw:resize_factor":2,"hnsw:space":"cosine"}`}},
		{`"metadata":{"hnsw:space":"cosine"},"configuration":{"hnsw":{"space":"l2"},"embedding_function":` + openai + `}`,
			map[string]string{"configuration_json.hnsw.space": `"cosine"`, "configuration_json.embedding_function": openai}},
		{`"metadata":{"hnsw:space":"cosine"},"configuration":{"hnsw":{"space":"ip"}}`, map[string]string{"configuration_json.hnsw.space": `"ip"`}},
		{vectorSchema(`{"space":"cosine","hnsw":{"ef_search":30}}`), map[string]string{"configuration_json.hnsw.space": `"cosine"`, "configuration_json.hnsw.ef_search": "30",
			"schema.defaults." + vector + ".space": `"l2"`, ofVector + ".source_key": `"#document"`}},
		{vectorSchema(`{"space":"ip","spann":{"ef_search":50}}`), map[string]string{"configuration_json.hnsw.space": `"ip"`, "configuration_json.hnsw.ef_search": "100"}},
		{offInt + `,"configuration":{"hnsw":{"space":"l2"},"embedding_function":` + byName + `}`, map[string]string{"configuration_json.embedding_function": "null",
			"schema.keys.k": `{"int":{"int_inverted_index":{"enabled":false,"config":{}}}}`}},
		{`"schema":{"defaults":{"float_list":{"vector_index":{"enabled":false,"config":{"embedding_function":` + byName + `}}}},"keys":{}},"configuration":{"hnsw":{"space":"ip"}}`,
			map[string]string{"configuration_json.hnsw.space": `"ip"`, "configuration_json.embedding_function": "null"}},
		{`"schema":{"defaults":{"#string":{"$string_inverted_index":{"enabled":false,"config":{}}},"geo":{}},"key_overrides":{"sv":{"sparse_vector":{"sparse_vector_index":{"enabled":false,"config":{}}}}}}`,
			map[string]string{"schema.defaults.string.string_inverted_index.enabled": "false", "schema.keys.sv": `{"sparse_vector":{"sparse_vector_index":{"enabled":false,"config":{}}}}`}},
		{`"schema":{"defaults":{},"keys":{},"cmek":{"gcp":"projects/p/locations/l/keyRings/r/cryptoKeys/k"}}`, map[string]string{"schema.cmek": `{"gcp":"projects/p/locations/l/keyRings/r/cryptoKeys/k"}`}},
	} {
		name := fmt.Sprintf("new-%d", i)
		status, made := r.do("POST", inDefault+"/collections", strings.TrimSuffix(`{"name":"`+name+`",`+c.body, ",")+"}")
		if status != 200 {
			t.Errorf("%s: %d %s", c.body, status, made)
			continue
		}
		if _, again := r.do("GET", inDefault+"/collections/"+name, ""); again != made {
			t.Errorf("%s: made as %s\nread as %s", c.body, made, again)
		}
		for path, want := range c.want {
			if got := at(t, made, path); got != want {
				t.Errorf("%s: %s is %s, want %s", c.body, path, got, want)
			}
		}
	}
}

func TestNewCollectionsRefused(t *testing.T) {
	r := newRig(t, Config{}, nil)
	key := func(key, types string) string {
		return `"schema":{"defaults":{},"keys":{"` + key + `":{` + types + `}}}`
	}
	on := func(kind, name, config string) string {
		return `"` + kind + `":{"` + name + `":{"enabled":true,"config":{` + config + `}}}`
	}
	const both = "Cannot set both collection config and schema simultaneously"
	for _, c := range []struct {
		body   string
		status int
		text   string
	}{
		{`"configuration":{"hnsw":{},"spann":{}}`, 400, "Multiple vector index configurations provided"},
		{`"configuration":{"hnsw":{"space":"L2"}}`, 422, "configuration.hnsw.space: unknown variant `L2`"},
		{`"configuration":{"hnsw":{"m":1}}`, 422, "configuration.hnsw.m: unknown field `m`"},
		{`"configuration":{"hnsw":{"ef_search":-1}}`, 422, "expected usize"},
		{`"configuration":{"spann":{"m":1}}`, 422, "configuration.spann.m: unknown field `m`"},
		{`"configuration":{"embedding_function":{"name":"x"}}`, 422, "missing field `type`"},
		{`"configuration":{"embedding_function":{"type":"known","config":{}}}`, 422, "missing field `name`"},
		{`"configuration":{"embedding_function":{"type":"known","name":"x"}}`, 422, "missing field `config`"},
		{`"configuration":{"embedding_function":{"type":"other"}}`, 422, "unknown variant `other`"},
		{`"metadata":{"hnsw:M":"x"}`, 400, "Failed to parse hnsw parameters from segment metadata"},
		{`"metadata":{"hnsw:batch_size":1}`, 400, "Failed to parse hnsw parameters from segment metadata"},
		{`"metadata":{"hnsw:other":1}`, 400, "Failed to parse hnsw parameters from segment metadata"},
		{`"metadata":{}`, 400, "Validation error: metadata: Metadata cannot be empty"},
		{`"metadata":{"":1}`, 400, "Metadata key cannot be empty"},
		{`"metadata":{"$a":1}`, 400, "Metadata key cannot start with '#' or '$': $a"},
		{`"metadata":{"a":null}`, 422, noMetadata},
		{`"get_or_create":null`, 422, "get_or_create: invalid type: null, expected a boolean"},
		{`"schema":{"keys":{}}`, 422, "schema: missing field `defaults`"},
		{`"schema":{"defaults":{}}`, 422, "schema: missing field `keys`"},
		{`"schema":{"defaults":{},"keys":{},"key_overrides":{}}`, 422, "duplicate field `keys`"},
		{key("k", `"int":{"int_inverted_index":{"enabled":true}}`), 422, "schema.keys.k.int.int_inverted_index: missing field `config`"},
		{key("k", on("int", "int_inverted_index", `"x":1`)), 422, "unknown field `x`"},
		{key("k", on("string", "fts_index", "")), 400, "can only be enabled on #document field: k"},
		{key("k", on("float_list", "vector_index", "")), 400, "Vector index can only be enabled on #embedding field: k"},
		{key("k", on("sparse_vector", "sparse_vector_index", "")), 400, "Sparse vector indexing is not enabled in local"},
		{key("k", on("sparse_vector", "sparse_vector_index", `"source_key":"x"`)), 400, "If source_key is provided then"},
		{key("#document", on("bool", "bool_inverted_index", "")), 400, "Document field cannot have any value types other than string: #document"},
		{key("#document", on("string", "string_inverted_index", "")), 400, "String inverted index can not be enabled on #document key: #document"},
		{key("#embedding", on("string", "string_inverted_index", "")), 400, "Embedding field cannot have any value types other than float_list: #embedding"},
		{key("#x", on("string", "string_inverted_index", "")), 400, "Keys starting with '#' are reserved for system use: #x"},
		{vectorSchema(`{"source_key":"x"}`), 400, "Vector index can only source from #document"},
		{vectorSchema(`{"hnsw":{"sync_threshold":1}}`), 400, "Failed to reconcile schema: Invalid HNSW configuration: sync_threshold"},
		{`"schema":{"defaults":{` + on("float_list", "vector_index", "") + `},"keys":{}}`, 400, "Vector index cannot be enabled by default"},
		{`"schema":{"defaults":{` + on("string", "fts_index", "") + `},"keys":{}}`, 400, "cannot be enabled by default. It can only be enabled on #document field."},
		{`"schema":{"defaults":{` + on("sparse_vector", "sparse_vector_index", "") + `},"keys":{}}`, 400, "Sparse vector index cannot be enabled by default"},
		{`"schema":{"defaults":{},"keys":{},"cmek":{"gcp":"x"}}`, 400, "CMEK does not match expected pattern"},
		{offInt + `,"configuration":{"hnsw":{"space":"ip"}}`, 400, both},
		{offInt + `,"configuration":{"embedding_function":` + openai + `}`, 400, both},
		{offInt + `,"metadata":{"hnsw:space":"ip"}`, 400, both},
	} {
		r.want(c.status, c.text, "POST", inDefault+"/collections", `{"name":"refused",`+c.body+`}`)
	}
	r.want(400, "Database [none] does not exist", "POST", "/api/v2/tenants/default_tenant/databases/none/collections", `{"name":"refused"}`)
	r.want(200, "0", "GET", inDefault+"/collections_count", "")
}

func TestChangedCollections(t *testing.T) {
	r := newRig(t, Config{}, nil)
	c := r.collection(`{"name":"docs","metadata":{"a":1},"configuration":{"hnsw":{"space":"cosine","ef_construction":80}}}`)
	r.collection(`{"name":"taken"}`)
	show := func(path string) string {
		_, answer := r.do("GET", strings.Replace(c, "collections/", "collections/by-id/", 1), "")
		return at(t, answer, path)
	}
	for _, step := range []struct {
		body       string
		status     int
		path, want string
	}{
		{`{"new_configuration":{"hnsw":{"ef_search":7,"batch_size":50}}}`, 200, "configuration_json.hnsw", `{"space":"cosine","ef_construction":80,"ef_search":7,"max_neighbors":16,"resize_factor":1.2,"sync_threshold":1000}`},
		{`{"new_configuration":{"embedding_function":` + openai + `}}`, 200, ofVector + ".embedding_function", openai},
		{`{"new_configuration":{"embedding_function":null,"spann":{"ef_search":1}}}`, 200, "configuration_json.embedding_function", openai},
		{`{"new_configuration":{"hnsw":{"space":"l2"}}}`, 422, "configuration_json.hnsw.space", `"cosine"`},
		{`{"new_configuration":{"hnsw":{"ef_search":1},"spann":{}}}`, 400, "configuration_json.hnsw.ef_search", "7"},
		{`{"new_metadata":{"b":2,"a":null}}`, 200, "metadata", `{"b":2}`},
		{`{"new_metadata":{}}`, 400, "metadata", `{"b":2}`},
		{`{"new_metadata":{"#b":2}}`, 400, "metadata", `{"b":2}`},
		{`{"new_metadata":{"b":null}}`, 200, "metadata", `null`},
		{`{"new_name":"taken"}`, 409, "name", `"docs"`},
		{`{"new_name":"x"}`, 400, "name", `"docs"`},
		{`{"new_name":"docs"}`, 200, "name", `"docs"`},
		{`{"new_name":"other","new_metadata":null,"new_configuration":null}`, 200, "name", `"other"`},
	} {
		r.want(step.status, "", "PUT", c, step.body)
		if got := show(step.path); got != step.want {
			t.Errorf("after %s: %s is %s, want %s", step.body, step.path, got, step.want)
		}
	}
	r.want(404, "Collection [3b0d7a58-1111-4111-8111-000000000000] does not exist.", "PUT", inDefault+"/collections/3B0D7A58111141118111000000000000", `{}`)
	r.want(404, "does not exist", "POST", strings.Replace(c, "/default_database/", "/other_database/", 1)+"/get", `{}`)
}

func TestSchemaDecidesFilters(t *testing.T) {
	r := newRig(t, Config{}, nil)
	c := r.collection(`{"name":"docs","schema":{"defaults":{"bool":{"bool_inverted_index":{"enabled":false,"config":{}}}},"keys":{` +
		`"i":{"int":{"int_inverted_index":{"enabled":false,"config":{}}}},"b":{"bool":{"bool_inverted_index":{"enabled":true,"config":{}}}},` +
		`"#document":{"string":{"fts_index":{"enabled":false,"config":{}}}}}}}`)
	r.want(201, "", "POST", c+"/add", `{"ids":["x"],"embeddings":[[1]],"metadatas":[{"i":1,"s":"t","l":[1.5],"chroma:x":1}]}`)
	disabled := func(key, kind string) string {
		return "Cannot filter using metadata key '" + key + "' with type '" + kind + "' because indexing is disabled"
	}
	for where, want := range map[string]string{
		`{"i":1}`:                         disabled("i", "Int"),
		`{"i":{"$in":[1,2]}}`:             disabled("i", "Int"),
		`{"i":{"$contains":1}}`:           disabled("i", "Int"),
		`{"$or":[{"s":"t"},{"i":1}]}`:     disabled("i", "Int"),
		`{"other":true}`:                  disabled("other", "Bool"),
		`{"#document":{"$contains":"x"}}`: "FTS indexing is disabled",
		`{"i":1.5}`:                       `"ids":[]`,
		`{"b":true}`:                      `"ids":[]`,
		`{"s":"t"}`:                       `"ids":["x"]`,
	} {
		status := 400
		if strings.HasPrefix(want, `"ids"`) {
			status = 200
		}
		r.want(status, want, "POST", c+"/get", `{"where":`+where+`}`)
	}
	_, answer := r.do("GET", inDefault+"/collections/docs", "")
	if got := at(t, answer, "schema.keys.l"); got != `{"float":{"float_inverted_index":{"enabled":true,"config":{}}}}` {
		t.Errorf("learned %s", got)
	}
	if got := at(t, answer, "schema.keys.s"); got != `{"string":{"fts_index":{"enabled":false,"config":{}},"string_inverted_index":{"enabled":true,"config":{}}}}` {
		t.Errorf("learned %s", got)
	}
	if got := at(t, answer, "schema.keys.chroma:x"); got != "" {
		t.Errorf("learned %s", got)
	}
}

// FuzzSchema: what was read and written must read back as the same.
func FuzzSchema(f *testing.F) {
	f.Add([]byte(defaultSchema(2).appendJSON(nil, nil)))
	f.Add([]byte(`{"defaults":{},"keys":{"k":{"int":{"int_inverted_index":{"enabled":false,"config":{}}}},"#embedding":{"float_list":{"vector_index":{"enabled":true,"config":{"space":"ip","embedding_function":` + openai + `,"hnsw":{"ef_search":3}}}}}}}`))
	f.Add([]byte(`{"defaults":{"sparse_vector":{"sparse_vector_index":{"enabled":false,"config":{"bm25":true,"source_key":"x"}}}},"keys":{"":{}},"cmek":null}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		sc, err := parseSchema(in, 2)
		if err != nil {
			t.Skip()
		}
		kinds := map[string]engine.KindSet{"k": 1<<filter.KindInts | 1<<filter.KindString}
		if !json.Valid(sc.appendJSON(nil, kinds)) || !json.Valid(sc.appendConfiguration(nil)) {
			t.Fatalf("%q writes %s", in, sc.appendJSON(nil, kinds))
		}
		once := sc.appendJSON(nil, nil)
		again, err := parseSchema(once, 5)
		if err != nil {
			t.Fatalf("%q writes %s: %v", in, once, err)
		}
		if twice := again.appendJSON(nil, nil); string(twice) != string(once) {
			t.Fatalf("%q writes\n%s, which writes\n%s", in, once, twice)
		}
	})
}
