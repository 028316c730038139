package keys

import (
	"sync"
	"sync/atomic"

	"github.com/chromad/chromad/internal/seal"
)

// cacheSize is how many file sealers are kept: about 1 KiB each.
const cacheSize = 4096

// cacheKey is a file and the generation of the data key that it is under.
type cacheKey struct {
	file seal.Address
	key  uint32
}

// sealerCache keeps the sealers that were used last. What is found is found
// under a shared lock: a hit leaves a mark, and the hand that makes room
// passes over what was marked since it came by (CLOCK).
type sealerCache struct {
	mu    sync.RWMutex
	most  int
	slots []*slot
	at    map[cacheKey]*slot
	hand  int
}

type slot struct {
	key    cacheKey
	index  int
	used   atomic.Bool
	sealer *fileSealer
}

func newSealerCache(most int) *sealerCache {
	return &sealerCache{most: most, at: map[cacheKey]*slot{}}
}

func (c *sealerCache) get(k cacheKey) *fileSealer {
	c.mu.RLock()
	defer c.mu.RUnlock()
	s := c.at[k]
	if s == nil {
		return nil
	}
	if !s.used.Load() { // a mark that is there costs the cores no cache line
		s.used.Store(true)
	}
	return s.sealer
}

// put keeps a sealer and returns it, or the one that was put there meanwhile.
func (c *sealerCache) put(k cacheKey, sealer *fileSealer) *fileSealer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.at[k]; s != nil {
		return s.sealer
	}
	s := &slot{key: k, sealer: sealer}
	if len(c.slots) < c.most {
		s.index = len(c.slots)
		c.slots = append(c.slots, s)
	} else {
		for c.slots[c.hand].used.Swap(false) {
			c.hand = (c.hand + 1) % len(c.slots)
		}
		delete(c.at, c.slots[c.hand].key)
		s.index = c.hand
		c.slots[c.hand] = s
		c.hand = (c.hand + 1) % len(c.slots)
	}
	c.at[k] = s
	return sealer
}

// drop forgets the sealers that match.
func (c *sealerCache) drop(match func(cacheKey) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, s := range c.at {
		if !match(k) {
			continue
		}
		delete(c.at, k)
		last := len(c.slots) - 1
		c.slots[s.index] = c.slots[last]
		c.slots[s.index].index = s.index
		c.slots[last] = nil
		c.slots = c.slots[:last]
	}
	c.hand = 0
}
