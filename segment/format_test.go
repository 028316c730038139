package segment

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"os"
	"strings"
	"testing"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// TestFormatExample keeps the example in the documentation and the bytes the
// same.
func TestFormatExample(t *testing.T) {
	const page = "../docs/format/segment.md"
	rows := []Row{
		{Order: 7, ID: "apple", Vector: []float32{3, 4}, Metadata: filter.Metadata{"red": filter.Bool(true)}, Document: ptr("a fruit")},
		{Order: 9, ID: "pear", Vector: []float32{0, 0}},
	}
	fs := faultfs.New(1)
	mustWrite(t, fs, seal.Plain(), testSpec(5, 2, kernel.Cosine), rows)
	got := "<!-- example -->\n```\n" + annotated(t, content(t, fs, Name(5))) + "```\n"

	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(b), "<!-- example -->\n")
	old, after, ok2 := strings.Cut(rest, "<!-- /example -->")
	if !ok1 || !ok2 {
		t.Fatal("the page has no place for the example")
	}
	if *update {
		if err := os.WriteFile(page, []byte(before+got+"<!-- /example -->"+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if "<!-- example -->\n"+old != got {
		t.Errorf("%s shows other bytes than are written:\n%s", page, got)
	}
}

var sectionNames = map[uint16]string{
	sectionVectors: "vectors", sectionNorms: "norms", sectionOrders: "orders",
	sectionIDEnds: "id ends", sectionIDs: "ids", sectionIDTable: "id table",
	sectionMetadataEnds: "metadata ends", sectionMetadata: "metadata",
	sectionDocumentEnds: "document ends", sectionDocumentBlocks: "document blocks", sectionDocuments: "documents",
	sectionURIEnds: "URI ends", sectionURIBlocks: "URI blocks", sectionURIs: "URIs",
	sectionFilter: "filter", sectionGraph: "graph", sectionProperties: "properties", sectionBytes: "vectors in bytes",
}

// annotated draws the sections of a plain file.
func annotated(t *testing.T, file []byte) string {
	t.Helper()
	var out strings.Builder
	le := binary.LittleEndian
	table := file[le.Uint64(file[len(file)-32:]):]
	for i := range int(le.Uint32(table)) {
		e := table[16+32*i:]
		kind, length, offset := le.Uint16(e), le.Uint64(e[8:]), le.Uint64(e[16:])
		name, ok := sectionNames[kind]
		if !ok {
			t.Fatalf("section %d has no name", kind)
		}
		if kind == sectionFilter { // whose page has an example of its own
			fmt.Fprintf(&out, "section %d: %s\n", kind, name)
			continue
		}
		fmt.Fprintf(&out, "section %d: %s, %d bytes\n", kind, name, length)
		for b := file[offset : offset+length]; len(b) > 0; {
			n, note := field(kind, b, int(length)-len(b))
			out.WriteString(strings.TrimRight(fmt.Sprintf("  %-48s%s", fmt.Sprintf("% x", b[:n]), note), " ") + "\n")
			b = b[n:]
		}
	}
	return out.String()
}

// field is how many bytes of b, which stands at off in its section, belong on
// one line, and what they mean.
func field(kind uint16, b []byte, off int) (int, string) {
	le := binary.LittleEndian
	switch kind {
	case sectionVectors:
		if off%64 >= 8 {
			return pad(64 - off%64), "padding"
		}
		return 4, fmt.Sprint(math.Float32frombits(le.Uint32(b)))
	case sectionNorms:
		return 4, fmt.Sprintf("1/length = %v", math.Float32frombits(le.Uint32(b)))
	case sectionOrders:
		return 8, fmt.Sprint("order ", le.Uint64(b))
	case sectionIDEnds, sectionMetadataEnds, sectionDocumentBlocks:
		return 8, fmt.Sprint("end ", le.Uint64(b))
	case sectionDocumentEnds:
		return 8, fmt.Sprintf("end %d, present %d", le.Uint64(b)>>1, le.Uint64(b)&1)
	case sectionIDTable:
		slot := le.Uint32(b)
		if slot == 0 {
			return 4, "free"
		}
		width := bits.Len32(2)
		return 4, fmt.Sprintf("row %d, tag %x", slot&(1<<width-1)-1, slot>>width)
	case sectionIDs, sectionDocuments:
		n := min(len(b), 16)
		return n, fmt.Sprintf("%q", b[:n])
	case sectionProperties:
		names := []struct {
			size int
			name string
		}{{4, "dimension"}, {4, "rows"}, {8, "metric"}, {8, "first order"}, {8, "last order"}, {8, "bytes of documents"},
			{8, "bytes of URIs"}, {4, "M"}, {4, "efConstruction"}, {8, "seed of the graph"}}
		for _, f := range names {
			if off == 0 {
				var v [8]byte
				copy(v[:], b[:f.size])
				return f.size, fmt.Sprintf("%s %d", f.name, le.Uint64(v[:]))
			}
			off -= f.size
		}
	}
	return min(len(b), 16), ""
}

// pad is how much of n bytes of padding goes on a line.
func pad(n int) int {
	if n%16 != 0 {
		return n % 16
	}
	return 16
}
