package server

import (
	"math"
	"strconv"
)

// number is a JSON number as it was written: its digits as an integer, and
// where the decimal point belongs.
type number struct {
	text     []byte
	mantissa uint64 // the first 19 significant digits
	exponent int    // value = mantissa · 10^exponent when exact
	negative bool
	integer  bool // written without fraction and exponent, and not as -0
	exact    bool // mantissa holds all digits
}

// number reads a number by the grammar of RFC 8259, section 6.
func (s *scanner) number() number {
	if s.err != nil {
		return number{}
	}
	c := s.peek()
	if c != '-' && (c < '0' || c > '9') {
		if s.pos == len(s.data) {
			s.syntax("EOF while parsing a value")
		} else {
			s.syntax("expected value")
		}
		return number{}
	}
	n, end, ok := parseNumber(s.data, s.pos)
	s.pos = end
	if !ok {
		s.syntax("invalid number")
		return number{}
	}
	return n
}

// parseNumber reads the number that begins at i and returns where it ends.
func parseNumber(b []byte, i int) (n number, end int, ok bool) {
	from, digits := i, 0
	n.integer, n.exact = true, true
	if b[i] == '-' {
		n.negative = true
		i++
	}
	first := i
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
		if digits < 19 {
			if n.mantissa = n.mantissa*10 + uint64(b[i]-'0'); n.mantissa > 0 {
				digits++
			}
		} else {
			n.exact = false
			n.exponent++
		}
	}
	if i == first || b[first] == '0' && i > first+1 {
		return n, i, false
	}
	if i < len(b) && b[i] == '.' {
		n.integer = false
		i++
		first = i
		for ; i < len(b) && b[i]-'0' <= 9; i++ {
			if digits < 19 {
				if n.mantissa = n.mantissa*10 + uint64(b[i]-'0'); n.mantissa > 0 {
					digits++
				}
				n.exponent--
			} else {
				n.exact = false
			}
		}
		if i == first {
			return n, i, false
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		n.integer = false
		i++
		minus := i < len(b) && b[i] == '-'
		if minus || i < len(b) && b[i] == '+' {
			i++
		}
		first = i
		e := 0
		for ; i < len(b) && b[i]-'0' <= 9; i++ {
			e = min(e*10+int(b[i]-'0'), 1<<20) // far beyond every range, and no overflow
		}
		if i == first {
			return n, i, false
		}
		if minus {
			e = -e
		}
		n.exponent += e
	}
	if n.negative && n.mantissa == 0 {
		n.integer = false // an integer has no minus zero
	}
	n.text = b[from:i]
	return n, i, true
}

// int64 is the number's value; false when it is not an integer of that range.
func (n number) int64() (int64, bool) {
	if !n.integer || !n.exact || n.exponent != 0 {
		return 0, false
	}
	if n.negative {
		return int64(-n.mantissa), n.mantissa <= 1<<63
	}
	return int64(n.mantissa), n.mantissa <= math.MaxInt64
}

// uint64 is the number's value; false when it is not an integer of that range.
func (n number) uint64() (uint64, bool) {
	if !n.integer {
		return 0, false
	}
	if n.exact && n.exponent == 0 {
		return n.mantissa, !n.negative
	}
	v, err := strconv.ParseUint(string(n.text), 10, 64)
	return v, err == nil
}

// float64 is the number's value, correctly rounded; false beyond the range.
func (n number) float64() (float64, bool) {
	v, err := strconv.ParseFloat(string(n.text), 64)
	if v == 0 {
		v = 0 // no minus zero: it would read back as another number than was compared
	}
	return v, err == nil
}

// float32 is the number's value, correctly rounded: ±Inf beyond the range, 0 below it.
//
// Embeddings' numbers come here only when they are not common (quickFloat).
func (n number) float32() float32 {
	v, _ := strconv.ParseFloat(string(n.text), 32)
	return float32(v)
}

// wantNumber reads a number where nothing else is wanted.
func (s *scanner) wantNumber(wanted string) number {
	if s.err != nil {
		return number{}
	}
	if c := s.peek(); c != '-' && (c < '0' || c > '9') {
		s.mismatch(wanted)
		return number{}
	}
	return s.number()
}

// uint reads an unsigned integer of at most limit, which wanted names.
func (s *scanner) uint(limit uint64, wanted string) uint64 {
	n := s.wantNumber(wanted)
	if s.err != nil {
		return 0
	}
	v, ok := n.uint64()
	switch {
	case !n.integer:
		s.shape("invalid type: floating point `" + clip(string(n.text)) + "`, expected " + wanted)
	case !ok || v > limit:
		s.shape("invalid value: integer `" + clip(string(n.text)) + "`, expected " + wanted)
	default:
		return v
	}
	return 0
}

func (s *scanner) u32() uint32 { return uint32(s.uint(math.MaxUint32, "u32")) }

// float reads a float64.
func (s *scanner) float(wanted string) float64 {
	n := s.wantNumber(wanted)
	if s.err != nil {
		return 0
	}
	v, ok := n.float64()
	if !ok {
		s.syntax("number out of range")
	}
	return v
}
