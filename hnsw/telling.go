package hnsw

import (
	"math"
	"slices"

	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/quant"
)

// What a codec knows of the rows it was trained on is how a few thousand of
// them, far from each other, lie. Whether its codes tell near rows apart shows
// among the neighbours that rows have in the graph.
const (
	tellRows  = 256 // near rows that are compared with one
	tellMost  = 128 // rows whose neighbours are looked at
	tellLeast = 32
	tellK     = 10   // of the nearest so many …
	tellOf    = 40   // … are among so many of the best by their codes …
	tellShare = 0.9  // … at least this share, …
	tellBad   = 0.03 // … or the row counts as bad: this share of them may be, or one
)

// telling reports whether the codes tell near rows apart.
func (b *builder) telling() bool {
	n := b.v.Rows
	count := min(max(n/64, tellLeast), tellMost, n)
	t := teller{builder: b}
	bad := 0
	for i := range count {
		from, to := i*n/count, (i+1)*n/count
		row := uint32(from + int(mix(b.p.Seed^uint64(i))%uint64(to-from)))
		if !b.equal.isLost(row) && !t.tells(row) {
			bad++
		}
	}
	return bad <= max(1, int(tellBad*float64(count)))
}

// A teller is the memory of telling.
type teller struct {
	*builder
	scorer  scorer
	query   quant.Query
	hop     kernel.Hop
	visited []uint64
	rows    []uint32 // near a row, without it
	dist    []float32
	sorted  []float32
}

// tells reports whether the nearest rows of one are among the best by codes.
func (t *teller) tells(row uint32) bool {
	t.near(row)
	if len(t.rows) <= tellOf {
		return true
	}
	x := t.v.row(row)
	t.scorer.aim(&t.v, x)
	t.dist = slices.Grow(t.dist[:0], len(t.rows))[:len(t.rows)]
	t.scorer.score(t.rows, t.dist)
	worst := t.smallest(t.dist, tellK)

	t.g.codec.Aim(&t.query, x)
	t.hop.Aim(&t.g.codes, t.query.Codes, t.query.Mul, t.query.Sub, t.visited)
	for _, r := range t.rows {
		t.hop.Add(r)
	}
	keys, rows := t.hop.Score(float32(math.Inf(1)))
	limit, found, best, at := t.smallest(keys, tellOf), 0, 0, 0
	for i, r := range rows { // some may be missing whose key is no number
		for t.rows[at] != r {
			at++
		}
		if keys[i] > limit {
			continue
		}
		if best++; t.dist[at] <= worst {
			found++
		}
	}
	// Codes that are equal where vectors are not tell nothing.
	return float64(found) >= tellShare*tellK && best-found <= tellOf
}

// smallest is the k-th smallest of list, the greatest of fewer.
func (t *teller) smallest(list []float32, k int) float32 {
	t.sorted = append(t.sorted[:0], list...)
	slices.Sort(t.sorted)
	if k = min(k, len(list)); k == 0 {
		return 0
	}
	return t.sorted[k-1]
}

// near lists tellRows rows near one, as links lead to them.
func (t *teller) near(row uint32) {
	words := (t.g.rows + 63) / 64
	t.visited = slices.Grow(t.visited[:0], words)[:words]
	t.rows = append(t.rows[:0], row)
	t.visited[row>>6] |= 1 << (row & 63)
	for at := 0; at < len(t.rows); at++ {
		for _, n := range t.g.neighbours(0, t.rows[at]) {
			if len(t.rows) <= tellRows && !has(t.visited, n) {
				t.visited[n>>6] |= 1 << (n & 63)
				t.rows = append(t.rows, n)
			}
		}
	}
	for _, r := range t.rows {
		t.visited[r>>6] &^= 1 << (r & 63)
	}
	t.rows = t.rows[1:]
}
