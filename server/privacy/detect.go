package privacy

import "slices"

// Kind is a kind of personal data that Find recognises.
type Kind string

// The kinds.
const (
	Email      Kind = "email"
	Phone      Kind = "phone"
	Card       Kind = "card"        // of payment
	IBAN       Kind = "iban"        // account number
	IP         Kind = "ip"          // address, IPv4 or IPv6
	NationalID Kind = "national_id" // with check digits, or of a form that little else has
)

// Kinds are all of them.
func Kinds() []Kind { return []Kind{Email, Phone, Card, IBAN, IP, NationalID} }

// Finding is personal data in a text: text[From:To].
type Finding struct {
	Kind     Kind
	From, To int
}

// Find is the personal data in a text, in its order and without overlaps.
//
// It takes time in proportion to the length of the text, whatever it holds: at
// each place where a word begins it looks at no more than a fixed number of
// bytes. It knows forms and check digits, not meanings: a name is not found,
// and a part number that happens to be a right card number is.
func Find(text string) []Finding {
	mails := findMails(text)
	var out []Finding
	at := 0
	for _, m := range append(slices.Clone(mails), Finding{From: len(text), To: len(text)}) {
		out = findNumbers(out, text, at, m.From)
		if m.To > m.From {
			out = append(out, m)
		}
		at = m.To
	}
	return out
}

// classes of bytes.
const (
	digit byte = 1 << iota
	upper
	lower
	hexadecimal
	local  // stands in the part of an address before the @
	domain // and behind it
)

const (
	letter       = upper | lower
	alphanumeric = letter | digit
)

var classes = func() (t [256]byte) {
	for c := '0'; c <= '9'; c++ {
		t[c] = digit | hexadecimal | local | domain
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-32] = lower|local|domain, upper|local|domain
	}
	for c := 'a'; c <= 'f'; c++ {
		t[c] |= hexadecimal
		t[c-32] |= hexadecimal
	}
	for _, c := range ".!#$%&'*+/=?^_`{|}~-" {
		t[c] |= local
	}
	t['.'] |= domain
	t['-'] |= domain
	for c := 0x80; c < 0x100; c++ {
		t[c] = local | domain // letters of other scripts
	}
	return t
}()

func is(c, class byte) bool { return classes[c]&class != 0 }

// at is a byte of a text, 0 outside of it.
func at(text string, i int) byte {
	if i < 0 || i >= len(text) {
		return 0
	}
	return text[i]
}

const (
	maxLocal  = 64 // RFC 5321, 4.5.3.1
	maxDomain = 255
)

// findMails looks around every @.
func findMails(text string) (out []Finding) {
	end := 0
	for i := 0; i < len(text); i++ {
		if text[i] != '@' {
			continue
		}
		from := i
		for from > end && i-from < maxLocal && is(text[from-1], local) {
			from--
		}
		for from < i && continues(text[from]) {
			from++
		}
		// Marks that surround an address in a text, not part of one.
		for from < i && !is(text[from], alphanumeric) && text[from] < 0x80 && text[from] != '_' {
			from++
		}
		to := mailEnd(text, i+1)
		if from == i || to == 0 || text[i-1] == '.' {
			continue
		}
		out = append(out, Finding{Email, from, to})
		end, i = to, to-1
	}
	return out
}

// continues reports whether a byte is inside of a character, not its first.
func continues(c byte) bool { return c&0xC0 == 0x80 }

// mailEnd is where the domain that begins at from ends, 0: it is none.
func mailEnd(text string, from int) int {
	to := from
	if !is(at(text, from), alphanumeric) && at(text, from) < 0x80 {
		return 0
	}
	for to < len(text) && to-from < maxDomain && is(text[to], domain) {
		if text[to] == '.' && (to == from || !is(at(text, to+1), domain) || at(text, to+1) == '.') {
			break // the end of a sentence
		}
		to++
	}
	for to > from && continues(at(text, to)) {
		to--
	}
	dot := to - 1
	for dot > from && text[dot] != '.' {
		dot--
	}
	top := dot + 1
	if dot <= from || to-top < 2 || !is(text[top], letter) && text[top] < 0x80 {
		return 0
	}
	if is(text[top], letter) { // what another script joins to it without a space is not part of it
		n := top
		for n < to && (is(text[n], alphanumeric) || text[n] == '-') {
			n++
		}
		to = n
	}
	for text[to-1] == '-' {
		to--
	}
	if to-top < 2 {
		return 0
	}
	return to
}

// findNumbers looks at every place in text[from:to] where a word begins.
func findNumbers(out []Finding, text string, from, to int) []Finding {
	before := byte(0) // class of the byte before
	if from > 0 {
		before = classes[text[from-1]]
	}
	for i := from; i < to; {
		c := text[i]
		class := classes[c]
		begins := before&alphanumeric == 0 && (class&alphanumeric != 0 || c == '+' || c == '(' || c == ':')
		before = class
		if !begins {
			i++
			continue
		}
		if kind, n := recognise(text[:to], i); n > 0 {
			out = append(out, Finding{kind, i, i + n})
			before = classes[text[i+n-1]]
			i += n
			continue
		}
		i++
	}
	return out
}

// recognise tells what begins at i, and its length; 0: nothing.
func recognise(text string, i int) (Kind, int) {
	c := text[i]
	switch {
	case is(c, digit):
		return recogniseDigits(text, i)
	case c == '+', c == '(':
		return Phone, phone(text, i, nil)
	case c == ':':
		return IP, ipv6(text, i)
	}
	if is(at(text, i+1), letter) && is(at(text, i+2), digit) || is(at(text, i+1), letter) && at(text, i+2) == ' ' {
		if n := iban(text, i); n > 0 {
			return IBAN, n
		}
		if n := nino(text, i); n > 0 {
			return NationalID, n
		}
	}
	if n := fiscale(text, i); n > 0 {
		return NationalID, n
	}
	if n := spanish(text, i); n > 0 {
		return NationalID, n
	}
	if is(c, hexadecimal) {
		return IP, ipv6(text, i)
	}
	return "", 0
}

func recogniseDigits(text string, i int) (Kind, int) {
	if at(text, i-1) == '.' && is(at(text, i-2), digit) {
		return "", 0 // what is behind a point goes on with the number before it
	}
	if n := ipv4(text, i); n > 0 {
		return IP, n
	}
	if n := ipv6(text, i); n > 0 {
		return IP, n
	}
	m := readNumber(text, i)
	if m.of >= 13 {
		if n := card(text, i, &m); n > 0 {
			return Card, n
		}
	}
	if n := nationalDigits(text, i, &m); n > 0 {
		return NationalID, n
	}
	return Phone, phone(text, i, &m)
}
