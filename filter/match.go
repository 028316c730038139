package filter

import (
	"context"
	"slices"
	"strings"
)

// Match reports whether the expression holds for a record with this metadata
// and document (nil: it has none).
func (e *Expr) Match(m Metadata, doc *string) bool {
	if e == nil {
		return true
	}
	switch e.op {
	case opAnd:
		for _, kid := range e.kids {
			if !kid.Match(m, doc) {
				return false
			}
		}
		return true
	case opOr:
		for _, kid := range e.kids {
			if kid.Match(m, doc) {
				return true
			}
		}
		return false
	case opText, opRegex:
		return e.not != (doc != nil && e.matchText(*doc))
	}
	v, ok := m[e.key]
	return e.not != (ok && e.matchValue(v))
}

// matchText is the positive condition of a document leaf.
func (e *Expr) matchText(doc string) bool {
	ok, _ := e.matchTextContext(context.Background(), doc)
	return ok
}

func (e *Expr) matchTextContext(ctx context.Context, doc string) (bool, error) {
	if e.op == opText {
		return strings.Contains(doc, e.text), nil
	}
	return e.re.Match(ctx, doc)
}

// matchValue is the positive condition of a metadata leaf.
func (e *Expr) matchValue(v Value) bool {
	switch e.op {
	case opEq:
		c, ok := compareScalars(v, e.vals[0])
		return ok && c == 0
	case opIn:
		if v.rank() == 0 {
			return false
		}
		_, found := slices.BinarySearchFunc(e.vals, v, func(a, b Value) int {
			c, _ := compareScalars(a, b)
			return c
		})
		return found
	case opHas:
		return hasElement(v, e.vals[0])
	}
	if v.rank() != 2 || e.vals[0].rank() != 2 {
		return false
	}
	c, _ := compareScalars(v, e.vals[0])
	return inRange(e.op, c)
}

// inRange reports whether a value that compares as c with the operand is in
// the range of opGt, opGte, opLt or opLte.
func inRange(o op, c int) bool {
	switch o {
	case opGt:
		return c > 0
	case opGte:
		return c >= 0
	case opLt:
		return c < 0
	case opLte:
		return c <= 0
	}
	return false
}

func hasElement(list, x Value) bool {
	switch x.kind {
	case KindBool:
		return slices.Contains(list.AsBools(), x.AsBool())
	case KindInt:
		return slices.Contains(list.AsInts(), x.AsInt())
	case KindFloat:
		return slices.Contains(list.AsFloats(), x.AsFloat())
	case KindString:
		return slices.Contains(list.AsStrings(), x.str)
	}
	return false
}
