package wal

import (
	"errors"
	"io"
	"iter"
	"slices"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

// FileInfo describes a file of the log to those who look into one.
type FileInfo struct {
	Name   string
	Number uint64
	Size   int64 // in bytes

	// What the file says of itself, zero when that cannot be read.
	ID     seal.ID
	KeyID  uint32   // 0: not encrypted
	Begin  Position // of its first entry
	Chain  uint64   // checksum of the last frame before, 0 for none
	Frames int64    // where its first frame begins, in bytes
}

// FrameInfo describes a frame.
type FrameInfo struct {
	File   string
	Offset int64  // in the file, in bytes
	Bytes  int64  // of the whole frame
	Index  uint64 // in the file, from 1
	First  Position
	Count  int    // of entries
	Stored int    // bytes of the body as it is stored
	Plain  int    // bytes of the body when it is opened
	KeyID  uint32 // 0: not encrypted
	Sum    uint64 // its checksum, which the next frame names

	body []byte
}

// Entries yields the entries of the frame. It is valid until the next step of
// the iteration that yielded the frame.
func (f FrameInfo) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for rest, at := f.body, f.First; len(rest) > 0; at.Seq++ {
			var payload []byte
			payload, rest = nextEntry(rest)
			if !yield(Entry{at, payload}) {
				return
			}
		}
	}
}

// Files yields the files of the log, in order, and changes nothing. An error
// is a finding about the file that it comes with, of which the name, the
// number and the size are known; the iteration goes on. A file that should be
// there and is missing comes last, with its error. What Open would be asked
// for is not known here: files that no checkpoint needs are judged as well,
// and nobody says which the first one has to be.
func Files(fs vfs.FS, o Options) iter.Seq2[FileInfo, error] {
	o = o.withDefaults()
	return func(yield func(FileInfo, error) bool) {
		found, err := list(fs)
		if err != nil {
			yield(FileInfo{Name: dir}, err)
			return
		}
		var before FileInfo
		for i, f := range found.files {
			info := FileInfo{Name: fileName(f.number), Number: f.number, Size: f.size}
			err := info.read(fs, o, len(found.marks) == 0 && i == len(found.files)-1)
			if err == nil && (info.Begin.Epoch < before.Begin.Epoch || info.Begin.Seq < before.Begin.Seq) {
				err = corrupt(info.Name, 0, "file begins at %v, and %s before it at %v", info.Begin, before.Name, before.Begin)
			}
			if info.Frames > 0 {
				before = info
			}
			if !yield(info, err) {
				return
			}
		}
		if err := found.missing(); err != nil {
			newest := found.marks[len(found.marks)-1]
			yield(FileInfo{Name: fileName(newest), Number: newest}, err)
		} else if len(found.files) == 0 && o.Existing {
			yield(FileInfo{Name: dir}, corrupt(dir, 0, "no file, but there was a log"))
		}
	}
}

// read fills in what the file says of itself. last tells that it is the newest
// of a log without a mark.
func (i *FileInfo) read(fs vfs.FS, o Options, last bool) error {
	r, err := openReader(fs, i.Number, -1, o)
	if err != nil {
		if h, e := disk.ReadHeader(fs, i.Name); e == nil { // of a file without its key
			i.ID, i.KeyID = h.File, h.KeyID
		}
		return err
	}
	i.ID, i.KeyID, i.Begin, i.Chain, i.Frames = r.id.File, r.id.KeyID, r.begin.Position, r.begin.chain, r.off
	if last {
		err = r.unmarked()
	}
	return errors.Join(err, r.close())
}

// Frames yields the frames of a file up to where the next file begins: what
// is behind is dead and of no meaning. It changes nothing. An error is
// yielded once, last: a *TornTail, which is no damage unless a checkpoint lies
// beyond, or else a finding, most often a disk.CorruptError that says where
// the good frames end. A next file that does not go on where this one ends is
// a finding too.
func Frames(fs vfs.FS, number uint64, o Options) iter.Seq2[FrameInfo, error] {
	o = o.withDefaults()
	return func(yield func(FrameInfo, error) bool) {
		if err := inspect(fs, number, o, yield); err != nil && !errors.Is(err, errStopped) {
			yield(FrameInfo{File: fileName(number)}, err)
		}
	}
}

func inspect(fs vfs.FS, number uint64, o Options, yield func(FrameInfo, error) bool) (err error) {
	next, err := following(fs, number, o)
	if err != nil {
		return err
	}
	r, err := openReader(fs, number, -1, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	for {
		f, err := r.step(next.limit, next.proof)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		info := FrameInfo{
			File: r.name, Offset: f.off, Bytes: f.size(), Index: f.index, Count: int(f.count), Stored: int(f.length),
			First: Position{Epoch: r.begin.Epoch, Seq: f.first}, Plain: len(f.body), KeyID: r.id.KeyID, Sum: f.sum, body: f.body,
		}
		if !yield(info, nil) {
			return errStopped
		}
	}
	if next.reader != nil {
		return next.continues(r.name, r.chain())
	}
	return nil
}

// successor is what the file after one says about its end.
type successor struct {
	*reader        // closed; nil when there is none that can be read
	limit   uint64 // noLimit when that is not known
	proof   string // that no frame is torn
}

func following(fs vfs.FS, number uint64, o Options) (successor, error) {
	next := successor{limit: noLimit}
	found, err := list(fs)
	if err != nil {
		return next, err
	}
	i := slices.IndexFunc(found.files, func(f file) bool { return f.number > number })
	if i < 0 {
		return next, nil
	}
	next.proof = isFollowed
	r, err := openReader(fs, found.files[i].number, -1, o)
	if err != nil {
		return next, nil // a finding about that file
	}
	next.reader, next.limit = r, r.begin.Seq
	return next, r.close()
}
