package server

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/internal/race"
)

const shape = "Failed to deserialize the JSON body into the target type: "
const notJSON = "Failed to parse the request body as JSON: "

func packed(floats ...float32) string {
	var b []byte
	for _, f := range floats {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	return base64.StdEncoding.EncodeToString(b)
}

// Bodies that must be refused, with the status and a part of the text; none of
// them may write anything.
func TestWritesRefused(t *testing.T) {
	r := newRig(t, Config{}, nil)
	c := r.collection(`{"name":"docs"}`)
	r.want(201, "", "POST", c+"/add", `{"ids":["a"],"embeddings":[[1,2]],"metadatas":[{"k":1}]}`)
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, test := range []struct {
		name, route, body string
		status            int
		text              string
	}{
		{"no body", "add", ``, 400, notJSON},
		{"not an object", "add", `[]`, 422, shape},
		{"null", "add", `null`, 422, shape},
		{"names in another case", "add", `{"IDS":["x"],"Embeddings":[[1,2]]}`, 422, "missing field `ids`"},
		{"a field twice", "add", `{"ids":["x"],"ids":["y"],"embeddings":[[1,2]]}`, 422, "duplicate field `ids`"},
		{"a metadata key twice", "add", `{"ids":["x"],"embeddings":[[1,2]],"metadatas":[{"a":1,"a":2}]}`, 422, "metadatas[0]: duplicate field `a`"},
		{"an ignored field twice", "add", `{"ids":["x"],"embeddings":[[1,2]],"z":1,"z":2}`, 422, "duplicate field `z`"},
		{"an id of invalid UTF-8", "add", "{\"ids\":[\"\xff\"],\"embeddings\":[[1,2]]}", 400, notJSON},
		{"an id of half a character", "add", `{"ids":["\ud800"],"embeddings":[[1,2]]}`, 400, "lone surrogate"},
		{"a document of invalid UTF-8", "add", "{\"ids\":[\"x\"],\"embeddings\":[[1,2]],\"documents\":[\"\xc3\x28\"]}", 400, notJSON},
		{"a component of null", "add", `{"ids":["x"],"embeddings":[[null,1]]}`, 422, noEmbeddings},
		{"an embedding of null", "add", `{"ids":["x"],"embeddings":[null]}`, 422, noEmbeddings},
		{"a null embedding in upsert", "upsert", `{"ids":["x"],"embeddings":[null]}`, 422, noEmbeddings},
		{"null embeddings", "upsert", `{"ids":["x"],"embeddings":null}`, 422, noEmbeddings},
		{"embeddings in embeddings", "add", `{"ids":["x"],"embeddings":[[[1,2]]]}`, 422, noEmbeddings},
		{"beyond float32", "add", `{"ids":["x"],"embeddings":[[1e39,1]]}`, 400, notFinite},
		{"just beyond float32", "add", `{"ids":["x"],"embeddings":[[3.5e38,1]]}`, 400, notFinite},
		{"beyond float64", "add", `{"ids":["x"],"embeddings":[[-1e400,1]]}`, 400, notFinite},
		{"beyond float32 in update", "update", `{"ids":["a"],"embeddings":[[1e39,1]]}`, 400, notFinite},
		{"base64 NaN", "add", `{"ids":["x"],"embeddings":["` + packed(1, nan) + `"]}`, 400, "Non-finite float value at embedding index 1: NaN"},
		{"base64 infinity", "update", `{"ids":["a"],"embeddings":["` + packed(inf, 1) + `"]}`, 400, "Non-finite float value at embedding index 0: inf"},
		{"base64 of 3 bytes", "add", `{"ids":["x"],"embeddings":["YWJj"]}`, 400, "Invalid byte length: 3 bytes"},
		{"base64 without padding", "add", `{"ids":["x"],"embeddings":["AACAPwAAAEA"]}`, 400, "Invalid base64 string"},
		{"base64 of another alphabet", "add", `{"ids":["x"],"embeddings":["AACA_wAAAEA="]}`, 400, "Invalid base64 string"},
		{"base64 with a space", "add", `{"ids":["x"],"embeddings":["AACA PwAAAEA="]}`, 400, "Invalid base64 string"},
		{"base64 with a line break", "add", `{"ids":["x"],"embeddings":["AACAPwAA\r\nAEA="]}`, 400, "Invalid symbol 13, offset 8"},
		{"base64 with bits that say nothing", "add", `{"ids":["x"],"embeddings":["AACAPwAAAEB="]}`, 400, "Invalid base64 string"},
		{"lists and texts mixed", "add", `{"ids":["x","y"],"embeddings":[[1,2],"` + packed(1, 2) + `"]}`, 422, noEmbeddings},
		{"empty embedding", "add", `{"ids":["x"],"embeddings":[[]]}`, 400, noDimensions},
		{"empty text", "update", `{"ids":["a"],"embeddings":[""]}`, 400, noDimensions},
		{"empty id", "add", `{"ids":["x",""],"embeddings":[[1,2],[1,2]]}`, 400, emptyID},
		{"fewer ids than documents", "update", `{"ids":["a"],"documents":["x","y"]}`, 400, unequalCounts},
		{"an empty list of metadata", "update", `{"ids":["a"],"metadatas":[]}`, 400, unequalCounts},
		{"ids last, and too few", "add", `{"embeddings":[[1,2],[1,2]],"ids":["x"]}`, 400, unequalCounts},
		{"null metadata value in add", "add", `{"ids":["x"],"embeddings":[[1,2]],"metadatas":[{"a":null}]}`, 422, noMetadata},
		{"mixed list", "add", `{"ids":["x"],"embeddings":[[1,2]],"metadatas":[{"a":[1,"b"]}]}`, 422, noMetadata},
		{"list in a list", "update", `{"ids":["a"],"metadatas":[{"k":[[1]]}]}`, 422, noMetadata},
		{"a number beyond float64", "update", `{"ids":["a"],"metadatas":[{"k":1e999}]}`, 400, notJSON},
		{"reserved key", "update", `{"ids":["a"],"metadatas":[{"#k":1}]}`, 400, "Invalid metadata at index 0"},
		{"sparse vector", "update", `{"ids":["a"],"metadatas":[{"k":{"indices":[1],"values":[1]}}]}`, 501, sparseRefused + "k"},
		{"object", "update", `{"ids":["a"],"metadatas":[{"k":{}}]}`, 422, noMetadata},
		{"deep ignored field", "add", `{"x":` + strings.Repeat("[", 100) + `}`, 400, "recursion limit"},
		{"wrong dimension", "update", `{"ids":["a"],"embeddings":[[1,2,3]]}`, 400, "Collection expecting embedding with dimension of 2, got 3"},
		{"NUL after the body", "add", "{\"ids\":[\"x\"],\"embeddings\":[[1,2]]}\x00", 400, "trailing characters"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r.t = t
			r.want(test.status, test.text[:min(len(test.text), 40)], "POST", c+"/"+test.route, test.body)
		})
	}
	r.t = t
	r.want(200, `{"ids":["a"],"embeddings":[[1.0,2.0]],"documents":null,"uris":null,"metadatas":[{"k":1}],"include":["embeddings","metadatas"]}`,
		"POST", c+"/get", `{"include":["embeddings","metadatas"]}`)
}

func TestWritesAccepted(t *testing.T) {
	r := newRig(t, Config{}, nil)
	c := r.collection(`{"name":"docs"}`)
	r.want(201, "", "POST", c+"/add", `{"documents":["d1","d2"],"embeddings":["`+packed(1, 2)+`","`+packed(-0.5, 1e-45)+`"],"ids":["a","b"]}`)
	r.want(201, "", "POST", c+"/add", `{"ids":["c"],"embeddings":[[1e-60,-0]],"metadatas":[{"big":9223372036854775808,"min":-9223372036854775808,"z":-0,"n":[1,2.5],"e":[]}]}`)
	r.want(200, "", "POST", c+"/update", `{"ids":["a","b","nobody"],"embeddings":[null,[3,4],null],"metadatas":[null,{"k":"v"},null],"documents":null}`)
	r.want(200, `"embeddings":[[1.0,2.0],[3.0,4.0],[0.0,0.0]],"documents":["d1","d2",null],"uris":null,"metadatas":[null,{"k":"v"},{"big":9.223372036854776e18,"min":-9223372036854775808,"n":[1.0,2.5],"z":0.0}]`,
		"POST", c+"/get", `{"include":["embeddings","documents","metadatas"]}`)
	// Two spellings of one letter are two ids.
	r.want(201, "", "POST", c+"/add", `{"ids":["\u00e9","e\u0301","\u0000","a\nb"],"embeddings":[[1,1],[2,2],[3,3],[4,4]]}`)
	r.want(200, "7", "GET", c+"/count", "")
	r.want(200, `"ids":["é"]`, "POST", c+"/get", `{"ids":["é"]}`)
}

func TestReadsRefused(t *testing.T) {
	r := newRig(t, Config{}, nil)
	c := r.collection(`{"name":"docs"}`)
	r.want(201, "", "POST", c+"/add", `{"ids":["a"],"embeddings":[[1,2]]}`)
	query := func(rest string) string { return `{"query_embeddings":[[1,2]]` + rest + `}` }
	for _, test := range []struct {
		route, body string
		status      int
		text        string
	}{
		{"query", query(`,"n_results":2147483648`), 200, `"ids":[["a"]]`},
		{"query", query(`,"n_results":4294967295`), 200, `"ids":[["a"]]`},
		{"query", query(`,"n_results":9223372036854775808`), 422, "expected u32"},
		{"query", query(`,"n_results":-1`), 422, "expected u32"},
		{"query", query(`,"n_results":1e2`), 422, "floating point `1e2`, expected u32"},
		{"query", query(`,"n_results":"10"`), 422, "expected u32"},
		{"query", query(`,"n_results":0`), 200, `"ids":[[]]`},
		{"query", query(`,"include":["data"]`), 422, "unknown variant `data`"},
		{"query", query(`,"include":null`), 422, "expected a sequence"},
		{"query", query(`,"include":[` + strings.Repeat(`"uris",`, maxIncludes) + `"uris"]`), 422, "more than 64"},
		{"query", `{"query_embeddings":["` + packed(1, 2) + `"]}`, 422, "query_embeddings[0]: invalid type: string"},
		{"query", `{"query_embeddings":[[1e39,2]]}`, 400, "must not contain NaN or Infinity"},
		{"query", `{"query_embeddings":[[1,2],[1]]}`, 400, mixedLengths},
		{"query", `{"query_embeddings":[]}`, 200, `{"ids":[],"embeddings":null,"documents":[],`},
		{"get", `{"where":{"a":1,"a":2}}`, 422, "where: duplicate field `a`"},
		{"get", `{"where":` + strings.Repeat(`{"$and":[`, 40) + strings.Repeat(`]}`, 40) + `}`, 400, "recursion limit"},
		{"get", `{"where":{"$and":[{"a":1},{}]}}`, 400, `"Invalid where clause"`},
		{"get", `{"where":7,"where_document":8}`, 400, `"Invalid where clause"`},
		{"get", `{"where_document":{"$regex":"(?=x)"}}`, 400, "Regex syntax errror: "},
		{"get", `{"limit":4294967295,"offset":4294967295}`, 200, `"ids":[]`},
		{"get", `{"ids":[]}`, 200, `"ids":[]`},
		{"get", `{"ids":[1]}`, 422, "ids[0]: invalid type: integer `1`, expected a string"},
		{"delete", `{"ids":["a"],"limit":0,"where":null}`, 400, "limit can only be specified"},
		{"delete", `{"where":{"a":1},"limit":0}`, 200, `{"deleted":0}`},
		{"search", `{"searches":[{"rank":` + strings.Repeat(`{"$abs":`, 100) + `{"$val":1}` + strings.Repeat("}", 100) + `}]}`, 400, "recursion limit"},
		{"search", `{"searches":[],"read_level":null}`, 400, notJSON},
	} {
		r.want(test.status, test.text, "POST", c+"/"+test.route, test.body)
	}
	r.want(400, "read_level", "GET", c+"/count?read_level=x", "")
	r.want(200, "1", "GET", c+"/count?read_level=index_only", "")
}

// TestBodiesCutOff: whatever byte of a body is the last to arrive, the answer says
// that this is no JSON, and nothing was written.
func TestBodiesCutOff(t *testing.T) {
	r := newRig(t, Config{}, nil)
	c := r.collection(`{"name":"docs"}`)
	numbers := `[1,-2.5, 3e4,-4E-2,5.5e+1,0,1e-60,0.1234567890123456789,-0.125e-3]`
	records := `{"ids":["x"],"embeddings":[` + numbers + `],"metadatas":[{"a":-1,"b":2.5e-3,"c":true,"d":[1,2e2],"é\u00e9":1}],"documents":["d\ud83d\ude00"],"uris":[null]}`
	filter := `"where":{"$and":[{"k":{"$in":[1,-2e1]}},{"s":{"$ne":"x"}}]},"where_document":{"$not_contains":"y"},"include":["uris"]`
	for _, request := range []struct{ route, body string }{
		{"add", records},
		{"upsert", records},
		{"update", records},
		{"add", `{"ids":["x"],"embeddings":["` + packed(1, 2) + `"]}`},
		{"get", `{"ids":["x"],"limit":1,"offset":2,` + filter + `}`},
		{"query", `{"query_embeddings":[` + numbers + `],"n_results":3,` + filter + `}`},
		{"delete", `{"ids":["x"],` + filter + `}`},
		{"search", `{"searches":[{"filter":{"k":1.5e1},"rank":{"$knn":{"query":` + numbers + `,"limit":3}},"limit":{"limit":5},"select":{"keys":["#score"]}}]}`},
	} {
		for n := range len(request.body) {
			r.want(400, notJSON, "POST", c+"/"+request.route, request.body[:n])
		}
	}
	r.want(200, "0", "GET", c+"/count", "")
}

// The limits stop a request while it is read.
func TestLimits(t *testing.T) {
	r := newRig(t, Config{Limits: Limits{BodyBytes: 10_000, Records: 10, IDs: 20, Queries: 5, Dimension: 8, ListValues: 30}}, nil)
	c := r.collection(`{"name":"docs"}`)
	times := func(n int, element string) string { return "[" + strings.Repeat(element+",", n-1) + element + "]" }
	for _, test := range []struct {
		route, body string
		status      int
		text        string
	}{
		{"add", `{"ids":` + times(10, `"x"`) + `,"embeddings":` + times(10, "[1]") + `}`, 201, ""},
		{"add", `{"ids":` + times(11, `"x"`) + `,"embeddings":[]}`, 422, "ids: more than 10 elements"},
		{"add", `{"ids":["x"],"embeddings":` + times(11, "[1]") + `}`, 422, "embeddings: more than 10 elements"},
		{"add", `{"ids":["x"],"embeddings":[` + times(9, "1") + `]}`, 422, "more than 8 dimensions"},
		{"add", `{"ids":["x"],"embeddings":["` + packed(1, 2, 3, 4, 5, 6, 7, 8, 9) + `"]}`, 400, ""},
		{"update", `{"ids":["x"],"metadatas":[{"a":` + times(20, "1") + `,"b":` + times(11, "1") + `}]}`, 422, "metadatas[0].b: more than 10 elements"},
		{"get", `{"ids":` + times(20, `"x"`) + `}`, 200, ""},
		{"get", `{"ids":` + times(21, `"x"`) + `}`, 422, "ids: more than 20 elements"},
		{"query", `{"query_embeddings":` + times(6, "[1]") + `}`, 422, "more than 5 elements"},
		{"get", `{"x":"` + strings.Repeat("y", 10_000) + `"}`, 413, "Payload too large"},
	} {
		r.want(test.status, test.text, "POST", c+"/"+test.route, test.body)
	}
}

func TestContentTypes(t *testing.T) {
	r := newRig(t, Config{}, nil)
	for i, test := range []struct {
		header []string
		status int
	}{
		{nil, 200}, {[]string{"Content-Type", "application/json"}, 200}, {[]string{"Content-Type", "Application/JSON; charset=utf-8"}, 200},
		{[]string{"Content-Type", "application/vnd.api+json"}, 200}, {[]string{"Content-Type", "text/json"}, 415},
		{[]string{"Content-Type", "application/x-www-form-urlencoded"}, 415}, {[]string{"Content-Type", ""}, 415}, {[]string{"Content-Type", "application/json", "Content-Type", "text/plain"}, 415},
		{[]string{"Content-Encoding", "gzip"}, 415}, {[]string{"Content-Encoding", "identity"}, 200}, {[]string{"Content-Encoding", "gzip, zstd"}, 415},
	} {
		status, answer := r.do("POST", "/api/v2/tenants", fmt.Sprintf(`{"name":"tenant-%d"}`, i), test.header...)
		if status != test.status {
			t.Errorf("%q: %d %s, want %d", test.header, status, answer, test.status)
		}
	}
}

// What a body makes the reader allocate is bounded by its length.
func TestAllocationIsBounded(t *testing.T) {
	if race.Enabled {
		t.Skip("what is allocated with -race is not what is allocated")
	}
	const size = 10 << 20
	fill := func(before, element, after string) string {
		n := (size - len(before) - len(after)) / len(element)
		return before + strings.TrimSuffix(strings.Repeat(element, n), ",") + after
	}
	r := New(Config{})
	for _, test := range []struct{ name, body string }{
		{"empty vectors", fill(`{"ids":[],"embeddings":[`, `[],`, `]}`)},
		{"empty query vectors", fill(`{"query_embeddings":[`, `[],`, `]}`)},
		{"short vectors", fill(`{"ids":[],"embeddings":[`, `[0],`, `]}`)},
		{"one long vector", fill(`{"ids":[],"embeddings":[[`, `0,`, `]]}`)},
		{"empty texts", fill(`{"ids":[],"embeddings":[`, `"",`, `]}`)},
		{"ids", fill(`{"ids":[`, `"",`, `],"embeddings":[]}`)},
		{"empty metadata", fill(`{"ids":[],"metadatas":[`, `{},`, `]}`)},
		{"nulls", fill(`{"ids":[],"documents":[`, `null,`, `]}`)},
		{"a metadata list", fill(`{"ids":["a"],"metadatas":[{"k":[`, `0,`, `]}]}`)},
		{"a where list", fill(`{"where":{"k":{"$in":[`, `0,`, `]}}}`)},
		{"an ignored list", fill(`{"x":[`, `[],`, `]}`)},
	} {
		for _, read := range []struct {
			name string
			read func(c *call)
		}{
			{"write", func(c *call) { c.readWrite("x", true, true) }},
			{"query", func(c *call) { c.readQuery() }},
			{"get", func(c *call) { c.readGet() }},
		} {
			c := &call{s: r, body: []byte(test.body)}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			read.read(c)
			runtime.ReadMemStats(&after)
			// The total is more than the peak, so this is stricter than it looks.
			if got := after.TotalAlloc - before.TotalAlloc; got > 3*size+16<<20 {
				t.Errorf("%s as %s: %d MiB for %d MiB", test.name, read.name, got>>20, size>>20)
			}
		}
	}
}

func TestSchemaOfForeignCollection(t *testing.T) {
	r := newRig(t, Config{}, nil)
	db := r.store.(engineStore).DB
	if _, err := db.Default().Create(t.Context(), "made-by-go", engine.Spec{Metric: engine.Cosine, EFSearch: 77, Extension: []byte("not ours")}); err != nil {
		t.Fatal(err)
	}
	r.want(200, `"configuration_json":{"hnsw":{"space":"cosine","ef_construction":100,"ef_search":77,`, "GET", inDefault+"/collections/made-by-go", "")
}

func TestExtremeConfigurations(t *testing.T) {
	r := newRig(t, Config{}, &engine.Options{MemtableRows: 4, GraphMin: 2})
	for i, config := range []string{
		`{"max_neighbors":0,"ef_search":0,"ef_construction":0}`, `{"max_neighbors":1,"ef_search":1,"ef_construction":1}`,
		`{"max_neighbors":9223372036854775807,"ef_search":9223372036854775807,"ef_construction":9223372036854775807}`,
	} {
		c := r.collection(fmt.Sprintf(`{"name":"extreme-%d","configuration":{"hnsw":%s}}`, i, config))
		for j := range 5 {
			r.want(201, "", "POST", c+"/add", fmt.Sprintf(`{"ids":["%[1]da","%[1]db","%[1]dc"],"embeddings":[[%[1]d,1],[%[1]d,2],[%[1]d,3]]}`, j))
		}
		r.want(200, "", "PUT", c, `{"new_configuration":{"hnsw":`+strings.Replace(config, `,"ef_construction"`, `,"batch_size"`, 1)+`}}`)
		r.want(200, `"ids":[["3b"]]`, "POST", c+"/query", `{"query_embeddings":[[3,2]],"n_results":1}`)
	}
	r.want(422, "expected usize", "POST", inDefault+"/collections", `{"name":"extreme-x","configuration":{"hnsw":{"max_neighbors":18446744073709551615}}}`)
	r.want(400, "at most 1048576 are allowed", "POST", inDefault+"/collections",
		`{"name":"extreme-y","configuration":{"embedding_function":{"type":"known","name":"n","config":"`+strings.Repeat("x", maxSchema)+`"}}}`)
}
