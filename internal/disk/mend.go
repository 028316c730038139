package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

// Mend makes a file readable whose header, table or footer is damaged: a file
// that cannot be opened keeps all of its rows from being read, however good
// they are. The file itself stays as it is. mended is the same file system in
// which this file is a copy in memory that fits together, and info is by what
// it can be opened there.
//
// h is the identity the file must have, nil when it is not known; want is the
// length and root of the file, zero when they are not known. got is the
// header of the mended file. Where info is
// want, the root proves that header and table are again what they were. Else
// each block is proven by its own checksum, as far as that is undamaged.
func Mend(fs vfs.FS, name string, h *Header, want Info) (mended vfs.FS, got Header, info Info, err error) {
	b, err := readWhole(fs, name)
	if err != nil {
		return nil, got, Info{}, err
	}
	m := mender{file: b, want: want, id: h}
	if want.Length > 0 && int64(len(m.file)) > want.Length {
		m.file = m.file[:want.Length]
	}
	if info, err = m.mend(); err == nil {
		got, err = DecodeHeader(m.file)
	}
	if err != nil {
		return nil, got, Info{}, in(name, err)
	}
	return &image{FS: fs, name: name, bytes: m.file}, got, info, nil
}

// image is a file system with one file replaced by memory.
type image struct {
	vfs.FS
	name  string
	bytes []byte
}

func (m *image) Stat(name string) (vfs.Info, error) {
	st, err := m.FS.Stat(name)
	if name == m.name {
		st.Size = int64(len(m.bytes))
	}
	return st, err
}

func (m *image) Map(name string, size int64) (vfs.Mapping, error) {
	if name != m.name {
		return m.FS.Map(name, size)
	}
	if size != int64(len(m.bytes)) {
		return nil, fmt.Errorf("%s: %d bytes of %d", name, size, len(m.bytes))
	}
	return memory(m.bytes), nil
}

// memory is a mapping that the garbage collector gives back.
type memory []byte

func (m memory) Bytes() []byte { return m }
func (m memory) Fill()         {}
func (m memory) Close() error  { return nil }

// readWhole copies a file into memory that may have sections.
func readWhole(fs vfs.FS, name string) ([]byte, error) {
	return ReadWhole(fs, name, func(size int64) error {
		if size < HeaderSize+tableHead+footerSize || size != int64(int(size)) {
			return &CorruptError{File: name, Offset: size, Err: fmt.Errorf("file ends after %d bytes", size)}
		}
		return nil
	})
}

// ReadWhole copies a file into memory, unless fits says that it has too many
// bytes, or too few.
func ReadWhole(fs vfs.FS, name string, fits func(size int64) error) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err == nil {
		err = fits(size)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	b := make([]byte, size) // as long as the file is
	n, err := f.ReadAt(b, 0)
	if int64(n) == size {
		err = nil // an io.EOF at the very end is none
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}

// mender works on a copy of the whole file.
type mender struct {
	file  []byte
	id    *Header
	want  Info
	table []byte // in file
	root  uint64
	known bool // root is what it was when the file was written
}

func (m *mender) mend() (Info, error) {
	if m.want.Length > int64(len(m.file)) {
		return Info{}, damage(int64(len(m.file)), "file of %d bytes was cut here, and its table is gone", m.want.Length)
	}
	if err := m.header(); err != nil {
		return Info{}, err
	}
	at, ok := m.findTable()
	if !ok {
		return Info{}, damage(int64(len(m.file)), "no table")
	}
	m.table = m.file[at : len(m.file)-footerSize]
	if !m.known {
		return Info{}, damage(int64(at), "neither table nor footer can be believed")
	}
	if m.exact() || m.oneByte() || m.sums(int64(at)) {
		return m.finish(at), nil
	}
	if !m.plain() {
		return Info{}, damage(int64(at), "header and table: %w, and nothing tells what they were", errChecksum)
	}
	// What the table says is used as far as it makes sense: its own
	// checksums prove the blocks one by one.
	if _, _, err := decodeTable(m.table, int64(at), 0); err != nil {
		return Info{}, err
	}
	m.root = rootOf(m.head(), m.table)
	return m.finish(at), nil
}

func (m *mender) head() []byte { return m.file[:HeaderSize] }
func (m *mender) exact() bool  { return m.known && rootOf(m.head(), m.table) == m.root }

// plain holds when the blocks are not encrypted.
func (m *mender) plain() bool { return binary.LittleEndian.Uint32(m.file[12:]) == 0 }

// header puts the header there that the file must have. Which key it names is
// not known from elsewhere, so that is believed.
func (m *mender) header() error {
	got, err := DecodeHeader(m.file)
	switch {
	case m.id == nil && err == nil:
		return nil
	case m.id == nil:
		return m.bytesOfHeader()
	case err == nil && got.expect(*m.id) == nil:
		return nil
	}
	raw := binary.LittleEndian.Uint32(m.file[12:])
	if err == nil {
		raw = got.KeyID
	}
	at, ok := m.findTable()
	for _, key := range nearKeys(raw) {
		if err := m.putHeader(key); err != nil {
			return err
		}
		if !ok || m.known && rootOf(m.head(), m.file[at:len(m.file)-footerSize]) == m.root {
			return nil
		}
	}
	return m.putHeader(raw)
}

func (m *mender) putHeader(key uint32) error {
	h := *m.id
	h.KeyID = key
	b, err := h.AppendBinary(nil)
	copy(m.file, b)
	return err
}

// nearKeys are the key that a header names, no key, and those that differ
// from the named one in a byte.
func nearKeys(named uint32) []uint32 {
	keys := []uint32{named, 0}
	for i := range 4 {
		for v := range uint32(255) {
			keys = append(keys, named^(v+1)<<(8*i))
		}
	}
	return keys
}

// bytesOfHeader looks for the one byte of the header that is wrong.
func (m *mender) bytesOfHeader() error {
	_, err := DecodeHeader(m.file)
	fits := func() bool {
		_, err := DecodeHeader(m.file)
		return err == nil
	}
	if OneByte(m.head(), 256, fits) {
		return nil
	}
	return err
}

// findTable believes the footer, or looks for where a table would end there.
func (m *mender) findTable() (at int, ok bool) {
	end := len(m.file) - footerSize
	foot := m.file[end:]
	offset, length := binary.LittleEndian.Uint64(foot), binary.LittleEndian.Uint64(foot[8:])
	m.root, m.known = binary.LittleEndian.Uint64(foot[16:]), bytes.Equal(foot[24:], []byte(footerMagic))
	if m.want.Length > 0 {
		m.root, m.known = m.want.Root, true
	}
	fits := func(at int) bool {
		t := m.file[at:end]
		return len(t) >= tableHead && uint64(len(t)) == tableHead+
			uint64(binary.LittleEndian.Uint32(t))*tableEntry+binary.LittleEndian.Uint64(t[8:])*8
	}
	if m.known && offset >= HeaderSize && offset <= uint64(end) && length == uint64(end)-offset {
		return int(offset), true
	}
	// From the end on, because the table is short. In an encrypted file the root
	// alone can tell.
	for at, work := end/align*align, 0; at >= HeaderSize && work < mendWork; at -= align {
		if m.plain() && !fits(at) {
			continue
		}
		if work += end - at; rootOf(m.head(), m.file[at:end]) == m.root {
			m.known = true
			return at, true
		}
	}
	// A wrong guess is a wrong root, or a table that makes no sense.
	for at := HeaderSize; at <= end-tableHead; at += align {
		if fits(at) {
			return at, true
		}
	}
	return 0, false
}

// mendWork bounds how many bytes are hashed to find one that is wrong: about a
// second's worth.
const mendWork = 1 << 32

// oneByte looks for the one byte of header and table that makes the root what
// it must be: first for a flipped bit, which is how most bytes rot.
func (m *mender) oneByte() bool {
	if !m.known {
		return false
	}
	for _, values := range []int{8, 256} {
		work := (len(m.table) + HeaderSize) * (len(m.table) + HeaderSize) * values
		if work > mendWork {
			return false
		}
		if OneByte(m.table, values, m.exact) || OneByte(m.head(), values, m.exact) {
			return true
		}
	}
	return false
}

// OneByte changes one byte of b until fits holds, and leaves it so: to every
// other value, or, with values 8, by a single bit.
func OneByte(b []byte, values int, fits func() bool) bool {
	for i, old := range b {
		for v := range values {
			if b[i] = old ^ byte(v); values == 8 {
				b[i] = old ^ 1<<v
			}
			if b[i] != old && fits() {
				return true
			}
		}
		b[i] = old
	}
	return false
}

// MendBlocks looks in each damaged block of a file that Mend has given for the
// flipped bit, and in short blocks for the changed byte, that makes its
// checksum right, and puts it right in memory. It returns how many blocks that
// worked for. A long block may take seconds.
func (f *File) MendBlocks(ctx context.Context) (mended int, err error) {
	if _, ours := f.mapping.(memory); !ours {
		return 0, nil
	}
	type place struct {
		s *Section
		i int
	}
	var damaged []place
	for _, s := range f.sections {
		for i := range s.blocks() {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			if _, err := s.check(i); err != nil {
				damaged = append(damaged, place{s, i})
			}
		}
	}
	if len(damaged) > mendBlocks {
		return 0, nil
	}
	for _, p := range damaged {
		if err := ctx.Err(); err != nil {
			return mended, err
		}
		if p.s.mend(p.i) {
			mended++
		}
	}
	return mended, nil
}

// mendBlocks is how many blocks of a file may be damaged for the search to be
// worth its time: where many are, it was no single bit that went.
const mendBlocks = 8

// mend looks for the byte of block i that is wrong. The memory is ours.
func (s *Section) mend(i int) bool {
	f := s.file
	overhead := f.sealer.Overhead()
	stored := f.data[s.at(i, overhead):][:s.extent.plain(i)+overhead]
	fits := func() bool { return seal.Sum(stored, s.address(i)) == f.sum(s.first+uint64(i)) }
	for _, values := range []int{8, 256} {
		if len(stored)*len(stored)*values > 8*mendWork {
			return false
		}
		if OneByte(stored, values, fits) {
			return true
		}
	}
	return false
}

// sums makes new checksums for the blocks that do not have theirs. When the
// root is right then, it was the checksums that were damaged.
func (m *mender) sums(at int64) bool {
	if !m.known || !m.plain() {
		return false
	}
	h, err := DecodeHeader(m.file)
	if err != nil {
		return false
	}
	extents, _, err := decodeTable(m.table, at, 0)
	if err != nil {
		return false
	}
	before := bytes.Clone(m.table)
	sums := m.table[tableHead+len(extents)*tableEntry:]
	for _, e := range extents {
		for i := range e.blocks() {
			n := e.first + uint64(i)
			block := m.file[e.at(i, 0):][:e.plain(i)]
			binary.LittleEndian.PutUint64(sums[n*8:], seal.Sum(block, h.Address(n)))
		}
	}
	if m.exact() {
		return true
	}
	copy(m.table, before)
	return false
}

// finish puts the footer there that fits.
func (m *mender) finish(at int) Info {
	end := len(m.file) - footerSize
	copy(m.file[end:], appendFooter(nil, int64(at), int64(end-at), m.root))
	return Info{Length: int64(len(m.file)), Root: m.root}
}
