package faultfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/chromad/chromad/internal/vfs"
)

// ErrCrashed is what every call returns once the power is cut.
var ErrCrashed = errors.New("power cut")

var (
	errIrregular = errors.New("not a regular file")
	errNotDir    = errors.New("not a directory")
	errClosed    = fs.ErrClosed
)

// FS is a disk, and the tree of files on it. It is safe for concurrent use.
type FS struct {
	mu   sync.Mutex
	root *dir
	rand *rand.Rand

	ops     int // mutating calls so far
	crashAt int // number of the call at which the power is cut, or -1
	crashed bool
	seq     int // numbers directory operations across directories

	rules   []*Injected
	budget  int64 // bytes the whole tree may hold, or -1
	handles int
	locks   map[*inode]string // notes of the holders
	shared  map[*inode]int    // how many hold a lock together
	trace   []call
	stored  int             // writes so far
	junk    [junkMax][]byte // what the last of them wrote, for garbage
	written func(name string, p []byte)
	hook    func(op Op, name string)
}

var _ vfs.FS = (*FS)(nil)

// New returns an empty disk. seed decides what rules with a probability hit,
// which bit they flip, and so on.
func New(seed uint64) *FS {
	return &FS{
		root: newDir(), rand: rand.New(rand.NewPCG(seed, 0x66617573)),
		crashAt: -1, budget: -1, locks: map[*inode]string{}, shared: map[*inode]int{},
	}
}

// node is an entry of a directory: one of the two.
type node struct {
	file *inode
	dir  *dir
}

type dir struct {
	live, durable map[string]node
	pending       []nameOp
}

// nameOp is a change of a directory that is not durable yet. A rename inside
// the directory sets both names.
type nameOp struct {
	seq    int
	remove string
	add    string
	node   node
}

func newDir() *dir { return &dir{live: map[string]node{}, durable: map[string]node{}} }

func (d *dir) do(op nameOp) {
	op.apply(d.live)
	d.pending = append(d.pending, op)
}

func (op nameOp) apply(names map[string]node) {
	if op.remove != "" {
		delete(names, op.remove)
	}
	if op.add != "" {
		names[op.add] = op.node
	}
}

// Create implements vfs.FS.
func (f *FS) Create(name string) (vfs.File, error) {
	s := f.enter(OpCreate, name)
	defer f.mu.Unlock()
	d, base, err := f.parent(name)
	if err == nil && d.live[base] != (node{}) {
		err = fs.ErrExist
	}
	n := &inode{name: name}
	if err == nil && s.happens() {
		d.do(nameOp{seq: f.next(), add: base, node: node{file: n}})
	}
	if err := s.leave(err); err != nil {
		return nil, err
	}
	return f.handle(n, true), nil
}

// Open implements vfs.FS.
func (f *FS) Open(name string) (vfs.File, error) { return f.open(OpOpen, name, false) }

// OpenWrite implements vfs.FS.
func (f *FS) OpenWrite(name string) (vfs.File, error) { return f.open(OpOpenWrite, name, true) }

func (f *FS) open(op Op, name string, write bool) (vfs.File, error) {
	s := f.enter(op, name)
	defer f.mu.Unlock()
	n, err := f.regular(name)
	if err := s.leave(err); err != nil {
		return nil, err
	}
	return f.handle(n, write), nil
}

func (f *FS) handle(n *inode, write bool) *file {
	f.handles++
	return &file{fs: f, ino: n, write: write}
}

// Rename implements vfs.FS.
func (f *FS) Rename(oldname, newname string) error {
	s := f.enter(OpRename, oldname)
	defer f.mu.Unlock()
	s.call.to = newname
	from, oldbase, oerr := f.parent(oldname)
	to, newbase, nerr := f.parent(newname)
	if err := errors.Join(oerr, nerr); err != nil {
		return s.leave(err)
	}
	n := from.live[oldbase]
	switch {
	case n == node{}:
		return s.leave(fs.ErrNotExist)
	case n.file == nil:
		return s.leave(errIrregular)
	case to.live[newbase] != node{}:
		return s.leave(fs.ErrExist)
	}
	if s.happens() {
		seq := f.next()
		if from == to {
			from.do(nameOp{seq: seq, remove: oldbase, add: newbase, node: n})
		} else {
			to.do(nameOp{seq: seq, add: newbase, node: n})
			from.do(nameOp{seq: seq, remove: oldbase})
		}
		n.file.name = newname
	}
	return s.leave(nil)
}

// Remove implements vfs.FS.
func (f *FS) Remove(name string) error {
	s := f.enter(OpRemove, name)
	defer f.mu.Unlock()
	d, base, err := f.parent(name)
	switch {
	case err != nil:
	case d.live[base] == node{}:
		err = fs.ErrNotExist
	case d.live[base].file == nil:
		err = errIrregular
	case s.happens():
		d.do(nameOp{seq: f.next(), remove: base})
	}
	return s.leave(err)
}

// Mkdir implements vfs.FS.
func (f *FS) Mkdir(name string) error {
	s := f.enter(OpMkdir, name)
	defer f.mu.Unlock()
	d, base, err := f.parent(name)
	switch {
	case err != nil:
	case d.live[base].dir != nil:
	case d.live[base].file != nil:
		err = fs.ErrExist
	case s.happens():
		d.do(nameOp{seq: f.next(), add: base, node: node{dir: newDir()}})
	}
	return s.leave(err)
}

// SyncDir implements vfs.FS.
func (f *FS) SyncDir(name string) error {
	s := f.enter(OpSyncDir, name)
	defer f.mu.Unlock()
	d, err := f.dir(name)
	switch {
	case err != nil || s.cut || s.fault == Lose:
	case s.err == nil:
		for _, op := range d.pending {
			op.apply(d.durable)
		}
		d.pending = nil
	case s.fault == Fail:
		// What the failed sync did not write is forgotten: a later one
		// succeeds without it.
		for _, op := range d.pending {
			if f.rand.IntN(2) == 0 {
				op.apply(d.durable)
			}
		}
		d.pending = nil
	}
	return s.leave(err)
}

// List implements vfs.FS.
func (f *FS) List(name string) ([]vfs.Info, error) {
	s := f.enter(OpList, name)
	defer f.mu.Unlock()
	d, err := f.dir(name)
	if err := s.leave(err); err != nil {
		return nil, err
	}
	infos := make([]vfs.Info, 0, len(d.live))
	for base, n := range d.live {
		infos = append(infos, n.info(base))
	}
	slices.SortFunc(infos, func(a, b vfs.Info) int { return strings.Compare(a.Name, b.Name) })
	return infos, nil
}

// Stat implements vfs.FS.
func (f *FS) Stat(name string) (vfs.Info, error) {
	s := f.enter(OpStat, name)
	defer f.mu.Unlock()
	if name == "." {
		return node{dir: f.root}.info("."), s.leave(nil)
	}
	d, base, err := f.parent(name)
	if err == nil && d.live[base] == (node{}) {
		err = fs.ErrNotExist
	}
	if err := s.leave(err); err != nil {
		return vfs.Info{}, err
	}
	return d.live[base].info(base), nil
}

func (n node) info(base string) vfs.Info {
	if n.dir != nil {
		return vfs.Info{Name: base, Dir: true}
	}
	return vfs.Info{Name: base, Size: int64(len(n.file.live)), Regular: true}
}

// Lock implements vfs.FS. The lock is not on the disk: nobody holds it after
// the power was cut.
func (f *FS) Lock(name, note string) (io.Closer, error) {
	s := f.enter(OpLock, name)
	defer f.mu.Unlock()
	d, base, err := f.parent(name)
	if err != nil {
		return nil, s.leave(err)
	}
	n := d.live[base].file
	switch holder, isHeld := f.locks[n]; {
	case d.live[base].dir != nil:
		err = errIrregular
	case n != nil && f.shared[n] > 0:
		err = fmt.Errorf("%w (by %d readers)", vfs.ErrLocked, f.shared[n])
	case n != nil && isHeld:
		err = fmt.Errorf("%w (%s)", vfs.ErrLocked, holder)
	case n == nil && s.happens():
		n = &inode{name: name}
		d.do(nameOp{seq: f.next(), add: base, node: node{file: n}})
	}
	if err := s.leave(err); err != nil {
		return nil, err
	}
	f.locks[n] = note
	f.handles++
	return &held{f, n}, nil
}

// LockShared implements vfs.FS.
func (f *FS) LockShared(name string) (io.Closer, error) {
	s := f.enter(OpOpen, name)
	defer f.mu.Unlock()
	n, err := f.regular(name)
	if holder, isHeld := f.locks[n]; err == nil && isHeld {
		err = fmt.Errorf("%w (%s)", vfs.ErrLocked, holder)
	}
	if err := s.leave(err); err != nil {
		return nil, err
	}
	f.shared[n]++
	f.handles++
	return &sharing{f, n}, nil
}

type sharing struct {
	fs  *FS
	ino *inode
}

func (h *sharing) Close() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.ino == nil {
		return errClosed
	}
	h.fs.shared[h.ino]--
	h.fs.handles--
	h.ino = nil
	return nil
}

type held struct {
	fs  *FS
	ino *inode
}

func (h *held) Close() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if _, ok := h.fs.locks[h.ino]; !ok {
		return errClosed
	}
	delete(h.fs.locks, h.ino)
	h.fs.handles--
	return nil
}

// Map implements vfs.FS. The mapping is a copy, so that it stays what it was.
func (f *FS) Map(name string, size int64) (vfs.Mapping, error) {
	s := f.enter(OpMap, name)
	defer f.mu.Unlock()
	n, err := f.regular(name)
	if err == nil && (size < 0 || size > int64(len(n.live))) {
		err = fmt.Errorf("%d bytes of %d: %w", len(n.live), size, io.ErrUnexpectedEOF)
	}
	if err := s.leave(err); err != nil {
		return nil, err
	}
	b := slices.Clone(n.live[:size])
	if s.fault == Flip {
		f.flip(b)
	}
	f.handles++
	return &mapping{fs: f, b: b}, nil
}

type mapping struct {
	fs     *FS
	b      []byte
	closed bool
}

func (m *mapping) Bytes() []byte { return m.b }
func (m *mapping) Fill()         {}

func (m *mapping) Close() error {
	m.fs.mu.Lock()
	defer m.fs.mu.Unlock()
	if !m.closed {
		m.closed = true
		m.fs.handles--
	}
	return nil
}

// dir finds a directory, parent the one that holds name.
func (f *FS) dir(name string) (*dir, error) {
	if !fs.ValidPath(name) {
		return nil, fs.ErrInvalid
	}
	d := f.root
	if name == "." {
		return d, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		switch n := d.live[part]; {
		case n == node{}:
			return nil, fs.ErrNotExist
		case n.dir == nil:
			return nil, errNotDir
		default:
			d = n.dir
		}
	}
	return d, nil
}

func (f *FS) parent(name string) (*dir, string, error) {
	if name == "." || !fs.ValidPath(name) {
		return nil, "", fs.ErrInvalid
	}
	d, err := f.dir(path.Dir(name))
	return d, path.Base(name), err
}

func (f *FS) regular(name string) (*inode, error) {
	d, base, err := f.parent(name)
	if err != nil {
		return nil, err
	}
	n := d.live[base]
	if n == (node{}) {
		return nil, fs.ErrNotExist
	}
	if n.file == nil {
		return nil, errIrregular
	}
	return n.file, nil
}

func (f *FS) next() int {
	f.seq++
	return f.seq
}
