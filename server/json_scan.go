package server

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	maxDepth  = 64    // of arrays and objects in each other
	maxFields = 10000 // of one object
	maxNames  = 256   // field names that a scanner remembers
)

// scanner reads one JSON text from front to back without building a tree.
// The first problem stays in err, and from then on every method returns a zero
// value at once, so callers look at err when they are through.
//
// It is RFC 8259 and nothing else, with three refusals the RFC leaves open: a
// field given twice, text that is not UTF-8, and surrogates without partner.
type scanner struct {
	data    []byte
	pos     int
	depth   int
	err     *bodyError
	scratch []byte            // of text with escapes
	fields  []string          // seen so far in all objects that are open
	names   map[string]string // field names are the same in every record: kept once
}

// bodyError is a body that cannot be read. syntax tells apart what Chroma
// answers with 400 (not JSON) from what it answers with 422 (JSON of another shape).
type bodyError struct {
	syntax bool
	path   string // of the field, outermost first
	text   string
	offset int
}

func (e *bodyError) within(step string) {
	switch {
	case e.path == "":
		e.path = step
	case e.path[0] == '[':
		e.path = step + e.path
	default:
		e.path = step + "." + e.path
	}
}

// fail stops the scanner. shape and syntax are its two kinds.
func (s *scanner) fail(syntax bool, text string) {
	if s.err == nil {
		s.err = &bodyError{syntax: syntax, text: text, offset: s.pos}
	}
}

func (s *scanner) syntax(text string) { s.fail(true, text) }
func (s *scanner) shape(text string)  { s.fail(false, text) }

// message is the problem as users see it, with field path and place.
func (s *scanner) message() string {
	e := s.err
	var b strings.Builder
	if e.path != "" {
		b.WriteString(e.path)
		b.WriteString(": ")
	}
	b.WriteString(e.text)
	at := min(e.offset, len(s.data))
	line, column := 1, at
	for i, c := range s.data[:at] {
		if c == '\n' {
			line++
			column = at - i - 1
		}
	}
	fmt.Fprintf(&b, " at line %d column %d", line, column)
	return b.String()
}

// peek skips white space and returns the byte that begins the next token, 0 at the end.
func (s *scanner) peek() byte {
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; c {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return c
		}
	}
	return 0
}

// end makes sure that nothing follows.
func (s *scanner) end() {
	if s.err == nil && (s.peek() != 0 || s.pos < len(s.data)) {
		s.syntax("trailing characters")
	}
}

// word consumes w when it comes next.
func (s *scanner) word(w string) bool {
	if len(s.data)-s.pos >= len(w) && string(s.data[s.pos:s.pos+len(w)]) == w {
		s.pos += len(w)
		return true
	}
	return false
}

// null consumes a null when one comes next.
func (s *scanner) null() bool {
	if s.err != nil || s.peek() != 'n' {
		return false
	}
	if !s.word("null") {
		s.syntax("expected ident")
		return false
	}
	return true
}

// mismatch fails with what comes next instead of what was wanted.
func (s *scanner) mismatch(wanted string) {
	if s.err != nil {
		return
	}
	var got string
	switch c := s.peek(); {
	case c == '{':
		got = "map"
	case c == '[':
		got = "sequence"
	case c == '"':
		t := s.text()
		if len(t) > 64 {
			t = strings.ToValidUTF8(t[:64], "") + "…"
		}
		got = "string " + strconv.Quote(t)
	case c == 't' || c == 'f':
		got = fmt.Sprintf("boolean `%t`", s.boolean())
	case c == 'n':
		s.null()
		got = "null"
	default:
		from := s.pos
		n := s.number()
		span := string(s.data[from:min(s.pos, from+32)])
		if got = "floating point `" + span + "`"; n.integer {
			got = "integer `" + span + "`"
		}
	}
	s.shape("invalid type: " + got + ", expected " + wanted)
}

// object reads an object; field is called at the value of each of its fields,
// and must consume it. what names the object for messages.
func (s *scanner) object(what string, field func(name string)) {
	if s.err != nil {
		return
	}
	if s.peek() != '{' {
		s.mismatch(what)
		return
	}
	if !s.enter() {
		return
	}
	seen := names{base: len(s.fields)}
	defer func() { s.fields = s.fields[:seen.base] }()
	for first := true; ; first = false {
		if !s.next('}', first) {
			return
		}
		if s.peek() != '"' {
			s.syntax("key must be a string")
			return
		}
		name := s.name()
		if s.err != nil {
			return
		}
		if s.peek() != ':' {
			s.syntax("expected `:`")
			return
		}
		s.pos++
		if !seen.add(s, name) {
			s.shape("duplicate field `" + clip(name) + "`")
			return
		}
		if seen.count > maxFields {
			s.shape(fmt.Sprintf("more than %d fields in one object", maxFields))
			return
		}
		if field(name); s.err != nil {
			s.err.within(clip(name))
			return
		}
	}
}

// array reads an array of at most limit elements; element is called at each of
// them, and must consume it.
func (s *scanner) array(limit int, element func(i int)) {
	if s.err != nil {
		return
	}
	if s.peek() != '[' {
		s.mismatch("a sequence")
		return
	}
	if !s.enter() {
		return
	}
	for i := 0; s.next(']', i == 0); i++ {
		if i == limit {
			s.shape(fmt.Sprintf("more than %d elements", limit))
			return
		}
		if element(i); s.err != nil {
			s.err.within("[" + strconv.Itoa(i) + "]")
			return
		}
	}
}

// enter steps over the bracket that opens an object or array.
func (s *scanner) enter() bool {
	if s.depth == maxDepth {
		s.syntax(fmt.Sprintf("recursion limit exceeded: more than %d levels", maxDepth))
		return false
	}
	s.depth++
	s.pos++
	return true
}

// next steps to the next element of an object or array and reports whether
// there is one; it steps over the closing bracket when there is none.
func (s *scanner) next(closing byte, first bool) bool {
	if s.err != nil {
		return false
	}
	c := s.peek()
	if c == closing {
		s.pos++
		s.depth--
		return false
	}
	if first {
		return true
	}
	if c != ',' {
		s.syntax("expected `,` or `" + string(closing) + "`")
		return false
	}
	s.pos++
	if s.peek() == closing {
		s.syntax("trailing comma")
		return false
	}
	return true
}

// boolean reads true or false.
func (s *scanner) boolean() bool {
	if s.err != nil {
		return false
	}
	switch c := s.peek(); {
	case c == 't' && s.word("true"):
		return true
	case c == 'f' && s.word("false"):
		return false
	case c == 't' || c == 'f':
		s.syntax("expected ident")
	default:
		s.mismatch("a boolean")
	}
	return false
}

// text reads a string into memory of its own.
func (s *scanner) text() string {
	return string(s.span("a string"))
}

// name reads the name of a field, which is shared between records.
func (s *scanner) name() string {
	b := s.span("a string")
	if t, ok := s.names[string(b)]; ok {
		return t
	}
	t := string(b)
	if len(s.names) < maxNames && len(t) <= 128 {
		if s.names == nil {
			s.names = map[string]string{}
		}
		s.names[t] = t
	}
	return t
}

// span reads a string and returns its decoded bytes, which are those of the
// body or of a buffer that the next string overwrites.
func (s *scanner) span(wanted string) []byte {
	if s.err != nil {
		return nil
	}
	if s.peek() != '"' {
		s.mismatch(wanted)
		return nil
	}
	s.pos++
	from, ascii := s.pos, true
	for s.pos < len(s.data) {
		if s.pos+8 <= len(s.data) && plainText(binary.LittleEndian.Uint64(s.data[s.pos:])) {
			s.pos += 8
			continue
		}
		c := s.data[s.pos]
		switch {
		case c == '"':
			b := s.data[from:s.pos]
			if !ascii && !utf8.Valid(b) {
				s.syntax("invalid unicode code point")
				return nil
			}
			s.pos++
			return b
		case c == '\\':
			return s.escaped(from)
		case c < ' ':
			s.syntax("control character (\\u0000-\\u001F) found while parsing a string")
			return nil
		case c >= utf8.RuneSelf:
			ascii = false
		}
		s.pos++
	}
	s.syntax("EOF while parsing a string")
	return nil
}

// plainText tells that eight bytes are ASCII without quotation mark, backslash
// and control characters. It is never wrong: a borrow makes a byte look special
// only above one that is.
func plainText(x uint64) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	quote, backslash := x^('"'*ones), x^('\\'*ones)
	return (x|(x-' '*ones)|(quote-ones)|(backslash-ones))&tops == 0
}

// escaped goes on with a string that began at from and has its first escape at pos.
func (s *scanner) escaped(from int) []byte {
	b := append(s.scratch[:0], s.data[from:s.pos]...)
	for s.pos < len(s.data) {
		c := s.data[s.pos]
		switch {
		case c == '"':
			s.scratch = b
			if !utf8.Valid(b) {
				s.syntax("invalid unicode code point")
				return nil
			}
			s.pos++
			return b
		case c == '\\':
			if b = s.escape(b); s.err != nil {
				return nil
			}
			continue
		case c < ' ':
			s.syntax("control character (\\u0000-\\u001F) found while parsing a string")
			return nil
		}
		b = append(b, c)
		s.pos++
	}
	s.syntax("EOF while parsing a string")
	return nil
}

const plainEscapes = `"\/bfnrt`

// escape appends what the escape sequence at pos means.
func (s *scanner) escape(b []byte) []byte {
	if s.pos+1 >= len(s.data) {
		s.pos = len(s.data)
		s.syntax("EOF while parsing a string")
		return nil
	}
	c := s.data[s.pos+1]
	if i := strings.IndexByte(plainEscapes, c); i >= 0 {
		s.pos += 2
		return append(b, "\"\\/\b\f\n\r\t"[i])
	}
	if c != 'u' {
		s.syntax("invalid escape")
		return nil
	}
	r, ok := s.hex4()
	if !ok {
		return nil
	}
	if r < 0xd800 || r > 0xdfff {
		return utf8.AppendRune(b, r)
	}
	if r >= 0xdc00 || s.pos+1 >= len(s.data) || s.data[s.pos] != '\\' || s.data[s.pos+1] != 'u' {
		s.syntax("lone surrogate in hex escape")
		return nil
	}
	low, ok := s.hex4()
	if ok && (low < 0xdc00 || low > 0xdfff) {
		s.syntax("lone surrogate in hex escape")
		return nil
	}
	return utf8.AppendRune(b, (r-0xd800)<<10|(low-0xdc00)+0x10000)
}

// hex4 reads the \uXXXX at pos.
func (s *scanner) hex4() (rune, bool) {
	if s.pos+6 > len(s.data) {
		s.pos = len(s.data)
		s.syntax("EOF while parsing a string")
		return 0, false
	}
	var r rune
	for _, c := range s.data[s.pos+2 : s.pos+6] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			s.syntax("invalid escape")
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	s.pos += 6
	return r, true
}

// raw checks the next value as thoroughly as if it were read and returns its bytes.
func (s *scanner) raw() []byte {
	if s.err != nil {
		return nil
	}
	s.peek()
	from := s.pos
	s.skip()
	if s.err != nil {
		return nil
	}
	return s.data[from:s.pos]
}

// skip reads the next value and forgets it.
func (s *scanner) skip() {
	switch c := s.peek(); c {
	case '{':
		s.object("", func(string) { s.skip() })
	case '[':
		s.array(math.MaxInt, func(int) { s.skip() })
	case '"':
		s.span("")
	case 't', 'f':
		s.boolean()
	case 'n':
		s.null()
	default:
		s.number()
	}
}

// names is the set of the fields of one object: the scanner's list from base
// on while it is small, so that an object costs nothing, then a map.
type names struct {
	base  int
	more  map[string]struct{}
	count int
}

const fewFields = 16

// add reports whether name was not there before.
func (n *names) add(s *scanner, name string) bool {
	for _, have := range s.fields[n.base:] {
		if have == name {
			return false
		}
	}
	if n.count++; n.count <= fewFields {
		s.fields = append(s.fields, name)
		return true
	}
	if _, twice := n.more[name]; twice {
		return false
	}
	if n.more == nil {
		n.more = map[string]struct{}{}
	}
	n.more[name] = struct{}{}
	return true
}

// double makes room for as many elements again when list is full. append
// alone grows long lists by a quarter, and what it leaves behind adds up.
func double[T any](list []T) []T {
	if len(list) < cap(list) {
		return list
	}
	return slices.Grow(list, max(len(list), 4))
}

// clip shortens text from a request for a message.
func clip(t string) string {
	if len(t) <= 128 {
		return t
	}
	return strings.ToValidUTF8(t[:128], "") + "…"
}
