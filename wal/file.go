package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/mutant"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

const (
	dir       = "log"
	suffix    = ".wal"
	tmpSuffix = ".tmp"

	// maxFrames is how many frames a file may hold, so that one key of a file
	// never seals more blocks than it may.
	maxFrames = 1 << 20
)

// file is a file of the log as the log remembers it.
type file struct {
	number uint64
	begin  Position
	size   int64
}

func fileName(number uint64) string { return disk.Name(dir, number, suffix) }
func tmpName(number uint64) string  { return disk.Name(dir, number, tmpSuffix) }

// start is where a file takes up the log.
type start struct {
	Position
	// chain is the checksum of the last frame before, in another file: 0 when
	// there is none. It makes the log one chain, so a file cannot be changed
	// for one of another history of the same store.
	chain uint64
}

const startSize = positionSize + sumSize

// preludeSize is the length of what precedes the first frame: the header, the
// sealed start, and a checksum over both.
func preludeSize(s seal.Sealer) int { return disk.HeaderSize + startSize + s.Overhead() + sumSize }

// appendPrelude appends the preludeSize bytes and returns their checksum, to
// which the first frame is chained.
func appendPrelude(b []byte, id disk.Header, begin start, s seal.Sealer) ([]byte, uint64, error) {
	from := len(b)
	b, err := id.AppendBinary(b)
	if err != nil {
		return nil, 0, err
	}
	var buf [startSize]byte
	plain, _ := begin.AppendBinary(buf[:0])
	plain = binary.LittleEndian.AppendUint64(plain, begin.chain)
	if b, err = s.Seal(b, plain, id.Address(0), b[from:]); err != nil { // the number is in no address
		return nil, 0, fmt.Errorf("seal position: %w", err)
	}
	sum := seal.Sum(b[from:], id.Address(0))
	return binary.LittleEndian.AppendUint64(b, sum), sum, nil
}

// decodeHeader reads the header at the front of b, which has to be that of the
// file number of the log, and finds the key.
func decodeHeader(b []byte, name string, number uint64, o Options) (disk.Header, seal.Sealer, error) {
	id, err := disk.DecodeHeader(b)
	if err != nil {
		if c, ok := errors.AsType[*disk.CorruptError](err); ok {
			c.File = name
			return id, nil, c
		}
		return id, nil, fmt.Errorf("%s: %w", name, err)
	}
	switch {
	case id.Kind != o.Kind:
		return id, nil, corrupt(name, 0, "file of kind %d instead of %d", id.Kind, o.Kind)
	case id.Store != o.Store:
		return id, nil, corrupt(name, 0, "file of store %v instead of %v", id.Store, o.Store)
	case id.Collection != seal.ID{}:
		return id, nil, corrupt(name, 0, "log of a single collection")
	case id.Number != number:
		return id, nil, corrupt(name, 0, "file number %d instead of %d", id.Number, number)
	}
	s, err := o.Keys.Reader(id.Address(0), id.KeyID)
	if err != nil {
		return id, nil, fmt.Errorf("%s: key %d: %w", name, id.KeyID, err)
	}
	return id, s, nil
}

// decodePrelude reads what appendPrelude wrote behind the header of the file
// id from the front of b, which is not longer than preludeSize.
func decodePrelude(b []byte, name string, id disk.Header, s seal.Sealer) (begin start, sum uint64, err error) {
	if len(b) < preludeSize(s) {
		return begin, 0, corrupt(name, int64(len(b)), "file ends in its header")
	}
	end := preludeSize(s) - sumSize
	sum = seal.Sum(b[:end], id.Address(0))
	if sum != binary.LittleEndian.Uint64(b[end:]) {
		return begin, 0, corrupt(name, disk.HeaderSize, "position: %w", errChecksum)
	}
	plain, err := s.Open(nil, b[disk.HeaderSize:end], id.Address(0), b[:disk.HeaderSize])
	if err != nil {
		return begin, 0, corrupt(name, disk.HeaderSize, "position: %w", err)
	}
	if len(plain) != startSize {
		return begin, 0, corrupt(name, disk.HeaderSize, "position has %d bytes", len(plain))
	}
	begin = start{decodePosition(plain), binary.LittleEndian.Uint64(plain[positionSize:])}
	if begin.Seq == 0 {
		return begin, 0, corrupt(name, disk.HeaderSize, "file begins at entry 0")
	}
	return begin, sum, nil
}

// tail is the file that is appended to.
type tail struct {
	f     vfs.File
	id    disk.Header
	seal  seal.Sealer
	begin start
	end   int64  // of the durable frames
	index uint64 // of the last frame
	sum   uint64 // its checksum
	buf   []byte // the frame that is written, kept for the next one
}

// chain is the checksum of the last frame, in whatever file.
func (t *tail) chain() uint64 {
	if t.index == 0 {
		return t.begin.chain
	}
	return t.sum
}

// full tells that the next frame belongs into a new file.
func (t *tail) full(o Options) bool {
	return t.index > 0 && t.end >= o.MaxFile || t.index >= maxFrames
}

// stale tells that a new file would be sealed with another key.
func (t *tail) stale(o Options) (bool, error) {
	s, err := o.Keys.Writer(t.id.Address(0))
	if err != nil {
		return false, err
	}
	return s.KeyID() != t.id.KeyID, nil
}

// carried is a frame that recovery writes again.
type carried struct {
	body  []byte
	first uint64
	count uint32
	chain uint64 // checksum of the frame before, as a start has it
}

// create makes a new file that begins at begin, holding the frame c if there
// is one. When it returns, the file is durable under its name, and marked as
// the newest. soft tells that an error left nothing behind that matters: no
// sync failed, and no renaming that may have been done.
func create(fs vfs.FS, number uint64, begin start, c *carried, o Options) (t *tail, soft bool, err error) {
	t = &tail{begin: begin, id: disk.Header{Kind: o.Kind, Version: disk.Version, Store: o.Store, File: o.NewID(), Number: number}}
	if t.seal, err = o.Keys.Writer(t.id.Address(0)); err != nil {
		return nil, true, err
	}
	t.id.KeyID = t.seal.KeyID()
	b, sum, err := appendPrelude(nil, t.id, begin, t.seal)
	if err != nil {
		return nil, true, err
	}
	if c != nil {
		t.index = 1
		h := head{index: 1, first: c.first, count: c.count, prev: sum}
		if b, sum, err = appendFrame(b, c.body, h, t.id, t.seal); err != nil {
			return nil, true, err
		}
	}
	t.end, t.sum = int64(len(b)), sum
	if soft, err := draftMark(fs, number); err != nil {
		return nil, soft, err
	}
	if t.f, err = fs.Create(tmpName(number)); err != nil {
		return nil, true, errors.Join(err, fs.Remove(markTmpName(number)))
	}
	if err := writeAll(t.f, b); err != nil {
		return nil, errors.Is(err, vfs.ErrNoSpace), errors.Join(err, t.f.Close(), fs.Remove(tmpName(number)), fs.Remove(markTmpName(number)))
	}
	err = t.f.Sync()
	if err == nil {
		err = fs.Rename(tmpName(number), fileName(number))
		if errors.Is(err, vfs.ErrNoHandle) { // nothing was done; were it, the log could not go on in the file before
			err = errors.Join(err, t.f.Close())
			_, there := fs.Stat(fileName(number))
			return nil, errors.Is(there, iofs.ErrNotExist), errors.Join(err, fs.Remove(tmpName(number)), fs.Remove(markTmpName(number)))
		}
	}
	if err == nil && !mutant.On(mutant.LogDirNotSynced) {
		err = fs.SyncDir(dir)
	}
	if err == nil {
		err = setMark(fs, number)
	}
	if err != nil {
		return nil, false, errors.Join(err, t.f.Close())
	}
	return t, false, nil
}

// append writes one frame behind the durable ones and syncs it.
func (t *tail) append(body []byte, first uint64, count uint32) (cut bool, err error) {
	h := head{index: t.index + 1, first: first, count: count, prev: t.sum}
	frame, sum, err := appendFrame(t.buf[:0], body, h, t.id, t.seal)
	if err != nil {
		return true, err // nothing was written
	}
	t.buf = frame
	if cap(t.buf) > keepBuffer {
		t.buf = nil
	}
	if err := writeAll(t.f, frame); err != nil {
		if !errors.Is(err, vfs.ErrNoSpace) {
			return false, err // a disk that cannot write is not asked to take it back
		}
		return t.cutBack(err)
	}
	if err := t.sync(); err != nil {
		return false, fmt.Errorf("sync: %w", err)
	}
	t.end += int64(len(frame))
	t.index, t.sum = h.index, sum
	return false, nil
}

// sync makes what was appended durable. It is not tried again: after an error
// the system may report success without having written.
func (t *tail) sync() error {
	if mutant.On(mutant.LogNotSynced) {
		return nil
	}
	err := t.f.Sync()
	if err != nil && mutant.On(mutant.SyncRetried) {
		err = t.f.Sync()
	}
	return err
}

// cutBack takes away what a write left that met a full disk, so that the next frame
// follows the last good one. cut tells that this is durable.
func (t *tail) cutBack(cause error) (cut bool, err error) {
	if mutant.On(mutant.ShortWriteKept) {
		return true, cause
	}
	err = t.f.Truncate(t.end)
	if err == nil {
		err = t.f.Sync()
	}
	if err != nil {
		return false, errors.Join(cause, fmt.Errorf("cut back: %w", err))
	}
	return true, cause
}

func writeAll(w io.Writer, b []byte) error {
	n, err := w.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}
