package main

import (
	"math"
	"strings"
	"testing"

	"github.com/chromad/chromad/engine"
)

// TestSample runs the whole bench on the records of the repository: recall
// and the answer after reopening are right on any machine.
func TestSample(t *testing.T) {
	s, err := readSet("data/sample")
	if err != nil {
		t.Fatal(err)
	}
	if s.rows() != 2000 {
		t.Fatalf("%d records", s.rows())
	}
	f, err := measure(t.Context(), s, t.TempDir(), flags{queries: 50, batch: 300, writers: 4})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]latency{"query": f.Query, "right after load": f.QueryAfterLoad, "exact": f.QueryExact, "documents": f.QueryWithDocuments}
	for _, q := range f.Filtered {
		if q.Rows == 0 {
			t.Errorf("%s: no rows", q.Name)
		}
		all[q.Name] = q.Latency
	}
	for name, l := range all {
		if l.Recall < 0.99 {
			t.Errorf("%s: recall %.4f", name, l.Recall)
		}
	}
	if text := f.table(); strings.Contains(text, "%!") || strings.Count(text, "\n") < 20 {
		t.Errorf("table:\n%s", text)
	}
}

func TestHalf(t *testing.T) {
	for bits, want := range map[uint16]float32{
		0x3c00: 1, 0xc000: -2, 0x3555: 0.33325195, 0x0001: 5.9604645e-08, 0x03ff: 6.097555e-05, 0x7bff: 65504, 0: 0,
		0x7c00: float32(math.Inf(1)), 0xfc00: float32(math.Inf(-1)),
	} {
		if got := half(bits); got != want {
			t.Errorf("half(%#04x) = %v, want %v", bits, got, want)
		}
	}
}

// TestNearest: the few nearest are the beginning of all of them in order.
func TestNearest(t *testing.T) {
	s, err := readSet("data/sample")
	if err != nil {
		t.Fatal(err)
	}
	rows := []int{3, 900, 14, 15, 92, 653, 58, 979, 323, 846}
	for _, k := range []int{1, 3, 10, 20} {
		got := s.nearest(rows, s.vector(92), k)
		all := s.nearest(rows, s.vector(92), len(rows))
		if got[0] != s.records[92].ID || len(got) != min(k, len(rows)) || strings.Join(got, " ") != strings.Join(all[:len(got)], " ") {
			t.Errorf("k %d: %v of %v", k, got, all)
		}
	}
	if n := hits([]string{"a", "b"}, []engine.Match{{Record: engine.Record{ID: "b"}}, {Record: engine.Record{ID: "c"}}}); n != 1 {
		t.Errorf("hits: %d", n)
	}
}
