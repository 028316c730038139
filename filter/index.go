package filter

import (
	"encoding/binary"
	"sort"

	"github.com/RoaringBitmap/roaring/v2"
)

// A Source is the bytes of an index. Bytes returns n bytes at off, valid until
// the source is closed; out of range or damaged is an error.
type Source interface {
	Len() int
	Bytes(off, n int) ([]byte, error)
}

// An Index answers expressions for the rows 0..rows-1 of a segment. It holds
// nothing but its head; every question reads what it needs from the source.
// It is safe for concurrent use if its source is.
type Index struct {
	src  Source
	rows uint32
	head head
}

// OpenIndex opens what Builder wrote for a segment of so many rows. It reads
// the head only. Errors are ErrCorrupt or the source's.
func OpenIndex(src Source, rows uint32) (*Index, error) {
	ix := &Index{src: src, rows: rows}
	b, err := ix.read(0, headSize)
	if err != nil {
		return nil, err
	}
	if ix.head, err = decodeHead(b); err != nil {
		return nil, err
	}
	h := ix.head
	if h.rows > rows {
		return nil, corrupt("%d rows in a segment of %d", h.rows, rows)
	}
	if !ix.inside(h.fieldOff, uint64(h.fields)*fieldSize) ||
		!ix.inside(h.gramOff, uint64(h.trigrams)*trigramSize) || !ix.inside(h.docOff, h.docLen) {
		return nil, corrupt("a table ends beyond the index")
	}
	return ix, nil
}

// inside reports whether n bytes at off lie in the source.
func (ix *Index) inside(off, n uint64) bool {
	size := uint64(max(ix.src.Len(), 0))
	return off <= size && n <= size-off
}

// read is Source.Bytes for numbers that come from the index itself.
func (ix *Index) read(off, n uint64) ([]byte, error) {
	if !ix.inside(off, n) {
		return nil, corrupt("%d bytes at %d of %d", n, off, ix.src.Len())
	}
	return ix.src.Bytes(int(off), int(n))
}

// bitmap decodes a roaring bitmap into memory of its own: the source may be a
// mapping that goes away before the result does.
func (ix *Index) bitmap(off, n uint64) (*roaring.Bitmap, error) {
	b, err := ix.read(off, n)
	if err != nil {
		return nil, err
	}
	bm := roaring.New()
	if err := bm.UnmarshalBinary(b); err != nil {
		return nil, corrupt("bitmap at %d: %v", off, err)
	}
	if err := bm.Validate(); err != nil && !bm.IsEmpty() {
		return nil, corrupt("bitmap at %d: %v", off, err)
	}
	if !bm.IsEmpty() && bm.Maximum() >= ix.rows {
		return nil, corrupt("bitmap at %d: row %d of %d", off, bm.Maximum(), ix.rows)
	}
	return bm, nil
}

// documents is the rows that have a document.
func (ix *Index) documents() (*roaring.Bitmap, error) {
	return ix.bitmap(ix.head.docOff, ix.head.docLen)
}

// search is sort.Search over reads that may fail.
func search(n uint32, at func(i uint32) (bool, error)) (uint32, error) {
	var failed error
	i := sort.Search(int(n), func(i int) bool {
		if failed != nil {
			return true
		}
		ok, err := at(uint32(i))
		failed = err
		return ok
	})
	return uint32(i), failed
}

// field finds the entry of a key and kind.
func (ix *Index) field(key string, kind Kind) (f field, found bool, err error) {
	i, err := search(ix.head.fields, func(i uint32) (bool, error) {
		c, err := ix.compareField(i, key, kind)
		return c >= 0, err
	})
	if err != nil || i == ix.head.fields {
		return field{}, false, err
	}
	if c, err := ix.compareField(i, key, kind); c != 0 || err != nil {
		return field{}, false, err
	}
	f, err = ix.fieldAt(i)
	if err == nil && !ix.inside(f.off, f.bits()-f.off) {
		err = corrupt("field %d ends beyond the index", i)
	}
	return f, err == nil, err
}

func (ix *Index) fieldAt(i uint32) (field, error) {
	b, err := ix.read(ix.head.fieldOff+uint64(i)*fieldSize, fieldSize)
	if err != nil {
		return field{}, err
	}
	f, err := decodeField(b)
	// The sums of the offsets of a field's parts must not wrap around.
	if size := uint64(ix.src.Len()); err == nil && (f.off > size || f.textLen > size) {
		err = corrupt("field %d begins beyond the index", i)
	}
	return f, err
}

// compareField orders field i against a key and kind.
func (ix *Index) compareField(i uint32, key string, kind Kind) (int, error) {
	f, err := ix.fieldAt(i)
	if err != nil {
		return 0, err
	}
	b, err := ix.read(f.keyOff, uint64(f.keyLen))
	if err != nil {
		return 0, err
	}
	switch {
	case string(b) < key:
		return -1, nil
	case string(b) > key:
		return 1, nil
	}
	return int(f.kind) - int(kind), nil
}

// value reads distinct value i of a field.
func (ix *Index) value(f field, i uint32) (Value, error) {
	if f.kind.Element() == KindString {
		return ix.textValue(f, i)
	}
	b, err := ix.read(f.off+uint64(i)*f.width(), f.width())
	if err != nil {
		return Value{}, err
	}
	switch f.kind.Element() {
	case KindBool:
		return Bool(b[0] != 0), nil
	case KindInt:
		return Int(orderedInt(b)), nil
	}
	return Float(orderedFloat(b)), nil
}

func (ix *Index) textValue(f field, i uint32) (Value, error) {
	var from uint64
	if i > 0 {
		b, err := ix.read(f.off+uint64(i-1)*8, 8)
		if err != nil {
			return Value{}, err
		}
		from = binary.LittleEndian.Uint64(b)
	}
	b, err := ix.read(f.off+uint64(i)*8, 8)
	if err != nil {
		return Value{}, err
	}
	to := binary.LittleEndian.Uint64(b)
	if from > to || to > f.textLen {
		return Value{}, corrupt("text %d of a field", i)
	}
	if b, err = ix.read(f.text()+from, to-from); err != nil {
		return Value{}, err
	}
	return String(string(b)), nil
}

// lower is the number of values of the field that are less than v, or not
// greater when orEqual is set.
func (ix *Index) lower(f field, v Value, orEqual bool) (uint32, error) {
	return search(f.values, func(i uint32) (bool, error) {
		w, err := ix.value(f, i)
		if err != nil {
			return false, err
		}
		c, ok := compareScalars(w, v)
		if !ok {
			return false, corrupt("value %d of a field is not a number", i)
		}
		return c > 0 || c == 0 && !orEqual, nil
	})
}

// gather is a set of rows under construction. Rows come in any order, so they
// are collected first: sorting a few or filling a bitset with many is several
// times quicker than random insertion into a roaring bitmap.
type gather struct {
	rows []uint32
	bm   *roaring.Bitmap
}

// add takes the rows of the values from..to-1 of a field.
func (ix *Index) add(g *gather, f field, from, to uint32) error {
	if from >= to {
		return nil
	}
	if err := ix.addListed(g, f, from, to); err != nil {
		return err
	}
	if f.bitmaps == 0 {
		return nil
	}
	at := func(i uint32) (big, error) {
		b, err := ix.read(f.table()+uint64(i)*bigSize, bigSize)
		if err != nil {
			return big{}, err
		}
		return decodeBig(b), nil
	}
	i, err := search(f.bitmaps, func(i uint32) (bool, error) {
		e, err := at(i)
		return e.value >= from, err
	})
	for ; err == nil && i < f.bitmaps; i++ {
		var e big
		if e, err = at(i); err != nil || e.value >= to {
			break
		}
		if e.off > uint64(ix.src.Len()) {
			return corrupt("bitmap beyond the index")
		}
		var bm *roaring.Bitmap
		if bm, err = ix.bitmap(f.bits()+e.off, uint64(e.length)); err != nil {
			break
		}
		if g.bm == nil {
			g.bm = bm
		} else {
			g.bm.Or(bm)
		}
	}
	return err
}

func (ix *Index) addListed(g *gather, f field, from, to uint32) error {
	var bounds [2]uint32
	for i, at := range [2]uint32{from, to} {
		b, err := ix.read(f.starts()+uint64(at)*4, 4)
		if err != nil {
			return err
		}
		bounds[i] = binary.LittleEndian.Uint32(b)
	}
	if bounds[0] > bounds[1] || bounds[1] > f.listed {
		return corrupt("row list %d..%d of %d", bounds[0], bounds[1], f.listed)
	}
	n := bounds[1] - bounds[0]
	b, err := ix.read(f.lists()+uint64(bounds[0])*4, uint64(n)*4)
	if err != nil {
		return err
	}
	for ; len(b) >= 4; b = b[4:] {
		row := binary.LittleEndian.Uint32(b)
		if row >= ix.rows {
			return corrupt("row %d of %d", row, ix.rows)
		}
		g.rows = append(g.rows, row)
	}
	return nil
}
