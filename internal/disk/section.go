package disk

import (
	"fmt"
	"math/bits"
	"sync/atomic"

	"github.com/chromad/chromad/internal/vfs"
)

// Section is a run of bytes in a file with one contiguous address space. It is
// safe for concurrent use.
type Section struct {
	extent
	file  *File
	n     int // blocks
	shift int // log2 of the block size, -1 when it is no power of two

	// good has a bit for every block that may be handed out: verified, and
	// decrypted when the file is sealed. Verifying a block twice at once is
	// harmless, so setting a bit needs no lock; decrypting writes memory, so
	// it happens under one of revealed.locks.
	good  []atomic.Uint64
	count atomic.Int64 // of the bits in good
	rest  rest

	revealed *revealed // nil unless the file is sealed
}

func newSection(f *File, e extent) *Section {
	// The table held eight bytes for each of these bits.
	s := &Section{extent: e, file: f, n: e.blocks(), shift: -1, good: make([]atomic.Uint64, (e.blocks()+63)/64)}
	if bits.OnesCount(uint(e.blockSize)) == 1 {
		s.shift = bits.TrailingZeros(uint(e.blockSize))
	}
	if f.sealer.Overhead() > 0 {
		s.revealed = &revealed{small: -1}
		if s.length <= smallSection {
			s.revealed.small = f.smallSize
			page := vfs.PageSize()
			f.smallSize += (s.Len() + page - 1) / page * page
		}
	}
	return s
}

// Kind is the section's kind.
func (s *Section) Kind() uint16 { return s.kind }

// BlockSize is how many bytes are verified, and decrypted, at a time.
func (s *Section) BlockSize() int { return s.blockSize }

// Len is the number of bytes.
func (s *Section) Len() int { return int(s.length) }

// Offset is where the section begins in the file.
func (s *Section) Offset() int64 { return s.offset }

// Bytes returns n bytes at off, aliasing the file's memory and 64-byte aligned
// when off is. They must not be written to, and are valid until File.Close;
// when the section may be evicted (File.Share) until File.Free. A range beyond
// the section and damaged blocks give a CorruptError.
func (s *Section) Bytes(off, n int) ([]byte, error) {
	if off < 0 || n < 0 || off > s.Len() || n > s.Len()-off {
		return nil, s.beyond(off, n)
	}
	if n == 0 {
		return nil, nil
	}
	if err := s.need(s.blockOf(off), s.blockOf(off+n-1)); err != nil {
		return nil, err
	}
	return s.memory()[off : off+n : off+n], nil
}

// Map is the section's whole memory, in which only what Bytes, Touch or Whole
// found good may be read: the rest is not verified yet.
func (s *Section) Map() ([]byte, error) {
	if s.length == 0 {
		return nil, nil
	}
	if s.revealed != nil {
		if err := s.reserve(); err != nil {
			return nil, err
		}
	}
	return s.memory(), nil
}

// Touch makes good what items of size bytes, which lie end to end from the
// section's beginning, occupy.
func (s *Section) Touch(items []uint32, size int) error {
	for _, item := range items {
		off := int(item) * size
		if size <= 0 || off > s.Len()-size {
			return s.beyond(off, size)
		}
		for i, last := s.blockOf(off), s.blockOf(off+size-1); i <= last; i++ {
			if err := s.touch(i); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Section) beyond(off, n int) error {
	return s.file.corrupt(s.offset, fmt.Errorf("section %d of %d bytes: %d bytes at %d are beyond it", s.kind, s.length, n, off))
}

func (s *Section) blockOf(off int) int {
	if s.shift >= 0 {
		return off >> s.shift
	}
	return off / s.blockSize
}

// memory is where the plain bytes are. In a sealed file it may be asked for
// only after reserve, or after a block was found good.
func (s *Section) memory() []byte {
	if s.revealed != nil {
		return s.revealed.memory.Load().Bytes()
	}
	return s.file.data[s.offset:][:s.length]
}

func (s *Section) isGood(i int) bool { return s.good[i/64].Load()&(1<<(i%64)) != 0 }

func (s *Section) allGood() bool { return int(s.count.Load()) == s.n }

// need makes blocks first to last good, on all processors when they are many.
func (s *Section) need(first, last int) error {
	if s.allGood() {
		s.usedAll()
		return nil
	}
	if (last-first)*s.blockSize >= 2*shareSize {
		return s.spread(first, last+1)
	}
	for i := first; i <= last; i++ {
		if err := s.touch(i); err != nil {
			return err
		}
	}
	return nil
}

// touch makes block i good.
func (s *Section) touch(i int) error {
	if s.isGood(i) {
		s.used(i)
		return nil
	}
	if s.revealed != nil {
		return s.reveal(i)
	}
	if _, err := s.check(i); err != nil {
		return err
	}
	s.found(i)
	return nil
}

// found sets the bit of block i.
func (s *Section) found(i int) {
	if bit := uint64(1) << (i % 64); s.good[i/64].Or(bit)&bit == 0 {
		s.count.Add(1)
	}
}
