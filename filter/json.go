package filter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ErrMetadata marks JSON that is not a record's metadata.
var ErrMetadata = errors.New("invalid metadata")

// AppendJSON appends the value as the API prints it: integers without a
// fraction, floats always with a point or an exponent, text as valid UTF-8.
// A number that JSON cannot say (NaN, infinity) is null.
func (v Value) AppendJSON(dst []byte) []byte {
	switch v.kind {
	case KindBool:
		return strconv.AppendBool(dst, v.AsBool())
	case KindInt:
		return strconv.AppendInt(dst, v.AsInt(), 10)
	case KindFloat:
		return appendFloat(dst, v.AsFloat())
	case KindString:
		return AppendText(dst, v.str)
	case KindBools:
		return appendList(dst, v.AsBools(), strconv.AppendBool)
	case KindInts:
		return appendList(dst, v.AsInts(), func(b []byte, i int64) []byte { return strconv.AppendInt(b, i, 10) })
	case KindFloats:
		return appendList(dst, v.AsFloats(), appendFloat)
	case KindStrings:
		return appendList(dst, v.AsStrings(), AppendText)
	}
	return append(dst, "null"...)
}

// MarshalJSON is AppendJSON.
func (v Value) MarshalJSON() ([]byte, error) { return v.AppendJSON(nil), nil }

// AppendJSON appends the metadata as an object with sorted keys, or null for
// metadata without keys.
func (m Metadata) AppendJSON(dst []byte) []byte {
	if len(m) == 0 {
		return append(dst, "null"...)
	}
	dst = append(dst, '{')
	var few fewKeys
	for i, key := range m.keys(few[:0]) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendText(dst, key)
		dst = append(dst, ':')
		dst = m[key].AppendJSON(dst)
	}
	return append(dst, '}')
}

// MarshalJSON is AppendJSON.
func (m Metadata) MarshalJSON() ([]byte, error) { return m.AppendJSON(nil), nil }

func appendList[T any](dst []byte, list []T, one func([]byte, T) []byte) []byte {
	dst = append(dst, '[')
	for i, x := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = one(dst, x)
	}
	return append(dst, ']')
}

// appendFloat prints the shortest text that reads back as f and that no
// reader takes for an integer.
func appendFloat(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	f = plusZero(f)
	if a := math.Abs(f); f == 0 || a >= 1e-5 && a < 1e16 {
		start := len(dst)
		dst = strconv.AppendFloat(dst, f, 'f', -1, 64)
		if bytes.IndexByte(dst[start:], '.') < 0 {
			dst = append(dst, ".0"...)
		}
		return dst
	}
	var buf [32]byte
	text := strconv.AppendFloat(buf[:0], f, 'e', -1, 64)
	// Go pads the exponent (1e-07) and signs it (1e+18); JSON needs neither.
	mantissa, exponent, _ := bytes.Cut(text, []byte("e"))
	dst = append(append(dst, mantissa...), 'e')
	if exponent[0] == '-' {
		dst = append(dst, '-')
	}
	return append(dst, bytes.TrimLeft(exponent[1:], "0")...)
}

const hexDigits = "0123456789abcdef"

// AppendText prints a JSON string. Bytes that are not UTF-8 become U+FFFD, so
// that what is printed is JSON in any case.
func AppendText(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(append(dst, s[start:i]...), "\uFFFD"...)
				start = i + 1
			}
			i += n
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, `\u00`...)
			dst = append(dst, hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}

// Number classifies a JSON number: an integer within 64 signed bits is an
// Int, every other number a Float. A number beyond the range of 64-bit floats
// is an error.
func Number(token string) (Value, error) {
	if !strings.ContainsAny(token, ".eE") {
		if i, err := strconv.ParseInt(token, 10, 64); err == nil {
			return Int(i), nil
		}
	}
	f, err := strconv.ParseFloat(token, 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return Value{}, fmt.Errorf("number %.40q out of range", token)
	}
	return Float(f), nil
}

// List makes an array value of scalars, by the rules of the API: all of one
// kind, integers among floats become floats. ok is false for a list without
// elements, which a record does not store.
func List(elements []Value) (list Value, ok bool, err error) {
	if len(elements) == 0 {
		return Value{}, false, nil
	}
	kind := elements[0].kind
	for _, e := range elements[1:] {
		switch {
		case e.kind == kind:
		case e.rank() == 2 && (kind == KindInt || kind == KindFloat):
			kind = KindFloat
		default:
			return Value{}, false, fmt.Errorf("%w: list of mixed kinds", ErrMetadata)
		}
	}
	switch kind {
	case KindBool:
		return Value{kind: KindBools, list: collect(elements, Value.AsBool)}, true, nil
	case KindInt:
		return Value{kind: KindInts, list: collect(elements, Value.AsInt)}, true, nil
	case KindFloat:
		return Value{kind: KindFloats, list: collect(elements, func(v Value) float64 {
			if v.kind == KindInt {
				return float64(v.AsInt())
			}
			return v.AsFloat()
		})}, true, nil
	case KindString:
		return Value{kind: KindStrings, list: collect(elements, Value.AsString)}, true, nil
	}
	return Value{}, false, fmt.Errorf("%w: null or a list inside a list", ErrMetadata)
}

func collect[T any](elements []Value, one func(Value) T) []T {
	list := make([]T, len(elements))
	for i, e := range elements {
		list[i] = one(e)
	}
	return list
}

// ParseMetadata reads a record's metadata from a JSON object. A key whose
// value is an empty list is dropped; a null stays, as a value of KindNull.
// JSON null is nil metadata. Keys are not judged; see Metadata.Check.
func ParseMetadata(data []byte) (Metadata, error) {
	t, err := newTokens(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrMetadata, err)
	}
	first := t.next()
	if first == nil {
		return nil, nil
	}
	if first != json.Delim('{') {
		return nil, fmt.Errorf("%w: not an object", ErrMetadata)
	}
	m := Metadata{}
	seen := map[string]struct{}{}
	for {
		key, more := t.next().(string)
		if !more {
			return m, nil
		}
		if _, twice := seen[key]; twice {
			return nil, fmt.Errorf("%w: key %.80q given twice", ErrMetadata, key)
		}
		seen[key] = struct{}{}
		v, keep, err := t.value()
		if err != nil {
			return nil, fmt.Errorf("%w (key %.80q)", err, key)
		}
		if keep {
			m[key] = v
		}
	}
}

// tokens walks JSON that has been found valid as a whole, so that what
// follows can only be one of the few shapes the grammar allows.
type tokens struct{ dec *json.Decoder }

func newTokens(data []byte) (*tokens, error) {
	if !json.Valid(data) {
		return nil, errors.New("not valid JSON")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return &tokens{dec: dec}, nil
}

// next is the next token: nil, bool, json.Number, string or json.Delim.
func (t *tokens) next() json.Token {
	tok, err := t.dec.Token()
	if err != nil {
		// Unreachable on valid JSON; a delimiter that no caller accepts.
		return json.Delim(0)
	}
	return tok
}

// scalar turns a token into a value.
func scalar(tok json.Token) (Value, error) {
	switch tok := tok.(type) {
	case nil:
		return Null(), nil
	case bool:
		return Bool(tok), nil
	case string:
		return String(tok), nil
	case json.Number:
		return Number(string(tok))
	}
	return Value{}, errors.New("an object or a list where a single value is needed")
}

// value reads one metadata value; keep is false for an empty list.
func (t *tokens) value() (v Value, keep bool, err error) {
	tok := t.next()
	if tok != json.Delim('[') {
		v, err = scalar(tok)
		if err != nil {
			return v, false, fmt.Errorf("%w: %v", ErrMetadata, err)
		}
		return v, true, nil
	}
	var elements []Value
	for {
		tok := t.next()
		if tok == json.Delim(']') {
			return List(elements)
		}
		e, err := scalar(tok)
		if err != nil {
			return Value{}, false, fmt.Errorf("%w: %v", ErrMetadata, err)
		}
		elements = append(elements, e)
	}
}

// keys appends m's keys in order.
func (m Metadata) keys(dst []string) []string {
	for key := range m {
		dst = append(dst, key)
	}
	slices.Sort(dst)
	return dst
}

// fewKeys is memory on the stack for the keys of most metadata.
type fewKeys [16]string

// String is the metadata as JSON, for messages.
func (m Metadata) String() string { return string(m.AppendJSON(nil)) }
