package filter

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// memory is a Source over a slice.
type memory []byte

func (m memory) Len() int { return len(m) }

func (m memory) Bytes(off, n int) ([]byte, error) {
	if off < 0 || n < 0 || off > len(m) || n > len(m)-off {
		return nil, fmt.Errorf("%d bytes at %d of %d", n, off, len(m))
	}
	return m[off : off+n : off+n], nil
}

// record is a row of the model.
type record struct {
	meta Metadata
	doc  *string
}

// gen draws values that collide often: equal numbers of both kinds, the edges
// of exact integers in floats, texts that share trigrams.
type gen struct{ *rand.Rand }

var (
	modelKeys  = []string{"a", "b", "", "日本", "a b"}
	modelInts  = []int64{0, 1, -1, 5, 1 << 53, 1<<53 + 1, -(1<<53 + 1), math.MaxInt64, math.MinInt64, 6}
	modelFloat = []float64{0, 1, -1, 5, 5.5, -5.5, 1 << 53, 1 << 63, -1 << 63, 1e300, 5e-324, math.Inf(1), math.NaN()}
	modelText  = []string{"", "x", "abc", "abcd", "naïve", "日本語", "1", "true", "\xff", "\xffabc"}
	modelRegex = []string{"", "abc", "a.c", "^x", "c$", "(abc|日本)", "[a-c]+", `\w{3}`, `\bcafé\b`, "(?i)ABC", "z", "a*", "ab?c", "(?:ab|cd)(?:c|d)"}
)

func pick[T any](g gen, list []T) T { return list[g.IntN(len(list))] }

func (g gen) scalar() Value {
	switch g.IntN(4) {
	case 0:
		return Bool(g.IntN(2) == 0)
	case 1:
		return Int(pick(g, modelInts))
	case 2:
		return Float(pick(g, modelFloat))
	}
	return String(pick(g, modelText))
}

func (g gen) value() Value {
	n := 1 + g.IntN(3)
	switch g.IntN(8) {
	case 0:
		return Ints(draw(g, n, modelInts)...)
	case 1:
		return Floats(draw(g, n, modelFloat)...)
	case 2:
		return Strings(draw(g, n, modelText)...)
	case 3:
		return Bools(draw(g, n, []bool{true, false})...)
	}
	return g.scalar()
}

func draw[T any](g gen, n int, list []T) []T {
	out := make([]T, n)
	for i := range out {
		out[i] = pick(g, list)
	}
	return out
}

func (g gen) record() record {
	var r record
	if g.IntN(8) > 0 {
		r.meta = Metadata{}
		for range g.IntN(4) {
			r.meta[pick(g, modelKeys)] = g.value()
		}
	}
	if g.IntN(5) > 0 {
		var doc strings.Builder
		for range g.IntN(5) {
			doc.WriteString(pick(g, []string{"abc", "x", "日本語", "é", " ", "café", "\xff", "cd", "b"}))
		}
		s := doc.String()
		r.doc = &s
	}
	return r
}

func (g gen) expr(depth int) *Expr {
	if depth > 0 && g.IntN(3) == 0 {
		kids := make([]*Expr, g.IntN(4))
		for i := range kids {
			kids[i] = g.expr(depth - 1)
		}
		switch g.IntN(5) {
		case 0, 1:
			return And(kids...)
		case 2:
			key := pick(g, modelKeys)
			return And(append(kids, Gt(key, g.scalar()), Lte(key, g.scalar()), Gte(key, Int(-1)))...)
		}
		return Or(kids...)
	}
	key := pick(g, modelKeys)
	switch g.IntN(14) {
	case 0:
		return Eq(key, g.value())
	case 1:
		return Ne(key, g.scalar())
	case 2:
		return Gt(key, g.scalar())
	case 3:
		return Gte(key, g.scalar())
	case 4:
		return Lt(key, g.scalar())
	case 5:
		return Lte(key, g.scalar())
	case 6, 7:
		values := make([]Value, g.IntN(5))
		for i := range values {
			values[i] = g.scalar()
		}
		if g.IntN(2) == 0 {
			return In(key, values...)
		}
		return Nin(key, values...)
	case 8:
		return Contains(key, g.scalar())
	case 9:
		return NotContains(key, g.scalar())
	case 10:
		return DocumentContains(pick(g, modelText) + pick(g, []string{"", "", "abc", "é"}))
	case 11:
		return DocumentNotContains(pick(g, modelText))
	case 12:
		e, err := DocumentRegex(pick(g, modelRegex))
		if err != nil {
			panic(err)
		}
		return e
	}
	e, err := DocumentNotRegex(pick(g, modelRegex))
	if err != nil {
		panic(err)
	}
	return e
}

func build(t testing.TB, records []record) []byte {
	t.Helper()
	b := NewBuilder()
	for row, r := range records {
		b.Add(uint32(row), r.meta, r.doc)
	}
	data, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func docsOf(records []record) Docs {
	return func(row uint32) (string, bool, error) {
		if records[row].doc == nil {
			return "", false, nil
		}
		return *records[row].doc, true, nil
	}
}

// compareModel evaluates e over the index and row by row.
func compareModel(t *testing.T, ix *Index, e *Expr, records []record) {
	t.Helper()
	got, err := ix.Eval(context.Background(), e, docsOf(records))
	if err != nil {
		t.Fatal(err)
	}
	want := []uint32{}
	for row, r := range records {
		if e.Match(r.meta, r.doc) {
			want = append(want, uint32(row))
		}
	}
	if !slices.Equal(got.ToArray(), want) {
		t.Fatalf("%s: index says %v, row by row %v", describe(e), got.ToArray(), want)
	}
}

// describe prints an expression for failures.
func describe(e *Expr) string {
	if e == nil {
		return "everything"
	}
	var kids []string
	for _, kid := range e.kids {
		kids = append(kids, describe(kid))
	}
	return fmt.Sprintf("{op %d not %t key %q vals %v text %q kids %v}", e.op, e.not, e.key, e.vals, e.text, kids)
}

// An index must answer every expression as Match does for each row, and equal
// rows must give equal bytes.
func TestIndexAgainstMatch(t *testing.T) {
	for seed := range uint64(1500) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			g := gen{rand.New(rand.NewPCG(seed, 1))}
			records := make([]record, g.IntN(200))
			if seed%100 == 0 {
				// Enough rows for bitmap postings and common trigrams.
				records = make([]record, 3000)
			}
			for i := range records {
				records[i] = g.record()
			}
			data := build(t, records)
			if !bytes.Equal(data, build(t, records)) {
				t.Fatal("same rows, other bytes")
			}
			ix, err := OpenIndex(memory(data), uint32(len(records)))
			if err != nil {
				t.Fatal(err)
			}
			for range 20 {
				compareModel(t, ix, g.expr(3), records)
			}
		})
	}
}
