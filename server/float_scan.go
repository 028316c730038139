package server

import (
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"
)

// quickFloat reads the float32 that begins at i, correctly rounded, when it is
// of the common kind, and returns where it ends: 0 when it is not, or is
// none at all, and parseNumber has to say. Eight digits are read at a time. What
// reaches to the end of b is not of the common kind: a body may be cut off there.
//
// The common kind is -?d+(.d+)?(e±d+)? with at most 19 digits that count, whose
// float64 lies far enough from where two float32 meet.
func quickFloat(b []byte, i int) (f float32, end int) {
	if i >= len(b) {
		return 0, 0
	}
	// Half of the numbers of an embedding are negative, and which they are nobody can
	// predict: what depends on the numbers alone takes no branch.
	minus := (uint32(b[i]^'-') - 1) >> 31
	i += int(minus)
	first, m := i, uint64(0)
	if i+1 < len(b) && b[i+1] == '.' && b[i]-'0' <= 9 { // nearly always, in embeddings
		m = uint64(b[i] - '0')
		i++
	} else {
		m, i = quickDigits(b, i, 0)
	}
	count := i - first
	if count == 0 {
		return 0, 0
	}
	zero := b[first] == '0' // m may have overflowed to 0
	if zero {
		if count > 1 {
			return 0, 0
		}
		count = 0
	}
	exponent := 0
	if i < len(b) && b[i] == '.' {
		i++
		point := i
		if m, i = quickDigits(b, i, m); i == point {
			return 0, 0
		}
		exponent = point - i
		count += i - point
		if zero && point+8 <= i { // the zeros of 0.00ddd do not count
			count -= bits.TrailingZeros64(binary.LittleEndian.Uint64(b[point:])^zeros|1<<63) / 8
		}
	}
	if count > 19 || i >= len(b) {
		return 0, 0
	}
	if b[i]|0x20 == 'e' {
		e, to := quickExponent(b, i+1)
		if to == 0 {
			return 0, 0
		}
		exponent, i = exponent+e, to
	}
	at := exponent - leastScale
	if uint(at) >= uint(len(scales)) {
		return 0, 0
	}
	// Three roundings of half a unit in the last place at most: of the mantissa,
	// of the power of ten, of the product. Where 24 bits are kept of such a
	// number, they are right unless it is that close to the middle of two.
	v := float64(m) * scales[at]
	const half, slack = 1 << 28, 4
	low := math.Float64bits(v) & (1<<29 - 1)
	if m != 0 && (v < 1e-37 || v > 3e38 || low-(half-slack) <= 2*slack) {
		return 0, 0
	}
	return math.Float32frombits(math.Float32bits(float32(v)) | minus<<31), i
}

// quickDigits appends the digits from i on to m, and returns where they end.
// What is more than a uint64 holds is for the caller to notice: by the count.
func quickDigits(b []byte, i int, m uint64) (uint64, int) {
	for i+8 <= len(b) {
		x := binary.LittleEndian.Uint64(b[i:]) ^ zeros
		// The highest bit of each byte that is no digit.
		other := ((x&0x7f7f7f7f7f7f7f7f + 0x7676767676767676) | x) & 0x8080808080808080
		if other == 0 {
			m = m*1e8 + eightDigits(x)
			i += 8
			continue
		}
		n := bits.TrailingZeros64(other) / 8
		return m*uint64(powersInt[n]) + eightDigits(x<<(64-8*n)), i + n
	}
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
		m = m*10 + uint64(b[i]-'0')
	}
	return m, i
}

// eightDigits is the number of eight digits in memory order, '0' being 0.
func eightDigits(x uint64) uint64 {
	x = x*10 + x>>8 // pairs, in every second byte
	const mask = 0x000000ff000000ff
	return ((x&mask)*(100+1000000<<32) + (x>>16&mask)*(1+10000<<32)) >> 32
}

// quickExponent reads the exponent behind an e, of at most three digits, with something behind it.
func quickExponent(b []byte, i int) (e, end int) {
	minus := i < len(b) && b[i] == '-'
	if minus || i < len(b) && b[i] == '+' {
		i++
	}
	first := i
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
		if e = e*10 + int(b[i]-'0'); i-first == 3 {
			return 0, 0
		}
	}
	if i == first || i == len(b) {
		return 0, 0
	}
	if minus {
		e = -e
	}
	return e, i
}

// scales are the powers of ten from 10^leastScale on, as near as float64 gets.
const leastScale = -64

var scales = func() (s [128]float64) {
	for i := range s {
		s[i], _ = strconv.ParseFloat("1e"+strconv.Itoa(i+leastScale), 64) // math.Pow10 rounds twice
	}
	return s
}()

// quickFloats appends the numbers that come next in an array to *dst, as far as
// they are common and nothing but a comma and a space lies between them. It
// stops behind a number, before what it leaves to the caller, which is every
// error too. *dst has at most limit numbers then.
func (s *scanner) quickFloats(dst *[]float32, limit int) {
	v, b, i := *dst, s.data, s.pos
	for len(v) < limit {
		f, end := quickFloat(b, i)
		if end == 0 {
			break
		}
		v = append(double(v), f)
		s.pos = end
		if i = end; b[i] != ',' { // quickFloat ends before the end
			break
		}
		if i++; i < len(b) && b[i] == ' ' {
			i++
		}
	}
	*dst = v
}
