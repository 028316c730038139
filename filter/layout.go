package filter

import (
	"encoding/binary"
	"fmt"
	"math"
)

// The index, all integers little endian; docs/format/filter.md draws it.
//
//	head | documents | trigram postings | trigram table | fields ... | field table
const (
	indexVersion = 1

	headSize    = 64
	fieldSize   = 48 // one entry of the field table
	bigSize     = 16 // one entry of a field's bitmap table
	trigramSize = 16 // one entry of the trigram table

	// bigPosting is the number of rows from which a value's rows are stored as
	// a roaring bitmap. Below it, adding the rows one by one to a fresh bitmap
	// costs about as much as decoding one, in a fraction of the space.
	bigPosting = 256
)

// head is the fixed part at offset 0.
type head struct {
	rows     uint32
	fields   uint32 // entries of the field table
	trigrams uint32 // entries of the trigram table
	fieldOff uint64 // field table
	gramOff  uint64 // trigram table
	docOff   uint64 // bitmap of the rows that have a document
	docLen   uint64
}

func (h head) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, indexVersion)
	b = binary.LittleEndian.AppendUint32(b, h.rows)
	b = binary.LittleEndian.AppendUint32(b, h.fields)
	b = binary.LittleEndian.AppendUint32(b, h.trigrams)
	for _, u := range []uint64{h.fieldOff, h.gramOff, h.docOff, h.docLen, 0, 0} {
		b = binary.LittleEndian.AppendUint64(b, u)
	}
	return b
}

func decodeHead(b []byte) (head, error) {
	u32, u64 := binary.LittleEndian.Uint32, binary.LittleEndian.Uint64
	if v := u32(b); v != indexVersion {
		return head{}, corrupt("version %d", v)
	}
	h := head{rows: u32(b[4:]), fields: u32(b[8:]), trigrams: u32(b[12:]), fieldOff: u64(b[16:]),
		gramOff: u64(b[24:]), docOff: u64(b[32:]), docLen: u64(b[40:])}
	if u64(b[48:]) != 0 || u64(b[56:]) != 0 {
		return head{}, corrupt("reserved bytes in use")
	}
	return h, nil
}

// field is the entry of one key and kind. Its body, at off, is
//
//	values | starts (values+1) x 4 | rows listed x 4 | bitmap table | bitmaps
//
// where values are 1 byte each for booleans, 8 for numbers, and for text
// 8-byte ends into the bytes that follow them. Rows of value i are
// rows[starts[i]:starts[i+1]], or, when that is empty, the bitmap whose table
// entry names i. So the listed rows of a range of values are one slice.
type field struct {
	keyOff  uint64
	keyLen  uint32
	kind    Kind
	values  uint32 // distinct values
	listed  uint32 // rows in the lists
	bitmaps uint32 // values whose rows are a bitmap
	textLen uint64 // bytes of all texts; 0 for other kinds
	off     uint64 // body
}

func (f field) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, f.keyOff)
	b = binary.LittleEndian.AppendUint32(b, f.keyLen)
	b = binary.LittleEndian.AppendUint32(b, uint32(f.kind))
	b = binary.LittleEndian.AppendUint32(b, f.values)
	b = binary.LittleEndian.AppendUint32(b, f.listed)
	b = binary.LittleEndian.AppendUint32(b, f.bitmaps)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint64(b, f.textLen)
	return binary.LittleEndian.AppendUint64(b, f.off)
}

func decodeField(b []byte) (field, error) {
	u32, u64 := binary.LittleEndian.Uint32, binary.LittleEndian.Uint64
	f := field{keyOff: u64(b), keyLen: u32(b[8:]), values: u32(b[16:]), listed: u32(b[20:]),
		bitmaps: u32(b[24:]), textLen: u64(b[32:]), off: u64(b[40:])}
	kind := u32(b[12:])
	if kind < uint32(KindBool) || kind > uint32(KindStrings) {
		return field{}, corrupt("field of kind %d", kind)
	}
	f.kind = Kind(kind)
	return f, nil
}

// width is the stored size of one value, or of one text's end.
func (f field) width() uint64 {
	if f.kind.Element() == KindBool {
		return 1
	}
	return 8
}

// Offsets of the parts of a field's body.
func (f field) text() uint64   { return f.off + uint64(f.values)*f.width() }
func (f field) starts() uint64 { return f.text() + f.textLen }
func (f field) lists() uint64  { return f.starts() + (uint64(f.values)+1)*4 }
func (f field) table() uint64  { return f.lists() + uint64(f.listed)*4 }
func (f field) bits() uint64   { return f.table() + uint64(f.bitmaps)*bigSize }

// big is an entry of a field's bitmap table, ascending by value.
type big struct {
	value  uint32
	length uint32
	off    uint64 // from the first bitmap of the field
}

func (g big) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, g.value)
	b = binary.LittleEndian.AppendUint32(b, g.length)
	return binary.LittleEndian.AppendUint64(b, g.off)
}

func decodeBig(b []byte) big {
	return big{value: binary.LittleEndian.Uint32(b), length: binary.LittleEndian.Uint32(b[4:]),
		off: binary.LittleEndian.Uint64(b[8:])}
}

// Forms of a trigram's posting.
const (
	gramCommon = iota // in more than half of the documents: no rows are stored
	gramList          // uvarint differences between ascending rows, the first from -1
	gramBitmap        // a roaring bitmap
)

// gram is an entry of the trigram table, ascending by the three bytes.
type gram struct {
	key    uint32 // the bytes, first one highest
	form   uint8
	length uint32
	off    uint64
}

func (g gram) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, g.key|uint32(g.form)<<24)
	b = binary.LittleEndian.AppendUint32(b, g.length)
	return binary.LittleEndian.AppendUint64(b, g.off)
}

func decodeGram(b []byte) gram {
	k := binary.LittleEndian.Uint32(b)
	return gram{key: k & 0xffffff, form: uint8(k >> 24), length: binary.LittleEndian.Uint32(b[4:]),
		off: binary.LittleEndian.Uint64(b[8:])}
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// orderedInt and orderedFloat are how numbers stand in an index: as they are.
func orderedInt(b []byte) int64     { return int64(binary.LittleEndian.Uint64(b)) }
func orderedFloat(b []byte) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(b)) }
