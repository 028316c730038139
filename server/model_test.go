package server

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/chromad/chromad/engine"
)

// entry is a record of the model, as an answer shows it.
type entry struct {
	id        string
	embedding []float64
	document  any
	metadata  map[string]any
}

// model is a collection as Chroma's documentation describes it, kept in a list.
type model struct{ entries []*entry }

func (m *model) find(id string) *entry {
	if i := slices.IndexFunc(m.entries, func(e *entry) bool { return e.id == id }); i >= 0 {
		return m.entries[i]
	}
	return nil
}

func (m *model) write(route string, e entry) {
	old := m.find(e.id)
	switch {
	case old == nil && route == "update", old != nil && route == "add":
		return
	case old == nil:
		old = &entry{id: e.id, metadata: map[string]any{}}
		m.entries = append(m.entries, old)
	}
	if e.embedding != nil {
		old.embedding = e.embedding
	}
	if e.document != nil {
		old.document = e.document
	}
	for k, v := range e.metadata {
		if v == nil {
			delete(old.metadata, k)
		} else {
			old.metadata[k] = v
		}
	}
}

// answer is what get with every field must say.
func (m *model) answer(keep func(*entry) bool) string {
	ids, embeddings, documents, metadatas := []any{}, []any{}, []any{}, []any{}
	for _, e := range m.entries {
		if !keep(e) {
			continue
		}
		ids, embeddings, documents = append(ids, e.id), append(embeddings, e.embedding), append(documents, e.document)
		if len(e.metadata) == 0 {
			metadatas = append(metadatas, nil)
		} else {
			metadatas = append(metadatas, e.metadata)
		}
	}
	b, err := json.Marshal(map[string]any{"ids": ids, "embeddings": embeddings, "documents": documents, "metadatas": metadatas,
		"uris": nil, "include": []string{"embeddings", "documents", "metadatas"}})
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// TestAgainstModel does the same things to a collection and to a list, over a
// store that flushes and merges all the time and is closed and opened again.
func TestAgainstModel(t *testing.T) {
	seeds := 6
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(uint64(seed), 7))
			options := &engine.Options{MemtableRows: 2 + seed*3, GraphMin: 4}
			dir := t.TempDir()
			open := func() (*rig, *engine.DB) {
				db, err := engine.Open(dir, options)
				if err != nil {
					t.Fatal(err)
				}
				return &rig{Server: New(Config{Store: EngineStore(db)}), t: t}, db
			}
			rig, db := open()
			c := rig.collection(`{"name":"docs"}`)
			m := &model{}
			for step := range 250 {
				if step%60 == 59 {
					if err := db.Close(); err != nil {
						t.Fatal(err)
					}
					rig, db = open()
				}
				act(rig, r, c, m)
				compare(rig, r, c, m, step)
				if t.Failed() {
					t.Fatalf("seed %d, step %d", seed, step)
				}
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// act writes or deletes a few records in both.
func act(rig *rig, r *rand.Rand, c string, m *model) {
	if r.IntN(5) == 0 {
		var ids []string
		for range 1 + r.IntN(3) {
			ids = append(ids, fmt.Sprint("id", r.IntN(40)))
		}
		gone := func(e *entry) bool { return slices.Contains(ids, e.id) }
		body := map[string]any{"ids": ids}
		if r.IntN(2) == 0 {
			n := r.IntN(10)
			gone = func(e *entry) bool { k, ok := e.metadata["k"].(int); return ok && k == n }
			body = map[string]any{"where": map[string]any{"k": n}}
		}
		text, _ := json.Marshal(body)
		before := len(m.entries)
		m.entries = slices.DeleteFunc(m.entries, gone)
		rig.want(200, fmt.Sprintf(`{"deleted":%d}`, before-len(m.entries)), "POST", c+"/delete", string(text))
		return
	}
	route := []string{"add", "upsert", "upsert", "update"}[r.IntN(4)]
	var ids, documents, embeddings, metadatas []any
	for range 1 + r.IntN(4) {
		e := entry{id: fmt.Sprint("id", r.IntN(40)), embedding: []float64{float64(r.IntN(100)), float64(r.IntN(100)), 1}, metadata: map[string]any{}}
		if route == "update" && r.IntN(2) == 0 {
			e.embedding = nil
		}
		if r.IntN(2) == 0 {
			e.document = fmt.Sprint("text ", r.IntN(10))
		}
		if r.IntN(3) > 0 {
			e.metadata["k"] = r.IntN(10)
		}
		if r.IntN(3) == 0 {
			e.metadata[fmt.Sprint("s", r.IntN(3))] = "v"
		}
		if route != "add" && r.IntN(4) == 0 {
			e.metadata["k"] = nil
		}
		m.write(route, e)
		ids, documents, metadatas = append(ids, e.id), append(documents, e.document), append(metadatas, e.metadata)
		if e.embedding == nil {
			embeddings = append(embeddings, nil)
		} else {
			embeddings = append(embeddings, e.embedding)
		}
	}
	text, _ := json.Marshal(map[string]any{"ids": ids, "documents": documents, "embeddings": embeddings, "metadatas": metadatas})
	status := 200
	if route == "add" {
		status = 201
	}
	if len(m.entries) == 0 && route == "update" {
		return // the first write decides the dimension; an update never does
	}
	rig.want(status, "{}", "POST", c+"/"+route, string(text))
}

// compare reads everything, a filtered part, and the nearest record.
func compare(rig *rig, r *rand.Rand, c string, m *model, step int) {
	rig.t.Helper()
	n := r.IntN(10)
	for _, read := range []struct {
		body string
		keep func(*entry) bool
	}{
		{``, func(*entry) bool { return true }},
		{fmt.Sprintf(`"where":{"k":{"$gte":%d}},`, n), func(e *entry) bool { k, ok := e.metadata["k"].(int); return ok && k >= n }},
		{fmt.Sprintf(`"where":{"k":{"$ne":%d}},`, n), func(e *entry) bool { return e.metadata["k"] != n }},
		{fmt.Sprintf(`"where_document":{"$contains":"%d"},`, n), func(e *entry) bool {
			d, ok := e.document.(string)
			return ok && strings.Contains(d, fmt.Sprint(n))
		}},
	} {
		_, answer := rig.do("POST", c+"/get", `{`+read.body+`"include":["embeddings","documents","metadatas"]}`)
		var v any
		if err := json.Unmarshal([]byte(answer), &v); err != nil {
			rig.t.Fatalf("step %d: %v in %s", step, err, answer)
		}
		got, _ := json.Marshal(v)
		if want := m.answer(read.keep); string(got) != want {
			rig.t.Errorf("step %d: get %s\n got %s\nwant %s", step, read.body, got, want)
		}
	}
	rig.want(200, fmt.Sprint(len(m.entries)), "GET", c+"/count", "")
	if len(m.entries) == 0 {
		return
	}
	e := m.entries[r.IntN(len(m.entries))]
	vector, _ := json.Marshal(e.embedding)
	rig.want(200, `"distances":[[0.0]]`, "POST", c+"/query", `{"query_embeddings":[`+string(vector)+`],"n_results":1,"include":["distances"]}`)
}
