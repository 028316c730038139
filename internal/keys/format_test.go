package keys

import (
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/cryptotest"

	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

var update = flag.Bool("update", false, "rewrite the examples in docs/format/keys.md")

const formatPage = "../../docs/format/keys.md"

// examples are the files on the page, by the name of their markers.
var examples = []struct{ mark, file string }{
	{"keyset", keysetOne}, {"key", Dir + "/" + docsKey}, {"own", Dir + "/" + ownKey},
}

// TestFormatExample keeps the page about the format true: its examples are
// real files, taken apart field by field. A new version of Go or Tink may draw
// its random bytes in another order; -update then changes those and nothing
// else.
func TestFormatExample(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	fsys := faultfs.New(1)
	mustCreate(t, fsys, "example", docs)
	page := readPage(t)
	for _, e := range examples {
		b, err := fsys.Content(e.file)
		if err != nil {
			t.Fatal(err)
		}
		begin, end := marks(e.mark)
		head, rest, ok := strings.Cut(page, begin)
		_, tail, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 {
			t.Fatalf("%s: the markers of %s are gone", formatPage, e.mark)
		}
		page = head + begin + "```\n" + dissect(t, b) + "```\n" + end + tail
	}
	if page == readPage(t) {
		return
	}
	if !*update {
		t.Fatalf("%s does not show the format as it is; see -update\n%s", formatPage, page)
	}
	if err := os.WriteFile(formatPage, []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestFormatExampleOpens: the bytes on the page are a store's keys, whatever
// this version would write today.
func TestFormatExampleOpens(t *testing.T) {
	fsys := faultfs.New(1)
	if err := fsys.Mkdir(Dir); err != nil {
		t.Fatal(err)
	}
	page := readPage(t)
	line := regexp.MustCompile(`(?m)^ *[0-9]+  (?:00 × ([0-9]+)|([0-9a-f]+))(?: |$)`)
	for _, e := range examples {
		begin, end := marks(e.mark)
		_, rest, _ := strings.Cut(page, begin)
		text, _, _ := strings.Cut(rest, end)
		var b []byte
		for _, m := range line.FindAllStringSubmatch(text, -1) {
			p, err := hex.DecodeString(m[2])
			if m[1] != "" {
				var n int
				_, err = fmt.Sscan(m[1], &n)
				p = make([]byte, min(n, 1000))
			}
			if err != nil {
				t.Fatal(err)
			}
			b = append(b, p...)
		}
		f, err := fsys.Create(e.file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(b); err != nil || f.Close() != nil {
			t.Fatal(err)
		}
	}
	r := mustOpen(t, fsys, "example")
	for _, id := range []seal.ID{{}, docs} {
		mustRead(t, r, mustWrite(t, r, addressIn(id, 1)))
	}
}

func marks(name string) (begin, end string) {
	return "<!-- begin " + name + ": go test ./internal/keys -run TestFormatExample -update -->\n", "<!-- end " + name + " -->"
}

func readPage(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(formatPage)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

// dissection prints a file front to back; a byte that no line explains is an
// error.
type dissection struct {
	b   []byte
	at  int
	out strings.Builder
}

// field prints the next n bytes, sixteen a line.
func (d *dissection) field(n int, what string, args ...any) {
	what = fmt.Sprintf(what, args...)
	for end := d.at + n; d.at < end; {
		k := min(16, end-d.at)
		fmt.Fprintf(&d.out, "%s\n", strings.TrimRight(fmt.Sprintf("%4d  %-32x  %s", d.at, d.b[d.at:d.at+k], what), " "))
		d.at += k
		what = ""
	}
}

// zeros prints zero bytes in one line, however many they are.
func (d *dissection) zeros(t *testing.T, n int, what string) {
	for _, c := range d.b[d.at : d.at+n] {
		if c != 0 {
			t.Fatalf("%s at %d is not zero", what, d.at)
		}
	}
	if n > 0 {
		fmt.Fprintf(&d.out, "%4d  %-32s  %s\n", d.at, fmt.Sprintf("00 × %d", n), what)
	}
	d.at += n
}

func (d *dissection) title(s string) { fmt.Fprintf(&d.out, "\n      -- %s\n", s) }

// length prints a length and returns it.
func (d *dissection) length(what string) int {
	n, size := binary.Uvarint(d.b[d.at:])
	d.field(size, "%s %d", what, n)
	return int(n)
}

func dissect(t *testing.T, b []byte) string {
	t.Helper()
	d := &dissection{b: b}
	kind, number := binary.LittleEndian.Uint16(b[10:]), binary.LittleEndian.Uint64(b[64:])
	table := int(binary.LittleEndian.Uint64(b[len(b)-32:]))

	fmt.Fprintf(&d.out, "      -- header\n")
	d.field(8, "magic %q", b[:8])
	d.field(2, "version %d", b[8])
	d.field(2, "kind %d", kind)
	d.field(4, "key id %d: not encrypted by the file", b[12])
	d.field(16, "store id")
	d.field(16, "collection id")
	d.field(16, "file id")
	d.field(8, "number %d", number)
	d.zeros(t, 48, "reserved")
	d.field(8, "xxhash64 of bytes 0..119")
	d.title("section")
	if seal.Kind(kind) == seal.KindKeyset {
		d.field(4, "flags %d", b[d.at])
		n := d.length("URI: length")
		d.field(n, "%q", b[d.at:d.at+n])
		n = d.length("sealed: length")
		d.field(n, "by the operator's key")
	} else {
		d.field(1, "Tink's mark")
		d.field(4, "key %d of the keyset wraps it", binary.BigEndian.Uint32(b[d.at:]))
		d.field(12, "nonce")
		d.field(32, "data key, encrypted")
		d.field(16, "tag")
	}
	d.zeros(t, table-d.at, "padding")
	d.title("table and footer, as in file.md")
	d.field(len(b)-32-table, "table: one section, one block")
	d.field(32, "footer")
	if d.at != len(b) {
		t.Fatalf("%d bytes of %d are explained", d.at, len(b))
	}
	return d.out.String()
}
