package engine

import (
	"fmt"
	"testing"

	"github.com/chromad/chromad/filter"
)

// TestWriteAllocations bounds what a record of a write costs the garbage
// collector: its row, its place in two trees, and its metadata. The entry for
// the log, vectors and texts lie in memory that the records of a call share.
func TestWriteAllocations(t *testing.T) {
	db, err := Open(t.TempDir(), nil)
	check(t, err)
	defer db.Close()
	c := newCollection(t, db, "c")
	const n = 500
	recs := make([]Record, n)
	vector := make([]float32, 64)
	at := 0
	fill := func() {
		for i := range recs {
			recs[i] = Record{ID: fmt.Sprint("record ", at), Embedding: vector, Document: Optional("text"), URI: Optional("uri"), Metadata: Metadata{"n": filter.Int(int64(i))}}
			at++
		}
	}
	filling := testing.AllocsPerRun(5, fill)
	got := testing.AllocsPerRun(5, func() {
		fill()
		check(t, c.Upsert(t.Context(), recs...))
	})
	if perRecord := (got - filling) / n; perRecord > 4.3 {
		t.Errorf("%.2f allocations a record", perRecord)
	}
}
