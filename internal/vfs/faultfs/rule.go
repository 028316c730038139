package faultfs

import (
	"fmt"
	"io"
	"path"
	"slices"
	"syscall"

	"github.com/chromad/chromad/internal/vfs"
)

// Fault is what a rule does to a call.
type Fault uint8

const (
	none Fault = iota
	// Fail makes any call fail with Err and do nothing; EIO when Err is nil.
	// A failing Sync or SyncDir loses part of what it should have made
	// durable, or all of it, for good: the next one succeeds without it.
	Fail
	// Short makes a Write write half of its bytes and fail with Err
	// (vfs.ErrNoSpace), a ReadAt read half of its bytes (io.ErrUnexpectedEOF).
	Short
	// Flip turns one bit of what a ReadAt or Map returns.
	Flip
	// Lose makes a Write, Sync or SyncDir report success and do nothing. The
	// file is as long as if the bytes had been written, but they are zeros.
	Lose
	// Stale makes a Write leave out one sector.
	Stale
	// Misdirect makes a Write put its bytes into another file at the same
	// offset, as far as that file has bytes there; in its own are zeros.
	Misdirect
)

var faultOps = map[Fault][]Op{
	Short: {OpWrite, OpRead}, Flip: {OpRead, OpMap}, Lose: {OpWrite, OpSync, OpSyncDir},
	Stale: {OpWrite}, Misdirect: {OpWrite},
}

// Rule says which calls get a fault.
type Rule struct {
	Op   Op
	Path string // pattern of path.Match against the whole name; "" is every name

	// Which of the calls that match: the one with number Nth, counted from 0
	// when the rule is injected, and with Forever all that follow it. With
	// Probability above 0 it is each from Nth on, with that probability,
	// until the first hit, or with Forever for good.
	Nth         int
	Probability float64
	Forever     bool

	Fault Fault // Fail when zero
	Err   error
}

// Injected is a rule at work.
type Injected struct {
	fs    *FS
	rule  Rule
	seen  int
	fired int
}

// Inject puts a rule to work; of several that hit a call the oldest counts. It
// panics when the fault cannot happen to the call, since the test that asked
// for it would prove nothing.
func (f *FS) Inject(r Rule) *Injected {
	if r.Fault == none {
		r.Fault = Fail
	}
	if ops, limited := faultOps[r.Fault]; limited && !slices.Contains(ops, r.Op) {
		panic(fmt.Sprintf("faultfs: fault %d cannot happen to %v", r.Fault, r.Op))
	}
	if _, err := path.Match(r.Path, ""); err != nil {
		panic(fmt.Sprintf("faultfs: pattern %q: %v", r.Path, err))
	}
	if r.Err == nil {
		r.Err = defaultErr(r)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	in := &Injected{fs: f, rule: r}
	f.rules = append(f.rules, in)
	return in
}

func defaultErr(r Rule) error {
	switch {
	case r.Fault == Fail:
		return syscall.EIO
	case r.Fault == Short && r.Op == OpWrite:
		return vfs.ErrNoSpace
	case r.Fault == Short:
		return io.ErrUnexpectedEOF
	}
	return nil
}

// Fired is how often the rule has hit.
func (in *Injected) Fired() int {
	in.fs.mu.Lock()
	defer in.fs.mu.Unlock()
	return in.fired
}

// Remove ends the rule.
func (in *Injected) Remove() {
	in.fs.mu.Lock()
	defer in.fs.mu.Unlock()
	in.fs.rules = slices.DeleteFunc(in.fs.rules, func(r *Injected) bool { return r == in })
}

// hit returns the fault for a call, the error that a call returns which does
// half, and the one of a call that does nothing.
func (f *FS) hit(op Op, name string) (fault Fault, short, err error) {
	for _, in := range f.rules {
		if !in.matches(op, name) || !in.fires() {
			continue
		}
		in.fired++
		if in.rule.Fault == Fail {
			return Fail, nil, in.rule.Err
		}
		return in.rule.Fault, in.rule.Err, nil
	}
	return none, nil, nil
}

func (in *Injected) matches(op Op, name string) bool {
	if in.rule.Op != op {
		return false
	}
	ok, _ := path.Match(in.rule.Path, name)
	return ok || in.rule.Path == ""
}

func (in *Injected) fires() bool {
	number := in.seen
	in.seen++
	r := in.rule
	switch {
	case number < r.Nth, in.fired > 0 && !r.Forever:
		return false
	case r.Probability > 0:
		return in.fs.rand.Float64() < r.Probability
	}
	return number == r.Nth || r.Forever
}

func (f *FS) flip(b []byte) {
	if len(b) > 0 {
		b[f.rand.IntN(len(b))] ^= 1 << f.rand.IntN(8)
	}
}
