package filter

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/RoaringBitmap/roaring/v2"
)

// commonMin is the number of documents below which no trigram counts as
// common, so that small segments keep every posting.
const commonMin = 64

// gramSet gathers the trigrams of documents. A page holds the numbers of the
// postings of the 256 trigrams that share their first two bytes, so the hot
// loop is two loads; pages exist only for pairs of bytes that occur.
type gramSet struct {
	pages    *gramPages // nil before the first
	postings []posting
}

// gramPages are the pages, by the first two bytes: posting number + 1.
type gramPages [1 << 16]*[256]uint32

// gramPool has empty ones. To clear half a megabyte takes as long as an index of
// a few hundred documents.
var gramPool = sync.Pool{New: func() any { return new(gramPages) }}

// posting is the rows of one trigram, as uvarint differences.
type posting struct {
	key   uint32
	next  uint32 // one more than the last row; 0: none
	count uint32
	rows  []byte
}

// add counts the trigrams of a document's bytes.
func (s *gramSet) add(row uint32, doc string) {
	if s.pages == nil {
		s.pages = gramPool.Get().(*gramPages)
	}
	for i := 0; i+3 <= len(doc); i++ {
		pair := uint32(doc[i])<<8 | uint32(doc[i+1])
		page := s.pages[pair]
		if page == nil {
			page = new([256]uint32)
			s.pages[pair] = page
		}
		n := page[doc[i+2]]
		if n == 0 {
			s.postings = append(s.postings, posting{key: pair<<8 | uint32(doc[i+2])})
			n = uint32(len(s.postings))
			page[doc[i+2]] = n
		}
		p := &s.postings[n-1]
		if p.next == row+1 {
			continue
		}
		// Differences are at least 1, the first one counts from row -1.
		p.rows = binary.AppendUvarint(p.rows, uint64(row+1-p.next))
		p.next = row + 1
		p.count++
	}
}

// finish appends postings and table. docs is the number of documents.
func (s *gramSet) finish(out []byte, h *head, docs uint64) ([]byte, error) {
	if s.pages != nil {
		for i := range s.postings {
			s.pages[s.postings[i].key>>8] = nil
		}
		gramPool.Put(s.pages)
		s.pages = nil
	}
	slices.SortFunc(s.postings, func(a, b posting) int { return int(a.key) - int(b.key) })
	h.trigrams = uint32(len(s.postings))
	var table []byte
	for i := range s.postings {
		p := &s.postings[i]
		g := gram{key: p.key, form: gramList, off: uint64(len(out))}
		switch {
		case docs >= commonMin && uint64(p.count) > docs/2:
			// A trigram of most documents leaves too many candidates to be worth
			// its space.
			g.form = gramCommon
		case uint64(len(p.rows)) > docs/8:
			// More than a bit per document: a bitmap may be smaller, and quicker.
			bm, err := decodeList(p.rows, p.next)
			if err != nil {
				return nil, fmt.Errorf("filter index: %w", err)
			}
			if out, err = appendBitmap(out, bm); err != nil {
				return nil, err
			}
			g.form = gramBitmap
			if len(out)-int(g.off) >= len(p.rows) {
				g.form = gramList
				out = append(out[:g.off], p.rows...)
			}
		default:
			out = append(out, p.rows...)
		}
		if uint64(len(out))-g.off > 1<<31 {
			return nil, ErrTooLarge
		}
		g.length = uint32(uint64(len(out)) - g.off)
		table = g.append(table)
		p.rows = nil
	}
	h.gramOff = uint64(len(out))
	return append(out, table...), nil
}

// decodeList reads rows below limit from uvarint differences.
func decodeList(b []byte, limit uint32) (*roaring.Bitmap, error) {
	bm := roaring.New()
	var chunk [512]uint32
	n := 0
	next := uint64(0)
	for len(b) > 0 {
		d, size := binary.Uvarint(b)
		if size <= 0 || d == 0 || d > uint64(limit) || next+d > uint64(limit) {
			return nil, corrupt("trigram posting")
		}
		b = b[size:]
		next += d
		chunk[n] = uint32(next - 1)
		if n++; n == len(chunk) {
			bm.AddMany(chunk[:])
			n = 0
		}
	}
	bm.AddMany(chunk[:n])
	return bm, nil
}

// sortGrams puts the shortest postings first, equal ones beside each other.
func sortGrams(grams []gram) {
	slices.SortFunc(grams, func(a, b gram) int {
		return cmp.Or(cmp.Compare(a.length, b.length), cmp.Compare(a.key, b.key))
	})
}
