package filter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
)

// Metadata is what a record says about itself, by key. Nil and empty mean the
// same: nothing.
type Metadata map[string]Value

// Check reports the first key that a record may not have: an empty one, or
// one that begins with # or $, which the API keeps for itself.
func (m Metadata) Check() error {
	var few fewKeys
	for _, key := range m.keys(few[:0]) {
		if !ValidKey(key) {
			return fmt.Errorf("%w: key %.80q", ErrMetadata, key)
		}
	}
	return nil
}

// ValidKey reports whether a record's metadata may use the key.
func ValidKey(key string) bool {
	return key != "" && key[0] != '#' && key[0] != '$'
}

// Equal reports whether both hold equal values under the same keys.
func (m Metadata) Equal(n Metadata) bool {
	if len(m) != len(n) {
		return false
	}
	for key, v := range m {
		w, ok := n[key]
		if !ok || !v.Equal(w) {
			return false
		}
	}
	return true
}

var errCodec = errors.New("metadata bytes damaged")

// AppendMetadata appends the stored form: a uvarint count, then per key, in
// ascending order, the key (uvarint length, bytes), the kind (one byte) and
// the value. Bools are one byte, integers zigzag varints, floats 8 bytes
// little endian, texts a uvarint length and bytes; a list is a uvarint count
// and its elements. Equal metadata has equal bytes.
func AppendMetadata(b []byte, m Metadata) []byte {
	b = binary.AppendUvarint(b, uint64(len(m)))
	var few fewKeys
	for _, key := range m.keys(few[:0]) {
		v := m[key]
		b = appendBytes(b, key)
		b = append(b, byte(v.kind))
		b = appendValue(b, v)
	}
	return b
}

func appendBytes(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendFloat64(b []byte, f float64) []byte {
	return binary.LittleEndian.AppendUint64(b, math.Float64bits(f))
}

func appendBool(b []byte, x bool) []byte {
	if x {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendValue(b []byte, v Value) []byte {
	switch v.kind {
	case KindBool:
		return append(b, byte(v.num))
	case KindInt:
		return binary.AppendVarint(b, v.AsInt())
	case KindFloat:
		return appendFloat64(b, v.AsFloat())
	case KindString:
		return appendBytes(b, v.str)
	}
	if !v.kind.IsArray() {
		return b
	}
	b = binary.AppendUvarint(b, uint64(v.Len()))
	switch l := v.list.(type) {
	case []bool:
		for _, x := range l {
			b = appendBool(b, x)
		}
	case []int64:
		for _, x := range l {
			b = binary.AppendVarint(b, x)
		}
	case []float64:
		for _, x := range l {
			b = appendFloat64(b, x)
		}
	case []string:
		for _, x := range l {
			b = appendBytes(b, x)
		}
	}
	return b
}

// DecodeMetadata reads what AppendMetadata wrote; b must hold nothing else.
// The result does not alias b. Empty input is metadata without keys. Memory
// is bounded by a constant times len(b).
func DecodeMetadata(b []byte) (Metadata, error) {
	if len(b) == 0 {
		return nil, nil
	}
	// One copy carries every key and text of the record.
	r := reader{s: string(b)}
	n := r.count(2) // a key takes at least its length and its kind
	if n == 0 {
		if r.bad || r.s != "" {
			return nil, errCodec
		}
		return nil, nil
	}
	m := make(Metadata, n)
	last := ""
	for i := range n {
		key := r.text()
		v := r.value()
		// Ascending keys make the form unique and rule out repeated keys.
		if r.bad || i > 0 && key <= last {
			return nil, errCodec
		}
		m[key] = v
		last = key
	}
	if r.s != "" {
		return nil, errCodec
	}
	return m, nil
}

// reader takes values off the front of s; bad sticks.
type reader struct {
	s   string
	bad bool
}

func (r *reader) uvarint() uint64 {
	var x uint64
	for i := 0; i < len(r.s) && i < binary.MaxVarintLen64; i++ {
		c := r.s[i]
		if c < 0x80 {
			if i == binary.MaxVarintLen64-1 && c > 1 || i > 0 && c == 0 {
				break // overflow, or a longer form than needed
			}
			r.s = r.s[i+1:]
			return x | uint64(c)<<(7*i)
		}
		x |= uint64(c&0x7f) << (7 * i)
	}
	r.fail()
	return 0
}

func (r *reader) fail() { r.bad, r.s = true, "" }

// count reads a number of things that take at least size bytes each.
func (r *reader) count(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.s)/size) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) take(n int) string {
	if n > len(r.s) {
		r.fail()
		return ""
	}
	s := r.s[:n]
	r.s = r.s[n:]
	return s
}

func (r *reader) text() string { return r.take(r.count(1)) }

func (r *reader) bool() bool {
	s := r.take(1)
	if r.bad || s[0] > 1 {
		r.fail()
		return false
	}
	return s[0] == 1
}

func (r *reader) int() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (r *reader) float() float64 {
	s := r.take(8)
	if r.bad {
		return 0
	}
	var u uint64
	for i := range 8 {
		u |= uint64(s[i]) << (8 * i)
	}
	if u == 1<<63 { // negative zero, which no Value holds
		r.fail()
		return 0
	}
	return math.Float64frombits(u)
}

func (r *reader) value() Value {
	kind := r.take(1)
	if r.bad {
		return Value{}
	}
	switch Kind(kind[0]) {
	case KindNull:
		return Null()
	case KindBool:
		return Bool(r.bool())
	case KindInt:
		return Int(r.int())
	case KindFloat:
		return Float(r.float())
	case KindString:
		return String(r.text())
	case KindBools:
		return Value{kind: KindBools, list: readList(r, 1, r.bool)}
	case KindInts:
		return Value{kind: KindInts, list: readList(r, 1, r.int)}
	case KindFloats:
		return Value{kind: KindFloats, list: readList(r, 8, r.float)}
	case KindStrings:
		return Value{kind: KindStrings, list: readList(r, 1, r.text)}
	}
	r.fail()
	return Value{}
}

func readList[T any](r *reader, size int, one func() T) []T {
	n := r.count(size)
	list := make([]T, n)
	for i := range list {
		list[i] = one()
	}
	return list
}

// Clone is a copy that shares nothing with m, not even the bytes of texts.
func (m Metadata) Clone() Metadata {
	if m == nil {
		return nil
	}
	c := make(Metadata, len(m))
	for key, v := range m {
		v.str = strings.Clone(v.str)
		switch l := v.list.(type) {
		case []bool:
			v = Bools(l...)
		case []int64:
			v = Ints(l...)
		case []float64:
			v = Floats(l...)
		case []string:
			v = Strings(l...)
			for i, s := range v.AsStrings() {
				v.AsStrings()[i] = strings.Clone(s)
			}
		}
		c[strings.Clone(key)] = v
	}
	return c
}
