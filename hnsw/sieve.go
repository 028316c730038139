package hnsw

import (
	"math"
	"slices"

	"github.com/chromad/chromad/internal/kernel"
)

// A sieve finds the smallest of many numbers, some hundreds to thousands, in a
// few passes of the kernels, which do not branch on a number.
type sieve struct {
	all []uint16 // 0, 1, 2, ...
	d   []int32
	at  []uint16
}

// nearest returns the places of the smallest numbers of d in their order: at
// least so many and at most so many, where d has them. Of equal numbers the
// first count. Numbers of math.MaxInt32 do not count at all. The result is
// valid until the next call.
func (s *sieve) nearest(d []int32, least, most int) []uint16 {
	s.grow(len(d))
	few := fewest(d, max(1, least*5/8))
	high := few[len(few)-1]
	n := kernel.Below(d, s.all, high, s.d, s.at)
	for step := max(int64(high)-int64(few[0]), 1); n < least && high < math.MaxInt32; step *= 2 {
		high = int32(min(int64(high)+step, math.MaxInt32))
		n = kernel.Below(d, s.all, high, s.d, s.at)
	}
	if n <= most {
		return s.at[:n]
	}
	return s.tighten(n, high, few, least, most)
}

// fewest guesses numbers that are about as far in the order of d as are every,
// two, three and four times every: the smallest of every so many.
func fewest(d []int32, every int) [4]int32 {
	a, b, c, e := int32(math.MaxInt32), int32(math.MaxInt32), int32(math.MaxInt32), int32(math.MaxInt32)
	if len(d) >= 8*every {
		every = max(every, len(d)/fewestOf)
		for i := every / 2; i < len(d); i += every {
			x := d[i] // as a network, without branches
			e = min(e, max(c, x))
			c = min(c, max(b, x))
			b = min(b, max(a, x))
			a = min(a, x)
		}
	}
	return [4]int32{a, b, c, e}
}

// fewestOf is how many numbers fewest looks at.
const fewestOf = 64

// tighten leaves out the largest of the first n numbers, which are those below
// high and more than most.
func (s *sieve) tighten(n int, high int32, few [4]int32, least, most int) []uint16 {
	d, at := s.d[:n], s.at[:n]
	low, under := int64(-1), -1 // so many numbers are less than low
	top, over := int64(high), n
	for try := 0; under < 0 || top-low > 1; try++ {
		var middle int64
		switch {
		case under < 0 && try < 2 && int64(few[1-try]) < top:
			middle = int64(few[1-try])
		case under < 0:
			low, under = int64(slices.Min(d)), 0
			continue
		case try < 8:
			share := float64((least+most)/2-under) / float64(over-under)
			middle = max(low+1, min(low+int64(share*float64(top-low)), top-1))
		default:
			middle = low + (top-low)/2
		}
		switch count := kernel.CountBelow(d, int32(middle)); {
		case count < least:
			low, under = middle, count
		case count > most:
			top, over = middle, count
		default:
			return at[:kernel.Below(d, at, int32(middle), d, at)]
		}
	}
	// Too many are equal.
	n = 0
	for i, x := range d {
		if int64(x) < low || int64(x) == low && under < least {
			if int64(x) == low {
				under++
			}
			at[n] = at[i]
			n++
		}
	}
	return at[:n]
}

// merge adds the smallest of d to keys, which are ascending, and keeps the
// limit smallest. The place of d[i] is from+i; those in keys are less.
func (s *sieve) merge(keys []uint64, d []int32, from, limit int) []uint64 {
	if len(keys) < limit {
		for _, at := range s.nearest(d, limit, 2*limit) {
			keys = insert(keys, biased(d[at], from+int(at)), limit)
		}
		return keys
	}
	s.grow(len(d))
	n := kernel.Below(d, s.all, unbiased(keys[limit-1]), s.d, s.at)
	for i, x := range s.d[:n] {
		keys = insert(keys, biased(x, from+int(s.at[i])), limit)
	}
	return keys
}

// insert puts a key among those that are ascending, of which it keeps limit.
func insert(keys []uint64, key uint64, limit int) []uint64 {
	if len(keys) < limit {
		keys = append(keys, key)
	} else if key >= keys[limit-1] {
		return keys
	}
	at := len(keys) - 1
	for ; at > 0 && keys[at-1] > key; at-- {
		keys[at] = keys[at-1]
	}
	keys[at] = key
	return keys
}

func (s *sieve) grow(n int) {
	for i := len(s.all); i < n; i++ {
		s.all = append(s.all, uint16(i))
	}
	s.d = slices.Grow(s.d[:0], n)[:n]
	s.at = slices.Grow(s.at[:0], n)[:n]
}

// biased is a key of a number that may be negative, and an index.
func biased(d int32, i int) uint64 { return uint64(uint32(d)^1<<31)<<32 | uint64(uint32(i)) }

func unbiased(key uint64) int32 { return int32(uint32(key>>32) ^ 1<<31) }
