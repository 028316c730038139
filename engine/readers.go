package engine

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/chromad/chromad/internal/keys"
	"github.com/chromad/chromad/internal/mutant"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/segment"
)

// handle names a segment file. It is opened by the readerCache when somebody
// first looks into it, so ten thousand idle collections hold no file open.
type handle struct {
	spec  segment.Spec
	info  segment.Info
	files *liveFiles
	met   degraded
	times expiryCache

	users   atomic.Int64    // 0: it is not open; 1: it is, and nobody reads in it; n+1: n do
	touched atomic.Bool     // acquired since the hand came by
	reader  *segment.Reader // for users, and for who makes users 0 or no longer 0
	opening chan struct{}   // closed when who is opening it has done so or not; guarded by readerCache.mu
}

// hold makes the caller a user, unless the segment is not open.
func (h *handle) hold() bool {
	for n := h.users.Load(); n > 0; n = h.users.Load() {
		if h.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
	return false
}

// readerCache keeps at most max segments open. It closes those that have been
// unused for long by the clock algorithm (Corbató, A Paging Experiment with the
// Multics System, 1968): who takes a segment that is open neither waits nor
// keeps a list in order. Segments in use are never closed, so the bound can be
// passed by as many as are in use at one time.
type readerCache struct {
	fs   vfs.FS
	keys seal.Keys
	max  int
	n    atomic.Int64 // len(open), for who does not hold mu

	mu   sync.Mutex
	open []*handle
	hand int // in open, where the next search for one to be closed begins; at most its length
}

func newReaderCache(fs vfs.FS, max int) *readerCache {
	return &readerCache{fs: fs, max: max}
}

// acquire returns the segment's reader, to be given back with release.
func (rc *readerCache) acquire(h *handle) (*segment.Reader, error) {
	if !h.touched.Load() { // storing costs more, and most of the time it is set
		h.touched.Store(true)
	}
	if h.hold() {
		return h.reader, nil
	}
	rc.mu.Lock()
	defer rc.mu.Unlock()
	for !h.hold() {
		if err := rc.openHandle(h); err != nil {
			return nil, fmt.Errorf("open segment %d: %w", h.info.Number, err)
		}
	}
	rc.evict()
	return h.reader, nil
}

// openHandle opens h, or waits for who is doing it. It gives mu up meanwhile,
// so that a slow disk holds up only those who need this segment.
func (rc *readerCache) openHandle(h *handle) error {
	if busy := h.opening; busy != nil {
		rc.mu.Unlock()
		<-busy
		rc.mu.Lock()
		return nil
	}
	h.opening = make(chan struct{})
	rc.mu.Unlock()
	r, err := segment.Open(rc.fs, rc.keys, h.spec, h.info)
	rc.mu.Lock()
	close(h.opening)
	h.opening = nil
	if isNotExist(err) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err) // the manifest says that it is there
	}
	if errors.Is(err, keys.ErrShredded) {
		return fmt.Errorf("%w: the collection was deleted: %v", ErrNotFound, err)
	}
	if err != nil {
		return err
	}
	h.reader = r
	rc.open = slices.Insert(rc.open, rc.hand, h)
	rc.hand++ // which comes to the new one last
	rc.n.Add(1)
	h.users.Store(1)
	return nil
}

func (rc *readerCache) release(h *handle) {
	h.met.look(h.reader) // who holds it keeps it open
	// Of who opens one and looks for another that is unused, and who makes this
	// one unused and looks at how many are open, one sees what the other did; and
	// who touches what the other looks at comes here after him.
	if n := h.users.Add(-1); (n == 1 || mutant.On(mutant.HandleClosedInUse)) && rc.opened() > rc.max {
		rc.mu.Lock()
		defer rc.mu.Unlock()
		rc.evict()
	}
}

// evict closes unused segments until as few are open as may be, if there are
// enough of them. The hand comes by twice: what was touched is spared once. It
// is called with mu held.
func (rc *readerCache) evict() {
	for left := 2 * len(rc.open); left > 0 && len(rc.open) > rc.max; left-- {
		if rc.hand >= len(rc.open) {
			rc.hand = 0
		}
		h := rc.open[rc.hand]
		unused := h.users.Load() == 1 || mutant.On(mutant.HandleClosedInUse)
		if unused && !h.touched.Swap(false) {
			if done, _ := rc.closeAt(rc.hand); done {
				continue // the next one has its place
			}
		}
		rc.hand++
	}
}

// closeAt closes the segment at a place of open if it is unused.
func (rc *readerCache) closeAt(i int) (done bool, err error) {
	h := rc.open[i]
	if !h.users.CompareAndSwap(1, 0) {
		if !mutant.On(mutant.HandleClosedInUse) {
			return false, nil
		}
		h.users.Store(0)
	}
	err = h.reader.Close()
	h.reader = nil
	rc.open = slices.Delete(rc.open, i, i+1)
	if i < rc.hand {
		rc.hand--
	}
	rc.n.Add(-1)
	return true, err
}

// opened is how many segments are open.
func (rc *readerCache) opened() int { return int(rc.n.Load()) }

// forget closes what is open and unused of files that no version needs.
func (rc *readerCache) forget(needed func(number uint64) bool) error {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	var errs []error
	for i := len(rc.open) - 1; i >= 0; i-- {
		if !needed(rc.open[i].info.Number) {
			_, err := rc.closeAt(i)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// close closes everything; nothing may be in use any more.
func (rc *readerCache) close() error {
	return rc.forget(func(uint64) bool { return false })
}
