package server

import "sync"

const (
	smallBuffer = 1 << 20  // up to here buffers are left to the garbage collector's judgement
	largeBuffer = 16 << 20 // what is larger is not kept
	keptLarge   = 32 << 20 // bytes of all large buffers that are kept
)

// buffers lend memory for bodies and answers. Small ones lie in a pool that
// the garbage collector empties. It runs often under writes, and large bodies
// would be allocated, and cleared, again and again: of those a fixed amount is
// kept.
type buffers struct {
	small sync.Pool // of *[]byte

	mu    sync.Mutex
	large []*[]byte
	bytes int // capacity of these
}

// vectors are memory for the embeddings of a query, for as long as its request.
type vectors struct {
	one []float32 // while it is read
	all []float32 // those that were read, and room for more
}

// vectorPool lends it, and keeps what has no more than keptVectors numbers.
type vectorPool struct{ pool sync.Pool }

const keptVectors = 64 << 10

func (p *vectorPool) get() *vectors {
	if v, ok := p.pool.Get().(*vectors); ok {
		return v
	}
	return &vectors{}
}

func (p *vectorPool) put(v *vectors) {
	if v != nil && cap(v.one)+cap(v.all) <= keptVectors {
		p.pool.Put(v)
	}
}

// get lends an empty buffer, a large one if size bytes are expected and there is one.
func (p *buffers) get(size int64) *[]byte {
	if size > smallBuffer {
		p.mu.Lock()
		defer p.mu.Unlock()
		if n := len(p.large) - 1; n >= 0 {
			b := p.large[n]
			p.large[n] = nil
			p.large = p.large[:n]
			p.bytes -= cap(*b)
			return b
		}
	}
	if b, ok := p.small.Get().(*[]byte); ok {
		return b
	}
	return new([]byte)
}

// put takes a buffer back, or forgets it.
func (p *buffers) put(b *[]byte) {
	*b = (*b)[:0]
	switch size := cap(*b); {
	case size <= smallBuffer:
		p.small.Put(b)
	case size <= largeBuffer:
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.bytes+size <= keptLarge {
			p.large = append(p.large, b)
			p.bytes += size
		}
	}
}
