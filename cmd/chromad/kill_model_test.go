package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
)

// document is what a client knows of one record.
type document struct {
	embedding []float32
	metadata  map[string]any // strings, booleans, json.Number
	text      *string
}

// documents are the records of one client in one collection; nil: the
// collection is not there. They are never changed: a write makes new ones.
type documents map[string]document

// equal compares bit by bit.
func (d document) equal(o document) bool {
	sameBits := func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }
	return slices.EqualFunc(d.embedding, o.embedding, sameBits) && maps.Equal(d.metadata, o.metadata) &&
		(d.text == nil) == (o.text == nil) && (d.text == nil || *d.text == *o.text)
}

func (d documents) equal(o documents) bool {
	return (d == nil) == (o == nil) && maps.EqualFunc(d, o, document.equal)
}

// columns are records as requests and answers have them.
type columns struct {
	IDs        []string         `json:"ids"`
	Embeddings [][]float32      `json:"embeddings,omitempty"`
	Metadatas  []map[string]any `json:"metadatas,omitempty"`
	Documents  []*string        `json:"documents,omitempty"`
}

// read turns an answer into records by id.
func (c *columns) read(into documents) error {
	if len(c.Embeddings) != len(c.IDs) || len(c.Metadatas) != len(c.IDs) || len(c.Documents) != len(c.IDs) {
		return fmt.Errorf("%d ids, %d embeddings, %d metadatas, %d documents", len(c.IDs), len(c.Embeddings), len(c.Metadatas), len(c.Documents))
	}
	for i, id := range c.IDs {
		if _, twice := into[id]; twice {
			return fmt.Errorf("%s is there twice", id)
		}
		into[id] = document{c.Embeddings[i], c.Metadatas[i], c.Documents[i]}
	}
	return nil
}

// decode keeps numbers as they are written.
func decode(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return d.Decode(into)
}

// change is a write: what it asks for, and the records of its client in its
// collection once it has happened.
type change struct {
	collection   string
	method, path string // path after that of the collections; %s is the collection's id
	body         any
	after        documents
}

// author makes up the writes of one client. Nobody else writes its ids.
type author struct {
	*rand.Rand
	name  string
	count int // makes every embedding another one
}

// dimensions of the collections that all clients share.
var dimensions = map[string]int{"shared-3": 3, "shared-17": 17, "shared-64": 64}

const idsOfAuthor = 60 // in each collection

// own is the collection that the client alone makes and drops.
func (a *author) own() string { return a.name + "-own" }

// write makes up the next write of a client that knows before.
func (a *author) write(before map[string]documents) change {
	name := []string{"shared-3", "shared-17", "shared-64", a.own()}[a.IntN(4)]
	known := before[name]
	switch {
	case name == a.own() && known == nil:
		return change{collection: name, method: "POST", body: map[string]any{"name": name}, after: documents{}}
	case name == a.own() && a.IntN(8) == 0:
		return change{collection: name, method: "DELETE", path: "/" + name}
	}
	n := 1 + a.IntN(6)
	if a.IntN(15) == 0 {
		n = idsOfAuthor // more than a memtable
	}
	ids := make([]string, n)
	for i, k := range a.Perm(idsOfAuthor)[:n] {
		ids[i] = fmt.Sprintf("%s/%d", a.name, k)
	}
	c := change{collection: name, method: "POST", after: maps.Clone(known)}
	switch k := a.IntN(10); {
	case k < 2:
		c.path, c.body = "/%s/delete", columns{IDs: ids}
		for _, id := range ids {
			delete(c.after, id)
		}
	case k < 5:
		c.path, c.body = "/%s/add", a.records(name, ids, true, func(id string, d document) {
			if _, there := known[id]; !there {
				c.after[id] = d.over(document{})
			}
		})
	case k < 8:
		c.path, c.body = "/%s/upsert", a.records(name, ids, true, func(id string, d document) {
			c.after[id] = d.over(known[id])
		})
	default:
		c.path, c.body = "/%s/update", a.records(name, ids, a.IntN(2) == 0, func(id string, d document) {
			if old, there := known[id]; there {
				c.after[id] = d.over(old)
			}
		})
	}
	return c
}

// over is the record after d was written over old.
func (d document) over(old document) document {
	if d.embedding == nil {
		d.embedding = old.embedding
	}
	if d.text == nil {
		d.text = old.text
	}
	merged := maps.Clone(old.metadata)
	if merged == nil {
		merged = map[string]any{}
	}
	for k, v := range d.metadata {
		if merged[k] = v; v == nil {
			delete(merged, k)
		}
	}
	if d.metadata = merged; len(merged) == 0 {
		d.metadata = nil
	}
	return d
}

// records makes up records; whole ones have an embedding.
func (a *author) records(collection string, ids []string, whole bool, each func(id string, d document)) columns {
	dim := dimensions[collection]
	if dim == 0 {
		dim = 5
	}
	out := columns{IDs: ids}
	metadata, text := a.IntN(3) > 0, a.IntN(2) == 0 || !whole
	for _, id := range ids {
		var d document
		a.count++
		if whole {
			d.embedding = a.embedding(dim)
			out.Embeddings = append(out.Embeddings, d.embedding)
		}
		if metadata {
			d.metadata = map[string]any{
				"n": json.Number(fmt.Sprint(1<<53 + 1 + a.count)), "f": json.Number(fmt.Sprint(float64(a.count) + 0.25)),
				"s": fmt.Sprintf("é \"%d\"\n", a.count), "b": a.IntN(2) == 0, fmt.Sprint("k", a.IntN(5)): "x",
			}
			if !whole {
				d.metadata[fmt.Sprint("k", a.IntN(5))] = nil
			}
			out.Metadatas = append(out.Metadatas, d.metadata)
		}
		if text {
			s := fmt.Sprintf("document %d of %s", a.count, id)
			d.text = &s
			out.Documents = append(out.Documents, d.text)
		}
		each(id, d)
	}
	return out
}

// embedding is unlike every other one: the first component alone tells.
func (a *author) embedding(dim int) []float32 {
	v := make([]float32, dim)
	for i := range v {
		v[i] = float32(a.NormFloat64())
	}
	v[0] = float32(a.count)
	if a.IntN(8) == 0 {
		v[dim-1] = math.SmallestNonzeroFloat32 // minus zero is the one float that JSON answers do not keep
	}
	return v
}
