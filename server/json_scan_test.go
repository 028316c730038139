package server

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// readAny reads a value into what encoding/json would make of it.
func readAny(s *scanner) any {
	switch c := s.peek(); {
	case c == '{':
		m := map[string]any{}
		s.object("a map", func(name string) { m[name] = readAny(s) })
		return m
	case c == '[':
		l := []any{}
		s.array(math.MaxInt, func(int) { l = append(l, readAny(s)) })
		return l
	case c == '"':
		return s.text()
	case c == 't' || c == 'f':
		return s.boolean()
	case c == 'n':
		s.null()
		return nil
	}
	n := s.number()
	return json.Number(n.text)
}

func TestScannerAcceptsAndRefuses(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, c := range []struct {
		name, in string
		want     string // "": accepted, else the beginning of the message
	}{
		{"empty object", `{}`, ""},
		{"spaces", " \t\r\n{ \"a\" : [ 1 , 2 ] } \n", ""},
		{"every escape", `"\"\\\/\b\f\n\r\té\ud83d\ude00"`, ""},
		{"NUL in a text", `"a\u0000b"`, ""},
		{"empty", ``, "EOF while parsing a value"},
		{"spaces only", "  \n", "EOF while parsing a value"},
		{"trailing text", `{} x`, "trailing characters"},
		{"two values", `{}{}`, "trailing characters"},
		{"trailing NUL", "{}\x00", "trailing characters"},
		{"trailing comma in an object", `{"a":1,}`, "trailing comma"},
		{"trailing comma in an array", `[1,]`, "trailing comma"},
		{"leading comma", `[,1]`, "[0]: expected value"},
		{"missing comma", `[1 2]`, "expected `,` or `]`"},
		{"missing colon", `{"a" 1}`, "expected `:`"},
		{"name without quotes", `{a:1}`, "key must be a string"},
		{"single quotes", `{'a':1}`, "key must be a string"},
		{"byte order mark", "\ufeff{}", "expected value"},
		{"comment", `[1 /* one */]`, "expected `,` or `]`"},
		{"NaN", `[NaN]`, "[0]: expected value"},
		{"Infinity", `[-Infinity]`, "[0]: invalid number"},
		{"plus", `[+1]`, "[0]: expected value"},
		{"leading zero", `[01]`, "[0]: invalid number"},
		{"bare point", `[.5]`, "[0]: expected value"},
		{"point without fraction", `[1.]`, "[0]: invalid number"},
		{"exponent without digits", `[1e]`, "[0]: invalid number"},
		{"minus alone", `[-]`, "[0]: invalid number"},
		{"hexadecimal", `[0x10]`, "expected `,` or `]`"},
		{"half a word", `[nul]`, "[0]: expected ident"},
		{"capital word", `[True]`, "[0]: expected value"},
		{"unclosed text", `"abc`, "EOF while parsing a string"},
		{"unclosed escape", `"abc\`, "EOF while parsing a string"},
		{"half an escape", `"\u12`, "EOF while parsing a string"},
		{"unknown escape", `"\x41"`, "invalid escape"},
		{"bad hex", `"\u12g4"`, "invalid escape"},
		{"tab in a text", "\"a\tb\"", "control character"},
		{"newline in a text", "\"a\nb\"", "control character"},
		{"lone high surrogate", `"\ud83d"`, "lone surrogate"},
		{"lone low surrogate", `"\ude00"`, "lone surrogate"},
		{"high surrogate and text", `"\ud83dx"`, "lone surrogate"},
		{"two high surrogates", `"\ud83d\ud83d"`, "lone surrogate"},
		{"invalid UTF-8", "\"\xff\"", "invalid unicode"},
		{"overlong UTF-8", "\"\xc0\xaf\"", "invalid unicode"},
		{"surrogate in UTF-8", "\"\xed\xa0\x80\"", "invalid unicode"},
		{"invalid UTF-8 beside an escape", "\"\\n\xff\"", "invalid unicode"},
		{"invalid UTF-8 in a name", "{\"\xff\":1}", "invalid unicode"},
		{"field twice", `{"a":1,"b":2,"a":3}`, "duplicate field `a`"},
		{"field twice, once escaped", `{"a":1,"\u0061":3}`, "duplicate field `a`"},
		{"field twice, deep", `{"x":[{"a":1,"a":1}]}`, "x[0]: duplicate field `a`"},
		{"fields in two cases are two", `{"a":1,"A":2}`, ""},
		{"as deep as allowed", deep(maxDepth), ""},
		{"too deep", deep(maxDepth + 1), strings.Repeat("[0]", maxDepth) + ": recursion limit"},
		{"far too deep, unclosed", strings.Repeat(`{"a":`, 1<<20), "a."},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, read := range []func(*scanner){func(s *scanner) { readAny(s) }, (*scanner).skip} {
				s := &scanner{data: []byte(c.in)}
				read(s)
				s.end()
				switch {
				case c.want == "" && s.err != nil:
					t.Errorf("refused: %s", s.message())
				case c.want != "" && s.err == nil:
					t.Errorf("accepted, want %q", c.want)
				case c.want != "" && !strings.HasPrefix(s.message(), c.want):
					t.Errorf("message %q, want %q", s.message(), c.want)
				}
			}
		})
	}
}

// Many fields: the set of names changes from a list to a map on the way.
func TestScannerManyFields(t *testing.T) {
	for _, c := range []struct {
		n    int
		last string
		ok   bool
	}{{15, "x", true}, {16, "x", true}, {17, "x", true}, {1000, "x", true}, {17, "f0", false}, {1000, "f16", false}, {1000, "f999", false},
		{maxFields - 1, "x", true}, {maxFields, "x", false}} {
		var b strings.Builder
		b.WriteByte('{')
		for i := range c.n {
			fmt.Fprintf(&b, `"f%d":0,`, i)
		}
		fmt.Fprintf(&b, `%q:0}`, c.last)
		s := &scanner{data: []byte(b.String())}
		s.skip()
		if (s.err == nil) != c.ok {
			t.Errorf("%d fields and %q: %v, want accepted: %v", c.n, c.last, s.err, c.ok)
		}
	}
}

func TestScannerMessage(t *testing.T) {
	s := &scanner{data: []byte("{\"a\": [1,\n  {\"limit\": -1}]}")}
	s.object("x", func(string) {
		s.array(9, func(i int) {
			if i == 0 {
				s.skip()
				return
			}
			s.object("x", func(string) { s.u32() })
		})
	})
	if got, want := s.message(), "a[1].limit: invalid value: integer `-1`, expected u32 at line 2 column 14"; got != want {
		t.Errorf("message %q, want %q", got, want)
	}
}

func TestScannerUnsigned(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "7": 7, "4294967295": 4294967295,
		"-0": -1, "-1": -1, "4294967296": -1, "18446744073709551616": -1, "1e2": -1, "1.0": -1, `"3"`: -1, "null": -1, "[]": -1, "true": -1} {
		s := &scanner{data: []byte(in)}
		got := int64(s.u32())
		if s.err != nil {
			got = -1
			if s.err.syntax {
				t.Errorf("%s: %q is about syntax", in, s.message())
			}
		}
		if got != want {
			t.Errorf("%s: %d, want %d", in, got, want)
		}
	}
}

// Every float32 must come back from its own shortest text, and every decimal
// must be rounded as strconv rounds it, also next to the middle between two.
func TestNumberFloat32(t *testing.T) {
	quick, all := 0, 0
	check := func(text string) {
		t.Helper()
		want, _ := strconv.ParseFloat(text, 32)
		s := &scanner{data: []byte(text)}
		if got := s.number().float32(); math.Float32bits(got) != math.Float32bits(float32(want)) {
			t.Errorf("%s: %v (%08x), want %v (%08x)", text, got, math.Float32bits(got), float32(want), math.Float32bits(float32(want)))
		}
		if sameFloat(t, append([]byte(text), ",         "...)) {
			quick++
		}
		all++
	}
	for _, text := range strings.Fields(`0 -0 0.0 -0.0 1 -1 0.1 3.4028235e38 3.4028236e38 3.5e38 -1e39 1e40 1e400 1e-38 1e-45 7e-46 1e-46 1e-60 1e-400
		1.17549435e-38 1.1754942e-38 16777217 16777216.999999999 16777217.000000001 33554433 9007199254740993 0.000000000000000000000000001
		123456789012345678901234567890 0.1234567890123456789012345 1e22 1e23 1e-22 1e-23 9999999999999999999 99999999999999999999 0e999999999999`) {
		check(text)
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 200_000 {
		f := math.Float32frombits(r.Uint32())
		if f != f || math.IsInf(float64(f), 0) {
			continue
		}
		check(strconv.FormatFloat(float64(f), 'g', -1, 32))
		check(strconv.FormatFloat(float64(f), 'f', r.IntN(12), 32))
		check(strconv.FormatFloat(r.NormFloat64(), 'g', -1, 64))
		// The middle between f and the next float32, exactly and a little beside it.
		next := math.Float32frombits(math.Float32bits(f) + 1)
		middle := (float64(f) + float64(next)) / 2
		for _, m := range []float64{middle, math.Nextafter(middle, 0), math.Nextafter(middle, math.MaxFloat64)} {
			if a := math.Abs(m); a > 1e-15 && a < 1e15 {
				check(strconv.FormatFloat(m, 'g', -1, 64))
				check(strconv.FormatFloat(m, 'e', 16+r.IntN(4), 64))
			}
		}
	}
	if quick < all/3 { // many of these are next to a middle
		t.Errorf("quickFloat reads %d of %d", quick, all)
	}
}

// sameFloat compares what quickFloat reads, if it does, with the grammar and strconv.
func sameFloat(t *testing.T, b []byte) (read bool) {
	t.Helper()
	got, end := quickFloat(b, 0)
	if end == 0 {
		return false
	}
	_, want, ok := parseNumber(b, 0)
	if !ok || end != want || end == len(b) {
		t.Fatalf("%q: ends at %d, want %d, before the end, %t", b, end, want, ok)
	}
	v, err := strconv.ParseFloat(string(b[:end]), 32)
	if err != nil || math.Float32bits(got) != math.Float32bits(float32(v)) {
		t.Fatalf("%q: %v (%08x), want %v (%08x)", b, got, math.Float32bits(got), v, math.Float32bits(float32(v)))
	}
	return true
}

func FuzzQuickFloat(f *testing.F) {
	for _, in := range []string{"0,", "-0.25]", "1.2345678901234567e-05,       ", "0.01234567890123456789,      ", "12345678901234567890,      ", "1e5 ", "00,",
		"1.,", "-,", "1e,", "1e+9999,", "16777217.000000001,      ", "0.000000000000000000000000000000001,    ", "99999999.99999999,  ", "-x", "1.e3,      ",
		"1e5", "-2.5e-3", "7"} {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, b []byte) { sameFloat(t, b) })
}

// TestQuickFloatTaken: what clients send is of the common kind, or it would
// not be quick: decimals of float32 and of float64, in both notations.
func TestQuickFloatTaken(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	quick := 0
	const all = 20_000
	for i := range all {
		x := r.NormFloat64() * math.Pow(10, -float64(i%6))
		text := strconv.FormatFloat(x, "gef"[i%3], -1, []int{64, 32}[i%2])
		if sameFloat(t, []byte(text+",-0.0123456789")) {
			quick++
		}
	}
	if quick < all*999/1000 {
		t.Errorf("%d of %d", quick, all)
	}
}

func TestNumberIntegers(t *testing.T) {
	for _, c := range []struct {
		in  string
		out int64
		ok  bool
	}{{"0", 0, true}, {"-1", -1, true}, {"9223372036854775807", math.MaxInt64, true}, {"-9223372036854775808", math.MinInt64, true},
		{"9223372036854775808", 0, false}, {"-9223372036854775809", 0, false}, {"18446744073709551615", 0, false}, {"-0", 0, false},
		{"1.0", 0, false}, {"1e3", 0, false}, {"100000000000000000000", 0, false}} {
		s := &scanner{data: []byte(c.in)}
		if n, ok := s.number().int64(); ok != c.ok || ok && n != c.out {
			t.Errorf("%s: %d %v, want %d %v", c.in, n, ok, c.out, c.ok)
		}
	}
}

func TestAppendFloat(t *testing.T) {
	for _, c := range []struct {
		v    float64
		bits int
		want string
	}{{0, 32, "0.0"}, {math.Copysign(0, -1), 64, "0.0"}, {2, 64, "2.0"}, {-3, 32, "-3.0"}, {0.1, 64, "0.1"}, {float64(float32(0.1)), 32, "0.1"},
		{1e-10, 32, "1e-10"}, {1e-7, 64, "1e-7"}, {1e16, 64, "1e16"}, {1e15, 64, "1000000000000000.0"}, {1e300, 64, "1e300"},
		{-1.5e-300, 64, "-1.5e-300"}, {float64(float32(0.040000007)), 32, "0.040000007"}, {math.NaN(), 64, "0.0"}} {
		if got := string(appendFloat(nil, c.v, c.bits)); got != c.want {
			t.Errorf("%v: %s, want %s", c.v, got, c.want)
		}
	}
}

func TestAppendText(t *testing.T) {
	for in, want := range map[string]string{"": `""`, "a\"b\\c": `"a\"b\\c"`, "\n\r\t\x00\x1f": `"\n\r\t\u0000\u001f"`,
		"é日😀": `"é日😀"`, "</script>": `"</script>"`, "a\xffb": "\"a\ufffdb\"", "\u2028": "\"\u2028\""} {
		got := string(appendText(nil, in))
		if got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
		var back string
		if err := json.Unmarshal([]byte(got), &back); err != nil || utf8.ValidString(in) && back != in {
			t.Errorf("%q reads back as %q, %v", in, back, err)
		}
	}
}

// TestPlainText: one byte that is not plain is seen at every place, beside
// neighbours that could hide it.
func TestPlainText(t *testing.T) {
	for c := range 256 {
		plain := c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\'
		for _, beside := range []byte{' ', '!', '#', '[', ']', 'a', 0x7f} {
			for at := range 8 {
				b := bytes.Repeat([]byte{beside}, 8)
				b[at] = byte(c)
				if got := plainText(binary.LittleEndian.Uint64(b)); got != plain {
					t.Fatalf("%q: %t", b, got)
				}
			}
		}
	}
}

// FuzzScanner compares with encoding/json: what we accept it accepts with the
// same value, and what we refuse it refuses, but for what we refuse on purpose.
func FuzzScanner(f *testing.F) {
	for _, in := range []string{`{"a":[1,-2.5e3,"x\n\u00e9",true,null]}`, `[]`, `""`, `{"a":{"a":{}}}`, `[[],[],[1e999]]`, "\"\xff\"", `"\ud800"`, `{"a":1,"a":2}`, `-0`, `01`} {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		s := &scanner{data: in}
		got := readAny(s)
		s.end()
		d := json.NewDecoder(bytes.NewReader(in))
		d.UseNumber()
		var want any
		err := d.Decode(&want)
		if err == nil && d.More() || err == nil && len(bytes.TrimSpace(in[d.InputOffset():])) > 0 {
			err = fmt.Errorf("trailing data")
		}
		if s.err == nil {
			if err != nil {
				t.Fatalf("accepted %q, encoding/json says %v", in, err)
			}
			if a, b := fmt.Sprintf("%#v", got), fmt.Sprintf("%#v", want); a != b {
				t.Fatalf("%q is %s, encoding/json says %s", in, a, b)
			}
		} else if err == nil && utf8.Valid(in) && !slices.ContainsFunc([]string{"duplicate field", "lone surrogate", "recursion limit", "more than"},
			func(reason string) bool { return strings.Contains(s.err.text, reason) }) {
			t.Fatalf("refused %q (%s), encoding/json accepts", in, s.message())
		}
		again := &scanner{data: in}
		again.skip()
		again.end()
		if (again.err == nil) != (s.err == nil) {
			t.Fatalf("%q: reading says %v, skipping says %v", in, s.err, again.err)
		}
	})
}

func BenchmarkFloats(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	const dim, vectors = 384, 500 // many: of a single one the processor learns where it branches
	for _, c := range []struct {
		name string
		bits int
	}{{"float32", 32}, {"float64", 64}} {
		texts := make([][]byte, vectors)
		for at := range texts {
			text := []byte{'['}
			for i := range dim {
				if i > 0 {
					text = append(text, ',')
				}
				text = strconv.AppendFloat(text, float64(float32(r.NormFloat64()*0.05)), 'g', -1, c.bits)
			}
			texts[at] = append(text, ']')
		}
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(texts[0])))
			b.ReportAllocs()
			var v []float32
			for at := 0; b.Loop(); at++ {
				s := scanner{data: texts[at%vectors]}
				if !s.floats(&v, 1000, "") || len(v) != dim {
					b.Fatal("not read")
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*dim), "ns/number")
		})
	}
}
