package privacy

import "strings"

// ibanLength is by country (ISO 13616 registry).
var ibanLength = map[string]int{
	"AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29, "BY": 28, "CH": 21, "CR": 22,
	"CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22,
	"GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30,
	"KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20, "MR": 27,
	"MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33,
	"SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29,
	"VA": 22, "VG": 24, "XK": 20, "YE": 30,
}

// compact reads so many letters and digits from i on, in capitals, stepping
// over single separators; end is 0 when there are not so many.
func compact(text string, i, want int) (s [40]byte, end int) {
	n := 0
	for n < want {
		c := at(text, i)
		if is(c, alphanumeric) {
			if is(c, lower) {
				c -= 'a' - 'A'
			}
			s[n] = c
			n++
			i++
			continue
		}
		sep, w := separator(text, i)
		if n == 0 || w == 0 || sep == '/' || !is(at(text, i+w), alphanumeric) {
			return s, 0
		}
		i += w
	}
	return s, i
}

// iban is an account number: its country's length, and 1 modulo 97 (ISO 7064).
func iban(text string, i int) int {
	s, end := compact(text, i, 4)
	want := ibanLength[string(s[:2])]
	if end == 0 || want == 0 || !is(s[2], digit) || !is(s[3], digit) {
		return 0
	}
	if s, end = compact(text, i, want); end == 0 || !bounded(text, end) {
		return 0
	}
	rest := 0
	for k := range want {
		c := s[(k+4)%want]
		if is(c, digit) {
			rest = (rest*10 + int(c-'0')) % 97
		} else {
			rest = (rest*100 + int(c-'A') + 10) % 97
		}
	}
	if rest != 1 {
		return 0
	}
	return end - i
}

// nationalDigits are identity numbers that begin with a digit, m is the number
// that begins there.
func nationalDigits(text string, i int, m *number) int {
	end := 0
	for _, find := range []func(string, int, *number) int{ssn, steuerID, cpf, ahv} {
		end = max(end, find(text, i, m))
	}
	if end > 0 {
		return end - i
	}
	if n := nir(text, i); n > 0 {
		return n
	}
	return spanish(text, i)
}

// shaped returns the digits of a number whose first groups have these lengths,
// with the bytes of seps between them, and nothing behind, and where it ends.
// end 0: it has another shape.
func (m *number) shaped(text, seps string, lengths ...int) (d []byte, end int) {
	if m.n < len(lengths) {
		return nil, 0
	}
	for j, n := range lengths {
		if m.groups[j] != n || j > 0 && seps[j-1] != m.seps[j] {
			return nil, 0
		}
	}
	end = m.ends[len(lengths)-1]
	if !apart(text, end) {
		return nil, 0
	}
	return m.prefix(len(lengths)), end
}

// ssn is a number of the United States' Social Security, with its hyphens: it
// has no check digit, and forms that are never given out.
func ssn(text string, i int, m *number) int {
	if c := at(text, i-1); c == '-' || c == '.' {
		return 0
	}
	d, end := m.shaped(text, "--", 3, 2, 4)
	if end == 0 || d[0] == '9' || string(d[:3]) == "000" || string(d[:3]) == "666" || string(d[3:5]) == "00" || string(d[5:]) == "0000" {
		return 0
	}
	return end
}

// nir is a French number: sex, year, month, department, municipality, order,
// and 97 less the rest of it modulo 97.
func nir(text string, i int) int {
	s, end := compact(text, i, 15)
	if end == 0 || !bounded(text, end) || strings.IndexByte("123478", s[0]) < 0 {
		return 0
	}
	month := int(s[3]-'0')*10 + int(s[4]-'0') // letters there are found out below
	if month < 1 || month > 12 && month < 20 || month > 42 && month < 50 {
		return 0
	}
	if s[5] == '2' && (s[6] == 'A' || s[6] == 'B') { // Corsica counts as 19 and 18
		s[5], s[6] = '1', '9'-(s[6]-'A')
	}
	n := 0
	for _, c := range s[:13] {
		if !is(c, digit) {
			return 0
		}
		n = (n*10 + int(c-'0')) % 97
	}
	if !is(s[13], digit) || !is(s[14], digit) || int(s[13]-'0')*10+int(s[14]-'0') != 97-n {
		return 0
	}
	return end - i
}

// steuerID is a German tax number: eleven digits, the last a check (ISO 7064
// MOD 11,10), of the first ten one twice or three times and the others once.
func steuerID(text string, _ int, m *number) int {
	d, end := m.shaped(text, "", 11)
	if end == 0 {
		d, end = m.shaped(text, "   ", 2, 3, 3, 3)
	}
	if end == 0 || d[0] == '0' {
		return 0
	}
	var seen [10]int
	product := 10
	for _, c := range d[:10] {
		seen[c-'0']++
		sum := (int(c-'0') + product) % 10
		if sum == 0 {
			sum = 10
		}
		product = sum * 2 % 11
	}
	several := 0
	for _, n := range seen {
		if n > 3 {
			return 0
		}
		if n > 1 {
			several++
		}
	}
	if several != 1 || (11-product)%10 != int(d[10]-'0') {
		return 0
	}
	return end
}

// cpf is a Brazilian number as it is written: 123.456.789-09.
func cpf(text string, _ int, m *number) int {
	d, end := m.shaped(text, "..-", 3, 3, 3, 2)
	if end == 0 {
		return 0
	}
	for n := 9; n < 11; n++ {
		sum := 0
		for k := range n {
			sum += int(d[k]-'0') * (n + 1 - k)
		}
		if sum*10%11%10 != int(d[n]-'0') {
			return 0
		}
	}
	return end
}

// ahv is a Swiss number: 756, ten digits, with the check digit of EAN-13.
func ahv(text string, _ int, m *number) int {
	d, end := m.shaped(text, "...", 3, 4, 4, 2)
	if end == 0 {
		d, end = m.shaped(text, "", 13)
	}
	if end == 0 || string(d[:3]) != "756" {
		return 0
	}
	sum := 0
	for k, c := range d {
		sum += int(c-'0') * (1 + k%2*2)
	}
	if sum%10 != 0 {
		return 0
	}
	return end
}

// spanish is a DNI (12345678Z) or a NIE (X1234567L), whose letter is the rest
// modulo 23.
func spanish(text string, i int) int {
	n, end, digits := 0, i, 0
	want := 8
	if k := strings.IndexByte("XYZ", at(text, i)); k >= 0 && at(text, i) != 0 {
		n, want = k, 7
		end++
		if at(text, end) == '-' {
			end++
		}
	}
	for ; digits < want; digits++ {
		if !is(at(text, end), digit) {
			return 0
		}
		n = n*10 + int(text[end]-'0')
		end++
	}
	if at(text, end) == '-' {
		end++
	}
	if at(text, end) != "TRWAGMYFPDXBNJZSQVHLCKE"[n%23] || !bounded(text, end+1) {
		return 0
	}
	return end + 1 - i
}

// nino is a British National Insurance number: AB 12 34 56 C, with the letters
// that are given out. It has no check digit.
func nino(text string, i int) int {
	s, end := compact(text, i, 9)
	if end == 0 || !bounded(text, end) || !is(s[0], upper) || !is(s[1], upper) || s[8] < 'A' || s[8] > 'D' {
		return 0
	}
	for _, c := range s[2:8] {
		if !is(c, digit) {
			return 0
		}
	}
	if strings.IndexByte("DFIQUV", s[0]) >= 0 || strings.IndexByte("DFIOQUV", s[1]) >= 0 {
		return 0
	}
	switch string(s[:2]) {
	case "BG", "GB", "KN", "NK", "NT", "TN", "ZZ":
		return 0
	}
	return end - i
}

// fiscale is an Italian codice fiscale: letters and digits in their places, and
// a letter that checks them.
func fiscale(text string, i int) int {
	const form = "AAAAAA00A00A000A"
	if len(text)-i < len(form) || !bounded(text, i+len(form)) {
		return 0
	}
	// What odd places count for, by letter; digits as A to J.
	const odd = "\x01\x00\x05\x07\x09\x0d\x0f\x11\x13\x15\x02\x04\x12\x14\x0b\x03\x06\x08\x0c\x0e\x10\x0a\x16\x19\x18\x17"
	sum := 0
	for k := range len(form) {
		c := text[i+k]
		if is(c, lower) {
			c -= 'a' - 'A'
		}
		if form[k] == 'A' && !is(c, upper) || form[k] == '0' && !is(c, digit) {
			return 0
		}
		x := int(c - 'A')
		if is(c, digit) {
			x = int(c - '0')
		}
		switch {
		case k == len(form)-1:
			if sum%26 != x {
				return 0
			}
		case k%2 == 0:
			sum += int(odd[x])
		default:
			sum += x
		}
	}
	return len(form)
}
