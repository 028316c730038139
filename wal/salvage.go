package wal

import (
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/vfs"
)

// Salvage yields the entries that can still be read of a damaged log, from
// the position from on, each once and in order, and changes nothing. Where
// entries are missing, the sequence numbers leap. An error is a finding, with
// a zero Entry, and the iteration goes on; a *TornTail is one too.
//
// Every entry that is yielded is proven by the checksums of its frame. What
// was lost before an entry may have changed what the entry means: that is for
// the caller to judge.
func Salvage(fs vfs.FS, from Position, o Options) iter.Seq2[Entry, error] {
	o = o.withDefaults()
	s := &salvage{fs: fs, o: o, next: max(from.Seq, 1)}
	return func(yield func(Entry, error) bool) {
		s.yield = yield
		if err := s.run(); err != nil && !errors.Is(err, errStopped) {
			yield(Entry{}, err)
		}
	}
}

type salvage struct {
	fs    vfs.FS
	o     Options
	yield func(Entry, error) bool
	next  uint64 // sequence number of the entry that is expected
}

func (s *salvage) run() error {
	found, err := list(s.fs)
	if err != nil {
		return err
	}
	readers := make([]*reader, len(found.files))
	defer func() {
		for _, r := range readers {
			if r != nil {
				r.close()
			}
		}
	}()
	for i, f := range found.files {
		r, damage, err := openDamaged(s.fs, f.number, s.o)
		if err != nil {
			return err
		}
		if readers[i] = r; damage != nil && !s.yield(Entry{}, damage) {
			return errStopped
		}
	}
	for i, r := range readers {
		if r == nil {
			continue
		}
		limit, last := uint64(noLimit), true
		for _, after := range readers[i+1:] {
			if last = false; after != nil {
				limit = min(limit, after.begin.Seq)
			}
		}
		if limit <= s.next {
			continue
		}
		if err := s.file(r, limit, last); err != nil {
			return err
		}
	}
	if err := found.missing(); err != nil && !s.yield(Entry{}, err) {
		return errStopped
	}
	return nil
}

// file yields the entries of a file that are before limit.
func (s *salvage) file(r *reader, limit uint64, last bool) error {
	for r.seq < limit {
		f, err := r.next()
		_, torn := errors.AsType[*tornError](err)
		switch {
		case err == nil:
			if err := s.entries(f, r.begin.Epoch, limit); err != nil {
				return err
			}
			continue
		case err == io.EOF:
			return nil
		case !torn && !errors.Is(err, disk.ErrCorrupt):
			return err
		}
		tail := r.off
		more, e := r.leap()
		if e != nil {
			return e
		}
		if torn {
			err = corrupt(r.name, tail, "%w", err)
		}
		if torn && !more && last {
			err = &TornTail{File: r.name, Offset: tail, Bytes: r.win.size - tail, Err: err}
		}
		if !s.yield(Entry{}, err) {
			return errStopped
		}
		if !more {
			return nil
		}
	}
	return nil
}

func (s *salvage) entries(f frame, epoch, limit uint64) error {
	for rest, at := f.body, (Position{Epoch: epoch, Seq: f.first}); len(rest) > 0; at.Seq++ {
		var payload []byte
		payload, rest = nextEntry(rest)
		if at.Seq < s.next || at.Seq >= limit {
			continue
		}
		if s.next = at.Seq + 1; !s.yield(Entry{Position: at, Payload: payload}, nil) {
			return errStopped
		}
	}
	return nil
}

// leap makes the reader go on with the next frame behind a damaged one whose
// header is intact, if there is any.
func (r *reader) leap() (more bool, err error) {
	off, found, err := r.later()
	if err != nil || !found {
		return false, err
	}
	b, err := r.win.at(off, headSize)
	if err != nil {
		return false, fmt.Errorf("%s: %w", r.name, err)
	}
	h, err := decodeHead(b, r.id)
	if err != nil {
		return false, corrupt(r.name, off, "%w", err) // it was intact a moment ago
	}
	r.off, r.index, r.seq, r.sum = off, h.index, h.first, h.prev
	return true, nil
}

// openDamaged opens a file; when what precedes its frames is damaged, it looks
// for the one byte that is wrong there. r is nil when that is of no use.
func openDamaged(fs vfs.FS, number uint64, o Options) (r *reader, damage, err error) {
	r, err = openReader(fs, number, -1, o)
	if err == nil || !errors.Is(err, disk.ErrCorrupt) {
		return r, nil, err
	}
	damage = err
	f, err := fs.Open(fileName(number))
	if err != nil {
		return nil, damage, err
	}
	r = &reader{f: f, name: fileName(number)}
	ok, err := r.mend(number, o)
	if err != nil || !ok {
		return nil, damage, errors.Join(err, f.Close())
	}
	return r, damage, nil
}

func (r *reader) mend(number uint64, o Options) (ok bool, err error) {
	size, err := r.f.Size()
	if err != nil {
		return false, err
	}
	r.win = window{f: r.f, size: size}
	most := disk.HeaderSize + startSize + sumSize + maxOverhead
	b := make([]byte, min(size, int64(most)))
	if _, err := r.f.ReadAt(b, 0); err != nil && err != io.EOF {
		return false, err
	}
	header := func() bool {
		if len(b) < disk.HeaderSize {
			return false
		}
		r.id, r.sealer, err = decodeHeader(b[:disk.HeaderSize], r.name, number, o)
		return err == nil
	}
	if !header() && (len(b) < disk.HeaderSize || !disk.OneByte(b[:disk.HeaderSize], 256, header)) {
		return false, nil
	}
	end := preludeSize(r.sealer)
	if end > len(b) {
		return false, nil
	}
	prelude := func() bool {
		r.begin, r.sum, err = decodePrelude(b[:end], r.name, r.id, r.sealer)
		return err == nil
	}
	if !prelude() && !disk.OneByte(b[disk.HeaderSize:end], 256, prelude) {
		return false, nil
	}
	r.off, r.index, r.seq = int64(end), 1, r.begin.Seq
	return true, nil
}

// maxOverhead is more than any sealer adds to a block.
const maxOverhead = 256
