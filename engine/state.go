package engine

import (
	"sync"
	"sync/atomic"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/segment"
)

// state is everything a reader of a collection needs, as of one entry of the
// log. It is immutable: a writer publishes a new one. Only the first reader
// after writes that nobody watched waits for a writer (Collection.observe), and
// no writer waits for a reader.
type state struct {
	version   *version
	dead      []*deletions // of the version's segments, in its order
	frozen    *frozenTable // nil: nothing is being flushed
	fdead     *deletions   // of frozen
	mem       *table       // nil until a reader asks: see Collection.view
	over      *deletions   // rows of mem that have expired, nil: none; in no state that is published
	rows      int          // of the memtable
	live      int
	dimension int
	keys      map[string]KindSet
}

// version is a set of segments, reference-counted: its files stay open and
// on disk while a state or a reader holds it.
type version struct {
	refs     atomic.Int64
	segments []*handle
}

func newVersion(segments []*handle) *version {
	v := &version{segments: segments}
	v.refs.Store(1)
	for _, h := range segments {
		h.files.retain(h.info.Number)
	}
	return v
}

// acquire fails when the version was given up meanwhile: there is a newer one.
func (v *version) acquire() bool {
	for {
		n := v.refs.Load()
		if n == 0 {
			return false
		}
		if v.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (v *version) release() {
	if v.refs.Add(-1) == 0 {
		for _, h := range v.segments {
			h.files.release(h.info.Number)
		}
	}
}

// deletions are the dead rows of a segment, immutable once published.
type deletions struct {
	rows   *roaring.Bitmap
	serial uint64 // of no other
	once   sync.Once
	rest   *roaring.Bitmap

	denseOnce sync.Once
	dense     []uint64
}

func newDeletions(rows *roaring.Bitmap) *deletions {
	return &deletions{rows: rows, serial: deletionSerial.Add(1)}
}

var deletionSerial atomic.Uint64

// live returns the rows of n that are not dead, nil when all are alive.
func (d *deletions) live(n int) *roaring.Bitmap {
	if d.rows.IsEmpty() {
		return nil
	}
	d.once.Do(func() { d.rest = roaring.Flip(d.rows, 0, uint64(n)) })
	return d.rest
}

// bits is live, some of them being dead, as a bit for each row: what a search
// wants, and would make anew each time.
func (d *deletions) bits(n int) []uint64 {
	d.denseOnce.Do(func() { d.dense = denseBits(d.live(n), n) })
	return d.dense
}

// denseBits is rows of n as a bit for each.
func denseBits(rows *roaring.Bitmap, n int) []uint64 {
	bits := make([]uint64, (n+63)/64)
	rows.WriteDenseTo(bits)
	return bits
}

// liveFiles counts who needs a segment file: versions, and work that is
// writing or reading it. A checkpoint removes only files that nobody needs.
type liveFiles struct {
	mu   sync.Mutex
	refs map[uint64]int
}

func (f *liveFiles) retain(number uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refs[number]++
}

func (f *liveFiles) release(number uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refs[number]--; f.refs[number] <= 0 {
		delete(f.refs, number)
	}
}

func (f *liveFiles) needed(number uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refs[number] > 0
}

// view is a reader's hold on a state: consistent, never blocked, until close.
// It is used by one goroutine.
type view struct {
	*state
	cache   *readerCache
	readers []*segment.Reader // opened when first needed
}

// reader opens segment i of the view.
func (v *view) reader(i int) (*segment.Reader, error) {
	if v.readers[i] == nil {
		r, err := v.cache.acquire(v.version.segments[i])
		if err != nil {
			return nil, err
		}
		v.readers[i] = r
	}
	return v.readers[i], nil
}

// close lets go of everything; the memory may be used for another view.
func (v *view) close() {
	for i, r := range v.readers {
		if r != nil {
			v.cache.release(v.version.segments[i])
		}
	}
	v.version.release()
	clear(v.readers)
	v.state = nil
}
