package filter

import (
	"iter"
	"slices"

	"github.com/chromad/chromad/filter/regex"
)

// DocumentKey is the name under which document conditions stand in a where
// clause and in Operands.
const DocumentKey = "#document"

type op uint8

const (
	opAnd   op = iota // every kid
	opOr              // some kid
	opEq              // the value equals vals[0]; also opGt...: numbers only
	opGt              //
	opGte             //
	opLt              //
	opLte             //
	opIn              // the value equals one of vals
	opHas             // the value is a list with the element vals[0]
	opText            // the document contains text
	opRegex           // the document matches re
)

// An Expr is a checked condition on a record's metadata and document. It is
// immutable and may be shared. The nil *Expr holds for every record.
//
// A negated condition ($ne, $nin, $not_contains, $not_regex) holds for every
// record for which its positive twin does not, so also for records that lack
// the key or the document.
type Expr struct {
	op   op
	not  bool // leaf only: the condition is negated
	kids []*Expr
	key  string
	kind Kind    // of the operand
	vals []Value // sorted by compareScalars and without repetitions
	text string
	re   *regex.Regexp
}

func leaf(o op, not bool, key string, v Value) *Expr {
	return &Expr{op: o, not: not, key: key, kind: v.kind, vals: []Value{v}}
}

// Eq holds for a scalar equal to v. Integers and floats compare by their exact
// numeric value, other kinds never convert.
func Eq(key string, v Value) *Expr { return leaf(opEq, false, key, v) }

// Ne holds where Eq does not.
func Ne(key string, v Value) *Expr { return leaf(opEq, true, key, v) }

// Gt holds for a number greater than v. Like Gte, Lt and Lte it holds for
// nothing when v is not a number.
func Gt(key string, v Value) *Expr { return leaf(opGt, false, key, v) }

// Gte holds for a number greater than or equal to v.
func Gte(key string, v Value) *Expr { return leaf(opGte, false, key, v) }

// Lt holds for a number less than v.
func Lt(key string, v Value) *Expr { return leaf(opLt, false, key, v) }

// Lte holds for a number less than or equal to v.
func Lte(key string, v Value) *Expr { return leaf(opLte, false, key, v) }

// In holds for a scalar equal to one of the values.
func In(key string, values ...Value) *Expr { return in(false, key, values) }

// Nin holds where In does not.
func Nin(key string, values ...Value) *Expr { return in(true, key, values) }

func in(not bool, key string, values []Value) *Expr {
	e := &Expr{op: opIn, not: not, key: key}
	if len(values) > 0 {
		e.kind = values[0].kind
	}
	e.vals = slices.DeleteFunc(slices.Clone(values), func(v Value) bool { return v.rank() == 0 })
	slices.SortFunc(e.vals, func(a, b Value) int { c, _ := compareScalars(a, b); return c })
	e.vals = slices.CompactFunc(e.vals, func(a, b Value) bool { c, _ := compareScalars(a, b); return c == 0 })
	return e
}

// Contains holds for a list that has an element equal to v, of the same kind:
// an integer is not an element of a list of floats.
func Contains(key string, v Value) *Expr { return leaf(opHas, false, key, v) }

// NotContains holds where Contains does not.
func NotContains(key string, v Value) *Expr { return leaf(opHas, true, key, v) }

// DocumentContains holds for a document in which s occurs, byte for byte. The
// empty text occurs in every document.
func DocumentContains(s string) *Expr {
	return &Expr{op: opText, key: DocumentKey, kind: KindString, text: s}
}

// DocumentNotContains holds where DocumentContains does not.
func DocumentNotContains(s string) *Expr {
	e := DocumentContains(s)
	e.not = true
	return e
}

// DocumentRegex holds for a document in which the pattern matches somewhere.
// The dialect is that of package regex. Errors are ErrRegex.
func DocumentRegex(pattern string) (*Expr, error) {
	re, err := regex.Compile(pattern)
	if err != nil {
		return nil, &regexError{err}
	}
	return &Expr{op: opRegex, key: DocumentKey, kind: KindString, text: pattern, re: re}, nil
}

// DocumentNotRegex holds where DocumentRegex does not.
func DocumentNotRegex(pattern string) (*Expr, error) {
	e, err := DocumentRegex(pattern)
	if err != nil {
		return nil, err
	}
	e.not = true
	return e, nil
}

// And holds where every expression does; And() is everything. A nil expression
// is skipped.
func And(exprs ...*Expr) *Expr {
	kids := slices.DeleteFunc(slices.Clone(exprs), func(e *Expr) bool { return e == nil })
	switch len(kids) {
	case 0:
		return nil
	case 1:
		return kids[0]
	}
	return &Expr{op: opAnd, kids: kids}
}

// Or holds where some expression does; Or() is nothing. A nil expression holds
// for everything, and so does an Or that has one.
func Or(exprs ...*Expr) *Expr {
	if slices.Contains(exprs, nil) {
		return nil
	}
	if len(exprs) == 1 {
		return exprs[0]
	}
	return &Expr{op: opOr, kids: slices.Clone(exprs)}
}

// Operands lists each key that the expression asks about, with the kind of
// the operand: for a list of operands the kind of its first element.
// Conditions on the document stand under DocumentKey with KindString. A pair
// may come more than once.
func (e *Expr) Operands() iter.Seq2[string, Kind] {
	return func(yield func(string, Kind) bool) { e.operands(yield) }
}

func (e *Expr) operands(yield func(string, Kind) bool) bool {
	switch {
	case e == nil:
		return true
	case e.op == opAnd || e.op == opOr:
		for _, kid := range e.kids {
			if !kid.operands(yield) {
				return false
			}
		}
		return true
	}
	return yield(e.key, e.kind)
}

// onDocument reports whether a leaf asks about the document.
func (e *Expr) onDocument() bool { return e.op == opText || e.op == opRegex }

// needsDocument reports whether some leaf asks about the document.
func (e *Expr) needsDocument() bool {
	if e == nil {
		return false
	}
	return e.onDocument() || slices.ContainsFunc(e.kids, (*Expr).needsDocument)
}
