package wal

import (
	"errors"
	"io"
	"iter"

	"github.com/chromad/chromad/internal/vfs"
)

// Frame describes a frame to those who look into a log.
type Frame struct {
	File   string
	Offset int64 // in the file, in bytes
	Bytes  int64 // of the whole frame
	Index  uint64
	First  Position
	Count  int
}

// Frames yields the frames of every file that is there, in order, changing
// nothing. An error is a finding about one file, and where its good frames
// end; the iteration goes on with the next file. A torn tail is a finding
// too: Frames does not judge.
func Frames(fs vfs.FS, o Options) iter.Seq2[Frame, error] {
	o = o.withDefaults()
	return func(yield func(Frame, error) bool) {
		files, _, err := listFiles(fs)
		if err != nil {
			yield(Frame{}, err)
			return
		}
		for _, f := range files {
			if !inspect(fs, f.number, o, yield) {
				return
			}
		}
	}
}

// inspect yields the frames of one file. more is false when the caller has
// seen enough.
func inspect(fs vfs.FS, number uint64, o Options, yield func(Frame, error) bool) (more bool) {
	r, err := openReader(fs, number, -1, o)
	if err != nil {
		return yield(Frame{}, err)
	}
	more = true
	defer func() {
		if err := r.close(); err != nil && more {
			more = yield(Frame{}, err)
		}
	}()
	for more {
		f, err := r.next()
		if err == io.EOF {
			break
		}
		if _, torn := errors.AsType[*tornError](err); torn {
			err = corrupt(r.name, r.off, "%w", err)
		}
		if err != nil {
			return yield(Frame{}, err)
		}
		first := Position{Epoch: r.begin.Epoch, Seq: f.first}
		more = yield(Frame{r.name, f.off, f.size(), f.index, first, int(f.count)}, nil)
	}
	return more
}
