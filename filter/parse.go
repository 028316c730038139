package filter

import (
	"encoding/json"
	"fmt"
)

const (
	// MaxDepth is how deep $and and $or may be nested.
	MaxDepth = 64
	// MaxParts is how many conditions and operands a clause may have together.
	MaxParts = 1 << 17
)

// ParseWhere reads a where clause. JSON null is the nil expression. Errors are
// ErrWhere (ErrTooLarge with it), ErrRegex for a pattern, or *DisabledError
// for a metadata operator on #document, which has no such index.
func ParseWhere(data []byte) (*Expr, error) {
	return parse(data, ErrWhere, (*parser).where)
}

// ParseWhereDocument reads a where_document clause. JSON null is the nil
// expression. Errors are ErrWhereDocument (ErrTooLarge with it) or ErrRegex.
func ParseWhereDocument(data []byte) (*Expr, error) {
	return parse(data, ErrWhereDocument, (*parser).document)
}

func parse(data []byte, kind error, clause func(*parser, int) (*Expr, error)) (*Expr, error) {
	t, err := newTokens(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", kind, err)
	}
	p := &parser{tokens: t, kind: kind}
	tok := p.next()
	if tok == nil {
		return nil, nil
	}
	if tok != json.Delim('{') {
		return nil, p.errorf("not an object")
	}
	return clause(p, 1)
}

type parser struct {
	*tokens
	kind  error
	parts int
}

func (p *parser) errorf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", p.kind, fmt.Sprintf(format, args...))
}

// part counts a condition or operand against the limit.
func (p *parser) part() error {
	p.parts++
	if p.parts > MaxParts {
		return fmt.Errorf("%w: %w: more than %d conditions and operands", p.kind, ErrTooLarge, MaxParts)
	}
	return nil
}

// only reads the single key of an object whose brace has been read.
func (p *parser) only() (string, error) {
	key, ok := p.next().(string)
	if !ok {
		return "", p.errorf("empty object")
	}
	return key, nil
}

// closed expects the end of an object after its only member. It also refuses
// a key given twice.
func (p *parser) closed(key string) error {
	if p.next() != json.Delim('}') {
		return p.errorf("more than one member beside %.80q", key)
	}
	return nil
}

// where reads the rest of a where object.
func (p *parser) where(depth int) (*Expr, error) {
	key, err := p.only()
	if err != nil {
		return nil, err
	}
	var e *Expr
	switch {
	case key == "$and" || key == "$or":
		e, err = p.list(key, depth, (*parser).where)
	case len(key) > 0 && key[0] == '$':
		err = p.errorf("unknown operator %.80q", key)
	default:
		e, err = p.condition(key)
	}
	if err != nil {
		return nil, err
	}
	return e, p.closed(key)
}

// document reads the rest of a where_document object.
func (p *parser) document(depth int) (*Expr, error) {
	key, err := p.only()
	if err != nil {
		return nil, err
	}
	var e *Expr
	if key == "$and" || key == "$or" {
		e, err = p.list(key, depth, (*parser).document)
	} else {
		e, err = p.documentLeaf(key, p.next())
	}
	if err != nil {
		return nil, err
	}
	return e, p.closed(key)
}

// list reads the operand of $and or $or.
func (p *parser) list(key string, depth int, clause func(*parser, int) (*Expr, error)) (*Expr, error) {
	if err := p.part(); err != nil {
		return nil, err
	}
	if depth >= MaxDepth {
		return nil, fmt.Errorf("%w: %w: nested deeper than %d", p.kind, ErrTooLarge, MaxDepth)
	}
	if p.next() != json.Delim('[') {
		return nil, p.errorf("%s needs a list", key)
	}
	e := &Expr{op: opAnd}
	if key == "$or" {
		e.op = opOr
	}
	for {
		switch p.next() {
		case json.Delim(']'):
			return e, nil
		case json.Delim('{'):
			kid, err := clause(p, depth+1)
			if err != nil {
				return nil, err
			}
			e.kids = append(e.kids, kid)
		default:
			return nil, p.errorf("%s holds something that is not an object", key)
		}
	}
}

// condition reads what a metadata key must fulfil: a scalar, or an object with
// one operator.
func (p *parser) condition(key string) (*Expr, error) {
	if err := p.part(); err != nil {
		return nil, err
	}
	tok := p.next()
	if tok != json.Delim('{') {
		return p.leaf(key, "$eq", tok)
	}
	name, err := p.only()
	if err != nil {
		return nil, err
	}
	e, err := p.leaf(key, name, p.next())
	if err != nil {
		return nil, err
	}
	return e, p.closed(name)
}

// operator is what a metadata operator means.
func operator(name string) (o op, not, known bool) {
	switch name {
	case "$eq":
		return opEq, false, true
	case "$ne":
		return opEq, true, true
	case "$gt":
		return opGt, false, true
	case "$gte":
		return opGte, false, true
	case "$lt":
		return opLt, false, true
	case "$lte":
		return opLte, false, true
	case "$in":
		return opIn, false, true
	case "$nin":
		return opIn, true, true
	case "$contains":
		return opHas, false, true
	case "$not_contains":
		return opHas, true, true
	}
	return 0, false, false
}

// leaf makes the condition "key name operand"; tok is the operand's first
// token.
func (p *parser) leaf(key, name string, tok json.Token) (*Expr, error) {
	o, not, known := operator(name)
	if key == DocumentKey && (!known || o == opHas) {
		return p.documentLeaf(name, tok)
	}
	if !known {
		return nil, p.errorf("unknown operator %.80q", name)
	}
	var e *Expr
	if o == opIn {
		values, err := p.operandList(name, tok)
		if err != nil {
			return nil, err
		}
		e = in(not, key, values)
	} else {
		v, err := scalar(tok)
		if err != nil || v.IsNull() {
			return nil, p.errorf("%s needs a string, a number or a boolean", name)
		}
		e = leaf(o, not, key, v)
	}
	if o >= opGt && o <= opLte && e.vals[0].rank() != 2 {
		return nil, p.errorf("%s needs a number", name)
	}
	if key == DocumentKey {
		return nil, &DisabledError{Key: key, Kind: e.kind}
	}
	return e, nil
}

// operandList reads the list of $in and $nin: not empty, of one kind; integers
// may follow a float, but a float may not follow an integer.
func (p *parser) operandList(name string, tok json.Token) ([]Value, error) {
	if tok != json.Delim('[') {
		return nil, p.errorf("%s needs a list", name)
	}
	var values []Value
	for {
		tok := p.next()
		if tok == json.Delim(']') {
			break
		}
		if err := p.part(); err != nil {
			return nil, err
		}
		v, err := scalar(tok)
		if err != nil || v.IsNull() {
			return nil, p.errorf("%s needs strings, numbers or booleans", name)
		}
		if len(values) > 0 && v.kind != values[0].kind && !(values[0].kind == KindFloat && v.kind == KindInt) {
			return nil, p.errorf("%s has values of different kinds", name)
		}
		values = append(values, v)
	}
	if len(values) == 0 {
		return nil, p.errorf("%s needs at least one value", name)
	}
	return values, nil
}

// documentLeaf makes a condition on the document.
func (p *parser) documentLeaf(name string, tok json.Token) (*Expr, error) {
	if err := p.part(); err != nil {
		return nil, err
	}
	text, ok := tok.(string)
	if !ok {
		return nil, p.errorf("%.80q needs a string", name)
	}
	switch name {
	case "$contains":
		return DocumentContains(text), nil
	case "$not_contains":
		return DocumentNotContains(text), nil
	case "$regex":
		return DocumentRegex(text)
	case "$not_regex":
		return DocumentNotRegex(text)
	}
	return nil, p.errorf("unknown operator %.80q", name)
}
