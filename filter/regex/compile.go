package regex

import (
	"fmt"
	"slices"
	"sync"
)

const (
	// maxProgram bounds the instructions of a compiled pattern.
	maxProgram = 20_000
	// maxSpans bounds the ranges of all its different classes together.
	maxSpans = 1 << 18
	// maxTable bounds the bits of the table of classes by sets; class numbers have
	// 16 bits.
	maxTable = 1 << 26
)

// Regexp is a compiled pattern, safe for concurrent use.
type Regexp struct {
	prog *program
	need *Need
	pool sync.Pool // of *machine
}

// Compile reads a pattern. Errors are *Error.
func Compile(pattern string) (*Regexp, error) {
	n, err := parse(pattern)
	if err != nil {
		return nil, err
	}
	c := compiler{sets: map[string]int32{}}
	if err := c.program(n); err != nil {
		return nil, &Error{Pattern: pattern, End: len(pattern), Reason: err.Error()}
	}
	classes, ok := partition(c.list, c.looks, c.word)
	if !ok {
		return nil, &Error{Pattern: pattern, End: len(pattern), Reason: "too many different characters and classes"}
	}
	prog := &program{insts: c.insts, start: int32(len(c.insts) - 1), looks: c.looks, classes: classes}
	return &Regexp{prog: prog, need: needOf(n)}, nil
}

type opcode uint8

const (
	opSet   opcode = iota // consumes a character of set x, then next
	opSplit               // next and x
	opLook                // next, if look x holds
	opMatch
)

type inst struct {
	op   opcode
	x    int32
	next int32
}

// program is Thompson's NFA with characters grouped into classes: characters
// that no instruction can tell apart are one class.
type program struct {
	insts   []inst
	start   int32
	classes classes
	looks   bool // some instruction is an assertion
}

type compiler struct {
	insts []inst
	sets  map[string]int32 // by spans
	list  []set
	spans int
	err   error
	word  bool // a Unicode word assertion occurs
	looks bool
}

func (c *compiler) program(n *node) error {
	c.emit(inst{op: opMatch})
	c.emit(inst{op: opSplit, next: c.node(n, 0)})
	// Both arms alike: the last instruction only marks the start.
	c.insts[len(c.insts)-1].x = c.insts[len(c.insts)-1].next
	return c.err
}

func (c *compiler) emit(i inst) int32 {
	if len(c.insts) >= maxProgram {
		if c.err == nil {
			c.err = fmt.Errorf("compiled pattern exceeds the limit of %d instructions", maxProgram)
		}
		return 0
	}
	c.insts = append(c.insts, i)
	return int32(len(c.insts) - 1)
}

// node emits code that goes on at next, back to front, and returns its start.
func (c *compiler) node(n *node, next int32) int32 {
	if c.err != nil {
		return 0
	}
	switch n.kind {
	case kindSet:
		return c.emit(inst{opSet, c.set(n.set), next})
	case kindLook:
		c.looks = true
		c.word = c.word || n.look >= lookWord
		return c.emit(inst{opLook, int32(n.look), next})
	case kindConcat:
		for _, sub := range slices.Backward(n.subs) {
			next = c.node(sub, next)
		}
	case kindAlt:
		at := c.node(n.subs[len(n.subs)-1], next)
		for _, sub := range slices.Backward(n.subs[:len(n.subs)-1]) {
			at = c.emit(inst{opSplit, at, c.node(sub, next)})
		}
		return at
	case kindRepeat:
		return c.repeat(n, next)
	}
	return next
}

// repeat writes x{2,4} as xx(x(x)?)? and x{2,} as xxx*.
func (c *compiler) repeat(n *node, next int32) int32 {
	sub := n.subs[0]
	if n.max < 0 {
		loop := c.emit(inst{op: opSplit, x: next})
		if c.err != nil {
			return 0
		}
		c.insts[loop].next = c.node(sub, loop)
		next = loop
	} else {
		after := next
		for range n.max - n.min {
			if c.err != nil {
				return 0
			}
			next = c.emit(inst{opSplit, after, c.node(sub, next)})
		}
	}
	for range n.min {
		if c.err != nil {
			return 0
		}
		next = c.node(sub, next)
	}
	return next
}

// set numbers the different sets.
func (c *compiler) set(s set) int32 {
	key := make([]byte, 0, 6*len(s))
	for _, x := range s {
		key = append(key, byte(x.lo), byte(x.lo>>8), byte(x.lo>>16), byte(x.hi), byte(x.hi>>8), byte(x.hi>>16))
	}
	id, ok := c.sets[string(key)]
	if !ok {
		id = int32(len(c.list))
		c.sets[string(key)] = id
		c.list = append(c.list, s)
		if c.spans += len(s); c.spans > maxSpans && c.err == nil {
			c.err = fmt.Errorf("classes of the pattern exceed the limit of %d ranges", maxSpans)
		}
	}
	return id
}

// classes maps characters to classes.
type classes struct {
	count int
	small [0x800]uint16 // class of the characters of one or two bytes
	lows  []rune        // ranges from here on ...
	of    []uint16      // ... are of this class
	// members says for each class which sets it lies in, as bits.
	members   [][]uint64
	neighbors []neighbor
}

// invalidClass is the class of bytes that are not UTF-8: in no set.
const invalidClass = 0

// partition finds the coarsest classes that lie inside or outside of every
// set. With looks, line ends and, with word, word characters also count. It is
// false when the table would be larger than maxTable.
func partition(sets []set, looks, word bool) (classes, bool) {
	pt := partitioner{sets: len(sets), known: map[string]uint16{}}
	for i := range pt.marks {
		pt.marks[i] = -1
	}
	mark := func(i int, s set) {
		pt.marks[i] = len(sets)
		sets = append(slices.Clip(sets), s)
	}
	if looks {
		mark(0, set{{'\n', '\n'}})
		mark(1, set{{'\r', '\r'}})
	}
	if word {
		mark(2, wordSet())
		mark(3, asciiWordSet())
	}
	pt.in = make([]byte, (len(sets)+7)/8)
	pt.add(make([]uint64, (pt.sets+63)/64), 0) // invalidClass

	// Walk over the places where some set begins or ends.
	type edge struct {
		at rune
		id int
	}
	var edges []edge
	for id, s := range sets {
		for _, x := range s {
			edges = append(edges, edge{x.lo, id}, edge{x.hi + 1, id})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return int(a.at) - int(b.at) })
	c := &pt.classes
	c.lows, c.of = append(c.lows, 0), append(c.of, 0)
	for i := 0; i < len(edges); {
		at := edges[i].at
		if n := len(c.members); n*(pt.sets+1) > maxTable || n >= 1<<16-1 {
			return classes{}, false
		}
		if at > c.lows[len(c.lows)-1] {
			c.of[len(c.of)-1] = pt.class()
			c.lows, c.of = append(c.lows, at), append(c.of, 0)
		}
		for ; i < len(edges) && edges[i].at == at; i++ {
			pt.in[edges[i].id/8] ^= 1 << (edges[i].id % 8)
		}
	}
	c.of[len(c.of)-1] = pt.class()
	c.count = len(c.members)
	for r, i := 0, 0; r < len(c.small); r++ {
		for i+1 < len(c.lows) && c.lows[i+1] <= rune(r) {
			i++
		}
		c.small[r] = c.of[i]
	}
	return *c, true
}

// partitioner is the state of partition: the sets that the current range of
// characters lies in, as bits, and the class of each combination seen.
type partitioner struct {
	classes classes
	sets    int
	marks   [4]int // sets of \n, \r, words and ASCII words; negative: absent
	in      []byte
	known   map[string]uint16
}

func (pt *partitioner) has(set int) bool { return set >= 0 && pt.in[set/8]>>(set%8)&1 != 0 }

func (pt *partitioner) add(members []uint64, n neighbor) uint16 {
	pt.classes.members = append(pt.classes.members, members)
	pt.classes.neighbors = append(pt.classes.neighbors, n)
	return uint16(len(pt.classes.members) - 1)
}

// class is the class of the current combination of sets.
func (pt *partitioner) class() uint16 {
	if id, ok := pt.known[string(pt.in)]; ok {
		return id
	}
	members := make([]uint64, (pt.sets+63)/64)
	for i := range pt.sets {
		if pt.has(i) {
			members[i/64] |= 1 << (i % 64)
		}
	}
	var n neighbor
	for i, set := range pt.marks {
		if pt.has(set) {
			n |= ctxLF << i
		}
	}
	id := pt.add(members, n)
	pt.known[string(pt.in)] = id
	return id
}

func (c *classes) class(r rune) uint16 {
	if r < rune(len(c.small)) {
		return c.small[r]
	}
	i, exact := slices.BinarySearch(c.lows, r)
	if !exact {
		i--
	}
	return c.of[i]
}
