package vfs

import (
	"errors"
	"io"
)

// Errors beside those of io/fs (fs.ErrExist, fs.ErrNotExist, fs.ErrPermission).
var (
	ErrLocked  = errors.New("locked by another process")
	ErrNoSpace = errors.New("no space left on device") // errors.Is holds for ENOSPC, EDQUOT and EFBIG (a file size limit)
	// ErrNoHandle: nothing was done, because the process or the system has
	// as many files open as it may (EMFILE, ENFILE), or mapped (ENOMEM).
	ErrNoHandle = errors.New("too many open files")
)

// FS is a tree of files below one root. Names are slash-separated and
// relative ("seg/000034.seg"). All methods may be called concurrently.
type FS interface {
	// Create makes the file name, which must not exist (fs.ErrExist), for
	// appending. The name is durable after SyncDir of its directory.
	Create(name string) (File, error)
	// Open opens an existing regular file for reading.
	Open(name string) (File, error)
	// OpenWrite opens an existing regular file for ReadAt, Write (at the
	// end), Truncate and Sync.
	OpenWrite(name string) (File, error)
	// Rename gives the file the name newname, which must not exist
	// (fs.ErrExist): it never replaces.
	Rename(oldname, newname string) error
	// Remove unlinks a file.
	Remove(name string) error
	// List returns the entries of a directory, sorted by name.
	List(dir string) ([]Info, error)
	Stat(name string) (Info, error)
	// Mkdir makes a directory; one that exists already is no error.
	Mkdir(dir string) error
	// SyncDir makes the names in dir durable ("." is the root). After it
	// failed, other than with ErrNoHandle, nothing may be assumed about any
	// name that was added or removed since the last that succeeded, whoever
	// did it, and calling it again proves nothing: see InTurn.
	SyncDir(dir string) error
	// Lock takes an exclusive lock that dies with the process. ErrLocked is
	// returned at once, wrapped with the note that the holder left.
	Lock(name, note string) (io.Closer, error)
	// LockShared takes a lock that excludes Lock and nothing else, on a file
	// that is there (fs.ErrNotExist). It writes nothing.
	LockShared(name string) (io.Closer, error)
	// Map maps the first size bytes of a file read-only. The file must be
	// that long.
	Map(name string, size int64) (Mapping, error)
}

// File is an open file. ReadAt may be called concurrently with everything
// else, the other methods not with each other.
type File interface {
	io.ReaderAt
	io.Writer // appends; a short write comes with an error
	Size() (int64, error)
	Truncate(size int64) error
	// Sync makes the bytes durable. After it failed nothing may be assumed
	// about any byte written since the last Sync that succeeded, and calling
	// it again proves nothing.
	Sync() error
	Close() error
}

// Mapping is a read-only view of a file's bytes.
type Mapping interface {
	Bytes() []byte
	// Fill tells the system that all of the bytes will be in use, so that it may
	// read the file in large pages: 2 MiB, as a rule, for a byte that is not there.
	Fill()
	Close() error
}

// Info describes a directory entry.
type Info struct {
	Name    string // base name
	Size    int64
	Dir     bool
	Regular bool
}
