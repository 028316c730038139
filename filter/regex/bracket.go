package regex

import "strings"

const errClassOpen = "unclosed character class"

// class reads a bracketed class: ranges, nested classes, and the operations
// && -- ~~, all of one precedence, from left to right.
func (p *parser) class() set {
	start := p.pos
	p.enter(start)
	defer p.leave()
	unclosed := func() {
		if p.eof() {
			p.fail(start, start+1, errClassOpen)
		}
	}
	p.bumpSpace()
	unclosed()
	not := false
	if p.char() == '^' {
		not = true
		p.bumpSpace()
		unclosed()
	}
	var items []span
	for p.char() == '-' {
		items = append(items, span{'-', '-'})
		p.bumpSpace()
		unclosed()
	}
	if len(items) == 0 && p.char() == ']' {
		items = append(items, span{']', ']'})
		p.bumpSpace()
		unclosed()
	}
	var left set
	op := ""
	for {
		p.space()
		unclosed()
		rest := p.pattern[p.pos:]
		switch {
		case rest[0] == '[':
			if s, ok := p.asciiClass(); ok {
				items = append(items, s...)
			} else {
				items = append(items, p.class()...)
			}
		case rest[0] == ']':
			s := p.operate(op, left, items)
			p.bump()
			return p.foldAndNegate(start, s, not)
		case strings.HasPrefix(rest, "&&"), strings.HasPrefix(rest, "--"), strings.HasPrefix(rest, "~~"):
			left = p.operate(op, left, items)
			op, items = rest[:2], nil
			p.pos += 2
		default:
			items = p.classRange(items)
			unclosed()
		}
	}
}

// operate applies the operation before the items to all that came before it.
func (p *parser) operate(op string, left set, items []span) set {
	right := normal(items)
	if op == "" {
		return right
	}
	if p.flags.fold {
		// Both sides mean all cases before they are compared.
		if p.flags.unicode {
			left, right = left.fold(), right.fold()
		} else {
			left, right = left.foldASCII(), right.foldASCII()
		}
	}
	switch op {
	case "&&":
		return left.intersect(right)
	case "--":
		return left.minus(right)
	}
	return union(left, right).minus(left.intersect(right))
}

// asciiClass reads [:name:] or [:^name:]; without one the position stays.
func (p *parser) asciiClass() (set, bool) {
	body, found := strings.CutPrefix(p.pattern[p.pos:], "[:")
	name, _, closed := strings.Cut(body, ":]")
	if !found || !closed {
		return nil, false
	}
	bare, not := strings.CutPrefix(name, "^")
	s := asciiClass(bare)
	if s == nil {
		return nil, false
	}
	start := p.pos
	p.pos += len("[:") + len(name) + len(":]")
	return p.foldAndNegate(start, s, not), true
}

// classRange reads a character, a range or an escape and adds it to items.
func (p *parser) classRange(items []span) []span {
	start := p.pos
	first := p.classItem()
	firstEnd := p.pos
	p.space()
	if p.eof() {
		return items
	}
	next := p.afterHyphen()
	if p.char() != '-' || next == ']' || next == '-' {
		if first.kind == escapeSet {
			return append(items, first.set...)
		}
		c := p.classChar(start, firstEnd, first, "invalid escape sequence found in character class")
		return append(items, span{c, c})
	}
	p.bumpSpace()
	if p.eof() {
		return items
	}
	lastStart := p.pos
	last := p.classItem()
	lo := p.classChar(start, firstEnd, first, "invalid range boundary, must be a literal")
	hi := p.classChar(lastStart, p.pos, last, "invalid range boundary, must be a literal")
	if lo > hi {
		p.fail(start, p.pos, "invalid character class range, the start must be <= the end")
	}
	return append(items, span{lo, hi})
}

// afterHyphen looks one character ahead, beyond space in verbose mode.
func (p *parser) afterHyphen() rune {
	at := p.pos
	p.bumpSpace()
	c := p.char()
	p.pos = at
	return c
}

func (p *parser) classItem() escape {
	if p.char() == '\\' {
		return p.escape()
	}
	e := escape{char: p.char()}
	p.bump()
	return e
}

// classChar is the character of an item that must be one.
func (p *parser) classChar(start, end int, e escape, reason string) rune {
	if e.kind != escapeChar {
		p.fail(start, end, reason)
	}
	if !p.flags.unicode && e.char > 0x7F {
		if e.raw {
			p.fail(start, end, errUTF8)
		}
		p.fail(start, end, errUnicode)
	}
	return e.char
}
