package filter

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// sample has every kind of value, bitmaps and lists, common and rare trigrams.
func sample(n int) []record {
	g := gen{rand.New(rand.NewPCG(42, 0))}
	records := make([]record, n)
	for i := range records {
		records[i] = g.record()
		if records[i].meta != nil {
			records[i].meta["even"] = Bool(i%2 == 0)
			records[i].meta["time"] = Int(int64(i) * 1000)
		}
	}
	return records
}

var sampleClauses = []*Expr{
	Eq("even", Bool(true)), Ne("even", Bool(true)), Gt("time", Int(2000)), Lte("time", Float(50_000.5)), Eq("a", Int(5)),
	In("a", Int(1), String("abc"), Float(5.5)), Contains("a", String("x")), DocumentContains("abc"), DocumentContains("日本語"),
	And(DocumentContains("x"), Eq("even", Bool(false))), Or(DocumentNotContains("caf"), Lt("b", Float(0))),
}

func sampleRegex(t testing.TB) *Expr {
	e, err := DocumentRegex(`(abc|日本).?x|\bcafé\b`)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// damaged evaluates clauses over bytes that may not be an index. Panics and
// rows out of range fail; wrong answers cannot be told.
func damaged(t *testing.T, data []byte, rows uint32) {
	t.Helper()
	ix, err := OpenIndex(memory(data), rows)
	if err != nil {
		return
	}
	docs := func(uint32) (string, bool, error) { return "abc x", true, nil }
	for _, e := range append([]*Expr{sampleRegex(t)}, sampleClauses...) {
		got, err := ix.Eval(context.Background(), e, docs)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error is not ErrCorrupt: %v", err)
			}
			continue
		}
		if !got.IsEmpty() && got.Maximum() >= rows {
			t.Fatalf("row %d of %d", got.Maximum(), rows)
		}
	}
	err = ix.Values(context.Background(), "a", func(_ Kind, _ Value, in []uint32) error {
		if len(in) > 0 && slices.Max(in) >= rows {
			t.Fatalf("rows %v of %d", in, rows)
		}
		return nil
	})
	if err != nil && !errors.Is(err, ErrCorrupt) {
		t.Fatalf("error is not ErrCorrupt: %v", err)
	}
}

func TestDamagedIndex(t *testing.T) {
	const n = 700
	data := build(t, sample(n))
	for size := 0; size < len(data); size += 1 + len(data)/300 {
		damaged(t, data[:size], n)
	}
	g := rand.New(rand.NewPCG(1, 2))
	for range 1500 {
		bad := append([]byte(nil), data...)
		for range 1 + g.IntN(3) {
			at := g.IntN(len(bad))
			if g.IntN(3) == 0 {
				at = g.IntN(headSize)
			}
			bad[at] ^= byte(1 << g.IntN(8))
		}
		damaged(t, bad, n)
	}
	// Rows that the segment does not have, just beyond its end.
	full := record{Metadata{"even": Bool(true), "time": Int(9e9), "a": Int(5), "b": Int(-1)}, text("abc 日本語 x")}
	for _, n := range []int{5, 700} {
		beyond := build(t, append(sample(n), full))
		binary.LittleEndian.PutUint32(beyond[4:], uint32(n))
		damaged(t, beyond, uint32(n))
	}
	// An index of more rows than the segment must not be opened.
	if _, err := OpenIndex(memory(data), n-1); !errors.Is(err, ErrCorrupt) {
		t.Errorf("too many rows: %v", err)
	}
}

// Long postings stand beside short ones, and each value's rows are its own.
func TestBitmapPostings(t *testing.T) {
	records := sample(3000)
	for i := range records {
		if records[i].meta != nil {
			records[i].meta["tens"] = Int(int64(i % 10))
			records[i].meta["mixed"] = Int(int64(i * i % 1000))
		}
	}
	ix := open(t, build(t, records), len(records))
	clauses := append([]*Expr{sampleRegex(t)}, sampleClauses...)
	for i := range int64(11) {
		clauses = append(clauses, Eq("tens", Int(i)), Gt("tens", Int(i)), And(Gte("mixed", Int(i*90)), Lt("mixed", Int(i*100))))
	}
	for _, e := range clauses {
		compareModel(t, ix, e, records)
	}
}

func FuzzIndex(f *testing.F) {
	f.Add(build(f, sample(300)), uint32(300))
	f.Add(build(f, nil), uint32(0))
	f.Add(make([]byte, headSize), uint32(10))
	f.Fuzz(func(t *testing.T, data []byte, rows uint32) { damaged(t, data, rows) })
}

// Rows after the last one added, and rows left out, have nothing.
func TestMissingRows(t *testing.T) {
	b := NewBuilder()
	b.Add(3, Metadata{"a": Int(1)}, nil)
	b.Add(7, nil, text("abc"))
	data, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	ix := open(t, data, 10)
	for want, e := range map[string]*Expr{
		"{3}": Eq("a", Int(1)), "{0,1,2,4,5,6,7,8,9}": Ne("a", Int(1)), "{7}": DocumentContains(""), "{}": Eq("b", Int(1)),
		"{0,1,2,3,4,5,6,7,8,9}": nil,
	} {
		got, err := ix.Eval(context.Background(), e, func(uint32) (string, bool, error) { return "abc", true, nil })
		if err != nil || got.String() != want {
			t.Errorf("%s gives %v, want %s (%v)", describe(e), got, want, err)
		}
	}
}

func TestBuilderRefusesDisorder(t *testing.T) {
	for _, order := range [][]uint32{{1, 0}, {1, 1}, {1<<32 - 1}} {
		b := NewBuilder()
		for _, row := range order {
			b.Add(row, Metadata{"a": Int(1)}, nil)
		}
		if _, err := b.Finish(); err == nil {
			t.Errorf("rows %v are accepted", order)
		}
	}
}

// The result is the caller's: it must not change with the index's bytes.
func TestResultDoesNotAlias(t *testing.T) {
	data := build(t, sample(2000))
	ix := open(t, data, 2000)
	got, err := ix.Eval(context.Background(), Eq("even", Bool(true)), nil)
	if err != nil {
		t.Fatal(err)
	}
	before := got.String()
	clear(data)
	if got.String() != before {
		t.Error("the result changed with the bytes of the index")
	}
}

// Errors of the text and the context come through, and only rows that pass
// the cheap conditions are read.
func TestVerification(t *testing.T) {
	records := make([]record, 1000)
	for i := range records {
		records[i] = record{Metadata{"i": Int(int64(i))}, text(fmt.Sprintf("number %d", i))}
	}
	ix := open(t, build(t, records), len(records))
	boom := errors.New("boom")
	if _, err := ix.Eval(context.Background(), DocumentContains("number"), func(uint32) (string, bool, error) { return "", false, boom }); !errors.Is(err, boom) {
		t.Errorf("error %v", err)
	}
	if _, err := ix.Eval(context.Background(), DocumentContains("number"), nil); err == nil {
		t.Error("no error without texts")
	}
	ctx, cancel := context.WithCancel(context.Background())
	read := 0
	_, err := ix.Eval(ctx, DocumentContains("number"), func(row uint32) (string, bool, error) {
		read++
		cancel()
		return *records[row].doc, true, nil
	})
	if !errors.Is(err, context.Canceled) || read > 100 {
		t.Errorf("%d texts read after the context ended, error %v", read, err)
	}
	for _, c := range []struct {
		e    *Expr
		read int
	}{
		{And(DocumentContains("number"), Lt("i", Int(10))), 10},
		{And(DocumentNotContains("number"), Lt("i", Int(10))), 10},
		{And(Or(DocumentContains("number"), DocumentContains("xyz")), Lt("i", Int(10))), 10},
		{DocumentContains("ber 77"), 11}, // 77, 770..779
		{DocumentContains("zzz"), 0},
	} {
		read = 0
		if _, err := ix.Eval(context.Background(), c.e, func(row uint32) (string, bool, error) {
			read++
			return *records[row].doc, true, nil
		}); err != nil || read > c.read {
			t.Errorf("%s reads %d texts, want %d at most (%v)", describe(c.e), read, c.read, err)
		}
	}
}

func benchRecords(n int) []record {
	g := rand.New(rand.NewPCG(3, 4))
	words := strings.Fields("the quick brown fox jumps over a lazy dog while seven wizards mix potions of quartz and jade under black sphinx vows")
	records := make([]record, n)
	for i := range records {
		var doc strings.Builder
		for range 40 {
			doc.WriteString(words[g.IntN(len(words))])
			doc.WriteByte(' ')
		}
		fmt.Fprintf(&doc, "order %d", i)
		records[i] = record{Metadata{
			"color": String([]string{"red", "green", "blue", "black"}[g.IntN(4)]), "time": Int(1_700_000_000 + g.Int64N(1e9)),
			"price": Float(g.Float64() * 100), "sku": String(fmt.Sprint("sku-", i)), "sale": Bool(g.IntN(10) == 0),
		}, text(doc.String())}
	}
	return records
}

func BenchmarkEval(b *testing.B) {
	const n = 100_000
	records := benchRecords(n)
	data := build(b, records)
	b.Logf("%d rows, index of %d bytes", n, len(data))
	ix := open(b, data, n)
	regex, err := DocumentRegex(`(?i)order 777\d\d`)
	if err != nil {
		b.Fatal(err)
	}
	scan, err := DocumentRegex(`\d{6}$`)
	if err != nil {
		b.Fatal(err)
	}
	for name, e := range map[string]*Expr{
		"equal few":      Eq("sku", String("sku-777")),
		"equal quarter":  Eq("color", String("red")),
		"not equal":      Ne("color", String("red")),
		"range thousand": And(Gte("time", Int(1_700_000_000)), Lt("time", Int(1_710_000_000))),
		"range half":     Lt("price", Float(50)),
		"absent":         Eq("nobody", Int(1)),
		"in thousand":    In("sku", manyTexts(1000)...),
		"contains rare":  DocumentContains("order 7777"),
		"regex rare":     regex,
		"regex scan":     scan,
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := ix.Eval(context.Background(), e, docsOf(records)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func manyTexts(n int) []Value {
	var out []Value
	for i := range n {
		out = append(out, String(fmt.Sprint("sku-", i*50)))
	}
	return out
}

func BenchmarkBuild(b *testing.B) {
	records := benchRecords(20_000)
	for b.Loop() {
		build(b, records)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(records)), "ns/row")
}

// Values has each value of each record once, and no other.
func TestValues(t *testing.T) {
	records := sample(3000)
	ix := open(t, build(t, records), len(records))
	for _, key := range []string{"a", "even", "time", "日本", "nowhere"} {
		got := map[uint32][]string{}
		err := ix.Values(t.Context(), key, func(kind Kind, v Value, rows []uint32) error {
			for _, row := range rows {
				got[row] = append(got[row], fmt.Sprint(kind.IsArray(), v.Kind(), v))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for row, r := range records {
			var want []string
			v := r.meta[key]
			switch {
			case v.Kind().IsArray():
				for _, w := range elements(v) {
					want = append(want, fmt.Sprint(true, w.Kind(), w))
				}
			case !v.IsNull() && !(v.Kind() == KindFloat && v.AsFloat() != v.AsFloat()):
				want = append(want, fmt.Sprint(false, v.Kind(), v))
			}
			slices.Sort(want)
			slices.Sort(got[uint32(row)])
			if !slices.Equal(slices.Compact(want), got[uint32(row)]) {
				t.Fatalf("%s of row %d: %v, want %v", key, row, got[uint32(row)], want)
			}
		}
	}
}

func elements(v Value) (out []Value) {
	for _, x := range v.AsBools() {
		out = append(out, Bool(x))
	}
	for _, x := range v.AsInts() {
		out = append(out, Int(x))
	}
	for _, x := range v.AsFloats() {
		if x == x {
			out = append(out, Float(x))
		}
	}
	for _, x := range v.AsStrings() {
		out = append(out, String(x))
	}
	return out
}
