package server

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
)

// appendFloat32 appends the shortest decimal that reads back as v, in the form
// that appendFloat gives it. It is Schubfach (Giulietti, "The Schubfach way to
// render doubles", section 9) for 24 bits: one multiplication each for the
// number and for both ends of what rounds to it. An answer with embeddings is
// made of little else.
func appendFloat32(b []byte, v float32) []byte {
	u := math.Float32bits(v)
	if u&0x7fffffff == 0 || u&0x7f800000 == 0x7f800000 {
		return append(b, "0.0"...) // as appendFloat
	}
	const longest = 40 // and what is written behind the end
	if cap(b)-len(b) < longest {
		b = slices.Grow(b, longest)
	}
	at := len(b)
	to := b[at : at+longest]
	to[0] = '-'
	to = to[u>>31:]
	u &= 0x7fffffff
	d, k := shortest32(u)
	n := digits(d)
	point := n + k // digits in front of the point
	first, rest, n := nineDigits(d, n)
	i := 0 // bytes written
	switch {
	case u < fixedFrom || u >= fixedTo: // d.ddde±x
		to[0], to[1] = first, '.'
		binary.LittleEndian.PutUint64(to[2:], rest)
		if i = n + 1; n == 1 {
			i = 1
		}
		to[i] = 'e'
		i = len(appendInt(to[:i+1], point-1))
	case point <= 0: // 0.00ddd
		binary.LittleEndian.PutUint64(to, zeros-'0'<<8+'.'<<8)
		to[2-point] = first
		binary.LittleEndian.PutUint64(to[3-point:], rest)
		i = 2 - point + n
	case point >= n: // ddd000.0
		to[0] = first
		binary.LittleEndian.PutUint64(to[1:], rest)
		binary.LittleEndian.PutUint64(to[9:], zeros) // rest has them up to here
		to[point], to[point+1] = '.', '0'
		i = point + 2
	default: // dd.ddd
		to[0] = first
		binary.LittleEndian.PutUint64(to[1:], rest)
		copy(to[point+1:n+1], to[point:n])
		to[point] = '.'
		i = n + 1
	}
	return b[:at+int(math.Float32bits(v)>>31)+i]
}

const zeros = 0x3030303030303030 // eight times '0'

// nineDigits writes d, of n digits, with zeros behind it: the first digit, and
// eight in memory order. The zeros at the end of d do not count in n any more.
func nineDigits(d uint32, n int) (first byte, rest uint64, significant int) {
	d *= powersInt[9-n] // below 10^9
	first = byte('0' + d/1e8)
	d %= 1e8
	// Two lanes of four digits become four of two, and eight of one.
	x := uint64(d/1e4) | uint64(d%1e4)<<32
	high := (x * 10486) >> 20 & 0x7f0000007f
	x = high | (x-100*high)<<16
	high = (x * 103) >> 10 & 0x000f000f000f000f
	x = high | (x-10*high)<<8
	return first, x | zeros, 9 - bits.LeadingZeros64(x)/8
}

// shortest32 returns the shortest decimal d·10^k, zeros at its end apart, that
// rounds to the positive float32 with the bits u, and of several the nearest.
func shortest32(u uint32) (d uint32, k int) {
	const fraction, bias = 1<<23 - 1, 127 + 23
	c, q := u&fraction, int(u>>23)-bias
	closer := uint32(0) // below a power of two its neighbour is only half as far
	if u>>23 == 0 {
		q++
	} else {
		if c == 0 && u>>23 > 1 {
			closer = 1
		}
		c |= fraction + 1
	}
	if q <= 0 && q > -24 && bits.TrailingZeros32(c) >= -q {
		return c >> -q, 0 // an integer
	}
	k = (q*1262611 - int(closer)*524031) >> 22 // ⌊log10(2^q)⌋, or of ¾·2^q
	h := q + (-k*1741647)>>19 + 1              // ⌊log2(10^-k)⌋
	g := tens[-k-leastTen]
	low := roundOdd(g, (4*c-2+closer)<<h) // what rounds to the number is between low
	high := roundOdd(g, (4*c+2)<<h)       // and high, in quarters of 10^k,
	at := roundOdd(g, 4*c<<h)             // and this is the number itself
	low, high = low+c&1, high-c&1         // a tie goes to the even one
	if s := at / 4; s >= 10 {
		s /= 10
		below, above := low <= 40*s, 40*s+40 <= high
		if below != above {
			if above {
				s++
			}
			return s, k + 1
		}
	}
	s := at / 4
	if below, above := low <= 4*s, 4*s+4 <= high; below != above {
		if above {
			s++
		}
		return s, k
	}
	// To the nearer one, a tie to the even one; strconv rounds the only tie of a
	// power of two up, 2^-12. Which it is nobody can predict, so there is no branch.
	s += (4*s + 2 - at - (s|closer)&1) >> 31
	return s, k
}

// roundOdd is g·c/2^64, with the last bit set when something is lost: enough
// to compare with a number of quarters.
func roundOdd(g uint64, c uint32) uint32 {
	high, low := bits.Mul64(g, uint64(c))
	r := uint32(high)
	if low>>32 > 1 {
		r |= 1
	}
	return r
}

// digits is how many decimal digits d has.
func digits(d uint32) int {
	n := bits.Len32(d) * 1233 >> 12 // that, or one less
	return n + int((uint64(powersInt[n])-uint64(d)-1)>>63)
}

var powersInt = [...]uint32{1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000}

// Numbers from 1e-5 on, below 1e16, are written without an exponent. No float32
// is 1e-5; the nearest is less and is written as 1e-5.
const (
	fixedFrom = 0x3727c5ad
	fixedTo   = 0x5a0e1bca
)

const leastTen = -31

// tens are the powers of ten from 10^-31 to 10^45: their first 64 bits, rounded up.
var tens = [...]uint64{
	0x81ceb32c4b43fcf5, 0xa2425ff75e14fc32, 0xcad2f7f5359a3b3f, 0xfd87b5f28300ca0e, 0x9e74d1b791e07e49, 0xc612062576589ddb,
	0xf79687aed3eec552, 0x9abe14cd44753b53, 0xc16d9a0095928a28, 0xf1c90080baf72cb2, 0x971da05074da7bef, 0xbce5086492111aeb,
	0xec1e4a7db69561a6, 0x9392ee8e921d5d08, 0xb877aa3236a4b44a, 0xe69594bec44de15c, 0x901d7cf73ab0acda, 0xb424dc35095cd810,
	0xe12e13424bb40e14, 0x8cbccc096f5088cc, 0xafebff0bcb24aaff, 0xdbe6fecebdedd5bf, 0x89705f4136b4a598, 0xabcc77118461cefd,
	0xd6bf94d5e57a42bd, 0x8637bd05af6c69b6, 0xa7c5ac471b478424, 0xd1b71758e219652c, 0x83126e978d4fdf3c, 0xa3d70a3d70a3d70b,
	0xcccccccccccccccd, 0x8000000000000000, 0xa000000000000000, 0xc800000000000000, 0xfa00000000000000, 0x9c40000000000000,
	0xc350000000000000, 0xf424000000000000, 0x9896800000000000, 0xbebc200000000000, 0xee6b280000000000, 0x9502f90000000000,
	0xba43b74000000000, 0xe8d4a51000000000, 0x9184e72a00000000, 0xb5e620f480000000, 0xe35fa931a0000000, 0x8e1bc9bf04000000,
	0xb1a2bc2ec5000000, 0xde0b6b3a76400000, 0x8ac7230489e80000, 0xad78ebc5ac620000, 0xd8d726b7177a8000, 0x878678326eac9000,
	0xa968163f0a57b400, 0xd3c21bcecceda100, 0x84595161401484a0, 0xa56fa5b99019a5c8, 0xcecb8f27f4200f3a, 0x813f3978f8940985,
	0xa18f07d736b90be6, 0xc9f2c9cd04674edf, 0xfc6f7c4045812297, 0x9dc5ada82b70b59e, 0xc5371912364ce306, 0xf684df56c3e01bc7,
	0x9a130b963a6c115d, 0xc097ce7bc90715b4, 0xf0bdc21abb48db21, 0x96769950b50d88f5, 0xbc143fa4e250eb32, 0xeb194f8e1ae525fe,
	0x92efd1b8d0cf37bf, 0xb7abc627050305ae, 0xe596b7b0c643c71a, 0x8f7e32ce7bea5c70, 0xb35dbf821ae4f38c,
}
