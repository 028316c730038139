package hnsw

import (
	"math"
	"slices"
)

// A key holds a distance, a node and one mark: it sorts by distance, then by
// node, so that equal distances have one order everywhere.
//
//	bits 63..32  the distance, its bits changed to sort as an unsigned number
//	bits 31..1   the node
//	bit  0       the node was expanded
const expanded = 1

func pack(distance float32, node uint32) uint64 {
	bits := math.Float32bits(distance + 0) // -0 becomes 0
	switch {
	case distance != distance:
		bits = math.MaxUint32 // whatever its sign, NaN is farther than everything
	case bits>>31 != 0:
		bits = ^bits
	default:
		bits |= 1 << 31
	}
	return uint64(bits)<<32 | uint64(node)<<1
}

func nodeOf(key uint64) uint32 { return uint32(key) >> 1 }

func distanceOf(key uint64) float32 {
	bits := uint32(key >> 32)
	if bits>>31 != 0 {
		return math.Float32frombits(bits &^ (1 << 31))
	}
	return math.Float32frombits(^bits)
}

// A pool keeps the smallest keys it was given, ascending. An array in order
// beats a heap at the sizes of ef: the next node to expand, the worst one
// and the answer are simply there.
type pool struct {
	keys  []uint64
	limit int
	worst uint64 // keys from here on are refused
}

func (p *pool) reset(limit int) {
	p.keys = slices.Grow(p.keys[:0], limit)
	p.limit = limit
	p.worst = math.MaxUint64
}

// insert returns the place of key, which must be below worst.
func (p *pool) insert(key uint64) int {
	at, _ := slices.BinarySearch(p.keys, key)
	if len(p.keys) < p.limit {
		p.keys = append(p.keys, 0)
	}
	copy(p.keys[at+1:], p.keys[at:])
	p.keys[at] = key
	if len(p.keys) == p.limit {
		p.worst = p.keys[p.limit-1] &^ expanded
	}
	return at
}
