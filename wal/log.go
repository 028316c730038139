package wal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	iofs "io/fs"
	"sync"

	"github.com/chromad/chromad/internal/vfs"
)

// Log is an open log. Its methods may be called concurrently, unless they say
// otherwise.
type Log struct {
	fs   vfs.FS
	o    Options
	from Position

	// Of the committer alone, and of Replay before it runs.
	tail   *tail
	number uint64   // largest file number ever given
	marks  []uint64 // that were there when the log was opened

	done    chan struct{} // closed when the committer has ended
	waiters sync.Pool     // of *waiter

	// removal is held while files are removed; it is taken before mu.
	removal sync.Mutex

	mu      sync.Mutex // guards what follows
	wake    sync.Cond  // something for the committer to do
	files   []file     // ascending
	seq     uint64     // of the entry that follows the durable ones
	pending uint64     // entries queued or being written
	queue   batch
	spare   batch // an empty one, for its memory
	rotates []chan error
	started bool
	closed  bool
	err     error // latched
	closing error // what Close returns
}

// Open reads the directory "log" of fs. from is the first position that must
// be there, which is the one after the last that the checkpoint covers: files
// that end below it are ignored, and may be missing; the newest file may not.
// Call Replay to its end before the first Append. Errors: disk.CorruptError, disk.ErrFormat for a
// file of a newer version, disk.ErrKey, ErrEpoch. Nothing is written.
func Open(fs vfs.FS, from Position, o Options) (*Log, error) {
	l := &Log{fs: fs, o: o.withDefaults(), from: from, done: make(chan struct{})}
	l.from.Seq = max(from.Seq, 1)
	l.seq = l.from.Seq
	l.wake.L = &l.mu
	l.waiters.New = func() any { return newWaiter() }
	if err := l.find(); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return l, nil
}

// find reads the headers of the files, last one first, down to the one that
// holds the position from. Files before that one are of no interest, be they
// damaged or missing.
func (l *Log) find() (err error) {
	found, err := list(l.fs)
	if err == nil {
		err = found.missing()
	}
	if err != nil {
		return err
	}
	l.files, l.number, l.marks = found.files, found.number, found.marks
	switch {
	case len(l.files) > 0:
	case l.o.New:
		return nil
	case l.needed() > 1:
		return corrupt(dir, 0, "no file, but the checkpoint knows of entries up to %d", l.needed()-1)
	case l.o.Existing:
		return corrupt(dir, 0, "no file, but there was a log")
	default:
		return nil
	}
	begin := Position{Epoch: l.o.Epoch, Seq: noLimit}
	for i := len(l.files) - 1; i >= 0; i-- {
		f := &l.files[i]
		if begin.Seq <= l.from.Seq {
			f.begin = begin // not later than this, which is all that Release asks
			continue
		}
		r, err := openReader(l.fs, f.number, -1, l.o)
		if err != nil {
			return err
		}
		if len(l.marks) == 0 && i == len(l.files)-1 {
			err = r.unmarked()
		}
		if err := errors.Join(err, r.close()); err != nil {
			return err
		}
		f.begin = r.begin.Position
		switch {
		case i == len(l.files)-1 && l.o.ReadOnly:
		case i == len(l.files)-1 && f.begin.Epoch > begin.Epoch:
			return fmt.Errorf("%s: epoch %d, asked for %d: %w", r.name, f.begin.Epoch, begin.Epoch, ErrEpoch)
		case f.begin.Epoch > begin.Epoch || f.begin.Seq > begin.Seq:
			return corrupt(r.name, 0, "file begins at %v, the next one at %v", f.begin, begin)
		}
		begin = f.begin
	}
	if begin.Seq > l.from.Seq {
		return corrupt(fileName(l.files[0].number), 0, "first file begins at entry %d, entries from %d on are missing", begin.Seq, l.from.Seq)
	}
	return nil
}

// needed is the first entry that nobody knows to have been durable.
func (l *Log) needed() uint64 { return max(l.from.Seq, l.o.Last+1) }

// Append queues a copy of payload and returns at once; the order of the calls
// is the order of the entries. When the entry is durable, or has failed, done
// is called exactly once, in order, from the goroutine that writes the log:
// it must be quick and may not wait for the log. done may be called before
// Append returns.
//
// done is given the entry's position, or an error: ErrRefused (the entry is
// not in the log, and never will be) or ErrUnknown (it may be there after the
// next Open). Both wrap their cause, and ErrFailed when the log stopped.
//
// An error of Append itself wraps ErrRefused, and done is not called.
func (l *Log) Append(payload []byte, done func(Position, error)) error {
	if len(payload) > MaxPayload {
		return refuse(fmt.Errorf("%d bytes: %w", len(payload), ErrTooLarge))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.unwritable(); err != nil {
		return refuse(err)
	}
	idle := len(l.queue.marks) == 0
	l.queue.add(payload, done)
	l.pending++
	if idle {
		l.wake.Signal()
	}
	return nil
}

// unwritable says why nothing can be changed, holding mu.
func (l *Log) unwritable() error {
	switch {
	case l.err != nil:
		return l.err
	case l.closed:
		return ErrClosed
	case l.o.ReadOnly:
		return ErrReadOnly
	case !l.started:
		return ErrNotReplayed
	}
	return nil
}

// A waiter is where Commit waits.
type waiter struct {
	result chan outcome
	done   func(Position, error)
}

type outcome struct {
	at  Position
	err error
}

func newWaiter() *waiter {
	w := &waiter{result: make(chan outcome, 1)}
	w.done = func(at Position, err error) { w.result <- outcome{at, err} }
	return w
}

// Commit appends payload and waits until it is durable. When ctx ends before,
// the error wraps ErrUnknown and the reason.
func (l *Log) Commit(ctx context.Context, payload []byte) (Position, error) {
	if err := ctx.Err(); err != nil {
		return Position{}, refuse(err)
	}
	w := l.waiters.Get().(*waiter)
	if err := l.Append(payload, w.done); err != nil {
		l.waiters.Put(w)
		return Position{}, err
	}
	select {
	case r := <-w.result:
		l.waiters.Put(w)
		return r.at, r.err
	case <-ctx.Done():
		return Position{}, fmt.Errorf("%w: %w", ErrUnknown, ctx.Err())
	}
}

// Next is the position that the next entry gets, provided that none of those
// that are queued is refused.
func (l *Log) Next() Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Position{Epoch: l.o.Epoch, Seq: l.seq + l.pending}
}

// End is the position after the last durable entry. No entry that is queued
// or comes later gets a smaller one.
func (l *Log) End() Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Position{Epoch: l.o.Epoch, Seq: l.seq}
}

// Size is the length in bytes of the log's files.
func (l *Log) Size() (n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.files {
		n += f.size
	}
	return n
}

// Err is what stopped the log, wrapping ErrFailed; nil while it works.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// fail stops the log, once and for ever. Nothing is tried again: after a
// failed sync the system may report success without having written.
func (l *Log) fail(cause error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = fmt.Errorf("%w: %w", ErrFailed, cause)
	}
	return l.err
}

// Rotate starts a new file, sealed with the newest key, unless the last one
// holds no entry yet and has that key. It may not be called from an entry's
// done.
//
// After Rotate, Release(End()) leaves no file with an entry in it.
func (l *Log) Rotate() error {
	l.mu.Lock()
	if err := l.unwritable(); err != nil {
		l.mu.Unlock()
		return fmt.Errorf("rotate log: %w", err)
	}
	done := make(chan error, 1)
	l.rotates = append(l.rotates, done)
	l.wake.Signal()
	l.mu.Unlock()
	if err := <-done; err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	return nil
}

// Release removes the files whose entries are all before the given position.
// Only what a durable checkpoint covers may be released. The last file stays.
func (l *Log) Release(before Position) error {
	l.removal.Lock()
	defer l.removal.Unlock()
	removed := false
	for {
		name, err := l.releasable(before)
		if err == nil && name != "" {
			err = l.fs.Remove(name)
		}
		if err != nil && !errors.Is(err, iofs.ErrNotExist) {
			return fmt.Errorf("release log: %w", err)
		}
		if name == "" {
			break
		}
		removed = true
		l.mu.Lock()
		l.files = l.files[1:]
		l.mu.Unlock()
	}
	if !removed {
		return nil
	}
	if err := l.fs.SyncDir(dir); err != nil {
		return fmt.Errorf("release log: %w", l.fail(err))
	}
	return nil
}

// releasable names the first file if it may be removed.
func (l *Log) releasable(before Position) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.unwritable(); err != nil {
		return "", err
	}
	if len(l.files) < 2 || l.files[1].begin.Seq > before.Seq {
		return "", nil
	}
	return fileName(l.files[0].number), nil
}

// Close commits what is queued and stops. It returns the latched failure, if
// there is one, and the same again when it is called again.
func (l *Log) Close() error {
	l.mu.Lock()
	l.closed = true
	running := l.started && !l.o.ReadOnly
	l.wake.Signal()
	l.mu.Unlock()
	if running {
		<-l.done
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.err, l.closing)
}

// batch is a queue of entries. Its bytes are the body of a frame.
type batch struct {
	bytes []byte
	marks []mark
}

// mark is where an entry ends, and whom to tell.
type mark struct {
	end  int
	done func(Position, error)
}

func (b *batch) add(payload []byte, done func(Position, error)) {
	b.bytes = binary.AppendUvarint(b.bytes, uint64(len(payload)))
	b.bytes = append(b.bytes, payload...)
	b.marks = append(b.marks, mark{end: len(b.bytes), done: done})
}

// keepBuffer is the largest buffer in bytes that is kept for the next use.
const keepBuffer = 8 << 20

// reset empties b and keeps its memory, unless that has become large.
func (b *batch) reset() {
	clear(b.marks)
	b.marks = b.marks[:0]
	if b.bytes = b.bytes[:0]; cap(b.bytes) > keepBuffer {
		b.bytes = nil
	}
}
