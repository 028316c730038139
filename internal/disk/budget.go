package disk

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Budget bounds what many files hold in memory of the process's own
// (File.Share): decrypted bytes, and copies of what is read all the time
// (Section.Resident). What cannot be evicted counts too and pushes out what can. The bound is passed by what runs
// at the moment: nothing is evicted that somebody holds, so it can be exceeded
// by all that the searches which run at once look at, by an eighth while a file
// is held without a pause, and by what is not evictable at all. It is safe for
// concurrent use; nil is no bound.
type Budget struct {
	max  int64
	used atomic.Int64

	fillMu  sync.Mutex
	filled  int64   // bytes of mapped files that are read in large pages, not counted as used
	waiting []*File // those that there was no room for

	mu    sync.Mutex // held by who evicts; who holds it waits for nobody
	files []*File
	hand  int // the file where eviction goes on
}

// NewBudget returns a budget of max bytes.
func NewBudget(max int64) *Budget { return &Budget{max: max} }

// Used is how many bytes are held, or reserved.
func (b *Budget) Used() int64 {
	if b == nil {
		return 0
	}
	return b.used.Load()
}

// Reserve counts n bytes that somebody else makes use of, such as a build, and
// makes room for them. It never refuses. The bytes count until free is called,
// which is done once. Who reserves holds no file.
func (b *Budget) Reserve(n int64) (free func()) {
	if b == nil {
		return func() {}
	}
	b.used.Add(n)
	b.relieve(nil)
	return func() { b.used.Add(-n) }
}

// slack is how far below the bound eviction goes, so that it does not run again
// at once: a sixteenth, and no more than takes some milliseconds.
func (b *Budget) slack() int64 { return min(b.max/16, 32<<20) }

// room reports whether n bytes more fit without an eviction.
func (b *Budget) room(n int64) bool { return b == nil || b.used.Load()+n <= b.max-b.slack() }

// fill lets a mapped file be read in large pages, as soon as all that is read so fits
// into what the budget has. A vector that is not in memory then brings its
// neighbours, which are asked for soon; where there is no room for them they
// would push out others, and the disk would read 2 MiB for each vector.
func (b *Budget) fill(f *File) {
	if b == nil {
		f.mapping.Fill()
		return
	}
	b.fillMu.Lock()
	defer b.fillMu.Unlock()
	if !b.fits(f) {
		b.waiting = append(b.waiting, f)
	}
}

// fits fills f if there is room. fillMu is held.
func (b *Budget) fits(f *File) bool {
	n := int64(len(f.data))
	if b.filled+n > b.max-b.used.Load() {
		return false
	}
	b.filled += n
	f.filled = n
	f.mapping.Fill()
	return true
}

// empty gives back what f was filled with, to those that wait. f is still mapped.
func (b *Budget) empty(f *File) {
	b.fillMu.Lock()
	defer b.fillMu.Unlock()
	b.filled -= f.filled
	f.filled = 0
	b.waiting = slices.DeleteFunc(b.waiting, func(w *File) bool { return w == f || b.fits(w) })
}

// add makes a file one of those that may lose memory.
func (b *Budget) add(f *File) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.files = append(b.files, f)
}

func (b *Budget) remove(f *File) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(b.files, f); i >= 0 {
		b.files = slices.Delete(b.files, i, i+1)
	}
}

// relieve brings the bytes below the bound if they are above: a clock over all
// files that nobody holds, which takes what was not used since the hand came by
// (second chance), and when that is not enough, own, which the caller has just
// let go of and others may hold: they are waited for, and newcomers wait with
// them, once the bound is passed by an eighth.
func (b *Budget) relieve(own *File) {
	if b.used.Load() <= b.max || !b.mu.TryLock() {
		return // or somebody is at it
	}
	b.sweep()
	b.mu.Unlock()
	if own == nil || own.loose.Load() == 0 || b.used.Load() <= b.max {
		return
	}
	if !own.hold.TryLock() {
		if b.used.Load() <= b.max+b.max/8 {
			return
		}
		own.hold.Lock()
	}
	defer own.hold.Unlock()
	for range 2 { // the first round may only take chances away
		if need := b.need(); need > 0 {
			own.evict(need)
		}
	}
}

// need is how many bytes must go, counting the slack.
func (b *Budget) need() int64 { return b.used.Load() - b.max + b.slack() }

// sweep moves the hand round twice, at most. It waits for nobody.
func (b *Budget) sweep() {
	for range 2 * len(b.files) {
		need := b.need()
		if need <= 0 {
			return
		}
		if b.hand >= len(b.files) {
			b.hand = 0
		}
		f := b.files[b.hand]
		if f.loose.Load() > 0 && f.hold.TryLock() {
			f.evict(need)
			f.hold.Unlock()
			if b.need() <= 0 {
				return // it may have more
			}
		}
		b.hand++
	}
}
