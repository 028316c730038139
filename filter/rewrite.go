package filter

// Condition is one condition of an expression, with Chroma's name of its operator.
type Condition struct {
	Key      string  // DocumentKey: it is about the document
	Operator string  // "$eq", "$in", "$not_regex", …
	Values   []Value // operands, sorted; a text, a pattern and a scalar are one
}

var operatorNames = map[op][2]string{
	opEq: {"$eq", "$ne"}, opGt: {"$gt", "$gt"}, opGte: {"$gte", "$gte"}, opLt: {"$lt", "$lt"}, opLte: {"$lte", "$lte"},
	opIn: {"$in", "$nin"}, opHas: {"$contains", "$not_contains"}, opText: {"$contains", "$not_contains"}, opRegex: {"$regex", "$not_regex"},
}

// Rewrite is e with each of its conditions replaced by what replace makes of
// it, which may be the condition itself. An error of replace ends it. The result
// is nil for nil alone: a condition that comes to hold for everything is still
// one, where having none means something else.
func (e *Expr) Rewrite(replace func(c Condition, it *Expr) (*Expr, error)) (*Expr, error) {
	if e == nil {
		return nil, nil
	}
	out, err := e.rewrite(replace)
	if err == nil && out == nil {
		out = &Expr{op: opAnd}
	}
	return out, err
}

func (e *Expr) rewrite(replace func(c Condition, it *Expr) (*Expr, error)) (*Expr, error) {
	switch {
	case e == nil:
		return nil, nil
	case e.op != opAnd && e.op != opOr:
		name := operatorNames[e.op][0]
		if e.not {
			name = operatorNames[e.op][1]
		}
		c := Condition{Key: e.key, Operator: name, Values: e.vals}
		if e.onDocument() {
			c.Values = []Value{String(e.text)}
		}
		return replace(c, e)
	}
	kids := make([]*Expr, len(e.kids))
	for i, kid := range e.kids {
		var err error
		if kids[i], err = kid.rewrite(replace); err != nil {
			return nil, err
		}
	}
	if e.op == opAnd {
		return And(kids...), nil
	}
	return Or(kids...), nil
}
