package regex

// kind says what a node matches.
type kind uint8

const (
	kindEmpty  kind = iota
	kindSet         // one character of set; an empty set matches nothing
	kindLook        // the empty text where look holds
	kindConcat      // subs one after the other
	kindAlt         // one of subs
	kindRepeat      // subs[0], min to max times; max < 0: any number
)

// node is a parsed pattern without what does not matter for a yes or no:
// groups, greediness.
type node struct {
	kind     kind
	set      set
	look     look
	subs     []*node
	min, max int
	depth    int // of the tree, for recursion
}

func setNode(s set) *node { return &node{kind: kindSet, set: s} }

func lookNode(l look) *node { return &node{kind: kindLook, look: l} }

// group makes a concatenation or an alternation, which is its only sub if it
// has one.
func group(k kind, subs []*node) *node {
	if k == kindConcat {
		kept := subs[:0]
		for _, s := range subs {
			if s.kind != kindEmpty {
				kept = append(kept, s)
			}
		}
		subs = kept
	}
	switch len(subs) {
	case 0:
		return &node{kind: kindEmpty}
	case 1:
		return subs[0]
	}
	n := &node{kind: k, subs: subs}
	for _, s := range subs {
		n.depth = max(n.depth, s.depth+1)
	}
	return n
}

// repeat makes a repetition. Repeating the empty text is the empty text, so
// every repetition that is left takes at least one instruction per turn.
func repeat(sub *node, minimum, maximum int) *node {
	if sub.kind == kindEmpty || maximum == 0 {
		return &node{kind: kindEmpty}
	}
	return &node{kind: kindRepeat, subs: []*node{sub}, min: minimum, max: maximum, depth: sub.depth + 1}
}

// look is an assertion about the characters before and after a place.
type look uint8

const (
	lookTextStart look = iota
	lookTextEnd
	lookLineStart
	lookLineEnd
	lookCRLFStart
	lookCRLFEnd
	lookWord // \b and so on, Unicode
	lookNotWord
	lookWordStart
	lookWordEnd
	lookWordStartHalf
	lookWordEndHalf
	lookASCII // added to one of the word looks: ASCII
)

// What a character is to assertions; ctxEdge stands where there is none.
type neighbor uint8

const (
	ctxEdge neighbor = 1 << iota
	ctxLF
	ctxCR
	ctxWord
	ctxASCIIWord
)

// holds reports whether the assertion is true between two characters.
func (l look) holds(before, after neighbor) bool {
	word := ctxWord
	if l >= lookWord+lookASCII {
		l -= lookASCII
		word = ctxASCIIWord
	}
	b, a := before&word != 0, after&word != 0
	switch l {
	case lookTextStart:
		return before&ctxEdge != 0
	case lookTextEnd:
		return after&ctxEdge != 0
	case lookLineStart:
		return before&(ctxEdge|ctxLF) != 0
	case lookLineEnd:
		return after&(ctxEdge|ctxLF) != 0
	case lookCRLFStart:
		return before&(ctxEdge|ctxLF) != 0 || before&ctxCR != 0 && after&ctxLF == 0
	case lookCRLFEnd:
		return after&(ctxEdge|ctxCR) != 0 || after&ctxLF != 0 && before&ctxCR == 0
	case lookWord:
		return b != a
	case lookNotWord:
		return b == a
	case lookWordStart:
		return !b && a
	case lookWordEnd:
		return b && !a
	case lookWordStartHalf:
		return !b
	case lookWordEndHalf:
		return !a
	}
	return false
}
