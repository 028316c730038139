package wal

import (
	"errors"
	"fmt"
)

// run is the committer, the only goroutine that writes to the log. While it
// waits for the disk, entries gather in the queue: the slower the disk, the
// larger the frames.
func (l *Log) run() {
	defer close(l.done)
	for {
		l.mu.Lock()
		for len(l.queue.marks) == 0 && len(l.rotates) == 0 && !l.closed {
			l.wake.Wait()
		}
		b, rotates, closed := l.queue, l.rotates, l.closed
		l.queue, l.rotates = l.spare, nil
		l.mu.Unlock()

		took := stopwatch()
		l.commit(&b)
		n := len(b.marks)
		b.reset()
		l.gather(n, took()/2)
		l.mu.Lock()
		l.spare = b
		l.mu.Unlock()
		for _, done := range rotates {
			done <- l.renew()
		}
		if closed && l.drained() {
			l.shut()
			return
		}
	}
}

// drained tells that nothing can come any more. Append refuses when the log
// is closed, so an empty queue stays empty.
func (l *Log) drained() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue.marks) == 0 && len(l.rotates) == 0
}

func (l *Log) shut() {
	err := l.tail.f.Close()
	l.mu.Lock()
	l.closing = errors.Join(l.closing, err)
	l.mu.Unlock()
}

// commit writes the entries of b, as many at a time as a frame may hold.
func (l *Log) commit(b *batch) {
	start := 0
	for marks := b.marks; len(marks) > 0; {
		n := 1
		for n < len(marks) && marks[n].end-start <= l.o.MaxFrame {
			n++
		}
		end := marks[n-1].end
		err := l.write(b.bytes[start:end], uint32(n))
		l.acknowledge(marks[:n], err)
		start, marks = end, marks[n:]
	}
}

// acknowledge tells the outcome of one frame.
func (l *Log) acknowledge(marks []mark, err error) {
	n := uint64(len(marks))
	l.mu.Lock()
	at := Position{Epoch: l.o.Epoch, Seq: l.seq}
	l.pending -= n
	if err == nil {
		l.seq += n
		l.files[len(l.files)-1].size = l.tail.end
	}
	l.mu.Unlock()
	for _, m := range marks {
		if err != nil {
			m.done(Position{}, err)
			continue
		}
		m.done(at, nil)
		at.Seq++
	}
}

// write makes one frame durable. Its error is ErrRefused when the log is as it
// was, ErrUnknown when that cannot be told.
func (l *Log) write(body []byte, count uint32) error {
	if err := l.Err(); err != nil {
		return refuse(err)
	}
	if l.tail.full(l.o) {
		// The old file will do when there is no room for a new one.
		if soft, err := l.rotate(); err != nil && !soft {
			return refuse(l.fail(err))
		}
	}
	cut, err := l.tail.append(body, l.seq, count)
	switch {
	case err == nil:
		return nil
	case cut:
		return refuse(err)
	}
	return fmt.Errorf("%w: %w", ErrUnknown, l.fail(err))
}

// renew is Rotate in the committer.
func (l *Log) renew() error {
	if err := l.Err(); err != nil {
		return err
	}
	if l.tail.index == 0 {
		if stale, err := l.tail.stale(l.o); !stale {
			return err
		}
	}
	soft, err := l.rotate()
	if err != nil && !soft {
		return l.fail(err)
	}
	return err
}

// rotate puts a new file in the place of the last one. soft tells that the log
// can go on without.
func (l *Log) rotate() (soft bool, err error) {
	begin := start{Position{Epoch: l.o.Epoch, Seq: l.seq}, l.tail.chain()}
	l.number++ // also when it fails: what is left behind may keep its name
	t, soft, err := create(l.fs, l.number, begin, nil, l.o)
	if err != nil {
		return soft, fmt.Errorf("new file: %w", err)
	}
	// Its frames are synced, and a larger mark counts, so these decide nothing;
	// Close reports them.
	closing := errors.Join(l.tail.f.Close(), removeMarks(l.fs, l.tail.id.Number))
	t.buf = l.tail.buf
	l.tail = t
	l.mu.Lock()
	l.files = append(l.files, file{number: l.number, begin: begin.Position, size: t.end})
	l.closing = errors.Join(l.closing, closing)
	l.mu.Unlock()
	return false, nil
}
