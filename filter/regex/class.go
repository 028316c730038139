package regex

import (
	"slices"
	"sync"
	"unicode"
)

// span is a range of characters, both ends included.
type span struct{ lo, hi rune }

// set is a set of characters: spans in ascending order that neither overlap
// nor touch. Surrogates are never in one.
type set []span

const (
	surrogateMin = 0xD800
	surrogateMax = 0xDFFF
)

// normal makes a set of spans in any order. It changes s.
func normal(s []span) set {
	slices.SortFunc(s, func(a, b span) int { return int(a.lo) - int(b.lo) })
	out := s[:0]
	for _, x := range s {
		if n := len(out); n > 0 && x.lo <= out[n-1].hi+1 {
			out[n-1].hi = max(out[n-1].hi, x.hi)
			continue
		}
		out = append(out, x)
	}
	return withoutSurrogates(out)
}

func withoutSurrogates(s set) set {
	if !slices.ContainsFunc(s, func(x span) bool { return x.lo <= surrogateMax && x.hi >= surrogateMin }) {
		return s
	}
	var out set
	for _, x := range s {
		if x.lo < surrogateMin {
			out = append(out, span{x.lo, min(x.hi, surrogateMin-1)})
		}
		if x.hi > surrogateMax {
			out = append(out, span{max(x.lo, surrogateMax+1), x.hi})
		}
		if x.hi < surrogateMin {
			continue
		}
	}
	return out
}

func union(sets ...set) set {
	var all []span
	for _, s := range sets {
		all = append(all, s...)
	}
	return normal(all)
}

// negate is everything up to top that is not in s.
func (s set) negate(top rune) set {
	var out set
	next := rune(0)
	for _, x := range s {
		if x.lo > next {
			out = append(out, span{next, x.lo - 1})
		}
		next = x.hi + 1
	}
	if next <= top {
		out = append(out, span{next, top})
	}
	return withoutSurrogates(out)
}

func (s set) intersect(t set) set {
	var out set
	for len(s) > 0 && len(t) > 0 {
		lo, hi := max(s[0].lo, t[0].lo), min(s[0].hi, t[0].hi)
		if lo <= hi {
			out = append(out, span{lo, hi})
		}
		if s[0].hi < t[0].hi {
			s = s[1:]
		} else {
			t = t[1:]
		}
	}
	return out
}

func (s set) minus(t set) set { return s.intersect(t.negate(unicode.MaxRune)) }

// size is the number of characters.
func (s set) size() int {
	n := 0
	for _, x := range s {
		n += int(x.hi-x.lo) + 1
	}
	return n
}

func (s set) ascii() bool { return len(s) == 0 || s[len(s)-1].hi < 0x80 }

// casedRunes is every character that has another case, ascending: a constant
// that is too long to write down.
var casedRunes = sync.OnceValue(func() []rune {
	var all []rune
	for _, c := range unicode.CaseRanges {
		for r := rune(c.Lo); r <= rune(c.Hi); r++ {
			for f := unicode.SimpleFold(r); ; f = unicode.SimpleFold(f) {
				if unicode.SimpleFold(r) != r {
					all = append(all, f)
				}
				if f == r {
					break
				}
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
})

// fold adds the other cases of every character (Unicode simple folding).
func (s set) fold() set {
	out := slices.Clone(s)
	cased := casedRunes()
	for _, x := range s {
		i, _ := slices.BinarySearch(cased, x.lo)
		for ; i < len(cased) && cased[i] <= x.hi; i++ {
			for f := unicode.SimpleFold(cased[i]); f != cased[i]; f = unicode.SimpleFold(f) {
				out = append(out, span{f, f})
			}
		}
	}
	return normal(out)
}

// foldASCII adds the other cases of ASCII letters only.
func (s set) foldASCII() set {
	out := slices.Clone(s)
	upper := set{{'A', 'Z'}}
	lower := set{{'a', 'z'}}
	for _, x := range s.intersect(upper) {
		out = append(out, span{x.lo + 32, x.hi + 32})
	}
	for _, x := range s.intersect(lower) {
		out = append(out, span{x.lo - 32, x.hi - 32})
	}
	return normal(out)
}

// fromTable is the set of a table of package unicode.
func fromTable(tables ...*unicode.RangeTable) set {
	var out []span
	add := func(lo, hi, stride rune) {
		if stride == 1 {
			out = append(out, span{lo, hi})
			return
		}
		for r := lo; r <= hi; r += stride {
			out = append(out, span{r, r})
		}
	}
	for _, t := range tables {
		for _, r := range t.R16 {
			add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
		}
		for _, r := range t.R32 {
			add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
		}
	}
	return normal(out)
}
