package disk

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

// Section is a run of bytes in a file with one contiguous address space. It is
// safe for concurrent use.
type Section struct {
	extent
	file *File

	// good has a bit for every block that may be handed out: verified, and
	// decrypted when the file is sealed. Verifying a block twice at once is
	// harmless, so setting a bit needs no lock; decrypting writes memory, so
	// it happens under mu.
	good []atomic.Uint64

	// mu guards revealed until the first block is good; its bytes are written
	// before, and read after, the block's bit is set.
	mu       sync.Mutex
	revealed vfs.Mapping // nil until touched, and always when the file is not sealed
}

func newSection(f *File, e extent) *Section {
	// The table held eight bytes for each of these bits.
	return &Section{extent: e, file: f, good: make([]atomic.Uint64, (e.blocks()+63)/64)}
}

// Kind is the section's kind.
func (s *Section) Kind() uint16 { return s.kind }

// Len is the number of bytes.
func (s *Section) Len() int { return int(s.length) }

// BlockSize is the number of bytes of its blocks; the last may have fewer.
func (s *Section) BlockSize() int { return s.blockSize }

// Bytes returns n bytes at off, aliasing the file's memory and 64-byte aligned
// when off is. They are valid until File.Close and must not be written to. A
// range beyond the section and damaged blocks give a CorruptError.
func (s *Section) Bytes(off, n int) ([]byte, error) {
	if off < 0 || n < 0 || off > s.Len() || n > s.Len()-off {
		return nil, s.file.corrupt(s.offset, fmt.Errorf("section %d of %d bytes: %d bytes at %d are beyond it", s.kind, s.length, n, off))
	}
	if n == 0 {
		return nil, nil
	}
	for i := off / s.blockSize; i <= (off+n-1)/s.blockSize; i++ {
		if s.isGood(i) {
			continue
		}
		if err := s.touch(i); err != nil {
			return nil, err
		}
	}
	return s.memory()[off : off+n : off+n], nil
}

// memory is where the plain bytes are. In a sealed file it may be asked for
// only after a block was found good.
func (s *Section) memory() []byte {
	if s.file.sealer.Overhead() > 0 {
		return s.revealed.Bytes()
	}
	return s.file.data[s.offset:][:s.length]
}

func (s *Section) isGood(i int) bool { return s.good[i/64].Load()&(1<<(i%64)) != 0 }

// touch makes block i good.
func (s *Section) touch(i int) error {
	if s.file.sealer.Overhead() > 0 {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.isGood(i) {
			return nil
		}
	}
	stored, err := s.check(i)
	if err != nil {
		return err
	}
	if s.file.sealer.Overhead() > 0 {
		if err := s.reveal(stored, i); err != nil {
			return err
		}
	}
	s.good[i/64].Or(1 << (i % 64))
	return nil
}

// check returns the stored bytes of block i if their checksum is right.
func (s *Section) check(i int) ([]byte, error) {
	overhead := s.file.sealer.Overhead()
	at := s.at(i, overhead)
	stored := s.file.data[at:][:s.extent.plain(i)+overhead]
	if seal.Sum(stored, s.address(i)) != s.file.sum(s.first+uint64(i)) {
		return nil, s.file.corrupt(at, fmt.Errorf("block %d: %w", s.first+uint64(i), errChecksum))
	}
	return stored, nil
}

func (s *Section) address(i int) seal.Address { return s.file.header.Address(s.first + uint64(i)) }

// reveal decrypts a block into memory with the layout of the plain section.
// The length comes from the table, which the file's size bounds.
func (s *Section) reveal(stored []byte, i int) error {
	if s.revealed == nil {
		m, err := vfs.Anonymous(s.Len())
		if err != nil {
			return fmt.Errorf("%s: section %d: %w", s.file.name, s.kind, err)
		}
		s.revealed = m
	}
	off := i * s.blockSize
	room := s.revealed.Bytes()[off:off:min(off+s.blockSize, s.Len())]
	plain, err := s.decrypt(room, stored, i)
	if err != nil {
		return err
	}
	copy(room[:len(plain)], plain) // a sealer that appended elsewhere
	return nil
}

// decrypt appends block i to dst.
func (s *Section) decrypt(dst, stored []byte, i int) ([]byte, error) {
	at := s.at(i, s.file.sealer.Overhead())
	plain, err := s.file.sealer.Open(dst, stored, s.address(i), nil)
	if err != nil {
		return nil, s.file.corrupt(at, fmt.Errorf("block %d: %w", s.first+uint64(i), err))
	}
	if got := len(plain) - len(dst); got != s.extent.plain(i) {
		return nil, s.file.corrupt(at, fmt.Errorf("block %d: %d bytes became %d", s.first+uint64(i), s.extent.plain(i), got))
	}
	return plain, nil
}

func (s *Section) close() error {
	if s.file.sealer.Overhead() == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.revealed == nil {
		return nil
	}
	return s.revealed.Close()
}
