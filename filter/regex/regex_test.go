package regex

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

// testdata/rust.jsonl holds the answers of Rust's regex 1.13: per pattern the
// reason of its refusal, or texts with and without a match.
type recorded struct {
	Pattern     string   `json:"pattern"`
	Error       string   `json:"error"`
	Match, Miss []string `json:"-"`
}

func (r *recorded) UnmarshalJSON(b []byte) error {
	var raw struct {
		Pattern, Error string
		Match, Miss    []string
	}
	err := json.Unmarshal(b, &raw)
	*r = recorded{raw.Pattern, raw.Error, raw.Match, raw.Miss}
	return err
}

func rustCases(t testing.TB) []recorded {
	f, err := os.Open("testdata/rust.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var cases []recorded
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var r recorded
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		cases = append(cases, r)
	}
	if len(cases) < 200 {
		t.Fatalf("only %d cases", len(cases))
	}
	return cases
}

func TestAgainstRust(t *testing.T) {
	for _, c := range rustCases(t) {
		re, err := Compile(c.Pattern)
		if c.Error != "" {
			var e *Error
			switch {
			case err == nil:
				t.Errorf("%q is accepted, Rust says: %s", c.Pattern, c.Error)
			case !errors.As(err, &e):
				t.Errorf("%q: error of type %T", c.Pattern, err)
			case e.Reason != c.Error && e.Reason != errProperty:
				t.Errorf("%q: %s; Rust says: %s", c.Pattern, e.Reason, c.Error)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.Pattern, err)
			continue
		}
		for _, s := range c.Match {
			if !re.MatchString(s) {
				t.Errorf("%q does not match %.40q", c.Pattern, s)
			}
		}
		for _, s := range c.Miss {
			if re.MatchString(s) {
				t.Errorf("%q matches %.40q", c.Pattern, s)
			}
		}
	}
}

// A need must hold for every text that matches, or an index would miss rows.
func TestNeedHoldsForMatches(t *testing.T) {
	for _, c := range rustCases(t) {
		re, err := Compile(c.Pattern)
		if err != nil {
			continue
		}
		for _, s := range c.Match {
			if !hasNeed(re.Need(), s) {
				t.Errorf("%q matches %.40q, which lacks what it is said to need", c.Pattern, s)
			}
		}
	}
}

func hasNeed(n *Need, s string) bool {
	switch n.Op {
	case NeedText:
		return strings.Contains(s, n.Text)
	case NeedAll:
		for _, sub := range n.Subs {
			if !hasNeed(sub, s) {
				return false
			}
		}
	case NeedSome:
		for _, sub := range n.Subs {
			if hasNeed(sub, s) {
				return true
			}
		}
		return false
	}
	return true
}

func needString(n *Need) string {
	if n.Op == NeedText {
		return n.Text
	}
	var subs []string
	for _, s := range n.Subs {
		subs = append(subs, needString(s))
	}
	return map[NeedOp]string{NeedNothing: "?", NeedAll: "&", NeedSome: "|"}[n.Op] + "(" + strings.Join(subs, " ") + ")"
}

// The needs that make an index worth having.
func TestNeed(t *testing.T) {
	for pattern, want := range map[string]string{
		"shipped":           "shipped",
		"ab":                "?()",
		"a.*":               "?()",
		"shipped|pending":   "|(pending shipped)",
		"shipped|x":         "?()",
		"foo.*bar":          "&(foo bar)",
		"(?:joe|ann)@":      "|(ann@ joe@)",
		`\bword\b`:          "word",
		"(?i)ab1":           "|(AB1 Ab1 aB1 ab1)",
		"abc?d":             "|(abcd abd)",
		"(abc)+":            "abc",
		"(abc)*":            "?()",
		"(ab){2}":           "abab",
		`[^\s\S]abc`:        "|()",
		"日本":                "日本",
		"ab[0-9]cd|(?:efg)": "?()",
	} {
		re, err := Compile(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := needString(re.Need()); got != want {
			t.Errorf("%q needs %s, want %s", pattern, got, want)
		}
	}
}

// Patterns that would take memory or time out of proportion are refused, and
// quickly: each of these is a known way to make a parser or compiler explode.
func TestLimits(t *testing.T) {
	refused := []string{
		strings.Repeat("a", MaxPattern+1),
		"((((a{100}){100}){100}){100}){100}",
		"a{4000000000}",
		"(?:){4000000000}a{1000000}",
		strings.Repeat("(", 1000) + strings.Repeat(")", 1000),
		strings.Repeat("[", 1000) + "a" + strings.Repeat("]", 1000),
		"a" + strings.Repeat("*", 1000),
		"a" + strings.Repeat("{1}", 1000),
		"\xff",
	}
	for _, p := range refused {
		if _, err := Compile(p); err == nil {
			t.Errorf("%.40q is accepted", p)
		} else if len(err.Error()) > 3000 {
			t.Errorf("%.40q: the error is %d bytes long", p, len(err.Error()))
		}
	}
	accepted := []string{
		"(?:){4000000000}",
		"a" + strings.Repeat("{1}", 200),
		strings.Repeat("(", 200) + strings.Repeat(")", 200),
		strings.Repeat(`[\w]`, 2000),
		"(?i)" + strings.Repeat(`\W`, 4000),
		strings.Repeat("(a|b)", 1500),
	}
	for _, p := range accepted {
		if _, err := Compile(p); err != nil {
			t.Errorf("%.40q: %.200v", p, err)
		}
	}
}

// Many states make the machine forget its cache; answers must not change.
func TestCacheOverflow(t *testing.T) {
	re, err := Compile(`[ab]*a[ab]{14}c`)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	x := uint32(1)
	for range 200_000 {
		x = x*1664525 + 1013904223
		b.WriteByte("ab"[x>>31])
	}
	if re.MatchString(b.String()) {
		t.Error("match without a c")
	}
	if !re.MatchString(b.String() + "a" + strings.Repeat("b", 14) + "c") {
		t.Error("no match at the end")
	}
}

func TestMatchStopsWithContext(t *testing.T) {
	re, err := Compile(`[ab]*a[ab]{3000}c`)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := re.Match(ctx, strings.Repeat("ab", 1_000_000)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// Bytes that are not UTF-8 match nothing.
func TestInvalidText(t *testing.T) {
	for pattern, want := range map[string]bool{"^.$": false, "a": true, `\x{FFFD}`: false, "(?s)a.b": false} {
		re, err := Compile(pattern)
		if err != nil {
			t.Fatal(err)
		}
		text := "\xff"
		if pattern != "^.$" {
			text = "a\xffb"
		}
		if got := re.MatchString(text); got != want {
			t.Errorf("%q on %q: %t", pattern, text, got)
		}
	}
}

// Any pattern is refused or answers, and what it matches has what it needs.
func FuzzCompile(f *testing.F) {
	for _, c := range rustCases(f) {
		if len(c.Pattern) < 100 {
			f.Add(c.Pattern, "aé\r\nB 1")
		}
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		re, err := Compile(pattern)
		if err != nil {
			if !utf8.ValidString(err.Error()) && utf8.ValidString(pattern) {
				t.Fatalf("error is not UTF-8: %q", err.Error())
			}
			return
		}
		if re.MatchString(text) && !hasNeed(re.Need(), text) {
			t.Fatalf("%q matches %q without its need %s", pattern, text, needString(re.Need()))
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	text := strings.Repeat("The quick brown fox jumps over the lazy dog, naïvely. ", 20)
	b.SetBytes(int64(len(text)))
	for _, pattern := range []string{`\d+`, `(?i)cat|horse`, `\bfo\b`, `z{3}`, `\p{Greek}`} {
		b.Run(pattern, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			re, err := Compile(pattern)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if re.MatchString(text) {
					b.Fatal("match")
				}
			}
		})
	}
}
