package keys

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/chromad/chromad/internal/keys/keytest"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

func numbered(n int) (id seal.ID) {
	binary.BigEndian.PutUint64(id[8:], uint64(n)+1)
	return id
}

// TestManyCollections: eight goroutines write and read under 10,000
// collections, more than sealers are kept, while keys are renewed, dropped,
// retired and destroyed under their hands.
func TestManyCollections(t *testing.T) {
	const collections, workers = 10_000, 8
	ctx := context.Background()
	fsys := faultfs.New(1)
	r := mustCreate(t, fsys, "a")
	for i := range collections {
		if err := r.NewCollection(numbered(i)); err != nil {
			t.Fatal(err)
		}
	}
	r = mustOpen(t, fsys, "a") // so that all are read anew
	var wg sync.WaitGroup
	var shredded atomic.Int64
	for w := range workers {
		wg.Go(func() {
			for i := w; i < collections+w; i++ {
				n := i * 7 % collections // all come by each
				l, err := write(r, addressIn(numbered(n), byte(w)))
				if err == nil {
					err = l.read(r)
				}
				switch {
				case errors.Is(err, ErrShredded) && n < 50:
					shredded.Add(1)
				case errors.Is(err, seal.ErrKey) && n >= 50 && n < 100: // dropped between writing and reading
				case err != nil:
					t.Errorf("collection %d: %v", n, err)
					return
				}
			}
		})
	}
	wg.Go(func() { changeMany(t, ctx, r) })
	wg.Wait()
	if shredded.Load() == 0 {
		t.Error("nobody met a destroyed collection")
	}
	if n := len(r.cache.slots); n != cacheSize || len(r.cache.at) != n {
		t.Errorf("%d sealers kept, %d found", n, len(r.cache.at))
	}
}

func changeMany(t *testing.T, ctx context.Context, r *Ring) {
	if err := r.AddPrimary(ctx); err != nil {
		t.Error(err)
	}
	for n := range 50 {
		if _, err := r.Destroy(numbered(n)); err != nil {
			t.Error(err)
		}
		if _, err := r.Renew(numbered(n + 50)); err != nil {
			t.Error(err)
		}
		if err := r.Drop(numbered(n+50), 1); err != nil {
			t.Error(err)
		}
	}
	if err := r.Rewrap(ctx, keytest.New("b")); err != nil {
		t.Error(err)
	}
	for range r.Collections() {
	}
	if _, err := r.Rotation(); err != nil {
		t.Error(err)
	}
}

// TestSharedSealer: who asks for the same file gets the same sealer, so that
// its blocks are counted together.
func TestSharedSealer(t *testing.T) {
	r := mustCreate(t, faultfs.New(1), "a", docs)
	var wg sync.WaitGroup
	got := make([]seal.Sealer, 8)
	for i := range got {
		wg.Go(func() {
			for range 100 {
				s, err := r.Writer(addressIn(docs, 1))
				if err != nil {
					t.Error(err)
					return
				}
				got[i] = s
				if _, err := s.Seal(nil, nil, addressIn(docs, 1), nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, s := range got {
		if s != got[0] {
			t.Error("two sealers of one file")
		}
	}
	if n := got[0].(*fileSealer).sealed.Load(); n != 800 {
		t.Errorf("%d blocks counted", n)
	}
}

// TestLookupsShare: a lookup goes on while another holds every lock that
// lookups take.
func TestLookupsShare(t *testing.T) {
	r := mustCreate(t, faultfs.New(1), "a", docs)
	l := mustWrite(t, r, addressIn(docs, 1))
	k := r.data[docs][0]
	r.mu.RLock()
	r.cache.mu.RLock()
	k.mu.RLock()
	r.change.Lock()
	mustRead(t, r, l)
	mustWrite(t, r, addressIn(docs, 1))
	r.change.Unlock()
	k.mu.RUnlock()
	r.cache.mu.RUnlock()
	r.mu.RUnlock()
}

// TestCache: what is used stays, what is not goes, and no more than agreed is
// kept.
func TestCache(t *testing.T) {
	c := newSealerCache(4)
	key := func(n byte) cacheKey { return cacheKey{addressIn(docs, n), uint32(n)} }
	for n := range byte(4) {
		c.put(key(n), &fileSealer{key: uint32(n)})
	}
	for n := byte(4); n < 100; n++ {
		if c.get(key(0)) == nil || c.get(key(1)) == nil {
			t.Fatalf("one that is used is gone after %d", n)
		}
		s := &fileSealer{key: uint32(n)}
		if c.put(key(n), s) != s || c.put(key(n), &fileSealer{}) != s {
			t.Fatalf("%d is not kept", n)
		}
		if len(c.at) != 4 || len(c.slots) != 4 {
			t.Fatalf("%d kept", len(c.at))
		}
	}
	c.drop(func(k cacheKey) bool { return k.key == 1 || k.key == 99 })
	if c.get(key(1)) != nil || c.get(key(99)) != nil || c.get(key(0)) == nil || len(c.slots) != len(c.at) {
		t.Errorf("dropped: %d of %d left", len(c.at), len(c.slots))
	}
	for n := range byte(20) {
		c.put(key(100+n), &fileSealer{})
	}
	for k, s := range c.at {
		if c.slots[s.index] != s || s.key != k {
			t.Errorf("slot %d is of another", s.index)
		}
	}
}

func BenchmarkReader(b *testing.B) {
	r := mustCreate(b, faultfs.New(1), "a", docs)
	b.Run("kept", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := r.Reader(addressIn(docs, 1), 1); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("new", func(b *testing.B) {
		at := addressIn(docs, 1)
		for n := uint64(0); b.Loop(); n++ {
			binary.LittleEndian.PutUint64(at.File[:], n)
			if _, err := r.Reader(at, 1); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, n := range []int{10_000} {
		b.Run(fmt.Sprintf("open/%d collections", n), func(b *testing.B) {
			fsys := faultfs.New(1)
			r := mustCreate(b, fsys, "a")
			for i := range n {
				if err := r.NewCollection(numbered(i)); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				mustOpen(b, fsys, "a")
			}
		})
	}
}
