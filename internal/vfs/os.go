package vfs

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
)

const (
	dirMode  = 0o700
	fileMode = 0o600
)

// Root is the FS of a directory of the operating system. No name leads out of
// it, not through ".." and not through a symbolic link.
type Root struct {
	root *os.Root
}

var _ FS = (*Root)(nil)

// Open opens the existing directory dir. It writes nothing.
func Open(dir string) (*Root, error) {
	r, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Root{root: r}, nil
}

// Make opens the directory dir and makes it, and its parents, when it is
// missing. The names of what it made are durable when it returns.
func Make(dir string) (*Root, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	var missing []string
	for at := dir; ; at = filepath.Dir(at) {
		_, err := os.Stat(at)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || filepath.Dir(at) == at {
			return nil, err
		}
		missing = append(missing, at)
	}
	for _, at := range slices.Backward(missing) {
		if err := os.Mkdir(at, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, wrap(err)
		}
		if err := syncDir(os.OpenFile(filepath.Dir(at), os.O_RDONLY, 0)); err != nil {
			return nil, err
		}
	}
	return Open(dir)
}

// Close closes the directory. Files, mappings and locks stay as they are.
func (r *Root) Close() error { return r.root.Close() }

// Create implements FS. The file is readable by its owner alone.
func (r *Root) Create(name string) (File, error) {
	if err := check("create", name); err != nil {
		return nil, err
	}
	f, err := r.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return nil, wrap(err)
	}
	return &file{f: f}, nil
}

// Open implements FS.
func (r *Root) Open(name string) (File, error) {
	f, _, err := r.open("open", name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return &file{f: f}, nil
}

// OpenWrite implements FS.
func (r *Root) OpenWrite(name string) (File, error) {
	f, st, err := r.open("open", name, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	return &file{f: f, end: st.Size()}, nil
}

// open opens a regular file and nothing else. The look before the open tells
// a link from its target, the look after it makes sure that both were the
// same file; nonblock keeps a fifo that slipped in between from hanging us.
func (r *Root) open(op, name string, flag int) (*os.File, fs.FileInfo, error) {
	if err := check(op, name); err != nil {
		return nil, nil, err
	}
	before, err := r.root.Lstat(name)
	if err != nil {
		return nil, nil, wrap(err)
	}
	if !before.Mode().IsRegular() {
		return nil, nil, &fs.PathError{Op: op, Path: name, Err: errIrregular}
	}
	f, err := r.root.OpenFile(name, flag|nonblock, 0)
	if err != nil {
		return nil, nil, wrap(err)
	}
	after, err := f.Stat()
	if err == nil && (!after.Mode().IsRegular() || !os.SameFile(before, after)) {
		err = &fs.PathError{Op: op, Path: name, Err: errIrregular}
	}
	if err != nil {
		return nil, nil, errors.Join(wrap(err), f.Close())
	}
	return f, after, nil
}

// Rename implements FS.
func (r *Root) Rename(oldname, newname string) error {
	if err := check("rename", oldname); err != nil {
		return err
	}
	if err := check("rename", newname); err != nil {
		return err
	}
	return wrap(r.rename(oldname, newname))
}

// link gives the file a second name and takes the first away. A crash between
// leaves both, so it is only for systems that cannot rename without replacing.
func (r *Root) link(oldname, newname string) error {
	if err := r.root.Link(oldname, newname); err != nil {
		return err
	}
	return r.root.Remove(oldname)
}

// Remove implements FS.
func (r *Root) Remove(name string) error {
	if err := check("remove", name); err != nil {
		return err
	}
	st, err := r.root.Lstat(name)
	if err != nil {
		return wrap(err)
	}
	if st.IsDir() {
		return &fs.PathError{Op: "remove", Path: name, Err: errDirectory}
	}
	return wrap(r.root.Remove(name))
}

// List implements FS.
func (r *Root) List(dir string) ([]Info, error) {
	if err := check("list", dir); err != nil {
		return nil, err
	}
	f, err := r.root.OpenFile(dir, os.O_RDONLY|nonblock, 0)
	if err != nil {
		return nil, wrap(err)
	}
	entries, err := f.ReadDir(-1)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, wrap(err)
	}
	infos := make([]Info, 0, len(entries))
	for _, e := range entries {
		st, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed while we looked
		}
		if err != nil {
			return nil, wrap(err)
		}
		infos = append(infos, info(st))
	}
	slices.SortFunc(infos, func(a, b Info) int { return cmp.Compare(a.Name, b.Name) })
	return infos, nil
}

// Stat implements FS. A symbolic link is described, not followed.
func (r *Root) Stat(name string) (Info, error) {
	if err := check("stat", name); err != nil {
		return Info{}, err
	}
	st, err := r.root.Lstat(name)
	if err != nil {
		return Info{}, wrap(err)
	}
	i := info(st)
	i.Name = path.Base(name)
	return i, nil
}

func info(st fs.FileInfo) Info {
	return Info{Name: st.Name(), Size: st.Size(), Dir: st.IsDir(), Regular: st.Mode().IsRegular()}
}

// Mkdir implements FS.
func (r *Root) Mkdir(dir string) error {
	if err := check("mkdir", dir); err != nil {
		return err
	}
	err := r.root.Mkdir(dir, dirMode)
	if errors.Is(err, fs.ErrExist) {
		if st, serr := r.root.Lstat(dir); serr == nil && st.IsDir() {
			return nil
		}
	}
	return wrap(err)
}

// SyncDir implements FS.
func (r *Root) SyncDir(dir string) error {
	if err := check("sync directory", dir); err != nil {
		return err
	}
	return syncDir(r.root.OpenFile(dir, os.O_RDONLY|nonblock, 0))
}

func syncDir(d *os.File, err error) error {
	if err != nil {
		return wrap(err)
	}
	return wrap(errors.Join(flushDir(d), d.Close()))
}

// check refuses names that are not plain relative paths, before the system
// sees them.
func check(op, name string) error {
	if !fs.ValidPath(name) {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return nil
}

var (
	errIrregular = errors.New("not a regular file")
	errDirectory = errors.New("is a directory")
)

// kind is an error of the system that also is one of ours.
type kind struct {
	error
	is error
}

func (e kind) Unwrap() []error { return []error{e.is, e.error} }

func wrap(err error) error {
	switch {
	case err == nil:
		return nil
	case full(err):
		return kind{err, ErrNoSpace}
	case handles(err):
		return kind{err, ErrNoHandle}
	}
	return err
}

// wrapMap is wrap for what a mapping fails with: it ends like a want of handles.
func wrapMap(err error) error {
	if err != nil && unmappable(err) {
		return kind{err, ErrNoHandle}
	}
	return wrap(err)
}

// file keeps the end itself, so that a truncated file goes on where it was cut.
type file struct {
	f   *os.File
	end int64
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.f.ReadAt(p, off)
	return n, eof(err)
}

func (f *file) Write(p []byte) (int, error) {
	n, err := f.f.WriteAt(p, f.end)
	f.end += int64(n)
	return n, wrap(err)
}

func (f *file) Size() (int64, error) {
	st, err := f.f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (f *file) Truncate(size int64) error {
	if err := f.f.Truncate(size); err != nil {
		return wrap(err)
	}
	f.end = size
	return nil
}

func (f *file) Sync() error  { return wrap(f.f.Sync()) }
func (f *file) Close() error { return wrap(f.f.Close()) }

// eof keeps io.EOF bare: callers compare with it.
func eof(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return fmt.Errorf("read: %w", err)
}
