package hnsw

import (
	"math"
	"slices"

	"github.com/chromad/chromad/internal/kernel"
)

// A key holds a distance, a node and one mark: it sorts by distance, then by
// node, so that equal distances have one order everywhere. NaN is farther than
// everything.
//
//	bits 63..32  the distance, its bits changed to sort as an unsigned number
//	bits 31..1   the node
//	bit  0       the node was expanded
const expanded = 1

func pack(distance float32, node uint32) uint64 { return kernel.Key(distance, node) }

func nodeOf(key uint64) uint32 { return uint32(key) >> 1 }

func distanceOf(key uint64) float32 {
	bits := uint32(key >> 32)
	if bits>>31 != 0 {
		return math.Float32frombits(bits &^ (1 << 31))
	}
	return math.Float32frombits(^bits)
}

// A pool keeps the smallest keys it was offered, ascending. An array in order
// beats a heap at the sizes of ef: the next node to expand, the worst one
// and the answer are simply there.
type pool struct {
	keys  []uint64 // the first n are in use
	n     int
	limit int
}

// poolSlack is the room that kernel.Offer needs beyond the limit.
const poolSlack = 16

func (p *pool) reset(limit int) {
	p.keys = slices.Grow(p.keys[:0], limit+poolSlack)[:limit+poolSlack]
	p.n, p.limit = 0, limit
}

// below is the distance from which on the pool takes nothing.
func (p *pool) below() float32 {
	if p.n < p.limit {
		return float32(math.Inf(1))
	}
	return distanceOf(p.keys[p.n-1])
}

// insert is an offer of one key.
func (p *pool) insert(key uint64) {
	at, _ := slices.BinarySearch(p.keys[:p.n], key)
	if at == p.limit {
		return
	}
	p.n = min(p.n+1, p.limit)
	copy(p.keys[at+1:p.n], p.keys[at:])
	p.keys[at] = key
}

// keep drops the rows that are not allowed.
func (p *pool) keep(allowed []uint64) {
	n := 0
	for _, key := range p.keys[:p.n] {
		if has(allowed, nodeOf(key)) {
			p.keys[n] = key
			n++
		}
	}
	p.n = n
}
