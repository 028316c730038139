package kernel

import "math"

// poolSlack is the number of places behind the limit of a pool that a kernel
// may write to.
const poolSlack = 16

// poolMost is the largest pool that the kernels are given: assembly has room
// on its stack for one bit for every place. Larger ones take plain Go.
const poolMost = 4096

// offerPiece bounds the keys of one call of a kernel, which moves up to the
// whole pool for every few of them and cannot be interrupted.
const offerPiece = 64

// Key orders by distance, then by row: the bits of the distance, changed so
// that they compare as unsigned integers, above the row, above a bit that is
// the caller's. NaN is farther than everything, -0 is 0.
func Key(distance float32, row uint32) uint64 {
	bits := math.Float32bits(distance + 0)
	bits ^= uint32(int32(bits)>>31) | 1<<31 // the sign cannot be predicted
	if distance != distance {
		bits = math.MaxUint32
	}
	return uint64(bits)<<32 | uint64(row)<<1
}

// Offer merges the keys of rows, Key(keys[i], rows[i]), into pool[:n], which
// is in ascending order, and keeps the limit smallest. It returns how many
// there are then, and the first place that changed, n2 when none did. The
// capacity of pool must be at least limit+16: what lies behind the result is
// overwritten.
func Offer(pool []uint64, n, limit int, keys []float32, rows []uint32) (n2, first int) {
	offerable(pool, n, limit, len(keys), len(rows))
	if len(keys) == 0 || limit == 0 {
		return n, n
	}
	if limit > poolMost {
		return offerGeneric(pool[:limit], n, limit, keys, rows)
	}
	pool, first = pool[:limit+poolSlack], limit
	for len(keys) > offerPiece {
		var at int
		n, at = active.offer(pool, n, limit, keys[:offerPiece], rows[:offerPiece])
		keys, rows, first = keys[offerPiece:], rows[offerPiece:], min(first, at)
	}
	n2, at := active.offer(pool, n, limit, keys, rows)
	return n2, min(first, at, n2)
}

func offerGeneric(pool []uint64, n, limit int, keys []float32, rows []uint32) (n2, first int) {
	first = limit
	for i, distance := range keys {
		key := Key(distance, rows[i])
		if n == limit && key >= pool[n-1] {
			continue
		}
		at := min(n, limit-1)
		for ; at > 0 && pool[at-1] > key; at-- {
			pool[at] = pool[at-1]
		}
		pool[at] = key
		n, first = min(n+1, limit), min(first, at)
	}
	return n, min(first, n)
}
