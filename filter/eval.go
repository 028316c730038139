package filter

import (
	"cmp"
	"context"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/internal/mutant"
)

// Docs reads the document of a row; false when it has none.
type Docs = func(row uint32) (string, bool, error)

// Eval is the set of rows for which e.Match would hold. docs is asked for the
// text of the candidates of document conditions and may be nil when e has
// none. The bitmap belongs to the caller. Errors are ErrCorrupt, the source's,
// those of docs, or the context's.
func (ix *Index) Eval(ctx context.Context, e *Expr, docs Docs) (*roaring.Bitmap, error) {
	ev := evaluation{Index: ix, ctx: ctx, docs: docs}
	s, err := ev.eval(e, nil)
	if err != nil {
		return nil, err
	}
	if s.not {
		return roaring.Flip(s.bm, 0, uint64(ix.rows)), nil
	}
	return s.bm, nil
}

// evaluation is one run of Eval.
type evaluation struct {
	*Index
	ctx  context.Context
	docs Docs
}

// set is a set of rows, or with not all rows but these: a negated condition is
// only spelled out when somebody needs its rows.
type set struct {
	bm  *roaring.Bitmap
	not bool
}

// eval is the rows for which e holds. within, unless nil, is all the rows the
// caller is interested in: the answer need be right for these only, which
// spares the verification of other rows' documents. The bitmap of the result
// is fresh; within is not changed.
func (ev *evaluation) eval(e *Expr, within *roaring.Bitmap) (set, error) {
	if err := ev.ctx.Err(); err != nil {
		return set{}, err
	}
	switch {
	case e == nil:
		return set{roaring.New(), true}, nil
	case e.op == opAnd:
		return ev.and(e.kids, within)
	case e.op == opOr:
		return ev.or(e.kids, within)
	}
	var bm *roaring.Bitmap
	var err error
	switch e.op {
	case opText, opRegex:
		bm, err = ev.document(e, within)
	case opHas:
		bm, err = ev.elements(e)
	case opEq, opIn:
		bm, err = ev.equal(e)
	default:
		bm, err = ev.between([]*Expr{e})
	}
	if mutant.On(mutant.MissingKeyEqual) && err == nil && bm.IsEmpty() {
		return set{bm, false}, nil
	}
	return set{bm, e.not}, err
}

// and intersects, cheap conditions first, and stops when nothing is left.
func (ev *evaluation) and(kids []*Expr, within *roaring.Bitmap) (set, error) {
	acc := set{roaring.New(), true}
	for _, group := range joinRanges(byCost(kids)) {
		scope := within
		if !acc.not {
			if acc.bm.IsEmpty() {
				return acc, nil
			}
			scope = acc.bm
		}
		var s set
		var err error
		if len(group) == 1 {
			s, err = ev.eval(group[0], scope)
		} else {
			s.bm, err = ev.between(group)
		}
		if err != nil {
			return set{}, err
		}
		acc = intersect(acc, s)
	}
	return acc, nil
}

// joinRanges puts the $gt, $gte, $lt and $lte on one key into one group, so
// that a range with two ends reads only the rows between them. Any other
// condition is a group of its own.
func joinRanges(kids []*Expr) [][]*Expr {
	groups := make([][]*Expr, 0, len(kids))
	at := map[string]int{}
	for _, kid := range kids {
		if kid.op < opGt || kid.op > opLte {
			groups = append(groups, []*Expr{kid})
			continue
		}
		i, seen := at[kid.key]
		if !seen {
			i = len(groups)
			at[kid.key] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], kid)
	}
	return groups
}

func intersect(a, b set) set {
	switch {
	case a.not && b.not: // neither in a nor in b
		a.bm.Or(b.bm)
		return a
	case b.not:
		a.bm.AndNot(b.bm)
		return a
	case a.not:
		b.bm.AndNot(a.bm)
		return b
	}
	a.bm.And(b.bm)
	return a
}

// or unites. By De Morgan it is the complement of the intersection of the
// complements.
func (ev *evaluation) or(kids []*Expr, within *roaring.Bitmap) (set, error) {
	acc := set{roaring.New(), true}
	for _, kid := range byCost(kids) {
		s, err := ev.eval(kid, within)
		if err != nil {
			return set{}, err
		}
		s.not = !s.not
		acc = intersect(acc, s)
	}
	acc.not = !acc.not
	return acc, nil
}

// byCost puts conditions that read documents last, regular expressions after
// plain text.
func byCost(kids []*Expr) []*Expr {
	cost := func(e *Expr) int {
		switch {
		case !e.needsDocument():
			return 0
		case e.op == opText:
			return 1
		case e.op == opRegex:
			return 2
		}
		return 3
	}
	return slices.SortedStableFunc(slices.Values(kids), func(a, b *Expr) int {
		return cmp.Compare(cost(a), cost(b))
	})
}

// done makes the bitmap.
func (g *gather) done(rows uint32) *roaring.Bitmap {
	var bm *roaring.Bitmap
	if len(g.rows) > int(rows/64) {
		dense := make([]uint64, (uint64(rows)+63)/64) // at most 8 times what was gathered
		for _, r := range g.rows {
			dense[r/64] |= 1 << (r % 64)
		}
		bm = roaring.FromDense(dense, false)
	} else {
		slices.Sort(g.rows)
		bm = roaring.New()
		bm.AddMany(g.rows)
	}
	switch {
	case g.bm == nil:
		return bm
	case bm.IsEmpty():
		return g.bm
	}
	g.bm.Or(bm)
	return g.bm
}

// scalarKinds are the kinds of stored values that may equal an operand.
func scalarKinds(v Value) []Kind {
	switch v.rank() {
	case 1:
		return []Kind{KindBool}
	case 2:
		return []Kind{KindInt, KindFloat}
	case 3:
		return []Kind{KindString}
	}
	return nil
}

// equal is the rows whose scalar is one of the operands, which are sorted.
func (ev *evaluation) equal(e *Expr) (*roaring.Bitmap, error) {
	var g gather
	for rest := e.vals; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].rank() == rest[0].rank() {
			n++
		}
		for _, kind := range scalarKinds(rest[0]) {
			if err := ev.equalKind(&g, e.key, kind, rest[:n]); err != nil {
				return nil, err
			}
		}
		rest = rest[n:]
	}
	return g.done(ev.rows), nil
}

func (ev *evaluation) equalKind(g *gather, key string, kind Kind, vals []Value) error {
	f, found, err := ev.field(key, kind)
	if err != nil || !found {
		return err
	}
	for i, v := range vals {
		if i%1024 == 1023 && ev.ctx.Err() != nil {
			return ev.ctx.Err()
		}
		if err := ev.addEqual(g, f, v); err != nil {
			return err
		}
	}
	return nil
}

// addEqual takes the rows of the value of a field that equals v.
func (ev *evaluation) addEqual(g *gather, f field, v Value) error {
	i, err := ev.lower(f, v, false)
	if err != nil || i == f.values {
		return err
	}
	w, err := ev.value(f, i)
	if err != nil {
		return err
	}
	if c, ok := compareScalars(w, v); !ok || c != 0 {
		return nil
	}
	return ev.add(g, f, i, i+1)
}

// elements is the rows whose list has the operand. Kinds do not mix here.
func (ev *evaluation) elements(e *Expr) (*roaring.Bitmap, error) {
	var g gather
	v := e.vals[0]
	if v.rank() == 0 {
		return roaring.New(), nil
	}
	f, found, err := ev.field(e.key, v.kind-KindBool+KindBools)
	if err == nil && found {
		err = ev.addEqual(&g, f, v)
	}
	return g.done(ev.rows), err
}

// between is the rows whose number is in the ranges of $gt, $gte, $lt and $lte
// conditions on one key. All are about the same scalar, so their ends meet
// within each field.
func (ev *evaluation) between(conditions []*Expr) (*roaring.Bitmap, error) {
	var g gather
	for _, e := range conditions {
		if e.vals[0].rank() != 2 {
			return roaring.New(), nil
		}
	}
	for _, kind := range [...]Kind{KindInt, KindFloat} {
		f, found, err := ev.field(conditions[0].key, kind)
		if err != nil {
			return nil, err
		}
		if !found {
			continue
		}
		from, to := uint32(0), f.values
		for _, e := range conditions {
			// Values below the bound are on one side, with $gt and $lte also
			// those that equal it.
			i, err := ev.lower(f, e.vals[0], e.op == opGt || e.op == opLte)
			if err != nil {
				return nil, err
			}
			if e.op == opGt || e.op == opGte {
				from = max(from, i)
			} else {
				to = min(to, i)
			}
		}
		if err := ev.add(&g, f, from, to); err != nil {
			return nil, err
		}
	}
	return g.done(ev.rows), nil
}
