package filter

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the example in docs/format/filter.md")

const formatPage = "../docs/format/filter.md"

// dump prints bytes with what they are.
type dump struct {
	data []byte
	out  strings.Builder
	at   int
}

func (d *dump) line(n int, format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	for first := true; n > 0 || first; first = false {
		k := min(n, 16)
		line := fmt.Sprintf("%4d  %-33s %s", d.at, hex.EncodeToString(d.data[d.at:d.at+k]), what)
		fmt.Fprintln(&d.out, strings.TrimRight(line, " "))
		d.at += k
		n -= k
		what = ""
	}
}

// text prints the whole index. It reads the parts in the order in which they
// lie, and fails when a table says they lie elsewhere.
func (d *dump) text(t *testing.T) string {
	h, err := decodeHead(d.data)
	if err != nil {
		t.Fatal(err)
	}
	here := func(off uint64, what string) {
		if int(off) != d.at {
			t.Fatalf("%s at %d, expected at %d", what, off, d.at)
		}
	}
	d.line(4, "version %d", indexVersion)
	d.line(4, "rows %d", h.rows)
	d.line(4, "fields %d", h.fields)
	d.line(4, "trigrams %d", h.trigrams)
	d.line(8, "field table at %d", h.fieldOff)
	d.line(8, "trigram table at %d", h.gramOff)
	d.line(8, "documents at %d", h.docOff)
	d.line(8, "documents: %d bytes", h.docLen)
	d.line(16, "zero")
	d.line(int(h.docLen), "documents: bitmap {0}")
	for i := range h.trigrams {
		g := decodeGram(d.data[h.gramOff+uint64(i)*trigramSize:])
		here(g.off, "posting")
		d.line(int(g.length), "posting %d: row 0", i)
	}
	here(h.gramOff, "trigram table")
	for range h.trigrams {
		g := decodeGram(d.data[d.at:])
		d.line(4, "trigram %q, form %d", []byte{byte(g.key >> 16), byte(g.key >> 8), byte(g.key)}, g.form)
		d.line(4, "length %d", g.length)
		d.line(8, "posting at %d", g.off)
	}
	for i := range h.fields {
		f, err := decodeField(d.data[h.fieldOff+uint64(i)*fieldSize:])
		if err != nil {
			t.Fatal(err)
		}
		here(f.keyOff, "key")
		d.field(f)
	}
	here(h.fieldOff, "field table")
	for range h.fields {
		f, _ := decodeField(d.data[d.at:])
		d.line(8, "field table: key at %d", f.keyOff)
		d.line(4, "key length %d", f.keyLen)
		d.line(4, "kind %d", f.kind)
		d.line(4, "values %d", f.values)
		d.line(4, "listed %d", f.listed)
		d.line(4, "bitmaps %d", f.bitmaps)
		d.line(4, "zero")
		d.line(8, "text %d bytes", f.textLen)
		d.line(8, "body at %d", f.off)
	}
	if d.at != len(d.data) {
		t.Fatalf("%d bytes of %d explained", d.at, len(d.data))
	}
	return d.out.String()
}

func (d *dump) field(f field) {
	d.line(int(f.keyLen), "key %q", d.data[d.at:d.at+int(f.keyLen)])
	for i := range f.values {
		d.line(int(f.width()), "value %d of kind %d", i, f.kind)
	}
	if f.textLen > 0 {
		d.line(int(f.textLen), "text %q", d.data[d.at:d.at+int(f.textLen)])
	}
	d.line(int(f.values+1)*4, "starts")
	d.line(int(f.listed)*4, "rows")
}

// The page shows the bytes that the code writes.
func TestFormatExample(t *testing.T) {
	data := build(t, []record{
		{Metadata{"c": String("red"), "n": Int(5)}, text("abcd")},
		{meta: Metadata{"c": String("blue"), "n": Ints(5, 5)}},
		{meta: Metadata{"c": String("red"), "n": Float(7.5)}},
	})
	page, err := os.ReadFile(formatPage)
	if err != nil {
		t.Fatal(err)
	}
	begin, rest, found := strings.Cut(string(page), "<!-- example begins -->\n")
	old, end, closed := strings.Cut(rest, "<!-- example ends -->\n")
	if !found || !closed {
		t.Fatal("the page has no example")
	}
	d := dump{data: data}
	want := "```\n" + d.text(t) + "```\n"
	if old == want {
		return
	}
	if !*update {
		t.Fatalf("the page differs from the bytes; with -update it becomes\n%s", want)
	}
	page = []byte(begin + "<!-- example begins -->\n" + want + "<!-- example ends -->\n" + end)
	if err := os.WriteFile(formatPage, page, 0o644); err != nil {
		t.Fatal(err)
	}
}
