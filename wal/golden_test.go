package wal

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

var update = flag.Bool("update", false, "rewrite the golden files and the example of the format page")

// TestTraces compares the file operations of each action with a reviewed text:
// a rename or removal without the sync that has to follow shows in the diff.
func TestTraces(t *testing.T) {
	fs := faultfs.New(1)
	var l *Log
	open := func(from uint64, o Options) func() error {
		return func() (err error) {
			if l, err = Open(fs, Position{Seq: from}, o); err != nil {
				return err
			}
			for _, err := range l.Replay() {
				if err != nil {
					return err
				}
			}
			return nil
		}
	}
	commit := func(n int) func() error {
		return func() error {
			_, err := l.Commit(context.Background(), make([]byte, n))
			return err
		}
	}
	full := func() error {
		fs.Budget(fs.Used() + 30)
		err := commit(100)()
		fs.Budget(-1)
		if !errors.Is(err, ErrRefused) {
			return fmt.Errorf("full: %v", err)
		}
		return nil
	}
	for _, a := range []struct {
		name string
		do   func() error
	}{
		{"open-empty", open(1, Options{MaxFile: 500})},
		{"append", commit(100)},
		{"append-full", full},
		{"rotate", func() error { return l.Rotate() }},
		{"append-large", commit(400)},
		{"append-rotates", commit(100)},
		{"release", func() error { return l.Release(Position{Seq: 3}) }},
		{"close", func() error { return l.Close() }},
		{"open-read-only", open(3, Options{ReadOnly: true})},
		{"open-again", open(3, Options{})},
		{"close-again", func() error { return l.Close() }},
		{"open-epoch", open(3, Options{Epoch: 1})},
		{"close-epoch", func() error { return l.Close() }},
	} {
		fs.ClearTrace()
		if err := a.do(); err != nil {
			t.Fatalf("%s: %v", a.name, err)
		}
		golden(t, filepath.Join("testdata", a.name+".trace"), strings.Join(append(fs.Trace(), ""), "\n"))
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n%s\nwant\n%s", file, got, want)
	}
}

// note is a run of bytes of the example, and what it means.
type note struct {
	size int
	text string
}

// TestFormatExample compares the example of the format page with the bytes
// that the log writes.
func TestFormatExample(t *testing.T) {
	fs := faultfs.New(1)
	o := Options{Store: seal.ID{0x51}, Epoch: 2, NewID: func() seal.ID { return seal.ID{0xf1, 0x1e} }}
	l, err := Open(fs, Position{}, o)
	if err != nil {
		t.Fatal(err)
	}
	replayAll(t, l)
	l.mu.Lock()
	for _, p := range []string{"hello", "log"} {
		l.queue.add([]byte(p), func(_ Position, err error) {
			if err != nil {
				t.Error(err)
			}
		})
		l.pending++
	}
	l.mu.Unlock()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	b := content(t, fs, fileName(1))
	var s strings.Builder
	at := 0
	for _, n := range []note{
		{8, "magic"}, {2, "version 1"}, {2, "kind 1: log"}, {4, "key 0: none"},
		{16, "store"}, {16, "collection: none"}, {16, "file"}, {8, "number 1"},
		{disk.HeaderSize - 80, "reserved"}, {8, "checksum of the header"},
		{8, "epoch 2"}, {8, "begins with entry 1"}, {8, "chain: no frame before"}, {8, "checksum of the prelude"},
		{4, "frame magic"}, {4, "length of the body: 10"}, {8, "frame 1"}, {8, "first entry 1"},
		{4, "2 entries"}, {4, "spare"}, {8, "checksum before: the prelude's"}, {8, "checksum of the frame's header"},
		{6, "entry 1: 5 bytes, hello"}, {4, "entry 2: 3 bytes, log"}, {8, "checksum of the frame"},
	} {
		annotate(&s, at, b[at:at+n.size], n.text)
		at += n.size
	}
	if at != len(b) {
		t.Errorf("%d bytes explained, the file has %d", at, len(b))
	}
	const page, begin, end = "../docs/format/wal.md", "<!-- example -->\n```\n", "```\n<!-- /example -->"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatal("the page has no markers")
	}
	golden(t, page, before+begin+s.String()+end+after)
}

// annotate writes bytes, 8 in a line; of equal lines only the first.
func annotate(s *strings.Builder, at int, b []byte, text string) {
	for i := 0; i < len(b); i += 8 {
		line := b[i:min(i+8, len(b))]
		if i >= 16 && string(line) == string(b[i-8:i]) {
			continue
		}
		fmt.Fprintf(s, "%s\n", strings.TrimRight(fmt.Sprintf("%4d  %-24s %s", at+i, fmt.Sprintf("% x", line), text), " "))
		text = ""
	}
}

// TestSealedFrame opens a frame with nothing but what the format page says.
func TestSealedFrame(t *testing.T) {
	keys := newSealed()
	o := Options{Store: seal.ID{1}, Keys: keys}
	fs := shelf(t, o)
	b := content(t, fs, fileName(2))
	h, err := disk.DecodeHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	open := func(from, to int, block uint64, more []byte) []byte {
		address, _ := h.Address(block).AppendBinary(nil)
		plain, err := keys.aead.Open(nil, b[from:from+12], b[from+12:to], append(address, more...))
		if err != nil {
			t.Fatalf("block %d: %v", block, err)
		}
		return plain
	}
	const start, frame, body = 128, 128 + 24 + 28 + 8, 8 + 28
	begin := open(start, frame-8, 0, b[:128])
	if seq := binary.LittleEndian.Uint64(begin[8:]); seq != 4 || len(begin) != 24 {
		t.Errorf("the file begins with entry %d: %x", seq, begin)
	}
	if got := open(frame+48, frame+48+body, 1, b[frame:frame+40]); string(got) != "\x07entry 4" {
		t.Errorf("%q", got)
	}
}
