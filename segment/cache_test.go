package segment

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/chromad/chromad/internal/seal"
)

// The bound holds, what is used stays, and what is given back is what was put
// there under that name.
func TestCache(t *testing.T) {
	c := NewCache(1000)
	block := func(file byte, n uint64) (cacheKey, []byte) {
		return cacheKey{file: seal.ID{file}, block: n}, bytes.Repeat([]byte{file, byte(n)}, 50)
	}
	hot, text := block(1, 0)
	c.putBlock(hot, text)
	for n := range uint64(100) {
		key, b := block(2, n)
		c.putBlock(key, b)
		c.putBlock(key, b) // counted once
		if got := c.block(key); !bytes.Equal(got, b) {
			t.Fatalf("block %d: %v", n, got)
		}
		if c.block(hot) == nil {
			t.Fatalf("after block %d the block in use is gone", n)
		}
		if c.Size() > 1000 {
			t.Fatalf("%d bytes are kept", c.Size())
		}
	}
	if first, _ := block(2, 0); c.block(first) != nil || c.Size() != 1000 {
		t.Errorf("the oldest block is kept, or there is room: %d bytes", c.Size())
	}
	c.putBlock(cacheKey{file: seal.ID{3}}, make([]byte, 1001))
	if c.Size() != 1000 {
		t.Errorf("a block larger than the cache: %d bytes", c.Size())
	}
	var none *Cache
	none.putBlock(hot, text)
	if none.block(hot) != nil || none.Size() != 0 {
		t.Error("a nil cache keeps something")
	}
}

// What is closed keeps nothing, of before and of afterwards; what is open keeps an encoder.
func TestCacheClose(t *testing.T) {
	c := NewCache(1000)
	e, err := c.encoder()
	if err != nil {
		t.Fatal(err)
	}
	c.giveBack(e)
	if again, err := c.encoder(); again != e || err != nil {
		t.Errorf("another encoder, %v", err)
	}
	for range encodersKept + 1 {
		c.giveBack(e)
	}
	key := cacheKey{file: seal.ID{1}}
	c.putBlock(key, []byte("text"))
	if len(c.encoders) != encodersKept || c.Size() == 0 {
		t.Errorf("%d encoders, %d bytes", len(c.encoders), c.Size())
	}
	c.Close()
	c.giveBack(e)
	c.putBlock(key, []byte("text"))
	if again, err := c.encoder(); again == e || err != nil || c.block(key) != nil || c.Size() != 0 || len(c.encoders) != 0 {
		t.Errorf("%d encoders and %d bytes are kept, %v", len(c.encoders), c.Size(), err)
	}
}

func TestCacheConcurrent(t *testing.T) {
	c := NewCache(5000)
	var wg sync.WaitGroup
	for g := range uint64(4) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(g, 0))
			for range 5000 {
				n := r.Uint64N(100)
				key := cacheKey{file: seal.ID{7}, block: n}
				if b := c.block(key); b != nil && b[0] != byte(n) {
					t.Errorf("block %d is %d", n, b[0])
				}
				c.putBlock(key, bytes.Repeat([]byte{byte(n)}, 100))
			}
		})
	}
	wg.Wait()
	if c.Size() != 5000 {
		t.Errorf("%d bytes", c.Size())
	}
}
