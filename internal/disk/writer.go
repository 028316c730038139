package disk

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/chromad/chromad/internal/mutant"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

// writeSize is how many bytes are gathered before the file is written to, and what
// the places where a write ends are multiples of, but where MapSection wants all that there is. It is a large page: where the file
// system's cache has those (Linux: XFS, ext4 from 6.16), what is written so lies in
// one, and so does what is mapped of it. Searches jump from vector to vector, and
// wait for less when their pages are few.
const writeSize = 2 << 20

// Writer writes a file front to back: sections, then table and footer. The
// first error sticks. The caller owns the file, syncs and renames it.
type Writer struct {
	file   vfs.File
	header Header
	sealer seal.Sealer

	head     []byte   // the header as written
	sections []extent // the last one is being written while open is true
	open     bool
	block    []byte // the unfinished block of that section
	sums     []uint64

	out  []byte // stored bytes not yet written to the file
	size int64  // length of the file once out is written
	err  error

	// Where the file is, for MapSection; nil when the caller made the file.
	fs   vfs.FS
	name string
}

// NewWriter begins a file: f must be empty. Its header is h, with the id of the
// key that keys give it.
func NewWriter(f vfs.File, h Header, keys seal.Keys) (*Writer, error) {
	s, err := keys.Writer(h.Address(0))
	if err != nil {
		return nil, err
	}
	h.KeyID = s.KeyID()
	head, err := h.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	if _, err := DecodeHeader(head); err != nil {
		return nil, err // a kind or version that nobody could read back
	}
	n, err := f.Size()
	if err != nil {
		return nil, err
	}
	if n != 0 {
		return nil, fmt.Errorf("file has %d bytes already", n)
	}
	w := &Writer{file: f, header: h, sealer: s, head: head}
	w.put(head)
	return w, nil
}

// Sealed tells that the blocks are encrypted.
func (w *Writer) Sealed() bool { return w.sealer.Overhead() > 0 }

// Section ends the section before and begins one. kind is unique in the file,
// blockSize a multiple of 64: the unit of checksums, and of decryption.
func (w *Writer) Section(kind uint16, blockSize int) error {
	w.endSection()
	if w.err != nil {
		return w.err
	}
	if blockSize <= 0 || blockSize%align != 0 || blockSize > maxBlockSize {
		return w.fail(fmt.Errorf("section %d: block size %d", kind, blockSize))
	}
	if len(w.sections) == maxSections {
		return w.fail(fmt.Errorf("section %d: more than %d sections", kind, maxSections))
	}
	for _, s := range w.sections {
		if s.kind == kind {
			return w.fail(fmt.Errorf("section %d: written before", kind))
		}
	}
	w.pad()
	w.sections = append(w.sections, extent{
		kind: kind, blockSize: blockSize, offset: w.size, first: uint64(len(w.sums)),
	})
	w.open = true
	return w.err
}

// Write appends to the section.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err == nil && !w.open {
		w.fail(errors.New("write outside of a section"))
	}
	if w.err != nil {
		return 0, w.err
	}
	s := &w.sections[len(w.sections)-1]
	n := len(p)
	for len(p) > 0 && w.err == nil {
		if len(w.block) == 0 && len(p) >= s.blockSize {
			w.seal(p[:s.blockSize])
			p = p[s.blockSize:]
			continue
		}
		k := min(len(p), s.blockSize-len(w.block))
		w.block = append(w.block, p[:k]...)
		p = p[k:]
		if len(w.block) == s.blockSize {
			w.seal(w.block)
			w.block = w.block[:0]
		}
	}
	if w.err != nil {
		return n - len(p), w.err
	}
	s.length += int64(n)
	return n, nil
}

// Written is how many bytes of the current section have been written.
func (w *Writer) Written() int64 {
	if len(w.sections) == 0 {
		return 0
	}
	return w.sections[len(w.sections)-1].length
}

// MapSection ends the section kind, if it is the current one, and maps what
// has been written: bytes are its plain bytes, valid until mapping is closed,
// which must happen before the file is renamed. It works for files that
// WriteFile makes and that are not encrypted (ErrSealed).
func (w *Writer) MapSection(kind uint16) (mapping vfs.Mapping, bytes []byte, err error) {
	if w.Sealed() {
		return nil, nil, fmt.Errorf("section %d: %w", kind, ErrSealed)
	}
	if w.fs == nil {
		return nil, nil, fmt.Errorf("section %d: the writer does not know the file's name", kind)
	}
	for i, s := range w.sections {
		if s.kind != kind {
			continue
		}
		if i == len(w.sections)-1 {
			w.endSection()
		}
		if w.flush(w.size); w.err != nil {
			return nil, nil, w.err
		}
		m, err := w.fs.Map(w.name, w.size)
		if err != nil {
			return nil, nil, err
		}
		return m, m.Bytes()[s.offset:][:s.length:s.length], nil
	}
	return nil, nil, fmt.Errorf("section %d: not written", kind)
}

// Finish writes table and footer. It does not sync.
func (w *Writer) Finish() (Info, error) {
	w.endSection()
	w.pad()
	if w.err != nil {
		return Info{}, w.err
	}
	at := w.size
	table := appendTable(nil, w.sections, w.sealer.Overhead(), w.sums)
	if w.Sealed() {
		sealed, err := w.sealer.Seal(nil, table, w.header.Address(tableBlock), w.head)
		if err != nil {
			return Info{}, w.fail(fmt.Errorf("seal the table: %w", err))
		}
		table = sealed
	}
	root := rootOf(w.head, table)
	w.put(table)
	w.put(appendFooter(nil, at, int64(len(table)), root))
	w.flush(w.size)
	if w.err != nil {
		return Info{}, w.err
	}
	info := Info{Length: w.size, Root: root}
	w.fail(errors.New("file is finished"))
	return info, nil
}

func (w *Writer) fail(err error) error {
	if w.err == nil {
		w.err = err
	}
	return w.err
}

func (w *Writer) endSection() {
	if w.err == nil && w.open && len(w.block) > 0 {
		w.seal(w.block)
	}
	w.block, w.open = w.block[:0], false
}

func (w *Writer) pad() {
	var zeros [align]byte
	if mutant.On(mutant.PaddingLeaks) {
		copy(zeros[:], w.block[:cap(w.block)])
	}
	w.put(zeros[:aligned(w.size)-w.size])
}

// seal appends the stored form of a block, and its checksum to the table.
func (w *Writer) seal(block []byte) {
	// A cipher makes room for its block alone, so a buffer that grew by it would be copied for each.
	w.out = slices.Grow(w.out, len(block)+w.sealer.Overhead())
	start := len(w.out)
	at := w.header.Address(uint64(len(w.sums)))
	out, err := w.sealer.Seal(w.out, block, at, nil)
	if err != nil {
		w.fail(fmt.Errorf("seal block %d: %w", at.Block, err))
		return
	}
	stored := out[start:]
	if len(stored) != len(block)+w.sealer.Overhead() {
		w.fail(fmt.Errorf("seal block %d: %d bytes became %d", at.Block, len(block), len(stored)))
		return
	}
	w.sums = append(w.sums, seal.Sum(stored, at))
	w.size += int64(len(stored))
	w.out = out
	w.flush(w.size &^ (writeSize - 1))
}

func (w *Writer) put(p []byte) {
	w.out = append(w.out, p...)
	w.size += int64(len(p))
	w.flush(w.size &^ (writeSize - 1))
}

// flush writes to the file what comes before limit.
func (w *Writer) flush(limit int64) {
	n := len(w.out) - int(w.size-limit)
	if w.err != nil || n <= 0 {
		return
	}
	if _, err := w.file.Write(w.out[:n]); err != nil {
		w.fail(err)
	}
	w.out = w.out[:copy(w.out, w.out[n:])]
}

// WriteFile creates the file name whole: it is written under a temporary name,
// synced and renamed, and the names are durable when it returns. After an
// error the file is absent, or, when the error came from syncing the
// directory, in a state that only the next start of the program knows.
//
// Directories that are missing are made. name must not exist (fs.ErrExist).
func WriteFile(fs vfs.FS, name string, h Header, keys seal.Keys, write func(*Writer) error) (Info, error) {
	info, err := writeFile(fs, name, h, keys, write)
	if err != nil {
		return Info{}, fmt.Errorf("write %s: %w", name, err)
	}
	return info, nil
}

func writeFile(fs vfs.FS, name string, h Header, keys seal.Keys, write func(*Writer) error) (Info, error) {
	dir := path.Dir(name)
	if err := errors.Join(ensureDir(fs, TmpDir), ensureDir(fs, dir)); err != nil {
		return Info{}, err
	}
	// The file's own id is random, so the name is free unless the same write
	// was tried before and its rest is still there.
	tmp := path.Join(TmpDir, h.File.String())
	f, err := create(fs, tmp)
	if err != nil {
		return Info{}, err
	}
	info, err := fill(fs, tmp, f, h, keys, write)
	if err == nil && !mutant.On(mutant.FileNotSynced) {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = fs.Rename(tmp, name)
	}
	if err != nil {
		return Info{}, errors.Join(err, fs.Remove(tmp))
	}
	// The new name first: between the two the file has both names, not none.
	if mutant.On(mutant.DirNotSynced) {
		return info, nil
	}
	if err := fs.SyncDir(dir); err != nil {
		return Info{}, err
	}
	return info, fs.SyncDir(TmpDir)
}

func fill(fs vfs.FS, tmp string, f vfs.File, h Header, keys seal.Keys, write func(*Writer) error) (Info, error) {
	w, err := NewWriter(f, h, keys)
	if err != nil {
		return Info{}, err
	}
	w.fs, w.name = fs, tmp
	if err := write(w); err != nil {
		return Info{}, err
	}
	return w.Finish()
}

func create(fs vfs.FS, name string) (vfs.File, error) {
	f, err := fs.Create(name)
	if !errors.Is(err, errExist) {
		return f, err
	}
	if err := fs.Remove(name); err != nil {
		return nil, err
	}
	return fs.Create(name)
}

// ensureDir makes a directory below the root durable if it is not there.
func ensureDir(fs vfs.FS, dir string) error {
	if dir == "." {
		return nil
	}
	_, err := fs.Stat(dir)
	if !errors.Is(err, errNotExist) {
		return err
	}
	if err := fs.Mkdir(dir); err != nil {
		return err
	}
	return fs.SyncDir(path.Dir(dir))
}
