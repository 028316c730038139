package export

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Identity is who the messages come from.
type Identity struct {
	Host    string // of the machine
	PID     int
	Version string // of the program
}

// program is the name in every message.
const program = "chromad"

// The structured data's names. 32473 is the enterprise number that RFC 5612
// keeps for those who have none.
const enterprise = "@32473"

// maxParameter bounds a value of structured data, in bytes: receivers take
// 2048 bytes for sure (RFC 5425, section 4.3.1), and a line has some values.
const maxParameter = 256

// facilities are the names of RFC 5424, table 1, as syslog.h has them.
var facilities = map[string]int{"kern": 0, "user": 1, "mail": 2, "daemon": 3, "auth": 4, "syslog": 5, "lpr": 6, "news": 7, "uucp": 8, "cron": 9, "authpriv": 10,
	"ftp": 11, "ntp": 12, "audit": 13, "alert": 14, "clock": 15, "local0": 16, "local1": 17, "local2": 18, "local3": 19, "local4": 20, "local5": 21, "local6": 22, "local7": 23}

// appendSyslog appends a message as RFC 5424, section 6, has it, without a frame.
func appendSyslog(b []byte, m *Message, facility int, who Identity) []byte {
	b = append(b, '<')
	b = strconv.AppendInt(b, int64(facility*8+int(m.Severity)), 10)
	b = append(b, ">1 "...)
	b = m.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	b = append(b, ' ')
	b = append(b, printable(who.Host, 255)...)
	b = append(b, " "+program+" "...)
	b = strconv.AppendInt(b, int64(who.PID), 10)
	b = append(b, ' ')
	b = append(b, printable(m.Name, 32)...)
	b = append(b, " ["+m.Type+enterprise...)
	for _, f := range m.Fields {
		b = append(b, ' ')
		b = append(b, f.Name...)
		b = append(b, `="`...)
		b = appendParameter(b, f.Value)
		b = append(b, '"')
	}
	b = append(b, "] "...)
	return append(b, m.Text...)
}

// printable is a text of a header: ASCII without spaces, "-" for none.
func printable(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f {
			return -1
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s[:min(len(s), most)]
}

// appendParameter appends a value of structured data, in which a quote, a
// backslash and a closing bracket are escaped (section 6.3.3). Control
// characters, which would let a client's text end the line of a receiver that
// reads lines, are replaced.
func appendParameter(b []byte, value string) []byte {
	left := maxParameter
	for _, r := range value {
		if left -= utf8.RuneLen(r); left < 0 {
			return append(b, "…"...)
		}
		switch {
		case r == '"' || r == '\\' || r == ']':
			b = append(b, '\\', byte(r))
		case r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029':
			b = utf8.AppendRune(b, utf8.RuneError)
		default:
			b = utf8.AppendRune(b, r) // of a byte that is no UTF-8, the same
		}
	}
	return b
}

// syslogTimeout is how long a write may take.
const syslogTimeout = 10 * time.Second
