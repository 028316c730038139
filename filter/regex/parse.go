package regex

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxPattern is the longest pattern, in bytes.
	MaxPattern = 1 << 15
	// maxDepth bounds the nesting of groups, classes and repetitions, as Rust
	// does by default.
	maxDepth = 250
)

// flags are the modes that (?...) switches.
type flags struct {
	fold    bool // i
	multi   bool // m
	dotAll  bool // s
	verbose bool // x
	unicode bool // u
	crlf    bool // R
}

// parser is a recursive descent over the pattern. The grammar and the texts of
// errors follow regex-syntax; failures are panics of *Error that parse
// catches, so that the code reads like the grammar.
type parser struct {
	pattern string
	pos     int
	flags   flags
	depth   int
	names   map[string]bool
	sets    map[string]set // Perl classes and properties by name
}

func parse(pattern string) (n *node, err error) {
	if len(pattern) > MaxPattern {
		return nil, &Error{Reason: "pattern longer than " + strconv.Itoa(MaxPattern) + " bytes"}
	}
	if !utf8.ValidString(pattern) {
		return nil, &Error{Reason: "pattern is not valid UTF-8"}
	}
	p := &parser{pattern: pattern, flags: flags{unicode: true}, names: map[string]bool{}, sets: map[string]set{}}
	defer func() {
		if failed := recover(); failed != nil {
			e, ok := failed.(*Error)
			if !ok {
				panic(failed)
			}
			n, err = nil, e
		}
	}()
	n = p.alternation()
	if !p.eof() {
		p.fail(p.pos, p.pos+1, "unopened group")
	}
	return n, nil
}

func (p *parser) fail(start, end int, reason string) {
	panic(&Error{p.pattern, min(start, len(p.pattern)), min(end, len(p.pattern)), reason})
}

func (p *parser) eof() bool { return p.pos >= len(p.pattern) }

// char is the character at the position, -1 at the end.
func (p *parser) char() rune {
	if p.eof() {
		return -1
	}
	r, _ := utf8.DecodeRuneInString(p.pattern[p.pos:])
	return r
}

// bump moves over a character and reports whether another one follows.
func (p *parser) bump() bool {
	if !p.eof() {
		_, n := utf8.DecodeRuneInString(p.pattern[p.pos:])
		p.pos += n
	}
	return !p.eof()
}

func (p *parser) accept(s string) bool {
	if strings.HasPrefix(p.pattern[p.pos:], s) {
		p.pos += len(s)
		return true
	}
	return false
}

// space skips white space and comments in verbose mode.
func (p *parser) space() {
	for p.flags.verbose && !p.eof() {
		switch c := p.char(); {
		case unicode.Is(unicode.White_Space, c):
			p.bump()
		case c == '#':
			for p.bump() && p.char() != '\n' {
			}
		default:
			return
		}
	}
}

func (p *parser) bumpSpace() bool {
	p.bump()
	p.space()
	return !p.eof()
}

func (p *parser) enter(start int) {
	p.depth++
	if p.depth > maxDepth {
		p.fail(start, start+1, "exceed the maximum number of nested parentheses/brackets (250)")
	}
}

func (p *parser) leave() { p.depth-- }

// alternation reads up to the end of the pattern or of the group. Flags set
// inside hold to its end.
func (p *parser) alternation() *node {
	var alts, seq []*node
	applies := false // whether a repetition has something to apply to
	for {
		p.space()
		start := p.pos
		switch c := p.char(); c {
		case -1, ')':
			return group(kindAlt, append(alts, group(kindConcat, seq)))
		case '|':
			p.bump()
			alts = append(alts, group(kindConcat, seq))
			seq = nil
			applies = false
		case '(':
			n := p.group()
			if n != nil {
				seq = append(seq, n)
			}
			applies = n != nil
		case '[':
			seq = append(seq, setNode(p.class()))
			applies = true
		case '*', '+', '?', '{':
			if !applies {
				p.fail(start, start+1, "repetition operator missing expression")
			}
			last := &seq[len(seq)-1]
			if *last = p.repetition(*last); (*last).depth > maxDepth {
				p.fail(start, p.pos, "exceed the maximum number of nested parentheses/brackets (250)")
			}
		default:
			seq = append(seq, p.primitive())
			applies = true
		}
	}
}

// repetition reads an operator after the node it applies to.
func (p *parser) repetition(n *node) *node {
	c := p.char()
	if c == '{' {
		return p.counted(n)
	}
	if p.bump() && p.char() == '?' {
		p.bump()
	}
	switch c {
	case '*':
		return repeat(n, 0, -1)
	case '+':
		return repeat(n, 1, -1)
	}
	return repeat(n, 0, 1)
}

func (p *parser) counted(n *node) *node {
	start := p.pos
	unclosed := func() {
		if p.eof() {
			p.fail(start, p.pos, "unclosed counted repetition")
		}
	}
	p.bumpSpace()
	unclosed()
	minimum, at := p.decimal()
	unclosed()
	maximum := minimum
	if p.char() == ',' {
		p.bumpSpace()
		unclosed()
		maximum = -1
		if p.char() != '}' && at < 0 {
			maximum, at = p.decimal()
		}
	}
	if at >= 0 {
		p.fail(at, at, "repetition quantifier expects a valid decimal")
	}
	if p.char() != '}' {
		p.fail(start, p.pos, "unclosed counted repetition")
	}
	if p.bumpSpace() && p.char() == '?' {
		p.bump()
	}
	if maximum >= 0 && minimum > maximum {
		p.fail(start, p.pos, "invalid repetition count range, the start must be <= the end")
	}
	return repeat(n, minimum, maximum)
}

// decimal reads a number with space around it. If there is none, missing is
// where it should be, else negative.
func (p *parser) decimal() (n, missing int) {
	for !p.eof() && unicode.Is(unicode.White_Space, p.char()) {
		p.bump()
	}
	start := p.pos
	digits := ""
	for c := p.char(); c >= '0' && c <= '9'; c = p.char() {
		digits += string(c)
		p.bumpSpace()
	}
	end := p.pos
	for !p.eof() && unicode.Is(unicode.White_Space, p.char()) {
		p.bumpSpace()
	}
	if digits == "" {
		return 0, start
	}
	u, err := strconv.ParseUint(digits, 10, 32)
	if err != nil {
		p.fail(start, end, "decimal literal invalid")
	}
	return int(u), -1
}

// group reads a group; nil stands for flags that are set for what follows.
func (p *parser) group() *node {
	open := p.pos
	p.enter(open)
	defer p.leave()
	p.bump()
	p.space()
	for _, prefix := range []string{"?=", "?!", "?<=", "?<!"} {
		if p.accept(prefix) {
			p.fail(open, p.pos, "look-around, including look-ahead and look-behind, is not supported")
		}
	}
	outer := p.flags
	inner := p.pos
	switch {
	case p.accept("?P<") || p.accept("?<"):
		p.captureName()
	case p.accept("?"):
		if p.eof() {
			p.fail(open, open+1, "unclosed group")
		}
		changed := p.setFlags()
		end := p.char()
		p.bump()
		if end == ')' {
			if !changed {
				p.fail(inner, inner+1, "repetition operator missing expression")
			}
			return nil
		}
	}
	n := p.alternation()
	if p.eof() {
		p.fail(open, open+1, "unclosed group")
	}
	// The closing parenthesis belongs to the group: flags end before it.
	p.flags = outer
	p.bump()
	return n
}

func (p *parser) captureName() {
	start := p.pos
	for p.char() != '>' {
		c := p.char()
		switch {
		case c < 0:
			p.fail(p.pos, p.pos, "unclosed capture group name")
		case c == '_' || alphabeticRune(c):
		case p.pos > start && (strings.ContainsRune(".[]", c) || unicode.IsNumber(c)):
		default:
			p.fail(p.pos, p.pos+1, "invalid capture group character")
		}
		p.bump()
	}
	name := p.pattern[start:p.pos]
	if name == "" {
		p.fail(start, start, "empty capture group name")
	}
	if p.names[name] {
		p.fail(start, p.pos, "duplicate capture group name")
	}
	p.names[name] = true
	p.bump()
}

func alphabeticRune(c rune) bool {
	return unicode.In(c, unicode.L, unicode.Nl, unicode.Other_Alphabetic)
}

// setFlags reads flags up to ':' or ')' and reports whether there were any.
func (p *parser) setFlags() bool {
	start := p.pos
	seen := ""
	on, dangling := true, false
	for p.char() != ':' && p.char() != ')' {
		c := p.char()
		if strings.ContainsRune(seen, c) {
			if c == '-' {
				p.fail(p.pos, p.pos+1, "flag negation operator repeated")
			}
			p.fail(p.pos, p.pos+1, "duplicate flag")
		}
		seen += string(c)
		dangling = c == '-'
		switch c {
		case '-':
			on = false
		case 'i':
			p.flags.fold = on
		case 'm':
			p.flags.multi = on
		case 's':
			p.flags.dotAll = on
		case 'x':
			p.flags.verbose = on
		case 'u':
			p.flags.unicode = on
		case 'R':
			p.flags.crlf = on
		case 'U': // greediness makes no difference to whether there is a match
		default:
			p.fail(p.pos, p.pos+1, "unrecognized flag")
		}
		if !p.bump() {
			p.fail(p.pos, p.pos, "expected flag but got end of regex")
		}
	}
	if dangling {
		p.fail(p.pos-1, p.pos, "dangling flag negation operator")
	}
	return p.pos > start
}

// primitive reads a character, a dot, an assertion or an escape.
func (p *parser) primitive() *node {
	start := p.pos
	c := p.char()
	if c == '\\' {
		return p.escaped()
	}
	p.bump()
	switch c {
	case '.':
		return setNode(p.dot(start))
	case '^':
		return lookNode(p.line(lookTextStart))
	case '$':
		return lookNode(p.line(lookTextEnd))
	}
	return setNode(p.literalSet(c))
}

// line is lookTextStart or lookTextEnd turned into what ^ and $ mean.
func (p *parser) line(l look) look {
	switch {
	case !p.flags.multi:
		return l
	case p.flags.crlf:
		return l + lookCRLFStart
	}
	return l + lookLineStart
}

func (p *parser) dot(start int) set {
	if !p.flags.unicode {
		p.fail(start, p.pos, errUTF8)
	}
	switch {
	case p.flags.dotAll:
		return set(nil).negate(unicode.MaxRune)
	case p.flags.crlf:
		return set{{'\n', '\n'}, {'\r', '\r'}}.negate(unicode.MaxRune)
	}
	return set{{'\n', '\n'}}.negate(unicode.MaxRune)
}

const (
	errUTF8    = "pattern can match invalid UTF-8"
	errUnicode = "Unicode not allowed here"
)

// literalSet is one character outside of a class, with its other cases if
// they count.
func (p *parser) literalSet(c rune) set {
	s := set{{c, c}}
	switch {
	case !p.flags.fold:
	case p.flags.unicode:
		return s.fold()
	default:
		return s.foldASCII()
	}
	return s
}
