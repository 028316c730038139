package filter

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"unicode/utf8"
)

// How values print: what clients parse back decides their type.
func TestAppendJSON(t *testing.T) {
	for _, c := range []struct {
		v    Value
		want string
	}{
		{Null(), "null"},
		{Bool(true), "true"},
		{Int(math.MinInt64), "-9223372036854775808"},
		{Float(2), "2.0"},
		{Float(math.Copysign(0, -1)), "0.0"},
		{Float(-2.5), "-2.5"},
		{Float(0.1), "0.1"},
		{Float(1e-5), "0.00001"},
		{Float(1e-7), "1e-7"},
		{Float(1.5e-10), "1.5e-10"},
		{Float(1e15), "1000000000000000.0"},
		{Float(1e16), "1e16"},
		{Float(1e300), "1e300"},
		{Float(9223372036854775808), "9.223372036854776e18"},
		{Float(5e-324), "5e-324"},
		{Float(math.NaN()), "null"},
		{String("naïve ✓ 日本語 😀"), `"naïve ✓ 日本語 😀"`},
		{String("line\nbreak\t\"q\" \\ \r\x00\x1f\x7f</a>\u2028"), "\"line\\nbreak\\t\\\"q\\\" \\\\ \\r\\u0000\\u001f\x7f</a>\u2028\""},
		{String("a\xffb\xc3"), "\"a\uFFFDb\uFFFD\""},
		{Floats(2, 1.5, 3), "[2.0,1.5,3.0]"},
		{Ints(1, -2), "[1,-2]"},
		{Bools(true, false), "[true,false]"},
		{Strings("x", ""), `["x",""]`},
	} {
		if got := string(c.v.AppendJSON(nil)); got != c.want {
			t.Errorf("%#v prints %s, want %s", c.v.Go(), got, c.want)
		}
	}
	m := Metadata{"b": Int(1), "a": Float(1), "\"": Bool(false)}
	if got, want := string(m.AppendJSON(nil)), `{"\"":false,"a":1.0,"b":1}`; got != want {
		t.Errorf("metadata prints %s, want %s", got, want)
	}
	if got := string(Metadata{}.AppendJSON(nil)); got != "null" {
		t.Errorf("empty metadata prints %s", got)
	}
}

func TestParseMetadata(t *testing.T) {
	for text, want := range map[string]Metadata{
		`null`:                         nil,
		`{}`:                           {},
		`{"a":1,"b":1.0,"c":1e0}`:      {"a": Int(1), "b": Float(1), "c": Float(1)},
		`{"a":9223372036854775807}`:    {"a": Int(math.MaxInt64)},
		`{"a":-9223372036854775808}`:   {"a": Int(math.MinInt64)},
		`{"a":9223372036854775808}`:    {"a": Float(1 << 63)},
		`{"a":-9223372036854775809}`:   {"a": Float(-1 << 63)},
		`{"a":-0.0,"b":1e-999}`:        {"a": Float(0), "b": Float(0)},
		`{"a":[2,1.5,3]}`:              {"a": Floats(2, 1.5, 3)},
		`{"a":[2,3],"b":["x"],"c":[]}`: {"a": Ints(2, 3), "b": Strings("x")},
		`{"a":[true],"n":null}`:        {"a": Bools(true), "n": Null()},
		`{"":"","#x":true}`:            {"": String(""), "#x": Bool(true)},
		`{"\u00e9":"\ud83d\ude00"}`:    {"é": String("😀")},
	} {
		got, err := ParseMetadata([]byte(text))
		if err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{``, `[]`, `1`, `"x"`, `{"a":1e999}`, `{"a":-1e400}`, `{"a":{}}`, `{"a":[1,"x"]}`, `{"a":[true,1]}`,
		`{"a":[null]}`, `{"a":[[1]]}`, `{"a":[{}]}`, `{"a":1,"a":2}`, `{"a":[],"a":2}`, `{"a":1}x`, `{"a":01}`, `{"a":1,}`, `{"a"`} {
		if m, err := ParseMetadata([]byte(text)); err == nil {
			t.Errorf("%s is accepted as %v", text, m)
		}
	}
}

// Integers and floats compare by exact value; conversion to either type would
// get the first cases wrong.
func TestCompareScalars(t *testing.T) {
	ascending := []Value{
		Bool(false), Bool(true),
		Float(math.Inf(-1)), Float(-1e300), Int(math.MinInt64), Int(-(1<<53 + 1)), Float(-1 << 53), Float(-5.5), Int(-5),
		Float(-0.5), Int(0), Float(5e-324), Int(5), Float(5.5), Int(6), Float(1 << 53), Int(1<<53 + 1), Int(1<<53 + 2),
		Int(math.MaxInt64), Float(1 << 63), Float(math.Inf(1)),
		String(""), String("A"), String("a"), String("é"),
	}
	for i, a := range ascending {
		for j, b := range ascending {
			c, ok := compareScalars(a, b)
			if !ok || (c < 0) != (i < j) || (c == 0) != (i == j) {
				t.Errorf("%v against %v: %d, %t", a, b, c, ok)
			}
		}
	}
	if c, ok := compareScalars(Int(math.MinInt64), Float(-1<<63)); c != 0 || !ok {
		t.Error("-2^63 as integer and float differ")
	}
	for _, v := range []Value{Null(), Float(math.NaN()), Ints(1), Strings("x")} {
		if _, ok := compareScalars(v, v); ok {
			t.Errorf("%v is comparable", v)
		}
	}
}

func TestValueOf(t *testing.T) {
	for _, c := range []struct {
		in   any
		want Value
	}{
		{nil, Null()}, {true, Bool(true)}, {7, Int(7)}, {uint64(math.MaxUint64), Float(math.MaxUint64)}, {float32(0.5), Float(0.5)},
		{"x", String("x")}, {[]int{1, 2}, Ints(1, 2)}, {[]string{"x"}, Strings("x")}, {[]float32{1}, Floats(1)}, {String("v"), String("v")},
	} {
		if got, err := ValueOf(c.in); err != nil || !got.Equal(c.want) {
			t.Errorf("%v: %v, %v", c.in, got, err)
		}
	}
	for _, in := range []any{math.NaN(), math.Inf(1), []float64{math.Inf(-1)}, map[string]int{}, []any{1}, struct{}{}} {
		if v, err := ValueOf(in); err == nil {
			t.Errorf("%v is accepted as %v", in, v)
		}
	}
}

func TestValuesDoNotAlias(t *testing.T) {
	list := []int64{1, 2}
	v := Ints(list...)
	list[0] = 9
	v.Go().([]int64)[1] = 9
	if !v.Equal(Ints(1, 2)) {
		t.Errorf("value changed to %v", v)
	}
}

var codecSeeds = []Metadata{
	nil,
	{"a": Int(-1), "b": Float(2.5), "c": String("日本"), "d": Bool(true), "n": Null(), "": String("")},
	{"i": Ints(1, -2, math.MaxInt64), "f": Floats(1, 5e-324), "s": Strings("", "x", "x"), "b": Bools(true, false)},
}

func TestMetadataCodec(t *testing.T) {
	for _, m := range codecSeeds {
		b := AppendMetadata([]byte("before"), m)[len("before"):]
		got, err := DecodeMetadata(b)
		if err != nil || !got.Equal(m) {
			t.Fatalf("%v comes back as %v, %v", m, got, err)
		}
		for n := 1; n < len(b); n++ {
			if got, err := DecodeMetadata(b[:n]); err == nil {
				t.Errorf("%v cut to %d bytes is accepted as %v", m, n, got)
			}
		}
		if _, err := DecodeMetadata(append(b[:len(b):len(b)], 0)); err == nil {
			t.Errorf("%v with a byte more is accepted", m)
		}
		clear(b)
		if !got.Equal(m) {
			t.Errorf("%v changed with the bytes it was read from", m)
		}
	}
}

// Whatever decodes must encode to the same bytes: one form per content.
func FuzzDecodeMetadata(f *testing.F) {
	for _, m := range codecSeeds {
		f.Add(AppendMetadata(nil, m))
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeMetadata(b)
		if err != nil || len(b) == 0 || strings.Contains(m.String(), "null") {
			return // NaN prints as null and has many bit patterns; -0.0 has none
		}
		again := AppendMetadata(nil, m)
		if got, err := DecodeMetadata(again); err != nil || !got.Equal(m) {
			t.Fatalf("%x reads as %v, then as %v, %v", b, m, got, err)
		}
		if len(again) != len(b) {
			t.Fatalf("%x is written as %x", b, again)
		}
		if parsed, err := ParseMetadata(m.AppendJSON(nil)); err == nil && !bytes.Equal(AppendMetadata(nil, parsed), again) && validText(m) {
			t.Fatalf("%s reads back as %v", m.AppendJSON(nil), parsed)
		}
	})
}

// validText reports whether JSON can carry the metadata unchanged.
func validText(m Metadata) bool {
	for key, v := range m {
		texts := append([]string{key, v.AsString()}, v.AsStrings()...)
		if !utf8.ValidString(strings.Join(texts, " ")) || v.Kind().IsArray() && v.Len() == 0 {
			return false
		}
	}
	return true
}
