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

// Anonymous returns size bytes of zeroed memory outside the Go heap, aligned to
// a page and left out of core dumps where the system can do that: the place
// for decrypted bytes. Unlike those of a file, its bytes may be written to.
func Anonymous(size int) (Mapping, error) {
	if size == 0 {
		return &mapping{}, nil
	}
	b, err := mmap.MapRegion(nil, size, mmap.RDWR, mmap.ANON, 0)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of memory: %w", size, wrapMap(err))
	}
	dontDump(b)
	return &mapping{b}, nil
}

type mapping struct{ b mmap.MMap }

func (m *mapping) Bytes() []byte { return m.b }

// Close is harmless when called again.
func (m *mapping) Close() error {
	if m.b == nil {
		return nil
	}
	return m.b.Unmap()
}
