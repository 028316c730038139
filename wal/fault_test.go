package wal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// script does everything that a log can do, until the disk fails.
func (w *world) script() error {
	for range 3 {
		if ok, err := w.open(); !ok {
			return err
		}
		w.group(3)
		w.group(1)
		err := w.log.Rotate()
		w.group(2)
		w.from = max(w.from, uint64(len(w.durable)))
		err = errors.Join(err, w.log.Release(Position{w.o.Epoch, w.from}))
		w.group(4)
		if err = errors.Join(err, w.log.Close()); err != nil {
			return err
		}
	}
	return nil
}

// settle opens the log on a disk that works, twice, the second time after a
// power cut: what was acknowledged, and what was shown, must be there.
func (w *world) settle(c faultfs.Cut) error {
	for range 2 {
		if _, err := w.open(); err != nil {
			return err
		}
		w.group(2)
		if err := w.log.Close(); err != nil {
			return err
		}
		w.disk = w.disk.CrashWith(w.rng, c)
	}
	if _, err := w.open(); err != nil {
		return err
	}
	return w.log.Close()
}

var cuts = []faultfs.Cut{
	{Keep: 0},
	{Keep: 100, Prefix: true},
	{Keep: 50, Garbage: true, Extend: true},
	{Keep: 50, Prefix: true, Sector: 4096},
}

// TestFaultLoop makes the k-th call of each kind fail, for every k, once and
// for ever.
func TestFaultLoop(t *testing.T) {
	for _, r := range []faultfs.Rule{
		{Op: faultfs.OpWrite},
		{Op: faultfs.OpWrite, Fault: faultfs.Short},
		{Op: faultfs.OpSync},
		{Op: faultfs.OpSyncDir, Path: "log"},
		{Op: faultfs.OpCreate},
		{Op: faultfs.OpRename},
		{Op: faultfs.OpRemove},
		{Op: faultfs.OpTruncate},
		{Op: faultfs.OpMkdir},
		{Op: faultfs.OpClose},
		{Op: faultfs.OpOpen},
		{Op: faultfs.OpRead},
		{Op: faultfs.OpRead, Fault: faultfs.Short},
		{Op: faultfs.OpList},
		{Op: faultfs.OpStat},
	} {
		for _, r.Forever = range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/%d/%v", r.Op, r.Fault, r.Forever), func(t *testing.T) {
				for k, fired := 0, true; fired; k++ {
					w := newWorld(uint64(k))
					w.wide = false
					r.Nth = k
					rule := w.disk.Inject(r)
					err := w.script()
					fired = rule.Fired() > 0
					if err != nil && !fired || errors.Is(err, disk.ErrCorrupt) {
						t.Fatalf("k=%d: %v", k, err)
					}
					if n := w.disk.Handles(); n != 0 {
						t.Fatalf("k=%d: %d files left open", k, n)
					}
					rule.Remove()
					if err := w.settle(cuts[k%len(cuts)]); err != nil {
						t.Fatalf("k=%d: %v", k, err)
					}
				}
			})
		}
	}
}

// TestFlippedRead lets the k-th read return a wrong bit: that must be found,
// or not matter.
func TestFlippedRead(t *testing.T) {
	for k := range 40 {
		for seed := range uint64(20) {
			w := newWorld(8 * seed)
			rule := w.disk.Inject(faultfs.Rule{Op: faultfs.OpRead, Fault: faultfs.Flip, Nth: k})
			err := w.script()
			if err != nil && !errors.Is(err, disk.ErrCorrupt) {
				t.Fatalf("k=%d seed=%d: %v", k, seed, err)
			}
			rule.Remove()
			if err := w.settle(cuts[0]); err != nil {
				t.Fatalf("k=%d seed=%d: settle: %v", k, seed, err)
			}
		}
	}
}

// TestCrashLoop cuts the power at every call of the script, and again at every
// call of the recovery that follows.
func TestCrashLoop(t *testing.T) {
	for i, c := range cuts {
		for k, crashed := 0, true; crashed; k++ {
			w := newWorld(uint64(8*k + i))
			w.disk.CrashAt(k)
			if err := w.script(); err != nil && !errors.Is(err, faultfs.ErrCrashed) {
				t.Fatalf("cut %d at %d: %v", i, k, err)
			}
			crashed = w.disk.Crashed()
			w.disk = w.disk.CrashWith(w.rng, c)
			for again := range 6 {
				w.disk.CrashAt(again)
				if ok, err := w.open(); ok {
					w.log.Close() // it may have been reached by the cut
				} else if !errors.Is(err, faultfs.ErrCrashed) {
					t.Fatalf("cut %d at %d, then at %d: %v", i, k, again, err)
				}
				w.disk = w.disk.CrashWith(w.rng, c)
			}
			if err := w.settle(c); err != nil {
				t.Fatalf("cut %d at %d: %v", i, k, err)
			}
		}
	}
}

// TestFailedSync checks what the callers see: those in the frame are in doubt,
// those behind it are refused, nothing touches the disk any more.
func TestFailedSync(t *testing.T) {
	w := newWorld(0)
	if _, err := w.open(); err != nil {
		t.Fatal(err)
	}
	l := w.log
	l.o.MaxFrame = 10
	at, err := l.Commit(context.Background(), []byte("good"))
	if err != nil || at != l.Next() && at.Seq != 1 {
		t.Fatal(at, err)
	}
	w.disk.Inject(faultfs.Rule{Op: faultfs.OpSync})
	var got []error
	var wg sync.WaitGroup
	l.mu.Lock()
	for _, p := range []string{"in the frame", "behind"} {
		wg.Add(1)
		l.queue.add([]byte(p), func(_ Position, err error) { got = append(got, err); wg.Done() })
		l.pending++
	}
	l.wake.Signal()
	l.mu.Unlock()
	wg.Wait()
	ops := w.disk.Ops()
	got = append(got, l.Append(nil, nil), l.Rotate(), l.Release(Position{Seq: 9}), l.Err(), l.Close())
	for i, err := range got {
		unknown, refused := i == 0, i == 1 || i == 2
		if !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) || errors.Is(err, ErrUnknown) != unknown || errors.Is(err, ErrRefused) != refused {
			t.Errorf("%d: %v", i, err)
		}
	}
	if w.disk.Ops() != ops {
		t.Errorf("the disk was touched: %v", w.disk.Trace()[ops:])
	}
	if next := l.Next(); next.Seq != 2 {
		t.Errorf("next is %v", next)
	}
}

// TestFailedWrite stops the log: of a write that fails for another reason than
// a full disk nothing is known, and the disk is not trusted with taking it back.
func TestFailedWrite(t *testing.T) {
	for _, fault := range []faultfs.Rule{
		{Op: faultfs.OpWrite}, {Op: faultfs.OpWrite, Fault: faultfs.Short, Err: syscall.EIO},
	} {
		w := newWorld(0)
		if _, err := w.open(); err != nil {
			t.Fatal(err)
		}
		w.group(1)
		w.disk.Inject(fault)
		if _, err := w.log.Commit(context.Background(), []byte("in doubt")); !errors.Is(err, ErrUnknown) || !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
			t.Errorf("%+v: the entry: %v", fault, err)
		}
		ops := w.disk.Ops()
		if _, err := w.log.Commit(context.Background(), []byte("behind")); !errors.Is(err, ErrRefused) || !errors.Is(err, ErrFailed) {
			t.Errorf("%+v: the next: %v", fault, err)
		}
		if w.disk.Ops() != ops {
			t.Errorf("%+v: the disk was touched: %v", fault, w.disk.Trace()[ops:])
		}
	}
}

// TestDiskFull refuses entries while there is no room, for a frame or for a new
// file, and goes on when there is.
func TestDiskFull(t *testing.T) {
	for room := range int64(400) {
		w := newWorld(uint64(8 * room))
		if _, err := w.open(); err != nil {
			t.Fatal(err)
		}
		w.log.o.MaxFile = 200
		w.group(1)
		w.disk.Budget(w.disk.Used() + room)
		refused := 0
		for i := range 3 {
			p := fmt.Sprintf("%d in the narrow: %s", i, strings.Repeat("x", 100))
			at, err := w.log.Commit(context.Background(), []byte(p))
			if err != nil {
				refused++
				if !errors.Is(err, ErrRefused) || !errors.Is(err, vfs.ErrNoSpace) || errors.Is(err, ErrFailed) {
					t.Fatalf("room %d: %v", room, err)
				}
			}
			w.heard(p)(at, err)
		}
		if refused == 0 {
			t.Fatalf("room %d: nothing was refused", room)
		}
		if slices.ContainsFunc(w.disk.Files(), func(n string) bool { return strings.HasSuffix(n, tmpSuffix) }) {
			t.Fatalf("room %d: left behind: %v", room, w.disk.Files())
		}
		w.disk.Budget(-1)
		w.group(2)
		if err := w.log.Close(); err != nil {
			t.Fatalf("room %d: %v", room, err)
		}
		w.disk = w.disk.CrashWith(w.rng, cuts[0])
		if err := w.settle(cuts[1]); err != nil {
			t.Fatalf("room %d: %v", room, err)
		}
	}
}

// TestCloseWhileAppending expects an answer for everything that was taken.
func TestCloseWhileAppending(t *testing.T) {
	for seed := range uint64(50) {
		fs := faultfs.New(seed)
		l, err := Open(fs, Position{}, Options{MaxFile: 500})
		if err != nil {
			t.Fatal(err)
		}
		replayAll(t, l)
		var mu sync.Mutex
		var acknowledged []string
		var writers, answers sync.WaitGroup
		for g := range 8 {
			writers.Go(func() {
				for i := range 200 {
					p := fmt.Sprintf("%d.%d", g, i)
					answers.Add(1)
					if err := l.Append([]byte(p), func(at Position, err error) {
						defer answers.Done()
						if err != nil {
							t.Errorf("%s: %v", p, err)
							return
						}
						mu.Lock()
						acknowledged = append(acknowledged, fmt.Sprintf("%v %s", at, p))
						mu.Unlock()
					}); err != nil {
						answers.Done()
						if !errors.Is(err, ErrClosed) || !errors.Is(err, ErrRefused) {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		for range rand.New(rand.NewPCG(seed, 0)).IntN(10) {
			if err := l.Rotate(); err != nil {
				t.Error(err)
			}
		}
		if err := errors.Join(l.Close(), l.Close()); err != nil {
			t.Error(err)
		}
		writers.Wait()
		answers.Wait()
		l, err = Open(fs.CrashWith(rand.New(rand.NewPCG(seed, 1)), cuts[0]), Position{}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := replayAll(t, l); !slices.Equal(got, acknowledged) {
			t.Fatalf("seed %d: %d entries, acknowledged %d", seed, len(got), len(acknowledged))
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestRefused lists the calls that a log answers with a refusal.
func TestRefused(t *testing.T) {
	fs := faultfs.New(1)
	open := func(o Options) *Log {
		l, err := Open(fs, Position{}, o)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	early := open(Options{})
	done := open(Options{Epoch: 3})
	replayAll(t, done)
	if _, err := done.Commit(t.Context(), []byte("x")); err != nil {
		t.Fatal(err)
	}
	large := done.Append(make([]byte, MaxPayload+1), nil)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, cancelled := done.Commit(ended, nil)
	if err := done.Close(); err != nil {
		t.Fatal(err)
	}
	ops := fs.Ops()
	reader := open(Options{ReadOnly: true})
	for range 2 {
		if got := replayAll(t, reader); !slices.Equal(got, []string{"3.1 x"}) {
			t.Fatal(got)
		}
	}
	_, past := Open(fs, Position{}, Options{Epoch: 2})
	for _, c := range []struct {
		got  error
		want []error
	}{
		{early.Append(nil, nil), []error{ErrRefused, ErrNotReplayed}},
		{early.Rotate(), []error{ErrNotReplayed}},
		{early.Release(Position{}), []error{ErrNotReplayed}},
		{large, []error{ErrRefused, ErrTooLarge}},
		{cancelled, []error{ErrRefused, context.Canceled}},
		{reader.Append(nil, nil), []error{ErrRefused, ErrReadOnly}},
		{reader.Release(Position{}), []error{ErrReadOnly}},
		{done.Append(nil, nil), []error{ErrRefused, ErrClosed}},
		{past, []error{ErrEpoch}},
	} {
		for _, want := range c.want {
			if !errors.Is(c.got, want) {
				t.Errorf("%v is not %v", c.got, want)
			}
		}
	}
	if err := errors.Join(reader.Close(), early.Close()); err != nil {
		t.Error(err)
	}
	if fs.Ops() != ops {
		t.Errorf("reading wrote: %v", fs.Trace()[ops:])
	}
}
