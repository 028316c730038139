package remote

import (
	"regexp"
	"strings"
	"unicode"
)

// maxText is how much of what a service says goes into an error, in characters.
const maxText = 300

// run is what a token, a key or base64 of one looks like.
var run = regexp.MustCompile(`[A-Za-z0-9+_=]{28,}`)

// text is code and detail in one line.
func (f Failure) text() string {
	detail := clean(f.Detail)
	switch {
	case f.Code == "":
		return detail
	case detail == "":
		return f.Code
	}
	return f.Code + ": " + detail
}

// clean makes one short line of what a service says, without anything that
// could be a secret: a service that is not what it should be may send back what
// it was sent.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	s = run.ReplaceAllStringFunc(s, func(word string) string {
		if strings.ContainsAny(word, "0123456789+=") {
			return "[…]"
		}
		return word
	})
	if r := []rune(s); len(r) > maxText {
		s = string(r[:maxText]) + "…"
	}
	return s
}
