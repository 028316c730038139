package faultfs

import (
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/chromad/chromad/internal/vfs"
)

// inode is a file, whatever its name.
type inode struct {
	name    string // the last one
	live    []byte
	durable []byte
	pending []write // since the last Sync
}

// write is one Write, or a Truncate to off.
type write struct {
	off  int
	data []byte
	cut  bool
}

// put changes the file; the bytes are pending. data must not change later.
func (n *inode) put(data []byte) {
	n.pending = append(n.pending, write{off: len(n.live), data: data})
	n.live = append(n.live, data...)
}

func (n *inode) truncate(size int) {
	n.pending = append(n.pending, write{off: size, cut: true})
	n.live = resize(n.live, size)
}

func resize(b []byte, size int) []byte {
	if size <= len(b) {
		return b[:size]
	}
	return append(b, make([]byte, size-len(b))...)
}

// apply does the write to the bytes of a disk: each sector that keep says yes
// to. fill gets what lies between the old end and the new bytes.
func (w write) apply(disk []byte, sector int, keep func() bool, fill func(gap []byte)) []byte {
	if w.cut {
		if keep() {
			disk = resize(disk, w.off)
		}
		return disk
	}
	for i := 0; i < len(w.data); {
		end := min(len(w.data), i+sector-(w.off+i)%sector)
		if keep() {
			old := len(disk)
			if need := w.off + end; need > old {
				disk = append(disk, make([]byte, need-old)...)
			}
			if gap := w.off + i; gap > old {
				fill(disk[old:gap])
			}
			copy(disk[w.off+i:], w.data[i:end])
		}
		i = end
	}
	return disk
}

func always() bool { return true }
func zeros([]byte) {}

type file struct {
	fs     *FS
	ino    *inode
	write  bool
	closed bool
}

// name is the file's name now.
func (h *file) name() string {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	return h.ino.name
}

func (h *file) state(write bool) error {
	switch {
	case h.closed:
		return errClosed
	case write && !h.write:
		return fs.ErrPermission
	}
	return nil
}

// ReadAt implements vfs.File.
func (h *file) ReadAt(p []byte, off int64) (int, error) {
	s := h.fs.enter(OpRead, h.name())
	defer h.fs.mu.Unlock()
	err := h.state(false)
	if err == nil && off < 0 {
		err = fs.ErrInvalid
	}
	if err := s.leave(err); err != nil {
		return 0, err
	}
	if off >= int64(len(h.ino.live)) {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	if s.fault == Short {
		n := copy(p[:len(p)/2], h.ino.live[off:])
		return n, s.short
	}
	n := copy(p, h.ino.live[off:])
	if s.fault == Flip {
		h.fs.flip(p[:n])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Write implements vfs.File.
func (h *file) Write(p []byte) (int, error) {
	s := h.fs.enter(OpWrite, h.name())
	defer h.fs.mu.Unlock()
	s.call.size = int64(len(p))
	if err := h.state(true); err != nil || !s.happens() {
		return 0, s.leave(err)
	}
	var err error
	if s.fault == Short {
		p, err = p[:len(p)/2], s.short
	}
	if room := h.fs.room(); int64(len(p)) > room {
		p, err = p[:room], vfs.ErrNoSpace
	}
	h.fs.store(h.ino, slices.Clone(p), s.fault)
	err = s.leave(err)
	if s.cut {
		return 0, err
	}
	return len(p), err
}

func (f *FS) room() int64 {
	if f.budget < 0 {
		return 1 << 62
	}
	return max(0, f.budget-f.root.used())
}

// store appends p, or what the fault makes of it. p is the disk's own.
func (f *FS) store(n *inode, p []byte, fault Fault) {
	if f.written != nil {
		f.written(n.name, slices.Clone(p))
	}
	f.junk[f.stored%junkMax] = p
	f.stored++
	switch fault {
	case Lose:
		p = make([]byte, len(p))
	case Stale:
		if len(p) > 0 {
			p = slices.Clone(p)
			at := f.rand.IntN(len(p))
			from := at - min(at, (len(n.live)+at)%smallSector)
			clear(p[from:min(len(p), at+smallSector-(len(n.live)+at)%smallSector)])
		}
	case Misdirect:
		f.misdirect(n, len(n.live), p)
		p = make([]byte, len(p))
	}
	n.put(p)
}

func (f *FS) misdirect(from *inode, off int, p []byte) {
	var others []*inode
	f.root.walk("", func(_ string, n *inode) {
		if n != from && len(n.live) > off {
			others = append(others, n)
		}
	})
	if len(others) == 0 {
		return
	}
	n := others[f.rand.IntN(len(others))]
	copy(n.live[off:], p)
	if off < len(n.durable) {
		copy(n.durable[off:], p)
	}
}

// Size implements vfs.File.
func (h *file) Size() (int64, error) {
	s := h.fs.enter(OpStat, h.name())
	defer h.fs.mu.Unlock()
	return int64(len(h.ino.live)), s.leave(h.state(false))
}

// Truncate implements vfs.File.
func (h *file) Truncate(size int64) error {
	s := h.fs.enter(OpTruncate, h.name())
	defer h.fs.mu.Unlock()
	s.call.size = size
	err := h.state(true)
	if err == nil && (size < 0 || size > 1<<30) {
		err = fmt.Errorf("size %d: %w", size, fs.ErrInvalid)
	}
	if err == nil && s.happens() {
		h.ino.truncate(int(size))
	}
	return s.leave(err)
}

// Sync implements vfs.File.
func (h *file) Sync() error {
	s := h.fs.enter(OpSync, h.name())
	defer h.fs.mu.Unlock()
	err := h.state(false)
	n := h.ino
	switch {
	case err != nil || s.cut || s.fault == Lose:
	case s.err == nil:
		for _, w := range n.pending {
			n.durable = w.apply(n.durable, smallSector, always, zeros)
		}
		n.pending = nil
	case s.fault == Fail:
		// The system marks the pages clean, written or not.
		percent := []int{0, 50}[h.fs.rand.IntN(2)]
		keep := func() bool { return h.fs.rand.IntN(100) < percent }
		for _, w := range n.pending {
			n.durable = w.apply(n.durable, smallSector, keep, zeros)
		}
		n.pending = nil
	}
	return s.leave(err)
}

// Close implements vfs.File. One that fails has closed the file all the same.
func (h *file) Close() error {
	s := h.fs.enter(OpClose, h.name())
	defer h.fs.mu.Unlock()
	err := h.state(false)
	if !h.closed {
		h.closed = true
		h.fs.handles--
	}
	return s.leave(err)
}
