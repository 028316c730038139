package filter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// storedNot is set in the first byte of a negated condition.
const storedNot = 0x80

// storedOps are the numbers of operations in the stored form. Values are on
// disk: never reuse one.
var storedOps = [...]op{1: opAnd, 2: opOr, 3: opEq, 4: opGt, 5: opGte, 6: opLt, 7: opLte, 8: opIn, 9: opHas}

func storedOp(o op) byte {
	for n, known := range storedOps {
		if n > 0 && known == o {
			return byte(n)
		}
	}
	return 0
}

// AppendExpr appends the stored form of a condition on metadata. One on the
// document has none: what a pattern matches may change with the program, and
// what is stored must mean the same for ever. Neither has one that is nested
// deeper than MaxDepth or has more than MaxParts conditions and operands, or an
// operand that is not a number.
//
// The form is a byte (1 $and, 2 $or, 3 $eq, 4 $gt, 5 $gte, 6 $lt, 7 $lte, 8 $in,
// 9 $contains, 128 more: negated). Behind $and and $or stand a uvarint count and
// as many expressions; behind the others the key (uvarint length, bytes) and
// the operand, its kind (one byte) and value as in AppendMetadata; $in has a
// uvarint count of operands, ascending. Everything is an $and of nothing.
func AppendExpr(b []byte, e *Expr) ([]byte, error) {
	parts := 0
	return appendExpr(b, e, 1, &parts)
}

func appendExpr(b []byte, e *Expr, depth int, parts *int) ([]byte, error) {
	if e == nil {
		return append(b, storedOp(opAnd), 0), nil
	}
	*parts += 1 + len(e.vals)
	o := storedOp(e.op)
	switch {
	case o == 0:
		return b, errors.New("a condition on the document has no stored form")
	case depth > MaxDepth:
		return b, fmt.Errorf("%w: nested deeper than %d", ErrTooLarge, MaxDepth)
	case *parts > MaxParts:
		return b, fmt.Errorf("%w: more than %d conditions and operands", ErrTooLarge, MaxParts)
	case e.op == opAnd || e.op == opOr:
		b = binary.AppendUvarint(append(b, o), uint64(len(e.kids)))
		var err error
		for _, kid := range e.kids {
			if b, err = appendExpr(b, kid, depth+1, parts); err != nil {
				return b, err
			}
		}
		return b, nil
	}
	if e.not {
		o |= storedNot
	}
	b = appendBytes(append(b, o), e.key)
	if e.op == opIn {
		b = binary.AppendUvarint(b, uint64(len(e.vals)))
	}
	for _, v := range e.vals {
		if v.notANumber() {
			return b, errors.New("not a number: it has many forms, and equals nothing")
		}
		b = appendValue(append(b, byte(v.kind)), v)
	}
	return b, nil
}

var errExpr = errors.New("bytes of a condition damaged")

// DecodeExpr reads what AppendExpr wrote; b must hold nothing else. The result
// means what was stored and does not alias b. Memory is bounded by a constant
// times len(b).
func DecodeExpr(b []byte) (*Expr, error) {
	r := reader{s: string(b)}
	parts := 0
	e := r.expr(1, &parts)
	if r.bad || r.s != "" {
		return nil, errExpr
	}
	return e, nil
}

func (r *reader) expr(depth int, parts *int) *Expr {
	first := r.take(1)
	*parts++
	if r.bad || depth > MaxDepth || *parts > MaxParts {
		r.fail()
		return nil
	}
	n, not := first[0]&^storedNot, first[0]&storedNot != 0
	if n == 0 || int(n) >= len(storedOps) {
		r.fail()
		return nil
	}
	e := &Expr{op: storedOps[n], not: not}
	if e.op == opAnd || e.op == opOr {
		if not {
			r.fail()
		}
		for range r.count(2) { // an expression takes its byte and a count or a key
			if kid := r.expr(depth+1, parts); !r.bad {
				e.kids = append(e.kids, kid)
			}
			if r.bad {
				return nil
			}
		}
		return e
	}
	e.key = r.text()
	values := 1
	if e.op == opIn {
		values = r.count(2) // a kind that can be compared, and a value
	}
	if *parts += values; *parts > MaxParts {
		r.fail()
	}
	for i := range values {
		v := r.value()
		if r.bad || v.notANumber() || e.op == opIn && !follows(e.vals, i, v) {
			r.fail()
			return nil
		}
		e.vals = append(e.vals, v)
	}
	if len(e.vals) > 0 {
		e.kind = e.vals[0].kind
	}
	return e
}

func (v Value) notANumber() bool { return v.kind == KindFloat && math.IsNaN(v.AsFloat()) }

// follows reports whether v may stand at place i of the sorted operands.
func follows(before []Value, i int, v Value) bool {
	if v.rank() == 0 {
		return false
	}
	if i == 0 {
		return true
	}
	c, _ := compareScalars(before[i-1], v)
	return c < 0
}
