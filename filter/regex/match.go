package regex

import (
	"context"
	"encoding/binary"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// maxCache bounds the memory of the states that one machine keeps, in bytes.
	maxCache = 1 << 20
	// checkWork is how much work, in instructions and characters, goes by
	// between two looks at the context.
	checkWork = 1 << 20
	// manyClasses is how many classes a state has an array for; patterns with
	// more, such as long lists of ideographs, keep the rest in a map.
	manyClasses = 256
)

// MatchString reports whether the pattern matches somewhere in s.
func (re *Regexp) MatchString(s string) bool {
	ok, _ := re.Match(context.Background(), s)
	return ok
}

// Match reports whether the pattern matches somewhere in s. The error is the
// context's: a large pattern over a long text may take seconds.
func (re *Regexp) Match(ctx context.Context, s string) (bool, error) {
	if re.need.Op == NeedText && !strings.Contains(s, re.need.Text) {
		return false, nil
	}
	m, _ := re.pool.Get().(*machine)
	if m == nil {
		m = newMachine(re.prog)
	}
	m.ctx = ctx
	ok, err := m.run(s)
	m.ctx = nil
	re.pool.Put(m)
	return ok, err
}

// machine runs a program. It makes deterministic states when it first meets
// them and forgets them all when they take too much room.
type machine struct {
	prog   *program
	ctx    context.Context
	states map[string]*state
	size   int
	start  *state
	match  *state // the state after which nothing matters any more
	work   int

	seen  []uint32 // instruction -> round in which it was last reached
	round uint32
	stack []int32
	key   []byte
}

// state is the threads after a character, their assertions not yet resolved,
// and what kind of character that was.
type state struct {
	threads []int32
	before  neighbor
	next    []*state          // by class below manyClasses, nil: not made yet
	others  map[uint16]*state // by the other classes
	atEnd   int8              // whether the text may end here: 0 not known, 1 yes, -1 no
}

func newMachine(p *program) *machine {
	m := &machine{prog: p, seen: make([]uint32, len(p.insts)), match: &state{}}
	m.reset()
	return m
}

func (m *machine) reset() {
	m.states = map[string]*state{}
	m.size = 0
	m.start = m.state([]int32{m.prog.start}, ctxEdge)
}

func (m *machine) run(s string) (bool, error) {
	c := &m.prog.classes
	st := m.start
	m.work = 0
	for i := 0; i < len(s); {
		class := uint16(invalidClass)
		if b := s[i]; b < utf8.RuneSelf {
			class = c.small[b]
			i++
		} else {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || n > 1 {
				class = c.class(r)
			}
			i += n
		}
		var next *state
		if class < manyClasses {
			next = st.next[class]
		} else {
			next = st.others[class]
		}
		if next == nil {
			var err error
			if next, err = m.step(st, class, i); err != nil {
				return false, err
			}
		}
		if next == m.match {
			return true, nil
		}
		st = next
	}
	if st.atEnd == 0 {
		st.atEnd = -1
		if m.close(st, ctxEdge, nil) {
			st.atEnd = 1
		}
	}
	return st.atEnd > 0, nil
}

// step makes the state that follows st on a character of a class.
func (m *machine) step(st *state, class uint16, at int) (*state, error) {
	m.work += len(m.prog.insts)/8 + len(st.threads) + 16
	if m.work > checkWork {
		m.work = 0
		if err := m.ctx.Err(); err != nil {
			return nil, err
		}
	}
	has := m.prog.classes.members[class]
	var threads []int32
	if m.close(st, m.prog.classes.neighbors[class], func(i *inst) {
		if has[i.x/64]>>(i.x%64)&1 != 0 {
			threads = append(threads, i.next)
		}
	}) {
		st.follow(class, m.match)
		return m.match, nil
	}
	// A match may begin at every place.
	threads = append(threads, m.prog.start)
	next := m.state(threads, m.prog.classes.neighbors[class])
	st.follow(class, next)
	return next, nil
}

func (st *state) follow(class uint16, next *state) {
	if class < manyClasses {
		st.next[class] = next
		return
	}
	if st.others == nil {
		st.others = map[uint16]*state{}
	}
	st.others[class] = next
}

// close follows splits and assertions from the threads of st, given what comes
// next, calls set for every instruction that wants a character, and reports
// whether a match is reached.
func (m *machine) close(st *state, after neighbor, set func(*inst)) bool {
	m.round++
	if m.round == 0 {
		clear(m.seen)
		m.round = 1
	}
	m.stack = append(m.stack[:0], st.threads...)
	for len(m.stack) > 0 {
		pc := m.stack[len(m.stack)-1]
		m.stack = m.stack[:len(m.stack)-1]
		if m.seen[pc] == m.round {
			continue
		}
		m.seen[pc] = m.round
		switch i := &m.prog.insts[pc]; i.op {
		case opMatch:
			return true
		case opSplit:
			m.stack = append(m.stack, i.next, i.x)
		case opLook:
			if look(i.x).holds(st.before, after) {
				m.stack = append(m.stack, i.next)
			}
		case opSet:
			if set != nil {
				set(i)
			}
		}
	}
	return false
}

// state finds or makes the state of some threads.
func (m *machine) state(threads []int32, before neighbor) *state {
	slices.Sort(threads)
	threads = slices.Compact(threads)
	if !m.prog.looks {
		before = 0
	}
	m.key = append(m.key[:0], byte(before))
	for _, t := range threads {
		m.key = binary.AppendUvarint(m.key, uint64(t))
	}
	if st, ok := m.states[string(m.key)]; ok {
		return st
	}
	direct := min(m.prog.classes.count, manyClasses)
	m.size += 200 + 2*len(m.key) + 4*len(threads) + 8*direct
	if m.size > maxCache && len(m.states) > 1 {
		// States in use live on through their own pointers.
		m.states = map[string]*state{}
		m.size = 0
		m.start = m.state([]int32{m.prog.start}, ctxEdge)
		return m.state(threads, before)
	}
	st := &state{threads: slices.Clip(threads), before: before, next: make([]*state, direct)}
	m.states[string(m.key)] = st
	return st
}
