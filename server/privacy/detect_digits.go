package privacy

import (
	"net/netip"
	"strings"
)

// maxGroups and maxDigits bound what is read of a number that is written in
// groups: no number that is looked for is longer.
const (
	maxGroups = 8
	maxDigits = 19
)

// A written number: groups of digits with one separator between two of them.
type number struct {
	digits [maxDigits]byte
	groups [maxGroups]int // their lengths
	seps   [maxGroups]byte
	ends   [maxGroups]int // in the text
	n, of  int            // groups, and digits of all
	more   bool           // there was another digit where reading ended
}

// separators are what stands between groups: the narrow and the non-breaking
// ones, which typesetting makes of them, count as the plain ones.
func separator(text string, i int) (sep byte, n int) {
	switch c := at(text, i); c {
	case ' ', '-', '.', '/':
		return c, 1
	case 0xC2: // U+00A0
		if at(text, i+1) == 0xA0 {
			return ' ', 2
		}
	case 0xE2: // U+2009, U+202F, U+2010 to U+2013
		if at(text, i+1) == 0x80 {
			switch b := at(text, i+2); {
			case b == 0x89 || b == 0xAF:
				return ' ', 3
			case b >= 0x90 && b <= 0x93:
				return '-', 3
			}
		}
	}
	return 0, 0
}

// readNumber reads the groups that begin at i.
func readNumber(text string, i int) (m number) {
	for m.n < maxGroups {
		from := i
		for is(at(text, i), digit) && m.of < maxDigits {
			m.digits[m.of] = text[i]
			m.of++
			i++
		}
		if is(at(text, i), digit) {
			m.more = true
			m.of -= i - from // a group that does not fit is not read
			return m
		}
		m.groups[m.n], m.ends[m.n] = i-from, i
		m.n++
		sep, n := separator(text, i)
		if n == 0 || !is(at(text, i+n), digit) {
			return m
		}
		if m.n < maxGroups {
			m.seps[m.n] = sep
		}
		i += n
	}
	m.more = true
	return m
}

// bounded reports whether what ends at i is not part of a longer word.
func bounded(text string, i int) bool { return !is(at(text, i), alphanumeric) }

// apart reports whether neither a word nor another number goes on at i, as it
// does in 1.2.3.4.5 or 12-34-56.
func apart(text string, i int) bool {
	c := at(text, i)
	return bounded(text, i) && !((c == '.' || c == '-' || c == '/') && is(at(text, i+1), digit))
}

// prefix is how the first groups go together: the digits of so many groups.
func (m *number) prefix(groups int) []byte {
	n := 0
	for _, g := range m.groups[:groups] {
		n += g
	}
	return m.digits[:n]
}

// card is a number of 13 to 19 digits of a known issuer with Luhn's check
// digit, in one group or in groups of which the first has four.
func card(text string, i int, m *number) int {
	for n := m.n; n > 0; n-- {
		d := m.prefix(n)
		if len(d) < 13 || !issued(d) || !luhn(d) || !apart(text, m.ends[n-1]) {
			continue
		}
		whole := n == 1 || m.groups[0] == 4
		for _, g := range m.groups[1:n] {
			whole = whole && (g >= 3 && g <= 6 || g == len(d)-len(m.prefix(n-1)) && g <= 3 && n > 3)
		}
		for _, s := range m.seps[1:n] {
			whole = whole && s != '/'
		}
		if whole {
			return m.ends[n-1] - i
		}
	}
	return 0
}

// issued reports whether card numbers of this length begin so (ISO/IEC 7812).
func issued(d []byte) bool {
	two := int(d[0]-'0')*10 + int(d[1]-'0')
	four := two*100 + int(d[2]-'0')*10 + int(d[3]-'0')
	n := len(d)
	switch {
	case d[0] == '4':
		return n == 13 || n == 16 || n == 19
	case two >= 51 && two <= 55, four >= 2221 && four <= 2720:
		return n == 16
	case two == 34 || two == 37:
		return n == 15
	case two == 36 || two == 38 || four >= 3000 && four <= 3059 || four/10 == 309:
		return n >= 14
	case four >= 3528 && four <= 3589, four == 6011, four/10 >= 644 && four/10 <= 649, two == 65, two == 62, two == 60, two == 81:
		return n >= 16
	case two == 50, two >= 56 && two <= 58, two == 63, two == 67:
		return n >= 13
	}
	return false
}

func luhn(d []byte) bool {
	sum := 0
	for i, c := range d {
		x := int(c - '0')
		if (len(d)-i)%2 == 0 {
			if x *= 2; x > 9 {
				x -= 9
			}
		}
		sum += x
	}
	return sum%10 == 0
}

// ipv4 is four numbers up to 255 with dots, but not those of the machine itself.
func ipv4(text string, i int) int {
	if c := at(text, i-1); c == '.' || c == '-' || c == '/' && is(at(text, i-2), digit) {
		return 0
	}
	end := i
	for end < len(text) && end-i <= len("255.255.255.255") && (is(text[end], digit) || text[end] == '.' && is(at(text, end+1), digit)) {
		end++
	}
	if strings.Count(text[i:end], ".") != 3 || !bounded(text, end) || at(text, end) == '-' && is(at(text, end+1), digit) {
		return 0
	}
	a, err := netip.ParseAddr(text[i:end])
	if err != nil || a.IsUnspecified() || a.IsLoopback() {
		return 0
	}
	return end - i
}

// ipv6 is an address that netip reads, and that has more than two short groups:
// a::b is more often something else.
func ipv6(text string, i int) int {
	const longest = len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255")
	end, colons, digits := i, 0, false
	for end < len(text) && end-i <= longest && (is(text[end], hexadecimal) || text[end] == ':' || text[end] == '.' && is(at(text, end+1), digit)) {
		if text[end] == ':' {
			if colons++; colons == 1 && end-i > 4 {
				return 0
			}
		}
		digits = digits || is(text[end], digit)
		end++
	}
	for end > i+1 && text[end-1] == ':' && text[end-2] != ':' {
		end-- // of the sentence
	}
	if colons < 2 || !digits || !bounded(text, end) || at(text, i-1) == ':' || at(text, i-1) == '.' {
		return 0
	}
	a, err := netip.ParseAddr(text[i:end])
	if err != nil || a.IsUnspecified() || a.IsLoopback() || colons < 3 && strings.IndexByte(text[i:end], ':') < 4 {
		return 0
	}
	return end - i
}

// phone is a number with its country (+49 30 1234567, 0049 30 1234567), or one
// of the national forms that little else has. m is the number that begins at i,
// where that is a digit.
func phone(text string, i int, m *number) int {
	if at(text, i) == '+' {
		return dialled(text, i, i+1, 8)
	}
	if c := at(text, i-1); c == '.' || c == '-' || c == '/' || c == ':' && is(at(text, i-2), digit) {
		return 0
	}
	switch at(text, i) {
	case '(':
		return american(text, i, m)
	case '0':
		if at(text, i+1) == '0' && at(text, i+2) > '0' && at(text, i+2) <= '9' {
			return dialled(text, i, i+2, 9)
		}
		return national(text, i, m)
	}
	return american(text, i, m)
}

// dialled is a number behind + or 00: from 8 to 15 digits of E.164 in groups,
// one of which may stand in parentheses, as in +44 (0)20 7946 0018.
func dialled(text string, i, from, least int) int {
	const most, marks = 15, 12
	if c := at(text, from); c < '1' || c > '9' {
		return 0
	}
	digits, end, open := 0, i, false
	for k, seen := from, 0; seen < marks && digits < most; {
		c := at(text, k)
		if is(c, digit) {
			digits++
			k++
			if !open && digits >= least && bounded(text, k) {
				end = k
			}
			continue
		}
		sep, n := separator(text, k)
		switch next := at(text, k+max(n, 1)); {
		case c == '(' && !open && is(next, digit), c == ')' && open:
			open, n = !open, 1
		case n == 0 || sep == '/' || !is(next, digit) && next != '(':
			return end - i
		}
		seen++
		k += n
	}
	return end - i
}

// american is (212) 555-0123, 212-555-0123, 212.555.0123 and 1-212-555-0123.
func american(text string, i int, m *number) int {
	from := i
	if _, n := separator(text, i+1); at(text, i) == '1' && n > 0 {
		from += 1 + n
	}
	if at(text, from) == '(' {
		area := readNumber(text, from+1)
		if area.n != 1 || area.groups[0] != 3 || at(text, area.ends[0]) != ')' || area.digits[0] < '2' {
			return 0
		}
		from = area.ends[0] + 1
		if sep, n := separator(text, from); sep == ' ' || sep == '-' {
			from += n
		}
		rest := readNumber(text, from)
		if rest.n < 2 || rest.groups[0] != 3 || rest.groups[1] != 4 || rest.digits[0] < '2' || rest.seps[1] == '/' || !apart(text, rest.ends[1]) {
			return 0
		}
		return rest.ends[1] - i
	}
	if from != i {
		behind := readNumber(text, from)
		m = &behind
	}
	if m.n < 3 || m.groups[0] != 3 || m.groups[1] != 3 || m.groups[2] != 4 || m.digits[0] < '2' || m.digits[3] < '2' ||
		m.seps[1] != m.seps[2] || m.seps[1] == '/' || m.seps[1] == ' ' && from == i || !apart(text, m.ends[2]) {
		return 0
	}
	return m.ends[2] - i
}

// national is a number behind a 0, in groups as in Germany, Britain or France,
// or of a mobile network without any.
func national(text string, i int, m *number) int {
	if m.n == 0 || m.of < 2 || m.digits[1] == '0' {
		return 0
	}
	if m.n == 1 || m.groups[0] > 5 {
		d := m.prefix(1)
		mobile := len(d) == 11 && (d[1] == '7' && d[2] != '0' || d[1] == '1' && d[2] >= '5' && d[2] <= '7') ||
			len(d) == 12 && d[1] == '1' && d[2] >= '5' && d[2] <= '7' || len(d) == 10 && (d[1] == '6' || d[1] == '7') ||
			len(d) == 11 && d[1] == '7' && d[2] == '0' && d[3] == '0'
		if mobile && apart(text, m.ends[0]) {
			return m.ends[0] - i
		}
		return 0
	}
	if m.groups[0] == 2 { // France: five pairs
		if m.n >= 5 && m.groups[1] == 2 && m.groups[2] == 2 && m.groups[3] == 2 && m.groups[4] == 2 && m.seps[1] != '/' &&
			m.seps[1] == m.seps[2] && m.seps[2] == m.seps[3] && m.seps[3] == m.seps[4] && apart(text, m.ends[4]) {
			return m.ends[4] - i
		}
		return 0
	}
	for n := min(m.n, 4); n > 1; n-- {
		d := m.prefix(n)
		right := m.groups[0] >= 3 && len(d) >= 9 && len(d) <= 12 && apart(text, m.ends[n-1])
		for j := 1; j < n; j++ {
			right = right && m.groups[j] >= 2 && m.groups[j] <= 8 && m.seps[j] != '.' && (j == 1 || m.seps[j] != '/')
		}
		if right {
			return m.ends[n-1] - i
		}
	}
	return 0
}
