package vfs

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/edsrzf/mmap-go"
)

// Map implements FS. The bytes must not be written to; reading bytes that the
// file lost after it was mapped raises a fault.
func (r *Root) Map(name string, size int64) (Mapping, error) {
	f, st, err := r.open("map", name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	m, err := mapFile(f, st.Size(), size)
	// A mapping outlives the handle it was made from.
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("map %s: %w", name, err), m.Close())
	}
	return m, nil
}

func mapFile(f *os.File, have, size int64) (*mapping, error) {
	switch {
	case size < 0 || size > math.MaxInt:
		return &mapping{}, fmt.Errorf("size %d: %w", size, os.ErrInvalid)
	case have < size:
		return &mapping{}, fmt.Errorf("%d bytes of %d: %w", have, size, io.ErrUnexpectedEOF)
	case size == 0:
		return &mapping{}, nil // the system maps no empty region
	}
	b, err := mmap.MapRegion(f, int(size), mmap.RDONLY, 0, 0)
	return &mapping{b}, wrapMap(err)
}

// Memory is memory outside the Go heap that is zero at first and may be
// written to.
type Memory struct{ mapping }

// Anonymous returns size bytes of zeroed memory outside the Go heap, aligned to
// a page and left out of core dumps where the system can do that: the place
// for decrypted bytes.
func Anonymous(size int) (*Memory, error) {
	if size == 0 {
		return &Memory{}, nil
	}
	b, err := mmap.MapRegion(nil, size, ownMemory, mmap.ANON, 0)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of memory: %w", size, wrapMap(err))
	}
	dontDump(b)
	smallPages(b)
	return &Memory{mapping{b}}, nil
}

// Part is the bytes from from to to, from a multiple of PageSize. It is closed with all of
// the memory, and not by itself.
func (m *Memory) Part(from, to int) *Memory { return &Memory{mapping{m.b[from:to:to]}} }

// Forget gives the bytes from from to to back to the system, which takes whole
// pages: from is a multiple of PageSize, and so is to unless it is the end.
// The address space stays; what is read there afterwards means nothing.
func (m *Memory) Forget(from, to int) { forget(m.b[from:to]) }

// Join asks for large pages in the place of the small ones from from to to,
// all of which are in use. It copies them.
func (m *Memory) Join(from, to int) {
	page := PageSize()
	if from, to = (from+page-1)/page*page, to/page*page; from < to {
		joinPages(m.b[from:to])
	}
}

// PageSize is the unit of Forget.
func PageSize() int { return os.Getpagesize() }

type mapping struct{ b mmap.MMap }

func (m *mapping) Bytes() []byte { return m.b }

// Fill implements Mapping. Without it, a byte of Memory takes one small page.
func (m *mapping) Fill() { largePages(m.b) }

// Close is harmless when called again.
func (m *mapping) Close() error {
	if m.b == nil {
		return nil
	}
	return m.b.Unmap()
}
