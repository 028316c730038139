package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// noteMax bounds what is shown of a holder's note.
const noteMax = 256

// Lock implements FS. The file name holds the note "pid N on HOST: note" for
// as long as the lock is held; it stays, empty, when the lock is released,
// because removing it would let two processes lock two files of one name.
func (r *Root) Lock(name, note string) (io.Closer, error) {
	if err := check("lock", name); err != nil {
		return nil, err
	}
	f, err := r.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if errors.Is(err, os.ErrExist) {
		f, _, err = r.open("lock", name, os.O_RDWR)
	}
	if err != nil {
		return nil, wrap(err)
	}
	if err := lock(f, true); err != nil {
		return nil, refused(f, name, err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	if err := writeNote(f, fmt.Sprintf("pid %d on %s: %s\n", os.Getpid(), host, note)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &held{f}, nil
}

// LockShared implements FS. It works on what may only be read too; where the
// file system has no locks, nothing is held.
func (r *Root) LockShared(name string) (io.Closer, error) {
	f, _, err := r.open("lock", name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	if err := lock(f, false); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return nil, refused(f, name, err)
	}
	return f, nil
}

// refused closes a file that could not be locked.
func refused(f *os.File, name string, err error) error {
	if errors.Is(err, ErrLocked) {
		err = fmt.Errorf("%s: %w (%s)", name, ErrLocked, readNote(f))
	}
	return errors.Join(err, f.Close())
}

func writeNote(f *os.File, note string) error {
	if err := f.Truncate(0); err != nil {
		return wrap(err)
	}
	_, err := f.WriteAt([]byte(note), 0)
	return wrap(err)
}

func readNote(f *os.File) string {
	b := make([]byte, noteMax)
	n, err := f.ReadAt(b, 0)
	if b = bytes.TrimSpace(b[:n]); len(b) == 0 || (err != nil && err != io.EOF) {
		return "the holder left no note: a reader, perhaps"
	}
	return string(b)
}

type held struct{ f *os.File }

// Close releases the lock by closing the handle that holds it.
func (h *held) Close() error {
	return errors.Join(wrap(h.f.Truncate(0)), h.f.Close())
}
