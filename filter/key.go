package filter

import "encoding/binary"

// maxKey bounds the bytes of a key: longer conditions are rare.
const maxKey = 4 << 10

// Key returns bytes that no expression has that means something else, for as
// long as the program runs; ok is false for one that is too long.
func (e *Expr) Key() (key string, ok bool) {
	parts := 0
	b, ok := e.appendKey(make([]byte, 0, 64), 1, &parts)
	return string(b), ok
}

// appendKey is the stored form, and one of its own for conditions on documents,
// which have none.
func (e *Expr) appendKey(b []byte, depth int, parts *int) (_ []byte, ok bool) {
	switch {
	case depth > MaxDepth || len(b) > maxKey:
		return b, false
	case e != nil && (e.op == opAnd || e.op == opOr):
		b = binary.AppendUvarint(append(b, storedOp(e.op)), uint64(len(e.kids)))
		for _, kid := range e.kids {
			if b, ok = kid.appendKey(b, depth+1, parts); !ok {
				return b, false
			}
		}
	case e != nil && e.onDocument():
		o := byte(len(storedOps)) + byte(e.op-opText)
		if e.not {
			o |= storedNot
		}
		b = appendBytes(append(b, o), e.text)
	default:
		var err error
		if b, err = appendExpr(b, e, depth, parts); err != nil {
			return b, false
		}
	}
	return b, len(b) <= maxKey
}
