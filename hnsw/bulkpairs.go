package hnsw

import (
	"math"
	"slices"

	"github.com/chromad/chromad/internal/kernel"
)

// pairsAt is how many rows of a panel 32 others are compared with before the next: few
// enough to stay in the cache that is nearest.
const pairsAt = 2 * packRows

// packWords is what the rows of a pack have learned of another pack.
const packWords = packRows * packRows

// comparePairs compares w.rows, the nodes of a group whose first member is given, with each
// other, all of which ask. A distance is the same from both its ends, so half of them are
// computed: what the rows of a pack learn of those behind them they leave to these, as keys of 16 bits.
func (k *bulk) comparePairs(w *worker, first int) {
	q, size, n := &w.octet, w.panel.size, len(w.rows)
	q.room(packRows, size)
	packs := size / packRows
	w.across = slices.Grow(w.across[:0], packs*(packs+1)/2*packWords)
	left := make([][]uint16, 0, packs) // by each pack so far, to those that come
	for from := 0; from < n && k.ctx.Err() == nil; from += packRows {
		rows := w.rows[from:min(from+packRows, n)]
		for at := range left {
			kernel.Widen(q.keys[at*packRows:], size, left[at][:packWords])
			left[at] = left[at][packWords:]
		}
		across := w.across[len(w.across):][:(size-from)*packRows]
		w.across = w.across[:len(w.across)+len(across)]
		left = append(left, across[packWords:])
		q.aim(k.grid, rows, k.width)
		for at := from; at < size; at += pairsAt {
			k.scorePairs(w, rows, at, min(at+pairsAt, size), across[(at-from)*packRows:])
		}
		for j := range rows {
			keys := q.of(j)[:n]
			keys[from+j] = math.MaxInt32
			k.store(first+from+j, w.sieve.nearest(keys, k.near, k.most))
		}
	}
}

// scorePairs compares rows, which the octet is aimed at, with those of the panel from at to
// end, to which it leaves what is found across.
func (k *bulk) scorePairs(w *worker, rows []uint32, at, end int, across []uint16) {
	q, p := &w.octet, &w.panel
	for i := 0; i < len(rows); i += octetRows {
		for j, r := range rows[i:min(i+octetRows, len(rows))] {
			q.bias[j] = k.bias[r] + 1 // of distances of 0 and 1 the keys were the same
		}
		keys := q.keys[i*q.width+at:]
		kernel.Dot8x8(q.queries[i*q.stride:], q.stride, p.bytes[at*q.stride:end*q.stride], keys, q.width)
		kernel.Keys16(keys, q.width, &q.bias, p.norm[at:end], across[i:])
	}
}
