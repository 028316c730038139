package segment

import (
	"container/list"
	"sync"

	"github.com/chromad/chromad/internal/seal"
)

// Cache keeps decompressed blocks of documents, least recently used first out.
// Conditions on document text read the same blocks query after query, and
// decompressing is most of their cost. One Cache serves all segments of a
// store, and a nil one keeps nothing. It is safe for concurrent use.
type Cache struct {
	max int64

	mu    sync.Mutex
	size  int64
	parts map[cacheKey]*list.Element
	used  list.List // of *cached, most recently used first
}

// cacheKey names a block for ever: files are never changed, and ids of files
// never used again.
type cacheKey struct {
	file  seal.ID
	block uint64
}

type cached struct {
	key   cacheKey
	bytes []byte // never changed
}

// NewCache makes a cache of at most max bytes.
func NewCache(max int64) *Cache {
	return &Cache{max: max, parts: map[cacheKey]*list.Element{}}
}

func (c *Cache) get(key cacheKey) []byte {
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
	return e.Value.(*cached).bytes
}

func (c *Cache) put(key cacheKey, b []byte) {
	if c == nil || int64(len(b)) > c.max {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.parts[key] != nil {
		return
	}
	c.parts[key] = c.used.PushFront(&cached{key, b})
	c.size += int64(len(b))
	for c.size > c.max {
		last := c.used.Remove(c.used.Back()).(*cached)
		delete(c.parts, last.key)
		c.size -= int64(len(last.bytes))
	}
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
