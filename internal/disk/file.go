package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/chromad/chromad/internal/mutant"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

var (
	errExist    = fs.ErrExist
	errNotExist = fs.ErrNotExist
)

// Info is what a reader must know beforehand to trust a file: it stands in the
// edit and the checkpoint that name the file.
type Info struct {
	Length int64  // bytes of the whole file
	Root   uint64 // checksum over header and table, and so over every block checksum
}

// File is an open file: header, table and footer are checked, blocks are
// checked when they are first touched. It is safe for concurrent use.
type File struct {
	name     string
	header   Header
	sealer   seal.Sealer
	mapping  vfs.Mapping
	data     []byte // the whole file
	tableAt  int64
	sums     []byte // 8 bytes a block, aliasing data unless the file is sealed
	info     Info
	sections []*Section

	hold     sync.RWMutex // held for reading by who reads decrypted memory that may be evicted
	shared   *Budget      // nil: unlimited
	budget   *Budget      // shared if the file is sealed, and so may have to evict
	filled   int64        // bytes that shared lets be read in large pages, under its fillMu
	resident atomic.Int64 // bytes in memory of our own that shared counts
	loose    atomic.Int64 // of them in sections that may be evicted
	closed   bool         // under hold

	keptMu    sync.Mutex
	kept      []*vfs.Memory // that Section.Resident made
	small     *vfs.Memory   // decrypted small sections; nil: none yet
	smallSize int
}

// OpenFile opens a file and checks its header, table and footer against h
// (every field but the key id, which is the file's own) and want. The key is
// asked of keys: ErrKey when they do not have it. With want.Length 0
// length and root are whatever the file says. A file that is missing, or is
// no regular file, is corrupt when want says what it should be.
func OpenFile(fs vfs.FS, name string, h Header, want Info, keys seal.Keys) (*File, error) {
	st, err := fs.Stat(name)
	switch {
	case errors.Is(err, errNotExist) && want.Length > 0:
		return nil, &CorruptError{File: name, Err: err}
	case err != nil:
		return nil, err
	case !st.Regular:
		return nil, &CorruptError{File: name, Err: errors.New("not a regular file")}
	case want.Length > 0 && st.Size != want.Length:
		return nil, &CorruptError{File: name, Offset: min(st.Size, want.Length),
			Err: fmt.Errorf("file of %d bytes has %d", want.Length, st.Size)}
	case st.Size < HeaderSize+tableHead+footerSize:
		return nil, &CorruptError{File: name, Offset: st.Size, Err: fmt.Errorf("file ends after %d bytes", st.Size)}
	}
	m, err := fs.Map(name, st.Size)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, &CorruptError{File: name, Err: err}
	}
	if err != nil {
		return nil, err
	}
	f := &File{name: name, header: h, mapping: m, data: m.Bytes()}
	// The file may lose bytes between being measured and being read.
	if err := f.Faults(func() error { return f.open(want, keys) }); err != nil {
		return nil, errors.Join(in(name, err), m.Close())
	}
	return f, nil
}

func (f *File) open(want Info, keys seal.Keys) error {
	h, err := DecodeHeader(f.data)
	if err != nil {
		return err
	}
	if err := h.expect(f.header); err != nil {
		return err
	}
	f.header.KeyID = h.KeyID
	if f.sealer, err = keys.Reader(h.Address(0), h.KeyID); err != nil {
		return err
	}
	at, stored, root, err := findTable(f.data)
	if err != nil {
		return err
	}
	if want.Length > 0 && root != want.Root {
		return damage(int64(len(f.data))-footerSize+16, "root %016x instead of %016x", root, want.Root)
	}
	table, err := openTable(h, f.data[:HeaderSize], stored, at, f.sealer)
	if err != nil {
		return err
	}
	extents, sums, err := decodeTable(table, at, f.sealer.Overhead())
	if err != nil {
		return err
	}
	f.tableAt, f.sums = at, sums
	f.info = Info{Length: int64(len(f.data)), Root: root}
	for _, e := range extents {
		f.sections = append(f.sections, newSection(f, e))
	}
	return nil
}

// ReadSection reads a file that has one section, of this kind and at most limit
// bytes. Every byte is checked as by OpenFile and Verify, and what is returned
// is a copy, which the file may be cut off under.
func ReadSection(fs vfs.FS, name string, h Header, keys seal.Keys, kind uint16, limit int) ([]byte, Info, error) {
	f, err := OpenFile(fs, name, h, Info{}, keys)
	if err != nil {
		return nil, Info{}, err
	}
	body, err := f.only(kind, limit)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, Info{}, err
	}
	return body, f.info, nil
}

func (f *File) only(kind uint16, limit int) (body []byte, err error) {
	s, ok := f.Section(kind)
	if !ok || len(f.sections) != 1 {
		return nil, f.corrupt(HeaderSize, fmt.Errorf("sections %d instead of %d alone", f.Kinds(), kind))
	}
	if s.Len() > limit {
		return nil, f.corrupt(HeaderSize, fmt.Errorf("section %d of %d bytes, %d are the most", kind, s.Len(), limit))
	}
	err = f.Faults(func() error {
		b, err := s.Bytes(0, s.Len())
		if err != nil {
			return err
		}
		body = slices.Clone(b)
		if err := f.verifyPadding(HeaderSize, s.offset); err != nil {
			return err
		}
		return f.verifyPadding(s.end(f.sealer.Overhead()), f.tableAt)
	})
	return body, err
}

// Header is the file's identity.
func (f *File) Header() Header { return f.header }

// Info is the length and root of the file.
func (f *File) Info() Info { return f.info }

// Section returns the section of a kind.
func (f *File) Section(kind uint16) (*Section, bool) {
	for _, s := range f.sections {
		if s.kind == kind {
			return s, true
		}
	}
	return nil, false
}

// Kinds returns the kinds of the sections in the order of the file.
func (f *File) Kinds() []uint16 {
	kinds := make([]uint16, len(f.sections))
	for i, s := range f.sections {
		kinds[i] = s.kind
	}
	return kinds
}

// Verify reads every byte: blocks, whether they were touched before or not,
// and the padding, which must be zero. It returns the first damage.
func (f *File) Verify(ctx context.Context) error {
	return f.Faults(func() error { return f.verify(ctx) })
}

func (f *File) verify(ctx context.Context) error {
	at := int64(HeaderSize)
	var plain []byte
	for _, s := range f.sections {
		if err := f.verifyPadding(at, s.offset); err != nil {
			return err
		}
		for i := range s.blocks() {
			if err := ctx.Err(); err != nil {
				return err
			}
			stored, err := s.check(i)
			if err == nil && f.Encrypted() {
				plain, err = s.decrypt(plain[:0], stored, i)
			}
			if err != nil {
				return err
			}
		}
		at = s.end(f.sealer.Overhead())
	}
	return f.verifyPadding(at, f.tableAt)
}

func (f *File) verifyPadding(from, to int64) error {
	for i, c := range f.data[from:to] {
		if c != 0 {
			return f.corrupt(from+int64(i), errors.New("padding is not zero"))
		}
	}
	return nil
}

// Encrypted reports whether what is in the file cannot be read without a key.
func (f *File) Encrypted() bool { return f.sealer.Overhead() > 0 }

// Share puts the memory that the file takes, beside its mapping, under a
// budget. Of a sealed file sections of the kinds given lose theirs when it is
// short: what they hand out is valid until Free only. Share comes before
// anything else is done with the file.
//
// A file in the clear that is not small is read in large pages, as soon as the budget has
// room for all of it.
func (f *File) Share(b *Budget, evictable ...uint16) {
	f.shared = b
	if !f.Encrypted() && len(f.data) >= largeSection {
		b.fill(f)
	}
	if b == nil || !f.Encrypted() {
		return
	}
	f.budget = b
	for _, kind := range evictable {
		if s, ok := f.Section(kind); ok {
			s.mayEvict()
		}
	}
	b.add(f)
}

// Hold keeps all decrypted memory from being evicted until Free. It must not
// be nested: between the two, who wants the memory back may be waiting.
func (f *File) Hold() {
	if f.budget != nil && !mutant.On(mutant.EvictedInUse) {
		f.hold.RLock()
	}
}

// Free ends Hold. When the budget is exceeded it evicts what has not been used
// for some time, and of this file what has, once others have freed it.
func (f *File) Free() {
	if f.budget != nil {
		if !mutant.On(mutant.EvictedInUse) {
			f.hold.RUnlock()
		}
		f.budget.relieve(f)
	}
}

// took notes that bytes were decrypted, gave that they are gone.
func (f *File) took(n int, evictable bool) {
	if f.budget == nil {
		return
	}
	f.resident.Add(int64(n))
	if evictable {
		f.loose.Add(int64(n))
	}
	f.budget.used.Add(int64(n))
}

func (f *File) gave(n int64) {
	f.resident.Add(-n)
	f.loose.Add(-n)
	f.budget.used.Add(-n)
}

// evict gives up memory until need bytes are free. The caller has locked hold.
func (f *File) evict(need int64) (freed int64) {
	if f.closed {
		return 0
	}
	for _, s := range f.sections {
		if freed < need {
			freed += s.evict(need - freed)
		}
	}
	return freed
}

// Close waits for those who hold the file and gives the memory back: nothing
// that Bytes returned may be used any more. Closing again does nothing.
func (f *File) Close() error {
	if f.budget != nil {
		f.budget.remove(f)
	}
	f.hold.Lock()
	defer f.hold.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	if f.shared != nil {
		f.shared.empty(f)
	}
	err := f.mapping.Close()
	for _, s := range f.sections {
		err = errors.Join(err, s.close())
	}
	f.keptMu.Lock()
	defer f.keptMu.Unlock()
	for _, m := range f.kept {
		err = errors.Join(err, m.Close())
	}
	if f.small != nil {
		err = errors.Join(err, f.small.Close())
	}
	f.kept, f.small = nil, nil
	if f.shared != nil {
		f.shared.used.Add(-f.resident.Swap(0))
	}
	if err != nil {
		return fmt.Errorf("close %s: %w", f.name, err)
	}
	return nil
}

func (f *File) sum(block uint64) uint64 { return binary.LittleEndian.Uint64(f.sums[block*8:]) }

func (f *File) corrupt(at int64, err error) error {
	return &CorruptError{File: f.name, Offset: at, Err: err}
}
