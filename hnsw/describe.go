package hnsw

import (
	"encoding/binary"
	"fmt"

	"github.com/chromad/chromad/internal/quant"
)

// Facts is what the first bytes of a graph tell.
type Facts struct {
	Rows, M   int
	Seats     int // rows of level 1 or more
	Bits      int // of a number in a code; 32: searches walk over the vectors; 0: they compare all
	CodeBytes int // of a code
}

// Describe reads header and codec of a graph of size bytes: first returns the
// first n of them. It does not judge the rest: Decode does.
func Describe(size int, first func(n int) ([]byte, error)) (Facts, error) {
	if size < graphAlign {
		return Facts{}, fmt.Errorf("graph: %d bytes", size)
	}
	b, err := first(graphAlign)
	if err != nil {
		return Facts{}, err
	}
	u32 := func(at int) int { return int(binary.LittleEndian.Uint32(b[at:])) }
	f := Facts{Rows: u32(4), M: u32(8), Seats: u32(16)}
	codec := u32(24)
	switch v := u32(0); {
	case v != graphVersion:
		return Facts{}, fmt.Errorf("graph: version %d", v)
	case codec > size-graphAlign:
		return Facts{}, fmt.Errorf("graph: codec of %d bytes in %d", codec, size)
	case codec == 0:
		if u32(28)&flagPlain != 0 {
			f.Bits = plainBits
		}
		return f, nil
	}
	if b, err = first(graphAlign + codec); err != nil {
		return Facts{}, err
	}
	c, _, err := quant.Decode(b[graphAlign:])
	if err != nil {
		return Facts{}, fmt.Errorf("graph: %w", err)
	}
	f.Bits, f.CodeBytes = c.Bits(), c.Stride()
	return f, nil
}
