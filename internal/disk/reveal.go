package disk

import (
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/chromad/chromad/internal/mutant"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

// largeSection is from where on a section that is decrypted as a whole asks
// for large pages.
const largeSection = 4 << 20

// smallSection is up to where sections have their memory together: making and giving
// back memory takes the system longer than to decrypt a few pages, and it has places for
// some 65,000 mappings only.
const smallSection = 1 << 20

// revealed is the decrypted form of a sealed section. Memory is written before,
// and read after, a block's bit in good is set, and given back only while
// nobody holds the file (File.Hold).
type revealed struct {
	mu     sync.Mutex // held while memory is made
	memory atomic.Pointer[vfs.Memory]
	small  int            // where in that of the file it is; -1: it has its own
	locks  [16]sync.Mutex // block i is decrypted under locks[i%16]

	// For sections that may be evicted: which blocks were asked for since the
	// last eviction looked, and where it goes on. Eviction holds the file alone.
	evictable bool
	asked     []atomic.Uint64
	askedAll  atomic.Bool
	hand      int // word of good
}

// reserve makes address space for the section.
func (s *Section) reserve() error {
	r := s.revealed
	if r.memory.Load() != nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.memory.Load() != nil {
		return nil
	}
	m, err := s.ownMemory()
	if err != nil {
		return fmt.Errorf("%s: section %d: %w", s.file.name, s.kind, err)
	}
	if !r.evictable && s.length >= largeSection {
		m.Fill()
	}
	r.memory.Store(m)
	return nil
}

func (s *Section) ownMemory() (*vfs.Memory, error) {
	if at := s.revealed.small; at >= 0 {
		m, err := s.file.smallMemory()
		if err != nil {
			return nil, err
		}
		return m.Part(at, at+s.Len()), nil
	}
	return vfs.Anonymous(s.Len())
}

// smallMemory is the memory of all small sections.
func (f *File) smallMemory() (*vfs.Memory, error) {
	f.keptMu.Lock()
	defer f.keptMu.Unlock()
	if f.small == nil {
		m, err := vfs.Anonymous(f.smallSize)
		if err != nil {
			return nil, err
		}
		f.small = m
	}
	return f.small, nil
}

// reveal decrypts block i into memory with the layout of the plain section.
func (s *Section) reveal(i int) error {
	if err := s.reserve(); err != nil {
		return err
	}
	lock := &s.revealed.locks[i%len(s.revealed.locks)]
	lock.Lock()
	defer lock.Unlock()
	if s.isGood(i) {
		return nil
	}
	stored, err := s.check(i)
	if err != nil {
		return err
	}
	off := i * s.blockSize
	room := s.memory()[off:off:min(off+s.blockSize, s.Len())]
	plain, err := s.decrypt(room, stored, i)
	if err != nil {
		return err
	}
	copy(room[:len(plain)], plain) // a sealer that appended elsewhere
	s.file.took(len(plain), s.revealed.evictable)
	s.used(i)
	s.found(i)
	return nil
}

// check returns the stored bytes of block i if their checksum is right.
func (s *Section) check(i int) ([]byte, error) {
	overhead := s.file.sealer.Overhead()
	at := s.at(i, overhead)
	stored := s.file.data[at:][:s.extent.plain(i)+overhead]
	if seal.Sum(stored, s.address(i)) != s.file.sum(s.first+uint64(i)) && !mutant.On(mutant.BlockSumIgnored) {
		return nil, s.file.corrupt(at, fmt.Errorf("block %d: %w", s.first+uint64(i), errChecksum))
	}
	return stored, nil
}

func (s *Section) address(i int) seal.Address { return s.file.header.Address(s.first + uint64(i)) }

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

// used notes that block i was asked for.
func (s *Section) used(i int) {
	if s.revealed == nil || !s.revealed.evictable {
		return
	}
	bit := uint64(1) << (i % 64)
	if word := &s.revealed.asked[i/64]; word.Load()&bit == 0 {
		word.Or(bit)
	}
}

// usedAll notes that the section was asked for as a whole.
func (s *Section) usedAll() {
	if r := s.revealed; r != nil && r.evictable && !r.askedAll.Load() {
		r.askedAll.Store(true)
	}
}

// mayEvict makes the section one that loses its memory when the budget is
// short, if the system can take back blocks of its size.
func (s *Section) mayEvict() {
	if s.revealed == nil || s.evictUnit() > 64 {
		return
	}
	s.revealed.evictable = true
	s.revealed.asked = make([]atomic.Uint64, len(s.good))
}

// evictUnit is how many blocks begin and end with a page.
func (s *Section) evictUnit() int {
	n := 1
	for n <= 64 && n*s.blockSize%vfs.PageSize() != 0 {
		n *= 2
	}
	return n
}

// evict gives up blocks that nobody has asked for since it came by, until
// need bytes are free or it has been round. The caller holds the file alone.
func (s *Section) evict(need int64) (freed int64) {
	r := s.revealed
	if r == nil || !r.evictable || s.count.Load() == 0 {
		return 0
	}
	if r.askedAll.Swap(false) {
		for w := range r.asked {
			r.asked[w].Store(0)
		}
		return 0
	}
	for range s.good {
		if freed >= need {
			break
		}
		freed += s.evictWord(r.hand)
		r.hand = (r.hand + 1) % len(s.good)
	}
	return freed
}

// evictWord is evict for the blocks of one word of good.
func (s *Section) evictWord(w int) (freed int64) {
	asked := s.revealed.asked[w].Swap(0)
	good := s.good[w].Load()
	if unit := s.evictUnit(); unit > 1 { // one block that was asked for keeps its page
		mask := uint64(1)<<unit - 1
		for at := 0; at < 64; at += unit {
			if asked>>at&mask != 0 {
				asked |= mask << at
			}
		}
	}
	victims := good &^ asked
	if victims == 0 {
		return 0
	}
	s.good[w].And(^victims)
	s.count.Add(-int64(bits.OnesCount64(victims)))
	for left := victims; left != 0; left &= left - 1 {
		freed += int64(s.extent.plain(w*64 + bits.TrailingZeros64(left)))
	}
	s.forget(w*64, victims)
	s.file.gave(freed)
	return freed
}

// forget gives back the memory of blocks, a bit for each from first on, in as
// few runs as they make. Blocks that are not good have none worth keeping, so
// a unit without a good block goes whole.
func (s *Section) forget(first int, victims uint64) {
	unit := s.evictUnit()
	mask := uint64(1)<<unit - 1 // of 64: all ones
	for at := 0; at < 64; {
		from := at
		for at < 64 && victims>>at&mask != 0 {
			at += unit
		}
		if at > from {
			s.revealed.memory.Load().Forget((first+from)*s.blockSize, min((first+at)*s.blockSize, s.Len()))
		} else {
			at += unit
		}
	}
}

// close gives back all memory.
func (s *Section) close() error {
	if s.revealed == nil {
		return nil
	}
	s.revealed.mu.Lock()
	defer s.revealed.mu.Unlock()
	m := s.revealed.memory.Load()
	if m == nil || s.revealed.small >= 0 {
		return nil
	}
	return m.Close()
}
