package disk_test

import (
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

var update = flag.Bool("update", false, "rewrite the example in docs/format/file.md")

const formatPage = "../../docs/format/file.md"

// TestFormatExample keeps the page about the format true: its examples are
// real files, taken apart field by field.
func TestFormatExample(t *testing.T) {
	b, err := os.ReadFile(formatPage)
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for _, c := range []struct {
		mark string
		keys testKeys
	}{{"example", seal.Plain()}, {"sealed example", newGCM(t)}} {
		fsys := faultfs.New(1)
		_, err := disk.WriteFile(fsys, "f", header(), c.keys, writeTo([]part{
			{1, 64, []byte(strings.Repeat("0123456789", 7))},
			{2, 128, []byte("hello")},
		}))
		if err != nil {
			t.Fatal(err)
		}
		file, err := fsys.Content("f")
		if err != nil {
			t.Fatal(err)
		}
		begin := "<!-- begin " + c.mark + ": go test ./internal/disk -run TestFormatExample -update -->\n"
		head, rest, ok := strings.Cut(page, begin)
		_, tail, ok2 := strings.Cut(rest, "<!-- end "+c.mark+" -->")
		if !ok || !ok2 {
			t.Fatalf("%s: the markers of the %s are gone", formatPage, c.mark)
		}
		page = head + begin + "```\n" + dissect(t, file, c.keys) + "```\n<!-- end " + c.mark + " -->" + tail
	}
	if page == string(b) {
		return
	}
	if !*update {
		t.Fatalf("%s does not show the format as it is; see -update\n%s", formatPage, page)
	}
	if err := os.WriteFile(formatPage, []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
}

// dissection prints a file front to back; a byte that no line explains is an
// error.
type dissection struct {
	t   *testing.T
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

func (d *dissection) number(n int, what string) uint64 {
	var raw [8]byte
	copy(raw[:], d.b[d.at:d.at+n])
	v := binary.LittleEndian.Uint64(raw[:])
	d.field(n, "%s %d", what, v)
	return v
}

// zeros prints zero bytes in one line, however many they are.
func (d *dissection) zeros(n int, what string) {
	if n == 0 {
		return
	}
	for _, c := range d.b[d.at : d.at+n] {
		if c != 0 {
			d.t.Fatalf("%s at %d is not zero", what, d.at)
		}
	}
	fmt.Fprintf(&d.out, "%4d  %-32s  %s\n", d.at, fmt.Sprintf("00 × %d", n), what)
	d.at += n
}

func (d *dissection) title(s string) { fmt.Fprintf(&d.out, "\n      -- %s\n", s) }

func dissect(t *testing.T, b []byte, s testKeys) string {
	d := &dissection{t: t, b: b}
	foot := b[len(b)-32:]
	at := int(binary.LittleEndian.Uint64(foot))
	h := header()
	table, err := s.Open(nil, b[at:len(b)-32], h.Address(1<<63), b[:disk.HeaderSize])
	if s.Overhead() == 0 {
		table, err = b[at:len(b)-32], nil
	}
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&d.out, "      -- header\n")
	d.field(8, "magic %q", b[:8])
	d.number(2, "version")
	d.number(2, "kind (segment)")
	d.number(4, "key id")
	d.field(16, "store id")
	d.field(16, "collection id")
	d.field(16, "file id")
	d.number(8, "number")
	d.number(4, "shard")
	d.zeros(44, "reserved")
	d.field(8, "xxhash64 of bytes 0..119")
	d.sections(table, h, s)
	d.zeros(at-d.at, "padding")
	if s.Overhead() > 0 {
		d.title("sealed table")
		d.field(len(table)+s.Overhead(), "table, encrypted, and 16 bytes of tag")
		inner := &dissection{t: t, b: table}
		inner.out.WriteString("\n      -- what is in it\n")
		inner.table()
		d.out.WriteString(inner.out.String())
	} else {
		d.title("table")
		d.table()
	}
	d.title("footer")
	d.number(8, "offset of the table")
	d.number(8, "length of the table")
	d.field(8, "root: xxhash64 of header and table")
	d.field(8, "magic %q", b[d.at:d.at+8])
	if d.at != len(b) {
		t.Fatalf("%d bytes of %d are explained", d.at, len(b))
	}
	return d.out.String()
}

// sections prints the blocks that a table names.
func (d *dissection) sections(table []byte, h disk.Header, s testKeys) {
	for i := range int(binary.LittleEndian.Uint32(table)) {
		e := table[16+32*i:]
		offset, length := int(binary.LittleEndian.Uint64(e[16:])), int(binary.LittleEndian.Uint64(e[8:]))
		size, block := int(binary.LittleEndian.Uint32(e[4:])), int(binary.LittleEndian.Uint64(e[24:]))
		d.zeros(offset-d.at, "padding")
		d.title(fmt.Sprintf("section of kind %d", binary.LittleEndian.Uint16(e)))
		for ; length > 0; block++ {
			n := min(size, length)
			plain, err := s.Open(nil, d.b[d.at:d.at+n+s.Overhead()], h.Address(uint64(block)), nil)
			if err != nil {
				d.t.Fatal(err)
			}
			d.field(n+s.Overhead(), "block %d: %q", block, plain)
			length -= n
		}
	}
}

func (d *dissection) table() {
	count := d.number(4, "sections")
	d.number(4, "overhead of a sealed block")
	blocks := d.number(8, "blocks")
	for range count {
		d.number(2, "kind")
		d.zeros(2, "reserved")
		d.number(4, "block size")
		d.number(8, "plain length")
		d.number(8, "offset")
		d.number(8, "first block")
	}
	for i := range blocks {
		d.field(8, "checksum of block %d", i)
	}
}
