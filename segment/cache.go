package segment

import (
	"container/list"
	"sync"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/internal/seal"
)

// Cache keeps decompressed blocks of documents, and the rows that conditions
// hold for, least recently used first out. Conditions on document text read the
// same blocks query after query, and decompressing is most of their cost; the
// same condition comes with query after query, and a rule about who may see what
// with each. One Cache serves all segments of a store, and a nil one keeps
// nothing. It is safe for concurrent use.
type Cache struct {
	max int64

	mu    sync.Mutex
	size  int64
	parts map[cacheKey]*list.Element
	used  list.List // of *cached, most recently used first
}

// cacheKey names a block or a condition for ever: files are never changed, and
// ids of files never used again.
type cacheKey struct {
	file  seal.ID
	block uint64
	where string // filter.Expr.Key; of a block empty
}

// cached is never changed.
type cached struct {
	key   cacheKey
	bytes []byte
	rows  *roaring.Bitmap
	size  int64
}

// NewCache makes a cache of at most max bytes.
func NewCache(max int64) *Cache {
	return &Cache{max: max, parts: map[cacheKey]*list.Element{}}
}

// get returns nil for what is not kept.
func (c *Cache) get(key cacheKey) *cached {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
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
	c.parts[p.key] = c.used.PushFront(p)
	c.size += p.size
	for c.size > c.max {
		last := c.used.Remove(c.used.Back()).(*cached)
		delete(c.parts, last.key)
		c.size -= last.size
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

// entryBytes is about what an entry takes beside its bytes.
const entryBytes = 200

func (c *Cache) putRows(key cacheKey, rows *roaring.Bitmap) {
	c.put(&cached{key: key, rows: rows.Clone(), size: int64(rows.GetSizeInBytes()) + int64(len(key.where)) + entryBytes})
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
