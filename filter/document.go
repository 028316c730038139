package filter

import (
	"errors"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/chromad/chromad/filter/regex"
)

// document is the rows whose document fulfils the positive condition of e:
// candidates from the trigrams, decided by the text.
func (ev *evaluation) document(e *Expr, within *roaring.Bitmap) (*roaring.Bitmap, error) {
	rows, err := ev.documents()
	if err != nil {
		return nil, err
	}
	if within != nil {
		rows.And(within)
	}
	if e.text == "" || rows.IsEmpty() {
		// The empty text and the empty pattern are in every document.
		return rows, nil
	}
	if e.op == opText {
		err = ev.narrow(rows, e.text)
	} else {
		var s set
		if s, err = ev.candidates(e.re.Need()); err == nil {
			rows = intersect(set{bm: rows}, s).bm
		}
	}
	if err != nil || rows.IsEmpty() {
		return rows, err
	}
	return ev.verify(e, rows)
}

// verify keeps the rows whose text fulfils the condition.
func (ev *evaluation) verify(e *Expr, rows *roaring.Bitmap) (*roaring.Bitmap, error) {
	if ev.docs == nil {
		return nil, errors.New("filter: no documents to search in")
	}
	out := roaring.New()
	n := 0
	for it := rows.Iterator(); it.HasNext(); n++ {
		if n%64 == 0 && ev.ctx.Err() != nil {
			return nil, ev.ctx.Err()
		}
		row := it.Next()
		doc, ok, err := ev.docs(row)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		if ok, err = e.matchTextContext(ev.ctx, doc); err != nil {
			return nil, err
		}
		if ok {
			out.Add(row)
		}
	}
	return out, nil
}

// candidates is a superset of the rows whose document fulfils a need; not with
// an empty bitmap means that nothing is known.
func (ev *evaluation) candidates(n *regex.Need) (set, error) {
	switch n.Op {
	case regex.NeedText:
		rows, err := ev.documents()
		if err == nil {
			err = ev.narrow(rows, n.Text)
		}
		return set{bm: rows}, err
	case regex.NeedAll, regex.NeedSome:
		acc := set{roaring.New(), true}
		for _, sub := range n.Subs {
			s, err := ev.candidates(sub)
			if err != nil {
				return set{}, err
			}
			s.not = s.not != (n.Op == regex.NeedSome)
			acc = intersect(acc, s)
		}
		acc.not = acc.not != (n.Op == regex.NeedSome)
		return acc, nil
	}
	return set{roaring.New(), true}, nil
}

// maxGrams bounds how many trigrams of one text are looked up. More would
// hardly take away candidates that these leave.
const maxGrams = 64

// narrow takes away rows whose document lacks a trigram of the text. Texts
// under three bytes take nothing away.
func (ev *evaluation) narrow(rows *roaring.Bitmap, text string) error {
	grams := max(len(text)-2, 0)
	step := max((grams+maxGrams-1)/maxGrams, 1)
	var found []gram
	for i := 0; i < grams; i += step {
		g, ok, err := ev.gram(uint32(text[i])<<16 | uint32(text[i+1])<<8 | uint32(text[i+2]))
		if err != nil {
			return err
		}
		if !ok {
			rows.Clear()
			return nil
		}
		if g.form != gramCommon {
			found = append(found, g)
		}
	}
	// Short postings first: they are the rare trigrams.
	sortGrams(found)
	for i, g := range found {
		if i > 0 && g == found[i-1] {
			continue
		}
		if uint64(g.length)/4 > 16*rows.GetCardinality() {
			// Verifying what is left costs less than decoding the posting.
			return nil
		}
		bm, err := ev.posting(g)
		if err != nil {
			return err
		}
		rows.And(bm)
		if rows.IsEmpty() {
			return nil
		}
	}
	return nil
}

func (ix *Index) gramAt(i uint32) (gram, error) {
	b, err := ix.read(ix.head.gramOff+uint64(i)*trigramSize, trigramSize)
	if err != nil {
		return gram{}, err
	}
	return decodeGram(b), nil
}

// gram finds the table entry of a trigram.
func (ix *Index) gram(key uint32) (g gram, found bool, err error) {
	i, err := search(ix.head.trigrams, func(i uint32) (bool, error) {
		g, err := ix.gramAt(i)
		return g.key >= key, err
	})
	if err != nil || i == ix.head.trigrams {
		return gram{}, false, err
	}
	g, err = ix.gramAt(i)
	return g, err == nil && g.key == key, err
}

// posting decodes the rows of a trigram.
func (ix *Index) posting(g gram) (*roaring.Bitmap, error) {
	switch g.form {
	case gramBitmap:
		return ix.bitmap(g.off, uint64(g.length))
	case gramList:
		b, err := ix.read(g.off, uint64(g.length))
		if err != nil {
			return nil, err
		}
		return decodeList(b, ix.rows)
	}
	return nil, corrupt("trigram posting of form %d", g.form)
}
