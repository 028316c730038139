package server

import (
	"math"
	"strconv"

	"github.com/chromad/chromad/filter"
)

// appendText appends t as a JSON string, in the way that metadata are printed.
func appendText(b []byte, t string) []byte { return filter.AppendText(b, t) }

// appendOptional appends t, or null.
func appendOptional(b []byte, t *string) []byte {
	if t == nil {
		return append(b, "null"...)
	}
	return appendText(b, *t)
}

// appendFloat appends the shortest decimal that reads back as v with so many
// bits (for 32, appendFloat32 is the quick way), always with a point or an exponent, so that it does not become an integer.
func appendFloat(b []byte, v float64, bits int) []byte {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return append(b, "0.0"...) // -0.0 reads as 0.0; the others are never stored
	}
	form := byte('f')
	if a := math.Abs(v); a < 1e-5 || a >= 1e16 {
		form = 'e'
	}
	from := len(b)
	b = strconv.AppendFloat(b, v, form, -1, bits)
	if form == 'e' {
		return trimExponent(b, from)
	}
	for _, c := range b[from:] {
		if c == '.' {
			return b
		}
	}
	return append(b, '.', '0')
}

// trimExponent turns 1e-07 into 1e-7 and 1e+21 into 1e21.
func trimExponent(b []byte, from int) []byte {
	e := from
	for b[e] != 'e' {
		e++
	}
	to := e + 1
	if b[e+1] == '-' {
		to++
	}
	digits := e + 2
	if b[digits] == '0' {
		digits++
	}
	return append(b[:to], b[digits:]...)
}

// appendVector appends v as a JSON array.
func appendVector(b []byte, v []float32) []byte {
	b = append(b, '[')
	for i, x := range v {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendFloat32(b, x)
	}
	return append(b, ']')
}

// appendList appends the elements with commas between brackets.
func appendList[T any](b []byte, list []T, element func([]byte, T) []byte) []byte {
	b = append(b, '[')
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = element(b, v)
	}
	return append(b, ']')
}

func appendInt(b []byte, n int) []byte { return strconv.AppendInt(b, int64(n), 10) }
