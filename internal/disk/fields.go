package disk

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/cespare/xxhash/v2"

	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

// Field is a field of a file's bytes, for those who look at them. Meaning is
// what the bytes say, right or wrong.
type Field struct {
	Offset  int64
	Bytes   []byte
	Name    string
	Meaning string
}

// FieldReader cuts bytes into fields, front to back.
type FieldReader struct {
	at     int64
	b      []byte
	fields []Field
}

// ReadFields begins with b, which stands at offset at of its file.
func ReadFields(b []byte, at int64) *FieldReader { return &FieldReader{at: at, b: b} }

// Fields are those that were cut off.
func (r *FieldReader) Fields() []Field { return r.fields }

// Cut takes the next n bytes, or what is left.
func (r *FieldReader) Cut(n int, name string, meaning func(b []byte) string) []byte {
	p := r.b[:min(n, len(r.b))]
	if len(p) == 0 {
		return nil
	}
	f := Field{Offset: r.at, Bytes: p, Name: name}
	switch {
	case len(p) < n:
		f.Meaning = fmt.Sprintf("cut: %d bytes of %d", len(p), n)
	case meaning != nil:
		f.Meaning = meaning(p)
	}
	r.fields = append(r.fields, f)
	r.at, r.b = r.at+int64(len(p)), r.b[len(p):]
	return p
}

// Decimal is the meaning of a little-endian number.
func Decimal(b []byte) string {
	var n [8]byte
	copy(n[:], b)
	return strconv.FormatUint(binary.LittleEndian.Uint64(n[:]), 10)
}

func quoted(b []byte) string { return strconv.Quote(string(b)) }

func idText(b []byte) string {
	if zero(b) {
		return "none"
	}
	return hex.EncodeToString(b)
}

// Is tells whether a checksum is the right one.
func Is(want uint64) func(b []byte) string {
	return func(b []byte) string {
		if binary.LittleEndian.Uint64(b) == want {
			return "right"
		}
		return fmt.Sprintf("WRONG, should be %016x", want)
	}
}

// HeaderFields are the fields of the header in b, which may be damaged.
func HeaderFields(b []byte) []Field {
	b = b[:min(len(b), HeaderSize)]
	r := ReadFields(b, 0)
	r.Cut(len(magic), "magic", quoted)
	r.Cut(2, "version", Decimal)
	r.Cut(2, "kind", func(b []byte) string { return kindText(seal.Kind(binary.LittleEndian.Uint16(b))) })
	r.Cut(4, "key", func(b []byte) string {
		if zero(b) {
			return "none"
		}
		return "generation " + Decimal(b)
	})
	r.Cut(16, "store", idText)
	r.Cut(16, "collection", idText)
	r.Cut(16, "file", idText)
	r.Cut(8, "number", Decimal)
	r.Cut(headerSumAt-headerUsed, "reserved", func(b []byte) string {
		if zero(b) {
			return "zero"
		}
		return "SET, which no version known here does"
	})
	if len(b) == HeaderSize {
		r.Cut(8, "checksum", Is(xxhash.Sum64(b[:headerSumAt])))
	}
	return r.Fields()
}

var kindNames = map[seal.Kind]string{
	seal.KindLog: "log", seal.KindSegment: "segment", seal.KindCheckpoint: "checkpoint", seal.KindKeyset: "keyset", seal.KindKey: "key",
	seal.KindReceipt: "receipt", seal.KindAudit: "audit", seal.KindAuditLog: "audit log",
}

func kindText(k seal.Kind) string {
	if name, ok := kindNames[k]; ok {
		return fmt.Sprintf("%d, %s", k, name)
	}
	return fmt.Sprintf("%d, unknown", k)
}

// FileFields are the fields of header, table and footer of a file of sections,
// whatever is damaged of them. The table of an encrypted file is one field.
func FileFields(fs vfs.FS, name string, section func(kind uint16) string) ([]Field, error) {
	b, err := readWhole(fs, name)
	if err != nil {
		return nil, err
	}
	fields := HeaderFields(b)
	end := len(b) - footerSize
	at := binary.LittleEndian.Uint64(b[end:])
	if at >= HeaderSize && at <= uint64(end) {
		table := b[at:end]
		r := ReadFields(table, int64(at))
		if binary.LittleEndian.Uint32(b[12:]) != 0 {
			r.Cut(len(table), "table", func([]byte) string { return "encrypted" })
		} else {
			tableFields(r, table, section)
		}
		fields = append(fields, r.Fields()...)
	}
	r := ReadFields(b[end:], int64(end))
	r.Cut(8, "table at", Decimal)
	r.Cut(8, "table bytes", Decimal)
	root := func(b []byte) string { return "no table" }
	if at >= HeaderSize && at <= uint64(end) {
		root = Is(rootOf(b[:HeaderSize], b[at:end]))
	}
	r.Cut(8, "root", root)
	r.Cut(8, "magic", quoted)
	return append(fields, r.Fields()...), nil
}

func tableFields(r *FieldReader, table []byte, section func(kind uint16) string) {
	r.Cut(4, "sections", Decimal)
	r.Cut(4, "overhead", Decimal)
	r.Cut(8, "blocks", Decimal)
	if len(table) < tableHead {
		return
	}
	for range min(binary.LittleEndian.Uint32(table), maxSections) {
		r.Cut(2, "kind", func(b []byte) string {
			kind := binary.LittleEndian.Uint16(b)
			return fmt.Sprintf("%d, %s", kind, section(kind))
		})
		r.Cut(2, "reserved", Decimal)
		r.Cut(4, "block size", Decimal)
		r.Cut(8, "length", Decimal)
		r.Cut(8, "offset", Decimal)
		r.Cut(8, "first block", Decimal)
	}
	for n := uint64(0); len(r.b) > 0; n++ {
		r.Cut(8, "block "+strconv.FormatUint(n, 10), func([]byte) string { return "checksum" })
	}
}
