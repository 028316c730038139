package engine

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// A thief has a copy of an encrypted store. He reads it by docs/format and the
// tables of docs/security.md alone, without any code of ours that seals or
// opens; what he learns of the operator's key is what a test gives him. So he
// can tell which bytes are in the clear, and whether the pages are true.
type thief struct {
	t      testing.TB
	fs     *faultfs.FS
	op     OperatorKey         // nil: he has the disk alone
	bound  map[string][]string // what is sealed: the fields of its associated data
	keyset map[uint32][]byte   // keys of the keyset by their id
	data   map[dataID][]byte
	files  map[seal.Address][]byte // file keys by the address of block 0, not for two generations
}

type dataID struct {
	collection seal.ID
	generation uint32
}

// piece is a run of stored bytes that is one thing.
type piece struct {
	what   string // as the page names it
	file   string
	stored []byte
	key    []byte // nil: in the clear, or the thief has no key for it
	sealed bool
	plain  []byte
}

// pageTable reads a table of a page between two markers: the cells of its rows.
func pageTable(t testing.TB, page, marker string) (rows [][]string) {
	t.Helper()
	b, err := os.ReadFile(page)
	check(t, err)
	_, text, ok := strings.Cut(string(b), "<!-- begin "+marker+" -->")
	text, _, end := strings.Cut(text, "<!-- end "+marker+" -->")
	if !ok || !end {
		t.Fatalf("%s has no table %q", page, marker)
	}
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.Trim(line, "| \n"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if len(cells) > 1 {
			rows = append(rows, cells)
		}
	}
	if len(rows) < 3 {
		t.Fatalf("%s: table %q has %d lines", page, marker, len(rows))
	}
	return rows[2:]
}

const securityPage = "../docs/security.md"

func newThief(t testing.TB, fs *faultfs.FS, op OperatorKey) *thief {
	th := &thief{
		t: t, fs: fs, op: op, bound: map[string][]string{},
		keyset: map[uint32][]byte{}, data: map[dataID][]byte{}, files: map[seal.Address][]byte{},
	}
	for _, row := range pageTable(t, securityPage, "associated data") {
		th.bound[row[0]] = strings.Split(row[2], ", ")
	}
	return th
}

// values are the fields that associated data may have.
type values struct {
	disk.Header
	block        uint64
	flags        uint32
	uri          string
	header, head []byte
	op           byte
}

// associated puts the fields of the page's row together.
func (th *thief) associated(what string, v values) (b []byte) {
	fields := th.bound[what]
	if fields == nil {
		th.t.Fatalf("%s does not say what %q is bound to", securityPage, what)
	}
	le := binary.LittleEndian
	for _, f := range fields {
		switch f {
		case "store":
			b = append(b, v.Store[:]...)
		case "collection":
			b = append(b, v.Collection[:]...)
		case "file", "session":
			b = append(b, v.File[:]...)
		case "kind":
			b = le.AppendUint16(b, uint16(v.Kind))
		case "version":
			b = le.AppendUint16(b, v.Version)
		case "block":
			b = le.AppendUint64(b, v.block)
		case "number":
			b = le.AppendUint64(b, v.Number)
		case "flags":
			b = le.AppendUint32(b, v.flags)
		case "URI":
			b = append(b, v.uri...)
		case "header":
			b = append(b, v.header...)
		case "head":
			b = append(b, v.head...)
		case "operation":
			b = append(b, v.op)
		default:
			text, err := strconv.Unquote(strings.Trim(f, "`"))
			if err != nil {
				th.t.Fatalf("%s: %q is bound to %q", securityPage, what, f)
			}
			b = append(b, text...)
		}
	}
	return b
}

// open makes a piece of stored bytes: nonce, content, tag.
func (th *thief) open(what, file string, key, stored []byte, v values) piece {
	th.t.Helper()
	p := piece{what: what, file: file, stored: stored, sealed: true, key: key}
	if key == nil {
		return p
	}
	plain, err := unseal(key, stored, th.associated(what, v))
	if err != nil {
		th.t.Fatalf("%s: %s is not bound to %s: %v", file, what, th.bound[what], err)
	}
	p.plain = plain
	return p
}

func unseal(key, stored, associated []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	if len(stored) < 28 {
		return nil, fmt.Errorf("%d bytes", len(stored))
	}
	return gcm.Open(nil, stored[:12], stored[12:], associated)
}

// fileKey derives the key of a file, nil when the data key is not known.
func (th *thief) fileKey(h disk.Header) []byte {
	data := th.data[dataID{h.Collection, h.KeyID}]
	if data == nil {
		return nil
	}
	info := append([]byte("chromad file key v1"), h.Store[:]...)
	info = append(info, h.Collection[:]...)
	info = binary.LittleEndian.AppendUint16(info, uint16(h.Kind))
	info = binary.LittleEndian.AppendUint16(info, h.Version)
	key, err := hkdf.Key(sha256.New, data, h.File[:], string(info), 32)
	check(th.t, err)
	th.files[h.Address(0)] = key
	return key
}

// read takes every file apart, keys first. No byte may be left over.
func (th *thief) read() (pieces []piece) {
	th.t.Helper()
	names := th.fs.Files()
	slices.SortStableFunc(names, func(a, b string) int { return rankOf(a) - rankOf(b) })
	for _, name := range names {
		b := content(th.t, th.fs, name)
		n := len(pieces)
		switch {
		case name == reserveNames[forCheckpoint] || name == reserveNames[forEntries]:
			th.noise(name, b)
			pieces = append(pieces, piece{what: "RESERVE", file: name, stored: b})
		case len(b) == 0:
			pieces = append(pieces, piece{what: "mark", file: name})
		default:
			h, err := disk.DecodeHeader(b)
			check(th.t, err)
			pieces = append(pieces, piece{what: "header", file: name, stored: b[:disk.HeaderSize]})
			if h.Kind == seal.KindLog {
				pieces = th.log(pieces, name, h, b)
			} else {
				pieces = th.file(pieces, name, h, b)
			}
		}
		sum := 0
		for _, p := range pieces[n:] {
			if p.what != "entry" { // inside of a frame
				sum += len(p.stored)
			}
		}
		if sum != len(b) {
			th.t.Fatalf("%s has %d bytes, %d are accounted for", name, len(b), sum)
		}
	}
	return pieces
}

// noise is what every store has in its reserve.
func (th *thief) noise(name string, b []byte) {
	var same [1 << 10]byte
	rand.NewChaCha8([32]byte{}).Read(same[:])
	if n := min(len(b), len(same)); !bytes.Equal(b[:n], same[:n]) {
		th.t.Errorf("%s begins with %x", name, b[:min(n, 16)])
	}
}

func rankOf(name string) int {
	switch {
	case strings.HasSuffix(name, ".keyset"):
		return 0
	case strings.HasSuffix(name, ".key"):
		return 1
	}
	return 2
}

// file takes a file of sections apart.
func (th *thief) file(out []piece, name string, h disk.Header, b []byte) []piece {
	le := binary.LittleEndian
	foot := b[len(b)-32:]
	at := le.Uint64(foot)
	v := values{Header: h, block: 1 << 63, header: b[:disk.HeaderSize]}
	var table piece
	key := []byte(nil)
	if h.KeyID == 0 {
		table = piece{what: "table", file: name, stored: b[at : len(b)-32], plain: b[at : len(b)-32]}
	} else {
		key = th.fileKey(h)
		table = th.open("table of a file", name, key, b[at:len(b)-32], v)
	}
	out = append(out, table, piece{what: "footer", file: name, stored: foot})
	if table.plain == nil { // no key: what is before it is not told apart
		return append(out, piece{what: "block of a file", file: name, stored: b[disk.HeaderSize:at], sealed: true})
	}
	sections, extra := le.Uint32(table.plain), uint64(le.Uint32(table.plain[4:]))
	from, number := uint64(disk.HeaderSize), uint64(0)
	for i := range sections {
		e := table.plain[16+32*i:]
		size, length, offset := uint64(le.Uint32(e[4:])), le.Uint64(e[8:]), le.Uint64(e[16:])
		out = th.padding(out, name, b[from:offset])
		for from = offset; length > 0; number++ {
			n := min(size, length)
			stored := b[from:][:n+extra]
			v.block = number
			switch h.Kind {
			case seal.KindKeyset:
				out = th.readKeyset(out, name, h, stored)
			case seal.KindKey:
				out = th.readKey(out, name, h, stored)
			default:
				if h.KeyID == 0 {
					th.t.Fatalf("%s is not encrypted", name)
				}
				out = append(out, th.open("block of a file", name, key, stored, v))
			}
			from += n + extra
			length -= n
		}
	}
	return th.padding(out, name, b[from:at])
}

func (th *thief) padding(out []piece, name string, b []byte) []piece {
	if len(bytes.Trim(b, "\x00")) > 0 {
		th.t.Errorf("%s: padding is %x", name, b)
	}
	return append(out, piece{what: "padding", file: name, stored: b})
}

func (th *thief) readKeyset(out []piece, name string, h disk.Header, b []byte) []piece {
	d := disk.NewDecoder(b)
	v := values{Header: h, flags: d.Uint32(), uri: d.String()}
	sealed := d.Blob()
	check(th.t, d.Done())
	out = append(out, piece{what: "flags and URI of the keyset", file: name, stored: b[:len(b)-len(sealed)]})
	p := piece{what: "keyset", file: name, stored: sealed, sealed: true}
	if th.op != nil {
		plain, err := th.op.DecryptWithContext(context.Background(), sealed, th.associated("keyset", v))
		if err != nil {
			th.t.Fatalf("%s is not bound to %s: %v", name, th.bound["keyset"], err)
		}
		p.plain = plain
		d := disk.NewDecoder(plain)
		for _, key := range protoFields(d.Blob())[2] {
			f := protoFields(key)
			value := protoFields(protoFields(f[1][0])[2][0])[3][0]
			id, _ := binary.Uvarint(f[3][0])
			th.keyset[uint32(id)] = value
		}
	}
	return append(out, p)
}

func (th *thief) readKey(out []piece, name string, h disk.Header, b []byte) []piece {
	out = append(out, piece{what: "id of the wrapping key", file: name, stored: b[:5]})
	v := values{Header: h, block: h.Number}
	p := th.open("data key", name, th.keyset[binary.BigEndian.Uint32(b[1:])], b[5:], v)
	if p.plain != nil {
		th.data[dataID{h.Collection, uint32(h.Number)}] = p.plain
	}
	return append(out, p)
}

// protoFields are the fields of a protocol buffer by number: bytes, and
// numbers as they stand there.
func protoFields(b []byte) map[uint64][][]byte {
	out := map[uint64][][]byte{}
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		b = b[n:]
		v, n := binary.Uvarint(b)
		value := b[:n]
		b = b[n:]
		if tag&7 == 2 {
			value, b = b[:v], b[v:]
		}
		out[tag>>3] = append(out[tag>>3], value)
	}
	return out
}

// log takes a file of the log apart. What is torn is not looked for.
func (th *thief) log(out []piece, name string, h disk.Header, b []byte) []piece {
	le := binary.LittleEndian
	key := th.fileKey(h)
	v := values{Header: h, header: b[:disk.HeaderSize]}
	const begin = disk.HeaderSize + 24 + 28
	out = append(out, th.open("start of a log file", name, key, b[disk.HeaderSize:begin], v), piece{what: "checksum", file: name, stored: b[begin : begin+8]})
	for b = b[begin+8:]; len(b) > 0; {
		length := int(le.Uint32(b[4:]))
		v.head, v.block = b[:40], le.Uint64(b[8:])
		body := th.open("frame", name, key, b[48:][:length], v)
		out = append(out, piece{what: "head of a frame", file: name, stored: b[:48]}, body, piece{what: "checksum", file: name, stored: b[48+length:][:8]})
		if body.plain != nil {
			out = th.entries(out, name, h, body.plain)
		}
		b = b[48+length+8:]
	}
	return out
}

// entries opens what is sealed once more inside of a frame.
func (th *thief) entries(out []piece, name string, h disk.Header, body []byte) []piece {
	for len(body) > 0 {
		n, k := binary.Uvarint(body)
		e := body[k:][:n]
		body = body[uint64(k)+n:]
		if e[0]&0x80 == 0 {
			if op(e[0]) >= 16 {
				th.t.Errorf("%s: an entry of operation %d is under the store's key alone", name, e[0])
			}
			continue
		}
		h := disk.Header{Store: h.Store, Collection: seal.ID(e[1:17]), KeyID: binary.LittleEndian.Uint32(e[17:]), File: seal.ID(e[21:37]), Kind: 6, Version: 1}
		out = append(out, th.open("entry", name, th.fileKey(h), e[37:], values{Header: h, op: e[0]}))
	}
	return out
}
