package filter

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// Every operator is told by its name with its operands, and an expression of
// which nothing is replaced means what it meant.
func TestRewrite(t *testing.T) {
	const where = `{"$and":[{"a":1},{"b":{"$ne":"x"}},{"$or":[{"c":{"$gt":1}},{"c":{"$gte":2}},{"c":{"$lt":3}},{"c":{"$lte":4.5}}]},
		{"d":{"$in":[2,1]}},{"e":{"$nin":["y"]}},{"f":{"$contains":true}},{"g":{"$not_contains":false}}]}`
	const document = `{"$or":[{"$contains":"t"},{"$not_contains":"u"},{"$regex":"v+"},{"$not_regex":"w"}]}`
	w, err := ParseWhere([]byte(where))
	if err != nil {
		t.Fatal(err)
	}
	d, err := ParseWhereDocument([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	var told strings.Builder
	_, err = And(w, d).Rewrite(func(c Condition, it *Expr) (*Expr, error) {
		fmt.Fprintf(&told, "%s %s %v\n", c.Key, c.Operator, c.Values)
		return it, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = `a $eq [1]
b $ne ["x"]
c $gt [1]
c $gte [2]
c $lt [3]
c $lte [4.5]
d $in [1 2]
e $nin ["y"]
f $contains [true]
g $not_contains [false]
#document $contains ["t"]
#document $not_contains ["u"]
#document $regex ["v+"]
#document $not_regex ["w"]
`
	if told.String() != want {
		t.Errorf("told\n%s", told.String())
	}
	same, err := w.Rewrite(func(_ Condition, it *Expr) (*Expr, error) { return it, nil })
	if err != nil {
		t.Fatal(err)
	}
	a, err := AppendExpr(nil, w)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := AppendExpr(nil, same); err != nil || string(a) != string(b) {
		t.Errorf("another expression: %v", err)
	}
	refused := errors.New("refused")
	if e, err := w.Rewrite(func(c Condition, it *Expr) (*Expr, error) {
		if c.Key == "c" {
			return nil, refused
		}
		return it, nil
	}); e != nil || !errors.Is(err, refused) {
		t.Errorf("%v %v", e, err)
	}
	// What holds for everything, and what holds for nothing, where a condition was.
	or := Or(Eq("a", Int(1)), Eq("b", Int(1)))
	all, err := or.Rewrite(func(c Condition, it *Expr) (*Expr, error) {
		if c.Key == "a" {
			return nil, nil
		}
		return Or(), nil
	})
	if err != nil || !all.Match(nil, nil) {
		t.Errorf("everything or nothing: %v", err)
	}
	none, err := And(or, Eq("c", Int(1))).Rewrite(func(Condition, *Expr) (*Expr, error) { return Or(), nil })
	if err != nil || none.Match(Metadata{"a": Int(1), "c": Int(1)}, nil) {
		t.Errorf("nothing and nothing: %v", err)
	}
	everything := func(Condition, *Expr) (*Expr, error) { return nil, nil }
	for _, e := range []*Expr{{op: opAnd}, Ne("a", Int(1)), And(Eq("a", Int(1)), Eq("b", Int(1))), or} {
		if all, err := e.Rewrite(everything); err != nil || all == nil || !all.Match(nil, nil) {
			t.Errorf("what holds for everything has become none: %v %v", all, err)
		}
	}
	if e, err := (*Expr)(nil).Rewrite(nil); e != nil || err != nil {
		t.Errorf("of everything: %v %v", e, err)
	}
}
