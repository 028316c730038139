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
