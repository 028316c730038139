package segment

import (
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/vfs"
)

var errTruncated = errors.New("the file is shorter than it was when it was opened")

// guard runs f, which may read the file's memory, and holds off Close
// meanwhile. A file that was truncated after it was mapped makes such a read
// fault, which would end the process: the fault becomes an error. That works
// on this goroutine only, so f starts none that read the file. Methods that
// take the guard do not call each other.
func (r *Reader) guard(f func() error) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed {
		return ErrClosed
	}
	return r.named(r.faults(f))
}

// faults is the part of guard that may be nested.
func (r *Reader) faults(f func() error) (err error) {
	before := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(before)
		p := recover()
		if p == nil {
			return
		}
		fault, ok := p.(interface {
			error
			Addr() uintptr
		})
		if !ok || !r.holds(fault.Addr()) {
			panic(p) // a fault of ours, not of the file's
		}
		err = &disk.CorruptError{File: r.name, Err: errTruncated}
	}()
	return f()
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

// holds says whether an address lies in the mapped file.
func (r *Reader) holds(addr uintptr) bool {
	start := reflect.ValueOf(r.mapped).Pointer()
	return addr >= start && addr-start < uintptr(len(r.mapped))
}

// watch is a file system that remembers the memory it has mapped.
type watch struct {
	vfs.FS
	mapped []byte
}

func (w *watch) Map(name string, size int64) (vfs.Mapping, error) {
	m, err := w.FS.Map(name, size)
	if err == nil {
		w.mapped = m.Bytes()
	}
	return m, err
}

// damaged is a finding at byte at of a section. Its offset in the file is
// where the section begins.
func damaged(s *disk.Section, at int, format string, args ...any) error {
	var offset int64
	if _, err := s.Bytes(-1, 0); err != nil { // which only says where the section is
		if c, ok := errors.AsType[*disk.CorruptError](err); ok {
			offset = c.Offset
		}
	}
	return &disk.CorruptError{Offset: offset,
		Err: fmt.Errorf("section %d at %d: %w", s.Kind(), at, fmt.Errorf(format, args...))}
}

// lazy is a part that is decoded when it is first asked for. Damage is final;
// after any other error the next call tries again.
type lazy[T any] struct {
	done atomic.Pointer[outcome[T]]
	mu   sync.Mutex // held while loading
}

type outcome[T any] struct {
	value T
	err   error
}

func (l *lazy[T]) get(load func() (T, error)) (T, error) {
	if o := l.done.Load(); o != nil {
		return o.value, o.err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if o := l.done.Load(); o != nil {
		return o.value, o.err
	}
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
