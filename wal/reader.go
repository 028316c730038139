package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/mutant"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

// readAhead is how many bytes are read at once when frames are small.
const readAhead = 256 << 10

// window reads a file through one buffer, which never grows beyond the file.
type window struct {
	f    io.ReaderAt
	size int64
	buf  []byte
	off  int64 // of buf in the file
}

// at returns n bytes at off, valid until the next call. The caller has made
// sure that the file is that long.
func (w *window) at(off int64, n int) ([]byte, error) {
	if off < w.off || off+int64(n) > w.off+int64(len(w.buf)) {
		if err := w.fill(off, n); err != nil {
			return nil, err
		}
	}
	p := w.buf[off-w.off:]
	return p[:n:n], nil
}

func (w *window) fill(off int64, n int) error {
	n = int(min(max(int64(n), readAhead), w.size-off))
	if cap(w.buf) < n {
		w.buf = make([]byte, n) // at most the size of the file
	}
	w.buf, w.off = w.buf[:n], off
	got, err := w.f.ReadAt(w.buf, off)
	if got == n {
		return nil
	}
	w.buf = w.buf[:0]
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read at %d: %w", off, err)
}

// reader reads the frames of one file in their order.
type reader struct {
	f      vfs.File
	name   string
	sealer seal.Sealer
	id     disk.Header
	begin  start
	win    window
	body   []byte // of the frame last read, when it had to be decrypted

	off   int64  // of the frame that is expected
	index uint64 // its index
	seq   uint64 // its first entry
	sum   uint64 // checksum of the frame before
}

// openReader opens a file and checks its header. Frames are read from the
// bytes before end, or all that are there when end is negative.
func openReader(fs vfs.FS, number uint64, end int64, o Options) (*reader, error) {
	name := fileName(number)
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	r := &reader{f: f, name: name}
	if err := r.start(number, end, o); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return r, nil
}

func (r *reader) start(number uint64, end int64, o Options) error {
	size, err := r.f.Size()
	if err != nil {
		return fmt.Errorf("%s: %w", r.name, err)
	}
	if end >= 0 {
		size = min(size, end)
	}
	r.win = window{f: r.f, size: size}
	b, err := r.win.at(0, int(min(size, disk.HeaderSize)))
	if err != nil {
		return fmt.Errorf("%s: %w", r.name, err)
	}
	if r.id, r.sealer, err = decodeHeader(b, r.name, number, o); err != nil {
		return err
	}
	prelude := int(min(size, int64(preludeSize(r.sealer))))
	if b, err = r.win.at(0, prelude); err != nil {
		return fmt.Errorf("%s: %w", r.name, err)
	}
	if r.begin, r.sum, err = decodePrelude(b, r.name, r.id, r.sealer); err != nil {
		return err
	}
	r.off, r.index, r.seq = int64(prelude), 1, r.begin.Seq
	return nil
}

func (r *reader) close() error { return r.f.Close() }

// frame is a frame that was read.
type frame struct {
	head
	off  int64
	sum  uint64 // its checksum
	body []byte // opened; valid until the next read
}

// TornTail says that a file ends in a frame that was never acknowledged, and
// that this is no damage: the log ends before it.
type TornTail struct {
	File   string
	Offset int64 // of the frame, in bytes
	Bytes  int64 // from there to the end of the file
	Err    error // what is wrong with the frame
}

// Error says where the tail is and how it is torn.
func (t *TornTail) Error() string {
	return fmt.Sprintf("%s: at %d: torn tail of %d bytes: %v", t.File, t.Offset, t.Bytes, t.Err)
}

// Unwrap returns Err.
func (t *TornTail) Unwrap() error { return t.Err }

// tornError is a frame that is damaged: cut short, or not what its checksums
// say. Only its surroundings tell what that means.
type tornError struct{ err error }

func (e *tornError) Error() string { return e.err.Error() }

// next reads the frame that is expected. io.EOF says that the file ends before
// it, a *tornError that it is damaged. A disk.CorruptError is an intact frame
// that does not belong here.
func (r *reader) next() (frame, error) {
	h, raw, sum, err := r.load()
	if _, torn := errors.AsType[*tornError](err); torn {
		// A damaged frame decides over what was acknowledged, so what the
		// device says is not believed on one reading.
		r.win.buf = r.win.buf[:0]
		h, raw, sum, err = r.load()
	}
	if err != nil {
		return frame{}, err
	}
	body := raw[headSize:] // with an overhead of 0 it is the block itself
	if r.sealer.Overhead() > 0 {
		if body, err = r.sealer.Open(r.body[:0], body, r.id.Address(h.index), raw[:headSumAt]); err != nil {
			return frame{}, corrupt(r.name, r.off, "frame %d: %w", h.index, err)
		}
		r.body = body
	}
	if err := checkBody(body, h.count); err != nil {
		return frame{}, corrupt(r.name, r.off, "frame %d: %w", h.index, err)
	}
	f := frame{head: h, off: r.off, body: body, sum: sum}
	r.off += h.size()
	r.index, r.seq, r.sum = h.index+1, r.seq+uint64(h.count), sum
	return f, nil
}

// load reads and checks the bytes of the expected frame, and returns those
// that its checksum sum covers.
func (r *reader) load() (h head, raw []byte, sum uint64, err error) {
	left := r.win.size - r.off
	if left == 0 {
		return h, nil, 0, io.EOF
	}
	if left < frameOverhead {
		return h, nil, 0, &tornError{fmt.Errorf("file ends in a frame header")}
	}
	b, err := r.win.at(r.off, headSize)
	if err != nil {
		return h, nil, 0, fmt.Errorf("%s: %w", r.name, err)
	}
	if h, err = decodeHead(b, r.id); err != nil {
		return h, nil, 0, &tornError{err}
	}
	if err := h.follows(r.index, r.seq, r.sum); err != nil {
		if _, torn := errors.AsType[*tornError](err); !torn {
			err = corrupt(r.name, r.off, "%w", err)
		}
		return h, nil, 0, err
	}
	if h.size() > left {
		return h, nil, 0, &tornError{fmt.Errorf("frame of %d bytes, %d left in the file", h.size(), left)}
	}
	if b, err = r.win.at(r.off, int(h.size())); err != nil {
		return h, nil, 0, fmt.Errorf("%s: %w", r.name, err)
	}
	end := len(b) - sumSize
	sum = seal.Sum(b[:end], r.id.Address(h.index))
	if sum != binary.LittleEndian.Uint64(b[end:]) && !mutant.On(mutant.FrameSumIgnored) {
		return h, nil, 0, &tornError{fmt.Errorf("frame %d: %w", h.index, errChecksum)}
	}
	return h, b[:end], sum, nil
}

// continues checks that the file takes up where the file before, whose last
// frame has the checksum sum, ends.
func (r *reader) continues(before string, sum uint64) error {
	if r.begin.chain != sum && !mutant.On(mutant.ChainIgnored) {
		return corrupt(r.name, disk.HeaderSize, "file does not continue %s", before)
	}
	return nil
}

// chain is the checksum of the last frame read, in whatever file.
func (r *reader) chain() uint64 {
	if r.index == 1 {
		return r.begin.chain
	}
	return r.sum
}

// What proves that a file has no torn frame.
const (
	isFollowed = "another file follows"
	isDurable  = "it was durable"
)

// step reads the next frame of those before limit, the entry with which the
// next file begins, or noLimit. Instead of a frame it returns io.EOF at their
// end, a *TornTail, or what is wrong. proof says why no frame of the file can
// be torn, and is empty when the last one can.
func (r *reader) step(limit uint64, proof string) (frame, error) {
	if r.seq >= limit {
		return frame{}, io.EOF
	}
	f, err := r.next()
	_, torn := errors.AsType[*tornError](err)
	switch {
	case torn:
		return frame{}, r.judge(proof, err)
	case err == io.EOF && limit != noLimit:
		return frame{}, corrupt(r.name, r.off, "file ends before entry %d, the next one begins at %d", r.seq, limit)
	case err == nil && r.seq > limit:
		return frame{}, corrupt(r.name, f.off, "entries %d to %d, but the next file begins at %d", f.first, r.seq-1, limit)
	}
	return f, err
}

// judge decides what a damaged frame means.
func (r *reader) judge(proof string, damage error) error {
	if proof != "" {
		return corrupt(r.name, r.off, "%w, and %s", damage, proof)
	}
	off, found, err := r.later()
	switch {
	case err != nil:
		return err
	case found:
		return corrupt(r.name, r.off, "%w, and a later frame follows at %d", damage, off)
	}
	return &TornTail{File: r.name, Offset: r.off, Bytes: r.win.size - r.off, Err: damage}
}

// again reads the frame f, which next has returned, once more.
func (r *reader) again(f frame) (frame, error) {
	old := *r
	r.off, r.index, r.seq, r.sum = f.off, f.index, f.first, f.prev
	g, err := r.next()
	r.off, r.index, r.seq, r.sum = old.off, old.index, old.seq, old.sum
	return g, err
}

// later looks behind the first byte of a damaged frame for the header of a
// frame that was written after it.
func (r *reader) later() (off int64, found bool, err error) {
	for off = r.off + 1; off+frameOverhead <= r.win.size; {
		n := int(min(readAhead, r.win.size-off))
		b, err := r.win.at(off, n)
		if err != nil {
			return 0, false, fmt.Errorf("%s: %w", r.name, err)
		}
		i := 0
		for ; i+headSize <= n; i++ {
			next := bytes.Index(b[i:], []byte(frameMagic))
			if next < 0 {
				i = n - len(frameMagic) + 1 // the last bytes may begin one
				break
			}
			if i += next; i+headSize > n {
				break
			}
			if h, err := decodeHead(b[i:i+headSize], r.id); err == nil && h.index > r.index {
				return off + int64(i), true, nil
			}
		}
		off += int64(i)
	}
	return 0, false, nil
}

// noLimit is the end of a file that no other one follows.
const noLimit = math.MaxUint64
