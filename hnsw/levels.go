package hnsw

import (
	"slices"

	"github.com/chromad/chromad/internal/kernel"
)

// mix is the finalizer of SplitMix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// levelOf draws a level: at least l with probability 1/m^l. It works on
// integers, so that it is the same on every machine.
func levelOf(seed uint64, row uint32, m int) uint8 {
	h := mix(mix(seed) ^ uint64(row))
	level := 0
	for ; level < maxLevel && h%uint64(m) == 0; level++ {
		h /= uint64(m)
	}
	return uint8(level)
}

// drawLevels gives rows their levels: by lot, or by length.
//
// What a query by inner product looks for is mostly among the longest rows,
// and these are far away from all others in the space that the graph is built
// in: few links lead to them. Where levels are drawn by lot, a walk never
// meets most of them. So there the longest row in m is at level 1 or more,
// the longest in m² at level 2, and so on, and searches begin at several rows
// of level 1, see Graph.enter.
func (b *builder) drawLevels(rows []uint32, levels []uint8) {
	if !b.uneven {
		for _, r := range rows {
			levels[r] = levelOf(b.p.Seed, r, b.p.M)
		}
		return
	}
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(r, s uint32) int {
		switch {
		case b.squares[r] > b.squares[s]:
			return -1
		case b.squares[r] < b.squares[s]:
			return 1
		}
		return int(r) - int(s)
	})
	for i, r := range rows {
		level := uint8(0)
		for n := len(rows) / b.p.M; i < n && level < maxLevel; n /= b.p.M {
			level++
		}
		levels[r] = level
	}
}

// unevenFrom is how much longer the longest row is than the middle one where
// lengths matter. Embeddings that somebody made one long are not.
const unevenFrom = 1.05

// findUneven tells whether rows are compared by inner product and differ in
// length.
func (b *builder) findUneven() {
	if b.v.Metric != kernel.IP || len(b.rows) == 0 {
		return
	}
	lengths := make([]float64, len(b.rows))
	for i, r := range b.rows {
		lengths[i] = b.squares[r]
	}
	slices.Sort(lengths)
	b.uneven = lengths[len(lengths)-1] > unevenFrom*unevenFrom*lengths[len(lengths)/2]
}
