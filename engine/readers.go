package engine

import (
	"errors"
	"fmt"
	"sync"

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

	// Guarded by readerCache.mu.
	reader  *segment.Reader
	users   int
	before  *handle       // in readerCache.idle while open and unused
	after   *handle       // nil: it is not there
	opening chan struct{} // closed when who is opening it has done so or not
}

// idleList links handles, in the order in which they were given back. It stands
// itself before the first and after the last.
type idleList struct{ handle }

// oldest is nil in an empty list.
func (r *idleList) oldest() *handle {
	if r.after == &r.handle {
		return nil
	}
	return r.after
}

// push makes h the newest.
func (r *idleList) push(h *handle) {
	h.before, h.after = r.before, &r.handle
	r.before.after = h
	r.before = h
}

// unlink takes h out of its list, if it is in one.
func (h *handle) unlink() {
	if h.after != nil {
		h.before.after, h.after.before = h.after, h.before
		h.before, h.after = nil, nil
	}
}

// readerCache keeps at most max segments open, closing the one that has been
// unused the longest. Segments in use are never closed, so the bound can be
// passed by as many as are in use at one time.
type readerCache struct {
	fs   vfs.FS
	keys seal.Keys
	max  int

	mu   sync.Mutex
	open int
	idle idleList // least recently used first
}

func newReaderCache(fs vfs.FS, max int) *readerCache {
	rc := &readerCache{fs: fs, max: max}
	rc.idle.before, rc.idle.after = &rc.idle.handle, &rc.idle.handle
	return rc
}

// acquire returns the segment's reader, to be given back with release.
func (rc *readerCache) acquire(h *handle) (*segment.Reader, error) {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	for h.reader == nil {
		if err := rc.openHandle(h); err != nil {
			return nil, fmt.Errorf("open segment %d: %w", h.info.Number, err)
		}
	}
	h.unlink()
	h.users++
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
	rc.open++
	rc.evict()
	return nil
}

func (rc *readerCache) release(h *handle) {
	h.met.look(h.reader) // who holds it keeps it open
	rc.mu.Lock()
	defer rc.mu.Unlock()
	h.users--
	if h.users == 0 || mutant.On(mutant.HandleClosedInUse) && h.after == nil {
		rc.idle.push(h)
		rc.evict()
	}
}

// evict is called with mu held.
func (rc *readerCache) evict() {
	for rc.open > rc.max {
		h := rc.idle.oldest()
		if h == nil {
			return
		}
		rc.closeHandle(h)
	}
}

func (rc *readerCache) closeHandle(h *handle) error {
	h.unlink()
	err := h.reader.Close()
	h.reader = nil
	rc.open--
	return err
}

// opened is how many segments are open.
func (rc *readerCache) opened() int {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	return rc.open
}

// forget closes what is open and unused of files that no version needs.
func (rc *readerCache) forget(needed func(number uint64) bool) error {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	var errs []error
	for h := rc.idle.after; h != &rc.idle.handle; {
		next := h.after
		if !needed(h.info.Number) {
			errs = append(errs, rc.closeHandle(h))
		}
		h = next
	}
	return errors.Join(errs...)
}

// close closes everything; nothing may be in use any more.
func (rc *readerCache) close() error {
	return rc.forget(func(uint64) bool { return false })
}
