package export

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
)

// File says where lines of JSON are written.
type File struct {
	Path string
	Size int64 // of a file before it is put aside; 0: 100 MiB
	Keep int   // files that were put aside, Path.1 the newest; 0: 5
}

// file is a Sender of lines of JSON. The file is looked up by its name before
// each batch: who moves it away, as logrotate does, gets a new one without
// telling.
type file struct {
	File
	f *os.File
}

// NewFile makes a sender to a file, which is made with mode 0600.
func NewFile(c File) (Sender, error) {
	if c.Path == "" {
		return nil, errors.New("path is missing")
	}
	if c.Size < 0 || c.Keep < 0 {
		return nil, errors.New("max_size and keep are not negative")
	}
	if c.Size == 0 {
		c.Size = 100 << 20
	}
	if c.Keep == 0 {
		c.Keep = 5
	}
	s := &file{File: c}
	return s, s.open() // a path that cannot be written is noticed at the start
}

// open opens the file that has the name now.
func (s *file) open() error {
	at, err := os.Lstat(s.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		at = nil
	case err != nil:
		return err
	case !at.Mode().IsRegular():
		return fmt.Errorf("%s: not a regular file", s.Path) // a link may point anywhere, a pipe would block
	}
	if s.f != nil {
		if have, err := s.f.Stat(); err == nil && at != nil && os.SameFile(have, at) {
			return nil
		}
		err := s.f.Close()
		s.f = nil
		if err != nil {
			return err
		}
	}
	s.f, err = os.OpenFile(s.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return err
}

// Send appends a line for each message. A batch is there as a whole or not at
// all, as long as the disk lets a torn one be cut off.
func (s *file) Send(_ context.Context, batch []Message) error {
	if err := s.open(); err != nil {
		return err
	}
	at, err := s.f.Stat()
	if err != nil {
		return err
	}
	var lines []byte
	for _, m := range batch {
		lines = append(append(lines, m.JSON...), '\n')
	}
	end := at.Size()
	if end > 0 && end+int64(len(lines)) > s.Size {
		if err := s.rotate(); err != nil {
			return err
		}
		end = 0
	}
	if _, err := s.f.Write(lines); err != nil {
		return errors.Join(err, s.f.Truncate(end))
	}
	return nil
}

// rotate puts the file aside and begins a new one.
func (s *file) rotate() error {
	name := func(n int) string { return s.Path + "." + strconv.Itoa(n) }
	for n := s.Keep - 1; n > 0; n-- { // the oldest is replaced
		if err := os.Rename(name(n), name(n+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(s.Path, name(1)); err != nil {
		return err
	}
	return s.open()
}

// Close brings what was written to the disk.
func (s *file) Close() error {
	if s.f == nil {
		return nil
	}
	return errors.Join(s.f.Sync(), s.f.Close())
}
