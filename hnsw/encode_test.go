package hnsw

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/chromad/chromad/internal/kernel"
)

var update = flag.Bool("update", false, "write the example into docs/format/graph.md")

// TestRoundTrip decodes at every alignment and searches the result.
func TestRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 2, 17, 1500} {
		v := matrix(kernel.L2, clustered(31, n, 4), 4, 0)
		g := mustBuild(t, v, Params{M: 5, EFConstruction: 20})
		plain, err := g.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		for off := range 9 {
			b, err := g.AppendBinary(make([]byte, off, off+1))
			if err != nil || !bytes.Equal(b[off:], plain) {
				t.Fatalf("n %d: bytes depend on what they are appended to", n)
			}
			got, err := Decode(b[off:], n)
			if err != nil {
				t.Fatalf("n %d offset %d: %v", n, off, err)
			}
			if again, _ := got.AppendBinary(nil); !bytes.Equal(again, plain) {
				t.Fatalf("n %d offset %d: another graph", n, off)
			}
			if n > 0 && !slices.Equal(walkOnly(got, v, v.row(0), 1, 9, nil, new(Scratch)), walkOnly(g, v, v.row(0), 1, 9, nil, new(Scratch))) {
				t.Fatalf("n %d offset %d: another answer", n, off)
			}
		}
		if _, err := Decode(plain, n+1); err == nil {
			t.Errorf("n %d: decoded for %d rows", n, n+1)
		}
	}
}

// smallGraph has three levels and fits a page.
func smallGraph(t testing.TB) (*Graph, Vectors) {
	v := matrix(kernel.L2, clustered(32, 9, 2), 2, 0)
	return mustBuild(t, v, Params{M: 2, EFConstruction: 8, Seed: 5}), v
}

// TestDecodeRefuses changes one word of a good graph at a time.
func TestDecodeRefuses(t *testing.T) {
	g, _ := smallGraph(t)
	good, _ := g.AppendBinary(nil)
	l := layoutIn(t, g)
	if g.top() < 2 {
		t.Fatal("example has less than three levels")
	}
	word := func(at int64, w uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[at:], w); return b }
	}
	one := func(at int64, x byte) func([]byte) []byte {
		return func(b []byte) []byte { b[at] = x; return b }
	}
	for name, change := range map[string]func([]byte) []byte{
		"version":      word(0, 1),
		"rows":         word(4, 10),
		"M":            word(8, 3),
		"M 0":          word(8, 0),
		"entry":        word(12, 9),
		"entry low":    word(12, g.seatRow[0]+1),
		"seats":        word(16, 1<<31),
		"lists":        word(20, 1<<31),
		"codec long":   word(24, 1<<31),
		"codec short":  word(24, uint32(l.codec.len-1)),
		"codec more":   word(24, uint32(l.codec.len+1)),
		"no codec":     word(24, 0),
		"kind":         word(28, 8),
		"plain":        word(28, flagPlain), // and has codes
		"reserved":     one(63, 1),
		"neighbour":    word(l.links.at, 9),
		"unused":       word(l.links.at+int64(4*g.degree[0]), 9),
		"degree":       one(l.degree.at, 5),
		"seat row":     word(l.seatRow.at, 9),
		"seat order":   word(l.seatRow.at+4, g.seatRow[0]),
		"seat first":   word(l.seatFirst.at, 1),
		"seat levels":  word(l.seatFirst.at+4, 0),
		"seat far":     word(l.seatFirst.at+4, 16),
		"seat end":     word(l.seatFirst.at+4*int64(len(g.seatRow)), 1),
		"upper":        word(l.upper.at, uint32(len(g.seatRow))),
		"upper degree": one(l.upperDegree.at, 3),
		"gap":          one(l.size-1, 1),
		"short":        func(b []byte) []byte { return b[:len(b)-1] },
		"long":         func(b []byte) []byte { return append(b, 0) },
		"header only":  func(b []byte) []byte { return b[:64] },
		"empty":        func([]byte) []byte { return nil },
	} {
		if name == "unused" && int(g.degree[0]) == g.width(0) {
			t.Fatal("row 0 has no unused slot")
		}
		if _, err := Decode(change(bytes.Clone(good)), g.rows); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestCheck: what no search fails of, a thorough look finds.
func TestCheck(t *testing.T) {
	g, _ := smallGraph(t)
	good, _ := g.AppendBinary(nil)
	l := layoutIn(t, g)
	for name, at := range map[string]int64{"itself": l.links.at, "unused": l.links.at + int64(4*g.degree[0])} {
		other := uint32(0)
		if name == "unused" {
			other = 1
		}
		b := bytes.Clone(good)
		binary.LittleEndian.PutUint32(b[at:], other)
		h, err := Decode(b, g.rows)
		if err != nil {
			t.Fatal(err)
		}
		if h.Check() == nil {
			t.Errorf("%s: nothing found", name)
		}
	}
	if err := g.Check(); err != nil {
		t.Error(err)
	}
}

// layoutIn is where the arrays of g are in its bytes.
func layoutIn(t testing.TB, g *Graph) layout {
	if g.codec == nil {
		return g.layout(0)
	}
	codec, err := g.codec.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	return g.layout(len(codec))
}

// FuzzDecode: bytes either are refused, or are exactly those of a graph that
// can be searched and extended.
func FuzzDecode(f *testing.F) {
	g, v := smallGraph(f)
	good, _ := g.AppendBinary(nil)
	f.Add(good)
	empty, _ := newGraph(nil, 2).AppendBinary(nil)
	f.Add(empty)
	long := bytes.Clone(good)
	long[28] = 1 // walks begin at all rows of the upper levels
	f.Add(bytes.Clone(long))
	long[28] = 5 // … with a beam
	f.Add(bytes.Clone(long))
	plain, _ := mustBuild(f, v, Params{M: 2, EFConstruction: 8, Seed: 5, Bits: plainBits}).AppendBinary(nil)
	f.Add(plain)
	r := rand.New(rand.NewPCG(33, 34))
	for range 20 {
		b := bytes.Clone(good)
		b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := Decode(b, v.Rows)
		if err != nil {
			return
		}
		if again, _ := g.AppendBinary(nil); !bytes.Equal(again, b) {
			t.Fatal("encodes to other bytes")
		}
		if g.Fits(v.Metric, v.Dim) != nil {
			return // searches refuse
		}
		if g.codec != nil || g.plain {
			walkOnly(g, v, v.row(0), 1, 5, nil, new(Scratch))
		}
		if got := search(g, v, v.row(0), 3, 5, []uint64{0x155}, nil); len(got) != 3 {
			t.Fatalf("%d rows", len(got))
		}
		old := []uint32{0, 1, NoRow, 2, 3, 4, NoRow, 5, 6}
		w := v
		w.Rows = 8
		if _, err := extend(t, g, old, w, Params{Workers: 1}); err != nil {
			t.Fatal(err)
		}
	})
}

const (
	page       = "../docs/format/graph.md"
	pageBegin  = "<!-- example: go test ./hnsw -run TestFormatPage -update -->\n```\n"
	pageEnd    = "```\n<!-- end of example -->"
	bytesOfRow = 16
)

// TestFormatPage keeps the example on the page about the format true.
func TestFormatPage(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(text), pageBegin)
	have, after, ok2 := strings.Cut(rest, pageEnd)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no example", page)
	}
	want := annotate(t)
	if have == want {
		return
	}
	if !*update {
		t.Fatalf("the example in %s is not what the code writes:\n%s", page, want)
	}
	if err := os.WriteFile(page, []byte(before+pageBegin+want+pageEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// annotate dumps the small graph, array by array.
func annotate(t *testing.T) string {
	g, _ := smallGraph(t)
	b, _ := g.AppendBinary(nil)
	l := layoutIn(t, g)
	var out strings.Builder
	// lines dumps the first bytes of every so many of an array.
	lines := func(title string, e extent, every, first int) {
		fmt.Fprintf(&out, "%s\n", title)
		for at := e.at; at < e.at+e.len; at += int64(every) {
			fmt.Fprintf(&out, "%5d  % x\n", at, b[at:min(at+int64(first), e.at+e.len)])
		}
	}
	dump := func(title string, e extent, perLine int) { lines(title, e, perLine, perLine) }
	width := 4 * g.width(0)
	dump("version, rows, M, entry, seats, upper lists, bytes of the codec, kind", extent{0, headerBytes}, 4)
	dump("codec", l.codec, bytesOfRow)
	lines("code of each row, the first bytes: the others are zero", l.codes, g.codes.Stride, bytesOfRow)
	dump("A and B of each row", l.meta, metaBytes)
	dump("links of each row", l.links, width)
	dump("used slots of each row", l.degree, bytesOfRow)
	dump("row of each seat", l.seatRow, bytesOfRow)
	dump("first upper list of each seat, and the number of lists", l.seatFirst, bytesOfRow)
	dump("upper lists", l.upper, 4*g.m)
	dump("used slots of each list", l.upperDegree, bytesOfRow)
	fmt.Fprintf(&out, "end at %d\n", l.size)
	return out.String()
}
