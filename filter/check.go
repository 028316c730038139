package filter

import (
	"fmt"
	"math"
	"unicode/utf8"
)

// Check returns why the value may not be stored: a number that is not finite,
// or text that is not valid UTF-8. Constructors do not fail, so this is where
// a Go caller's values are looked at.
func (v Value) Check() error {
	switch v.kind {
	case KindFloat:
		return checkFinite(v.AsFloat())
	case KindFloats:
		for _, f := range v.AsFloats() {
			if err := checkFinite(f); err != nil {
				return err
			}
		}
	case KindString:
		return checkText(v.str)
	case KindStrings:
		for _, s := range v.AsStrings() {
			if err := checkText(s); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkFinite(f float64) error {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return fmt.Errorf("%v is not a finite number", f)
	}
	return nil
}

func checkText(s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("%q is not valid UTF-8", s)
	}
	return nil
}

// Size bounds the bytes of the stored form, and estimates the memory.
func (v Value) Size() int {
	n := 12 + len(v.str)
	switch v.kind {
	case KindStrings:
		for _, s := range v.AsStrings() {
			n += 10 + len(s)
		}
	case KindInts, KindFloats, KindBools:
		n += 10 * v.Len()
	}
	return n
}
