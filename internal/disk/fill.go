package disk

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
)

const (
	// shareSize is how many bytes one goroutine makes good at a time: some
	// tenths of a millisecond of work.
	shareSize = 1 << 20
	// fillSize bounds how much Whole makes good at once, and so how long one
	// search waits for what others will look at.
	fillSize = 64 << 20
)

// rest is what is left to do once half of a section is good.
type rest struct {
	mu   sync.Mutex // held by who is at it
	next int        // blocks before it were good once
	stop atomic.Bool
}

// Verified reports that every block is good, as Whole does that makes more of
// them so.
func (s *Section) Verified() bool {
	if !s.allGood() {
		return false
	}
	s.usedAll()
	return true
}

// Whole reports that every block is good: until File.Free when the section may
// be evicted, else for ever, all memory may be read without a Touch. When about
// half of the blocks are good, who searches will need most of the others too:
// Whole then makes up to 64 MiB of them good first, if the budget has room for
// all that is missing. Damage that it meets there is left for those to find who
// look at it.
func (s *Section) Whole() bool {
	if s.Verified() {
		return true
	}
	if n := int(s.count.Load()); 2*n < s.n || s.rest.stop.Load() || !s.rest.mu.TryLock() {
		return false
	}
	defer s.rest.mu.Unlock()
	if s.revealed != nil && !s.file.budget.room(s.length-s.count.Load()*int64(s.blockSize)) {
		return false
	}
	s.fill()
	return s.allGood()
}

func (s *Section) fill() {
	first := s.rest.next
	left := fillSize
	for s.rest.next < s.n && left > 0 {
		if !s.isGood(s.rest.next) {
			left -= s.blockSize
		}
		s.rest.next++
	}
	if err := s.spread(first, s.rest.next); err != nil {
		s.rest.stop.Store(true)
		return
	}
	if s.revealed != nil && s.length >= largeSection {
		// Searches jump from row to row: with small pages most of their time
		// would go into finding them.
		s.revealed.memory.Load().Join(first*s.blockSize, min(s.rest.next*s.blockSize, s.Len()))
	}
	if s.rest.next == s.n {
		s.rest.next = 0 // what is evicted behind it is for the next round
	}
}

// spread makes blocks first to end-1 good.
func (s *Section) spread(first, end int) error { return s.share(first, end, s.touch) }

// share does something to blocks first to end-1, several goroutines taking
// turns.
func (s *Section) share(first, end int, do func(i int) error) error {
	share := max(1, shareSize/s.blockSize)
	workers := min(runtime.GOMAXPROCS(0), (end-first+share-1)/share)
	var next atomic.Int64
	next.Store(int64(first))
	work := func() error {
		for {
			to := int(next.Add(int64(share)))
			from := to - share
			if from >= end {
				return nil
			}
			for i := from; i < min(to, end); i++ {
				if err := do(i); err != nil {
					next.Store(int64(end))
					return err
				}
			}
		}
	}
	if workers <= 1 {
		return work()
	}
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() { errs[w] = s.file.Faults(work) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
