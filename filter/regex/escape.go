package regex

import (
	"strconv"
	"strings"
	"unicode"
)

// escape is what a backslash and what follows it stand for.
type escape struct {
	kind escapeKind
	char rune
	raw  bool // \x80 to \xFF in two digits: a byte when Unicode is off
	set  set
	look look
}

type escapeKind uint8

const (
	escapeChar escapeKind = iota
	escapeSet
	escapeLook
)

// escaped reads an escape outside of a class.
func (p *parser) escaped() *node {
	start := p.pos
	e := p.escape()
	switch e.kind {
	case escapeSet:
		return setNode(e.set)
	case escapeLook:
		return lookNode(e.look)
	}
	if e.raw && !p.flags.unicode {
		p.fail(start, p.pos, errUTF8)
	}
	return setNode(p.literalSet(e.char))
}

func (p *parser) escape() escape {
	start := p.pos
	if !p.bump() {
		p.fail(start, p.pos, "incomplete escape sequence, reached end of pattern prematurely")
	}
	c := p.char()
	switch {
	case c >= '0' && c <= '9':
		p.fail(start, p.pos+1, "backreferences are not supported")
	case c == 'x' || c == 'u' || c == 'U':
		r, raw := p.hex(c)
		return escape{char: r, raw: raw}
	case c == 'p' || c == 'P':
		return escape{kind: escapeSet, set: p.unicodeClass(start)}
	case strings.ContainsRune("dDsSwW", c):
		p.bump()
		return escape{kind: escapeSet, set: p.perlClass(start, c)}
	}
	p.bump()
	if c < 0x80 && c != '<' && c != '>' && !(c >= 'A' && c <= 'Z') && !(c >= 'a' && c <= 'z') {
		return escape{char: c}
	}
	if i := strings.IndexRune("aftnrv", c); i >= 0 {
		return escape{char: rune("\a\f\t\n\r\v"[i])}
	}
	return escape{kind: escapeLook, look: p.assertion(start, c)}
}

// assertion is the look of \A, \z, \b, \B, \<, \> and \b{...}.
func (p *parser) assertion(start int, c rune) look {
	var l look
	switch c {
	case 'A':
		return lookTextStart
	case 'z':
		return lookTextEnd
	case 'b':
		l = p.boundary(start)
	case 'B':
		l = lookNotWord
	case '<':
		l = lookWordStart
	case '>':
		l = lookWordEnd
	default:
		p.fail(start, p.pos, "unrecognized escape sequence")
	}
	if !p.flags.unicode {
		l += lookASCII
	}
	return l
}

// boundary reads what may follow \b: {start}, {end}, {start-half} or
// {end-half}. Other braces are a count.
func (p *parser) boundary(start int) look {
	if p.char() != '{' {
		return lookWord
	}
	letter := func(c rune) bool {
		return c == '-' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
	}
	brace := p.pos
	if !p.bumpSpace() {
		p.fail(start, p.pos, "found either the beginning of a special word boundary or a bounded "+
			"repetition on a \\b with an opening brace, but no closing brace")
	}
	if !letter(p.char()) {
		p.pos = brace
		return lookWord
	}
	content := p.pos
	var name strings.Builder
	for letter(p.char()) {
		name.WriteRune(p.char())
		p.bumpSpace()
	}
	if p.char() != '}' {
		p.fail(brace, p.pos, "special word boundary assertion is either unclosed or contains an invalid character")
	}
	end := p.pos
	p.bump()
	switch name.String() {
	case "start":
		return lookWordStart
	case "end":
		return lookWordEnd
	case "start-half":
		return lookWordStartHalf
	case "end-half":
		return lookWordEndHalf
	}
	p.fail(content, end, "unrecognized special word boundary assertion, valid choices are: "+
		"start, end, start-half or end-half")
	return 0
}

// hex reads the digits of \x, \u or \U. raw tells \xFF from \x{FF}.
func (p *parser) hex(c rune) (r rune, raw bool) {
	incomplete := "incomplete escape sequence, reached end of pattern prematurely"
	if !p.bumpSpace() {
		p.fail(p.pos, p.pos, incomplete)
	}
	var digits strings.Builder
	start := p.pos
	digit := func() {
		if !strings.ContainsRune("0123456789abcdefABCDEF", p.char()) {
			p.fail(p.pos, p.pos+1, "invalid hexadecimal digit")
		}
		digits.WriteRune(p.char())
	}
	if p.char() == '{' {
		for p.bumpSpace() && p.char() != '}' {
			digit()
		}
		if p.eof() {
			p.fail(start, p.pos, incomplete)
		}
		if digits.Len() == 0 {
			p.fail(start, p.pos+1, "hexadecimal literal empty")
		}
	} else {
		count := map[rune]int{'x': 2, 'u': 4, 'U': 8}[c]
		for i := range count {
			if i > 0 && !p.bumpSpace() {
				p.fail(p.pos, p.pos, incomplete)
			}
			digit()
		}
		raw = c == 'x'
	}
	p.bumpSpace()
	n, err := strconv.ParseUint(digits.String(), 16, 32)
	if err != nil || n > unicode.MaxRune || n >= surrogateMin && n <= surrogateMax {
		p.fail(start, p.pos, "hexadecimal literal is not a Unicode scalar value")
	}
	return rune(n), raw && n > 0x7F
}

// unicodeClass reads \pX or \p{...}; the position is at the p.
func (p *parser) unicodeClass(start int) set {
	not := p.char() == 'P'
	incomplete := "incomplete escape sequence, reached end of pattern prematurely"
	if !p.bumpSpace() {
		p.fail(p.pos, p.pos, incomplete)
	}
	query := ""
	if c := p.char(); c == '{' {
		var b strings.Builder
		for p.bumpSpace() && p.char() != '}' {
			b.WriteRune(p.char())
		}
		if p.eof() {
			p.fail(p.pos, p.pos, incomplete)
		}
		p.bump()
		query = b.String()
	} else {
		if c == '\\' {
			p.fail(p.pos, p.pos+1, "invalid Unicode character class")
		}
		query = string(c)
		p.bumpSpace()
	}
	if !p.flags.unicode {
		p.fail(start, p.pos, errUnicode)
	}
	s := p.cached(query, func() set {
		s, reason := property(query)
		if reason != "" {
			p.fail(start, p.pos, reason)
		}
		return s
	})
	return p.foldAndNegate(start, s, not != unequal(query))
}

// cached makes a set once per pattern.
func (p *parser) cached(name string, make func() set) set {
	s, ok := p.sets[name]
	if !ok {
		s = make()
		p.sets[name] = s
	}
	return s
}

// perlClass is the set of \d, \s or \w, or of its capital, the complement.
func (p *parser) perlClass(start int, c rune) set {
	lower := unicode.ToLower(c)
	if !p.flags.unicode {
		if c != lower {
			p.fail(start, p.pos, errUTF8)
		}
		switch c {
		case 'd':
			return set{{'0', '9'}}
		case 's':
			return asciiSpaceSet()
		}
		return asciiWordSet()
	}
	return p.cached(`\`+string(c), func() set {
		var s set
		switch lower {
		case 'd':
			s = fromTable(unicode.Nd)
		case 's':
			s = fromTable(unicode.White_Space)
		case 'w':
			s = wordSet()
		}
		if c != lower {
			s = s.negate(unicode.MaxRune)
		}
		return s
	})
}

// foldAndNegate ends a class: other cases first, then the complement.
func (p *parser) foldAndNegate(start int, s set, not bool) set {
	if p.flags.unicode {
		if p.flags.fold {
			s = s.fold()
		}
		if not {
			s = s.negate(unicode.MaxRune)
		}
		return s
	}
	if p.flags.fold {
		s = s.foldASCII()
	}
	// Without Unicode a class is of bytes, and one that has bytes above 0x7F
	// could match half a character.
	if not {
		s = s.negate(0xFF)
	}
	if !s.ascii() {
		p.fail(start, p.pos, errUTF8)
	}
	return s
}
