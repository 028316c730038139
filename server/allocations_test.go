package server

import (
	"fmt"
	"strings"
	"testing"
)

// writeOf is the body of a write of n records as Python's client makes it.
func writeOf(n int) []byte {
	var ids, vectors, documents, metadatas []string
	for i := range n {
		ids = append(ids, fmt.Sprintf(`"record-%d"`, i))
		vectors = append(vectors, `"`+packed(1, 2, 3, float32(i), 5, 6, 7, 8)+`"`)
		documents = append(documents, fmt.Sprintf(`"the text of record %d"`, i))
		metadatas = append(metadatas, fmt.Sprintf(`{"kind":"a text","page":%d,"new":true}`, i))
	}
	list := func(name string, values []string) string { return `"` + name + `":[` + strings.Join(values, ",") + "]" }
	return []byte("{" + strings.Join([]string{list("ids", ids), list("embeddings", vectors), list("documents", documents), list("metadatas", metadatas)}, ",") + "}")
}

// TestWriteAllocations: of a record only its metadata are allocated alone, as
// a map; all else lies in memory that many share.
func TestWriteAllocations(t *testing.T) {
	const n = 1000
	limits := Limits{}.withDefaults()
	c := &call{s: &Server{limits: limits}, body: writeOf(n)}
	got := testing.AllocsPerRun(5, func() {
		body, err := c.readWrite("AddCollectionRecordsPayload", false, false)
		if err != nil || len(body.records) != n {
			t.Fatalf("%d records, %v", len(body.records), err)
		}
	})
	if perRecord := got / n; perRecord > 2.3 {
		t.Errorf("%.2f allocations a record", perRecord)
	}
}

// TestVectorAllocations: numbers cost none, in either direction.
func TestVectorAllocations(t *testing.T) {
	text := []byte("[" + strings.Repeat("-0.0123456789012345678,1.5e-3, 7,", 100) + "0]")
	v := make([]float32, 0, 400)
	s := &scanner{data: text}
	if got := testing.AllocsPerRun(20, func() { s.pos, s.depth = 0, 0; s.floats(&v, 1000, "") }); got > 0 || len(v) != 301 {
		t.Errorf("reading %d numbers: %v allocations, %v", len(v), got, s.err)
	}
	b := make([]byte, 0, 8000)
	if got := testing.AllocsPerRun(20, func() { b = appendVector(b[:0], v) }); got > 0 {
		t.Errorf("writing: %v allocations", got)
	}
}

// TestBuffersBounded: however many large buffers come back, a fixed amount is
// kept, and lent again.
func TestBuffersBounded(t *testing.T) {
	var p buffers
	sizes := []int{2 << 20, largeBuffer, largeBuffer + 1, 5 << 20}
	for i := range 100 {
		b := make([]byte, 7, sizes[i%len(sizes)])
		p.put(&b)
	}
	kept := 0
	for _, b := range p.large {
		if cap(*b) > largeBuffer {
			t.Errorf("%d bytes kept in one", cap(*b))
		}
		kept += cap(*b)
	}
	if kept != p.bytes || kept > keptLarge || kept < keptLarge/2 {
		t.Errorf("%d bytes kept, %d counted", kept, p.bytes)
	}
	for n := len(p.large); n > 0; n-- {
		if b := p.get(smallBuffer + 1); cap(*b) <= smallBuffer || len(*b) != 0 {
			t.Fatalf("lent %d of %d bytes", len(*b), cap(*b))
		}
	}
	if p.bytes != 0 || cap(*p.get(1 << 30)) > smallBuffer {
		t.Errorf("%d bytes are left", p.bytes)
	}
}
