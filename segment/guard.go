package segment

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/mutant"
)

// guard runs f, which may read the file's memory, and holds off Close and the
// eviction of decrypted blocks meanwhile: nothing that aliases the memory may
// leave f. A file that was truncated under it gives an error. That works on
// this goroutine only, so f starts none that read the file. Methods that take
// the guard do not call each other.
func (r *Reader) guard(f func() error) error {
	return r.unlessClosed(func() error {
		r.file.Hold()
		defer r.file.Free()
		return r.file.Faults(f)
	})
}

// unlessClosed is guard for an f that reads nothing that may be evicted, and may take
// its time.
func (r *Reader) unlessClosed(f func() error) error {
	if mutant.On(mutant.ReaderClosedInUse) {
		return r.named(f())
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed {
		return ErrClosed
	}
	return r.named(f())
}

// named puts the file's name in front of an error that has none.
func (r *Reader) named(err error) error {
	if err == nil {
		return nil
	}
	if c, ok := errors.AsType[*disk.CorruptError](err); ok {
		if c.File == "" {
			named := *c
			named.File = r.name
			return &named
		}
		return err
	}
	return fmt.Errorf("%s: %w", r.name, err)
}

// damaged is a finding at byte at of a section. Its offset in the file is
// where the section begins.
func damaged(s *disk.Section, at int, format string, args ...any) error {
	return &disk.CorruptError{Offset: s.Offset(),
		Err: fmt.Errorf("section %d at %d: %w", s.Kind(), at, fmt.Errorf(format, args...))}
}

// lazy is a part that is decoded when it is first asked for. Damage is final;
// after any other error the next call tries again.
type lazy[T any] struct {
	done    atomic.Pointer[outcome[T]]
	mu      sync.Mutex
	loading chan struct{} // closed when who loads it is through; guarded by mu
}

type outcome[T any] struct {
	value T
	err   error
}

// get loads the part unless it is there. Who waits for another's load waits until
// ctx is done; a load that has begun goes on to its end.
func (l *lazy[T]) get(ctx context.Context, load func() (T, error)) (value T, err error) {
	for {
		if o := l.done.Load(); o != nil {
			return o.value, o.err
		}
		l.mu.Lock()
		loading := l.loading
		if loading == nil && l.done.Load() == nil {
			l.loading = make(chan struct{})
			l.mu.Unlock()
			return l.load(load)
		}
		l.mu.Unlock()
		if loading == nil {
			continue
		}
		select {
		case <-loading:
		case <-ctx.Done():
			return value, ctx.Err()
		}
	}
}

// load is for the one that has set loading.
func (l *lazy[T]) load(load func() (T, error)) (T, error) {
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		close(l.loading)
		l.loading = nil
	}()
	value, err := load()
	if err == nil || errors.Is(err, disk.ErrCorrupt) {
		l.done.Store(&outcome[T]{value, err})
	}
	return value, err
}

// peek is the outcome of get so far.
func (l *lazy[T]) peek() (value T, done bool, err error) {
	if o := l.done.Load(); o != nil {
		return o.value, true, o.err
	}
	return value, false, nil
}
