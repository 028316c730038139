// Package regex is being written.
package regex

import "regexp"

// Regexp is a compiled pattern.
type Regexp struct{ re *regexp.Regexp }

// Compile compiles.
func Compile(p string) (*Regexp, error) {
	re, err := regexp.Compile(p)
	return &Regexp{re}, err
}

// MatchString reports whether the pattern matches somewhere in s.
func (r *Regexp) MatchString(s string) bool { return r.re.MatchString(s) }

// NeedOp says what a Need is.
type NeedOp uint8

// Need ops.
const (
	NeedNothing NeedOp = iota
	NeedText
	NeedAll
	NeedSome
)

// Need is what a matching text must have.
type Need struct {
	Op   NeedOp
	Text string
	Subs []*Need
}

// Need is the need.
func (r *Regexp) Need() *Need { return &Need{} }
