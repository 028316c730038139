package segment

import (
	"container/list"
	"sync"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/klauspost/compress/zstd"

	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/mutant"
	"github.com/chromad/chromad/internal/seal"
)

// Cache keeps decompressed blocks of documents, the rows that conditions
// hold for, and copies of what searches read of these, least recently used first
// out. Conditions on document text read the same blocks query after query, and
// decompressing is most of their cost; the same condition comes with query after
// query, and a rule about who may see what with each. One Cache serves all segments of a store, and a nil one keeps
// nothing. Who writes segments finds encoders there. It is safe for concurrent use.
type Cache struct {
	max int64

	mu    sync.Mutex
	size  int64
	parts map[cacheKey]*list.Element
	used  list.List // of *cached, most recently used first

	encoders []*zstd.Encoder // that nobody uses, encodersKept at most
	closed   bool
}

// cacheKey names a block or a condition for ever: files are never changed, and
// ids of files never used again.
type cacheKey struct {
	file  seal.ID
	block uint64
	where string // filter.Expr.Key; of a block empty
	ready bool   // the rows to be searched, without dead ones
}

// size is about what an entry takes beside its value.
func (k *cacheKey) size() int64 { return int64(len(k.where)) + entryBytes }

// cached is never changed, but for uses.
type cached struct {
	key   cacheKey
	bytes []byte
	rows  *roaring.Bitmap
	ready *hnsw.Subset // nil: not yet
	dead  uint64       // which rows are not in it
	uses  int          // searches so far, with the same dead rows
	need  int          // so many make them ready
	older int          // searches with other dead rows
	size  int64
}

// NewCache makes a cache of at most max bytes.
func NewCache(max int64) *Cache {
	return &Cache{max: max, parts: map[cacheKey]*list.Element{}}
}

// Close gives up what is kept, for good: who holds the cache of a store that was closed holds
// no documents of it.
func (c *Cache) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.parts)
	c.used.Init()
	c.size, c.encoders, c.closed = 0, nil, true
}

// get returns nil for what is not kept.
func (c *Cache) get(key cacheKey) *cached {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.find(key)
}

// find is get with the lock held.
func (c *Cache) find(key cacheKey) *cached {
	e := c.parts[key]
	if e == nil {
		return nil
	}
	c.used.MoveToFront(e)
	return e.Value.(*cached)
}

func (c *Cache) put(p *cached) {
	if c == nil || p.size > c.max {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.parts[p.key] != nil {
		return
	}
	c.insert(p)
}

// insert is put of what is not kept, with the lock held.
func (c *Cache) insert(p *cached) {
	if c.closed {
		return
	}
	c.parts[p.key] = c.used.PushFront(p)
	c.size += p.size
	for c.size > c.max {
		c.remove(c.used.Back())
	}
}

func (c *Cache) block(key cacheKey) []byte {
	if p := c.get(key); p != nil {
		return p.bytes
	}
	return nil
}

func (c *Cache) putBlock(key cacheKey, b []byte) {
	c.put(&cached{key: key, bytes: b, size: int64(len(b))})
}

// rows is a copy of what putRows was given, nil when it is not kept.
func (c *Cache) rows(key cacheKey) *roaring.Bitmap {
	if p := c.get(key); p != nil {
		return p.rows.Clone()
	}
	return nil
}

// again returns what is ready of the same dead rows.
func (c *Cache) again(a Again) *hnsw.Subset {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.find(a.key)
	if p == nil || p.dead != a.dead && !mutant.On(mutant.StaleCopies) || p.ready == nil {
		return nil
	}
	p.uses++
	return p.ready
}

// count counts a search for rows that are not ready, and reports whether it is
// time to make them so.
func (c *Cache) count(a Again) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	need := againTimes
	if e := c.parts[a.key]; e != nil {
		p := e.Value.(*cached)
		if p.dead == a.dead {
			p.uses++
			return p.ready == nil && p.uses == p.need
		}
		if p.older++; p.dead > a.dead && p.older < againTimes*againPays {
			return false // of a reader that came before
		}
		switch need = p.need; {
		case p.ready != nil && p.uses < againPays*need:
			need = min(2*need, againMost)
		case p.ready != nil:
			need = againTimes
		}
		c.remove(e)
	}
	if size := a.key.size(); size <= c.max {
		c.insert(&cached{key: a.key, dead: a.dead, uses: 1, need: need, size: size})
	}
	return false
}

// remove forgets an entry, with the lock held.
func (c *Cache) remove(e *list.Element) {
	p := c.used.Remove(e).(*cached)
	delete(c.parts, p.key)
	c.size -= p.size
}

// putReady keeps rows that are ready, unless they are too many.
func (c *Cache) putReady(a Again, u *hnsw.Subset) {
	c.mu.Lock()
	defer c.mu.Unlock()
	size := a.key.size() + int64(u.Bytes())
	e := c.parts[a.key]
	if e == nil || size > c.max/readyShare {
		return
	}
	if p := e.Value.(*cached); p.dead == a.dead {
		c.remove(e)
		c.insert(&cached{key: a.key, ready: u, dead: a.dead, uses: p.uses, need: p.need, size: size})
	}
}

const (
	// entryBytes is about what an entry takes beside key and value.
	entryBytes = 200
	// readyShare is one over the share of a cache that the copies for one condition
	// may take.
	readyShare = 8
)

func (c *Cache) putRows(key cacheKey, rows *roaring.Bitmap) {
	c.put(&cached{key: key, rows: rows.Clone(), size: int64(rows.GetSizeInBytes()) + key.size()})
}

// Size is how many bytes are kept.
func (c *Cache) Size() int64 {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.size
}
