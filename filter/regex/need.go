package regex

import "slices"

// NeedOp says what a Need is made of.
type NeedOp uint8

const (
	NeedNothing NeedOp = iota // every text has it
	NeedText                  // the text contains Text
	NeedAll                   // the text has each of Subs
	NeedSome                  // the text has one of Subs; without any: no text has it
)

// A Need is a condition that every text with a match fulfils, after Cox,
// "Regular Expression Matching with a Trigram Index": an index that answers
// it finds the texts worth a look. Each Text is of three bytes or more.
type Need struct {
	Op   NeedOp
	Text string
	Subs []*Need
}

// Need is what every text has in which the pattern matches.
func (re *Regexp) Need() *Need { return re.need }

const (
	maxExact   = 64 // texts in an exact set
	maxVariant = 8  // characters of a class that is spelled out
	maxText    = 48 // bytes of a text before it is cut
)

// known is what can be said of a node: the exact set of texts it matches
// (never more than maxExact), or, when exact is nil, only what they need.
type known struct {
	exact []string
	need  *Need
}

func needOf(n *node) *Need {
	k := analyse(n)
	return k.all()
}

// all is everything that is known, as a Need.
func (k known) all() *Need {
	if k.exact != nil {
		return someOf(k.exact)
	}
	return k.need
}

var nothing = &Need{}

// someOf is the need of a set of texts; a text under three bytes says nothing.
func someOf(texts []string) *Need {
	n := &Need{Op: NeedSome}
	for _, t := range texts {
		if len(t) < 3 {
			return nothing
		}
		n.Subs = append(n.Subs, &Need{Op: NeedText, Text: t})
	}
	if len(n.Subs) == 1 {
		return n.Subs[0]
	}
	return n
}

func allOf(needs []*Need) *Need {
	needs = slices.DeleteFunc(needs, func(n *Need) bool { return n.Op == NeedNothing })
	switch len(needs) {
	case 0:
		return nothing
	case 1:
		return needs[0]
	}
	return &Need{Op: NeedAll, Subs: needs}
}

func analyse(n *node) known {
	switch n.kind {
	case kindEmpty, kindLook:
		return known{exact: []string{""}}
	case kindSet:
		return analyseSet(n.set)
	case kindConcat:
		subs := make([]known, len(n.subs))
		for i, sub := range n.subs {
			subs[i] = analyse(sub)
		}
		return concat(subs)
	case kindAlt:
		return analyseAlt(n.subs)
	}
	sub := analyse(n.subs[0])
	switch {
	case n.min == 0 && n.max == 1 && sub.exact != nil && len(sub.exact) < maxExact:
		return known{exact: distinct(append([]string{""}, sub.exact...))}
	case n.min == 0:
		return known{need: nothing}
	case n.min == n.max && n.min <= 4:
		return concat(slices.Repeat([]known{sub}, n.min))
	}
	return known{need: sub.all()}
}

func analyseSet(s set) known {
	if s.size() > maxVariant {
		return known{need: nothing}
	}
	exact := []string{}
	for _, x := range s {
		for r := x.lo; r <= x.hi; r++ {
			exact = append(exact, string(r))
		}
	}
	return known{exact: exact}
}

// concat multiplies exact sets as long as they stay small, and turns
// each run of them into a need.
func concat(subs []known) known {
	run := []string{""}
	var needs []*Need
	whole := true
	flush := func() {
		needs = append(needs, someOf(run))
		run = []string{""}
		whole = false
	}
	for _, k := range subs {
		if k.exact == nil {
			flush()
			needs = append(needs, k.need)
			continue
		}
		if len(run)*len(k.exact) > maxExact || longest(run)+longest(k.exact) > maxText {
			flush()
		}
		run = product(run, k.exact)
	}
	if whole {
		return known{exact: run}
	}
	flush()
	return known{need: allOf(needs)}
}

func longest(texts []string) int {
	n := 0
	for _, t := range texts {
		n = max(n, len(t))
	}
	return n
}

func product(a, b []string) []string {
	out := make([]string, 0, len(a)*len(b))
	for _, x := range a {
		for _, y := range b {
			out = append(out, x+y)
		}
	}
	return distinct(out)
}

func distinct(texts []string) []string {
	slices.Sort(texts)
	return slices.Compact(texts)
}

func analyseAlt(subs []*node) known {
	exact := []string{}
	n := &Need{Op: NeedSome}
	for _, sub := range subs {
		k := analyse(sub)
		if exact != nil && k.exact != nil && len(exact)+len(k.exact) <= maxExact {
			exact = append(exact, k.exact...)
		} else {
			exact = nil
		}
		n.Subs = append(n.Subs, k.all())
	}
	if exact != nil {
		return known{exact: distinct(exact)}
	}
	if slices.ContainsFunc(n.Subs, func(s *Need) bool { return s.Op == NeedNothing }) {
		return known{need: nothing}
	}
	return known{need: n}
}
