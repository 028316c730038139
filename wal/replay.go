package wal

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/mutant"
)

// Entry is a payload and its place in the log.
type Entry struct {
	Position Position
	Payload  []byte // valid until the next step of the iteration
}

var errStopped = errors.New("stopped by the caller")

// Replay yields the entries from the position that Open was given, in order.
// An error is yielded once, last. When the iteration comes to its end for the
// first time, the log makes durable what it has yielded, and can be appended
// to. It may be called again, but not beside Release.
func (l *Log) Replay() iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if err := l.replay(yield); err != nil && !errors.Is(err, errStopped) {
			yield(Entry{}, fmt.Errorf("replay: %w", err))
		}
	}
}

func (l *Log) replay(yield func(Entry, error) bool) error {
	l.mu.Lock()
	files, started, closed := slices.Clone(l.files), l.started, l.closed
	l.mu.Unlock()
	end := int64(-1)
	if started && len(files) > 0 && !l.o.ReadOnly {
		end = files[len(files)-1].size
	}
	if closed {
		return ErrClosed
	}
	p := pass{l: l, yield: yield, seq: l.from.Seq, durable: end >= 0}
	for i := l.skip(files); i < len(files); i++ {
		limit, until := uint64(noLimit), end
		if i+1 < len(files) {
			limit, until = files[i+1].begin.Seq, -1
		}
		f := files[i]
		if err := p.file(f, limit, until); err != nil {
			return err
		}
	}
	if p.seq < l.needed() {
		return corrupt(p.name, p.off, "log ends before entry %d, the checkpoint knows of %d", p.seq, l.needed()-1)
	}
	if started {
		return nil
	}
	return l.start(start{Position{Epoch: l.o.Epoch, Seq: p.seq}, p.sum}, p.last)
}

// skip is how many of the first files end before the position that Open was
// given. They are neither read nor missed.
func (l *Log) skip(files []file) int {
	n := 0
	for n+1 < len(files) && files[n+1].begin.Seq <= l.from.Seq {
		n++
	}
	return n
}

// pass is one run of Replay.
type pass struct {
	l       *Log
	yield   func(Entry, error) bool
	durable bool // what is in the last file is known to be durable

	name string // of the last file read
	off  int64  // where its good frames end
	seq  uint64 // of the entry that follows
	sum  uint64 // of the frame before, in whatever file
	last *carried
}

// file replays the entries of f that are before limit, the beginning of the
// next file.
func (p *pass) file(f file, limit uint64, end int64) (err error) {
	r, err := openReader(p.l.fs, f.number, end, p.l.o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	if p.name != "" {
		if err := r.continues(p.name, p.sum); err != nil {
			return err
		}
	}
	proof := ""
	switch {
	case limit != noLimit:
		proof = isFollowed
	case p.durable:
		proof = isDurable
	}
	var last frame
	for {
		fr, err := r.step(limit, proof)
		if _, torn := errors.AsType[*TornTail](err); torn || err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := p.entries(fr, r.begin.Epoch); err != nil {
			return err
		}
		last = fr
	}
	p.sum = r.chain()
	p.name, p.off, p.seq, p.last = r.name, r.off, r.seq, nil
	if limit == noLimit && !p.durable && !p.l.o.ReadOnly && last.count > 0 && !mutant.On(mutant.LastFrameNotCarried) {
		return p.carry(r, last)
	}
	return nil
}

// entries yields those entries of a frame that are not before the start.
func (p *pass) entries(f frame, epoch uint64) error {
	for rest, at := f.body, (Position{Epoch: epoch, Seq: f.first}); len(rest) > 0; at.Seq++ {
		var payload []byte
		payload, rest = nextEntry(rest)
		if at.Seq >= p.l.from.Seq && !p.yield(Entry{Position: at, Payload: payload}, nil) {
			return errStopped
		}
	}
	return nil
}

// carry keeps the last frame of the last file, which nothing proves durable.
func (p *pass) carry(r *reader, last frame) error {
	last, err := r.again(last)
	if err != nil {
		if _, torn := errors.AsType[*tornError](err); torn || err == io.EOF {
			return corrupt(r.name, last.off, "frame changed between two readings")
		}
		return err
	}
	p.last = &carried{body: last.body, first: last.first, count: last.count, chain: last.prev}
	if last.index == 1 {
		p.last.chain = r.begin.chain
	}
	return nil
}

// start makes the log ready for entries from next on, in a new file that begins
// with the frame last.
func (l *Log) start(next start, last *carried) error {
	if !l.o.ReadOnly {
		if err := l.renovate(next, last); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq, l.started = next.Seq, true
	if l.o.ReadOnly {
		return nil
	}
	if l.closed {
		l.started = false
		return errors.Join(ErrClosed, l.tail.f.Close())
	}
	go l.run()
	return nil
}

// renovate gives the log the file that it goes on in.
func (l *Log) renovate(next start, last *carried) error {
	if err := l.fs.Mkdir(dir); err != nil {
		return err
	}
	if err := l.fs.SyncDir("."); err != nil {
		return err
	}
	if err := l.sweep(); err != nil {
		return err
	}
	begin := next
	if last != nil {
		begin = start{Position{Epoch: l.files[len(l.files)-1].begin.Epoch, Seq: last.first}, last.chain}
	}
	t, err := l.extend(begin, last)
	if err != nil {
		return err
	}
	if err := errors.Join(l.supersede(), removeMarks(l.fs, l.marks...)); err != nil {
		return errors.Join(err, t.f.Close())
	}
	l.marks = nil
	if begin.Epoch < l.o.Epoch { // an epoch is a whole file's: new entries need their own
		if err := t.f.Close(); err != nil {
			return err
		}
		old := t.id.Number
		if t, err = l.extend(start{next.Position, t.chain()}, nil); err != nil {
			return err
		}
		if err := removeMarks(l.fs, old); err != nil {
			return errors.Join(err, t.f.Close())
		}
	}
	l.tail = t
	return nil
}

// extend creates the next file.
func (l *Log) extend(begin start, last *carried) (*tail, error) {
	l.number++
	t, _, err := create(l.fs, l.number, begin, last, l.o)
	if err != nil {
		return nil, fmt.Errorf("new file: %w", err)
	}
	l.mu.Lock()
	l.files = append(l.files, file{number: l.number, begin: begin.Position, size: t.end})
	l.mu.Unlock()
	return t, nil
}

// sweep removes what an interrupted creation left behind.
func (l *Log) sweep() error {
	list, err := l.fs.List(dir)
	if err != nil {
		return err
	}
	for _, i := range list {
		for _, suffix := range []string{tmpSuffix, markTmpSuffix} {
			number, ours := disk.Number(i.Name, suffix)
			if !ours {
				continue
			}
			l.number = max(l.number, number) // in case it cannot be removed
			if !i.Regular {
				continue
			}
			if err := l.fs.Remove(disk.Name(dir, number, suffix)); err != nil {
				return err
			}
		}
	}
	return nil
}

// supersede removes the files whose every entry stands in the last one too,
// so that opening a store many times leaves no trail.
func (l *Log) supersede() error {
	last := len(l.files) - 1
	n := last
	for n > 0 && l.files[n-1].begin.Seq >= l.files[last].begin.Seq {
		n--
		if err := l.fs.Remove(fileName(l.files[n].number)); err != nil {
			return err
		}
	}
	l.mu.Lock()
	l.files = slices.Delete(l.files, n, last)
	l.mu.Unlock()
	return nil
}
