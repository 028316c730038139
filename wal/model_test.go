package wal

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

var seeds = flag.Int("wal.seeds", 10000, "power-cut runs of the model test")

// record is an entry as a test remembers it.
type record struct {
	at      Position
	payload string
}

// world is a disk, the log on it, and what must be found there.
type world struct {
	seed  uint64
	rng   *rand.Rand
	disk  *faultfs.FS
	log   *Log
	o     Options
	ids   uint64 // file identities drawn
	tries uint64 // payloads made
	keys  generations
	wide  bool // concurrent writers; their frames differ from run to run

	mu       sync.Mutex
	durable  []record // entry i+1: acknowledged, or shown to a reader
	doubtful []string // of the frame that failed, in order
	from     uint64   // the checkpoint covers what is before
}

func newWorld(seed uint64) *world {
	w := &world{seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), disk: faultfs.New(seed), from: 1}
	w.o = Options{Store: seal.ID{7}, NewID: func() (id seal.ID) {
		w.ids++
		binary.LittleEndian.PutUint64(id[:], w.seed)
		binary.LittleEndian.PutUint64(id[8:], w.ids)
		return id
	}}
	w.wide = seed%8 == 7
	if seed%4 == 1 {
		w.keys = generations{}
		w.keys.add(1)
		w.o.Keys = w.keys
	}
	return w
}

// payload is unique, of any size, and now and then looks like a frame.
func (w *world) payload() []byte {
	w.tries++
	b := fmt.Appendf(nil, "%d:", w.tries)
	switch w.rng.IntN(4) {
	case 0:
	case 1:
		b = append(b, frameMagic...)
		b = append(b, make([]byte, w.rng.IntN(80))...)
	case 2:
		b = append(b, make([]byte, w.rng.IntN(200))...)
	case 3:
		for range w.rng.IntN(1500) {
			b = append(b, byte(w.tries))
		}
	}
	return b
}

// heard is an entry's done.
func (w *world) heard(payload string) func(Position, error) {
	return func(at Position, err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		switch {
		case err == nil:
			w.durable = append(w.durable, record{at, payload})
			if at.Seq != uint64(len(w.durable)) {
				panic(fmt.Sprintf("seed %d: entry %d acknowledged as %v", w.seed, len(w.durable), at))
			}
		case errors.Is(err, ErrUnknown):
			w.doubtful = append(w.doubtful, payload)
		case errors.Is(err, ErrRefused): // it may never be seen
		default:
			panic(fmt.Sprintf("seed %d: neither refused nor unknown: %v", w.seed, err))
		}
	}
}

// open replays the log and compares it with what must be there. false means
// that the disk failed meanwhile.
func (w *world) open() (bool, error) {
	w.o.MaxFile = int64(200 + w.rng.IntN(4000))
	w.o.MaxFrame = 1 + w.rng.IntN(3000)
	w.o.Epoch += uint64(w.rng.IntN(2))
	l, err := Open(w.disk, Position{Seq: w.from}, w.o)
	if err != nil {
		return false, err
	}
	w.log = l
	var got []record
	for e, err := range l.Replay() {
		if err != nil {
			return false, err
		}
		if e.Position.Seq != w.from+uint64(len(got)) {
			return false, fmt.Errorf("entry %v where %d is expected", e.Position, w.from+uint64(len(got)))
		}
		got = append(got, record{e.Position, string(e.Payload)})
	}
	want := w.durable[w.from-1:]
	if len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
		return false, fmt.Errorf("%d entries from %d on, want %d acknowledged: %.200s, want %.200s", len(got), w.from, len(want), fmt.Sprint(got), fmt.Sprint(want))
	}
	var extra []string
	for _, e := range got[len(want):] {
		extra = append(extra, e.payload)
	}
	if len(extra) > 0 && !slices.Equal(extra, w.doubtful) {
		return false, fmt.Errorf("entries %.80q were neither acknowledged nor in the frame in doubt %.80q", extra, w.doubtful)
	}
	// They were shown, so they have to stay.
	w.durable = append(w.durable[:w.from-1:w.from-1], got...)
	w.doubtful = nil
	if next := (Position{w.o.Epoch, uint64(len(w.durable)) + 1}); l.Next() != next {
		return false, fmt.Errorf("next is %v, want %v", l.Next(), next)
	}
	return true, nil
}

// group queues entries at once, so that frames do not depend on scheduling.
func (w *world) group(n int) {
	var wg sync.WaitGroup
	l := w.log
	l.mu.Lock()
	if l.unwritable() == nil {
		for range n {
			p := w.payload()
			done := w.heard(string(p))
			wg.Add(1)
			l.queue.add(p, func(at Position, err error) { done(at, err); wg.Done() })
			l.pending++
		}
		l.wake.Signal()
	}
	l.mu.Unlock()
	wg.Wait()
}

// crowd commits from several goroutines.
func (w *world) crowd(n int) {
	var wg sync.WaitGroup
	for range n {
		p := w.payload()
		wg.Go(func() {
			done := make(chan struct{})
			heard := w.heard(string(p))
			err := w.log.Append(p, func(at Position, err error) { heard(at, err); close(done) })
			if err != nil {
				heard(Position{}, err)
				return
			}
			<-done
		})
	}
	wg.Wait()
}

// work does something until the disk fails or enough is done.
func (w *world) work() {
	for range w.rng.IntN(14) {
		if w.log.Err() != nil {
			return
		}
		switch n := w.rng.IntN(10); {
		case n < 4 && w.wide:
			w.crowd(1 + w.rng.IntN(8))
		case n < 4:
			w.group(1 + w.rng.IntN(8))
		case n < 8:
			p := w.payload()
			at, err := w.log.Commit(context.Background(), p)
			w.heard(string(p))(at, err)
		case n < 9:
			if w.keys != nil && w.rng.IntN(2) == 0 {
				w.keys.add(uint32(len(w.keys) + 1))
			}
			w.log.Rotate() // its failures are seen by the next entry
		default:
			w.from = min(uint64(len(w.durable))+1, w.from+uint64(w.rng.IntN(20)))
			w.log.Release(Position{Epoch: w.o.Epoch, Seq: w.from})
		}
	}
}

// fault makes one call, or all from one on, fail.
func (w *world) fault() *faultfs.Injected {
	r := faultfs.Rule{Op: faultfs.OpSync, Path: "log/*", Nth: w.rng.IntN(8), Forever: w.rng.IntN(2) == 0}
	switch w.rng.IntN(4) {
	case 0:
		r.Op, r.Path = faultfs.OpSyncDir, "log"
	case 1:
		r.Op, r.Fault = faultfs.OpWrite, faultfs.Short
	case 2:
		r.Op = faultfs.OpWrite
	}
	return w.disk.Inject(r)
}

// round opens the log, works on it, and ends with a cut, with a fault of the
// disk, with both, or with nothing wrong at all.
func (w *world) round() error {
	cut := w.rng.IntN(3) > 0
	if cut {
		w.disk.CrashAt(w.disk.Ops() + w.rng.IntN(40))
	}
	if w.rng.IntN(4) == 0 {
		defer w.fault().Remove()
	}
	ok, err := w.open()
	if ok {
		w.work()
		err = w.log.Close()
	}
	if cut {
		w.disk = w.disk.Crash(w.rng)
	}
	if err := w.theft(); err != nil {
		return fmt.Errorf("newest files taken away: %w", err)
	}
	if errors.Is(err, faultfs.ErrCrashed) || errors.Is(err, syscall.EIO) || errors.Is(err, vfs.ErrNoSpace) {
		return nil
	}
	return err
}

// theft takes the newest files away from a copy of the disk. Either that is
// noticed, or nothing that was acknowledged was in them.
func (w *world) theft() error {
	d, o := w.disk.Clone(), w.o
	o.ReadOnly = true
	names := walFiles(d)
	for range min(len(names), 1+w.rng.IntN(2)) {
		if err := d.Remove(names[len(names)-1]); err != nil {
			return err
		}
		names = names[:len(names)-1]
	}
	l, err := Open(d, Position{Seq: w.from}, o)
	n := w.from - 1
	if err == nil {
		for _, err = range l.Replay() {
			if err != nil {
				break
			}
			n++
		}
	}
	if errors.Is(err, disk.ErrCorrupt) {
		return nil
	}
	if err == nil && n < uint64(len(w.durable)) {
		err = fmt.Errorf("%d entries of %d are left, and no error", n, len(w.durable))
	}
	return err
}

// TestModel runs random work on random disks that lose power again and again:
// what was acknowledged stays, in order and to the bit, and nothing else is
// there but the frame that was under way, whole.
func TestModel(t *testing.T) {
	n := *seeds
	if testing.Short() {
		n = min(n, 1000)
	}
	const shards = 8
	for shard := range shards {
		t.Run(fmt.Sprint(shard), func(t *testing.T) {
			t.Parallel()
			for seed := shard; seed < n; seed += shards {
				if w, err := runModel(uint64(seed)); err != nil {
					keep(t, w)
					t.Fatalf("SEED=%d OPS=%d: %v", seed, w.disk.Ops(), err)
				}
			}
		})
	}
}

func runModel(seed uint64) (*world, error) {
	w := newWorld(seed)
	for range 2 + w.rng.IntN(4) {
		if err := w.round(); err != nil {
			return w, err
		}
	}
	w.disk = w.disk.Clone() // without faults
	if _, err := w.open(); err != nil {
		return w, fmt.Errorf("last: %w", err)
	}
	return w, w.log.Close()
}

// keep leaves a disk that a test failed on, for go test -artifacts.
func keep(t *testing.T, w *world) {
	to, err := vfs.Open(t.ArtifactDir())
	if err == nil {
		err = w.disk.Export(to)
	}
	if err != nil {
		t.Log(err)
	}
}
