package server

import "github.com/chromad/chromad/engine"

// table collects records as the columns of an answer: every column is a list, which
// grows in a buffer of its own until all of them are sent one after another.
type table struct {
	c       *call
	columns []column
	include *include
	nested  bool  // a query has a list of lists, one for every vector
	lists   int   // that were begun
	grown   int64 // bytes since they were counted last
}

type column struct {
	name  string
	buf   *[]byte // nil: not included
	value func(b []byte, r *engine.Record, distance float32) []byte
}

func (c *call) table(inc *include, nested bool) *table {
	t := &table{c: c, include: inc, nested: nested}
	col := func(name string, on bool, value func([]byte, *engine.Record, float32) []byte) column {
		out := column{name: name, value: value}
		if on {
			out.buf = c.buffer()
			if nested {
				*out.buf = append(*out.buf, '[')
			}
		}
		return out
	}
	t.columns = []column{
		col("ids", true, func(b []byte, r *engine.Record, _ float32) []byte { return appendText(b, r.ID) }),
		col("embeddings", inc.embeddings, func(b []byte, r *engine.Record, _ float32) []byte { return appendVector(b, r.Embedding) }),
		col("documents", inc.documents, func(b []byte, r *engine.Record, _ float32) []byte { return appendOptional(b, r.Document) }),
		col("uris", inc.uris, func(b []byte, r *engine.Record, _ float32) []byte { return appendOptional(b, r.URI) }),
		col("metadatas", inc.metadatas, func(b []byte, r *engine.Record, _ float32) []byte { return appendMetadata(b, r) }),
	}
	if nested {
		t.columns = append(t.columns, col("distances", inc.distances, func(b []byte, _ *engine.Record, d float32) []byte { return appendFloat32(b, d) }))
	}
	return t
}

// appendMetadata appends a record's metadata. Chroma keeps the uri among the
// metadata and shows what is left: null is a record without either, and clients'
// tests know the difference.
func appendMetadata(b []byte, r *engine.Record) []byte {
	if len(r.Metadata) == 0 && r.URI != nil {
		return append(b, "{}"...)
	}
	return r.Metadata.AppendJSON(b)
}

// begin ends the list of records that is open, and begins others, until there
// are n.
func (t *table) begin(n int) {
	for ; t.lists < n; t.lists++ {
		t.end()
		for _, c := range t.columns {
			if c.buf != nil {
				*c.buf = append(*c.buf, '[')
			}
		}
	}
}

// countedAtOnce is how many bytes an answer grows by until they are counted.
const countedAtOnce = 1 << 20

// add puts a record into the open list, as the principal sees it.
func (t *table) add(r *engine.Record, distance float32) error {
	if err := t.c.shownTo(r); err != nil {
		return err
	}
	t.c.rows++
	for _, c := range t.columns {
		if c.buf != nil {
			before := len(*c.buf)
			*c.buf = append(c.value(*c.buf, r, distance), ',')
			t.grown += int64(len(*c.buf) - before)
		}
	}
	if t.grown < countedAtOnce {
		return nil
	}
	err := t.c.grow(t.grown)
	t.grown = 0
	return err
}

// end ends the open list.
func (t *table) end() {
	if t.lists == 0 {
		return
	}
	for _, c := range t.columns {
		if c.buf == nil {
			continue
		}
		*c.buf = closeList(*c.buf)
		if t.nested {
			*c.buf = append(*c.buf, ',')
		}
	}
}

// parts are the pieces of the finished answer.
func (t *table) parts() [][]byte {
	parts := make([][]byte, 0, 2*len(t.columns)+1)
	frame := t.c.buffer() // what stands around the columns
	b, from := append(*frame, '{'), 0
	for _, c := range t.columns {
		b = append(append(append(b, '"'), c.name...), `":`...)
		if c.buf == nil {
			b = append(b, "null,"...)
			continue
		}
		if t.nested {
			*c.buf = closeList(*c.buf)
		}
		parts = append(parts, b[from:len(b):len(b)], *c.buf)
		from = len(b)
		b = append(b, ',')
	}
	b = append(appendList(append(b, `"include":`...), t.include.names, appendText), '}')
	*frame = b
	return append(parts, b[from:])
}
