package privacy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// What is found, marked in the text: kind(what).
func marked(text string) string {
	var b strings.Builder
	at := 0
	for _, f := range Find(text) {
		fmt.Fprintf(&b, "%s%s(%s)", text[at:f.From], f.Kind, text[f.From:f.To])
		at = f.To
	}
	return b.String() + text[at:]
}

// Every line has what is to be found in it, marked: the text is the line
// without the marks. Numbers are documented examples and test numbers.
const found = `write to email(ada.lovelace+news@mail.example.co.uk).
<email(ada@example.com)>, (email(bob@example.org)); mailto:email(x_y@a-b.io)?subject=1
email(联系@example.com)谢谢 or "email(o'neil@example.ie)"
email(ALL@EXAMPLE.COM) email(_under@score.net) email(用户@例え.テスト)
email(a@b.co),email(c@d.co) me@ip(1.2.3.4)
call phone(+49 30 1234567) or phone(+44 (0)20 7946 0018), phone(+1-212-555-0123); phone(0049 30 1234567)
phone(+14155552671) phone(+33 6 12 34 56 78). phone(+918123456789)
phone((212) 555-0123) phone(212-555-0123) phone(212.555.0123) phone(1-212-555-0123) phone((212)555-0123)
phone(030 1234567) phone(0170 1234567) phone(0221/1234567) phone(01701234567) phone(0161 496 0000)
phone(020 7946 0018) phone(07700 900123) phone(07700900123) phone(01 23 45 67 89) phone(06.12.34.56.78) phone(0612345678)
tel:phone(+493012345678), phone(+49 170 1234567), 2023
card(4111111111111111) card(4111 1111 1111 1111) card(4111-1111-1111-1111) card(4222222222222)
card(3782 822463 10005) card(378282246310005) card(5555555555554444) card(6011 1111 1111 1117) card(30569309025904) card(3530111333300000)
card:card(2223003122003222); exp 12/27, card(6759649826438453) 12 card(4012 8888 8888 1881)
card(4111 1111 1111 1111) card(4111‑1111‑1111‑1111)
iban(DE89 3704 0044 0532 0130 00) iban(DE89370400440532013000) iban(GB29NWBK60161331926819) iban(FR1420041010050500013M02606)
iban(NL91 ABNA 0417 1643 00), iban(gb29 nwbk 6016 1331 9268 19) iban(NO93 8601 1117 947) iban(CH93 0076 2011 6238 5295 7)
from ip(192.0.2.17) and ip(198.51.100.255), [ip(2001:db8::8a2e:370:7334)]:443 ip(203.0.113.9):8080
ip(fe80::1) ip(2001:0db8:85a3:0000:0000:8a2e:0370:7334) ip(::ffff:192.0.2.128) ip(1:2:3:4:5:6:7:8). ip(2001:db8:1::)
SSN national_id(219-09-9999) tax national_id(86095742719), national_id(65 929 970 489)
QQ 12 34 56 C is an example that is never given out, national_id(aa 12 34 56 c) national_id(AB123456C)
national_id(2 55 08 14 168 025 38) national_id(255081416802538) national_id(1 84 12 2A 451 089 33) national_id(184122B45108960)
national_id(12345678Z) national_id(12345678-Z) national_id(X1234567L) national_id(RSSMRA85T10A562S)
national_id(529.982.247-25) national_id(756.9217.0769.85)
`

// What looks like it and is not, or is too likely to be something else.
const notFound = `a@b @ada user@localhost a@b.c foo@.com @@@ a@b..c x@-.de ada@example.
1234567 +1.5 million, +49, 1+23456789 2023-01-31 2023-01-31 12:30:45 31.12.2023 01.02.2023 12:30
12-345-678 555-0123 112-555-0123 212-155-0123 212 555 0123 1.2.3 00000000000 0000 0000 0000
order 4111111111111112, 1234567890123456 41111111111111111111 9999999999999995 2019 2020 2021 2022
x4111111111111111 4111111111111111x 12344111111111111111 4-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1
DE88370400440532013000 DE89370400440532013 XX89370400440532013000 XDE89370400440532013000 DE89370400440532013000X
v1.2.3.4 1.2.3.4.5 256.1.1.1 127.0.0.1 0.0.0.0 01.02.03.04 1.2.3 std::vector a::b x[1::2] 12:30:45 aa:bb:cc:dd:ee:ff ::1 ::
000-12-3456 666-12-3456 912-34-5678 219-00-9999 219-09-0000 219-09-99990 1219-09-9999 219-09-9999-1
86095742718 11111111111 12345678901 GB123456C AB123456E DA123456C 12345678A X1234567A RSSMRA85T10A562T
255081416802539 529.982.247-26 756.9217.0769.84 deadbeef-dead-beef-dead-beefdeadbeef 550e8400-e29b-41d4-a716-446655440000
3.14159265358979 1e10 0x7fffffff 9223372036854775807 1700000000000 1700000000 978-3-16-148410-0
`

func TestFind(t *testing.T) {
	var pairs []string
	for _, k := range Kinds() {
		pairs = append(pairs, string(k)+"(", "\x00(")
	}
	unmark := strings.NewReplacer(pairs...)
	for want := range strings.Lines(found) {
		text := want
		// A mark and its closing parenthesis are taken out; those of numbers stay.
		for text = unmark.Replace(text); strings.Contains(text, "\x00("); {
			at := strings.Index(text, "\x00(")
			depth, end := 0, at+1
			for ; ; end++ {
				if text[end] == '(' {
					depth++
				} else if text[end] == ')' {
					if depth--; depth == 0 {
						break
					}
				}
			}
			text = text[:at] + text[at+2:end] + text[end+1:]
		}
		if got := marked(text); got != want {
			t.Errorf("found %swant  %s", got, want)
		}
	}
	for line := range strings.Lines(notFound) {
		if got := marked(line); got != line {
			t.Errorf("found %s", got)
		}
	}
	for _, word := range strings.Fields(notFound) {
		if got := marked(word); got != word && !strings.HasPrefix(word, "1111111111") {
			t.Errorf("found %s", got)
		}
	}
}

// Where an address is cut because it is too long, no character is.
func TestFindLong(t *testing.T) {
	for n := range 6 {
		for _, text := range []string{strings.Repeat("é", 80) + strings.Repeat("x", n) + "@example.com", "a@" + strings.Repeat("x", n) + strings.Repeat("例", 100) + ".例え" + strings.Repeat("え", 100)} {
			for _, f := range Find(text) {
				if !utf8.ValidString(text[f.From:f.To]) || !utf8.ValidString(text[:f.From]) {
					t.Errorf("%q is cut", text[f.From:f.To])
				}
			}
		}
	}
	if got := len(Find(strings.Repeat("é", 80) + "@example.com")); got != 1 {
		t.Errorf("%d found", got)
	}
}

// hostile are texts that make a searcher with backtracking slow.
func hostile(n int) map[string]string {
	out := map[string]string{}
	for name, piece := range map[string]string{
		"digits": "1", "sevens": "0777", "groups": "4111 ", "dashes": "4-", "dots": "1.", "colons": "a:", "colons only": ":", "signs": "@", "mails": "a@",
		"addresses": "a@b.", "plus": "+1", "plus groups": "+4 ", "parentheses": "(2", "iban": "DE89 ", "letters": "a", "codes": "RSSMRA85T10A562", "spaces": " ", "hyphens": "-1",
		"zeros": "0 1", "narrow": "1\u202f", "local": "a.", "mail at the end": "a@b",
	} {
		out[name] = strings.Repeat(piece, n/len(piece))
	}
	return out
}

// A search with backtracking takes hours for some of these.
func TestFindHostile(t *testing.T) {
	for name, text := range hostile(1 << 18) {
		at := 0
		for _, f := range Find(text) {
			if f.From < at || f.To <= f.From {
				t.Fatalf("%s: %v behind %d", name, f, at)
			}
			at = f.To
		}
	}
}

func BenchmarkFind(b *testing.B) {
	texts := hostile(1 << 20)
	texts["prose"] = strings.Repeat("The quick brown fox (born 1984) jumps over 13 lazy dogs; see page 12-14. ", 1<<20/73)
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range texts {
			if !yield(name) {
				return
			}
		}
	}) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(texts[name])))
			for b.Loop() {
				Find(texts[name])
			}
		})
	}
}

// Findings are in order, inside of the text, not empty, at the borders of
// characters, and what is put in their place is not found again.
func FuzzFind(f *testing.F) {
	for line := range strings.Lines(found + notFound) {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1<<16 {
			return
		}
		at := 0
		for _, x := range Find(text) {
			if x.From < at || x.To <= x.From || x.To > len(text) || !slices.Contains(Kinds(), x.Kind) {
				t.Fatalf("%q: %v behind %d", text, x, at)
			}
			at = x.To
			if utf8.ValidString(text) && !utf8.ValidString(text[x.From:x.To]) {
				t.Fatalf("%q: %v cuts a character", text, x)
			}
		}
	})
}
