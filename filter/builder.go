package filter

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"
)

// A Builder gathers the rows of a segment and writes their index. It keeps 16
// bytes for each number, 8 bytes and one copy of each distinct text, and a
// byte or two for each distinct trigram of each document.
type Builder struct {
	rows   uint32 // one more than the last row added
	fields map[fieldKey]*column
	docs   *roaring.Bitmap
	grams  gramSet
	err    error
}

type fieldKey struct {
	key  string
	kind Kind
}

// column is what has been seen of one key and kind: entries of (value, row)
// in the order of rows. The value is a boolean, the bits of a number, or the
// number of a text in the dictionary.
type column struct {
	entries []entry
	dict    map[string]uint32
	texts   []string
}

type entry struct {
	value uint64
	row   uint32
}

// NewBuilder makes an empty Builder.
func NewBuilder() *Builder {
	return &Builder{fields: map[fieldKey]*column{}, docs: roaring.New()}
}

// Add takes the metadata and the document (nil: none) of a row. Rows must be
// added in ascending order; rows left out have neither. Nothing of m is kept.
func (b *Builder) Add(row uint32, m Metadata, doc *string) {
	if row < b.rows || row == math.MaxUint32 {
		b.err = fmt.Errorf("filter index: row %d added after row %d", row, b.rows)
		return
	}
	b.rows = row + 1
	for key, v := range m {
		b.addValue(row, key, v)
	}
	if doc != nil {
		b.docs.Add(row)
		b.grams.add(row, *doc)
	}
}

func (b *Builder) addValue(row uint32, key string, v Value) {
	if v.kind == KindNull || v.kind > KindStrings {
		return
	}
	c := b.fields[fieldKey{key, v.kind}]
	if c == nil {
		c = &column{}
		b.fields[fieldKey{strings.Clone(key), v.kind}] = c
	}
	switch v.kind {
	case KindBool, KindInt, KindFloat:
		c.add(row, v)
	case KindString:
		c.addText(row, v.str)
	case KindBools:
		for _, x := range v.AsBools() {
			c.add(row, Bool(x))
		}
	case KindInts:
		for _, x := range v.AsInts() {
			c.add(row, Int(x))
		}
	case KindFloats:
		for _, x := range v.AsFloats() {
			c.add(row, Float(x))
		}
	case KindStrings:
		for _, x := range v.AsStrings() {
			c.addText(row, x)
		}
	}
}

func (c *column) add(row uint32, v Value) {
	if v.rank() != 0 { // NaN equals nothing and is in no range
		c.entries = append(c.entries, entry{v.num, row})
	}
}

func (c *column) addText(row uint32, s string) {
	id, ok := c.dict[s]
	if !ok {
		if c.dict == nil {
			c.dict = map[string]uint32{}
		}
		id = uint32(len(c.texts))
		s = strings.Clone(s)
		c.texts = append(c.texts, s)
		c.dict[s] = id
	}
	c.entries = append(c.entries, entry{uint64(id), row})
}

// Finish is the index as bytes. Equal rows give equal bytes. The builder must
// not be used afterwards.
func (b *Builder) Finish() ([]byte, error) {
	if b.err != nil {
		return nil, b.err
	}
	out := make([]byte, headSize)
	h := head{rows: b.rows, fields: uint32(len(b.fields)), docOff: headSize}
	out, err := appendBitmap(out, b.docs)
	if err != nil {
		return nil, err
	}
	h.docLen = uint64(len(out)) - headSize
	if out, err = b.grams.finish(out, &h, b.docs.GetCardinality()); err != nil {
		return nil, err
	}
	keys := make([]fieldKey, 0, len(b.fields))
	for k := range b.fields {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(x, y fieldKey) int {
		return cmp.Or(strings.Compare(x.key, y.key), cmp.Compare(x.kind, y.kind))
	})
	var table []byte
	for _, k := range keys {
		f := field{keyOff: uint64(len(out)), keyLen: uint32(len(k.key)), kind: k.kind}
		out = append(out, k.key...)
		f.off = uint64(len(out))
		if out, err = b.fields[k].finish(out, &f); err != nil {
			return nil, fmt.Errorf("filter index: key %.80q: %w", k.key, err)
		}
		table = f.append(table)
		delete(b.fields, k)
	}
	h.fieldOff = uint64(len(out))
	out = append(out, table...)
	copy(out, h.append(make([]byte, 0, headSize)))
	return out, nil
}

// order sorts the entries by value and row, drops repetitions, and appends the
// distinct values to out.
func (c *column) order(out []byte, f *field) []byte {
	if f.kind.Element() == KindString {
		c.rankTexts()
	}
	compare := func(x, y uint64) int { return cmp.Compare(x, y) }
	switch f.kind.Element() {
	case KindInt:
		compare = func(x, y uint64) int { return cmp.Compare(int64(x), int64(y)) }
	case KindFloat:
		compare = func(x, y uint64) int {
			return cmp.Compare(math.Float64frombits(x), math.Float64frombits(y))
		}
	}
	slices.SortFunc(c.entries, func(x, y entry) int {
		if d := compare(x.value, y.value); d != 0 {
			return d
		}
		return cmp.Compare(x.row, y.row)
	})
	c.entries = slices.Compact(c.entries)
	for i, e := range c.entries {
		if i > 0 && e.value == c.entries[i-1].value {
			continue
		}
		f.values++
		switch f.kind.Element() {
		case KindBool:
			out = append(out, byte(e.value))
		case KindInt, KindFloat:
			out = binary.LittleEndian.AppendUint64(out, e.value)
		}
	}
	if f.kind.Element() == KindString {
		for _, s := range c.texts {
			f.textLen += uint64(len(s))
			out = binary.LittleEndian.AppendUint64(out, f.textLen)
		}
		for _, s := range c.texts {
			out = append(out, s...)
		}
	}
	return out
}

// rankTexts sorts the dictionary and renumbers the entries by it.
func (c *column) rankTexts() {
	c.dict = nil
	order := make([]uint32, len(c.texts))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(x, y uint32) int { return strings.Compare(c.texts[x], c.texts[y]) })
	rank := make([]uint32, len(order))
	sorted := make([]string, len(order))
	for r, id := range order {
		rank[id] = uint32(r)
		sorted[r] = c.texts[id]
	}
	c.texts = sorted
	for i := range c.entries {
		c.entries[i].value = uint64(rank[c.entries[i].value])
	}
}

// finish appends the body of a field.
func (c *column) finish(out []byte, f *field) ([]byte, error) {
	if uint64(len(c.entries)) > math.MaxUint32 {
		return nil, ErrTooLarge
	}
	out = c.order(out, f)
	var lists, table, bits []byte
	out = binary.LittleEndian.AppendUint32(out, 0)
	value := uint32(0)
	for rest := c.entries; len(rest) > 0; value++ {
		n := 1
		for n < len(rest) && rest[n].value == rest[0].value {
			n++
		}
		if n < bigPosting {
			for _, e := range rest[:n] {
				lists = binary.LittleEndian.AppendUint32(lists, e.row)
			}
			f.listed += uint32(n)
		} else {
			bm := roaring.New()
			for _, e := range rest[:n] {
				bm.Add(e.row)
			}
			at := len(bits)
			var err error
			if bits, err = appendBitmap(bits, bm); err != nil {
				return nil, err
			}
			table = big{value, uint32(len(bits) - at), uint64(at)}.append(table)
			f.bitmaps++
		}
		out = binary.LittleEndian.AppendUint32(out, f.listed)
		rest = rest[n:]
	}
	c.entries, c.texts = nil, nil
	out = append(out, lists...)
	out = append(out, table...)
	return append(out, bits...), nil
}

// appendBitmap appends the portable serialisation of roaring bitmaps.
func appendBitmap(out []byte, bm *roaring.Bitmap) ([]byte, error) {
	bm.RunOptimize()
	b, err := bm.ToBytes()
	return append(out, b...), err
}
